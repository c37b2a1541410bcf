"""Very many watchers of one build: each gets every line, in order, at about the same time."""

from __future__ import annotations

from typing import Any

from benchmarks.crowd import crowd
from benchmarks.measure import Table, median, seconds
from benchmarks.services import Bench, Contender, HubAddress

RATE = 20
NO_HUB = HubAddress("http://127.0.0.1:9/", "http://127.0.0.1:9/hub/api/", "token")
"""No launch gets as far as the Hub: the builds fail."""


async def run(bench: Bench) -> None:
    number = 200 if bench.quick else 2000
    lines = 100 if bench.quick else 200
    table = Table(
        f"Watchers of one build that logs {RATE} lines a second, {lines} lines in all",
        ("", "watchers", "got all", "in order", "spread of a line", "lag", "CPU", "a line to one"),
        "all get every line, in order, the last of them within 2 s of the first",
    )
    crowds = [(bench.contenders[0], number)]
    if len(bench.contenders) > 1:
        # with more than 64 of them nobody sees a line before the build has ended
        crowds += [(each, n) for n in (32, 64 if bench.quick else 200) for each in bench.contenders]
    for contender, many in crowds:
        found = await measure(bench, contender, many, lines)
        spread = (
            f"{seconds(median(found['spread']))}, worst {seconds(max(found['spread'], default=float('nan')))}"
        )
        lag = f"{seconds(found['lag_median'])}, worst {seconds(found['lag_worst'])}"
        each = found["cpu"] / (many * lines)
        table.add(
            contender.name, str(many), str(found["complete"]), str(found["in_order"]), spread, lag,
            f"{found['cpu'] / (lines / RATE):.0%}", f"{each * 1e6:.0f} us",
        )  # fmt: skip
    table.note(
        "spread: from the first watcher that has a line to the last; lag: from the line's being logged"
    )
    table.note(
        "CPU: of the service, while the build ran; the last column is its CPU time for one line to one watcher"
    )
    table.show()


async def measure(bench: Bench, contender: Contender, number: int, lines: int) -> dict[str, Any]:
    """Let a crowd watch a build. Returns what it saw (see `crowd.summary`) and the service's CPU seconds."""
    hold = f"go-{contender.module}-{number}"
    async with bench.service(contender, NO_HUB) as service:
        url = service.build_url(name=hold, hold=hold, lines=lines, every=1 / RATE)
        async with crowd(url, number) as people:
            used = service.cpu
            (bench.state / hold).touch()
            found = await people.follow()
            found["cpu"] = service.cpu - used
    return found
