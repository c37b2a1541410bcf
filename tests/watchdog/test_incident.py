"""2017-09-29: the Hub lost its pods' events, and nothing recovered until a person deleted its pod.

Today's JupyterHub and KubeSpawner as they are; the watchdog as the chart installs it: its own process, the rendered
configuration, the rendered rights.
"""

import asyncio
import contextlib
import json
import os
import sys

import aiohttp
import pytest

from tests.support.kube_api import Fault, KubeAPI, Rule
from tests.support.kube_pods import PodController
from tests.support.kube_rbac import RBACProxy
from tests.support.watch_chart import ROOT, one, render
from tests.support.watch_hub import HubDeployment, free_port, until

pytestmark = pytest.mark.minutes

START_TIMEOUT = 60
"""Seconds after which the Hub gives the start up."""

WITHIN = 120
"""Seconds from an API server that is well again to a launch that succeeds."""


def values(speed):
    """Return the chart's values: the defaults, at this speed."""
    seconds = {
        "interval": 10, "cooldown": 600, "settle": 60, "grace": 20,
        "bounds.start_stuck": 60, "bounds.stop_stuck": 60, "bounds.ghost": 90, "bounds.hub_silent": 60,
        "bounds.orphan": 300,
    }  # fmt: skip
    if speed == 1:
        # the Hub of this test is not up for five minutes yet: its grace is the only thing that is not the default
        return ["--set", "watchdog.grace=20"]
    scaled = [f"--set-json=watchdog.{name}={value / speed}" for name, value in seconds.items()]
    return [*scaled, "--set-json=watchdog.timeout=2.0"]  # a busy machine answers no faster


@contextlib.asynccontextmanager
async def installed(api, hub, folder, speed, *more):
    """Run the watchdog as the chart does; yields the address of its pages and the proxy that judges its rights."""
    # the schema forbids a cooldown under a minute, which a fast test needs
    objects = render("--skip-schema-validation", *values(speed), *more, "--set", f"hub.apiUrl={hub.api_url}",
                     "--set", "binder.url=", namespace="default")  # fmt: skip
    config = json.loads(one(objects, "ConfigMap", "-watchdog")["data"]["watchdog_config.json"])
    container = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    port = free_port()
    # what the pod's surroundings give it: a folder, a port, the API server's address
    config["WatchdogApp"] |= {"evidence_dir": str(folder), "port": port, "ip": "127.0.0.1"}
    (folder / "watchdog_config.json").write_text(json.dumps(config))
    account = one(objects, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"]
    async with RBACProxy(api.url, objects, account) as rights:
        with (folder / "watchdog.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(
                    sys.executable,
                    *container["command"][1:],
                    "--config",
                    str(folder / "watchdog_config.json"),
                ),
                *(f"--WatchdogApp.api_server={rights.url}", "--WatchdogApp.namespace=default"),
                cwd=ROOT,
                env={**os.environ, "JUPYTERHUB_API_TOKEN": hub.watchdog_token},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield f"http://127.0.0.1:{port}", rights
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            status = await asyncio.wait_for(process.wait(), 20)
        assert status == 0, (folder / "watchdog.log").read_text()


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
    from tests.support.watch_run import watching

    class SilentHub:
        api_url, watchdog_token = f"http://127.0.0.1:{free_port()}/hub/api", "token"

    objects = render("--set", "watchdog.dryRun=true", namespace="default")  # its Role has no delete
    lease = one(objects, "Deployment")["metadata"]["name"]
    async with KubeAPI() as api, RBACProxy(api.url, objects, lease) as rights:
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
    from tests.support.kube_api import PODS

    status = {
        "phase": "Running",
        "containerStatuses": [{"name": "hub", "restartCount": 0, "state": {"running": {}}}],
    }
    metadata = {"name": "hub-1", "labels": {"app": "jupyterhub", "component": "hub"}}
    return PODS, "default", {"metadata": metadata, "spec": {"containers": []}, "status": status}
