"""The gate before the Hub: who waits, for how long, and in which groups they are let through."""

from __future__ import annotations

import asyncio
import random

import pytest

from binderhub_ext.hub.gate import BUSY_LIMIT, GateState, HubGate
from tests.support.clock import PatientClock


class Hub:
    """Answers, or does not."""

    def __init__(self) -> None:
        self.up = asyncio.Event()
        self.probes = 0

    async def probe(self) -> None:
        self.probes += 1
        await self.up.wait()


@pytest.fixture
def hub():
    return Hub()


@pytest.fixture
def clock():
    random.seed(0)
    return PatientClock()


async def settled() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_failures_in_a_row_open_it_and_an_answer_between_them_does_not(hub, clock):
    gate = HubGate(hub.probe, clock, threshold=3)
    for _ in range(2):
        gate.failed()
        gate.failed()
        gate.succeeded()
    assert gate.state is GateState.CLOSED
    for _ in range(3):
        gate.failed()
    assert gate.state is GateState.OPEN and gate.reason == "unreachable"
    await gate.close()


async def test_while_it_is_open_people_see_their_place_and_one_probe_asks(hub, clock):
    gate = HubGate(hub.probe, clock, threshold=1)
    gate.failed()
    places: dict[int, list[tuple[int, str]]] = {i: [] for i in range(6)}
    waiting = [asyncio.create_task(gate.enter(lambda *place, i=i: places[i].append(place))) for i in range(6)]
    await settled()
    assert [said[-1] for said in places.values()] == [(i + 1, "unreachable") for i in range(6)]
    assert hub.probes == 1 and gate.waiting == 6
    hub.up.set()
    await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert gate.state is GateState.CLOSED and gate.waiting == 0
    assert clock.slept[-2:] == [0.5, 0.5], "four, then the other two"


async def test_whoever_gives_up_leaves_the_line(hub, clock):
    gate = HubGate(hub.probe, clock, threshold=1)
    gate.failed()
    waiting = asyncio.create_task(gate.enter(lambda *_: None))
    await settled()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert gate.waiting == 0
    await gate.close()


@pytest.mark.parametrize("asked, kept", [(7.0, 7.0), (86400.0, BUSY_LIMIT)])
async def test_a_busy_hub_is_left_alone_for_as_long_as_it_asks_but_not_for_a_day(hub, clock, asked, kept):
    hub.up.set()
    gate = HubGate(hub.probe, clock)
    gate.busy(asked)
    assert gate.state is GateState.OPEN and gate.reason == "busy"
    await asyncio.wait_for(gate.enter(lambda *_: None), 5)
    assert clock.slept[0] == kept
