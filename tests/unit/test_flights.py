"""What several launches want at the same time is asked for once, and one that hangs keeps nobody for ever."""

from __future__ import annotations

import asyncio

import pytest

from binderhub_ext.launch.flights import Flights


async def test_all_who_come_meanwhile_share_one_call_and_its_end():
    flights, calls, land = Flights(), [], asyncio.Event()

    async def call():
        calls.append(1)
        await land.wait()
        return "there"

    waiters = [asyncio.create_task(flights.get("key", call)) for _ in range(3)]
    await asyncio.sleep(0)
    waiters[0].cancel()
    land.set()
    assert await asyncio.gather(*waiters[1:]) == ["there", "there"] and len(calls) == 1
    assert await flights.get("key", call) == "there" and len(calls) == 2, "what has landed is asked for anew"


async def test_a_failure_is_everybodys():
    flights = Flights()

    async def call():
        await asyncio.sleep(0)
        raise OSError("no")

    results = await asyncio.gather(*(flights.get("key", call) for _ in range(2)), return_exceptions=True)
    assert [type(result) for result in results] == [OSError, OSError]


async def test_a_call_that_hangs_is_given_up_with_those_who_waited_for_it():
    flights, cancelled = Flights(), []

    async def hangs():
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(1)

    async def answers():
        return "there"

    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(flights.get("key", hangs), 0.01)
    assert await flights.get("key", answers) == "there"
    assert cancelled == [1]
