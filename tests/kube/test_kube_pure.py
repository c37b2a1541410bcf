"""The pure parts of the spawner and the health checks: exact answers, no sockets, no waiting."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import types

import pytest

from binderhub_ext.kube import compatibility
from binderhub_ext.kube.abort import Verdict, guard, verdict
from binderhub_ext.kube.bounds import GRACE_SECONDS, Bounds
from binderhub_ext.kube.leftovers import Leftover, Leftovers
from binderhub_ext.kube.pods import PodFacts, PodState, pod_facts
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
    one = {"metadata": {"name": "a", "uid": "u1"}, "status": status}
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
