"""After an outage of the Hub: how soon those who waited have their servers, and what that costs the Hub."""

from __future__ import annotations

import asyncio
import time

from benchmarks.hub_load import clear
from benchmarks.measure import Table, seconds
from benchmarks.reader import LaunchFailed, launch
from benchmarks.services import Bench, HubAddress
from tests.support.fault_proxy import FaultProxy
from tests.support.proxy_faults import Down


async def run(bench: Bench) -> None:
    number, outage = (20, 5.0) if bench.quick else (100, 20.0)
    table = Table(
        f"{number} launches that come during {outage:.0f} s without a Hub",
        ("", "all ready after", "failed", "requests while away", "requests afterwards", "per launch"),
        "all of them end in a server; few requests more than the three that a launch needs",
    )
    async with bench.hub() as hub, FaultProxy(hub.settings["hub_port"]) as proxy:
        address = HubAddress(hub.url, f"{proxy.url}hub/api/", hub.settings["service_token"])
        for contender in bench.contenders:
            await clear(hub)
            async with bench.service(contender, address) as service:
                await launch(service.build_url(name="there"))
                url = service.build_url(name="there")
                down = await proxy.add(Down())
                before = len(proxy.requests)
                waiting = [asyncio.create_task(launch(url)) for _ in range(number)]
                await asyncio.sleep(outage)
                back_at, during = time.monotonic(), len(proxy.requests)
                await proxy.remove(down)
                ends = await asyncio.gather(*waiting, return_exceptions=True)
                took = time.monotonic() - back_at
            failed = sum(isinstance(end, LaunchFailed) for end in ends)
            unexpected = [
                end for end in ends if isinstance(end, BaseException) and not isinstance(end, LaunchFailed)
            ]
            if unexpected:
                raise unexpected[0]
            after = len(proxy.requests) - during
            cells = seconds(took), str(failed), str(during - before), str(after), f"{after / number:.1f}"
            table.add(contender.name, *cells)
        await clear(hub)
    table.note(
        "counted from the first second in which the Hub answers again; failed launches end the count, too"
    )
    table.show()
