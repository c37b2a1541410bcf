"""The watchdog on a real cluster: with the chart's ServiceAccount, beside a real JupyterHub."""

import asyncio
import contextlib
import json
from types import SimpleNamespace
from urllib.parse import urlsplit

import aiohttp
import pytest
from kubernetes_asyncio import client, config

from binderhub_ext.watchdog.cluster import COMPONENT, Cluster, ClusterTrouble
from binderhub_ext.watchdog.history import RestartHistory
from binderhub_ext.watchdog.lease import Lease
from tests.support.cluster import NOBODY, SERVER, needs_cluster, new_namespace
from tests.support.cluster_hub import LABELS, ClusterHub, server_pod
from tests.support.fault_proxy import FaultProxy
from tests.support.kube_pods import running_status
from tests.support.proxy_faults import Stalled
from tests.support.watch_chart import CHART, IMAGE, helm
from tests.support.watch_hub_process import until
from tests.support.watch_process import scaled_values, watchdog_process

pytestmark = [needs_cluster, pytest.mark.timeout(180)]

NAME = "care-binderhub-ext-watchdog"
SPEED = 20
SERVERS, HUB = "component=singleuser-server", "app=jupyterhub,component=hub"


@pytest.fixture
async def namespace():
    async with new_namespace() as namespace:
        yield namespace


@pytest.fixture
async def hub(namespace, tmp_path):
    """A Hub that reaches the API server through `hub.proxy`."""
    async with FaultProxy(urlsplit(SERVER).port) as proxy:
        async with ClusterHub(namespace, tmp_path, proxy.url.rstrip("/")) as hub:
            hub.proxy = proxy
            yield hub


async def install(namespace, *values):
    """Install the chart; its own pod is kept from running, because the test runs the watchdog."""
    nowhere = ("--set", f"watchdog.nodeSelector.kubernetes\\.io/hostname={NOBODY}")
    done = await asyncio.to_thread(
        helm,
        "install",
        "care",
        CHART,
        *IMAGE,
        "--namespace",
        namespace.name,
        "--set",
        "binder.url=",
        *nowhere,
        *values,
    )
    assert done.returncode == 0, done.stderr


@contextlib.asynccontextmanager
async def clients(namespace, folder):
    """Yield the watchdog's own parts, which speak as the chart's ServiceAccount, and a session that does."""
    path = await namespace.kubeconfig(folder, NAME)
    configuration = client.Configuration()
    await config.load_kube_config(str(path), client_configuration=configuration)
    async with client.ApiClient(configuration) as api:

        async def status(method, path, body=None):
            headers = {
                "Content-Type": "application/merge-patch+json" if method == "PATCH" else "application/json"
            }
            headers |= {"Authorization": configuration.api_key["BearerToken"]}
            answer = await api.rest_client.pool_manager.request(
                method, configuration.host + path, json=body, headers=headers
            )
            return answer.status

        yield SimpleNamespace(
            status=status,
            cluster=Cluster(api, namespace.name, SERVERS, HUB),
            lease=Lease(api, namespace.name, NAME, "watchdog-1", RestartHistory()),
            other=Lease(api, namespace.name, NAME, "watchdog-2", RestartHistory()),
        )


async def running_pod(namespace, name, labels):
    pod = server_pod(name)
    pod["metadata"]["labels"] = labels
    made = await namespace.create("pods", pod)
    return await namespace.set_status("pods", name, running_status(made, "10.0.0.1"))


async def told(namespace):
    """Return the watchdog's Events, the oldest first."""
    events = await namespace.items("events")
    ours = [e for e in events if e["source"].get("component") == COMPONENT]
    return sorted(ours, key=lambda e: int(e["metadata"]["resourceVersion"]))


