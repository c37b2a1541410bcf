"""A build's output arrives while it is written, and stopping it ends all of it."""

from __future__ import annotations

import os
import threading
import time

import psutil
import pytest

from binderhub_ext.local import command


def run(script: str, stop: threading.Event | None = None) -> tuple[int, list[tuple[float, str]]]:
    lines: list[tuple[float, str]] = []
    code = command.run(
        ["bash", "-c", script],
        stop=stop or threading.Event(),
        on_line=lambda line: lines.append((time.monotonic(), line)),
        env=os.environ,
    )
    return code, lines


def test_lines_arrive_as_they_are_written():
    code, lines = run("echo one; sleep 0.5; echo two >&2; sleep 0.5; printf three; exit 3")
    assert code == 3
    assert [text for _, text in lines] == ["one\n", "two\n", "three\n"]
    first, second, third = [at for at, _ in lines]
    assert second - first > 0.3 and third - second > 0.3


def test_progress_lines_are_thinned_out_and_characters_stay_whole():
    _, lines = run(
        r"for i in $(seq 200); do printf 'Receiving %s\r' $i; done; printf '\xc3'; sleep 0.2; printf '\xbc\xff\n'"
    )
    texts = [text for _, text in lines]
    assert len(texts) <= 3 and texts[0] == "Receiving 1\n"
    assert texts[-1] == "\u00fc\ufffd\n"


def test_long_silence_is_filled(monkeypatch):
    monkeypatch.setattr(command, "QUIET_SECONDS", 0.3)
    _, lines = run("sleep 1; echo done")
    assert any("still at it" in text for _, text in lines)


def test_stopping_ends_the_command_and_what_it_started():
    stop = threading.Event()
    marker = f"sleep 3600.{os.getpid()}"
    threading.Timer(0.5, stop.set).start()
    started = time.monotonic()
    with pytest.raises(command.Stopped):
        run(f"trap '' TERM; {marker} & {marker}; wait", stop)
    assert time.monotonic() - started < 8
    assert not [each for each in psutil.process_iter(["cmdline"]) if marker.split() == each.info["cmdline"]]


def test_a_background_process_does_not_hold_the_build_open():
    started = time.monotonic()
    code, lines = run("sleep 3600 & echo done")
    assert code == 0 and [text for _, text in lines] == ["done\n"]
    assert time.monotonic() - started < 5


def test_nothing_starts_when_it_is_stopped_already():
    stop = threading.Event()
    stop.set()
    with pytest.raises(command.Stopped):
        run("echo no", stop)
