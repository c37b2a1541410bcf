"""The loop as a whole, against the API server: two watchdogs, one restart; pages, evidence, metrics."""

import asyncio

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import REGISTRY, generate_latest

from binderhub_ext.metrics.watchdog import PREFIX
from binderhub_ext.watchdog.decisions import Action
from binderhub_ext.watchdog.evidence import KEEP, Evidence
from binderhub_ext.watchdog.hub import Hub, HubRefused, HubSilent
from binderhub_ext.watchdog.restart import RunCommand
from binderhub_ext.watchdog.watch import Decision
from binderhub_ext.watchdog.web import health, make_pages
from tests.support.kube_api import LEASES, PODS, KubeAPI
from tests.support.watch_hub import free_port, until
from tests.support.watch_looks import look
from tests.support.watch_run import told, watching

pytestmark = pytest.mark.timeout(60)


class NoHub:
    """A Hub whose port is closed."""

    def __init__(self):
        self.api_url, self.watchdog_token = f"http://127.0.0.1:{free_port()}/hub/api", "token"


def create_hub_pod(api, name="hub-1"):
    status = {
        "phase": "Running",
        "containerStatuses": [{"name": "hub", "restartCount": 0, "state": {"running": {}}}],
    }
    metadata = {"name": name, "labels": {"app": "jupyterhub", "component": "hub"}}
    api.store.create(PODS, "default", {"metadata": metadata, "spec": {"containers": []}, "status": status})


async def test_two_watchdogs_restart_the_hub_once():
    async with KubeAPI() as api:
        create_hub_pod(api)
        async with watching(api, NoHub()) as first, watching(api, NoHub(), identity="watchdog-2") as second:
            await until(lambda: deleted(api), 20, "the Hub's pod is deleted")
            await until(lambda: first.last_decision and second.last_decision, 5, "both have decided")
            create_hub_pod(api, "hub-2")
            await asyncio.sleep(5)  # the new Hub is silent too, and its grace is over: the cooldown holds
            actions = {first.last_decision.action, second.last_decision.action}
        deletions = [r for r in api.received("delete", "pods") if r.status == 200]
    assert len(deletions) == 1
    assert actions == {Action.HELD_COOLDOWN, Action.HELD_NOT_LEADER}
    assert told(api).count("WatchdogRestart") == 1


def deleted(api):
    return "hub-1" not in api.pods()


async def test_the_next_watchdog_keeps_the_cooldown_of_the_one_before():
    async with KubeAPI() as api:
        create_hub_pod(api)
        async with watching(api, NoHub()):
            await until(lambda: deleted(api), 20, "the Hub's pod is deleted")
        create_hub_pod(api, "hub-2")
        async with watching(api, NoHub(), identity="watchdog-2") as second:
            await until(lambda: second.last_decision.action is Action.HELD_COOLDOWN, 20, "the second holds")
            assert second.decider.history.in_last_day(second.clock.monotonic()) == 1
            assert "held_cooldown" in [record["decision"]["action"] for record in second.evidence.records]
        assert api.pods() == ["hub-2"]


async def test_a_watchdog_that_was_followed_while_it_looked_restarts_nothing():
    """What it decides after that look, it decides as the leader; the write into the Lease tells it better."""
    async with KubeAPI() as api:
        create_hub_pod(api)
        async with watching(api, NoHub()) as watchdog:
            real_look, errors = watchdog.look, restart_errors()

            async def slow_look():
                seen = await real_look()
                for key in api.store.state(LEASES):
                    api.store.merge(LEASES, key, {"spec": {"holderIdentity": "watchdog-2"}})
                return seen

            watchdog.look = slow_look
            await until(lambda: restart_errors() > errors, 40, "a restart is decided and not done")
        assert not api.received("delete", "pods")
        assert "WatchdogRestart" not in told(api)
        assert watchdog.decider.history.in_last_day(watchdog.clock.monotonic()) == 0


async def test_a_hub_that_does_not_come_back_is_in_the_evidence():
    async with KubeAPI() as api:
        create_hub_pod(api)
        async with watching(api, NoHub(), cooldown=3.0) as watchdog:
            await until(lambda: "after" in [r["kind"] for r in watchdog.evidence.records], 40, "it is kept")
    after = next(record for record in watchdog.evidence.records if record["kind"] == "after")
    assert after["recovered"] is False
    assert after["seconds"] >= 3.0
    assert after["decision"]["hub_pod"] == "hub-1"


def restart_errors():
    return REGISTRY.get_sample_value(f"{PREFIX}restart_errors_total")


