"""Deadlines and backoff, with a clock that the tests advance."""

from __future__ import annotations

import asyncio

import pytest

from binderhub_ext.timing import Deadline, backoff, wait_for


class FakeClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_deadline_counts_down_to_zero_and_no_further():
    clock = FakeClock()
    deadline = Deadline.after(10, clock)
    clock.now += 4
    assert deadline.remaining == 6 and not deadline.expired
    clock.now += 100
    assert deadline.remaining == 0 and deadline.expired


def test_an_inner_bound_never_outlives_the_outer():
    clock = FakeClock()
    outer = Deadline.after(10, clock)
    assert outer.within(3).remaining == 3
    assert outer.within(30).remaining == 10


@pytest.mark.parametrize(
    "attempt, low, high", [(0, 0.5, 1.0), (1, 1.0, 2.0), (3, 4.0, 8.0), (4, 7.5, 15.0), (10_000, 7.5, 15.0)]
)
def test_half_of_a_backoff_is_certain_and_half_is_jitter(attempt, low, high):
    seen = []
    assert backoff(attempt, first=1, limit=15, uniform=lambda a, b: seen.append((a, b)) or b) == high
    assert seen == [(low, high)]


async def test_what_takes_too_long_is_cancelled_and_has_ended():
    ended = asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(asyncio.TimeoutError):
        await wait_for(slow(), 0.01)
    assert ended.is_set()


async def test_a_cancellation_in_the_moment_of_the_result_is_not_lost():
    result = asyncio.get_running_loop().create_future()

    async def waits() -> None:
        await wait_for(result, 60)
        await asyncio.Event().wait()

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    result.set_result(None)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=1)
    assert done and task.cancelled()


async def test_without_a_limit_it_waits_and_returns_the_result():
    assert await wait_for(asyncio.sleep(0, "x"), float("inf")) == "x"
