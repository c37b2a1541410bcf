"""What watchers see of a launch's stream: everything once, in order, whenever they come and go."""

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderhub_ext.stream import EventLog, LaunchStream


def frame(text: str) -> bytes:
    return b"data: " + text.encode() + b"\n\n"


def parse(chunk: bytes) -> list[tuple[int, str, bool]]:
    found = re.findall(rb"id: T\.(\d+)(\.end)?\ndata: (.*)\n\n", chunk)
    return [(int(number), data.decode(), bool(end)) for number, end, data in found]


def read_all(stream: LaunchStream, after: int = 0) -> list[tuple[int, str, bool]]:
    watcher = stream.watch(after)
    events = []
    while chunk := watcher.read():
        events += parse(chunk)
    watcher.close()
    return events


def test_a_late_comer_sees_the_shared_log_from_its_start():
    log = EventLog()
    early, late = LaunchStream("T"), LaunchStream("T")
    early.append(frame("looking"))
    early.splice(log)
    log.append(frame("line 1"))
    late.append(frame("looking"))
    late.splice(log)
    log.append(frame("line 2"))
    for stream in early, late:
        stream.append(frame("built"))
        stream.finish(frame("ready"))
        assert read_all(stream) == [
            (1, "looking", False),
            (2, "line 1", False),
            (3, "line 2", False),
            (4, "built", False),
            (5, "ready", True),
        ]


def test_lines_after_the_splice_ended_are_not_shown():
    log = EventLog()
    stream = LaunchStream("T")
    stream.splice(log)
    log.append(frame("line 1"))
    stream.append(frame("given up"))
    log.append(frame("line 2"))
    stream.finish(frame("failed"))
    assert [text for _, text, _ in read_all(stream)] == ["line 1", "given up", "failed"]


def test_reconnect_replays_only_missed_events():
    stream = LaunchStream("T")
    for i in range(1, 6):
        stream.append(frame(str(i)))
    assert [number for number, _, _ in read_all(stream, after=3)] == [4, 5]


def test_an_id_from_the_future_gets_what_comes_next_and_the_end():
    stream = LaunchStream("T")
    stream.append(frame("1"))
    watcher = stream.watch(after=99)
    assert watcher.read() == b""
    stream.finish(frame("2"))
    assert parse(watcher.read()) == [(2, "2", True)]
    assert parse(stream.watch(after=99).read()) == [(2, "2", True)]


def test_dropped_lines_are_said_to_be_missing_and_keep_their_numbers():
    log = EventLog(max_bytes=40)
    stream = LaunchStream("T")
    stream.splice(log)
    for i in range(10):
        log.append(frame(f"line {i}"))
    assert log.size <= 40 and log.dropped == 8
    stream.finish(frame("ready"))
    events = read_all(stream)
    assert [number for number, _, _ in events] == [8, 9, 10, 11]
    assert "8 lines were left out" in events[0][1]
    assert [text for _, text, _ in events[1:]] == ["line 8", "line 9", "ready"]


def test_lines_that_were_dropped_after_the_splice_ended_are_only_said_to_be_missing():
    log = EventLog(max_bytes=40)
    stream = LaunchStream("T")
    stream.splice(log)
    log.append(frame("line 0"))
    stream.finish(frame("given up"))
    for i in range(1, 10):
        log.append(frame(f"line {i}"))
    events = read_all(stream)
    assert len(events) == 2 and "1 line was left out" in events[0][1] and events[1][1] == "given up"


async def test_a_watcher_is_woken_by_its_own_events_by_the_shared_log_and_by_the_end():
    log = EventLog()
    stream = LaunchStream("T")
    watcher = stream.watch()
    seen = []

    async def watch():
        while not watcher.at_end:
            await watcher.wait()
            seen.extend(text for _, text, _ in parse(watcher.read()))

    task = asyncio.create_task(watch())
    for say in (
        lambda: stream.append(frame("looking")),
        lambda: stream.splice(log),
        lambda: log.append(frame("line 1")),
        lambda: stream.end_splice(),
        lambda: stream.finish(frame("ready")),
    ):
        await asyncio.sleep(0)
        say()
    await asyncio.wait_for(task, 5)
    assert seen == ["looking", "line 1", "ready"]
    watcher.close()
    assert stream.watchers == 0 and not log.listeners


def test_nothing_can_be_said_after_the_end():
    stream = LaunchStream("T")
    stream.finish(frame("ready"))
    with pytest.raises(RuntimeError):
        stream.append(frame("more"))


@given(
    st.lists(st.sampled_from(["own", "log", "splice", "end", "read", "cut"]), max_size=60),
    st.integers(1, 200),
)
def test_every_watcher_sees_each_event_exactly_once_in_order(actions, max_bytes):
    """However appends, splices, reads and reconnects interleave."""
    stream, log, said, spliced = LaunchStream("T"), EventLog(), [], False
    watcher, seen = stream.watch(), []
    for i, action in enumerate(actions):
        if action == "own":
            stream.append(frame(f"own {i}"))
            said.append(f"own {i}")
            spliced = False
        elif action == "log":
            log.append(frame(f"log {i}"))
            if spliced:
                said.append(f"log {i}")
        elif action == "splice":
            log, spliced = EventLog(), True
            stream.splice(log)
        elif action == "end":
            stream.end_splice()
            spliced = False
        elif action == "read":
            seen += parse(watcher.read(max_bytes))
        else:
            last = seen[-1][0] if seen else 0
            watcher.close()
            watcher = stream.watch(after=last)
    stream.finish(frame("end"))
    while not watcher.at_end:
        seen += parse(watcher.read(max_bytes))
    assert [text for _, text, _ in seen] == [*said, "end"]
    assert [number for number, _, _ in seen] == list(range(1, len(seen) + 1))
    assert [end for _, _, end in seen].count(True) == 1
