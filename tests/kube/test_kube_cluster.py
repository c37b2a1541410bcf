"""The real Hub, spawner and reflector on a cluster, behind a proxy that fails on purpose.

The cluster is the API server of the tests, or the one that `KUBE_TEST_SERVER` names (`make test-kubernetes`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from kubernetes_asyncio.client import Configuration

from binderhub_ext.kube.reflector import ReliablePodReflector
from tests.support.cluster_node import MERGE, SCHEDULER, ClusterNode
from tests.support.fault_proxy import FaultProxy
from tests.support.kube_api import KubeAPI
from tests.support.kube_hub import OURS, HubProcess
from tests.support.proxy_faults import Down, Garbage, Status, Timeout, Truncated

REAL = os.environ.get("KUBE_TEST_SERVER", "")
INACTIVITY, LONGEST_WAIT = 2.0, 0.5
LABELS = {"component": "singleuser-server"}


@pytest.fixture
async def cluster():
    """A namespace with a node, `proxy` before the API server, and what a Hub has to know of it."""
    async with contextlib.AsyncExitStack() as stack:
        url = REAL or (await stack.enter_async_context(KubeAPI(bookmark_interval=0.5))).url
        namespace = f"binderhub-ext-{secrets.token_hex(4)}"
        node = await stack.enter_async_context(ClusterNode(url, namespace))
        proxy = await stack.enter_async_context(FaultProxy(urlsplit(url).port))
        status, _ = await node.ask("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        assert status == 201
        account = {"metadata": {"name": "default"}}
        await node.ask("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
        config = f"c.KubeSpawner.namespace = {namespace!r}\nc.KubeSpawner.scheduler_name = {SCHEDULER!r}\n"
        yield SimpleNamespace(proxy=proxy, node=node, namespace=namespace, config=OURS + config)
        for name in await node.pods():
            await node.delete(name)
        await node.ask("DELETE", f"/api/v1/namespaces/{namespace}")


async def eventually(condition, seconds):
    """Return as soon as an awaitable condition holds; fail when it does not within this time."""
    end = asyncio.get_running_loop().time() + seconds
    while not await condition():
        assert asyncio.get_running_loop().time() < end, f"not within {seconds} s"
        await asyncio.sleep(0.1)


async def launched(hub, users):
    for user in users:
        await hub.launch(user)
    return await asyncio.gather(*(hub.outcome(user) for user in users))


async def test_servers_start_outlive_the_hub_and_end_with_their_pods(cluster, tmp_path):
    users = [f"u{number}" for number in range(5)]
    async with HubProcess(tmp_path, cluster.proxy.url, cluster.config) as hub:
        assert all([end.get("ready") for end in await launched(hub, users)])
        assert len(await cluster.node.pods()) == 5
    async with HubProcess(tmp_path, cluster.proxy.url, cluster.config) as hub:
        assert all([(await hub.server(user)).get("ready") for user in users])
        for user in users:
            await hub.request("DELETE", f"/users/{user}/server")

        async def nothing_left():
            servers = [await hub.server(user) for user in users]
            return not any(servers) and not await cluster.node.pods()

        await eventually(nothing_left, 20)


async def test_while_the_api_server_is_away_nobody_loses_a_server_and_then_what_ended_is_noticed(
    cluster, tmp_path
):
    async with HubProcess(tmp_path, cluster.proxy.url, cluster.config) as hub:
        assert all([end.get("ready") for end in await launched(hub, ["ada", "bob"])])
        async with cluster.proxy.on(Down()):
            ended = next(name for name in await cluster.node.pods() if "ada" in name)
            await cluster.node.delete(ended)
            await asyncio.sleep(4)  # four polls of every server
            assert await hub.server("ada") and await hub.server("bob")

        async def noticed():
            return not await hub.server("ada")

        await eventually(noticed, 10)
        assert (await hub.server("bob")).get("ready")


async def test_an_api_server_that_hangs_in_the_middle_of_launches(cluster, tmp_path):
    users = [f"u{number}" for number in range(4)]
    async with HubProcess(tmp_path, cluster.proxy.url, cluster.config) as hub:
        assert (await launched(hub, ["before"]))[0].get("ready")
        cluster.node.going.clear()
        for user in users[:2]:
            await hub.launch(user)
        async with cluster.proxy.on(Timeout()):
            cluster.proxy.drop()
            for user in users[2:]:
                await hub.launch(user)
            outcomes = [asyncio.ensure_future(hub.outcome(user)) for user in users]
            await asyncio.sleep(8)  # longer than the start timeout
        cluster.node.going.set()
        for end in await asyncio.gather(*outcomes):
            assert end.get("ready") or (end.get("failed") and end.get("message")), end

        async def consistent():
            servers = {user: await hub.server(user) for user in ["before", *users]}
            have = sorted(f"jupyter-{user}" for user, server in servers.items() if server.get("ready"))
            pods = sorted(name.split("--")[0] for name in await cluster.node.pods())
            return not any(server.get("pending") for server in servers.values()) and have == pods

        await eventually(consistent, 30)
        assert (await hub.server("before")).get("ready")
        assert (await launched(hub, ["late"]))[0].get("ready")


def make_reflector(cluster, **more):
    configuration = Configuration()
    configuration.host = cluster.proxy.url.rstrip("/")
    Configuration.set_default(configuration)
    limits = {"timeout_seconds": 2, "request_timeout": 5, "page_size": 3}
    limits |= {"backoff_limit": LONGEST_WAIT, "inactivity_seconds": INACTIVITY, **more}
    return ReliablePodReflector(labels=LABELS, namespace=cluster.namespace, **limits)


def a_pod(name):
    container = {"name": "notebook", "image": "example/image:1"}
    spec = {"schedulerName": "nobody", "containers": [container], "automountServiceAccountToken": False}
    return {"metadata": {"name": name, "labels": LABELS}, "spec": spec}


async def change(node, what, name):
    path = f"{node.pods_path}/{name}"
    if what == "create":
        await node.ask("POST", node.pods_path, a_pod(name))
    elif what == "touch":
        annotations = {"touched": secrets.token_hex(2)}
        await node.ask("PATCH", path, {"metadata": {"annotations": annotations}}, MERGE)
    else:
        await node.delete(name)


@pytest.mark.parametrize("seed", range(3))
async def test_the_cache_equals_the_cluster_within_the_inactivity_limit_after_any_fault(cluster, seed):
    dice, names = random.Random(seed), [f"p{number}" for number in range(6)]
    reflector = make_reflector(cluster)
    faults = [
        lambda: Down(),
        lambda: Timeout(),
        lambda: Status(status=500),
        lambda: Status(status=410, path="watch=True"),
        lambda: Garbage(),
        lambda: Truncated(size=dice.randrange(200)),
    ]
    await reflector.start()
    most = 0
    try:
        for _ in range(8):
            async with cluster.proxy.on(dice.choice(faults)()):
                cluster.proxy.drop()
                for _ in range(5):
                    await change(
                        cluster.node, dice.choice(["create", "create", "touch", "delete"]), dice.choice(names)
                    )
                await asyncio.sleep(dice.choice([0.0, 0.3, 1.0]))
            pods = await cluster.node.pods()
            wanted = {name: pod["metadata"]["resourceVersion"] for name, pod in pods.items()}

            async def right(wanted=wanted):
                found = {key.partition("/")[2]: pod for key, pod in reflector.resources.items()}
                return wanted == {name: pod["metadata"]["resourceVersion"] for name, pod in found.items()}

            await eventually(right, INACTIVITY + LONGEST_WAIT)
            most = max(most, len(wanted))
        assert most >= 3
    finally:
        await reflector.stop()


async def test_a_quiet_namespace_is_kept_current_by_bookmarks(cluster):
    """The cluster goes on elsewhere; without bookmarks the resource version here would become too old."""
    reflector = make_reflector(cluster, timeout_seconds=10, inactivity_seconds=15)
    await reflector.start()
    try:
        first = int(reflector.cache.version)
        elsewhere = {"metadata": {"name": f"{cluster.namespace}-other"}, "data": {}}
        path = f"/api/v1/namespaces/{cluster.namespace}/configmaps"
        _, made = await cluster.node.ask("POST", path, elsewhere)
        wanted = int(made["metadata"]["resourceVersion"])
        assert wanted > first

        async def moved_on():
            return int(reflector.cache.version) >= wanted

        await eventually(moved_on, 14)
    finally:
        await reflector.stop()
