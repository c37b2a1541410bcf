"""A real Hub and an API server that has bad days."""

import asyncio
import statistics

import pytest

from tests.support.kube_api import PODS, Fault, Rule
from tests.support.kube_hub import IMPATIENT, OURS, STOCK, HubProcess

BOTH = pytest.mark.parametrize("config", [pytest.param(STOCK, id="stock"), pytest.param(OURS, id="ours")])


async def eventually(condition, seconds):
    """Whether an awaitable condition holds within this time."""
    end = asyncio.get_running_loop().time() + seconds
    while not await condition():
        if asyncio.get_running_loop().time() > end:
            return False
        await asyncio.sleep(0.1)
    return True


@BOTH
async def test_a_servers_that_ended_are_noticed_after_the_api_server_was_away(
    api, pods_run, tmp_path, config
):
    async with HubProcess(tmp_path, api.url, IMPATIENT + config) as hub:
        await hub.launch("ada")
        assert (await hub.outcome("ada")).get("ready"), hub.log.read_text()[-2000:]
        await api.refuse()
        await asyncio.sleep(2.5)

        async def given_up():
            return config == OURS or "never recovered, giving up" in hub.log.read_text()

        assert await eventually(given_up, 30)
        await api.accept()
        assert await hub.server("ada")  # while the API server was away nobody lost a server
        for name in api.pods():
            api.delete_pod(name)

        async def noticed():
            return not await hub.server("ada")

        assert await eventually(noticed, 5) is (config == OURS)


@BOTH
async def test_b_a_hub_that_starts_while_the_api_server_errs_keeps_its_servers(
    api, pods_run, tmp_path, config
):
    async with HubProcess(tmp_path, api.url, config) as hub:
        await hub.launch("ada")
        assert (await hub.outcome("ada")).get("ready")
    assert len(api.pods()) == 1
    api.faults.add(Rule(Fault.ERROR, verb="list", plural="pods", times=1))
    async with HubProcess(tmp_path, api.url, config) as hub:
        await asyncio.sleep(1)
        server = await hub.server("ada")
    assert bool(server.get("ready")) is (config == OURS), hub.log.read_text()[-2000:]


@BOTH
async def test_c_a_start_timeout_during_the_first_list_leaves_nobody_pending(api, pods_run, tmp_path, config):
    more = "c.KubeSpawner.start_timeout = 2\n"
    async with HubProcess(tmp_path, api.url, config + more) as hub:
        api.faults.add(Rule(Fault.HANG))
        await hub.launch("ada")
        await asyncio.sleep(2.6)
        api.faults.clear()

        async def settled():
            return not (await hub.server("ada")).get("pending")

        assert await eventually(settled, 8) is (config == OURS)
        if config == OURS:
            assert await hub.launch("ada") in (201, 202)
            assert (await hub.outcome("ada")).get("ready")
            assert len(api.pods()) == 1


async def test_incident_the_api_server_hangs_in_the_middle_of_launches(api, pods_run, tmp_path):
    """Afterwards everybody has a server or an error, nobody is pending, nothing is left, and no restart."""
    running, starting, late = ["r1", "r2", "r3"], ["s1", "s2", "s3"], ["l1", "l2"]
    async with HubProcess(tmp_path, api.url, OURS) as hub:
        for user in running:
            await hub.launch(user)
        assert all([(await hub.outcome(user)).get("ready") for user in running])
        assert hub.process is not None
        pid = hub.process.pid
        pods_run.delay = 0.3
        for user in starting:
            await hub.launch(user)
        await asyncio.sleep(0.1)
        api.faults.add(Rule(Fault.HANG))  # whatever is asked from now on
        api.faults.add(Rule(Fault.SILENT))
        pods_run.paused = True
        stopping = asyncio.ensure_future(hub.request("DELETE", "/users/r3/server"))
        for user in late:
            await hub.launch(user)
        outcomes = {user: asyncio.ensure_future(hub.outcome(user)) for user in [*starting, *late]}
        await asyncio.sleep(8)  # longer than the start timeout
        api.faults.clear()
        api.cut()
        pods_run.paused = False
        await asyncio.wait(outcomes.values(), timeout=20)
        await stopping
        for user, outcome in outcomes.items():
            last = outcome.result()
            assert last.get("ready") or (last.get("failed") and last.get("message")), (user, last)
        everybody = [*running, *starting, *late]

        async def nobody_pending():
            return not any([(await hub.server(user)).get("pending") for user in everybody])

        assert await eventually(nobody_pending, 10)
        have = [user for user in everybody if (await hub.server(user)).get("ready")]
        assert {"r1", "r2"} <= set(have)  # those who had a server still have it
        wanted = sorted(f"jupyter-{user}" for user in have)

        async def nothing_left():
            return sorted(name.split("--")[0] for name in api.pods()) == wanted

        assert await eventually(nothing_left, 15), (api.pods(), wanted)
        assert hub.process.returncode is None and hub.process.pid == pid
        for user in ["s1", "l1", "r3"]:  # and everybody can start a server
            if user not in have:
                await hub.launch(user)
                assert (await hub.outcome(user)).get("ready")


