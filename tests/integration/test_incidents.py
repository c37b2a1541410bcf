"""Incidents of mybinder.org, replayed: what people saw then, and what they and the operators are told now.

Each test is named by the day of the incident. The bounds are short (see `tests.support.lanes`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import psutil
import pytest
import pytest_asyncio

from tests.support.lanes import BOUNDS, Lane, watch
from tests.support.proxy_faults import Latency, Stalled, Status, Timeout
from tests.support.stack import Event, Hub

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNSCHEDULABLE = "2017-10-17T10:00:00Z [Warning] 0/3 nodes are available: 3 Insufficient memory."
CREATING = "2018-03-31T10:00:00Z [Normal] Successfully assigned binder/jupyter-x to gke-user-1"
FORBIDDEN = (
    'pods "jupyter-x" is forbidden: exceeded quota: gke-resource-quotas, used: pods=15k, limited: pods=15k'
)
FULL = '{"status": 429, "message": "Active user limit exceeded. Try again in a few minutes."}'
THROTTLED = '{"status": 429, "message": "Too many users trying to log in right now. Try again in 1 second."}'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lanes(shared_hub: Hub) -> AsyncIterator[dict[str, Lane]]:
    # a crowd makes the Hub slow: patient ones give it time
    settings = {"brief": (2, 1.5), "patient": (40, 4.0)}
    found = await asyncio.gather(
        *(
            Lane.open(
                shared_hub,
                f"incidents-{name}",
                **{**BOUNDS, "Launcher__hub_request_timeout": request_timeout},
                Launcher__launch_timeout=launch_timeout,
            )
            for name, (launch_timeout, request_timeout) in settings.items()
        )
    )
    yield dict(zip(settings, found, strict=True))
    await asyncio.gather(*(lane.close() for lane in found))


@pytest_asyncio.fixture(loop_scope="module")
async def brief(lanes, empty_hub):
    return lanes["brief"]


@pytest_asyncio.fixture(loop_scope="module")
async def patient(lanes, empty_hub):
    return lanes["patient"]


@pytest_asyncio.fixture(loop_scope="module")
async def empty_hub(shared_hub: Hub, lanes) -> Hub:
    for lane in lanes.values():
        await lane.quiet()
    await shared_hub.clear()
    await shared_hub.empty()
    return shared_hub


async def health(lane: Lane) -> dict[str, dict[str, Any]]:
    """Return the checks of /health by their names; the overall verdict is under ``""``."""
    async with aiohttp.ClientSession() as session, session.get(lane.service.url + "health") as answer:
        model = await answer.json()
        checks = {check["service"]: check for check in model["checks"]}
        return {"": {"ok": model["ok"], "status": answer.status}, **checks}


async def seconds_until(look: Callable[[], Any], limit: float = 15) -> float:
    """Return after how many seconds an operator who looks all the time sees it."""
    began = time.monotonic()
    while not await look():
        assert time.monotonic() - began < limit
        await asyncio.sleep(0.05)
    return time.monotonic() - began


class Change:
    """How the metrics of a lane's service change within a block."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def __aenter__(self) -> Change:
        self._before = await self._lane.service.metrics()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if exc[0] is None:
            self._after = await self._lane.quiet()

    def of(self, name: str, **labels: str) -> float:
        """Return by how much the samples of this name and these labels have grown, together."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(
            value - self._before.get(sample, 0.0)
            for sample, value in self._after.items()
            if sample.partition("{")[0] == name and all(label in sample for label in wanted)
        )


async def crowd(lane: Lane, size: int, name: str, **link: Any) -> list[list[Event]]:
    """So many people open a link at once. Returns what each saw."""
    return await asyncio.gather(*(watch(lane.url(name, **link)) for _ in range(size)))


def codes(seen: list[list[Event]]) -> list[str]:
    return [events[-1]["error"]["code"] if "error" in events[-1] else "ready" for events in seen]


async def test_2017_09_29_the_hub_answers_504_and_events_of_pods_are_lost(patient, empty_hub):
    """Then: launches failed with 504, and those that were pending stayed so. Now they wait and go on."""
    async with Change(patient) as change, contextlib.AsyncExitStack() as faults:
        await faults.enter_async_context(patient.back.on(Status(status=504, path="/hub/api/")))
        lost = Stalled(events=0, path="/progress$", first=4)
        await faults.enter_async_context(patient.back.on(lost))
        launches = asyncio.create_task(crowd(patient, 4, "i0929", spawn=0.3))

        async def gate_open() -> bool:
            return (await patient.service.metrics())["binderhub_ext_hub_breaker_state"] > 0

        assert await seconds_until(gate_open) < 6
        checks = await health(patient)
        assert checks["JupyterHub API"]["breaker"] in {"open", "half_open"}
        await patient.back.clear()
        seen = await launches
    assert codes(seen) == ["ready"] * 4
    assert change.of("binderhub_ext_retries_total", code="hub.unreachable") >= 4
    assert len(await empty_hub.users()) == 4 and len(await empty_hub.servers()) == 4


async def test_2017_10_17_launches_that_time_out_in_a_full_cluster_leave_nothing_in_it(brief, empty_hub):
    """Then: "took too long", and each left a pending pod, which filled the cluster further."""
    async with Change(brief) as change:
        seen = await crowd(brief, 8, "i1017", spawn="never", say=UNSCHEDULABLE)
    assert codes(seen) == ["cluster.full"] * 8
    for events in seen:
        assert "no room" in events[-1]["message"] and "Insufficient memory" in events[-1]["error"]["detail"]
        assert events[-1]["elapsed"] < 2 + 5
    assert change.of("binderhub_ext_failures_total", code="cluster.full") == 8
    assert change.of("binderhub_ext_cleanup_removed_total") >= 8
    assert await empty_hub.users() == []


async def test_2017_11_30_the_proxy_dies_under_running_launches(patient, empty_hub):
    """Then: the proxy ran out of memory, and everything that was open was lost. Now launches outlive it."""
    launches = asyncio.create_task(crowd(patient, 3, "i1130", spawn=1.5))
    await empty_hub.has(3)
    children = psutil.Process(empty_hub.process.popen.pid).children(recursive=True)
    proxy = next(child for child in children if "configurable-http-proxy" in " ".join(child.cmdline()))
    proxy.kill()
    patient.front.drop("/build/", reset=True)
    seen = await launches
    await patient.quiet()
    # JupyterHub starts its proxy again; what it could not route meanwhile is started again or told
    assert set(codes(seen)) <= {"ready", "server.crashed", "server.timeout", "hub.unreachable"}
    assert len(await empty_hub.users()) == codes(seen).count("ready")
    await empty_hub.process.answers(empty_hub.url + "hub/api")


async def test_2018_02_12_a_hub_that_never_answers_is_told_to_people_and_operators(brief, empty_hub):
    """Then: launches hung for an hour and nothing reported an error."""
    async with Change(brief) as change:
        async with brief.back.on(Timeout(path="/hub/api/")):
            launches = asyncio.create_task(crowd(brief, 6, "i0212"))

            async def unhealthy() -> bool:
                return not (await health(brief))[""]["ok"]

            assert await seconds_until(unhealthy) < 4
            seen = await launches
            checks = await health(brief)
            assert checks[""] == {"ok": False, "status": 503} and checks["JupyterHub API"]["why"]
    assert codes(seen) == ["hub.unreachable"] * 6
    assert max(events[-1]["elapsed"] for events in seen) < 2 + 5
    assert change.of("binderhub_ext_failures_total", code="hub.unreachable") == 6
    assert (await health(brief))["JupyterHub API"]["ok"]
    await empty_hub.empty()


async def test_2018_02_20_many_launches_at_once_do_not_collide_and_refusals_are_no_failures(
    patient, empty_hub
):
    """Then: temporary users collided, and people whom a quota refused were counted as failed launches."""
    full = Status(status=429, body=FULL, retry_after=300, method="POST", path="/server$", skip=15)
    async with Change(patient) as change, patient.back.on(full):
        seen = await crowd(patient, 20, "i0220")
    assert sorted(codes(seen)) == ["quota.hub"] * 5 + ["ready"] * 15
    assert len({events[-1]["url"] for events in seen if events[-1]["phase"] == "ready"}) == 15
    assert change.of("binderhub_ext_launch_outcomes_total", outcome="refused") == 5
    assert change.of("binderhub_ext_launch_outcomes_total", outcome="failed") == 0
    assert change.of("binderhub_launch_count_total", status="success") == 15
    assert change.of("binderhub_launch_count_total", status="failure") == 0
    assert len(await empty_hub.users()) == len(await empty_hub.servers()) == 15


async def test_2018_03_31_pods_that_are_stuck_are_seen_until_they_are_gone(brief, empty_hub):
    """Then: pods stayed in ContainerCreating and Terminating on broken nodes, and nobody was told."""
    seen = await crowd(brief, 3, "i0331", spawn="never", stop=3, say=CREATING)
    assert codes(seen) == ["server.timeout"] * 3
    metrics = await brief.service.metrics()
    assert metrics["binderhub_ext_cleanup_backlog"] == 3
    check = (await health(brief))["Clean-up"]
    assert check["backlog"] == 3 and check["oldest_seconds"] >= 0

    async def older() -> bool:
        return (await brief.service.metrics())["binderhub_ext_cleanup_oldest_seconds"] > 1

    await seconds_until(older)
    await brief.quiet()
    assert await empty_hub.users() == []


async def test_2018_04_18_a_hub_that_is_flooded_is_not_flooded_further(patient, empty_hub):
    """Then: a culler's requests left the Hub no time for launches, whose retries came on top."""
    slow = Latency(seconds=0.3, path="/hub/api/")
    busy = Status(status=429, body=THROTTLED, retry_after=1, method="POST", path="/server$", first=6)
    before = len(patient.back.requests)
    async with Change(patient) as change, patient.back.on(slow, busy):
        seen = await crowd(patient, 12, "i0418")
    assert codes(seen) == ["ready"] * 12
    queues = [event["queue"] for events in seen for event in events if "queue" in event]
    assert any(queue["reason"] == "busy" for queue in queues), "people see why they wait"
    assert change.of("binderhub_ext_retries_total") <= 12
    asked = [request.path for request in patient.back.requests[before:] if "/users/" in request.path]
    # the lanes' short abandon_timeout makes each launch show that it is watched several times a second
    launching = [path for path in asked if not path.endswith("/activity")]
    assert len(launching) <= 12 * 6
    assert len(await empty_hub.servers()) == 12


