"""A crowd of readers in a process of its own, so that they take no time from the service's.

``python -m benchmarks.crowd URL NUMBER`` opens the streams, prints ``connected``, and
waits for a line on its input: ``follow`` reads to the end of all streams (at most LIMIT
seconds more) and prints what came, as JSON; ``leave`` hangs up.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.measure import percentile
from benchmarks.reader import END, Reader
from tests.support.processes import ROOT

LIMIT = 60.0
AT_ONCE = 100
FIRST = b'"phase": "waiting"'


async def stay(url: str, number: int) -> None:
    """Be the crowd."""
    line: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_reader(
        sys.stdin, lambda: line.done() or line.set_result(sys.stdin.readline())
    )
    readers: list[Reader] = []
    for begin in range(0, number, AT_ONCE):
        wave = [await Reader(url).open() for _ in range(min(AT_ONCE, number - begin))]
        await asyncio.gather(*(reader.until(FIRST) for reader in wave))
        readers += wave
    gc.collect()
    gc.freeze()
    gc.disable()
    print("connected", flush=True)
    if (await line).strip() == "follow":
        ends = [reader.until(*END) for reader in readers]
        await asyncio.wait(ends, timeout=LIMIT)
        print(json.dumps(summary(readers)), flush=True)
    for reader in readers:
        reader.close()


def summary(readers: list[Reader]) -> dict[str, Any]:
    """Say what came: how many got each line, and how late the first and the last of them did."""
    logged: dict[int, float] = {}
    arrived: dict[int, list[float]] = {}
    sequences: list[list[int]] = []
    for reader in readers:
        numbers = []
        for at, event in reader.events():
            number, _, moment = str(event.get("message", "")).strip().partition(" ")
            if event["phase"] == "building" and number.isdigit():
                numbers.append(int(number))
                logged.setdefault(int(number), float(moment))
                arrived.setdefault(int(number), []).append(at)
        sequences.append(numbers)
    lags = [at - logged[number] for number, times in arrived.items() for at in times]
    return {
        "lines": len(logged),
        "complete": sum(numbers == list(range(len(logged))) for numbers in sequences) if logged else 0,
        "in_order": sum(numbers == sorted(set(numbers)) for numbers in sequences),
        "spread": [max(times) - min(times) for times in arrived.values()],
        "lag_median": percentile(lags, 50),
        "lag_worst": max(lags, default=float("nan")),
    }


@dataclass
class Crowd:
    """A crowd that stays until it is told otherwise."""

    process: asyncio.subprocess.Process

    async def follow(self) -> dict[str, Any]:
        """Read to the end. Returns what `summary` says."""
        await self._say("follow")
        return json.loads(await self._hear())

    async def leave(self) -> None:
        """Hang up."""
        await self._say("leave")
        await self.process.wait()

    async def _say(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word.encode() + b"\n")
        await self.process.stdin.drain()

    async def _hear(self) -> str:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            raise RuntimeError("the readers ended early")
        return line.decode()


@asynccontextmanager
async def crowd(url: str, number: int) -> AsyncIterator[Crowd]:
    """Run a crowd; yields when all of its streams have begun."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.crowd", url, str(number),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT, limit=1 << 24,
    )  # fmt: skip
    try:
        people = Crowd(process)
        await people._hear()
        yield people
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


if __name__ == "__main__":
    asyncio.run(stay(sys.argv[1], int(sys.argv[2])))