async def test_the_hub_says_ready_within_150_ms_of_the_first_accepted_connection(api, pods_run, tmp_path):
    pods_run.listen_delay = 0.7
    delays = []
    async with HubProcess(tmp_path, api.url, OURS) as hub:
        for number in range(7):
            user = f"user{number}"
            await hub.launch(user)
            assert (await hub.outcome(user)).get("ready")
            listening = next(at for name, at in pods_run.listening.items() if user in name)
            delays.append(asyncio.get_running_loop().time() - listening)
    assert statistics.median(delays) <= 0.15, delays


async def test_health_and_metrics_tell_whether_the_caches_are_current(api, pods_run, tmp_path):
    async with HubProcess(tmp_path, api.url, OURS) as hub:
        status, facts = await hub.request("GET", "/binderhub_ext/health")
        assert (status, facts["caches"]) == (200, [])
        await hub.launch("ada")
        assert (await hub.outcome("ada")).get("ready")
        status, facts = await hub.request("GET", "/binderhub_ext/health")
        assert status == 200 and {cache["kind"] for cache in facts["caches"]} == {"pods", "events"}
        async with hub.session.get(f"{hub.url}/metrics") as answer:
            text = await answer.text()
        assert 'binderhub_ext_reflector_objects{kind="pods",namespace="default"} 1.0' in text
        await api.refuse()

        async def answers(expected):
            return (await hub.request("GET", "/binderhub_ext/health"))[0] == expected

        assert await eventually(lambda: answers(503), 6)
        await api.accept()
        assert await eventually(lambda: answers(200), 5)


@pytest.mark.parametrize("kind", ["pods", "events"])
@pytest.mark.parametrize("namespaces", [False, True], ids=["one namespace", "user namespaces"])
async def test_the_hub_ends_when_only_its_own_cache_cannot_be_refreshed(
    api, pods_run, tmp_path, kind, namespaces
):
    more = "c.ReliableKubeSpawner.reflector_abort_timeout = 2\n"
    more += f"c.KubeSpawner.enable_user_namespaces = {namespaces}"
    more += "\nc.KubeSpawner.user_namespace_template = 'default'\n"
    async with HubProcess(tmp_path, api.url, OURS + more) as hub:
        await hub.launch("ada")
        assert (await hub.outcome("ada")).get("ready"), hub.log.read_text()[-2000:]
        # lists of the Hub's own reflector fail, the small list of a new client does not
        api.faults.add(Rule(Fault.ERROR, verb="list", plural=kind, query={"limit": "250"}))
        api.faults.add(Rule(Fault.ERROR, verb="watch", plural=kind))
        assert hub.process is not None
        assert await asyncio.wait_for(hub.process.wait(), 15) == 1
        assert f"The cache of {kind} could not be refreshed" in hub.log.read_text()


async def test_the_hub_goes_on_while_the_api_server_answers_nobody(api, pods_run, tmp_path):
    more = "c.ReliableKubeSpawner.reflector_abort_timeout = 1\n"
    async with HubProcess(tmp_path, api.url, OURS + more) as hub:
        await hub.launch("ada")
        assert (await hub.outcome("ada")).get("ready")
        await api.refuse()

        async def said():
            return "a restart of the Hub would not help" in hub.log.read_text()

        assert await eventually(said, 8)
        await api.accept()
        assert await hub.server("ada")
        assert hub.process is not None and hub.process.returncode is None
        assert api.store.state(PODS)
