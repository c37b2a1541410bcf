"""What Kubernetes, KubeSpawner and the Hub really say, and which row of the catalogue it is.

KubeSpawner shows a pod's events as ``<time> [<type>] <message>``: the reason
(`FailedScheduling`, ...) is not in it.
"""

from __future__ import annotations

import pytest

from binderhub_ext.hub.client import HubBusy, HubRefused, HubUnreachable
from binderhub_ext.hub.diagnosis import hub_failure, spawn_failure, start_timeout

T = "2026-11-22T17:00:00.000000Z"
NOT_STARTED = "Spawn failed: pod binder/jupyter-repo-x3k9 did not start in 300 seconds!"
NOT_ANSWERING = "Spawn failed: Server at http://10.1.2.3:8888/user/repo-x3k9/ didn't respond in 30 seconds"


def warning(text: str) -> str:
    return f"{T} [Warning] {text}"


def normal(text: str) -> str:
    return f"{T} [Normal] {text}"


ASSIGNED = normal("Successfully assigned binder/jupyter-repo-x3k9 to gke-user-pool-1")
PULLING = normal('Pulling image "gcr.io/binder/r2d-repo:abc"')
PULLED = normal('Successfully pulled image "gcr.io/binder/r2d-repo:abc" in 41.2s (41.2s including waiting).')
PRESENT = normal('Container image "gcr.io/binder/r2d-repo:abc" already present on machine')
UNSCHEDULABLE = warning(
    "0/3 nodes are available: 3 Insufficient memory. preemption: 0/3 nodes are available: "
    "3 No preemption victims found for incoming pod."
)
ERR_PULL = warning(
    'Failed to pull image "gcr.io/binder/r2d-repo:abc": rpc error: code = NotFound desc = failed to pull and '
    'unpack image "gcr.io/binder/r2d-repo:abc": failed to resolve reference: not found'
)

# what was said before the Hub gave up on the pod -> code
EVENTS = {
    "no node has memory": ([UNSCHEDULABLE], "cluster.full"),
    "no node has CPU": ([warning("0/12 nodes are available: 12 Insufficient cpu.")], "cluster.full"),
    "all nodes are tainted": (
        [warning("0/2 nodes are available: 2 node(s) had untolerated taint {node.kubernetes.io/not-ready: }.")],
        "cluster.full",
    ),
    "no node takes more pods": ([warning("0/4 nodes are available: 4 Too many pods.")], "cluster.full"),
    "there are no nodes": ([warning("no nodes available to schedule pods")], "cluster.full"),
    "the autoscaler is at its limit": (
        [normal("pod didn't trigger scale-up: 1 max node group size reached")],
        "cluster.full",
    ),
    "the autoscaler adds a node, which takes too long": (
        [UNSCHEDULABLE, normal("pod triggered scale-up: [{https://example/pool 2->3 (max: 5)}]")],
        "server.timeout",
    ),
    "a node was found in the end, and the rest took too long": (
        [UNSCHEDULABLE, ASSIGNED, PULLING],
        "server.timeout",
    ),
    "a node was found, and the image cannot be pulled": (
        [UNSCHEDULABLE, ASSIGNED, PULLING, ERR_PULL],
        "image.pull",
    ),
    "the image does not exist": ([ASSIGNED, PULLING, ERR_PULL, warning("Error: ErrImagePull")], "image.pull"),
    "the pull is not tried again for a while": (
        [ASSIGNED, warning("Error: ImagePullBackOff"), normal('Back-off pulling image "r2d-repo:abc"')],
        "image.pull",
    ),
    "the registry asks for a password": (
        [warning('Failed to pull image "x": pull access denied for x, repository does not exist')],
        "image.pull",
    ),
    "the image's name is wrong": ([warning("Error: InvalidImageName")], "image.pull"),
    "a pull failed, and the next one did not": ([ERR_PULL, PULLED], "server.timeout"),
    "the container crashes again and again": (
        [ASSIGNED, PRESENT, warning("Back-off restarting failed container notebook in pod jupyter-x3k9_binder(8f)")],
        "server.crashed",
    ),
    "the command is not in the image": (
        [warning('Error: failed to create containerd task: failed to create shim task: OCI runtime create failed: runc '
                 'create failed: unable to start container process: exec: "jupyterhub-singleuser": executable file not '
                 "found in $PATH: unknown")],
        "server.crashed",
    ),
    "the image is for another kind of machine": (
        [warning("Error: failed to start container: exec /usr/local/bin/x: exec format error")],
        "server.crashed",
    ),
    "the readiness probe fails": (
        [warning('Readiness probe failed: Get "http://10.1.2.3:8888/": dial tcp 10.1.2.3:8888: connection refused')],
        "server.timeout",
    ),
    "a volume is not mounted": (
        [warning("Unable to attach or mount volumes: unmounted volumes=[home]: timed out waiting for the condition")],
        "server.timeout",
    ),
    "the node has no room any more": (
        [warning("The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi.")],
        "cluster.full",
    ),
    "the node is gone": ([warning("Node is not ready")], "cluster.full"),
    "another pod took its place": ([normal("Preempted by pod 8f1c on node gke-user-pool-1")], "cluster.full"),
    "nothing was said": ([], "server.timeout"),
}  # fmt: skip


