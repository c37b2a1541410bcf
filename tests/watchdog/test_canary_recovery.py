"""Only the canary knows that launches fail: the Hub is restarted once because of it, and it succeeds again.

A real service, a real Hub with the stock KubeSpawner, and JupyterHub's proxy, through which the canary opens its
servers. The other signs of this Hub are told, and lead to nothing here.
"""

import asyncio
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY

from binderhub_ext.metrics.watchdog import PREFIX
from tests.support.kube_api import Fault, KubeAPI, Rule
from tests.support.kube_pods import PodController
from tests.support.processes import Process, free_port, proxy_command
from tests.support.scripted import spec
from tests.support.stack import Service
from tests.support.watch_hub import HubDeployment, until
from tests.support.watch_run import told, watching

SCOPES = ("list:users", "read:servers", "delete:users", "delete:servers")
FAILURES = 3
CANARY = {
    "canary_interval": 1.0,
    "canary_timeout": 6.0,
    "canary_failures": FAILURES,
    "restart_on": ["canary"],
}

pytestmark = pytest.mark.timeout(150)


@pytest.fixture
def proxy(tmp_path):
    """JupyterHub's proxy, which outlives the Hub; its address and the Hub's configuration for it."""
    port, api_port = free_port(), free_port()
    address = f"http://127.0.0.1:{port}"
    process = Process(
        [
            *proxy_command(),
            f"--port={port}",
            "--ip=127.0.0.1",
            f"--api-port={api_port}",
            "--api-ip=127.0.0.1",
        ],
        tmp_path / "proxy.log",
        {"CONFIGPROXY_AUTH_TOKEN": "unused"},
        tmp_path,
    )
    yield SimpleNamespace(
        address=address,
        config={
            "JupyterHub.proxy_class": "jupyterhub.proxy.ConfigurableHTTPProxy",
            "JupyterHub.bind_url": address,
            "ConfigurableHTTPProxy.should_start": False,
            "ConfigurableHTTPProxy.api_url": f"http://127.0.0.1:{api_port}",
        },
    )
    process.kill()


def service_before(hub, proxy, folder):
    """Return the BinderHub service before this Hub."""
    (folder / "state").mkdir()
    known = SimpleNamespace(
        url=f"{proxy.address}/",
        api=f"{hub.api_url}/",
        folder=folder,
        settings={"service_token": hub.admin_token},
        environment=lambda: {"BINDERHUB_EXT_TEST_STATE": str(folder / "state")},
    )
    return Service(known, Launcher__abandon_timeout=0.5)


def runs(result):
    return REGISTRY.get_sample_value(f"{PREFIX}canary_runs_total", {"result": result})


async def test_canaries_that_fail_restart_the_hub_once_and_then_succeed(tmp_path, proxy):
    config = {"KubeSpawner.start_timeout": 60, **proxy.config}
    async with (
        KubeAPI() as api,
        PodController(api, serve=True, delay=0.02),
        HubDeployment(api, tmp_path, config=config, scopes=SCOPES) as hub,
    ):
        service = await service_before(hub, proxy, tmp_path).start()
        try:
            how = {
                "service_url": service.url,
                "canary_spec": f"test/{spec(name='canary', lines=1)}",
                "canary_proxy_url": proxy.address,
                **CANARY,
            }
            async with watching(api, hub, **how) as watchdog:
                well, failed = runs("ok"), runs("failed")
                await until(lambda: runs("ok") >= well + 2, 30, "two canaries have succeeded")
                assert (watchdog.evidence.records, runs("failed")) == ([], failed)

                silent = api.faults.add(Rule(Fault.SILENT, verb="watch", plural="pods", times=1))
                api.cut()
                await asyncio.wait_for(silent.seen.wait(), 20)
                await until(lambda: hub.starts == 2, 60, "the Hub is restarted")
                assert runs("failed") >= failed + FAILURES
                await hub.until_answers()
                well = runs("ok")
                await until(lambda: runs("ok") >= well + 3, 40, "three canaries have succeeded again")
                records = watchdog.evidence.records
                told_of = told(api)
        finally:
            service.stop()
    before = [record for record in records if record["kind"] == "before"]
    after = [record for record in records if record["kind"] == "after"]
    assert len(before) == len(after) == 1
    assert before[0]["decision"]["sign"] == "canary"
    facts = before[0]["decision"]["reasons"][0]["facts"]
    assert facts["failures"] == FAILURES
    assert set(facts["codes"]) == {"canary.timeout"}
    assert "the last phase was launching" in facts["detail"]
    assert after[0]["recovered"] is True
    assert told_of.count("WatchdogRestart") == 1
    assert hub.starts == 2