async def test_the_charts_rights_are_enough_for_all_that_the_watchdog_does(namespace, tmp_path):
    await install(namespace)
    await running_pod(namespace, "hub-1", LABELS)
    await running_pod(namespace, "jupyter-ada", {"component": "singleuser-server"})
    async with clients(namespace, tmp_path) as ours:
        view = await ours.cluster.view()
        assert [(p.name, p.running) for p in view.hub_pods] == [("hub-1", True)]
        assert [(p.name, p.ready, p.key.user) for p in view.pods] == [("jupyter-ada", True, "jupyter-ada")]
        assert (await ours.lease.keep(), await ours.other.keep()) == (True, False)
        moment = await ours.lease.note_restart()
        await ours.cluster.event(view.hub_pods[0], "WatchdogRestart", "text " * 300, warning=True)
        await ours.cluster.delete_pod("hub-1", "another-uid")
        assert await namespace.get("pods", "hub-1"), "another pod of the name was meant"
        await ours.cluster.delete_pod("hub-1", view.hub_pods[0].uid)
        assert await namespace.get("pods", "hub-1") is None
        await ours.cluster.delete_pod("hub-1", view.hub_pods[0].uid)  # gone already
        await ours.lease.release()
        assert await ours.other.keep() is True
        assert ours.other.history.written(ours.other.clock.monotonic()) == [moment]
    (event,) = await told(namespace)
    assert event["involvedObject"]["uid"] == view.hub_pods[0].uid
    assert (event["type"], event["reason"], len(event["message"])) == ("Warning", "WatchdogRestart", 1000)
    lease = await namespace.get("leases", NAME)
    assert lease["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"
    assert lease["spec"]["leaseTransitions"] == 2


async def test_the_charts_rights_allow_nothing_else(namespace, tmp_path):
    await install(namespace)
    async with new_namespace() as neighbour, clients(namespace, tmp_path) as ours:
        await running_pod(neighbour, "hub-1", LABELS)
        await running_pod(namespace, "hub-1", LABELS)
        core, coordination = "/api/v1/namespaces", "/apis/coordination.k8s.io/v1/namespaces"
        here, lease = f"{core}/{namespace.name}", {"metadata": {"name": "mine"}}
        allowed = [
            ask
            for ask in [
                ("DELETE", f"{core}/{neighbour.name}/pods/hub-1"),
                ("GET", f"{core}/{neighbour.name}/pods"),
                ("GET", "/api/v1/pods"),
                ("GET", "/api/v1/nodes"),
                ("GET", f"{here}/secrets"),
                ("GET", f"{here}/secrets/hub"),
                ("GET", f"{here}/configmaps"),
                ("GET", f"{here}/events"),
                ("GET", f"{here}/pods/hub-1"),
                ("GET", f"{here}/pods/hub-1/log"),
                ("POST", f"{here}/pods/hub-1/eviction", {}),
                ("POST", f"{here}/pods", server_pod("mine")),
                ("PATCH", f"{here}/pods/hub-1", {"metadata": {"labels": {"a": "b"}}}),
                ("DELETE", f"{here}/pods"),
                ("POST", f"{core}/{neighbour.name}/events", {}),
                ("POST", f"{here}/serviceaccounts/default/token", {}),
                ("GET", f"{coordination}/{namespace.name}/leases"),
                ("POST", f"{coordination}/{namespace.name}/leases", lease),
                ("GET", f"{coordination}/{namespace.name}/leases/another"),
                ("PUT", f"{coordination}/{namespace.name}/leases/another", lease),
                ("DELETE", f"{coordination}/{namespace.name}/leases/{NAME}"),
                ("GET", f"{coordination}/{neighbour.name}/leases/{NAME}"),
                ("GET", f"/apis/apps/v1/namespaces/{namespace.name}/deployments"),
                ("PATCH", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace.name}/roles/{NAME}", {}),
            ]
            if await ours.status(*ask) != 403
        ]
        assert allowed == []
        assert await ours.status("GET", f"{here}/pods") == 200
        assert await neighbour.get("pods", "hub-1")


async def test_a_lease_that_is_deleted_with_the_release_does_not_come_back(namespace, tmp_path):
    await install(namespace)
    async with clients(namespace, tmp_path) as ours:
        assert await ours.lease.keep() is True
        assert (await namespace.ask("DELETE", "leases", NAME))[0] == 200
        await ours.lease.release()
        assert await ours.lease.keep() is False
    assert await namespace.get("leases", NAME) is None


@contextlib.asynccontextmanager
async def watching(namespace, hub, folder, identity, *arguments):
    """Run a watchdog as the installed chart describes it; yields what asks its pages."""
    folder.mkdir()
    (deployment,) = await namespace.items("deployments", "app.kubernetes.io/component=watchdog")
    settings = await namespace.get("configmaps", NAME)
    async with (
        aiohttp.ClientSession() as session,
        watchdog_process(
            folder,
            deployment["spec"]["template"]["spec"]["containers"][0],
            json.loads(settings["data"]["watchdog_config.json"]),
            *(f"--WatchdogApp.namespace={namespace.name}", f"--WatchdogApp.identity={identity}", *arguments),
            JUPYTERHUB_API_TOKEN=hub.watchdog_token,
            KUBECONFIG=str(await namespace.kubeconfig(folder, NAME)),
        ) as pages,
    ):

        async def page(path):
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with session.get(pages + path) as answer:
                    return await answer.json()
            return {}  # not started yet

        yield page


async def install_fast(namespace, hub, *values):
    await install(
        namespace,
        "--skip-schema-validation",
        *scaled_values(SPEED),
        "--set",
        f"hub.apiUrl={hub.api_url}",
        *values,
    )


async def shows(page, holds, what, seconds=40):
    """Wait until the facts of `/health` are so; return them."""
    facts = {}

    async def so():
        facts.update(await page("/health"))
        return facts and holds(facts)

    await until(so, seconds, what)
    return facts


async def events_with(namespace, reason):
    """Wait for an Event of this reason."""
    ours = await namespace.until(
        "events", lambda events: any(e["reason"] == reason for e in events), f"an Event {reason}", 60
    )
    return next(e for e in ours if e["reason"] == reason)


async def test_a_hub_that_lost_a_pod_is_restarted_once_by_one_of_two_watchdogs(namespace, hub, tmp_path):
    await install_fast(namespace, hub)
    await hub.start_server("ada")
    await hub.until_ready("ada")
    (first_pod,) = hub.pods
    async with contextlib.AsyncExitStack() as of_first:
        first = await of_first.enter_async_context(watching(namespace, hub, tmp_path / "a", "watchdog-a"))
        await shows(first, lambda f: f["leader"], "the first leads")
        async with watching(namespace, hub, tmp_path / "b", "watchdog-b") as second:
            await shows(second, lambda f: f["ok"], "the second looks")
            stalled = await hub.proxy.add(Stalled(path=r"/pods\?.*watch", size=0, first=1))
            hub.proxy.drop(r"/pods\?.*watch")
            await asyncio.wait_for(stalled.struck.wait(), 20)
            await namespace.ask("DELETE", "pods", "jupyter-ada")
            event = await events_with(namespace, "WatchdogRestart")
            await until(lambda: len(hub.pods) == 2, 20, "the Deployment has replaced the Hub's pod")
            await hub.until_answers()
            await asyncio.sleep(2 * 90 / SPEED)  # twice the bound: neither does it again
            assert (await second("/health"))["leader"] is False
            evidence = await first("/evidence") + await second("/evidence")
            await of_first.aclose()
            facts = await shows(second, lambda f: f["leader"], "the second leads")
            assert facts["restarts_in_last_day"] == 1
    assert event["involvedObject"]["uid"] == first_pod["metadata"]["uid"]
    assert "ghost" in event["message"]
    assert hub.deleted.count(first_pod["metadata"]["name"]) == 1
    assert len(hub.pods) == 2
    assert [r["decision"]["sign"] for r in evidence if r["kind"] == "before"] == ["ghost"]
    assert [e["reason"] for e in await told(namespace)].count("WatchdogRestart") == 1
    assert await hub.server("ada") is None, "the new Hub sees that the pod is gone"


async def test_a_pod_that_the_hub_does_not_know_is_deleted_when_configured(namespace, hub, tmp_path):
    await install_fast(namespace, hub, "--set", "watchdog.deleteOrphans=true")
    await hub.start_server("ada")
    await hub.until_ready("ada")
    await namespace.create("pods", server_pod("jupyter-nobody"))
    async with watching(namespace, hub, tmp_path / "a", "watchdog-a") as page:
        await namespace.until(
            "pods",
            lambda pods: pods and "jupyter-nobody" not in {p["metadata"]["name"] for p in pods},
            "the orphan is deleted",
            60,
        )
        await shows(page, lambda f: f["seen"]["pods"] == 1, "the watchdog sees the one that is left")
        records = await page("/evidence")
    assert [r["kind"] for r in records] == ["orphan"]
    assert hub.deleted == ["jupyter-nobody"]
    assert (await hub.server("ada"))["ready"] is True


async def test_a_dry_run_tells_and_deletes_nothing(namespace, hub, tmp_path):
    """Also where it had the rights."""
    await install_fast(namespace, hub, "--set", "watchdog.deleteOrphans=true")
    await namespace.create("pods", server_pod("jupyter-nobody"))
    async with watching(namespace, hub, tmp_path / "a", "watchdog-a", "--dry-run") as page:
        await shows(page, lambda f: "orphan" in f["stands"], "the orphan is found")
        hub.freeze()
        event = await events_with(namespace, "WatchdogWouldRestart")
        await shows(page, lambda f: f["decision"]["action"] == "held_cooldown", "the round after it")
    assert event["involvedObject"]["uid"] == hub.pods[0]["metadata"]["uid"]
    assert hub.deleted == []
    assert len(hub.pods) == 1


async def test_a_release_that_runs_dry_may_not_delete(namespace, tmp_path):
    await install(namespace, "--set", "watchdog.deleteOrphans=true", "--set", "watchdog.dryRun=true")
    pod = await running_pod(namespace, "hub-1", LABELS)
    async with clients(namespace, tmp_path) as ours:
        with pytest.raises(ClusterTrouble) as refused:
            await ours.cluster.delete_pod("hub-1", pod["metadata"]["uid"])
    assert refused.value.status == 403
    assert await namespace.get("pods", "hub-1")
