"""Remove from the Hub what failed, timed-out and abandoned launches made, until the Hub says it is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tornado.log import app_log

from binderhub_ext.hub.client import HubBusy, HubClient, HubError, HubRefused
from binderhub_ext.metrics import service as metrics
from binderhub_ext.timing import Clock, backoff, wait_for


@dataclass(frozen=True)
class Leftover:
    """A server that nobody will use.

    Attributes
    ----------
    user, server : str
        Names on the Hub.
    delete_user : bool
        Whether the user is a temporary one of ours. Other users are never deleted.
    token : str
        Of the server's `user_options`; a server of this name with another token is another
        launch's, and left alone. Empty: whatever it is.
    spare_ready : bool
        Leave it alone when it is ready by now, or the Hub is not sure of it.
    """

    user: str
    server: str
    delete_user: bool
    token: str = field(default="", repr=False, compare=False)
    spare_ready: bool = field(default=False, compare=False)

    def is_gone(self, user: Mapping[str, Any] | None) -> bool:
        """Whether, by the Hub's model of the user, there is nothing of this launch to remove."""
        server = ((user or {}).get("servers") or {}).get(self.server)
        if server is None:
            return user is None or not self.delete_user
        if self.spare_ready and (server.get("ready") or server.get("pending") == "check"):
            return True
        return bool(self.token) and (server.get("user_options") or {}).get("token") != self.token


class Cleaner:
    """A backlog of leftovers, each removed by a task of its own, a few at a time.

    Parameters
    ----------
    client : HubClient
    clock : Clock
    concurrency : int
        How many are asked for at once: clean-up must not flood a Hub in trouble.
    limit : int
        The most leftovers that are remembered; past it the newest is dropped with a log
        line, and found again by the sweep of a later start of this service.
    """

    def __init__(self, client: HubClient, clock: Clock, *, concurrency: int = 8, limit: int = 10_000) -> None:
        self._client = client
        self._clock = clock
        self._slots = asyncio.Semaphore(concurrency)
        self._limit = limit
        self._tasks: dict[Leftover, asyncio.Task[None]] = {}
        self._since: dict[Leftover, float] = {}
        metrics.CLEANUP_BACKLOG.set_function(lambda: len(self._tasks))
        metrics.CLEANUP_OLDEST.set_function(lambda: self.oldest)

    @property
    def backlog(self) -> int:
        """How many leftovers are not gone yet."""
        return len(self._tasks)

    @property
    def oldest(self) -> float:
        """Seconds since the oldest leftover that is not gone was added; 0 when there is none."""
        return self._clock.monotonic() - min(self._since.values()) if self._since else 0.0

    def add(self, leftover: Leftover) -> None:
        """Remove this from the Hub, in the background."""
        if leftover in self._tasks:
            return
        if len(self._tasks) >= self._limit:
            app_log.error(
                "The clean-up backlog is full (%d): not removing user %s", self._limit, leftover.user
            )
            metrics.CLEANUP_DROPPED.inc()
            return
        self._since[leftover] = self._clock.monotonic()
        self._tasks[leftover] = asyncio.create_task(self._remove(leftover))

    async def drained(self) -> None:
        """Wait until nothing is left to remove."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())

    async def close(self, grace: float = 0.0) -> None:
        """Give what is under way `grace` seconds, then stop."""
        if self._tasks and grace > 0:
            await asyncio.wait(self._tasks.values(), timeout=grace)
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _remove(self, leftover: Leftover) -> None:
        attempt = 0
        try:
            while True:
                wait = 0.0
                try:
                    async with self._slots:
                        gone = await wait_for(self._try(leftover), 30)
                except HubBusy as error:
                    gone, wait = False, min(error.retry_after or 10.0, 60.0)
                except (HubError, asyncio.TimeoutError) as error:
                    gone = False
                    app_log.debug("Removing %s: %r", leftover.user, error)
                except Exception:  # noqa: BLE001 - whatever it is, the leftover is not gone
                    gone, wait = False, 60.0
                    app_log.exception(
                        "Removing user %s failed; the next attempt is in %g s", leftover.user, wait
                    )
                if gone:
                    metrics.CLEANUP_REMOVED.inc()
                    app_log.info("Removed what a launch left on the Hub: user %s", leftover.user)
                    return
                await self._clock.sleep(max(wait, backoff(attempt, first=0.25, limit=15.0)))
                attempt += 1
        finally:
            self._tasks.pop(leftover, None)
            self._since.pop(leftover, None)

    @staticmethod
    def _must_look(leftover: Leftover) -> bool:
        return leftover.spare_ready or not leftover.delete_user

    async def _try(self, leftover: Leftover) -> bool:
        """Ask once. Returns whether the Hub says that it is gone."""
        try:
            # names are used again: by the same person's next launch, or by a launch that was taken up again
            if self._must_look(leftover) and leftover.is_gone(await self._client.get_user(leftover.user)):
                return True
            if not await self._client.stop_server(leftover.user, leftover.server):
                return False
            if not leftover.delete_user:
                return True
            await self._client.delete_user(leftover.user)
        except HubRefused as error:
            # 400: pending spawn or pending stop; 409, 5xx: not now
            app_log.debug("The Hub does not remove %s yet: %s", leftover.user, error)
            return False
        # a DELETE that was accepted is not believed: the Hub must say 404
        return await self._client.get_user(leftover.user) is None
