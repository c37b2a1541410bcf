"""Each sign, provoked under a real JupyterHub with the stock KubeSpawner: found in time, recovered once.

The watchdog's times are its defaults divided by `SCALE`; the Hub's start timeout is shortened likewise.
"""

import asyncio
import logging

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.kube_api import LEASES, PODS, Fault, KubeAPI, Rule
from tests.support.kube_pods import PodController, make_pod
from tests.support.watch_hub import HubDeployment, until
from tests.support.watch_run import SCALED, told, watching

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

# from the moment at which the contradiction is there: a look before it, its bound, and two looks on a slow machine
MORE = 2 * SCALED["interval"] + 2.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api():
    async with KubeAPI() as api, PodController(api, serve=True, delay=0.02):
        yield api


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deployment(api, tmp_path_factory):
    config = {"KubeSpawner.start_timeout": 30, "KubeSpawner.http_timeout": 5}
    async with HubDeployment(api, tmp_path_factory.mktemp("hub"), poll_interval=1, config=config) as hub:
        yield hub


@pytest_asyncio.fixture(loop_scope="module")
async def hub(api, deployment):
    """The Hub, answering and without users; no fault is left behind."""
    await deployment.until_answers()
    yield deployment
    api.faults.clear()
    for key in list(api.store.state(LEASES)):
        api.store.delete(LEASES, key, grace=0)
    await deployment.clean()
    for name in api.pods():
        if not name.startswith("hub-"):
            api.delete_pod(name)


async def silent_watch(api):
    """Make the Hub's watch of pods go silent: open, but nothing comes any more."""
    rule = api.faults.add(Rule(Fault.SILENT, verb="watch", plural="pods", times=1))
    api.cut()
    await asyncio.wait_for(rule.seen.wait(), 20)


async def restarted_once(watchdog, hub, starts, seconds):
    """Wait for the decision to restart, then for launches that succeed again, then see that there is no second one."""
    await until(lambda: "before" in kinds(watchdog), seconds, "the watchdog decides to restart the Hub")
    await until(lambda: hub.starts == starts + 1, 20, "the Hub is restarted")
    await hub.until_answers()
    await hub.start_server("after")
    await hub.until_ready("after")
    await until(lambda: "after" in kinds(watchdog), 10, "the evidence after the restart is kept")
    assert hub.starts == starts + 1


def kinds(watchdog):
    return [record["kind"] for record in watchdog.evidence.records]


def before(watchdog):
    """Return the evidence before the restart, of which there must be one."""
    found = [record for record in watchdog.evidence.records if record["kind"] == "before"]
    assert len(found) == 1
    return found[0]


async def test_a_start_that_the_hub_does_not_see_succeed(api, hub):
    starts = hub.starts
    await hub.start_server("first")
    await hub.until_ready("first")
    async with watching(api, hub) as watchdog:
        await silent_watch(api)
        await hub.start_server("ada")
        await until(lambda: "jupyter-ada" in api.pods(), 10, "the pod is there")
        await restarted_once(watchdog, hub, starts, SCALED["bounds"]["start_stuck"] + MORE)
    decision = before(watchdog)["decision"]
    assert decision["sign"] == "start_stuck"
    assert decision["reasons"][0]["facts"]["server"] == "ada/"
    assert decision["reasons"][0]["facts"]["pod_ready"] is True
    after = next(record for record in watchdog.evidence.records if record["kind"] == "after")
    assert after["recovered"] is True
    assert "WatchdogRestart" in told(api)


async def test_a_server_that_never_stops_stopping(api, hub):
    """The stock reflector's first list hangs, the start is given up, and its stop waits for that list for ever."""
    starts = hub.starts
    await hub.call("POST", "/users/bob")
    hub.facts["config"]["KubeSpawner.start_timeout"] = 1
    api.delete_pod(hub.pod_name)  # a new Hub process, whose reflector has not listed yet
    await until(lambda: hub.starts == starts + 1, 10, "the Hub is new")
    await hub.until_answers()
    hub.facts["config"]["KubeSpawner.start_timeout"] = 30
    hang = api.faults.add(Rule(Fault.HANG, verb="list", plural="pods", times=1))
    await hub.start_server("bob")
    await asyncio.wait_for(hang.seen.wait(), 10)
    async with watching(api, hub, settle=0.0) as watchdog:

        async def stopping():
            server = await hub.server("bob")
            return server and server["pending"] == "stop"

        await until(stopping, 15, "the Hub says that the server is stopping")
        api.faults.clear()
        await restarted_once(watchdog, hub, starts + 1, SCALED["bounds"]["stop_stuck"] + MORE)
    assert before(watchdog)["decision"]["sign"] == "stop_stuck"


