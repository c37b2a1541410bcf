"""Processes that belong together, found by a variable in their environment.

A process tree is not enough: what a notebook starts in the background leaves the tree, and
the Hub may be gone before its servers. The environment is inherited by all of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import psutil

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
        _, alive = psutil.wait_procs(processes, timeout=grace)
        _signal(alive, kill=True)
        psutil.wait_procs(alive, timeout=grace)
    return total


def _signal(processes: list[psutil.Process], *, kill: bool) -> None:
    for process in processes:
        try:
            if kill:
                process.kill()
            else:
                process.terminate()
        except psutil.Error:
            continue  # it ended meanwhile
