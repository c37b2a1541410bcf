"""The API server of the tests answers as Kubernetes does.

The same tests run against a real cluster when `KUBE_TEST_SERVER` names one (`make test-kubernetes`, which
opens `kubectl proxy`): whatever needs control of the server is then left out.
Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from types import SimpleNamespace

import aiohttp
import pytest

from tests.support.kube_api import Fault, KubeAPI, Rule
from tests.support.kube_faults import WATCH_ONLY

REAL = os.environ.get("KUBE_TEST_SERVER", "")
own_server_only = pytest.mark.skipif(bool(REAL), reason="needs control of the API server")
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
EVENTS = "/api/v1/namespaces/default/events"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"


@pytest.fixture
async def kube():
    """An API server, a session, and a label that is this test's own."""
    async with KubeAPI(bookmark_interval=0.2) as api:
        async with aiohttp.ClientSession(REAL or api.url) as session:
            mark = f"t{secrets.token_hex(4)}"
            yield SimpleNamespace(api=api, session=session, mark=mark, selector=f"binderhub-ext-test={mark}")
            if REAL:
                for path in (CONFIGMAPS, PODS, LEASES):
                    await session.delete(path, params={"labelSelector": f"binderhub-ext-test={mark}"})


async def ask(kube, method, path, body=None, **query):
    async with kube.session.request(method, path, json=body, params=query) as answer:
        return answer.status, await answer.json()


def configmap(kube, name, **labels):
    metadata = {"name": f"{kube.mark}-{name}", "labels": {"binderhub-ext-test": kube.mark, **labels}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "1"}}


async def create(kube, name, **labels):
    status, made = await ask(kube, "POST", CONFIGMAPS, configmap(kube, name, **labels))
    assert status == 201, made
    return made


async def watched(kube, seconds=1, **query):
    """Return the events of a watch that lasts so many seconds."""
    query = {"watch": "true", "timeoutSeconds": str(seconds), "labelSelector": kube.selector, **query}
    async with kube.session.get(CONFIGMAPS, params=query) as answer:
        return [json.loads(line) async for line in answer.content]


def names(kube, events):
    return [(e["type"], e["object"]["metadata"]["name"].removeprefix(f"{kube.mark}-")) for e in events]


async def test_objects_get_a_uid_and_resource_versions_that_grow(kube):
    one, two = await create(kube, "one"), await create(kube, "two")
    assert one["metadata"]["uid"] != two["metadata"]["uid"]
    assert int(two["metadata"]["resourceVersion"]) > int(one["metadata"]["resourceVersion"])
    status, found = await ask(kube, "GET", f"{CONFIGMAPS}/{kube.mark}-one")
    assert (status, found["metadata"]["uid"]) == (200, one["metadata"]["uid"])


async def test_errors_are_statuses(kube):
    await create(kube, "one")
    status, error = await ask(kube, "POST", CONFIGMAPS, configmap(kube, "one"))
    assert (status, error["kind"], error["reason"], error["code"]) == (409, "Status", "AlreadyExists", 409)
    status, error = await ask(kube, "GET", f"{CONFIGMAPS}/{kube.mark}-none")
    assert (status, error["reason"]) == (404, "NotFound")
    status, error = await ask(kube, "GET", PODS, fieldSelector="spec.nonsense=1")
    assert (status, error["reason"]) == (400, "BadRequest")


def lease(kube, **metadata):
    metadata = {"name": f"{kube.mark}-l", "labels": {"binderhub-ext-test": kube.mark}, **metadata}
    spec = {"holderIdentity": "a"}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


async def test_an_update_of_an_older_version_is_a_conflict(kube):
    status, made = await ask(kube, "POST", LEASES, lease(kube))
    assert status == 201
    made["spec"]["holderIdentity"] = "b"
    path = f"{LEASES}/{kube.mark}-l"
    assert (await ask(kube, "PUT", path, made))[0] == 200
    made["spec"]["holderIdentity"] = "c"
    status, error = await ask(kube, "PUT", path, made)
    assert (status, error["reason"]) == (409, "Conflict")
    assert (await ask(kube, "GET", path))[1]["spec"]["holderIdentity"] == "b"


