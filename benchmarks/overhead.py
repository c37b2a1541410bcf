"""What the service itself adds to a launch: until `ready` is told, and in all."""

from __future__ import annotations

from urllib.parse import urlsplit

from benchmarks.fake_hub import fake_hub, timings
from benchmarks.measure import Table, median, percentile, ratio, seconds
from benchmarks.reader import launch
from benchmarks.services import Bench, HubAddress, Service


async def run(bench: Bench) -> None:
    times = 50 if bench.quick else 300
    ready = Table(
        "From the Hub's \"ready\" to the `ready` event in the reader's hands",
        ("", "median", "95 %", "ratio"),
        "median below 5 ms",
    )
    cost = Table(
        "The service's own cost of a launch: from GET to `ready`, less the Hub's work",
        ("", "median", "95 %", "CPU", "ratio"),
        "median below 6 ms",
    )
    first: dict[str, float] = {}
    for contender in reversed(bench.contenders):
        async with fake_hub(bench.folder) as hub, bench.service(contender, hub) as service:
            await measure(service, hub, 20, 0)
            for table, spawn in (ready, 0.03), (cost, 0.0):
                used = service.cpu
                told, own = await measure(service, hub, times, spawn)
                used = (service.cpu - used) / times
                values = told if table is ready else own
                middle = median(values)
                cells = [seconds(middle), seconds(percentile(values, 95))]
                cells += [] if table is ready else [seconds(used)]
                table.rows.insert(
                    0, (contender.name, *cells, ratio(middle, first.setdefault(table.title, middle)))
                )
    for table in ready, cost:
        table.note(f"{times} launches, one after the other; ratio to the last row")
        table.show()


async def measure(
    service: Service, hub: HubAddress, times: int, spawn: float
) -> tuple[list[float], list[float]]:
    """Return, for each launch, the seconds from the Hub's ready, and those that were not the Hub's."""
    url = service.build_url(name="there", spawn=spawn)
    launches = [await launch(url) for _ in range(times)]
    work, ready = await timings(hub)
    told, own = [], []
    for reader, at in launches:
        user = urlsplit(reader.last_event()["url"]).path.split("/")[2]
        told.append(at - ready[user])
        own.append(at - reader.asked_at - work[user])
    return told, own
