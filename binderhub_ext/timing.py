"""Time: clocks, absolute deadlines, backoff. The only module that imports `time`.

Code that waits takes a `Clock`, so that its unit tests advance a fake one and assert
exact seconds.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

T = TypeVar("T")


class Clock(Protocol):
    """What the package needs of time."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start; never goes back."""

    def time(self) -> float:
        """Return seconds since 1970 (UTC); may jump."""

    async def sleep(self, seconds: float) -> None:
        """Wait for this many seconds; 0 or less yields once."""


class SystemClock:
    """The machine's own clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


SYSTEM_CLOCK = SystemClock()


@dataclass(frozen=True)
class Deadline:
    """A moment by which something must have ended; handed down, never restarted.

    Parameters
    ----------
    at : float
        The moment, in seconds of `clock.monotonic()`. `math.inf` for none.
    clock : Clock
        The clock by which it is judged.
    """

    at: float
    clock: Clock = SYSTEM_CLOCK

    @classmethod
    def after(cls, seconds: float, clock: Clock = SYSTEM_CLOCK) -> Deadline:
        """Return the deadline that is `seconds` away from now."""
        return cls(clock.monotonic() + seconds, clock)

    @property
    def remaining(self) -> float:
        """Seconds that remain, never negative."""
        return max(0.0, self.at - self.clock.monotonic())

    @property
    def expired(self) -> bool:
        return self.remaining <= 0

    def within(self, seconds: float) -> Deadline:
        """Return the earlier of this deadline and `seconds` from now."""
        return Deadline(min(self.at, self.clock.monotonic() + seconds), self.clock)

    async def wait_for(self, awaitable: Awaitable[T]) -> T:
        """Await `awaitable`, and cancel it when the deadline passes.

        Raises
        ------
        asyncio.TimeoutError
            When the deadline passed first. Distinct from `TimeoutError` in Python 3.10.
        """
        return await wait_for(awaitable, self.remaining)


async def wait_for(awaitable: Awaitable[T], seconds: float) -> T:
    """Await `awaitable` for at most so many seconds (`math.inf`: as long as it takes).

    `asyncio.wait_for` of Python 3.11 and earlier loses a cancellation that comes in the moment
    in which `awaitable` ends, so that whoever cancelled a task once waits for it for ever.

    Raises
    ------
    asyncio.TimeoutError
        When the time was over first; `awaitable` has then been cancelled, and has ended.
    """
    limit = None if seconds == float("inf") else max(0.0, seconds)
    if sys.version_info >= (3, 11):
        async with asyncio.timeout(limit):
            return await awaitable
    task = asyncio.ensure_future(awaitable)
    try:
        await asyncio.wait({task}, timeout=limit)
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if task.cancelled():
            raise asyncio.TimeoutError
    return task.result()


def backoff(
    attempt: int,
    *,
    first: float,
    limit: float,
    factor: float = 2.0,
    uniform: Callable[[float, float], float] = random.uniform,
) -> float:
    """Return how long to wait before the next attempt.

    ``uniform(d / 2, d)`` with ``d = min(limit, first * factor ** attempt)``: half of the
    wait is certain, half is jitter, so that many clients do not come back as one.

    Parameters
    ----------
    attempt : int
        How many attempts have failed before, less one: 0 after the first failure.
    first, limit : float
        Seconds: the base of the first wait and the most of any.
    uniform : callable
        Source of randomness.
    """
    delay: float = min(limit, first * factor ** min(attempt, 64))
    return uniform(delay / 2, delay)
