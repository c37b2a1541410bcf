"""Who goes on with a launch that nobody watches here: another process, nobody, or the Hub cannot tell."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import pytest

from binderhub_ext.hub.client import HubUnreachable
from binderhub_ext.hub.gate import HubGate
from binderhub_ext.launch.launch import Launch
from binderhub_ext.launch.launches import Launches
from binderhub_ext.launch.request import LaunchRequest, Services
from binderhub_ext.launch.settings import Launcher
from binderhub_ext.launch.tickets import TicketOffice
from binderhub_ext.timing import SYSTEM_CLOCK
from tests.support.binderhub_cluster import repository

AWAY = HubUnreachable("connection refused")


class Upstream:
    async def resolve(self, prefix: str, spec: str) -> Any:
        return repository("a")

    async def image_exists(self, of: Any) -> bool:
        return True

    async def check_quota(self, of: Any) -> None:
        return None


class Hub:
    """Its servers never become ready. Asked for a user, it tells the next `activity`, the last one for ever."""

    def __init__(self, *activity: Any) -> None:
        self.activity = list(activity)
        self.looks = 0
        self.looked = asyncio.Condition()
        self.starting = asyncio.Event()

    async def create_user(self, name: str) -> bool:
        return True

    async def start_server(self, user: str, server: str, options: Any) -> None:
        return None

    async def touch_user(self, name: str, timestamp: str) -> None:
        return None

    @asynccontextmanager
    async def progress(self, user: str, server: str) -> Any:
        async def nothing() -> Any:
            self.starting.set()
            await asyncio.Event().wait()
            yield

        yield nothing()

    async def get_user(self, name: str) -> dict[str, Any]:
        answer = self.activity.pop(0) if len(self.activity) > 1 else self.activity[0]
        async with self.looked:
            self.looks += 1
            self.looked.notify_all()
        if isinstance(answer, Exception):
            raise answer
        return {"last_activity": answer}

    async def has_looked(self, times: int) -> None:
        async with self.looked:
            await asyncio.wait_for(self.looked.wait_for(lambda: self.looks >= times), 5)


class Cleaner:
    def __init__(self) -> None:
        self.added: list[Any] = []

    def add(self, leftover: Any) -> None:
        self.added.append(leftover)


class Try:
    """A launch that is starting its server when its only reader leaves."""

    def __init__(self, *activity: Any, launch_timeout: int = 600) -> None:
        self.hub, self.cleaner = Hub(*activity), Cleaner()
        office = TicketOffice(b"secret")
        settings = Launcher(abandon_timeout=0.02, launch_timeout=launch_timeout)
        self.launches = Launches(
            Services(
                upstream=Upstream(),
                hub=self.hub,
                gate=HubGate(self._probe, SYSTEM_CLOCK),
                cleaner=self.cleaner,
                builds=self,
                office=office,
                settings=settings,
                clock=SYSTEM_CLOCK,
                hub_url="http://hub.test/",
                auth_enabled=False,
            )
        )
        ticket = office.issue("git", "a/main", "", 0, from_page=True)
        request = LaunchRequest("git", "a/main")
        self.launch: Launch = self.launches.start(ticket, request, first_number=1, resumed=False)

    async def _probe(self) -> None:
        return None

    async def close(self) -> None:
        """Of the builds: there are none."""

    async def __aenter__(self) -> Try:
        watcher = self.launches.watch(self.launch, 0, "")
        await asyncio.wait_for(self.hub.starting.wait(), 5)
        self.launches.leave(self.launch, watcher, "")
        return self

    async def finished(self) -> None:
        await asyncio.wait_for(asyncio.wait(self.launches._tasks.values()), 5)
        await asyncio.gather(*self.launches._givers)

    async def __aexit__(self, *_: object) -> None:
        await self.launches.close()


async def test_a_launch_that_nobody_watches_anywhere_is_given_up_and_removed():
    async with Try("2026-01-01") as one:
        await one.finished()
        assert len(one.cleaner.added) == 1 and one.launch.elsewhere is False


async def test_a_launch_that_another_process_watches_goes_on():
    async with Try(*(f"2026-01-{day:02}" for day in range(1, 30))) as one:
        await one.hub.has_looked(8)
        assert not one.launch.stream.finished and one.launch.elsewhere is True
        assert not one.cleaner.added


@pytest.mark.parametrize("known", [[], ["2026-01-01"]], ids=["from the beginning", "after a while"])
async def test_while_the_hub_cannot_tell_nothing_is_given_up(known):
    async with Try(*known, AWAY) as one:
        await one.hub.has_looked(9)
        assert not one.launch.stream.finished and one.launch.elsewhere is None
        one.hub.activity = ["2026-01-02"]
        await one.finished()
        assert len(one.cleaner.added) == 1, "the Hub is back, and nobody else is there"


async def test_what_may_be_anothers_is_not_removed_when_the_launch_fails_meanwhile():
    async with Try(AWAY, launch_timeout=1) as one:
        await one.finished()
        assert one.launch.elsewhere is None and not one.cleaner.added
