"""Many launches at once: the time that the Hub needs, and not much more."""

from __future__ import annotations

import asyncio
import time

from benchmarks.hub_load import clear, drive
from benchmarks.measure import Table, ratio, seconds
from benchmarks.reader import LaunchFailed, launch
from benchmarks.services import Bench, Service

SPAWN = 3
LIMIT = 240.0


async def run(bench: Bench) -> None:
    number = 40 if bench.quick else 200
    table = Table(
        f"{number} launches at once; each server takes {SPAWN} s to start",
        ("", "one alone", "all ready after", "failed", "ratio"),
        "all after at most 1.5 times (one launch + the Hub's own time for them all)",
    )
    async with bench.hub() as hub:
        await drive(hub, 1, "http://repos.test/warm-up")
        alone = await drive(hub, number, f"http://repos.test/there?spawn={SPAWN}")
        table.add("the Hub alone, through its REST API", "", seconds(alone), "0", "")
        for contender in bench.contenders:
            await clear(hub)
            async with bench.service(contender, hub) as service:
                await launch(service.build_url(name="there"))
                one, total, failed = await measure(service, number)
            cells = seconds(one), seconds(total), str(failed), ratio(total, one + alone)
            table.add(contender.name, *cells)
        await clear(hub)
    table.note("ratio = all ready after / (one alone + the Hub alone)")
    table.show()


async def measure(service: Service, number: int) -> tuple[float, float, int]:
    """Return the seconds of one launch, of all at once, and how many of those failed."""
    url = service.build_url(name="there", spawn=SPAWN)
    began = time.monotonic()
    await launch(url)
    one = time.monotonic() - began
    failed = 0

    async def attempt() -> None:
        nonlocal failed
        try:
            await launch(url, LIMIT)
        except LaunchFailed:
            failed += 1

    began = time.monotonic()
    await asyncio.gather(*(attempt() for _ in range(number)))
    return one, time.monotonic() - began, failed