async def test_an_update_of_a_lease_must_say_of_which_version(kube):
    await ask(kube, "POST", LEASES, lease(kube))
    status, error = await ask(kube, "PUT", f"{LEASES}/{kube.mark}-l", lease(kube))
    assert (status, error["reason"]) == (422, "Invalid")
    one = configmap(kube, "one")
    await ask(kube, "POST", CONFIGMAPS, one)
    assert (await ask(kube, "PUT", f"{CONFIGMAPS}/{kube.mark}-one", one))[0] == 200


async def test_an_update_of_a_lease_that_is_gone_creates_it_unless_its_uid_is_given(kube):
    path = f"{LEASES}/{kube.mark}-l"
    _, made = await ask(kube, "POST", LEASES, lease(kube))
    await ask(kube, "DELETE", path)
    status, error = await ask(kube, "PUT", path, made)
    assert (status, error["reason"]) == (409, "Conflict")
    version = made["metadata"]["resourceVersion"]
    status, again = await ask(kube, "PUT", path, lease(kube, resourceVersion=version))
    assert (status, again["metadata"]["uid"] != made["metadata"]["uid"]) == (201, True)
    status, error = await ask(kube, "PUT", f"{CONFIGMAPS}/{kube.mark}-one", configmap(kube, "one"))
    assert (status, error["reason"]) == (404, "NotFound")


async def test_what_is_sent_must_be_what_the_address_names(kube):
    one = configmap(kube, "one")
    assert (await ask(kube, "PUT", f"{CONFIGMAPS}/{kube.mark}-two", one))[0] == 400
    elsewhere = {**one, "metadata": {**one["metadata"], "namespace": "kube-system"}}
    assert (await ask(kube, "POST", CONFIGMAPS, elsewhere))[0] == 400
    versioned = {**one, "metadata": {**one["metadata"], "resourceVersion": "5"}}
    assert (await ask(kube, "POST", CONFIGMAPS, versioned))[0] == 500
    about = {"involvedObject": {"kind": "Pod", "name": "a", "namespace": "kube-system"}, "reason": "R"}
    event = {"metadata": one["metadata"], **about}
    status, error = await ask(kube, "POST", EVENTS, event)
    assert (status, error["reason"]) == (422, "Invalid")


async def test_a_patch_says_which_kind_it_is(kube):
    await create(kube, "one")
    path, merge = f"{CONFIGMAPS}/{kube.mark}-one", "application/merge-patch+json"
    for kind, expected in (("application/json", 415), (merge, 200)):
        headers = {"Content-Type": kind}
        async with kube.session.patch(path, data='{"data": {"a": "2"}}', headers=headers) as answer:
            assert answer.status == expected
    assert (await ask(kube, "GET", path))[1]["data"] == {"a": "2"}


async def test_a_pod_on_no_node_is_deleted_at_once(kube):
    name = f"{kube.mark}-pod"
    spec = {"schedulerName": "nobody", "containers": [{"name": "c", "image": "example/image:1"}]}
    metadata = {"name": name, "labels": {"binderhub-ext-test": kube.mark}}
    status, pod = await ask(kube, "POST", PODS, {"metadata": metadata, "spec": spec})
    assert (status, pod["status"]["phase"]) == (201, "Pending")
    assert (await ask(kube, "DELETE", f"{PODS}/{name}"))[0] == 200
    assert (await ask(kube, "GET", f"{PODS}/{name}"))[0] == 404


@pytest.mark.parametrize(
    "selector, expected",
    [
        ("size=big", {"a"}),
        ("size!=big", {"b", "c"}),
        ("size in (big, small)", {"a", "b"}),
        ("size notin (big)", {"b", "c"}),
        ("size", {"a", "b"}),
        ("!size", {"c"}),
        ("size=big,colour=red", set()),
    ],
)
async def test_label_selectors(kube, selector, expected):
    await create(kube, "a", size="big")
    await create(kube, "b", size="small")
    await create(kube, "c")
    _, found = await ask(kube, "GET", CONFIGMAPS, labelSelector=f"{kube.selector},{selector}")
    assert {o["metadata"]["name"].removeprefix(f"{kube.mark}-") for o in found["items"]} == expected


