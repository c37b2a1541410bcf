"""The pure parts of the reflector and the spawner: exact answers, no sockets, no waiting."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderhub_ext.kube import compatibility
from binderhub_ext.kube.abort import Verdict, guard, verdict
from binderhub_ext.kube.bounds import GRACE_SECONDS, Bounds
from binderhub_ext.kube.cache import Cache, version_number
from binderhub_ext.kube.entries import Entry
from binderhub_ext.kube.leftovers import Leftover, Leftovers
from binderhub_ext.kube.parsing import Lines, Slicer, parse_list
from binderhub_ext.kube.pods import PodFacts, PodState, pod_facts
from binderhub_ext.kube.rounds import Outcome, Rounds, Step
from binderhub_ext.kube.transport import outcome_of_status
from binderhub_ext.kube.urls import address, changed_address


class FakeClock:
    """A clock whose sleeps pass at once."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


def pod(name="a", rv=1, uid="u1", **status):
    return {
        "metadata": {"namespace": "n", "name": name, "uid": uid, "resourceVersion": str(rv)},
        "status": status,
    }


def entry(obj):
    return Entry.of(obj, packed=False)


def event(kind, obj):
    return {"type": kind, "object": obj}


# the cache


def test_an_older_version_of_an_object_changes_nothing():
    cache = Cache()
    cache.fold_list([entry(pod(rv=5))], "5")
    cache.fold_event(event("MODIFIED", pod(rv=4, phase="Pending")))
    assert cache.objects["n/a"]["metadata"]["resourceVersion"] == "5"
    assert cache.version == "5"


def test_a_bookmark_and_a_deletion_move_the_resource_version_on():
    cache = Cache()
    cache.fold_list([entry(pod(rv=5))], "5")
    cache.fold_event(event("BOOKMARK", {"metadata": {"resourceVersion": "9"}}))
    assert cache.version == "9"
    cache.fold_event(event("DELETED", pod(rv=11)))
    assert (cache.version, cache.objects) == ("11", {})


def test_what_a_direct_read_found_outlives_an_older_list():
    cache = Cache()
    cache.fold_list([], "5")
    cache.fold_read(pod(rv=8))
    cache.fold_list([], "7")
    assert "n/a" in cache.objects
    cache.fold_list([], "9")
    assert cache.objects == {}


def test_what_a_direct_read_missed_does_not_come_back_from_a_late_watch():
    cache = Cache()
    cache.fold_list([entry(pod(rv=5))], "5")
    cache.fold_missing("n/a")
    cache.fold_event(event("MODIFIED", pod(rv=6)))
    assert cache.objects == {}
    cache.fold_event(event("DELETED", pod(rv=7)))
    cache.fold_event(event("ADDED", pod(rv=8, uid="u2")))
    assert cache.objects["n/a"]["metadata"]["uid"] == "u2"


def test_the_deletion_of_an_older_object_leaves_the_newer_one_of_the_same_name():
    cache = Cache()
    cache.fold_list([], "1")
    cache.fold_read(pod(rv=9, uid="u2"))
    cache.fold_event(event("DELETED", pod(rv=7, uid="u1")))
    assert "n/a" in cache.objects


def test_a_restored_cluster_whose_versions_are_lower_is_believed():
    cache = Cache()
    cache.fold_list([entry(pod(rv=500))], "500")
    cache.fold_list([entry(pod(rv=20))], "20")
    assert (cache.version, cache.objects["n/a"]["metadata"]["resourceVersion"]) == ("20", "20")


def test_changes_are_told_after_they_happened():
    told = []
    cache = Cache(lambda key: told.append((key, key in cache.objects)))
    cache.fold_list([entry(pod(rv=5))], "5")
    cache.fold_list([entry(pod(rv=5))], "6")
    cache.fold_event(event("DELETED", pod(rv=7)))
    assert told == [("n/a", True), ("n/a", False)]


def test_an_unknown_event_changes_nothing():
    cache = Cache()
    cache.fold_list([entry(pod(rv=5))], "5")
    with pytest.raises(KeyError):
        cache.fold_event(event("SYNC", pod(rv=9)))
    assert cache.version == "5"


@pytest.mark.parametrize("text, number", [("12", 12), ("", None), ("1a", None), (None, None), ("٣", None)])
def test_only_decimal_resource_versions_are_compared(text, number):
    assert version_number(text) == number


# what comes next


def rounds(**more):
    return Rounds(first=1, limit=8, healthy=5, uniform=lambda low, high: high, **more)


def test_waits_grow_to_the_limit_and_only_a_healthy_interval_resets_them():
    machine = rounds(step=Step.WATCH)
    waits = [machine.ended(Outcome.UNREACHABLE) for _ in range(5)]
    assert waits == [1, 2, 4, 8, 8]
    assert machine.ended(Outcome.LISTED) == 0
    assert machine.ended(Outcome.UNREACHABLE, lasted=1) == 8
    assert machine.ended(Outcome.UNREACHABLE, lasted=6) == 1


