"""Faults x stages: whatever fails, a launch ends in a server or an answer of the catalogue, in time, and cleans up.

Each row is one launch with one fault, through a real service before a real Hub, with a
proxy that fails on purpose on either side of the service. Rows run side by side in lanes
(see `tests.support.lanes`), one at a time in each.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from tests.support.lanes import BOUNDS, LAUNCH_TIMEOUT, Lane, watch
from tests.support.proxy_faults import (
    CutEvents,
    Down,
    Fault,
    Garbage,
    Latency,
    LimitData,
    LostAnswer,
    Replaced,
    ResetPeer,
    Slicer,
    SlowClose,
    Stalled,
    Status,
    Timeout,
    Truncated,
)
from tests.support.stack import Event, Hub

pytestmark = pytest.mark.asyncio(loop_scope="module")

GRACE = 5.0
"""Seconds after its bound within which a launch must have said how it ended."""

CREATE = {"method": "POST", "path": r"/users/[^/]+$"}
LOOK = {"method": "GET", "path": r"/users/[^/]+$"}
START = {"method": "POST", "path": r"/server$"}
PROGRESS = {"method": "GET", "path": r"/progress$"}
STOP = {"method": "DELETE", "path": r"/server$"}
DELETE = {"method": "DELETE", "path": r"/users/[^/]+$"}
HUB = {"path": "/hub/api/"}

# the Hub's own words
THROTTLED = '{"status": 429, "message": "Too many users trying to log in right now. Try again in 1 second."}'
FULL = '{"status": 429, "message": "Active user limit exceeded. Try again in a few minutes."}'
FORBIDDEN = (
    '{"status": 403, "message": "Action is not authorized with current scopes; requires any of [servers]"}'
)
NGINX = "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"

K8S = "2026-11-22T17:00:00Z"
UNSCHEDULABLE = (
    f"{K8S} [Warning] 0/3 nodes are available: 3 Insufficient memory. preemption: 0/3 nodes are available: "
    "3 No preemption victims found for incoming pod."
)
PULL = f'{K8S} [Warning] Failed to pull image "r2d-x:1": rpc error: code = NotFound desc = manifest unknown'
QUOTA = (
    '(403) Reason: Forbidden: pods "jupyter-x" is forbidden: exceeded quota: gke-resource-quotas, '
    "requested: pods=1, used: pods=15k, limited: pods=15k"
)
PSP = 'pods "jupyter-x" is forbidden: violates PodSecurity "restricted:latest": privileged'
CRASHED = f"{K8S} [Warning] Back-off restarting failed container notebook in pod jupyter-x"

Faults = tuple[Callable[[], Fault], ...]


@dataclass(frozen=True)
class Row:
    """One fault at one stage.

    Attributes
    ----------
    says : str
        The test's name.
    ends : str
        ``ready`` or a code of the catalogue.
    link : dict
        What the repository, its build and its server do (see `scripted`).
    back, front : tuple of callables
        Make the faults between service and Hub, and between browser and service.
    after : str
        The text of the event after which the faults are switched on; empty: before the launch.
    mended : float
        Seconds after which they are switched off; 0: after the end.
    until_clean : bool
        Whether they stay on until what the launch made is gone.
    spawns : int
        How many servers were started for it at most.
    within : float
        Seconds that it may take; 0: the bound of its lane.
    """

    stage: str
    says: str
    ends: str
    link: dict[str, Any] = field(default_factory=dict)
    back: Faults = ()
    front: Faults = ()
    lane: str = "patient"
    after: str = ""
    mended: float = 0.0
    until_clean: bool = False
    spawns: int = 1
    within: float = 0.0
    told: str = ""

    @property
    def bound(self) -> float:
        # resolving, image, slot and build have bounds of their own; each row fails at one stage
        own = {"resolving": 1.5, "image": 3.5, "slot": 6.0, "build": 8.0}.get(self.stage)
        return self.within or own or LAUNCH_TIMEOUT[self.lane]


def row(stage: str, says: str, ends: str, *back: Callable[[], Fault], **options: Any) -> Row:
    return Row(stage, says, ends, back=back, **options)


brief = {"lane": "brief"}
never = {"spawn": "never"}

ROWS = [
    # -- resolving --
    row("resolving", "the repository's host accepts and never answers", "repo.resolve_timeout",
        link={"resolve": "hang"}),
    row("resolving", "the repository's host refuses connections", "repo.unreachable",
        link={"resolve": "unreachable"}),
    row("resolving", "the repository's host answers 500", "repo.unreachable", link={"resolve": "broken"}),
    row("resolving", "the repository's host takes no more requests", "repo.rate_limited",
        link={"resolve": "limited"}),
    row("resolving", "the repository's host is slow", "ready", link={"resolve": "slow"}, within=10),
    row("resolving", "the repository is private or gone", "repo.not_found", link={"resolve": "gone"}),
    row("resolving", "the branch does not exist", "ref.not_found", link={"resolve": "none"}),
    row("resolving", "the provider breaks in a way of its own", "internal", link={"resolve": "odd"}),
    row("resolving", "the repository is banned", "repo.banned", link={"banned": 1}),
    # -- is the image there? --
    row("image", "the registry refuses connections", "registry.unreachable", link={"image": "down"}),
    row("image", "the registry accepts and never answers", "registry.unreachable", link={"image": "hang"}),
    row("image", "the registry fails once", "ready", link={"image": "down-once"}, within=10),
    row("image", "the registry is slow", "ready", link={"image": "slow"}, within=10),
    # -- a slot for the build --
    row("slot", "all build slots are taken for too long", "build.no_slot", lane="narrow", link={"before": 2.5}),
    row("slot", "a build slot becomes free in time", "ready", lane="narrow", link={"before": 0.7}, within=10,
        told="You are number 1 in line"),
    # -- the build --
    row("build", "the repository cannot be built", "build.failed", link={"buildfails": 1}),
    row("build", "the builder breaks", "build.interrupted", link={"buildcrash": 1}),
    row("build", "the builder ends without a word", "build.interrupted", link={"buildsilent": 1}),
    row("build", "the build takes too long", "build.timeout", link={"build": 8}),
    row("build", "the build takes too long in the middle of its log", "build.timeout",
        link={"lines": 50, "every": 0.2}),
    row("build", "a log line has 1 MB and one is no text", "ready", link={"bigline": 1_000_000}, within=10),
    # -- the user is created --
    row("create user", "the Hub refuses connections while the user is created", "hub.unreachable",
        Down, **brief),
    row("create user", "the Hub refuses connections for a second", "ready", Down, mended=1.0),
    row("create user", "the Hub resets connections while the user is created", "hub.unreachable",
        partial(ResetPeer, **CREATE), **brief),
    row("create user", "the Hub resets the first two connections", "ready",
        partial(ResetPeer, **CREATE, first=2)),
    row("create user", "the Hub accepts and never answers", "hub.unreachable",
        partial(Timeout, **HUB), **brief),
    row("create user", "the Hub does not answer the first request", "ready",
        partial(Timeout, **CREATE, first=1)),
    row("create user", "a proxy before the Hub answers 502 in HTML", "hub.unreachable",
        partial(Status, status=502, body=NGINX, content_type="text/html", **CREATE), **brief),
    row("create user", "a proxy before the Hub answers 503 twice", "ready",
        partial(Status, status=503, **CREATE, first=2)),
    row("create user", "a proxy before the Hub answers 504 once", "ready",
        partial(Status, status=504, **CREATE, first=1)),
    row("create user", "something else answers where the Hub was", "hub.unreachable",
        partial(Garbage, **HUB), **brief),
    row("create user", "something else answers once where the Hub was", "ready",
        partial(Garbage, **CREATE, first=1)),
    row("create user", "the Hub does not let the service create users", "hub.refused",
        partial(Status, status=403, body=FORBIDDEN, **CREATE), told="not authorized with current scopes"),
    row("create user", "the Hub breaks each time the user is created", "hub.refused",
        partial(Status, status=500, body='{"message": "Internal Server Error"}', **CREATE), **brief),
    row("create user", "the user is created but the answer is lost", "ready",
        partial(LostAnswer, **CREATE, first=1)),
    row("create user", "the user is created but no answer comes before the bound", "hub.unreachable",
        partial(Timeout, **CREATE), **brief),
    row("create user", "the Hub asks to come back in a second", "ready",
        partial(Status, status=429, body=THROTTLED, retry_after=1, **CREATE, first=1)),
    row("create user", "a proxy before the Hub asks to come back in a second", "ready",
        partial(Status, status=503, retry_after=1, **CREATE, first=1)),
    row("create user", "the Hub asks to come back after the bound", "hub.unreachable",
        partial(Status, status=429, body=THROTTLED, retry_after=4, **CREATE, first=1), **brief),
    # -- the server is asked for --
    row("start server", "the connection is reset before the start is asked for", "ready",
        partial(ResetPeer, **START, first=1)),
    row("start server", "the start is asked for but the answer is lost", "ready",
        partial(LostAnswer, **START, first=1)),
    row("start server", "the answer to the start never comes", "ready", partial(Timeout, **START, first=1)),
    row("start server", "no answer comes to any start", "hub.unreachable",
        partial(Status, status=503, **START), **brief),
    row("start server", "the Hub starts as many servers as it can", "ready",
        partial(Status, status=429, body=THROTTLED, retry_after=1, **START, first=2)),
    row("start server", "the Hub has as many servers as it may", "quota.hub",
        partial(Status, status=429, body=FULL, retry_after=300, **START)),
    row("start server", "the Hub does not let the service start servers", "hub.refused",
        partial(Status, status=403, body=FORBIDDEN, **START), told="not authorized with current scopes"),
    row("start server", "the Hub answers 409 and has no server", "hub.refused",
        partial(Status, status=409, body='{"message": "conflict"}', **START), told="conflict"),
    row("start server", "the Hub answers 409 and the server is ours and starting", "ready",
        partial(Replaced, status=409, body='{"message": "conflict"}', **START), link={"spawn": 0.5}),
    row("start server", "the Hub answers 400 for the server is starting already", "ready",
        partial(Replaced, status=400, body='{"message": "x is pending spawn"}', **START), link={"spawn": 0.5}),
    row("start server", "the Hub answers 500 and starts the server all the same", "ready",
        partial(Replaced, status=500, body='{"message": "Internal Server Error"}', **START),
        link={"spawn": 0.5}),
    row("start server", "the answer to the start is lost and the Hub cannot be asked at once", "ready",
        partial(LostAnswer, **START, first=1), partial(Status, status=503, **LOOK, first=1)),
    row("start server", "the Hub breaks once when the server is asked for", "ready",
        partial(Status, status=500, body='{"message": "Internal Server Error"}', **START, first=1)),
    row("start server", "every answer of the Hub is half a second late", "ready",
        partial(Latency, seconds=0.5, **HUB)),
    row("start server", "answers of the Hub come in tiny pieces", "ready", partial(Slicer, size=7, **HUB)),
    row("start server", "the Hub's model of the user is cut short", "ready",
        partial(LostAnswer, **START, first=1), partial(Truncated, size=20, **LOOK, first=1)),
    row("start server", "the Hub's model of the user is no JSON", "ready",
        partial(LostAnswer, **START, first=1), partial(Status, status=200, body="<html>", **LOOK, first=1)),
    row("start server", "the operator's hook says no", "hook.refused",
        link={"hook": "no"}, told="Not during the exam"),
    # -- the server starts --
    row("spawn", "the spawner fails at once", "server.crashed", link={"spawn": "fail"}),
    row("spawn", "the spawner fails after a while", "server.crashed", link={"failafter": 0.5}),
    row("spawn", "the server never becomes ready", "server.timeout", link=never, **brief),
    row("spawn", "the server is not where the spawner says", "server.timeout",
        link={"spawn": "unreachable"}, **brief),
    row("spawn", "two starts fail for a reason that passes", "ready", link={"flaky": 2}, spawns=3),
    row("spawn", "every start fails for a reason that may pass", "server.crashed",
        link={"flaky": 99}, spawns=4),
    row("spawn", "the cluster is full", "cluster.full", link={"say": UNSCHEDULABLE, "failafter": 0.3,
        "why": "pod default/jupyter-x did not start in 300 seconds!"}),
    row("spawn", "the cluster is full and the bound comes first", "cluster.full",
        link={"say": UNSCHEDULABLE, "spawn": "never"},
        **brief),
    row("spawn", "the image cannot be pulled", "image.pull", link={"say": PULL, "failafter": 0.3,
        "why": "pod default/jupyter-x did not start in 300 seconds!"}),
    row("spawn", "a quota of the cluster is full", "cluster.full", link={"failafter": 0.1, "why": QUOTA}),
    row("spawn", "the cluster does not allow the pod", "start.forbidden", link={"failafter": 0.1, "why": PSP}),
    row("spawn", "the container crashes again and again", "server.crashed",
        link={"say": CRASHED, "failafter": 0.3,
        "why": "pod default/jupyter-x did not start in 300 seconds!"}, told="Back-off restarting"),
    # -- its progress --
    row("progress", "the progress stream is cut after every event", "ready",
        partial(CutEvents, events=1, **PROGRESS),
        link={"spawn": 1.5, "say": "Pulling"}),
    row("progress", "the progress stream is reset once", "ready",
        partial(CutEvents, events=1, reset=True, first=1, **PROGRESS),
        link={"spawn": 1}),
    row("progress", "the progress stream is cut before its first byte, each time", "ready",
        partial(CutEvents, size=0, **PROGRESS), link={"spawn": 1.5}),
    row("progress", "the progress stream falls silent", "ready",
        partial(Stalled, events=1, first=1, **PROGRESS),
        link={"spawn": 0.5}),
    row("progress", "the progress request is never answered", "ready",
        partial(Timeout, **PROGRESS), link={"spawn": 0.5}),
    row("progress", "the progress stream comes in single bytes", "ready", partial(Slicer, size=1, **PROGRESS)),
    row("progress", "the progress stream is no event stream", "ready",
        partial(Status, status=200, body="data: {\n\n", content_type="text/event-stream", first=1, **PROGRESS)),
    row("progress", "the progress request is answered 500 once", "ready",
        partial(Status, status=500, first=1, **PROGRESS)),
    row("progress", "the progress request is answered 400, for the server is ready already", "ready",
        partial(Status, status=400, body='{"message": "x is not starting..."}', first=1, **PROGRESS),
        link={"spawn": 0}),
    row("progress", "the Hub goes down while the server starts", "ready", Down, link={"spawn": 1},
        after="Server requested\n", mended=1.0),
    row("progress", "the Hub goes down while the server starts and does not come back", "hub.unreachable", Down,
        link={"spawn": "never"}, after="Server requested\n", **brief),
    row("progress", "every connection to the Hub ends after 600 bytes", "ready",
        partial(LimitData, size=600, **PROGRESS),
        link={"spawn": 1, "say": "x" * 300}),
    # -- between the browser and the service --
    row("browser", "the browser's stream is cut after every two events", "ready",
        front=(partial(CutEvents, events=2),),
        link={"lines": 6, "spawn": 0.5}),
    row("browser", "the browser's connection is reset once", "ready",
        front=(partial(CutEvents, events=2, reset=True, first=1),),
        link={"lines": 3}),
    row("browser", "the browser's stream comes in tiny pieces", "ready", front=(partial(Slicer, size=50),)),
    row("browser", "the browser's stream falls silent", "ready", front=(partial(Stalled, events=2, first=1),)),
    row("browser", "the browser's stream ends slowly", "ready",
        front=(partial(SlowClose, seconds=1), partial(CutEvents, events=2, first=2))),
    row("browser", "the service cannot be reached for a second in the middle of a launch", "ready",
        front=(Down,),
        after="Server requested\n", mended=0.7, link={"spawn": 1}),
    row("browser", "the last event is lost on its way", "ready",
        front=(partial(LimitData, size=1500, first=1),)),
    # -- cleaning up --
    row("clean-up", "the server does not stop at once", "server.timeout", link={**never, "stop": 1}, **brief),
    row("clean-up", "the Hub says for a while that a spawn is pending", "server.timeout",
        partial(Status, status=400, body='{"message": "x is pending spawn"}', **STOP, first=3),
        link=never, until_clean=True, **brief),
    row("clean-up", "the Hub says for a while that the stop is pending", "server.timeout",
        partial(Status, status=202, **STOP, first=3), link=never, until_clean=True, **brief),
    row("clean-up", "the Hub asks the clean-up to come back in a second", "server.timeout",
        partial(Status, status=429, retry_after=1, **STOP, first=1), link=never, until_clean=True, **brief),
    row("clean-up", "the Hub breaks during the clean-up", "server.timeout",
        partial(Status, status=500, **STOP, first=2), partial(Status, status=500, **DELETE, first=2),
        link=never, until_clean=True, **brief),
    row("clean-up", "the answers to the clean-up are lost", "server.timeout",
        partial(LostAnswer, **STOP, first=2), partial(LostAnswer, **DELETE, first=2),
        link=never, until_clean=True, **brief),
    row("clean-up", "the Hub does not answer the clean-up at first", "server.timeout",
        partial(Timeout, **STOP, first=1), link=never, until_clean=True, **brief),
    row("clean-up", "the Hub says it deleted the user, and did not", "server.timeout",
        partial(Status, status=204, **DELETE, first=1), link=never, until_clean=True, **brief),
    row("clean-up", "the user cannot be deleted at first", "server.timeout",
        partial(Status, status=403, body=FORBIDDEN, **DELETE, first=2), link=never, until_clean=True, **brief),
]  # fmt: skip


# -- how they are run --


@dataclass
class Outcome:
    """What became of a row."""

    events: list[Event]
    seconds: float
    users: list[dict[str, Any]]
    spawned: int
    log: str


class Runner:
    """Runs rows in lanes, as many as there are lanes at a time."""

    def __init__(self, hub: Hub, rows: list[Row]) -> None:
        self.hub = hub
        self._queues: dict[str, asyncio.Queue[Row]] = {kind: asyncio.Queue() for kind in LAUNCH_TIMEOUT}
        self.outcomes: dict[str, asyncio.Future[Outcome]] = {}
        for one in rows:
            self.outcomes[one.says] = asyncio.get_running_loop().create_future()
            self._queues[one.lane].put_nowait(one)

    async def lane(self, kind: str, number: int) -> None:
        """Run rows of one kind until there are none."""
        queue = self._queues[kind]
        lane = None
        try:
            while not queue.empty():
                one = queue.get_nowait()
                try:
                    lane = lane or await Lane.open(self.hub, f"{kind}-{number}", **BOUNDS, **CONFIG[kind])
                    self.outcomes[one.says].set_result(await self.run(lane, one))
                except Exception as error:  # noqa: BLE001 - it is the row's outcome
                    self.outcomes[one.says].set_exception(error)
        finally:
            if lane is not None:
                await lane.close()

    async def run(self, lane: Lane, one: Row) -> Outcome:
        """Run one row, and wait until what it left is gone."""
        name = f"f{ROWS.index(one)}"
        logged = lane.service.log.stat().st_size
        link = dict(one.link)
        others = []
        if "before" in link:
            # another build takes the only slot
            building = asyncio.Event()
            other = lane.url(name + "-other", build=link.pop("before"), buildfails=1, lines=1)
            others.append(
                asyncio.create_task(
                    watch(other, each=lambda e: building.set() if e["phase"] == "building" else None)
                )
            )
            await building.wait()
        url = lane.url(name, **link)
        back, front = [make() for make in one.back], [make() for make in one.front]
        async with contextlib.AsyncExitStack() as faults:

            async def switch_on() -> None:
                await faults.enter_async_context(lane.back.on(*back))
                await faults.enter_async_context(lane.front.on(*front))
                if one.mended:
                    await asyncio.sleep(one.mended)
                    await faults.aclose()

            if one.after:
                switching = None
            else:
                switching = asyncio.create_task(switch_on())
                await asyncio.sleep(0)
            began = time.monotonic()

            def seen(event: Event) -> None:
                nonlocal switching
                if switching is None and event["message"] == one.after:
                    switching = asyncio.create_task(switch_on())

            events = await watch(url, seconds=one.bound + GRACE + 10, each=seen)
            took = time.monotonic() - began
            if switching is not None:
                await switching
            if one.until_clean:
                await lane.quiet()
        await asyncio.gather(*others)
        for fault in back + front:
            assert fault.hits or isinstance(fault, Down), f"{fault} struck nothing"
        users = await self.left(lane, name, keep=events[-1]["phase"] == "ready")
        spawned = self.hub.count("spawn " + events[-1].get("repo_url", "")) if one.ends == "ready" else 0
        for user in users:
            await self.hub.request("DELETE", f"users/{user['name']}")
        return Outcome(events, took, users, spawned, lane.service.log.read_text(errors="replace")[logged:])

    async def left(self, lane: Lane, name: str, keep: bool) -> list[dict[str, Any]]:
        """Return the row's users once the service has nothing more to clean up."""
        await lane.quiet()
        users = await self.hub.users()
        return [user for user in users if user["name"].startswith((f"{name}-", f"{name}-other"))]


