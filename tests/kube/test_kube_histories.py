"""Random histories: whatever the API server does, the cache ends up right, and never goes back in time."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from kubernetes_asyncio.client import Configuration

from binderhub_ext.kube.reflector import ReliablePodReflector
from tests.support.kube_api import PODS, ApiError, Fault, KubeAPI, Rule

INACTIVITY, LONGEST_WAIT = 1.2, 0.2
REQUESTS = 0.3
"""Seconds: what the list and the watch may take when nothing is wrong any more."""

POLL = 0.01
"""Seconds between two looks."""

names = st.sampled_from(["a", "b", "c"])
rules = st.builds(
    Rule,
    fault=st.sampled_from(sorted(set(Fault) - {Fault.DELAY})),
    verb=st.sampled_from(["list", "watch"]),
    times=st.sampled_from([None, 1, 3]),
    code=st.sampled_from([410, 429, 500, 503]),
    at=st.integers(1000, 1010),
)
steps = st.one_of(
    st.tuples(st.sampled_from(["create", "touch", "delete"]), names),
    st.tuples(st.sampled_from(["compact", "freeze", "thaw", "cut", "refuse", "accept", "clear"]), st.none()),
    st.tuples(st.just("fault"), rules),
    st.tuples(st.just("lapse"), st.integers(1000, 1010)),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.02, 0.15])),
)


class Witness:
    """Sees every change of a cache, and objects when an object becomes older or comes back."""

    def __init__(self, reflector: ReliablePodReflector) -> None:
        self.reflector = reflector
        self.versions: dict[str, int] = {}
        self.present: dict[str, str] = {}
        self.gone: set[str] = set()
        self.complaints: list[str] = []
        forward = reflector.cache._on_change
        reflector.cache._on_change = lambda key: (self.see(key), forward(key))[0]

    def see(self, key: str) -> None:
        known = self.reflector.resources.get(key)
        before = self.present.pop(key, None)
        if known is None:
            if before:
                self.gone.add(before)
            return
        uid, version = known["metadata"]["uid"], int(known["metadata"]["resourceVersion"])
        if before and before != uid:
            self.gone.add(before)
        self.present[key] = uid
        if uid in self.gone:
            self.complaints.append(f"{key} came back")
        if version < self.versions.get(uid, 0):
            self.complaints.append(f"{key} went from {self.versions[uid]} back to {version}")
        self.versions[uid] = version


def act(api: KubeAPI, what: str, value: Any, touched: int) -> None:
    try:
        if what == "create":
            api.create_pod(value)
        elif what == "touch":
            api.store.merge(
                PODS, ("default", value), {"metadata": {"annotations": {"touched": str(touched)}}}
            )
        elif what == "delete":
            api.delete_pod(value)
    except ApiError:
        pass  # it is there already, or not there


async def history(todo: list[tuple[str, Any]]) -> None:
    async with KubeAPI(bookmark_interval=0.3, too_large_wait=0.05) as api:
        configuration = Configuration()
        configuration.host = api.url
        Configuration.set_default(configuration)
        reflector = ReliablePodReflector(
            labels={"component": "singleuser-server"},
            namespace="default",
            timeout_seconds=1,
            request_timeout=5,  # longer than the inactivity limit, as in the defaults
            inactivity_seconds=INACTIVITY,
            backoff_limit=LONGEST_WAIT,
            page_size=2,
        )
        witness = Witness(reflector)
        reflector.ensure_running()
        for number, (what, value) in enumerate(todo):
            if what == "wait":
                await asyncio.sleep(value)
            elif what == "fault":
                fresh = Rule(value.fault, verb=value.verb, times=value.times, code=value.code, at=value.at)
                api.faults.add(fresh)
            elif what == "lapse":  # the watch ends with 410 while lists from a cache are of the past
                api.faults.add(Rule(Fault.STALE, verb="list", at=value))
                api.faults.add(Rule(Fault.GONE, verb="watch", times=1))
                api.cut()
                await asyncio.sleep(2.5 * LONGEST_WAIT)  # so that the list is asked for while they are
            elif what in ("refuse", "accept"):
                await getattr(api, what)()
            elif what in ("compact", "freeze", "thaw", "cut", "clear"):
                call = {"compact": api.store.compact, "cut": api.cut, "clear": api.faults.clear}
                call.get(what, getattr(api, f"{what}_cache", None))()
            else:
                act(api, what, value, number)
        api.faults.clear()
        api.thaw_cache()
        await api.accept()
        ended = time.monotonic()

        def right() -> bool:
            wanted = {"/".join(key): stored.rv for key, stored in api.store.state(PODS).items()}
            have = {key: int(obj["metadata"]["resourceVersion"]) for key, obj in reflector.resources.items()}
            return reflector.loaded and have == wanted

        # on a machine that does other things, too, it is the turns of the event loop that tell how much of the
        # time was this process's
        limit = INACTIVITY + REQUESTS
        turns = 0
        while not right() and (time.monotonic() < ended + limit or turns < limit / POLL):
            await asyncio.sleep(POLL)
            turns += 1
        try:
            assert right(), (reflector.rounds, reflector.last_error, reflector.cache.version)
            assert witness.complaints == []
        finally:
            await reflector.stop()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                if "close_client_task" in repr(task):
                    task.cancel()
                    await asyncio.wait([task])


# a failing history takes seconds, so it is shown as it was found instead of being made smaller
@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
# a list from the API server's cache of the past, asked for because the watch had lapsed
@example([("create", "a"), ("wait", 0.15), ("delete", "a"), ("create", "b"), ("touch", "b"), ("wait", 0.15),
          ("lapse", 1001), ("wait", 0.15)])  # fmt: skip
# a list whose connection has lost its other end, and stays so when everything else is well again
@example([("create", "a"), ("fault", Rule(Fault.LOST, verb="list")), ("fault", Rule(Fault.GONE, verb="watch", times=1)),
          ("cut", None), ("wait", 0.15), ("create", "b")])  # fmt: skip
@given(st.lists(steps, min_size=3, max_size=25))
def test_the_cache_is_right_after_any_history_and_never_goes_back(todo):
    asyncio.run(history(todo))
