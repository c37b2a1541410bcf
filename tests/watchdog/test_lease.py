"""Never two watchdogs at once, and what one did is known to the next."""

import asyncio
import json

import pytest

from binderhub_ext.watchdog.cluster import connect
from binderhub_ext.watchdog.history import RestartHistory
from binderhub_ext.watchdog.lease import RESTARTS, Lease
from tests.support.kube_api import LEASES, Fault, KubeAPI, Rule
from tests.support.watch_looks import FakeClock

NAME = "watchdog"


@pytest.fixture
async def api():
    async with KubeAPI() as api:
        yield api


@pytest.fixture
async def client(api):
    client = await connect(api.url)
    yield client
    await client.close()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def lease_of(client, clock):
    def make(identity, clock=clock, timeout=5.0):
        return Lease(client, "default", NAME, identity, RestartHistory(), clock=clock, timeout=timeout)

    return make


def stored(api):
    return api.store.get(LEASES, ("default", NAME))


async def test_the_first_leads_and_the_second_waits(api, lease_of):
    first, second = lease_of("a"), lease_of("b")
    assert await first.keep() is True
    assert await second.keep() is False
    assert stored(api)["spec"]["holderIdentity"] == "a"
    assert (first.leading, second.leading) == (True, False)


async def test_of_two_that_come_at_once_one_leads(lease_of):
    both = await asyncio.gather(lease_of("a").keep(), lease_of("b").keep())
    assert sorted(both) == [False, True]


async def test_a_leader_that_renews_is_never_followed(lease_of, clock):
    first, second = lease_of("a"), lease_of("b")
    for _ in range(20):
        assert await first.keep() is True
        assert await second.keep() is False
        clock.advance(10)


async def test_a_leader_that_stops_renewing_is_followed_after_the_duration(api, lease_of, clock):
    first, second = lease_of("a"), lease_of("b")
    await first.keep()
    assert await second.keep() is False  # the clock for taking over starts when it is first seen
    clock.advance(29)
    assert await second.keep() is False
    clock.advance(1)
    assert first.leading is False
    assert await second.keep() is True
    assert stored(api)["spec"]["leaseTransitions"] == 2
    assert await first.keep() is False


async def test_clocks_that_differ_by_a_day_change_nothing(lease_of, clock):
    ahead = FakeClock(wall=clock.wall + 86400)
    first, second = lease_of("a"), lease_of("b", ahead)
    for _ in range(10):
        assert await first.keep() is True
        assert await second.keep() is False
        clock.advance(10)
        ahead.advance(10)


async def test_a_leader_that_ends_makes_room_at_once(lease_of):
    first, second = lease_of("a"), lease_of("b")
    await first.keep()
    await first.release()
    assert await second.keep() is True


async def test_a_restart_is_written_before_it_is_done_and_the_next_watchdog_knows_it(api, lease_of, clock):
    first, second = lease_of("a"), lease_of("b")
    await first.keep()
    moment = await first.note_restart()
    assert json.loads(stored(api)["metadata"]["annotations"][RESTARTS]) == [moment]
    clock.advance(100)
    await second.keep()
    assert second.history.since_last(clock.now) == pytest.approx(100, abs=1)


async def test_a_leader_that_was_followed_without_noticing_may_not_restart(lease_of, clock):
    """It was suspended: the other took the Lease meanwhile. The API server refuses its write."""
    first, second = lease_of("a"), lease_of("b")
    await first.keep()
    await second.keep()
    clock.advance(31)
    assert await second.keep() is True
    assert await first.note_restart() is None
    assert first.history.in_last_day(clock.now) == 0
    assert first.leading is False
    assert await second.note_restart() is not None


async def test_an_api_server_that_does_not_answer_loses_the_lease_and_raises_nothing(api, lease_of, clock):
    lease = lease_of("a", timeout=0.2)
    await lease.keep()
    api.faults.add(Rule(Fault.ERROR))
    assert await lease.keep() is True  # it holds it still
    assert await lease.note_restart() is None
    clock.advance(31)
    assert await lease.keep() is False
    await api.refuse()
    assert await lease.keep() is False
    await api.accept()
    api.faults.clear()
    assert await lease.keep() is True


async def test_an_annotation_that_cannot_be_read_is_no_history(api, lease_of, clock):
    first = lease_of("a")
    await first.keep()
    broken = stored(api)
    broken = {**broken, "metadata": {**broken["metadata"], "annotations": {RESTARTS: "nonsense"}}}
    api.store.update(LEASES, ("default", NAME), broken)
    assert await first.keep() is True
    assert first.history.in_last_day(clock.now) == 0


async def test_what_others_wrote_on_the_lease_stays(api, lease_of):
    """Helm finds the objects of a release by such labels and annotations."""
    metadata = {"name": NAME, "labels": {"by": "helm"}, "annotations": {"release": "care"}}
    api.store.create(LEASES, "default", {"metadata": metadata})
    lease = lease_of("a")
    assert await lease.keep() is True
    moment = await lease.note_restart()
    written = stored(api)["metadata"]
    assert written["labels"] == {"by": "helm"}
    assert written["annotations"] == {"release": "care", RESTARTS: f"[{moment}]"}


async def test_a_watchdog_that_waits_may_not_restart(lease_of):
    first, second = lease_of("a"), lease_of("b")
    await first.keep()
    await second.keep()
    assert await second.note_restart() is None
    assert await first.keep() is True