async def test_pages_tell_health_evidence_and_metrics():
    async with KubeAPI() as api:
        create_hub_pod(api)
        async with watching(api, NoHub()) as watchdog:
            runner = web.AppRunner(make_pages(watchdog))
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            at = f"http://127.0.0.1:{runner.addresses[0][1]}"
            await until(lambda: deleted(api), 20, "the Hub's pod is deleted")
            async with aiohttp.ClientSession() as session:
                async with session.get(at + "/health") as answer:
                    assert answer.status == 200
                    facts = await answer.json()
                async with session.get(at + "/evidence") as answer:
                    evidence = await answer.json()
                async with session.get(at + "/metrics") as answer:
                    text = await answer.text()
            await runner.cleanup()
    assert facts["ok"] and facts["leader"] and facts["restarts_in_last_day"] == 1
    assert facts["seen"]["hub"].startswith("the Hub does not answer")
    before = next(record for record in evidence if record["kind"] == "before")
    assert before["decision"]["sign"] == "hub_silent"
    assert before["decision"]["hub_pod"] == "hub-1"
    assert before["seen"]["hub_pods"][0]["name"] == "hub-1"
    assert 'binderhub_ext_watchdog_restarts_total{sign="hub_silent"}' in text
    assert 'binderhub_ext_watchdog_answers{side="hub"} 0.0' in text


async def test_a_watchdog_whose_rounds_have_stopped_is_not_healthy():
    async with KubeAPI() as api:
        create_hub_pod(api)
        async with watching(api, NoHub()) as watchdog:
            assert health(watchdog)[0] is False  # no round yet
            await until(lambda: watchdog.last_round is not None, 10, "a round")
            assert health(watchdog)[0] is True
            watchdog.last_round -= 3600
            assert health(watchdog)[0] is False


def test_the_last_fifty_records_outlive_the_process(tmp_path):
    evidence = Evidence(tmp_path)
    for number in range(KEEP + 10):
        evidence.keep("decision", Decision(Action.HELD_GRACE), [], look(0.0), number=number)
    again = Evidence(tmp_path)
    assert [record["number"] for record in again.records] == list(range(10, KEEP + 10))
    (tmp_path / "evidence.jsonl").write_text("{broken")
    assert Evidence(tmp_path).records == []


def test_every_sign_and_action_is_a_metric_from_the_start():
    text = generate_latest().decode()
    for action in Action:
        assert f'binderhub_ext_watchdog_decisions_total{{action="{action.value}"}}' in text


async def serve(answer):
    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


@pytest.mark.parametrize(
    "status, body, raises",
    [
        (500, "", HubSilent),
        (503, "Bad gateway", HubSilent),
        (403, '{"message": "no"}', HubRefused),
        (302, "", HubRefused),
        (200, "<html>", HubRefused),
        (200, '{"items": [{"name": "ada"}], "_pagination": {"next": null}}', HubRefused),
        (200, "[]", HubRefused),
    ],
)
async def test_only_a_hub_that_does_not_answer_is_silent(status, body, raises):
    async def answer(_):
        return web.Response(
            status=status, text=body, headers={"Location": "/elsewhere"} if status == 302 else {}
        )

    runner, at = await serve(answer)
    try:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(raises):
                await Hub(session, at, "token").view()
    finally:
        await runner.cleanup()


async def test_all_pages_of_the_hubs_users_are_read():
    users = [
        {"name": f"user-{n}", "servers": {"": {"ready": True, "pending": None, "started": "t"}}}
        for n in range(450)
    ]

    async def answer(request):
        offset, limit = int(request.query["offset"]), int(request.query["limit"])
        more = {"offset": offset + limit} if offset + limit < len(users) else None
        return web.json_response({"items": users[offset : offset + limit], "_pagination": {"next": more}})

    runner, at = await serve(answer)
    try:
        async with aiohttp.ClientSession() as session:
            view = await Hub(session, at, "token").view()
    finally:
        await runner.cleanup()
    assert len(view.servers) == 450


async def test_all_pages_of_pods_are_read_and_names_come_from_the_annotations():
    from binderhub_ext.watchdog.cluster import Cluster, connect

    async with KubeAPI() as api:
        for number in range(1101):
            name = {"hub.jupyter.org/username": f"Ada {number}@x", "hub.jupyter.org/servername": "lab"}
            api.create_pod(f"jupyter-{number}", annotations=name)
        client = await connect(api.url)
        try:
            view = await Cluster(client, "default", "component=singleuser-server", "component=hub").view()
        finally:
            await client.close()
    assert len(view.pods) == 1101
    assert {(pod.key.user, pod.key.server) for pod in view.pods} == {
        (f"Ada {n}@x", "lab") for n in range(1101)
    }
    assert len(api.received("list", "pods")) == 4


@pytest.mark.parametrize(
    "command, fails",
    [(["true"], False), (["false"], True), (["/nonexistent"], True), (["sleep", "10"], True)],
)
async def test_a_restart_command_that_fails_or_hangs_is_told(command, fails):
    run = RunCommand(command, timeout=0.5)
    if fails:
        with pytest.raises(OSError):
            await run(Decision(Action.RESTART))
    else:
        await run(Decision(Action.RESTART))


async def test_a_watchdog_that_is_told_to_end_ends_whatever_it_is_doing():
    """Also in the instant in which `asyncio.wait_for` has its result and swallows the cancellation."""
    async with KubeAPI() as api:
        create_hub_pod(api)
        for wait in (0.0, 0.001, 0.002, 0.003, 0.005, 0.008, 0.01, 0.015, 0.02, 0.05, 0.1):
            async with watching(api, NoHub(), interval=0.005) as watchdog:
                await asyncio.sleep(wait)
            assert watchdog.lease.leading is False