@pytest.mark.parametrize("outcome", [Outcome.GONE, Outcome.CLOSED, Outcome.SILENT])
def test_the_first_end_of_a_watch_costs_no_wait_the_next_do(outcome):
    machine = rounds(step=Step.WATCH)
    waits = []
    for _ in range(3):
        waits.append(machine.ended(outcome))
        if machine.step is not Step.WATCH:
            machine.ended(Outcome.LISTED)
    assert waits == [0, 2, 4]


@pytest.mark.parametrize(
    "step, outcome, following",
    [
        (Step.WATCH, Outcome.TIMEOUT, Step.WATCH),
        (Step.WATCH, Outcome.SILENT, Step.WATCH),
        (Step.WATCH, Outcome.HTTP_ERROR, Step.WATCH),
        (Step.WATCH, Outcome.GONE, Step.LIST_RECENT),
        (Step.WATCH, Outcome.UNREADABLE, Step.LIST_FROM),
        (Step.LIST_FROM, Outcome.TOO_LARGE, Step.LIST_RECENT),
        (Step.LIST_FROM, Outcome.STALE, Step.LIST_RECENT),
        (Step.LIST_FROM, Outcome.UNREACHABLE, Step.LIST_FROM),
        (Step.LIST_RECENT, Outcome.GONE, Step.LIST_RECENT),
        (Step.LIST_RECENT, Outcome.LISTED, Step.WATCH),
    ],
)
def test_the_next_step(step, outcome, following):
    machine = rounds(step=step)
    machine.ended(outcome)
    assert machine.step is following


def test_before_the_first_list_nothing_but_a_list_comes_next():
    machine = rounds(step=Step.WATCH)
    machine.ended(Outcome.UNREACHABLE, loaded=False)
    assert machine.step is Step.LIST_RECENT


def test_a_doubt_leads_to_a_list_of_the_most_recent_state_once():
    machine = rounds(step=Step.WATCH)
    machine.relist()
    machine.ended(Outcome.TIMEOUT)
    assert machine.step is Step.LIST_RECENT
    machine.ended(Outcome.LISTED)
    assert machine.step is Step.WATCH


def test_statuses_of_the_api_become_outcomes():
    cause = {"causes": [{"reason": "ResourceVersionTooLarge"}]}
    assert outcome_of_status(504, "Timeout", cause) is Outcome.TOO_LARGE
    assert outcome_of_status(504, "Too large resource version: 9, current: 5") is Outcome.TOO_LARGE
    assert outcome_of_status(504, "request timed out") is Outcome.HTTP_ERROR
    assert outcome_of_status(410, "too old") is Outcome.GONE


# parsing


@given(st.lists(st.integers(0, 9)), st.booleans(), st.sampled_from([None, 1]), st.booleans())
def test_any_list_is_parsed_item_by_item(numbers, items_first, indent, packed):
    items = [pod(name=f"p{number}", rv=number, note='"items":[') for number in numbers]
    metadata = {"resourceVersion": "7", "continue": ""}
    body = {"items": items, "metadata": metadata} if items_first else {"metadata": metadata, "items": items}
    text = json.dumps({"kind": "PodList", **body}, indent=indent)
    found, rest = asyncio.run(parse_list(text.encode(), Slicer(), packed=packed))
    assert ([one.object() for one in found], rest) == (items, metadata)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{}",
        b'{"items":[{]}',
        b'{"items":[1]}',
        b'{"items":[]}',
        b'{"items":[{"metadata":{}}',
    ],
)
async def test_what_is_no_list_is_a_value_error(body):
    with pytest.raises(ValueError):
        await parse_list(body, Slicer())


async def test_a_long_list_lets_others_in():
    body = json.dumps(
        {"metadata": {"resourceVersion": "1"}, "items": [pod(name=f"p{n}") for n in range(3000)]}
    )
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticker = asyncio.ensure_future(tick())
    await parse_list(body.encode(), Slicer(slice_seconds=0.001))
    ticker.cancel()
    assert ticks > 3


