"""2017-09-29: the Hub lost its pods' events, and nothing recovered until a person deleted its pod.

Today's JupyterHub and KubeSpawner as they are; the watchdog as the chart installs it: its own process, the rendered
configuration, the rendered rights.
"""

import asyncio
import contextlib
import json

import aiohttp
import pytest

from tests.support.kube_api import LEASES, PODS, Fault, KubeAPI, Rule
from tests.support.kube_pods import PodController
from tests.support.kube_rbac import RBACProxy
from tests.support.watch_chart import one, render
from tests.support.watch_hub import HubDeployment, free_port, until
from tests.support.watch_process import scaled_values, watchdog_process
from tests.support.watch_run import watching

pytestmark = pytest.mark.minutes

START_TIMEOUT = 60
"""Seconds after which the Hub gives the start up."""

WITHIN = 120
"""Seconds from an API server that is well again to a launch that succeeds."""


@contextlib.asynccontextmanager
async def installed(api, hub, folder, speed, *more):
    """Run the watchdog as the chart does; yields the address of its pages and the proxy that judges its rights."""
    # the schema forbids a cooldown under a minute, which a fast test needs
    objects = render("--skip-schema-validation", *scaled_values(speed), *more, "--set", f"hub.apiUrl={hub.api_url}",
                     "--set", "binder.url=", namespace="default")  # fmt: skip
    config = json.loads(one(objects, "ConfigMap", "-watchdog")["data"]["watchdog_config.json"])
    deployment = one(objects, "Deployment")["spec"]["template"]["spec"]
    create_leases(api, objects)
    async with RBACProxy(api.url, objects, deployment["serviceAccountName"]) as rights:
        # what the pod's surroundings give it: the API server's address and its namespace
        where = (f"--WatchdogApp.api_server={rights.url}", "--WatchdogApp.namespace=default")
        token = {"JUPYTERHUB_API_TOKEN": hub.watchdog_token}
        async with watchdog_process(folder, deployment["containers"][0], config, *where, **token) as pages:
            yield pages, rights


def create_leases(api, objects):
    for item in objects:
        if item["kind"] == "Lease":
            api.store.create(LEASES, "default", item)


async def get(url):
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.json()


@pytest.mark.timeout(300)
async def test_the_incident_ends_without_a_person_within_two_minutes(tmp_path):
    """In real time: no time of the watchdog is scaled, and nearly all of it is waiting."""
    async with contextlib.AsyncExitStack() as stack:
        api = await stack.enter_async_context(KubeAPI())
        await stack.enter_async_context(PodController(api, serve=True, delay=0.02))
        hang = api.faults.add(Rule(Fault.HANG, verb="list", plural="pods", times=1))
        hub = await stack.enter_async_context(
            HubDeployment(api, tmp_path, config={"KubeSpawner.start_timeout": START_TIMEOUT})
        )
        # the API server hangs while the Hub lists its pods, until the Hub's start timeout; then it is well again
        await hub.start_server("ada")
        await asyncio.wait_for(hang.seen.wait(), 10)
        pages, rights = await stack.enter_async_context(installed(api, hub, tmp_path, 1))

        async def stopping():
            server = await hub.server("ada")
            return server and server["pending"] == "stop"

        await until(stopping, START_TIMEOUT + 30, "the Hub has given the start up, and is stopping")
        api.faults.clear()
        loop = asyncio.get_running_loop()
        well = loop.time()

        await until(lambda: hub.starts == 2, WITHIN, "the Hub is restarted")
        await hub.until_answers()
        restarted = loop.time() - well
        await hub.start_server("bob")
        await hub.until_ready("bob", 30)
        launched = loop.time() - well
        await until(lambda: hub.gone("ada"), 20, "the stuck server is gone")

        facts = await get(f"{pages}/health")
        evidence = await get(f"{pages}/evidence")
        decided = next(r for r in evidence if r["kind"] == "before")
    print(f"Hub restarted and answering after {restarted:.1f} s, a launch succeeded after {launched:.1f} s")
    assert launched < WITHIN
    assert decided["decision"]["sign"] == "stop_stuck"
    assert decided["decision"]["reasons"][0]["facts"]["server"] == "ada/"
    assert facts["leader"] is True
    assert facts["restarts_in_last_day"] == 1
    assert hub.starts == 2
    assert rights.refused == []
    assert "Decision restart: stop_stuck" in (tmp_path / "watchdog.log").read_text()


@pytest.mark.timeout(150)
async def test_the_rendered_rights_are_enough_and_not_more(tmp_path):
    """Every verb that the chart grants is used in one life of a watchdog, and none beside them is asked for."""
    async with contextlib.AsyncExitStack() as stack:
        api = await stack.enter_async_context(KubeAPI())
        await stack.enter_async_context(PodController(api))
        hub = await stack.enter_async_context(HubDeployment(api, tmp_path))
        api.create_pod("jupyter-nobody")
        pages, rights = await stack.enter_async_context(
            installed(api, hub, tmp_path, 20, "--set", "watchdog.deleteOrphans=true")
        )
        await until(lambda: "jupyter-nobody" not in api.pods(), 60, "the orphan is deleted")
        hub.freeze()
        await until(lambda: hub.starts == 2, 60, "the Hub is restarted")
        await hub.until_answers()
        await get(f"{pages}/health")
    assert rights.refused == []
    assert rights.used == rights.granted


@pytest.mark.timeout(60)
async def test_rights_that_are_missing_are_told_and_not_fatal(tmp_path):
    """Without the right to delete pods the Hub is not restarted; the watchdog goes on and says why."""

    class SilentHub:
        api_url, watchdog_token = f"http://127.0.0.1:{free_port()}/hub/api", "token"

    objects = render("--set", "watchdog.dryRun=true", namespace="default")  # its Role has no delete
    lease = one(objects, "Deployment")["metadata"]["name"]
    async with KubeAPI() as api, RBACProxy(api.url, objects, lease) as rights:
        create_leases(api, objects)
        api.store.create(*hub_pod())
        async with watching(api, SilentHub, api_server=rights.url, lease_name=lease) as watchdog:
            await until(
                lambda: "after" in [r["kind"] for r in watchdog.evidence.records], 30, "the failure is kept"
            )
            failed = watchdog.evidence.records[-1]
            rounds = watchdog.last_round
            await until(lambda: watchdog.last_round > rounds, 10, "the watchdog goes on")
    assert "403" in failed["error"]
    assert "hub-1" in api.pods()
    assert rights.refused == ["delete pods hub-1"]


def hub_pod():
    status = {
        "phase": "Running",
        "containerStatuses": [{"name": "hub", "restartCount": 0, "state": {"running": {}}}],
    }
    metadata = {"name": "hub-1", "labels": {"app": "jupyterhub", "component": "hub"}}
    return PODS, "default", {"metadata": metadata, "spec": {"containers": []}, "status": status}
