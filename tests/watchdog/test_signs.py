"""Each sign: found after exactly its bound, and not by anything that is ordinary."""

import pytest

from binderhub_ext.errors import CATALOGUE
from binderhub_ext.watchdog.launches import HUB_AT_FAULT
from binderhub_ext.watchdog.observations import CanaryResult, HubPod, HubTrouble, LaunchCounts
from binderhub_ext.watchdog.signs import Bounds, Sign, SignTracker
from tests.support.watch_looks import HUB_POD, look, pod, server


def standing(tracker, observations):
    """Return the signs that stand after the last observation."""
    findings = []
    for observation in observations:
        findings = tracker.update(observation)
    return {finding.sign for finding in findings if finding.stands}


def every_ten(seconds, **how):
    return [look(float(at), **how) for at in range(0, int(seconds) + 1, 10)]


CONTRADICTIONS = {
    Sign.START_STUCK: {"servers": [server("ada", "spawn")], "pods": [pod("ada")]},
    Sign.STOP_STUCK: {"servers": [server("ada", "stop")], "pods": []},
    Sign.GHOST: {"servers": [server("ada", ready=True)], "pods": []},
    Sign.ORPHAN: {"servers": [], "pods": [pod("ada")]},
    Sign.HUB_SILENT: {"servers": None, "pods": [pod("ada")]},
}


@pytest.mark.parametrize("sign", CONTRADICTIONS)
def test_a_contradiction_stands_at_its_bound_and_not_before(sign):
    bound = Bounds().of(sign)
    assert standing(SignTracker(), every_ten(bound - 10, **CONTRADICTIONS[sign])) == set()
    assert standing(SignTracker(), every_ten(bound, **CONTRADICTIONS[sign])) == {sign}


