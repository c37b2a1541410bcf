"""The sweep for leftovers goes on, whatever one look comes to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from binderhub_ext.hub.client import HubUnreachable
from binderhub_ext.hub.sweep import Sweeper
from tests.support.clock import PatientClock


class Hub:
    """Answers each look with the next of its lines; a user list is one page."""

    def __init__(self, *looks: Any) -> None:
        self.looks = list(looks)
        self.all_looked = asyncio.Event()

    async def users_page(self, offset: int, limit: int) -> list[dict[str, Any]]:
        if offset:
            return []
        if not self.looks:
            self.all_looked.set()
            await asyncio.Event().wait()
        look = self.looks.pop(0)
        if isinstance(look, Exception):
            raise look
        return look


class Cleaner:
    def __init__(self) -> None:
        self.added: list[str] = []

    def add(self, leftover: Any) -> None:
        self.added.append(leftover.user)


ODD = {"name": "ours-odd", "created": "yesterday", "servers": {}}
LEFT = {"name": "ours-left", "created": "2020-01-01T00:00:00Z", "servers": {}}


async def sweep(hub: Hub) -> tuple[Sweeper, Cleaner, PatientClock]:
    cleaner, clock = Cleaner(), PatientClock()
    sweeper = Sweeper(
        hub, cleaner, clock, made_by_us=lambda name: name.startswith("ours"), bound=600, interval=900
    )
    sweeper.start()
    await asyncio.wait_for(hub.all_looked.wait(), 5)
    await sweeper.close()
    return sweeper, cleaner, clock


async def test_an_error_is_logged_with_its_traceback_and_the_next_look_comes(caplog):
    sweeper, cleaner, clock = await sweep(Hub([ODD], [LEFT]))
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.exc_info[0] is ValueError
    assert cleaner.added == ["ours-left"] and clock.slept == [900, 900] and sweeper.problem == ""


@pytest.mark.parametrize("later", [[], [HubUnreachable("connection refused")]], ids=["", "the Hub is away"])
async def test_what_went_wrong_is_known_until_a_look_succeeds(later):
    sweeper, _, _ = await sweep(Hub([ODD], *later))
    assert sweeper.problem.startswith("ValueError: ") and "yesterday" in sweeper.problem


async def test_a_hub_that_does_not_answer_is_asked_sooner_and_is_no_problem_of_the_sweep():
    sweeper, cleaner, clock = await sweep(Hub(HubUnreachable("connection refused"), [LEFT]))
    assert clock.slept == [30, 900] and sweeper.problem == "" and cleaner.added == ["ours-left"]
