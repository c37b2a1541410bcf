"""Pods that have to go but could not be deleted yet: tried again until the API server says they are gone.

A start that failed or was cancelled while the API server was away leaves a pod that nobody would
ever ask for again; so does a stop that ran out of time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from logging import Logger

from binderhub_ext.metrics import kube as metrics
from binderhub_ext.timing import SYSTEM_CLOCK, Clock, backoff

Delete = Callable[[str, str, str], Awaitable[bool]]
"""`(namespace, name, uid)`: ask for deletion; True when the pod is gone. Raises when that is unknown."""


@dataclass(frozen=True)
class Leftover:
    """A pod that has to go.

    Attributes
    ----------
    uid : str
        Empty when it is not known, because the answer to its creation never came. Then any pod of
        the name is meant, until the server is started anew.
    """

    namespace: str
    name: str
    uid: str = ""


class Leftovers:
    """The pods that have to go, and the tasks that see to it; the tasks are owned here.

    Parameters
    ----------
    first, limit : float
        Seconds between attempts: the base of the first wait, the most of any.
    settle : float
        Seconds for which a pod whose uid is not known is asked for again after it was said to be
        gone: a request to create it may still be under way. An API server gives one 60 s.
    """

    def __init__(
        self, *, first: float = 0.5, limit: float = 15.0, settle: float = 70.0, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._first, self._limit, self._settle, self._clock = first, limit, settle, clock
        self._tasks: dict[Leftover, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, leftover: Leftover) -> bool:
        return leftover in self._tasks

    def add(self, leftover: Leftover, delete: Delete, log: Logger) -> None:
        """See to it that this pod goes; does not wait."""
        if leftover not in self._tasks:
            task = asyncio.create_task(self._until_gone(leftover, delete, log))
            self._tasks[leftover] = task
            task.add_done_callback(lambda _: self._forget(leftover, task))
            metrics.LEFT_TO_DELETE.set(len(self._tasks))

    def _forget(self, leftover: Leftover, task: asyncio.Task[None]) -> None:
        if self._tasks.get(leftover) is task:
            del self._tasks[leftover]
        metrics.LEFT_TO_DELETE.set(len(self._tasks))

    def starting(self, namespace: str, name: str) -> None:
        """A server of this name is about to be started: a leftover without a uid must not hit the new pod."""
        leftover = Leftover(namespace, name)
        if leftover in self._tasks:
            self._tasks.pop(leftover).cancel()

    async def _until_gone(self, leftover: Leftover, delete: Delete, log: Logger) -> None:
        attempt, began = 0, self._clock.monotonic()
        while True:
            try:
                gone = await delete(leftover.namespace, leftover.name, leftover.uid)
                if gone and (leftover.uid or self._clock.monotonic() - began >= self._settle):
                    log.info("Pod %s/%s that was left over is gone", leftover.namespace, leftover.name)
                    return
            except Exception as error:  # noqa: BLE001 - whatever it is, the pod is still there
                log.warning("Pod %s/%s cannot be deleted yet: %r", leftover.namespace, leftover.name, error)
            await self._clock.sleep(backoff(attempt, first=self._first, limit=self._limit))
            attempt += 1

    async def close(self) -> None:
        """Give up; for tests and for the end of the process."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
