"""The Hub's cache of pods: see `reflector`, which can be run on its own, too."""

from __future__ import annotations

import asyncio

from benchmarks.reflector import main
from benchmarks.services import Bench


async def run(bench: Bench) -> None:
    arguments = ["--sizes", "200", "--seconds", "5"] if bench.quick else []
    await asyncio.to_thread(main, arguments)