@pytest.mark.parametrize("says", EVENTS)
@pytest.mark.parametrize("ended_by", ["the spawner", "the Hub's check", "the deadline"])
def test_events_of_a_pod_say_why_it_did_not_start(says, ended_by):
    events, code = EVENTS[says]
    if ended_by == "the deadline":
        failure = start_timeout(events)
    else:
        failure = spawn_failure(NOT_STARTED if ended_by == "the spawner" else NOT_ANSWERING, events)
    assert failure.code == code
    assert (
        T not in failure.detail and "[Warning]" not in failure.detail and "Spawn failed" not in failure.detail
    )


API_403 = """(403)
Reason: Forbidden
HTTP response headers: <CIMultiDictProxy('Audit-Id': '6c0b', 'Content-Type': 'application/json')>
HTTP response body: {"kind":"Status","status":"Failure","message":"%s","reason":"Forbidden","code":403}
"""

# the spawner's exception -> code, whether another attempt may help
WORDS = {
    "a quota of the namespace is full": (
        API_403 % r"pods \"jupyter-x\" is forbidden: exceeded quota: pods, used: pods=9, limited: pods=9",
        "cluster.full", False,
    ),
    "the pod's rights are too many": (
        API_403 % r"pods \"jupyter-x\" is forbidden: violates PodSecurity \"restricted:latest\": privileged",
        "start.forbidden", False,
    ),
    "the Hub may not make pods": (
        API_403 % r"pods is forbidden: User \"system:serviceaccount:binder:hub\" cannot create resource \"pods\"",
        "start.forbidden", False,
    ),
    "a webhook says no": (
        'admission webhook "validate.kyverno.svc-fail" denied the request: no images from there',
        "start.forbidden", False,
    ),
    "it did not start in time": ("pod binder/jupyter-x did not start in 300 seconds!", "server.timeout", False),
    "the Hub's own bound came first": ("Timeout", "server.timeout", False),
    "the start was cancelled": ("Spawn cancelled", "server.timeout", True),
    "it ended at once": ("Spawner failed to start [status=1]. The logs may contain details.", "server.crashed", False),
    "out of memory": ("pod jupyter-x failed: OOMKilled", "server.crashed", False),
    "the API server refuses connections": (
        "Cannot connect to host 10.0.0.1:443 ssl:default [Connect call failed ('10.0.0.1', 443)]",
        "server.crashed", True,
    ),
    "the API server resets connections": ("[Errno 104] Connection reset by peer", "server.crashed", True),
    "words that nobody knows": ("the spawner cannot do it", "server.crashed", False),
}  # fmt: skip


@pytest.mark.parametrize("says", WORDS)
def test_the_words_of_a_spawner_say_why_it_failed(says):
    words, code, transient = WORDS[says]
    failure = spawn_failure("Spawn failed: " + words)
    assert (failure.code, failure.transient) == (code, transient)
    assert failure.detail and not any(noise in failure.detail for noise in ("Audit-Id", "<", "Spawn failed"))


def test_the_message_of_an_api_server_is_shown_without_its_frame():
    failure = spawn_failure("Spawn failed: " + API_403 % r"pods \"x\" is forbidden: exceeded quota: pods")
    assert failure.detail == 'pods "x" is forbidden: exceeded quota: pods'


def test_the_last_warnings_are_told_once_each():
    events = [UNSCHEDULABLE, UNSCHEDULABLE, warning("0/3 nodes are available: 3 Insufficient cpu.")]
    lines = spawn_failure(NOT_STARTED, events).detail.splitlines()
    assert lines[0] == "pod binder/jupyter-repo-x3k9 did not start in 300 seconds!"
    assert len(lines) == len(set(lines)) == 3


@pytest.mark.parametrize(
    "error, code, transient",
    [
        (HubBusy("Too many users trying to log in right now. Try again later.", 429, 60), "hub.unreachable", True),
        (HubBusy("Active user limit exceeded. Try again in a few minutes.", 429, 300), "quota.hub", True),
        (HubUnreachable("127.0.0.1:8081: Connection refused"), "hub.unreachable", True),
        (HubRefused("Action is not authorized with current scopes", 403), "hub.refused", False),
        (HubRefused("User x already has a default server", 409), "hub.refused", False),
        (HubRefused("Internal Server Error", 500), "hub.refused", True),
        (HubRefused('pods "x" is forbidden: exceeded quota: pods', 500), "cluster.full", False),
    ],
)  # fmt: skip
def test_answers_of_the_hub(error, code, transient):
    failure = hub_failure(error)
    assert (failure.code, failure.transient) == (code, transient)
    assert "127.0.0.1" not in failure.detail
    assert failure.retry_after == error.retry_after
