"""The reflectors that all spawners of a Hub share, each with its guard.

A reflector is made once for each kind and namespace, and it is here from that moment on, loaded or
not: whoever needs it waits for its first list, for as long as they like, without touching it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from logging import Logger
from typing import Any

from .reflector import ReliableReflector

Key = tuple[str, "str | None"]


class SharedReflectors(dict[Key, ReliableReflector]):
    """Reflectors by kind and namespace; the tasks that guard them are owned here."""

    def __init__(self) -> None:
        super().__init__()
        self._guards: dict[Key, asyncio.Task[None]] = {}

    def obtain(
        self,
        key: Key,
        make: Callable[[], ReliableReflector],
        guard: Callable[[ReliableReflector], Coroutine[Any, Any, None]],
        log: Logger,
    ) -> ReliableReflector:
        """Return the reflector, made and begun when there is none; never waits.

        Parameters
        ----------
        guard : callable
            Returns the coroutine that watches over the reflector.
        """
        reflector = self.get(key)
        if reflector is None:
            reflector = self[key] = make()
        reflector.ensure_running()
        task = self._guards.get(key)
        if task is None or task.done():
            if task is not None and not task.cancelled() and task.exception() is not None:
                log.error("The guard of the %s cache failed", key[0], exc_info=task.exception())
            self._guards[key] = asyncio.create_task(guard(reflector), name=f"guard-{key[0]}")
        return reflector

    async def close(self) -> None:
        """Stop all reflectors and their guards, and wait until they have ended."""
        guards = list(self._guards.values())
        self._guards.clear()
        for task in guards:
            task.cancel()
        await asyncio.gather(*guards, return_exceptions=True)
        while self:
            await self.popitem()[1].stop()
