"""Runs a command in a thread, reports its output line by line, and stops it on demand."""

from __future__ import annotations

import codecs
import os
import re
import selectors
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence

import psutil

from binderhub_ext.timing import SYSTEM_CLOCK, Clock

QUIET_SECONDS = 15.0
"""After this many seconds without output, a line says that the work goes on."""

PROGRESS_SECONDS = 1.0
"""A progress line (one that ends in a carriage return) is reported at most this often."""


class Stopped(Exception):
    """The command was stopped because its `stop` event was set."""


class _Lines:
    """Cuts output into lines, with few of those that only overwrite each other."""

    def __init__(self, on_line: Callable[[str], None], clock: Clock) -> None:
        self.on_line = on_line
        self.clock = clock
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.rest = ""
        self.last_progress = float("-inf")

    def feed(self, chunk: bytes, *, final: bool = False) -> None:
        self.rest += self.decoder.decode(chunk, final)
        *whole, self.rest = re.split(r"(?<=\n)|(?<=\r)(?!\n)", self.rest)
        for line in whole:
            self._report(line)
        if final and self.rest:
            self._report(self.rest)
            self.rest = ""

    def _report(self, line: str) -> None:
        if line.endswith("\r"):
            if self.clock.monotonic() - self.last_progress < PROGRESS_SECONDS:
                return
            self.last_progress = self.clock.monotonic()
        text = line.rstrip("\r\n")
        if text:
            self.on_line(text + "\n")


def run(
    command: Sequence[str],
    *,
    stop: threading.Event,
    on_line: Callable[[str], None],
    env: Mapping[str, str],
    cwd: str | os.PathLike[str] | None = None,
    keep_open: Sequence[int] = (),
    clock: Clock = SYSTEM_CLOCK,
) -> int:
    """Run a command to its end. Blocking.

    Parameters
    ----------
    stop : threading.Event
        Set it from another thread to end the command and all that it started.
    on_line : callable
        Called with each line of stdout and stderr as it happens; a line ends in a newline.
    keep_open : sequence of int
        File descriptors that the command inherits.

    Returns
    -------
    int
        The exit code.

    Raises
    ------
    Stopped
        When `stop` was set before the command ended.
    OSError
        When the command cannot be started.
    """
    if stop.is_set():
        raise Stopped(command[0])
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(env),
        cwd=cwd,
        pass_fds=tuple(keep_open),
        start_new_session=True,
    )
    assert process.stdout is not None
    output = process.stdout.fileno()
    lines = _Lines(on_line, clock)
    started = heard = clock.monotonic()
    with process.stdout, selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        try:
            while True:
                if selector.select(timeout=0.1):
                    chunk = os.read(output, 65536)
                    if not chunk:
                        break
                    lines.feed(chunk)
                    heard = clock.monotonic()
                elif process.poll() is not None:
                    break  # something that it left in the background holds the pipe open
                if stop.is_set():
                    raise Stopped(command[0])
                if clock.monotonic() - heard > QUIET_SECONDS:
                    heard = clock.monotonic()
                    on_line(f"... still at it, {heard - started:.0f} s so far\n")
            lines.feed(b"", final=True)
            while process.poll() is None:  # it closed its output, and goes on
                if stop.wait(0.02):
                    raise Stopped(command[0])
            return process.returncode
        finally:
            _end_group(process)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the command and what it started: SIGTERM, two seconds, SIGKILL; wait until they are gone."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):
            return
        for _ in range(100):
            process.poll()
            if not _exists(process.pid):
                return
            threading.Event().wait(0.02)


def _exists(group: int) -> bool:
    """Say whether a process of the group runs; one that only waits to be reaped does not."""
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
        except (psutil.Error, OSError):
            continue  # it ended meanwhile
    return False
