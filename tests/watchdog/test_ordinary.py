"""No false alarm: a real JupyterHub with the stock KubeSpawner in ordinary life, and in trouble that is not its own.

The watchdog's times are its defaults divided by four, for a Hub that is as slow as it really is; so what is ordinary
here would have four times as long in production.
"""

import asyncio
import random

import pytest
import pytest_asyncio
from prometheus_client import REGISTRY

from binderhub_ext.metrics.watchdog import PREFIX
from binderhub_ext.timing import SystemClock
from binderhub_ext.watchdog.signs import Sign
from tests.support.kube_api import KubeAPI
from tests.support.kube_pods import PodController
from tests.support.watch_hub import HubDeployment, until
from tests.support.watch_run import told, watching

SCALE = 4
STARTS = 1000
AT_ONCE = 12
"""So many that the Hub always has something to do, and so few that they do not wait for it."""

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
        yield hub


async def is_ready(hub, user):
    server = await hub.server(user)
    return server and server["ready"]


async def no_server(hub, user):
    return not await hub.server(user)


def restarts(watchdog):
    return [record for record in watchdog.evidence.records if record["kind"] in ("before", "orphan")]


async def test_many_starts_and_stops_beside_pods_that_stay_pending_and_a_clock_that_jumps(api, hub):
    todo, done, starts, seen = iter(range(STARTS)), 0, hub.starts, set()

    async def person(user):
        """Start a server, use it for a moment, stop it, and begin again."""
        nonlocal done
        await hub.call("POST", f"/users/{user}")
        for _ in todo:
            status, answer = await hub.call("POST", f"/users/{user}/server", timeout=60, json={})
            assert status in (201, 202), answer
            if status == 202:
                await until(lambda: is_ready(hub, user), 60, f"{user} is ready", every=1.0)
            seen.update(finding.sign for finding in watchdog.findings)
            await asyncio.sleep(random.uniform(0.0, 0.5))
            status, answer = await hub.call("DELETE", f"/users/{user}/server", timeout=60)
            assert status in (202, 204), answer
            if status == 202:
                await until(lambda: no_server(hub, user), 60, f"{user} has stopped", every=1.0)
            done += 1

    async with watching(api, hub, **TIMES) as watchdog:
        for part in (watchdog, watchdog.lease, watchdog.evidence, watchdog.cluster, watchdog.look):
            part.clock = JumpingClock()
        for number in range(SLOW_PODS):
            await hub.start_server(f"slow-{number}")
        await asyncio.gather(*(person(f"user-{number}") for number in range(AT_ONCE)))
        # contradictions are ordinary for a while: without them this test would show nothing
        assert {Sign.START_STUCK, Sign.STOP_STUCK} <= seen
        waiting = REGISTRY.get_sample_value(f"{PREFIX}oldest_pending_seconds", {"action": "start"})
        slow = [(await hub.server(f"slow-{number}"))["pending"] for number in range(SLOW_PODS)]
        last = watchdog.last_observation
    assert done == STARTS
    assert slow == ["spawn"] * SLOW_PODS
    assert waiting > TIMES["bounds"]["start_stuck"], (
        "it is told for how long the slow ones have been starting"
    )
    assert last.hub is not None and last.cluster is not None
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
