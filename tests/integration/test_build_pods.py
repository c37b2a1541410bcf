"""BinderHub's builder before an API server: a build that is given up leaves no pod, one that is handed over does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from binderhub_ext.errors import LaunchError
from binderhub_ext.launch.build import Build
from binderhub_ext.launch.builds import Builds
from binderhub_ext.launch.settings import Launcher
from binderhub_ext.timing import SYSTEM_CLOCK, Clock, Deadline
from binderhub_ext.upstream import Upstream
from tests.support.binderhub_cluster import in_cluster, repository
from tests.support.clock import PatientClock
from tests.support.kube_api import Fault, KubeAPI, Rule


@pytest_asyncio.fixture
async def api() -> AsyncIterator[KubeAPI]:
    async with KubeAPI() as server:
        yield server


@pytest_asyncio.fixture
async def upstream(api: KubeAPI, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Upstream]:
    async with in_cluster(api, monkeypatch) as upstream:
        yield upstream


def builds(upstream: Upstream, clock: Clock = SYSTEM_CLOCK, **settings: object) -> Builds:
    return Builds(upstream, Launcher(**settings), clock, slots=4)


async def until(api: KubeAPI, holds: Callable[[], bool]) -> None:
    """Wait until something holds that changes with what the API server has."""
    changed = asyncio.Event()
    api.store.listeners.add(changed.set)
    deadline = Deadline.after(10)
    try:
        while not holds():
            changed.clear()
            await deadline.wait_for(changed.wait())
    finally:
        api.store.listeners.discard(changed.set)


async def until_pods(api: KubeAPI, *names: str) -> None:
    """Wait until these are the pods."""
    await until(api, lambda: api.pods() == list(names))


async def begin(api: KubeAPI, builds: Builds) -> tuple[Build, asyncio.Task[None]]:
    """Start a build, and wait until its pod is there."""
    build, task = builds.get(repository("a"), "")
    await until_pods(api, "build-a")
    return build, task


async def test_a_build_that_nobody_waits_for_is_stopped_with_its_pod_where_that_is_configured(api, upstream):
    all_builds = builds(upstream, abandon_builds=True)
    all_builds.leave(*await begin(api, all_builds))
    await until_pods(api)
    await all_builds.close()


async def test_a_build_that_takes_too_long_is_stopped_with_its_pod(api, upstream):
    all_builds = builds(upstream, build_timeout=1.0)
    _, task = await begin(api, all_builds)
    with pytest.raises(LaunchError, match="build.timeout"):
        await task
    await until_pods(api)
    await all_builds.close()


@pytest.mark.parametrize("how", ["the service stops", "its last reader leaves"])
async def test_a_build_that_others_may_wait_for_keeps_its_pod(api, upstream, how):
    all_builds = builds(upstream)
    build, task = await begin(api, all_builds)
    if how == "the service stops":
        await all_builds.close()
    else:
        all_builds.leave(build, task)
    await asyncio.wait({task})
    assert task.cancelled() and not all_builds._removals
    assert api.pods() == ["build-a"] and not api.received("delete")


async def test_a_deletion_that_fails_is_tried_again(api, upstream):
    all_builds = builds(upstream, PatientClock(), abandon_builds=True)
    started = await begin(api, all_builds)
    api.faults.add(Rule(Fault.ERROR, verb="delete", times=3))
    all_builds.leave(*started)
    await until_pods(api)
    await all_builds.close()


async def test_a_pod_that_cannot_be_deleted_is_told_in_the_log(api, upstream, caplog):
    all_builds = builds(upstream, PatientClock(), abandon_builds=True)
    started = await begin(api, all_builds)
    api.faults.add(Rule(Fault.ERROR, verb="delete", code=403))
    with caplog.at_level(logging.ERROR):
        all_builds.leave(*started)
        await asyncio.wait({started[1]})
        await asyncio.wait_for(asyncio.gather(*all_builds._removals.values()), 10)
    (record,) = [record for record in caplog.records if record.name == "tornado.application"]
    assert "build-a was given up" in record.getMessage() and "403" in record.getMessage()
    assert len(api.received("delete")) > 5


async def test_who_wants_the_image_next_does_not_join_the_build_that_is_being_deleted(api, upstream):
    all_builds = builds(upstream, abandon_builds=True)
    started = await begin(api, all_builds)
    api.faults.add(Rule(Fault.HANG, verb="delete"))
    all_builds.leave(*started)
    await asyncio.wait({started[1]})
    _, task = all_builds.get(repository("a"), "")
    with pytest.raises(asyncio.TimeoutError):
        # it would have asked by now
        await asyncio.wait_for(asyncio.shield(task), 0.5)
    assert len(api.received("create")) == 1
    api.faults.clear()
    await until(api, lambda: len(api.received("create")) == 2 and api.pods() == ["build-a"])
    assert not task.done()
    await all_builds.close()


async def test_a_pod_that_is_made_in_the_moment_in_which_its_build_is_given_up_is_deleted_too(api, upstream):
    creation = api.faults.add(Rule(Fault.DELAY, verb="create", seconds=0.5))
    all_builds = builds(upstream, abandon_builds=True)
    build, task = all_builds.get(repository("a"), "")
    await creation.seen.wait()
    all_builds.leave(build, task)
    await asyncio.wait({task})
    (removal,) = all_builds._removals.values()
    await asyncio.wait_for(removal, 60)
    assert api.pods() == [] and len(api.received("delete")) >= 2
