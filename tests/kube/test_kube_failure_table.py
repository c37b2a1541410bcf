"""The known failures of KubeSpawner's reflector, one by one: the stock spawner shows them, ours does not.

The letters are those of the table in docs/kube.md.
"""

import asyncio
import types

import pytest
from kubespawner import KubeSpawner

from binderhub_ext.kube.reflector import ReliableReflector
from binderhub_ext.kube.spawner import ReliableKubeSpawner
from tests.support.kube_api import EVENTS, PODS, Fault, Rule
from tests.support.kube_pods import make_event

BOTH = pytest.mark.parametrize(
    "cls", [pytest.param(KubeSpawner, id="stock"), pytest.param(ReliableKubeSpawner, id="ours")]
)


def ours(cls):
    return cls is ReliableKubeSpawner


@pytest.fixture
def impatient(monkeypatch):
    """The stock reflector's sleeps between attempts, 51 s in all before it gives up, take a hundredth."""
    sleep = asyncio.sleep
    fast = types.ModuleType("asyncio")
    fast.__dict__.update(asyncio.__dict__)
    fast.sleep = lambda seconds: sleep(seconds / 100)
    monkeypatch.setattr("kubespawner.reflector.asyncio", fast)


async def given_up(reflector):
    """Wait until the stock reflector has given up; ours, which does not, for as long as that usually takes."""
    stock = not isinstance(reflector, ReliableReflector)
    await asyncio.wait([reflector.watch_task], timeout=30 if stock else 1.5)


@BOTH
async def test_a_the_cache_recovers_after_the_api_server_was_away(api, make_spawner, impatient, until, cls):
    spawner = make_spawner(cls)
    api.create_pod(spawner.pod_name)
    assert await spawner.poll() is None
    await api.refuse()
    await given_up(spawner.pod_reflector)
    assert spawner.pod_reflector.watch_task.done() is not ours(cls)
    await api.accept()
    api.delete_pod(spawner.pod_name)
    await asyncio.sleep(0.5)
    assert await spawner.poll() == (1 if ours(cls) else None)
    assert (f"default/{spawner.pod_name}" not in spawner.pod_reflector.pods) is ours(cls)


@BOTH
async def test_a2_the_hub_goes_on_with_user_namespaces(api, make_spawner, impatient, monkeypatch, until, cls):
    exits = []
    fake_sys = types.SimpleNamespace(exit=exits.append, exc_info=lambda: (None, None, None))
    monkeypatch.setattr("kubespawner.spawner.sys", fake_sys)
    spawner = make_spawner(cls, enable_user_namespaces=True, user_namespace_template="default")
    await spawner._start_watching_events()
    await api.refuse()
    await given_up(spawner.event_reflector)
    assert exits == ([] if ours(cls) else [1])
    await api.accept()
    if ours(cls):
        await until(spawner.event_reflector.healthy)


@BOTH
async def test_b_a_first_list_that_fails_once_is_tried_again(api, make_spawner, cls):
    spawner = make_spawner(cls)
    api.create_pod(spawner.pod_name)
    api.faults.add(Rule(Fault.ERROR, verb="list", times=1))
    if ours(cls):
        assert await spawner.poll() is None
    else:
        with pytest.raises(Exception, match="500"):
            await spawner.poll()
    assert await spawner.poll() == (None if ours(cls) else 1)  # the pod runs all the time


@BOTH
async def test_c_a_first_list_that_is_cancelled_leaves_nobody_waiting(api, make_spawner, cls):
    spawner = make_spawner(cls)
    rule = api.faults.add(Rule(Fault.HANG, verb="list"))
    first = asyncio.ensure_future(spawner.poll())
    await asyncio.wait_for(rule.seen.wait(), 5)
    first.cancel()
    await asyncio.wait([first])
    api.faults.clear()
    second = asyncio.ensure_future(make_spawner(cls, name="bob").poll())
    done, _ = await asyncio.wait([second], timeout=3)
    second.cancel()
    assert bool(done) is ours(cls)


@BOTH
async def test_c2_one_waiter_that_is_cancelled_disturbs_nobody(api, make_spawner, cls):
    spawner, other = make_spawner(cls), make_spawner(cls, name="bob")
    api.create_pod(spawner.pod_name)
    rule = api.faults.add(Rule(Fault.HANG, verb="list"))
    first = asyncio.ensure_future(spawner._start_watching_pods())
    await asyncio.wait_for(rule.seen.wait(), 5)
    second = asyncio.ensure_future(other._start_watching_pods())
    await asyncio.sleep(0.05)
    second.cancel()
    await asyncio.wait([second])
    api.faults.clear()
    await asyncio.wait([first], timeout=3)
    assert first.done()
    assert first.cancelled() is not ours(cls)