async def test_a_list_in_pages_is_one_consistent_state(kube):
    for name in "abcde":
        await create(kube, name)
    query = {"labelSelector": kube.selector, "limit": "2"}
    _, page = await ask(kube, "GET", CONFIGMAPS, **query)
    first, seen = page["metadata"]["resourceVersion"], [o["metadata"]["name"] for o in page["items"]]
    await create(kube, "f")
    while token := page["metadata"].get("continue"):
        _, page = await ask(kube, "GET", CONFIGMAPS, **query, **{"continue": token})
        assert page["metadata"]["resourceVersion"] == first
        seen += [o["metadata"]["name"] for o in page["items"]]
    assert [name[-1] for name in seen] == list("abcde")


async def test_a_page_that_never_was_is_refused(kube):
    status, error = await ask(kube, "GET", CONFIGMAPS, limit="1", **{"continue": "nonsense"})
    assert (status, error["reason"]) == (400, "BadRequest")


async def test_a_watch_shows_what_changed_after_a_resource_version_and_ends_in_time(kube):
    one = await create(kube, "one")
    _, found = await ask(kube, "GET", CONFIGMAPS, labelSelector=kube.selector)
    watching = asyncio.ensure_future(watched(kube, 2, resourceVersion=found["metadata"]["resourceVersion"]))
    await asyncio.sleep(0.3)
    await create(kube, "two")
    one["data"]["a"] = "2"
    await ask(kube, "PUT", f"{CONFIGMAPS}/{kube.mark}-one", one)
    await ask(kube, "DELETE", f"{CONFIGMAPS}/{kube.mark}-one")
    events = await asyncio.wait_for(watching, 8)
    assert names(kube, events) == [("ADDED", "two"), ("MODIFIED", "one"), ("DELETED", "one")]
    versions = [int(e["object"]["metadata"]["resourceVersion"]) for e in events]
    assert versions == sorted(versions)
    assert events[0]["object"]["kind"] == "ConfigMap" and "kind" not in found["items"][0]


async def test_a_watch_without_a_resource_version_begins_with_what_is_there(kube):
    await create(kube, "one")
    assert names(kube, await watched(kube, 1)) == [("ADDED", "one")]


async def test_an_object_that_no_longer_matches_is_shown_as_deleted(kube):
    one = await create(kube, "one", size="big")
    selector, version = f"{kube.selector},size=big", one["metadata"]["resourceVersion"]
    watching = asyncio.ensure_future(watched(kube, 2, labelSelector=selector, resourceVersion=version))
    await asyncio.sleep(0.3)
    one["metadata"]["labels"]["size"] = "small"
    await ask(kube, "PUT", f"{CONFIGMAPS}/{kube.mark}-one", one)
    assert names(kube, await watching) == [("DELETED", "one")]


async def test_bookmarks_come_only_to_those_who_ask(kube):
    one = await create(kube, "one")
    version = one["metadata"]["resourceVersion"]
    assert await watched(kube, 1, resourceVersion=version) == []
    if not REAL:  # a real server sends one about once a minute
        events = await watched(kube, 1, resourceVersion=version, allowWatchBookmarks="true")
        assert {e["type"] for e in events} == {"BOOKMARK"}
        assert int(events[0]["object"]["metadata"]["resourceVersion"]) >= int(version)


async def test_a_precondition_protects_another_object_of_the_name(kube):
    await create(kube, "one")
    status, _ = await ask(
        kube, "DELETE", f"{CONFIGMAPS}/{kube.mark}-one", {"preconditions": {"uid": "00000000-0000"}}
    )
    assert status == 409
    assert (await ask(kube, "GET", f"{CONFIGMAPS}/{kube.mark}-one"))[0] == 200


async def test_a_collection_is_deleted_by_label(kube):
    await create(kube, "one", size="big")
    await create(kube, "two")
    await ask(kube, "DELETE", CONFIGMAPS, labelSelector=f"{kube.selector},size=big")
    _, found = await ask(kube, "GET", CONFIGMAPS, labelSelector=kube.selector)
    assert [o["metadata"]["name"] for o in found["items"]] == [f"{kube.mark}-two"]