async def test_2020_07_09_a_crowd_of_launches_of_one_image_builds_once_and_their_retries_are_seen(
    patient, empty_hub
):
    """Then: starts timed out under the load, unseen in the metrics because a later attempt succeeded."""
    async with Change(patient) as change:
        seen = await crowd(patient, 30, "i0709", lines=3, build=0.5, flaky=8)
    assert codes(seen) == ["ready"] * 30
    assert empty_hub.count("build " + seen[0][-1]["repo_url"]) == 1
    # a start that fails before the Hub has answered is a 500 without words, one that fails later is told
    assert change.of("binderhub_ext_retries_total") >= 8
    # a Hub that is slow under the crowd may add to them
    assert change.of("binderhub_launch_time_seconds_count", status="success", retries="1") > 0
    assert len(await empty_hub.users()) == len(await empty_hub.servers()) == 30


async def test_2022_06_02_pods_that_a_quota_forbids_are_told_at_once(patient, empty_hub):
    """Then: every launch failed for 9 hours, after all its retries, with a message about a timeout."""
    async with Change(patient) as change:
        began = time.monotonic()
        seen = await crowd(patient, 5, "i0602", spawn="fail", why=FORBIDDEN)
        assert time.monotonic() - began < 5
    assert codes(seen) == ["cluster.full"] * 5
    assert all("exceeded quota" in events[-1]["error"]["detail"] for events in seen)
    assert change.of("binderhub_ext_failures_total", code="cluster.full") == 5
    assert change.of("binderhub_ext_retries_total") == 0
    assert await empty_hub.users() == []
