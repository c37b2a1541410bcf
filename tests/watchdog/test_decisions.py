"""Every rule that holds a restart back, and the numbers at which it lets go."""

from dataclasses import replace

import pytest

from binderhub_ext.watchdog.decisions import Action, Decider, Limits, orphans_to_delete
from binderhub_ext.watchdog.history import DAY, RestartHistory
from binderhub_ext.watchdog.observations import HubPod
from binderhub_ext.watchdog.signs import Finding, Sign
from tests.support.watch_looks import HUB_POD, look

STUCK = Finding(Sign.STOP_STUCK, "ada", 60.0, True)


def decide(decider, at, findings=(STUCK,), leader=True, **how):
    observation = look(at, **how)
    decider.note(observation)
    return decider.decide(list(findings), observation, leader=leader).action


def settled(limits=None, history=None, until=1000.0):
    """Return a decider that has watched a healthy Hub since second 0."""
    decider = Decider(limits or Limits(), history or RestartHistory())
    for at in range(0, int(until), 10):
        decider.note(look(float(at)))
    return decider


def test_a_sign_that_stands_restarts_the_hub():
    assert decide(settled(), 1000.0) is Action.RESTART


def test_nothing_stands_nothing_is_done():
    assert decide(settled(), 1000.0, findings=[replace(STUCK, stands=False)]) is Action.NONE


def test_a_hub_younger_than_its_grace_is_left_alone():
    decider = Decider()
    assert [decide(decider, float(at)) for at in (0, 100, 290, 299, 300)] == [
        Action.HELD_API_SERVER,  # nothing is known of the API server's past yet
        Action.HELD_GRACE,
        Action.HELD_GRACE,
        Action.HELD_GRACE,
        Action.RESTART,
    ]


@pytest.mark.parametrize("change", [{"uid": "another"}, {"restarts": 1}])
def test_a_new_process_of_the_hub_has_its_own_grace(change):
    decider = settled()
    young = (replace(HUB_POD, **change),)
    assert decide(decider, 1000.0, hub_pods=young) is Action.HELD_GRACE
    assert decide(decider, 1299.0, hub_pods=young) is Action.HELD_GRACE
    assert decide(decider, 1300.0, hub_pods=young) is Action.RESTART


@pytest.mark.parametrize(
    "hub_pods",
    [
        (HUB_POD, HubPod("hub-2", "hub-uid-2")),
        (replace(HUB_POD, deleting=True),),
        (replace(HUB_POD, running=False),),
    ],
    ids=["two pods", "terminating", "its container does not run"],
)
def test_a_hub_that_is_being_updated_is_left_alone(hub_pods):
    assert decide(settled(), 1000.0, hub_pods=hub_pods) is Action.HELD_UPDATING


def test_a_hub_without_a_pod_cannot_be_restarted():
    assert decide(settled(), 1000.0, hub_pods=()) is Action.HELD_NO_HUB_POD


def test_an_api_server_in_trouble_holds_until_it_has_settled():
    decider = settled()
    assert decide(decider, 1000.0, pods=None) is Action.HELD_API_SERVER
    assert [decide(decider, float(at)) for at in (1010, 1060, 1069, 1070)] == [
        Action.HELD_API_SERVER,
        Action.HELD_API_SERVER,
        Action.HELD_API_SERVER,
        Action.RESTART,
    ]


def test_the_second_restart_waits_for_the_cooldown():
    history = RestartHistory()
    decider = settled(history=history)
    history.add(now=1000.0, wall=5000.0)
    assert decide(decider, 1599.0) is Action.HELD_COOLDOWN
    assert decide(decider, 1600.0) is Action.RESTART


def test_the_fifth_restart_of_a_day_needs_a_person():
    history = RestartHistory()
    decider = settled(history=history, until=10_000.0)
    for number in range(4):
        history.add(now=2000.0 * number, wall=2000.0 * number)
    assert decide(decider, 10_000.0) is Action.HELD_LIMIT
    assert decide(decider, DAY) is Action.RESTART


def test_a_limit_of_zero_never_restarts():
    assert decide(settled(Limits(restart_limit=0)), 1000.0) is Action.HELD_LIMIT


def test_only_the_leader_restarts():
    assert decide(settled(), 1000.0, leader=False) is Action.HELD_NOT_LEADER


def test_a_dry_run_says_what_it_would_do():
    decider = settled(Limits(dry_run=True))
    assert decide(decider, 1000.0) is Action.WOULD_RESTART
    decider.history.imagine(1000.0)
    assert decide(decider, 1010.0) is Action.HELD_COOLDOWN
    assert decider.history.written(1010.0) == []


def test_signs_that_the_operator_left_out_do_nothing():
    assert decide(settled(Limits(restart_on=frozenset({Sign.GHOST}))), 1000.0) is Action.NONE


def test_a_sign_that_a_restart_cannot_cure_does_nothing():
    assert decide(settled(), 1000.0, findings=[replace(STUCK, curable=False)]) is Action.NONE


def test_a_hub_that_is_no_pod_is_restarted_by_command():
    assert decide(settled(Limits(needs_pod=False)), 1000.0, hub_pods=()) is Action.RESTART


def test_orphans_are_deleted_by_the_leader_when_it_is_allowed():
    orphan = Finding(Sign.ORPHAN, "uid", 300.0, True)
    assert orphans_to_delete([orphan, STUCK], leader=True, allowed=True) == [orphan]
    assert orphans_to_delete([orphan], leader=True, allowed=False) == []
    assert orphans_to_delete([orphan], leader=False, allowed=True) == []
    assert orphans_to_delete([replace(orphan, stands=False)], leader=True, allowed=True) == []


class TestHistoryWithAWallClockThatJumps:
    def test_a_restart_that_the_lease_tells_of_counts(self):
        history = RestartHistory()
        history.learn([9_000], now=50.0, wall=9_100.0)
        assert history.since_last(60.0) == 110.0

    def test_a_clock_that_jumps_ahead_does_not_end_the_cooldown(self):
        history = RestartHistory()
        history.add(now=50.0, wall=9_000.0)
        history.learn([9_000], now=60.0, wall=9_000.0 + DAY)
        assert history.since_last(60.0) == 10.0

    def test_a_clock_that_was_put_back_makes_the_past_just_now(self):
        history = RestartHistory()
        history.learn([9_000], now=50.0, wall=1_000.0)
        assert history.since_last(50.0) == 0.0
        assert history.since_last(650.0) == 600.0

    def test_two_restarts_at_one_wall_clock_second_are_two(self):
        history = RestartHistory()
        history.add(now=0.0, wall=5_000.0)
        history.add(now=700.0, wall=5_000.0)
        assert history.in_last_day(700.0) == 2
        assert history.written(700.0) == [5_000, 5_001]

    def test_a_restart_that_could_not_be_written_is_forgotten(self):
        history = RestartHistory()
        history.retract(history.add(now=0.0, wall=5_000.0))
        assert history.in_last_day(0.0) == 0
