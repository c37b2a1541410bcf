"""A clock whose time passes only while somebody sleeps."""

from __future__ import annotations

import asyncio


class PatientClock:
    """Each sleep ends at once, and takes its seconds all the same: tests assert them exactly."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_700_000_000.0 + self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)
        await asyncio.sleep(0)