async def test_what_may_be_asked_with_a_resource_version(kube):
    assert (await ask(kube, "GET", CONFIGMAPS, resourceVersionMatch="Exact"))[0] in (400, 422)
    query = {"resourceVersion": "0", "resourceVersionMatch": "Exact"}
    assert (await ask(kube, "GET", CONFIGMAPS, **query))[0] in (400, 422)


@own_server_only
async def test_a_resource_version_of_the_future_is_too_large(kube):
    query = {"resourceVersion": str(kube.api.store.rv + 1000), "resourceVersionMatch": "NotOlderThan"}
    status, error = await ask(kube, "GET", CONFIGMAPS, **query)
    assert (status, error["details"]["causes"][0]["reason"]) == (504, "ResourceVersionTooLarge")


@own_server_only
async def test_what_was_compacted_away_is_gone(kube):
    one = await create(kube, "one")
    for name in "ab":
        await create(kube, name)
    _, page = await ask(kube, "GET", CONFIGMAPS, limit="1")
    await create(kube, "c")
    kube.api.store.compact()
    events = await watched(kube, 1, resourceVersion=one["metadata"]["resourceVersion"])
    assert [(e["type"], e["object"]["code"]) for e in events] == [("ERROR", 410)]
    status, error = await ask(
        kube, "GET", CONFIGMAPS, limit="1", **{"continue": page["metadata"]["continue"]}
    )
    assert (status, error["reason"]) == (410, "Expired")


@own_server_only
async def test_a_stale_watch_cache_lags_and_a_quorum_read_does_not(kube):
    kube.api.freeze_cache()
    made = await create(kube, "one")
    _, cached = await ask(kube, "GET", CONFIGMAPS, resourceVersion="0")
    _, recent = await ask(kube, "GET", CONFIGMAPS)
    assert (len(cached["items"]), len(recent["items"])) == (0, 1)
    watching = asyncio.ensure_future(watched(kube, 1, resourceVersion=cached["metadata"]["resourceVersion"]))
    await asyncio.sleep(0.3)
    kube.api.thaw_cache()
    assert names(kube, await watching) == [("ADDED", "one")]
    assert made["metadata"]["name"]


@own_server_only
async def test_a_pod_is_given_time_to_end_and_a_deletion_by_force_is_at_once(kube):
    kube.api.create_pod("a")
    _, terminating = await ask(kube, "DELETE", f"{PODS}/a", {"gracePeriodSeconds": 5})
    assert terminating["metadata"]["deletionGracePeriodSeconds"] == 5
    assert (await ask(kube, "GET", f"{PODS}/a"))[1]["metadata"]["deletionTimestamp"]
    await ask(kube, "DELETE", f"{PODS}/a", {"gracePeriodSeconds": 0})
    assert (await ask(kube, "GET", f"{PODS}/a"))[0] == 404


@own_server_only
async def test_pods_fit_the_models_of_the_kubernetes_client(kube):
    from kubernetes_asyncio import client

    kube.api.create_pod("a")
    kube.api.create_pod("b", phase="Failed")
    configuration = client.Configuration()
    configuration.host = kube.api.url
    async with client.ApiClient(configuration) as api_client:
        core = client.CoreV1Api(api_client)
        pods = await core.list_namespaced_pod("default")
        assert [pod.status.phase for pod in pods.items] == ["Running", "Failed"]
        assert (await core.delete_namespaced_pod("a", "default")).metadata.name == "a"


@own_server_only
@pytest.mark.parametrize("fault", sorted(set(Fault) - {Fault.DELAY}))
async def test_every_fault_is_felt_and_passes(kube, fault):
    verb = "watch" if fault in WATCH_ONLY else "list"
    kube.api.create_pod("a")

    async def look():
        query = {"watch": "true", "timeoutSeconds": "1"} if verb == "watch" else {"resourceVersion": "0"}
        async with kube.session.get(PODS, params=query) as answer:
            return answer.status, await answer.read()

    async def felt():
        try:
            return await asyncio.wait_for(look(), 1.5)
        except (aiohttp.ClientError, asyncio.TimeoutError) as error:
            return type(error)

    healthy = await felt()
    rule = kube.api.faults.add(Rule(fault, verb=verb, at=1000))
    assert await felt() != healthy
    kube.api.faults.remove(rule)
    assert await felt() == healthy
