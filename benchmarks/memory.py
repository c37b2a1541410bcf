"""What a watcher costs while nothing happens, and what is left of that when they are gone."""

from __future__ import annotations

import asyncio

from benchmarks.crowd import crowd
from benchmarks.measure import Table
from benchmarks.services import Bench, Contender, Service
from benchmarks.watchers import NO_HUB

SETTLE = 4.0
"""Seconds after which launches that nobody watches are given up and forgotten here."""


async def run(bench: Bench) -> None:
    number = 200 if bench.quick else 2000
    table = Table(
        f"Memory of {number} idle watchers, each of a launch of its own that waits for one build",
        ("", "before", "with them", "per watcher", "after", "with as many again", "given back"),
        "less than 30 KiB per watcher, given back when they leave",
    )
    for contender in bench.contenders:
        table.add(contender.name, *await measure(bench, contender, number))
    table.note("resident memory of the service")
    table.show()


async def measure(bench: Bench, contender: Contender, number: int) -> list[str]:
    """Let a crowd come, go, and come again."""
    config = (
        {} if contender.is_peer else {"Launcher__abandon_timeout": 1.0, "Launcher__finished_retention": 1.0}
    )
    async with bench.service(contender, NO_HUB, **config) as service:
        hold = f"never-{contender.module}"
        url = service.build_url(name=hold, hold=hold)
        # code that is loaded at its first use belongs to nobody
        async with crowd(url, 10):
            pass
        await asyncio.sleep(SETTLE)
        before = service.memory
        during = await visit(service, url, number)
        after = service.memory
        again = await visit(service, url, number)
        (bench.state / hold).touch()
    each = (during - before) / number
    back = (during - after) / (during - before) if during > before else 1.0
    sizes = [f"{size / 2**20:.1f} MiB" for size in (before, during, after, again)]
    return [*sizes[:2], f"{each / 1024:.1f} KiB", *sizes[2:], f"{back:.0%}"]


async def visit(service: Service, url: str, number: int) -> int:
    """Let a crowd come and go. Returns the service's memory while it was there."""
    async with crowd(url, number) as people:
        await asyncio.sleep(1)
        during = service.memory
        await people.leave()
    await asyncio.sleep(SETTLE)
    return during
