"""The running launches, and those that ended a while ago. Owns their tasks."""

from __future__ import annotations

import asyncio
from collections import Counter

from tornado.log import app_log

from binderhub_ext.errors import LaunchError
from binderhub_ext.hub.client import HubError
from binderhub_ext.launch.launch import Launch
from binderhub_ext.launch.request import LaunchRequest, Services
from binderhub_ext.launch.tickets import Ticket
from binderhub_ext.metrics import service as metrics
from binderhub_ext.stream import Watcher

_NOT_KNOWN = object()
"""The Hub cannot be asked."""


def _one_less(counts: Counter[str], key: str) -> None:
    counts[key] -= 1
    if counts[key] <= 0:
        del counts[key]


class Launches:
    """All launches of this process, by their tickets."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.closing = False
        self._launches: dict[bytes, Launch] = {}
        self._tasks: dict[bytes, asyncio.Task[None]] = {}
        self._givers: set[asyncio.Task[None]] = set()
        self._by_address: Counter[str] = Counter()
        self._watchers: Counter[str] = Counter()
        metrics.LAUNCHES.set_function(lambda: len(self._tasks))

    def find(self, ticket: Ticket) -> Launch | None:
        """Return the launch of this ticket, if it is, or lately was, one of this process."""
        return self._launches.get(ticket.nonce)

    def counts(self) -> dict[str, int]:
        """Return how many launches are in each stage, for people who look."""
        stages = [launch.stage.value for nonce, launch in self._launches.items() if nonce in self._tasks]
        return {stage: stages.count(stage) for stage in sorted(set(stages))}

    def start(self, ticket: Ticket, request: LaunchRequest, *, first_number: int, resumed: bool) -> Launch:
        """Begin a launch.

        Raises
        ------
        LaunchError
            service.stopping (retryable); rate.limited when the address has too many under way.
        """
        if self.closing:
            raise LaunchError("service.stopping")
        limit, address = self.services.settings.launches_per_address, request.client_ip
        if limit and self._by_address[address] >= limit:
            raise LaunchError("rate.limited", detail=f"{limit} launches from your address are under way.")
        self._by_address[address] += 1
        launch = Launch(ticket, request, self.services, first_number=first_number, resumed=resumed)
        self._launches[ticket.nonce] = launch
        task = self._tasks[ticket.nonce] = asyncio.create_task(launch.run())
        task.add_done_callback(lambda _: self._ended(ticket.nonce, address))
        return launch

    def admit(self, address: str) -> None:
        """Say whether an address may watch one more.

        Raises
        ------
        LaunchError
            rate.limited when the address watches too much already.
        """
        limit = self.services.settings.watchers_per_address
        if limit and self._watchers[address] >= limit:
            raise LaunchError("rate.limited", detail=f"Your address has {limit} launches open.")

    def watch(self, launch: Launch, after: int, address: str) -> Watcher:
        """Return a watcher of everything after the event of this number. Hand it to `leave` at the end."""
        self._watchers[address] += 1
        metrics.WATCHERS.inc()
        return launch.stream.watch(after)

    def leave(self, launch: Launch, watcher: Watcher, address: str) -> None:
        """A watcher is gone. When it was the last, the launch is given up after a while."""
        metrics.WATCHERS.dec()
        _one_less(self._watchers, address)
        watcher.close()
        if launch.stream.watchers == 0 and not launch.stream.finished and not self.closing:
            task = asyncio.create_task(self._unless_watched(launch, launch.stream.left))
            self._givers.add(task)
            task.add_done_callback(self._givers.discard)

    async def _unless_watched(self, launch: Launch, left: int) -> None:
        """Give a launch up when nobody comes back: not to this process, nor to another."""
        delay = self.services.settings.abandon_timeout
        while True:
            before = await self._last_activity(launch)
            await self.services.clock.sleep(delay)
            # somebody who came and went meanwhile started the time anew
            if launch.stream.watchers or launch.stream.left != left or launch.stream.finished:
                return
            after = await self._last_activity(launch)
            if after is _NOT_KNOWN or before is _NOT_KNOWN:
                continue
            if after == before:
                launch.elsewhere = False
                break
            if before is not None and after is not None:
                app_log.info("Launch of %s is watched by another process", launch.request)
                launch.elsewhere = True
        task = self._tasks.get(launch.ticket.nonce)
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        if not launch.stream.finished:
            launch.fail(LaunchError("launch.abandoned"), "abandoned")

    @staticmethod
    async def _last_activity(launch: Launch) -> object:
        """Return when the Hub last heard of a launch's user; None: there is none, or the launch has no server yet."""
        if launch.server is None:
            return None
        try:
            return await launch.server.last_activity()
        except HubError:
            # another process may have lost the Hub too, and its readers be waiting for the same server
            launch.elsewhere = None
            return _NOT_KNOWN

    def _ended(self, nonce: bytes, address: str) -> None:
        self._tasks.pop(nonce, None)
        _one_less(self._by_address, address)
        if not self.closing:
            retention = self.services.settings.finished_retention
            asyncio.get_running_loop().call_later(retention, self._launches.pop, nonce, None)

    async def close(self) -> None:
        """Take no new launches, and hand those under way over: whoever is asked next goes on with them."""
        self.closing = True
        tasks = [*self._tasks.values(), *self._givers]
        if self._tasks:
            app_log.info("Handing over %d launches", len(self._tasks))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.services.flights.close()
        await self.services.builds.close()