CONFIG: dict[str, dict[str, Any]] = {
    "brief": {"Launcher__launch_timeout": LAUNCH_TIMEOUT["brief"]},
    "patient": {"Launcher__launch_timeout": LAUNCH_TIMEOUT["patient"]},
    "narrow": {"Launcher__launch_timeout": LAUNCH_TIMEOUT["narrow"], "BinderHub__concurrent_build_limit": 1},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def outcomes(request: pytest.FixtureRequest, shared_hub: Hub) -> AsyncIterator[dict[str, Any]]:
    """The outcome of each row that is asked for, as it comes."""
    wanted = {
        item.callspec.params["row"].says
        for item in request.session.items
        if hasattr(item, "callspec") and "row" in item.callspec.params
    }
    runner = Runner(shared_hub, [one for one in ROWS if one.says in wanted])
    lanes = [("patient", 1), ("brief", 1), ("patient", 2), ("brief", 2), ("narrow", 1)]
    tasks = [asyncio.create_task(runner.lane(*lane)) for lane in lanes]
    yield runner.outcomes
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in runner.outcomes.values():
        if outcome.done() and not outcome.cancelled():
            outcome.exception()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.stage}: {row.says}")
async def test_a_launch_ends_readably_in_time_and_leaves_nothing(row: Row, outcomes: dict[str, Any]):
    outcome = await outcomes[row.says]
    last = outcome.events[-1]
    if row.ends == "ready":
        assert last["phase"] == "ready", last
        assert len(outcome.users) == 1 and outcome.users[0]["server"] is not None, outcome.users
        assert 1 <= outcome.spawned <= row.spawns
        assert row.told in "".join(event["message"] for event in outcome.events)
    else:
        assert last["phase"] == "failed" and last["error"]["code"] == row.ends, last
        error = last["error"]
        assert error["title"] and error["hint"] and error["reference"] in outcome.log
        assert row.told in last["message"] + error["detail"]
        assert "<" not in error["detail"] and "127.0.0.1" not in last["message"] + error["detail"]
        assert outcome.users == []
        assert ("Traceback" in outcome.log) == (row.ends == "internal")
    assert outcome.seconds <= row.bound + GRACE
    numbers = [int(event.id.split(".")[1]) for event in outcome.events]
    assert numbers == list(range(1, len(numbers) + 1)), "nothing twice, nothing missing"
