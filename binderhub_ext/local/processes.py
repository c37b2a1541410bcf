"""Processes that belong together, found by a variable in their environment.

A process tree is not enough: what a notebook starts in the background leaves the tree, and
the Hub may be gone before its servers. The environment is inherited by all of them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import psutil

from binderhub_ext.timing import Deadline

RUN = "BINDERHUB_EXT_LOCAL_RUN"
"""In every process below the supervisor; the value is the run's id."""

SERVER = "BINDERHUB_EXT_LOCAL_SERVER"
"""In every process of one Jupyter server; the value is the server's id."""


def find(variable: str, value: str) -> list[psutil.Process]:
    """Return this user's processes that have ``variable=value`` in their environment, but not ourselves."""
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            if process.environ().get(variable) == value and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue  # it ended meanwhile, or belongs to somebody else
    return found


def end_all(
    variable: str,
    value: str,
    *,
    grace: float = 2.0,
    limit: int = 20,
    on_wait: Callable[[], None] = lambda: None,
) -> int:
    """End every process that has ``variable=value`` in its environment. Blocking.

    Each gets SIGTERM, and SIGKILL when it is still there after `grace` seconds. Repeated until
    none is found, since a process may start another one while it is being ended.

    Parameters
    ----------
    grace : float
        Seconds between the two signals.
    limit : int
        How many rounds to make at most.
    on_wait : callable
        Called before each round.

    Returns
    -------
    int
        How many processes were found altogether.
    """
    total = 0
    for _ in range(limit):
        on_wait()
        processes = find(variable, value)
        if not processes:
            break
        total += len(processes)
        _signal(processes, kill=False)
        alive = _wait(processes, grace)
        _signal(alive, kill=True)
        _wait(alive, grace)
    return total


def _wait(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Return those that still run after at most so many seconds.

    Not `psutil.wait_procs`: it also waits for init to reap those that ended.
    """
    deadline = Deadline.after(seconds)
    while (alive := [process for process in processes if _runs(process)]) and not deadline.expired:
        threading.Event().wait(0.02)
    return alive


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _signal(processes: list[psutil.Process], *, kill: bool) -> None:
    for process in processes:
        try:
            if kill:
                process.kill()
            else:
                process.terminate()
        except psutil.Error:
            continue  # it ended meanwhile
