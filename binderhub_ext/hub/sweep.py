"""Find what an earlier process of this service left on the Hub, and hand it to the clean-up."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable, Mapping
from typing import Any

from tornado.log import app_log

from binderhub_ext.errors import on_one_line
from binderhub_ext.hub.cleanup import Cleaner, Leftover
from binderhub_ext.hub.client import HubClient, HubError
from binderhub_ext.timing import Clock

PAGE = 200
"""Users asked for at once: what JupyterHub gives at most by default."""


def is_leftover(user: Mapping[str, Any], now: float, bound: float) -> bool:
    """Whether a temporary user of this service will not be used any more.

    True when nothing of it is ready, and nothing has happened for longer than any launch
    may take. A server that is ready is somebody's.

    Parameters
    ----------
    user : mapping
        The Hub's model of the user.
    now : float
        Seconds since 1970.
    bound : float
        Seconds for which a launch that is still under way may be quiet.
    """
    servers = list((user.get("servers") or {}).values())
    # "check": a Hub that has just started is not sure yet of the servers that run
    if any(server.get("ready") or server.get("pending") == "check" for server in servers):
        return False
    moments = [user.get("created"), user.get("last_activity"), *(server.get("started") for server in servers)]
    return all(now - _seconds(moment) > bound for moment in moments if moment)


def _seconds(timestamp: str) -> float:
    moment = datetime.datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.timezone.utc)
    return moment.timestamp()


class Sweeper:
    """Looks for leftovers when the service starts, and then from time to time.

    Parameters
    ----------
    made_by_us : callable
        Tells from a user's name whether this service made it.
    bound : float
        Seconds; see `is_leftover`.
    interval : float
        Seconds between two looks.
    """

    def __init__(
        self,
        client: HubClient,
        cleaner: Cleaner,
        clock: Clock,
        *,
        made_by_us: Callable[[str], bool],
        bound: float,
        interval: float,
    ) -> None:
        self._client = client
        self._cleaner = cleaner
        self._clock = clock
        self._made_by_us = made_by_us
        self._bound = bound
        self._interval = interval
        self._task: asyncio.Task[None] | None = None
        self.problem = ""
        """What went wrong in the last look, other than that the Hub did not answer."""

    def start(self) -> None:
        """Begin. Called in the event loop."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            wait = self._interval
            try:
                found = await self.sweep()
            except HubError as error:
                app_log.debug("Looking for leftovers: %r", error)
                wait = min(30.0, self._interval)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next look must come
                self.problem = on_one_line(error)
                app_log.exception("Looking for leftovers failed; the next look is in %g s", wait)
            else:
                self.problem = ""
                if found:
                    app_log.info("Found %d temporary users that earlier launches left on the Hub", found)
            await self._clock.sleep(wait)

    async def sweep(self) -> int:
        """Look once. Returns how many were found. Raises `HubError`."""
        found = offset = 0
        while True:
            users = await self._client.users_page(offset, PAGE)
            for user in users:
                ours = self._made_by_us(user["name"]) and not user.get("admin")
                if ours and is_leftover(user, self._clock.time(), self._bound):
                    found += 1
                    for server in user.get("servers") or {"": {}}:
                        self._cleaner.add(Leftover(user["name"], server, True, spare_ready=True))
            # the Hub may give fewer than were asked for
            if not users:
                return found
            offset += len(users)
