"""The reflector beside KubeSpawner's, in one run: requests, bytes, blocked event loop, deletions noticed.

Each reflector runs in a process of its own against the API server of the tests, which is another. Both have
their default configuration. Pods are 8 kB of JSON, as those of mybinder.org are.

    python -m benchmarks.reflector [--sizes 200 1000 5000] [--seconds 25]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import aiohttp

PODS = "/api/v1/namespaces/default/pods"
POD_BYTES = 8000
SILENT_LIMIT = 75.0
"""Seconds after which a silent watch counts as never noticed: the stock reflector needs up to 60."""


@dataclass
class Result:
    """What one reflector did.

    Attributes
    ----------
    requests, megabytes : float
        In a minute of steady state, after the first list.
    blocked_first, blocked : float
        Milliseconds: the longest block of the event loop during the first list, and after it.
    noticed, noticed_silent : float
        Seconds from a pod's deletion to the cache's: with a working watch, and with one that went silent.
    """

    requests: float
    megabytes: float
    blocked_first: float
    blocked: float
    noticed: float
    noticed_silent: float


class Blocks:
    """Measures for how long the event loop is held, in this process's CPU time.

    Other processes on the machine make a sleep end late, too, but use no CPU time of this one.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            before = time.process_time()
            await asyncio.sleep(0.001)
            self.longest = max(self.longest, time.process_time() - before)

    def take(self) -> float:
        """Return the longest block so far in milliseconds, and begin anew."""
        longest, self.longest = self.longest, 0.0
        return longest * 1000

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


async def measure(which: str, url: str, seconds: float, silent: bool) -> Result:
    """Run one reflector, in this process."""
    from kubernetes_asyncio.client import Configuration
    from kubespawner.spawner import PodReflector

    from binderhub_ext.kube.reflector import ReliablePodReflector

    configuration = Configuration()
    configuration.host = url
    Configuration.set_default(configuration)
    cls = {"stock": PodReflector, "ours": ReliablePodReflector}[which]
    reflector = cls(
        labels={"component": "singleuser-server"}, namespace="default", log=logging.getLogger(which)
    )
    async with aiohttp.ClientSession(url) as session:

        async def state() -> dict[str, Any]:
            async with session.get("/_fake/state") as answer:
                found: dict[str, Any] = await answer.json()
                return found

        async def deletion(name: str, limit: float) -> float:
            began = time.perf_counter()
            async with session.delete(f"{PODS}/{name}", json={"gracePeriodSeconds": 0}):
                pass
            while f"default/{name}" in reflector.pods:
                if time.perf_counter() - began > limit:
                    return limit
                await asyncio.sleep(0.005)
            return time.perf_counter() - began

        gc.collect()
        blocks = Blocks()
        await reflector.start()
        await asyncio.sleep(3)  # the stock one lists a second time at once
        blocked_first = blocks.take()
        before, began = await state(), time.perf_counter()
        await asyncio.sleep(seconds)
        after, minutes = await state(), (time.perf_counter() - began) / 60
        blocked = blocks.take()
        await blocks.stop()
        noticed = sorted([await deletion(f"{which}-{number:05}", 30) for number in range(5)])[2]
        noticed_silent = float("nan")
        if silent:
            # watches that are open go silent and stay so; those that are opened after a second work
            await (await session.post("/_fake/faults", json={"fault": "silent"})).read()
            await asyncio.sleep(1)
            await (await session.delete("/_fake/faults")).read()
            noticed_silent = await deletion(f"{which}-00010", SILENT_LIMIT)
        await reflector.stop()
    requests = sum(after["requests"].values()) - sum(before["requests"].values())
    megabytes = (after["bytes"] - before["bytes"]) / 1e6
    return Result(requests / minutes, megabytes / minutes, blocked_first, blocked, noticed, noticed_silent)


def one(which: str, size: int, seconds: float, silent: bool) -> Result:
    """Start an API server with `size` pods and one reflector, and return what it did."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.support.kube_api", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        asyncio.run(_fill(url, which, size))
        arguments = ["--child", which, "--url", url, "--seconds", str(seconds)] + ["--silent"] * silent
        out = subprocess.run(
            [sys.executable, "-m", "benchmarks.reflector", *arguments],
            check=True, capture_output=True, text=True, timeout=seconds + 200,
        ).stdout  # fmt: skip
        return Result(**json.loads(out.splitlines()[-1]))
    finally:
        server.terminate()
        server.wait()


async def _fill(url: str, prefix: str, size: int) -> None:
    async with aiohttp.ClientSession(url) as session:
        body = {"count": size, "prefix": f"{prefix}-", "size": POD_BYTES}
        async with session.post("/_fake/pods", json=body) as answer:
            assert answer.status == 200


def ratio(ours: float, stock: float) -> str:
    return f"{stock / ours:.1f} times less" if ours else "-"


def main(argv: list[str] | None = None) -> int:
    """Print the comparison; return 0 when the aims are met, else 1.

    The aims: no full list in steady state, no block over 20 ms at any size, and a silent watch is
    noticed within 15 s.
    """
    parser = argparse.ArgumentParser(description="The reflector beside KubeSpawner's")
    parser.add_argument("--sizes", type=int, nargs="+", default=[200, 1000, 5000])
    parser.add_argument("--seconds", type=float, default=25, help="of steady state")
    parser.add_argument("--child", choices=["stock", "ours"], help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--silent", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        result = asyncio.run(measure(options.child, options.url, options.seconds, options.silent))
        print(json.dumps(asdict(result)))
        return 0
    missed = []
    print("reflector: steady state of one cache, per minute; blocks are the longest of the event loop")
    head = (
        f"{'pods':>6} {'':6} {'requests':>9} {'MB':>8} {'block ms':>9} {'first list':>11} {'deletion s':>11}"
    )
    print(head + f" {'silent s':>9}")
    for number, size in enumerate(options.sizes):
        results = {which: one(which, size, options.seconds, number == 0) for which in ("stock", "ours")}
        for which, r in results.items():
            silent = f"{r.noticed_silent:9.1f}" if r.noticed_silent == r.noticed_silent else f"{'':9}"
            steady = f"{size:6} {which:6} {r.requests:9.1f} {r.megabytes:8.3f} {r.blocked:9.1f}"
            print(f"{steady} {r.blocked_first:11.1f} {r.noticed:11.3f} {silent}", flush=True)
        stock, ours = results["stock"], results["ours"]
        block = ratio(max(ours.blocked, ours.blocked_first), max(stock.blocked, stock.blocked_first))
        requests, sent = ratio(ours.requests, stock.requests), ratio(ours.megabytes, stock.megabytes)
        print(f"{'':6} ratio  requests {requests}, bytes {sent}, longest block {block}")
        if ours.megabytes > 0.1:
            missed.append(f"{size} pods: {ours.megabytes:.1f} MB a minute in steady state")
        if max(ours.blocked, ours.blocked_first) > 20:
            missed.append(f"{size} pods: a block of {max(ours.blocked, ours.blocked_first):.0f} ms")
        if ours.noticed_silent > 15:
            missed.append(f"a silent watch noticed after {ours.noticed_silent:.0f} s")
    for line in missed:
        print(f"reflector: aim missed: {line}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
