"""A quota is counted in pods: what a launch is told when they are too many, or cannot be counted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from binderhub_ext.errors import LaunchError
from binderhub_ext.upstream import IS_MAIN, Upstream
from tests.support.binderhub_cluster import in_cluster, repository
from tests.support.kube_api import Fault, KubeAPI, Rule


@pytest_asyncio.fixture
async def api() -> AsyncIterator[KubeAPI]:
    async with KubeAPI() as server:
        yield server


@pytest_asyncio.fixture
async def upstream(api: KubeAPI, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Upstream]:
    async with in_cluster(api, monkeypatch, per_repo_quota=1) as upstream:
        if IS_MAIN:
            from binderhub.quota import KubernetesLaunchQuota

            settings = upstream._settings
            settings["launch_quota"] = KubernetesLaunchQuota(executor=settings["executor"])
        yield upstream


async def code(upstream: Upstream) -> tuple[str, bool]:
    """Return how a check ends, and whether it is worth another try."""
    try:
        await upstream.check_quota(replace(repository("a"), image_name="example/image:abc123"))
    except LaunchError as error:
        return error.code, error.transient
    return "room", False


async def test_a_quota_counts_the_servers_of_a_repository(api, upstream):
    assert await code(upstream) == ("room", False)
    api.create_pod("jupyter-ada")
    assert await code(upstream) == ("quota.repo", False)


@pytest.mark.parametrize(
    "fault, expected",
    [
        (Rule(Fault.ERROR, verb="list", code=500), ("cluster.unreachable", True)),
        (Rule(Fault.ERROR, verb="list", code=429), ("cluster.unreachable", True)),
        (Rule(Fault.ERROR, verb="list", code=403), ("start.forbidden", False)),
        (Rule(Fault.RESET, verb="list"), ("cluster.unreachable", True)),
        (Rule(Fault.TRUNCATED, verb="list"), ("cluster.unreachable", True)),
        (Rule(Fault.NOT_JSON, verb="list"), ("cluster.unreachable", True)),
    ],
    ids=lambda value: f"{value.fault.value} {value.code}" if isinstance(value, Rule) else value[0],
)
async def test_pods_that_cannot_be_counted_are_the_clusters_error(api, upstream, fault, expected):
    api.faults.add(fault)
    assert await code(upstream) == expected


async def test_an_api_server_that_is_gone_is_the_clusters_error(api, upstream):
    await api.refuse()
    assert await code(upstream) == ("cluster.unreachable", True)