@given(st.lists(st.binary(min_size=1).filter(lambda line: b"\n" not in line and line.strip())), st.data())
def test_lines_come_out_whole_however_they_are_cut(wanted, data):
    stream = b"".join(line + b"\n" for line in wanted)
    lines, found = Lines(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += lines.feed(stream[:size])
        stream = stream[size:]
    assert found == wanted


# pods


def running(ready=True):
    return {"phase": "Running", "podIP": "1", "containerStatuses": [{"ready": ready}]}


KILLED = {"name": "notebook", "state": {"terminated": {"exitCode": 137}}}


@pytest.mark.parametrize(
    "status, deleted, facts",
    [
        ({"phase": "Pending"}, False, (PodState.STARTING, None)),
        (running(), False, (PodState.RUNNING, None)),
        (running(), True, (PodState.TERMINATING, None)),
        (running(ready=False), False, (PodState.STARTING, None)),
        ({"phase": "Failed"}, False, (PodState.ENDED, 1)),
        ({"phase": "Failed", "containerStatuses": [KILLED]}, False, (PodState.ENDED, 137)),
    ],
)
def test_what_a_pod_says(status, deleted, facts):
    one = pod(**status)
    if deleted:
        one["metadata"]["deletionTimestamp"] = "2020-01-01T00:00:00Z"
    assert pod_facts(one) == PodFacts(*facts, uid="u1")


def test_addresses_are_compared_by_host_and_port():
    assert address("https://host/path") == ("host", 443)
    assert changed_address("http://10.0.0.1:8888/user/a/", "http://10.0.0.1:8888") is None
    assert changed_address("http://10.0.0.1:8888", "http://10.0.0.2:8888") == ("10.0.0.2", 8888)


# bounds, leftovers, the end of the Hub


def test_an_action_is_overdue_after_its_bound_and_the_grace():
    clock = FakeClock()
    bounds = Bounds(clock)
    with bounds.under_way("stop", "ada", 60):
        clock.now += 60 + GRACE_SECONDS
        assert bounds.overdue() == []
        clock.now += 0.1
        assert [action.name for action in bounds.overdue()] == ["stop"]
    assert bounds.overdue() == [] and bounds.actions == set()


async def test_a_leftover_is_tried_again_until_it_is_gone():
    answers = iter([OSError("away"), False, True])
    asked = []

    async def delete(*what):
        asked.append(what)
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    leftovers = Leftovers(clock=FakeClock())
    leftovers.add(Leftover("n", "a", "u1"), delete, logging.getLogger())
    while len(leftovers):  # noqa: ASYNC110 - the clock is a fake one
        await asyncio.sleep(0)
    assert asked == [("n", "a", "u1")] * 3


async def test_a_leftover_without_a_uid_is_asked_for_until_no_creation_can_be_under_way():
    clock = FakeClock()

    async def delete(*what):
        return True

    leftovers = Leftovers(settle=70, clock=clock)
    leftovers.add(Leftover("n", "a"), delete, logging.getLogger())
    while len(leftovers):  # noqa: ASYNC110 - the clock is a fake one
        await asyncio.sleep(0)
    assert sum(clock.slept) >= 70


async def test_a_new_start_is_not_hit_by_a_leftover_without_a_uid():
    async def delete(*what):
        return False

    leftovers = Leftovers()
    leftovers.add(Leftover("n", "a"), delete, logging.getLogger())
    leftovers.add(Leftover("n", "a", "u1"), delete, logging.getLogger())
    leftovers.starting("n", "a")
    assert Leftover("n", "a") not in leftovers and Leftover("n", "a", "u1") in leftovers
    await leftovers.close()


@pytest.mark.parametrize(
    "age, timeout, reachable, anyway, expected",
    [
        (299, 300, None, False, Verdict.FINE),
        (301, 300, True, False, Verdict.ABORT),
        (301, 300, False, False, Verdict.WAIT),
        (301, 300, False, True, Verdict.ABORT),
        (9999, 0, True, True, Verdict.FINE),
    ],
)
def test_when_the_hub_ends(age, timeout, reachable, anyway, expected):
    assert verdict(age, timeout, reachable, anyway) is expected


async def test_the_guard_ends_the_hub_when_the_api_server_answers_others(caplog):
    clock, aborted, answers = FakeClock(), [], iter([False, False, True])

    class Reflector:
        kind, last_error, began = "pods", "HTTP 500", clock.now

        @property
        def age(self):
            return clock.now - self.began

    async def answer():
        return next(answers)

    await guard(
        Reflector(), timeout=300, when_unreachable=False, answers=answer, abort=lambda: aborted.append(1),
        log=logging.getLogger(), clock=clock,
    )  # fmt: skip
    assert aborted == [1] and next(answers, None) is None
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR", "CRITICAL"]
    assert "The cache of pods could not be refreshed" in caplog.records[-1].getMessage()


# fitting in


def test_a_kubespawner_without_the_known_internals_is_named_in_one_line():
    class Other:
        def _start(self):
            """Something else."""

    missing = compatibility.problems(Other, types.SimpleNamespace(__name__="R"))
    assert "Other._start_reflector" in missing and "R.start" in missing and "Other._start" not in missing


def test_an_unknown_version_of_kubespawner_gives_one_warning(caplog, monkeypatch):
    monkeypatch.setattr("kubespawner.__version__", "99.0.0")
    compatibility.check(logging.getLogger("test"))
    assert len(caplog.records) == 1 and "not with 99.0.0" in caplog.records[0].getMessage()


@pytest.mark.parametrize(
    "module", ["binderhub_ext.kube", "binderhub_ext.kube.binder", "binderhub_ext.kube.readiness"]
)
def test_what_the_local_spawner_uses_needs_no_kubernetes(module):
    code = f"import sys, {module}; sys.exit(any(m.startswith('kube') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_spawners_are_entry_points_and_need_no_binderhub():
    code = (
        "import sys; from importlib.metadata import entry_points;"
        "known = entry_points(group='jupyterhub.spawners');"
        "found = {e.name: e.load() for e in known if 'reliable' in e.name};"
        "assert sorted(found) == ['binder-reliable-kubespawner', 'reliable-kubespawner'], found;"
        "assert not [m for m in sys.modules if m.split('.')[0] == 'binderhub']"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
