"""No false alarm: a real JupyterHub with the stock KubeSpawner in ordinary life, and in trouble that is not its own.

The watchdog's times are its defaults divided by four, for a Hub that is as slow as it really is; so what is ordinary
here would have four times as long in production.
"""

import asyncio
import os
import random

import aiohttp
import pytest
import pytest_asyncio

from binderhub_ext.timing import SystemClock
from tests.support.kube_api import KubeAPI
from tests.support.kube_pods import PodController
from tests.support.watch_hub import HubDeployment, until
from tests.support.watch_run import told, watching

SCALE = 4
STARTS = 1000 if os.environ.get("SLOW_TESTS") else 150
"""A thousand take minutes; `test_simulated.py` has as many in seconds, with a model in the Hub's place."""

AT_ONCE = 40
SLOW_PODS = 5

TIMES = {
    "interval": 1.0,
    "timeout": 10.0,
    "bounds": {"start_stuck": 15.0, "stop_stuck": 15.0, "ghost": 22.5, "orphan": 75.0, "hub_silent": 15.0},
    "cooldown": 150.0,
    "grace": 20.0,  # short, so that an alarm is not hidden by it
    "settle": 15.0,
    "lease_duration": 10.0,
    "delete_orphans": True,
}

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]


class MovingPods(PodController):
    """Pods at random speeds; those of users whose names begin with "slow" stay Pending."""

    async def _live(self, key, uid):
        if key[1].startswith("jupyter-slow"):
            return
        self.delay = random.uniform(0.0, 0.3)
        await super()._live(key, uid)

    async def _terminate(self, key, uid):
        self.delay = random.uniform(0.0, 0.6)
        await super()._terminate(key, uid)


class JumpingClock(SystemClock):
    """The machine's clocks, but the wall clock jumps an hour or a day back or ahead whenever it is read."""

    def time(self):
        return super().time() + random.choice([-86400, -3600, 0, 3600, 86400])


class Servers:
    """What the Hub says of all servers, asked for all users of this test together."""

    def __init__(self, hub):
        self.hub, self.known = hub, {}

    async def follow(self):
        while True:
            try:
                await self.ask()
            except (aiohttp.ClientError, asyncio.TimeoutError):
                self.known = {}
            await asyncio.sleep(0.3)

    async def ask(self):
        users = (await self.hub.call("GET", "/users?state=active&limit=200"))[1]
        self.known = {user["name"]: user["servers"] for user in users}

    def ready(self, user):
        return self.known.get(user, {}).get("", {}).get("ready")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api():
    async with KubeAPI() as api, MovingPods(api, serve=True):
        yield api


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub(api, tmp_path_factory):
    config = {"KubeSpawner.start_timeout": 900}
    async with HubDeployment(
        api, tmp_path_factory.mktemp("hub"), poll_interval=30 // SCALE, config=config
    ) as hub:
        servers = Servers(hub)
        follower = asyncio.create_task(servers.follow())
        hub.servers = servers
        yield hub
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)


def restarts(watchdog):
    return [record for record in watchdog.evidence.records if record["kind"] in ("before", "orphan")]


async def test_many_starts_and_stops_beside_pods_that_stay_pending_and_a_clock_that_jumps(api, hub):
    todo, done, starts = iter(range(STARTS)), 0, hub.starts

    async def person(user):
        """Start a server, use it for a moment, stop it, and begin again."""
        nonlocal done
        await hub.call("POST", f"/users/{user}", timeout=60)
        for _ in todo:
            await until(lambda: hub.request_start(user), 60, f"{user} may start")
            await until(lambda: hub.servers.ready(user), 60, f"{user} is ready", every=0.2)
            await asyncio.sleep(random.uniform(0.0, 0.5))
            await until(lambda: hub.request_stop(user), 60, f"{user} may stop")
            await until(lambda: not hub.servers.known.get(user), 60, f"{user} has stopped", every=0.2)
            done += 1

    async with watching(api, hub, **TIMES) as watchdog:
        for part in (watchdog, watchdog.lease, watchdog.evidence, watchdog.cluster, watchdog.look):
            part.clock = JumpingClock()
        for number in range(SLOW_PODS):
            await hub.start_server(f"slow-{number}")
        await asyncio.gather(*(person(f"user-{number}") for number in range(AT_ONCE)))
        slow = [hub.servers.known[f"slow-{number}"][""]["pending"] for number in range(SLOW_PODS)]
        seen = watchdog.last_observation
    assert done == STARTS
    assert slow == ["spawn"] * SLOW_PODS
    assert seen.hub is not None and seen.cluster is not None
    assert watchdog.evidence.records == []
    assert told(api) == []
    assert hub.starts == starts


async def test_a_rolling_update_of_the_hub(api, hub):
    for number in range(5):
        await hub.start_server(f"update-{number}")
        await hub.until_ready(f"update-{number}", 60)
    async with watching(api, hub, **{**TIMES, "grace": 300 / SCALE}) as watchdog:
        await until(lambda: watchdog.last_round is not None, 10, "the watchdog has looked")
        starts = hub.starts
        api.delete_pod(hub.pod_name)
        await until(lambda: hub.starts == starts + 1, 20, "the Hub is replaced")
        await hub.until_answers()
        await asyncio.sleep(TIMES["bounds"]["start_stuck"] + 3)
    assert restarts(watchdog) == []
    assert hub.starts == starts + 1
    for number in range(5):
        assert (await hub.server(f"update-{number}"))["ready"]


@pytest.mark.parametrize("trouble", ["refuses", "hangs"])
async def test_an_api_server_that_is_away(api, hub, trouble):
    """It is back before the stock reflector gives up; a server that ended meanwhile is a ghost until the next poll."""
    from tests.support.kube_api import Fault, Rule

    for number in range(3):
        await hub.start_server(f"{trouble}-{number}")
        await hub.until_ready(f"{trouble}-{number}", 60)
    starts = hub.starts
    async with watching(api, hub, **{**TIMES, "timeout": 2.0}) as watchdog:
        await until(lambda: watchdog.last_round is not None, 10, "the watchdog has looked")
        if trouble == "refuses":
            await api.refuse()
        else:
            api.faults.add(Rule(Fault.HANG))
        api.delete_pod(f"jupyter-{trouble}-0")
        await until(
            lambda: watchdog.last_observation.cluster is None, 10, "the watchdog misses the API server"
        )
        await asyncio.sleep(4)
        assert watchdog.findings == []
        await api.accept()
        api.faults.clear()
        await asyncio.sleep(TIMES["bounds"]["ghost"] / 2)
    assert restarts(watchdog) == []
    assert hub.starts == starts
