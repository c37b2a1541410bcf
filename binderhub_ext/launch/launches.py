"""The running launches, and those that ended a while ago. Owns their tasks."""

from __future__ import annotations

import asyncio

from tornado.log import app_log

from binderhub_ext.errors import LaunchError
from binderhub_ext.hub.client import HubError
from binderhub_ext.launch.launch import Launch
from binderhub_ext.launch.request import LaunchRequest, Services
from binderhub_ext.launch.tickets import Ticket
from binderhub_ext.metrics import service as metrics
from binderhub_ext.stream import Watcher


class Launches:
    """All launches of this process, by their tickets."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.closing = False
        self._launches: dict[bytes, Launch] = {}
        self._tasks: dict[bytes, asyncio.Task[None]] = {}
        self._givers: set[asyncio.Task[None]] = set()
        metrics.LAUNCHES.set_function(lambda: len(self._tasks))

    def find(self, ticket: Ticket) -> Launch | None:
        """Return the launch of this ticket, if it is, or lately was, one of this process."""
        return self._launches.get(ticket.nonce)

    def start(self, ticket: Ticket, request: LaunchRequest, *, first_number: int, resumed: bool) -> Launch:
        """Begin a launch.

        Raises
        ------
        LaunchError
            service.stopping (retryable).
        """
        if self.closing:
            raise LaunchError("service.stopping")
        launch = Launch(ticket, request, self.services, first_number=first_number, resumed=resumed)
        self._launches[ticket.nonce] = launch
        task = self._tasks[ticket.nonce] = asyncio.create_task(launch.run())
        task.add_done_callback(lambda _: self._ended(ticket.nonce))
        return launch

    def watch(self, launch: Launch, after: int) -> Watcher:
        """Return a watcher of everything after the event of this number. Hand it to `leave` at the end."""
        metrics.WATCHERS.inc()
        return launch.stream.watch(after)

    def leave(self, launch: Launch, watcher: Watcher) -> None:
        """A watcher is gone. When it was the last, the launch is given up after a while."""
        metrics.WATCHERS.dec()
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
            if after == before:
                break
            app_log.info("Launch of %s is watched by another process", launch.request)
        task = self._tasks.get(launch.ticket.nonce)
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        if not launch.stream.finished:
            launch.fail(LaunchError("launch.abandoned"), "abandoned")

    @staticmethod
    async def _last_activity(launch: Launch) -> str | None:
        if launch.server is None or not launch.server.request.create_user:
            return None
        try:
            return await launch.server.last_activity()
        except HubError:
            return None  # a Hub that does not answer has nobody's launch

    def _ended(self, nonce: bytes) -> None:
        self._tasks.pop(nonce, None)
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