@pytest.mark.parametrize("sign", CONTRADICTIONS)
def test_one_look_without_the_contradiction_starts_it_from_zero(sign):
    bound = Bounds().of(sign)
    looks = every_ten(2 * bound, **CONTRADICTIONS[sign])
    looks[len(looks) // 2] = look(looks[len(looks) // 2].at)
    assert standing(SignTracker(), looks[:-1]) == set()


@pytest.mark.parametrize("sign", CONTRADICTIONS)
def test_an_api_server_that_is_away_once_starts_every_sign_from_zero(sign):
    bound = Bounds().of(sign)
    looks = every_ten(2 * bound, **CONTRADICTIONS[sign])
    looks[len(looks) // 2] = look(looks[len(looks) // 2].at, pods=None)
    assert standing(SignTracker(), looks[:-1]) == set()


@pytest.mark.parametrize("sign", CONTRADICTIONS)
def test_a_new_process_of_the_hub_starts_every_sign_from_zero(sign):
    bound = Bounds().of(sign)
    before = every_ten(bound - 10, **CONTRADICTIONS[sign])
    after = [
        look(bound + at, hub_pods=(HubPod(HUB_POD.name, HUB_POD.uid, restarts=1),), **CONTRADICTIONS[sign])
        for at in (0, 10)
    ]
    assert standing(SignTracker(), before + after) == set()


@pytest.mark.parametrize(
    "what, servers, pods",
    [
        (
            "a pod that is pending for ten minutes",
            [server("ada", "spawn")],
            [pod("ada", phase="Pending", ready=False)],
        ),
        ("a start whose pod is not there yet", [server("ada", "spawn")], []),
        ("a stop whose pod is terminating", [server("ada", "stop")], [pod("ada", deleting=True)]),
        ("a running server", [server("ada", ready=True)], [pod("ada")]),
        ("a running server whose pod is not ready", [server("ada", ready=True)], [pod("ada", ready=False)]),
        ("a pod that is terminating after its server is gone", [], [pod("ada", deleting=True)]),
        ("a start that is being given up", [server("ada", "spawn")], [pod("ada", deleting=True)]),
        ("a Hub that checks a server at its start", [server("ada", "check", ready=True)], []),
    ],
)
def test_ordinary_states_may_last_for_hours(what, servers, pods):
    assert standing(SignTracker(), every_ten(7200, servers=servers, pods=pods)) == set()


def test_a_server_whose_pod_has_ended_is_a_ghost():
    looks = every_ten(90, servers=[server("ada", ready=True)], pods=[pod("ada", phase="Failed", ready=False)])
    assert standing(SignTracker(), looks) == {Sign.GHOST}


def test_a_pod_that_ended_does_not_hide_the_running_one_of_the_same_server():
    pods = [pod("ada"), pod("ada", uid="old", phase="Failed", ready=False)]
    assert standing(SignTracker(), every_ten(600, servers=[server("ada", ready=True)], pods=pods)) == set()


def test_a_server_that_was_started_again_is_another_subject():
    looks = [
        look(float(at), servers=[server("ada", ready=True, started=f"t{at // 60}")], pods=[])
        for at in range(0, 3600, 10)
    ]
    assert standing(SignTracker(), looks) == set()


def test_a_sign_of_one_server_does_not_age_with_another():
    looks = [
        look(float(at), servers=[server(f"user-{at // 50}", "stop")], pods=[]) for at in range(0, 3600, 10)
    ]
    assert standing(SignTracker(), looks) == set()


def test_time_in_which_nothing_was_looked_at_is_not_counted():
    """A machine that was suspended for an hour has seen no hour of contradictions."""
    ghost = CONTRADICTIONS[Sign.GHOST]
    assert standing(SignTracker(), [look(0.0, **ghost), look(10.0, **ghost), look(3610.0, **ghost)]) == set()


def test_a_clock_that_goes_back_counts_nothing():
    ghost = CONTRADICTIONS[Sign.GHOST]
    looks = [look(at, **ghost) for at in (1000.0, 1010.0, 10.0, 20.0, 30.0)]
    assert standing(SignTracker(), looks) == set()


def test_while_the_hub_is_silent_nothing_follows_from_what_it_said_before():
    ghost = CONTRADICTIONS[Sign.GHOST]
    looks = [*every_ten(90, **ghost), look(100.0, servers=None, pods=[])]
    assert standing(SignTracker(), looks) == set()


def test_a_hub_that_refuses_the_watchdog_is_not_silent():
    looks = every_ten(3600, servers=None, pods=[], hub_trouble=HubTrouble.REFUSED)
    assert standing(SignTracker(), looks) == set()


def launches(*counts):
    return [
        look(10.0 * i, launches=None if count is None else LaunchCounts(*count))
        for i, count in enumerate(counts)
    ]


def test_no_launch_stands_after_five_failures_and_five_minutes_without_a_success():
    assert standing(SignTracker(), launches((0, 5), *[(0, 0)] * 30)) == {Sign.NO_LAUNCH}
    assert standing(SignTracker(), launches((0, 5), *[(0, 0)] * 29)) == set()
    assert standing(SignTracker(), launches((0, 4), *[(0, 0)] * 60)) == set()


def test_one_launch_that_succeeds_ends_it():
    assert standing(SignTracker(), launches((0, 50), *[(0, 1)] * 20, (1, 0), *[(0, 0)] * 40)) == set()


def test_no_traffic_is_no_sign():
    assert standing(SignTracker(), launches(*[(0, 0)] * 1000)) == set()


def test_metrics_that_cannot_be_read_prove_nothing():
    assert standing(SignTracker(), launches((0, 5), *[None] * 100)) == set()


def canaries(*codes, at_fault=True):
    return [
        look(10.0 * i, canary=CanaryResult(10.0 * i, 1.0, code, hub_at_fault=at_fault))
        for i, code in enumerate(codes)
    ]


def test_the_canary_stands_after_two_failures_in_a_row():
    assert standing(SignTracker(), canaries("hub.unreachable")) == set()
    assert standing(SignTracker(), canaries("hub.unreachable", "server.timeout")) == {Sign.CANARY}
    assert standing(SignTracker(), canaries("hub.unreachable", "", "server.timeout")) == set()


def test_a_canary_that_fails_for_a_reason_beside_the_hub_asks_for_no_restart():
    tracker = SignTracker()
    for observation in canaries("build.failed", "build.failed", at_fault=False):
        findings = tracker.update(observation)
    assert [(f.sign, f.stands, f.curable) for f in findings] == [(Sign.CANARY, True, False)]


def test_the_codes_that_blame_the_hub_are_in_the_error_catalogue():
    assert HUB_AT_FAULT <= set(CATALOGUE)