@BOTH
async def test_d_a_replacement_that_fails_leaves_the_good_cache(api, make_spawner, cls):
    spawner = make_spawner(cls)
    api.create_pod(spawner.pod_name)
    assert await spawner.poll() is None
    api.faults.add(Rule(Fault.ERROR, verb="list"))
    await asyncio.wait([asyncio.ensure_future(spawner._start_watching_pods(replace=True))])
    await asyncio.sleep(0.2)
    assert (f"default/{spawner.pod_name}" in spawner.pod_reflector.pods) is ours(cls)
    assert await spawner.poll() == (None if ours(cls) else 1)


@BOTH
async def test_d2_a_stop_during_a_replacement_waits_for_its_pod(api, make_spawner, cls, until):
    spawner, other = make_spawner(cls), make_spawner(cls, name="bob")
    api.create_pod(spawner.pod_name)
    assert await spawner.poll() is None
    stopping = asyncio.ensure_future(spawner.stop())
    await until(lambda: "deletionTimestamp" in str(api.store.state(PODS)))
    api.faults.add(Rule(Fault.DELAY, verb="list", seconds=2))
    replacing = asyncio.ensure_future(other._start_watching_pods(replace=True))
    await asyncio.wait([stopping], timeout=1.5)
    assert api.pods() == [spawner.pod_name]  # it is terminating, nothing has ended it yet
    assert stopping.done() is not ours(cls)
    api.delete_pod(spawner.pod_name)
    await asyncio.wait_for(stopping, 5)
    replacing.cancel()
    await asyncio.wait([replacing])


@BOTH
async def test_e_a_silent_watch_is_noticed(api, make_spawner, cls, until):
    spawner = make_spawner(cls, ResourceReflector__request_timeout=8)
    api.create_pod(spawner.pod_name)
    assert await spawner.poll() is None
    await until(lambda: api.watching)
    rule = api.faults.add(Rule(Fault.SILENT))
    await asyncio.sleep(0.7)  # the watch notices within half a second that it is silent
    api.faults.remove(rule)
    api.delete_pod(spawner.pod_name)
    await asyncio.sleep(2.5)
    assert (f"default/{spawner.pod_name}" not in spawner.pod_reflector.pods) is ours(cls)


@BOTH
@pytest.mark.parametrize("fault", [Fault.GONE, Fault.BOOKMARK, Fault.CLOSE_AT_ONCE])
async def test_f_a_watch_that_ends_at_once_is_no_hot_loop(api, make_spawner, cls, fault):
    spawner = make_spawner(cls, ReliableReflector__backoff_limit=10)
    api.faults.add(Rule(fault))
    await spawner.poll()
    await asyncio.sleep(2)
    requests = len(api.received(plural="pods"))
    # one attempt is free; then waits of at least 0.12, 0.25, 0.5 and 1 s leave room for six watches, each with a list
    # after it; the stock reflector asks at least eight times a second
    assert (requests <= 12) is ours(cls), requests


@BOTH
async def test_g_a_stale_watch_cache_does_not_hide_a_running_pod(api, make_spawner, cls):
    spawner = make_spawner(cls)
    api.freeze_cache()
    api.create_pod(spawner.pod_name)
    await spawner.poll()
    await asyncio.sleep(0.3)
    assert await spawner.poll() == (None if ours(cls) else 1)
    any_past = [request for request in api.requests if request.query.get("resourceVersion") == "0"]
    assert (not any_past) is ours(cls)


@BOTH
async def test_h_an_error_does_not_take_the_cache_back_in_time(api, make_spawner, cls, until):
    spawner = make_spawner(cls)
    past = api.store.rv
    await spawner.poll()
    api.create_pod(spawner.pod_name)
    await until(lambda: f"default/{spawner.pod_name}" in spawner.pod_reflector.pods)
    api.faults.add(Rule(Fault.STALE, verb="list", at=past))
    api.faults.add(Rule(Fault.ERROR, verb="watch", times=1))
    api.faults.add(Rule(Fault.STALE, verb="watch", at=past))
    api.cut()
    await asyncio.sleep(1)
    assert (f"default/{spawner.pod_name}" in spawner.pod_reflector.pods) is ours(cls)
    assert await spawner.poll() == (None if ours(cls) else 1)


@BOTH
async def test_i_events_are_seen_again_after_the_api_server_was_away(
    api, make_spawner, impatient, until, cls
):
    spawner = make_spawner(cls)
    pod = api.create_pod(spawner.pod_name)
    await spawner._start_watching_events()
    await api.refuse()
    await given_up(spawner.event_reflector)
    await api.accept()
    await spawner._start_watching_events()
    api.store.create(EVENTS, "default", make_event(pod, "Pulling", "Pulling the image"))
    await asyncio.sleep(1)
    assert bool(spawner.events) is ours(cls)
    assert api.store.get(PODS, ("default", spawner.pod_name))
