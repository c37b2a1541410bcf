"""Leftovers are asked for until the Hub says that they are gone; exact seconds, by a clock of the tests."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from binderhub_ext.hub import cleanup as module
from binderhub_ext.hub.cleanup import Cleaner, Leftover
from binderhub_ext.hub.client import HubBusy, HubRefused, HubUnreachable
from binderhub_ext.timing import backoff
from tests.support.clock import PatientClock

TEMPORARY = Leftover("user", "", delete_user=True)


class ScriptedHub:
    """Answers each request with the next of its lines; after the last one, as when all is gone."""

    def __init__(self, **lines: list[Any]) -> None:
        self.lines = lines
        self.asked: list[str] = []
        self.at_once = self.most_at_once = 0
        self.busy = asyncio.Event()
        self.free = asyncio.Event()
        self.free.set()

    async def _next(self, what: str, usual: Any) -> Any:
        self.asked.append(what)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        if self.at_once == 8:
            self.busy.set()
        await self.free.wait()
        self.at_once -= 1
        answers = self.lines.get(what, [])
        answer = answers.pop(0) if answers else usual
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def stop_server(self, user: str, server: str) -> bool:
        return await self._next("stop", True)

    async def delete_user(self, name: str) -> bool:
        return await self._next("delete", True)

    async def get_user(self, name: str) -> Any:
        return await self._next("look", None)


@pytest.fixture(autouse=True)
def no_jitter(monkeypatch):
    monkeypatch.setattr(module, "backoff", partial(backoff, uniform=lambda low, high: high))


async def clean(hub: ScriptedHub, *leftovers: Leftover, **options: Any) -> tuple[Cleaner, PatientClock]:
    clock = PatientClock()
    cleaner = Cleaner(hub, clock, **options)
    for leftover in leftovers:
        cleaner.add(leftover)
    await asyncio.wait_for(cleaner.drained(), 10)
    return cleaner, clock


async def test_server_then_user_then_a_look_whether_they_are_gone():
    hub = ScriptedHub()
    cleaner, clock = await clean(hub, TEMPORARY)
    assert hub.asked == ["stop", "delete", "look"] and clock.slept == []
    assert cleaner.backlog == 0 and cleaner.oldest == 0


def user(token: str = "ours", **server: Any) -> dict[str, Any]:
    return {"servers": {"named": {"user_options": {"token": token}, **server}}}


async def test_users_of_others_are_never_deleted():
    hub = ScriptedHub(look=[user()])
    await clean(hub, Leftover("somebody", "named", delete_user=False, token="ours"))
    assert hub.asked == ["look", "stop"]


async def test_the_server_of_a_persons_next_launch_is_left_alone():
    hub = ScriptedHub(look=[user(token="the next one's", ready=True)])
    await clean(hub, Leftover("somebody", "named", delete_user=False, token="ours"))
    assert hub.asked == ["look"]


@pytest.mark.parametrize("state", [{"ready": True}, {"ready": False, "pending": "check"}])
async def test_what_a_sweep_found_is_spared_when_it_runs_after_all(state):
    hub = ScriptedHub(look=[user(**state)])
    await clean(hub, Leftover("temporary", "named", delete_user=True, spare_ready=True))
    assert hub.asked == ["look"]


@pytest.mark.parametrize(
    "answer",
    [
        False,
        HubRefused("user is pending spawn", 400),
        HubRefused("user is pending stop", 400),
        HubRefused("Internal Server Error", 500),
        HubUnreachable("connection refused"),
    ],
    ids=str,
)
async def test_a_stop_that_is_not_done_is_asked_for_again_and_again(answer):
    hub = ScriptedHub(stop=[answer] * 8)
    _, clock = await clean(hub, TEMPORARY)
    assert clock.slept == [0.25, 0.5, 1, 2, 4, 8, 15, 15]
    assert hub.asked == ["stop"] * 9 + ["delete", "look"]


async def test_an_error_of_any_other_kind_is_logged_with_its_traceback_and_the_leftover_is_not_forgotten(
    caplog,
):
    hub = ScriptedHub(look=[KeyError("servers")])
    _, clock = await clean(hub, TEMPORARY)
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.exc_info[0] is KeyError
    assert clock.slept == [60] and hub.asked == ["stop", "delete", "look"] * 2


async def test_a_hub_that_says_when_to_come_back_is_not_asked_before():
    hub = ScriptedHub(stop=[HubBusy("later", 429, 7.0), HubBusy("later", 429)])
    _, clock = await clean(hub, TEMPORARY)
    assert clock.slept == [7, 10]


async def test_a_hub_that_asks_for_a_day_is_asked_before_that():
    _, clock = await clean(ScriptedHub(stop=[HubBusy("later", 429, 86400.0)]), TEMPORARY)
    assert clock.slept == [60]


async def test_a_deletion_is_believed_only_when_the_user_is_gone():
    hub = ScriptedHub(look=[{"name": "user"}, {"name": "user"}, None])
    await clean(hub, TEMPORARY)
    assert hub.asked.count("delete") == 3


async def test_only_so_many_are_asked_for_at_once():
    hub = ScriptedHub()
    hub.free.clear()
    task = asyncio.create_task(
        clean(hub, *(Leftover(f"user-{i}", "", True) for i in range(50)), concurrency=8)
    )
    await hub.busy.wait()
    hub.free.set()
    await task
    assert hub.most_at_once == 8 and hub.asked.count("delete") == 50


async def test_the_same_leftover_is_removed_once_and_a_full_backlog_takes_no_more():
    hub = ScriptedHub()
    await clean(hub, TEMPORARY, TEMPORARY, Leftover("b", "", True), Leftover("c", "", True), limit=2)
    assert hub.asked.count("stop") == 2


async def test_the_age_of_the_oldest_is_told():
    hub = ScriptedHub()
    hub.free.clear()
    clock = PatientClock()
    cleaner = Cleaner(hub, clock)
    cleaner.add(TEMPORARY)
    await clock.sleep(40)
    cleaner.add(Leftover("b", "", True))
    assert cleaner.backlog == 2 and cleaner.oldest == 40
    await cleaner.close(grace=0.01)
    assert cleaner.backlog == 0
