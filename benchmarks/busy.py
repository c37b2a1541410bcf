"""A short launch beside long ones: it must not wait for them."""

from __future__ import annotations

import asyncio

from benchmarks.hub_load import clear
from benchmarks.measure import Table, median, ratio, seconds
from benchmarks.reader import Reader, launch
from benchmarks.services import Bench, Service

LONG = 12
WAITING = b'"phase": "launching"'


async def run(bench: Bench) -> None:
    spawn = 8 if bench.quick else 20
    table = Table(
        f"A short launch, while {LONG} launches of {spawn} s are under way",
        ("", "alone", "beside them", "ratio"),
        "at most 1.5 times as long as alone",
    )
    async with bench.hub() as hub:
        for contender in bench.contenders:
            async with bench.service(contender, hub) as service:
                await short(service)
                alone = median([await short(service) for _ in range(15)])
                beside = await measure(service, spawn, 1 if contender.is_peer else 15)
            table.add(contender.name, seconds(alone), seconds(beside), ratio(beside, alone))
            await clear(hub)
    table.note(
        f"medians; the peer's single launch beside the others takes as long as they let it, up to {spawn} s"
    )
    table.show()


async def short(service: Service) -> float:
    """Return how long a launch takes whose server is ready at once."""
    reader, at = await launch(service.build_url(name="there"))
    return at - reader.asked_at


async def measure(service: Service, spawn: float, times: int) -> float:
    """Return how long short launches take beside long ones, at the median."""
    url = service.build_url(name="there-slow", spawn=spawn)
    long = [await Reader(url).open() for _ in range(LONG)]
    try:
        # ten of them are as many as BinderHub's client of the Hub holds
        await asyncio.gather(*(reader.until(WAITING) for reader in long[:10]))
        await asyncio.sleep(1)
        return median([await short(service) for _ in range(times)])
    finally:
        for reader in long:
            reader.close()
