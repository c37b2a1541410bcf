"""Builds that share a few slots: none is lost, whatever ends a build, and nothing about one waits without a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from binderhub_ext.errors import LaunchError
from binderhub_ext.launch.builds import Builds
from binderhub_ext.launch.settings import Launcher
from binderhub_ext.timing import SYSTEM_CLOCK
from binderhub_ext.upstream import BuildPhase, BuildSink
from tests.support.binderhub_cluster import repository


class Builder:
    """Builds until it is told how that ended."""

    def __init__(self, sink: BuildSink) -> None:
        self.sink = sink
        sink.on_status(BuildPhase.RUNNING)

    def submit(self) -> None:
        pass

    def stream_logs(self) -> None:
        pass

    def stop(self) -> None:
        pass


class Upstream:
    def __init__(self) -> None:
        self.build_pool = ThreadPoolExecutor(2)
        self.builders: list[Builder] = []
        self.hangs = False

    async def new_build(self, of: Any, sink: BuildSink, binder_url: str) -> Builder:
        if self.hangs:
            await asyncio.Event().wait()
        self.builders.append(Builder(sink))
        return self.builders[-1]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    yield upstream
    upstream.build_pool.shutdown()


@pytest.mark.parametrize("turns", range(6))
async def test_no_slot_is_lost_however_late_a_build_is_given_up(upstream, turns):
    builds = Builds(upstream, Launcher(), SYSTEM_CLOCK, slots=1)
    first, first_task = builds.get(repository("a"), "")
    await first.running.wait()
    _, second_task = builds.get(repository("b"), "")
    await asyncio.sleep(0)
    first_task.cancel()
    for _ in range(turns):
        await asyncio.sleep(0)
    second_task.cancel()
    await asyncio.wait({first_task, second_task})
    third, _ = builds.get(repository("c"), "")
    await asyncio.wait_for(third.running.wait(), 5)
    await builds.close()


async def test_a_build_that_waits_too_long_for_a_slot_is_told_so_and_keeps_none(upstream):
    builds = Builds(upstream, Launcher(build_slot_timeout=0.05), SYSTEM_CLOCK, slots=1)
    first, _ = builds.get(repository("a"), "")
    await first.running.wait()
    _, second_task = builds.get(repository("b"), "")
    with pytest.raises(LaunchError, match="build.no_slot"):
        await second_task
    await builds.close()
    assert not builds.full


async def test_credentials_that_do_not_come_end_the_build_in_the_registrys_error(upstream):
    upstream.hangs = True
    builds = Builds(upstream, Launcher(image_timeout=0.05), SYSTEM_CLOCK, slots=1)
    _, task = builds.get(repository("a"), "")
    with pytest.raises(LaunchError, match="registry.unreachable"):
        await asyncio.wait_for(task, 5)
    assert not builds.full
