"""A soak: many launches with faults at random; none hangs, nothing is left, the service does not grow.

The short one runs with all tests, the long one with ``make soak``. Both are seeded: the
same launches, the same faults, in the same order.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import Counter
from functools import partial
from typing import Any

import psutil
import pytest

from binderhub_ext.errors import CATALOGUE
from tests.support.lanes import BOUNDS, Lane, watch
from tests.support.proxy_faults import (
    CutEvents,
    Down,
    Garbage,
    Latency,
    LostAnswer,
    ResetPeer,
    Slicer,
    Stalled,
    Status,
    Timeout,
)
from tests.support.stack import Hub, read

LAUNCH_TIMEOUT = 10
SLOWEST = 45.0
"""Seconds after which a launch hangs: all its bounds one after the other, and then some."""

GROWTH = 15.0
"""MB by which the service may grow between the first third and the end: it has caches, and Python's heap."""

LINKS: list[dict[str, Any]] = [
    *[{}] * 6,
    {"lines": 30, "every": 0.01},
    {"spawn": 0.5, "say": "Pulling image"},
    {"flaky": 1},
    {"spawn": "fail"},
    {"spawn": "never"},
    {"failafter": 0.3},
    {"stop": 0.5, "spawn": "never"},
    {"buildfails": 1},
    {"buildcrash": 1},
    {"resolve": "unreachable"},
    {"resolve": "none"},
    {"image": "down-once"},
    {"hook": "no"},
]

BACK = [
    Down,
    partial(Latency, seconds=0.1, jitter=0.1),
    partial(ResetPeer, first=3),
    partial(LostAnswer, method="POST", first=3),
    partial(LostAnswer, method="DELETE", first=3),
    partial(Timeout, first=2),
    partial(Status, status=503, first=5),
    partial(Status, status=500, first=3),
    partial(Status, status=429, retry_after=1, method="POST", first=2),
    partial(Garbage, first=2),
    partial(CutEvents, events=1, path="/progress$", first=5),
    partial(Stalled, events=1, path="/progress$", first=2),
    partial(Slicer, size=40),
]
FRONT = [
    partial(CutEvents, events=2, first=5),
    partial(CutEvents, events=1, reset=True, first=5),
    partial(Slicer, size=100),
    partial(Latency, seconds=0.05),
    Down,
]


async def trouble(lane: Lane, chance: random.Random) -> None:
    """Switch faults on and off, until it is cancelled."""
    try:
        while True:
            proxy, faults = chance.choice([(lane.back, BACK), (lane.back, BACK), (lane.front, FRONT)])
            async with proxy.on(chance.choice(faults)()):
                await asyncio.sleep(chance.uniform(0.1, 0.8))
            await asyncio.sleep(chance.uniform(0.5, 2.0))
    finally:
        await lane.back.clear()
        await lane.front.clear()


async def person(hub: Hub, lane: Lane, number: int, chance: random.Random) -> str:
    """Open a link, and use the server for a moment, or leave before it is there. Returns how it ended."""
    link = dict(chance.choice(LINKS))
    # few repositories: builds are shared, and images there already
    url = lane.url(f"soak{number % 7 if link else number % 3}", **link)
    if chance.random() < 0.1:
        with contextlib.suppress(Exception):
            await read(url, until=lambda event: event["phase"] == "launching", seconds=5)
        return "left"
    last = (await watch(url, seconds=SLOWEST))[-1]
    if last["phase"] == "failed":
        assert last["error"]["code"] in CATALOGUE and last["error"]["code"] != "internal", last
        return last["error"]["code"]
    name = last["url"].rstrip("/").rpartition("/")[2]
    status, user = await hub.request("GET", f"users/{name}")
    assert status == 200 and user["server"], "a server that was told to be ready is there"
    status, _ = await hub.request("DELETE", f"users/{name}")
    assert status in {202, 204}
    return "ready"


async def soak(hub: Hub, launches: int, at_once: int, seed: int) -> Counter[str]:
    lane = await Lane.open(
        hub,
        f"soak-{launches}",
        **BOUNDS,
        Launcher__launch_timeout=LAUNCH_TIMEOUT,
        Launcher__finished_retention=1.0,
    )
    chance = random.Random(seed)
    ends: Counter[str] = Counter()
    sizes: list[float] = []
    process = psutil.Process(lane.service.process.popen.pid)
    numbers = iter(range(launches))

    async def one_after_the_other(of: random.Random) -> None:
        for number in numbers:
            ends[await person(hub, lane, number, of)] += 1
            sizes.append(process.memory_info().rss / 1e6)

    troubles = asyncio.create_task(trouble(lane, random.Random(seed)))
    try:
        await asyncio.gather(*(one_after_the_other(random.Random(chance.random())) for _ in range(at_once)))
        troubles.cancel()
        await asyncio.gather(troubles, return_exceptions=True)
        metrics = await lane.quiet(60)
        assert metrics["binderhub_ext_launches"] == 0, "no launch hangs"
        # who left before the end, or lost a first event, may have a server all the same: it is theirs
        unseen = int(metrics['binderhub_ext_launch_outcomes_total{outcome="ready"}']) - ends["ready"]
        users = await hub.has(unseen, 20)
        assert all(user["servers"][""]["ready"] for user in users), "what did not become ready is gone"
        assert sum(ends.values()) == launches
        assert "Traceback" not in lane.service.process.text
        third = sizes[len(sizes) // 3]
        assert sizes[-1] - third < GROWTH, f"grew from {third:.0f} MB to {sizes[-1]:.0f} MB"
    finally:
        await lane.close()
    print(f"{launches} launches, {third:.0f} -> {sizes[-1]:.0f} MB:", dict(ends.most_common()))
    return ends


async def test_a_short_soak_leaves_nothing(hub):
    ends = await soak(hub, 60, 12, seed=1)
    assert ends["ready"] >= 10 and len(ends) >= 5, ends


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not os.environ.get("SOAK"), reason="make soak runs it: it takes minutes")
async def test_a_long_soak_leaves_nothing(hub):
    ends = await soak(hub, int(os.environ["SOAK"]), 12, seed=2)
    assert ends["ready"] >= int(os.environ["SOAK"]) // 6, ends
