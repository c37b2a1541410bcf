"""Starting, polling and stopping with the real spawner class, in this process."""

import asyncio
import time

import pytest

from binderhub_ext.kube.spawner import BinderSpawner
from tests.support.kube_api import PODS, Fault, Rule


async def test_a_server_starts_answers_and_stops(api, pods_run, make_spawner):
    spawner = make_spawner()
    url = await asyncio.wait_for(spawner.start(), 10)
    assert url.startswith("http://127.")
    assert spawner.pod_name in pods_run.listening
    assert await spawner.poll() is None
    await spawner.stop()
    assert api.pods() == []
    assert await spawner.poll() == 1


async def test_binder_spawner_starts_the_image_of_the_request(api, pods_run, make_spawner):
    options = {"image": "registry/built:abc", "token": "secret-token", "repo_url": "https://example.org/r"}
    spawner = make_spawner(BinderSpawner, user_options=options, cmd=["jupyter", "lab"])
    await asyncio.wait_for(spawner.start(), 10)
    pod = api.store.get(PODS, ("default", spawner.pod_name))
    container = pod["spec"]["containers"][0]
    assert container["image"] == "registry/built:abc"
    assert "--ServerApp.token=secret-token" in container["args"]
    assert {"name": "BINDER_REPO_URL", "value": "https://example.org/r"} in container["env"]


async def test_a_server_is_up_within_150_ms_of_its_first_accepted_connection(api, pods_run, make_spawner):
    pods_run.listen_delay = 0.6
    delays = []
    for number in range(7):
        spawner = make_spawner(name=f"user{number}")
        await asyncio.wait_for(spawner.start(), 10)
        delays.append(asyncio.get_running_loop().time() - pods_run.listening[spawner.pod_name])
    assert sorted(delays)[3] <= 0.15, delays


async def test_poll_assumes_running_when_the_api_server_is_away(api, make_spawner):
    spawner = make_spawner()
    api.create_pod(spawner.pod_name)
    assert await spawner.poll() is None
    await api.refuse()
    assert await spawner.poll() is None
    for reflector in spawner.reflectors.values():
        reflector._current_at -= 100
    assert await spawner.poll() is None


async def test_poll_asks_the_api_server_when_the_cache_is_too_old(api, make_spawner, until):
    spawner = make_spawner()
    api.create_pod(spawner.pod_name)
    assert await spawner.poll() is None
    api.faults.add(Rule(Fault.ERROR, verb="list"))
    api.faults.add(Rule(Fault.ERROR, verb="watch"))
    api.cut()
    await until(lambda: not spawner.pod_reflector.healthy())
    api.delete_pod(spawner.pod_name)
    assert f"default/{spawner.pod_name}" in spawner.pod_reflector.pods
    assert await spawner.poll() == 1


async def test_poll_is_bounded_when_the_api_server_accepts_and_never_answers(api, make_spawner):
    api.faults.add(Rule(Fault.HANG))
    spawner = make_spawner()
    began = time.monotonic()
    assert await spawner.poll() is None
    assert time.monotonic() - began < spawner.poll_timeout + 1


async def test_poll_returns_the_exit_code_and_deletes_the_pod(api, make_spawner, until):
    spawner = make_spawner()
    api.create_pod(spawner.pod_name, phase="Failed")
    assert await spawner.poll() == 1
    await until(lambda: "deletionTimestamp" in api.store.get(PODS, ("default", spawner.pod_name))["metadata"])


async def test_stop_is_bounded_and_the_pod_is_deleted_when_the_api_server_is_back(api, make_spawner, until):
    spawner = make_spawner()
    api.create_pod(spawner.pod_name)
    assert await spawner.poll() is None
    await api.refuse()
    began = time.monotonic()
    with pytest.raises(asyncio.TimeoutError):
        await spawner.stop(now=True)
    assert time.monotonic() - began < spawner.stop_timeout + 1
    assert api.pods() == [spawner.pod_name]
    await api.accept()
    await until(lambda: "deletionTimestamp" in str(api.store.state(PODS)) or not api.pods())


@pytest.mark.parametrize("moment", ["before the pod is created", "after the pod was created"])
async def test_a_cancelled_start_leaves_no_pod(api, pods_run, make_spawner, until, moment):
    pods_run.paused = True
    rule = (
        api.faults.add(Rule(Fault.HANG, verb="create", plural="pods"))
        if moment.startswith("before")
        else None
    )
    spawner = make_spawner()
    task = asyncio.ensure_future(spawner.start())
    if rule is not None:
        await asyncio.wait_for(rule.seen.wait(), 5)
    else:
        await until(lambda: api.pods() == [spawner.pod_name])
    await api.refuse()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(spawner.leftovers) == 1
    api.faults.clear()
    await api.accept()
    pods_run.paused = False
    await until(lambda: not len(spawner.leftovers))
    assert api.pods() == []


async def test_a_late_creation_is_deleted_too(api, make_spawner, until):
    """The request to create the pod is carried out after the start was given up."""
    rule = api.faults.add(Rule(Fault.HANG, verb="create", plural="pods"))
    spawner = make_spawner()
    task = asyncio.ensure_future(spawner.start())
    await asyncio.wait_for(rule.seen.wait(), 5)
    task.cancel()
    await asyncio.wait([task])
    await until(lambda: len(api.received("delete", "pods")) >= 1)
    api.create_pod(spawner.pod_name, phase="Pending", node="")
    await until(lambda: api.pods() == [])


async def test_a_refusal_by_quota_reaches_the_person(api, make_spawner):
    api.faults.add(Rule(Fault.ERROR, verb="create", plural="pods", code=403))
    spawner = make_spawner()
    with pytest.raises(Exception, match="injected error 403"):
        await asyncio.wait_for(spawner.start(), 10)


async def test_a_start_survives_an_api_server_that_errs_for_a_moment(api, pods_run, make_spawner):
    api.faults.add(Rule(Fault.ERROR, verb="create", plural="pods", code=500, times=1))
    api.faults.add(Rule(Fault.RESET, verb="create", plural="pods", times=1))
    assert await asyncio.wait_for(make_spawner(k8s_api_request_retry_timeout=10).start(), 15)


async def test_a_start_finds_its_pod_although_the_cache_is_silent(api, pods_run, make_spawner):
    spawner = make_spawner()
    assert await spawner.poll() == 1
    api.faults.add(Rule(Fault.SILENT))
    assert await asyncio.wait_for(spawner.start(), 5)


async def test_an_old_pod_of_the_same_name_is_deleted_first(api, pods_run, make_spawner):
    spawner = make_spawner(k8s_api_request_retry_timeout=10)
    old = api.create_pod(spawner.pod_name)
    assert await asyncio.wait_for(spawner.start(), 15)
    assert api.store.get(PODS, ("default", spawner.pod_name))["metadata"]["uid"] != old["metadata"]["uid"]
