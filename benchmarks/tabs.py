"""Many tabs on one repository start one build."""

from __future__ import annotations

import asyncio
import hashlib

from benchmarks.crowd import crowd
from benchmarks.measure import Table
from benchmarks.services import Bench, Contender
from benchmarks.watchers import NO_HUB

SECONDS = 2


async def run(bench: Bench) -> None:
    number = 50
    table = Table(
        f"{number} tabs on one repository, whose build is a process of {SECONDS} s",
        ("", "processes started"),
        "one",
    )
    for contender in bench.contenders:
        table.add(contender.name, str(await measure(bench, contender, number)))
    table.note("the builder runs a process for each time it is asked, as BinderHub's local one does")
    table.show()


async def measure(bench: Bench, contender: Contender, number: int) -> int:
    """Return how many processes were started."""
    name = f"tabs-{contender.module}"
    async with bench.service(contender, NO_HUB) as service:
        async with crowd(service.build_url(name=name, process=SECONDS), number):
            await asyncio.sleep(SECONDS + 1)
    # as tests/support/scripted.py counts
    counted = f"build http://repos.test/{name}?process={SECONDS}"
    path = bench.state / ("count-" + hashlib.sha256(counted.encode()).hexdigest()[:20])
    return path.stat().st_size if path.exists() else 0
