"""The incident as people saw it: launches through the service, while the API server behind the Hub hangs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from binderhub_ext.errors import CATALOGUE
from tests.support.kube_api import Fault, Rule
from tests.support.kube_hub import TOKEN, HubProcess
from tests.support.stack import Service, read

BINDER = "import binderhub_ext.kube; binderhub_ext.kube.configure(c)\n"
DEFAULTS = """
for section in (c.KubeSpawner, c.ReliableKubeSpawner, c.ResourceReflector, c.ReliableReflector):
    section.clear()
c.KubeSpawner.namespace, c.KubeSpawner.image = "default", "example/image:1"
"""
"""No time of the Hub's or of the spawner's is scaled."""


def before(hub: HubProcess, folder: Path) -> SimpleNamespace:
    """Return what a `Service` must know of a Hub."""
    (folder / "state").mkdir()
    return SimpleNamespace(
        folder=folder,
        url="http://127.0.0.1:1/",
        api=hub.url + "/api/",
        settings={"service_token": TOKEN},
        environment=lambda: {"BINDERHUB_EXT_TEST_STATE": str(folder / "state")},
    )


async def users(hub: HubProcess) -> dict[str, dict]:
    _, models = await hub.request("GET", "/users")
    return {model["name"]: model["servers"] for model in models}


@pytest.mark.parametrize(
    "early, seconds, more",
    [
        pytest.param(3, 8, "", id="later on"),
        pytest.param(0, 8, "", id="at its first list"),
        pytest.param(3, 60, DEFAULTS, id="for a minute, with all defaults"),
    ],
)
async def test_everybody_gets_a_server_or_a_readable_error_and_nothing_is_left(
    api, pods_run, tmp_path, early, seconds, more
):
    """Eight seconds are longer than the start timeout of the scaled Hub, as a minute was in the incident."""
    async with HubProcess(tmp_path, api.url, BINDER + more) as hub:
        pid = hub.process.pid
        limits = {} if more else {"Launcher__launch_timeout": 60}
        service = await Service(before(hub, tmp_path), **limits).start()
        try:
            url = service.build_url(lines=0)
            running = await asyncio.gather(*(read(url) for _ in range(early)))
            assert [events[-1]["phase"] for events in running] == ["ready"] * early
            pods_run.delay = 0.5
            if not early:
                api.faults.add(Rule(Fault.HANG))
            seen = asyncio.Event()
            caught = [
                asyncio.create_task(
                    read(url, seconds=150, until=lambda e: e.get("stage") == "launching" and seen.set())
                )
                for _ in range(5)
            ]
            await seen.wait()
            if early:
                api.faults.add(Rule(Fault.HANG))
            api.faults.add(Rule(Fault.SILENT))
            pods_run.paused = True
            await asyncio.sleep(seconds)
            api.faults.clear()
            api.cut()
            pods_run.paused = False
            ends = [events[-1] for events in await asyncio.gather(*caught)]
            late = await read(url)
        finally:
            service.stop()
        for end in ends:
            assert end["phase"] == "ready" or end["error"]["code"] in CATALOGUE, end
            assert end.get("error", {}).get("code") != "internal"
        assert late[-1]["phase"] == "ready", "and launches succeed again"
        wanted = [events[-1]["url"].rstrip("/").rpartition("/")[2] for events in (*running, late)]
        wanted += [end["url"].rstrip("/").rpartition("/")[2] for end in ends if end["phase"] == "ready"]
        until = asyncio.get_running_loop().time() + 20
        while sorted(found := await users(hub)) != sorted(wanted) or len(api.pods()) != len(wanted):
            assert asyncio.get_running_loop().time() < until, (found, api.pods(), wanted)
            await asyncio.sleep(0.1)
        assert all(
            server["ready"] and not server["pending"]
            for servers in found.values()
            for server in servers.values()
        )
        assert hub.process.returncode is None and hub.process.pid == pid, "without a restart"