async def test_a_server_whose_pod_is_gone(api, hub):
    starts = hub.starts
    await hub.start_server("cyd")
    await hub.until_ready("cyd")
    async with watching(api, hub) as watchdog:
        await silent_watch(api)
        api.delete_pod("jupyter-cyd")
        await restarted_once(watchdog, hub, starts, SCALED["bounds"]["ghost"] + MORE)
    assert before(watchdog)["decision"]["sign"] == "ghost"
    # the new Hub sees that the pod is gone
    await until(lambda: no_server(hub, "cyd"), 20, "the ghost is gone")


async def no_server(hub, user):
    return await hub.server(user) is None


async def test_a_hub_that_does_not_answer(api, hub):
    starts = hub.starts
    async with watching(api, hub) as watchdog:
        await until(lambda: watchdog.last_round is not None, 10, "the watchdog has looked")
        await asyncio.sleep(SCALED["settle"])
        hub.freeze()
        # each look at a silent Hub takes the look's own timeout
        await restarted_once(
            watchdog, hub, starts, SCALED["bounds"]["hub_silent"] + MORE + 2 * SCALED["timeout"]
        )
    assert before(watchdog)["decision"]["sign"] == "hub_silent"


async def test_a_pod_that_the_hub_does_not_know_is_deleted_when_configured(api, hub):
    starts = hub.starts
    api.store.create(PODS, "default", make_pod("jupyter-nobody", ip="10.9.9.9"))
    async with watching(api, hub) as watchdog:
        await until(
            lambda: stands(watchdog, "orphan"), SCALED["bounds"]["orphan"] + MORE, "the orphan is found"
        )
        await asyncio.sleep(2 * SCALED["interval"])
        assert "jupyter-nobody" in api.pods()
    async with watching(api, hub, delete_orphans=True) as watchdog:
        await until(
            lambda: "jupyter-nobody" not in api.pods(),
            SCALED["bounds"]["orphan"] + MORE,
            "the orphan is deleted",
        )
        await until(lambda: "orphan" in kinds(watchdog), 5, "the evidence is kept")
    assert hub.starts == starts


def stands(watchdog, sign):
    return any(finding.sign == sign and finding.stands for finding in watchdog.findings)


async def test_no_launch_succeeds(api, hub):
    """The service's metrics page says so; launches that fail for the repository's reasons do not count."""
    starts, counts = hub.starts, {"ready": 5, "build.failed": 1, "hub.unreachable": 0}

    async def metrics(_):
        return web.Response(
            text="# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds 1.0\n"
            "# TYPE binderhub_ext_launch_outcomes_total counter\n"
            f'binderhub_ext_launch_outcomes_total{{outcome="ready"}} {counts["ready"]}\n'
            "# TYPE binderhub_ext_failures_total counter\n"
            f'binderhub_ext_failures_total{{code="build.failed"}} {counts["build.failed"]}\n'
            f'binderhub_ext_failures_total{{code="hub.unreachable"}} {counts["hub.unreachable"]}\n'
        )

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        async with watching(api, hub, service_url=url) as watchdog:
            await until(lambda: watchdog.last_round is not None, 10, "the watchdog has looked")
            counts["build.failed"] += 100
            await asyncio.sleep(SCALED["bounds"]["no_launch"] + 1)
            assert hub.starts == starts
            counts["hub.unreachable"] += 5
            await restarted_once(watchdog, hub, starts, SCALED["bounds"]["no_launch"] + MORE)
        assert before(watchdog)["decision"]["sign"] == "no_launch"
    finally:
        await runner.cleanup()


async def test_a_dry_run_decides_tells_and_does_nothing(api, hub, caplog):
    starts = hub.starts
    await hub.start_server("dan")
    await hub.until_ready("dan")
    with caplog.at_level(logging.WARNING, "binderhub_ext.watchdog"):
        logging.getLogger("binderhub_ext.watchdog").propagate = True
        async with watching(api, hub, dry_run=True, delete_orphans=True) as watchdog:
            await silent_watch(api)
            api.delete_pod("jupyter-dan")
            api.store.create(PODS, "default", make_pod("jupyter-nobody", ip="10.9.9.9"))
            await until(
                lambda: "WatchdogWouldRestart" in told(api),
                SCALED["bounds"]["ghost"] + MORE,
                "it would restart",
            )
            await asyncio.sleep(2.0)
            assert watchdog.last_decision.action.value in ("held_cooldown", "none")
    kept = [
        r["decision"]["sign"] for r in watchdog.evidence.records if r["decision"]["action"] == "would_restart"
    ]
    assert kept == ["ghost"]
    assert hub.starts == starts
    assert "jupyter-nobody" in api.pods()
    assert not [r for r in api.received("delete", "pods") if r.path.endswith(hub.pod_name)]
    assert "Decision would_restart: ghost" in caplog.text
