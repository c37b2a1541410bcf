"""Pods for the API server of the tests: schema-valid objects, and a scheduler and kubelet in one.

`PodController` takes created pods through Pending, scheduled, Running and ready, with the events that a
cluster writes, and ends those that are terminating. With `serve=True` every pod gets an address of its own
in 127.0.0.0/8 and a tiny HTTP server there that answers as a single-user server does.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from typing import TYPE_CHECKING, Any

from .kube_store import EVENTS, PODS, ApiError, Change, now
from .pod_servers import PodServers

if TYPE_CHECKING:
    from .kube_api import KubeAPI


def make_pod(
    name: str,
    *,
    phase: str = "Running",
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    node: str = "node-1",
    ip: str = "10.0.0.1",
    port: int = 8888,
    ready: bool = True,
    size: int = 0,
) -> dict[str, Any]:
    """Return a pod as a kubelet reports it; `size`: bytes of JSON that it should have at least."""
    pod: dict[str, Any] = {
        "metadata": {
            "name": name,
            "labels": {"component": "singleuser-server", "app": "jupyterhub", **(labels or {})},
            "annotations": {"hub.jupyter.org/username": name, **(annotations or {})},
        },
        "spec": {
            "containers": [
                {
                    "name": "notebook",
                    "image": "example/image:latest",
                    "ports": [{"name": "notebook-port", "containerPort": port, "protocol": "TCP"}],
                    "resources": {},
                    "env": [],
                }
            ],
            "terminationGracePeriodSeconds": 30,
        },
        "status": {"phase": "Pending"},
    }
    if phase != "Pending" or node:
        pod["spec"]["nodeName"] = node
    if phase != "Pending":
        pod["status"] = running_status(pod, ip, phase=phase, ready=ready)
    env = pod["spec"]["containers"][0]["env"]
    missing = max(0, size - 1100)
    for number in range(missing // 120):
        env.append(
            {
                "name": f"VARIABLE_{number:04}",
                "value": f"the value of variable number {number:04}".ljust(72, "."),
            }
        )
    return pod


def running_status(
    pod: dict[str, Any], ip: str, *, phase: str = "Running", ready: bool = True
) -> dict[str, Any]:
    state: dict[str, Any] = {"running": {"startedAt": now()}}
    if phase in ("Succeeded", "Failed"):
        code = 0 if phase == "Succeeded" else 1
        state = {"terminated": {"exitCode": code, "reason": "Completed" if code == 0 else "Error"}}
        ready = False
    conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"]
    return {
        "phase": phase,
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "hostIP": "10.0.0.254",
        "startTime": now(),
        "conditions": [{"type": c, "status": "True", "lastTransitionTime": now()} for c in conditions],
        "containerStatuses": [
            {
                "name": container["name"],
                "image": container.get("image", ""),
                "imageID": "",
                "ready": ready,
                "restartCount": 0,
                "started": ready,
                "state": state,
            }
            for container in pod["spec"]["containers"]
        ],
    }


def make_event(pod: dict[str, Any], reason: str, message: str, kind: str = "Normal") -> dict[str, Any]:
    metadata = pod["metadata"]
    return {
        "metadata": {"generateName": f"{metadata['name']}."},
        "involvedObject": {
            "kind": "Pod",
            "apiVersion": "v1",
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "reason": reason,
        "message": message,
        "type": kind,
        "count": 1,
        "firstTimestamp": now(),
        "lastTimestamp": now(),
        "eventTime": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "source": {"component": "kubelet"},
    }


class PodController:
    """Scheduler and kubelet.

    Parameters
    ----------
    delay : float
        Seconds between the steps of a pod's life.
    serve : bool
        Whether pods get a real address and an HTTP server.
    listen_delay : float
        Seconds from "ready" to the server's first accepted connection.
    """

    def __init__(
        self, api: KubeAPI, *, delay: float = 0.05, serve: bool = False, listen_delay: float = 0.0
    ) -> None:
        self.api, self.delay, self.serve, self.listen_delay = api, delay, serve, listen_delay
        self.paused = False
        self.servers = PodServers()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._seen = api.store.rv
        self._changed = asyncio.Event()
        self._loop_task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> PodController:
        self.api.store.listeners.add(self._changed.set)
        self._loop_task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.api.store.listeners.discard(self._changed.set)
        assert self._loop_task is not None
        tasks = [self._loop_task, *self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.servers.end_all()

    @property
    def listening(self) -> dict[str, float]:
        return self.servers.listening

    async def _run(self) -> None:
        while True:
            changes: list[Change] = []
            if not self.paused:
                changes = self.api.store.changes(max(self._seen, self.api.store.compacted), self.api.store.rv)
                self._seen = self.api.store.rv
            for change in changes:
                if change.resource != PODS:
                    continue
                uid = change.last.object["metadata"]["uid"]
                if change.before is None and change.last.object["status"].get("phase") == "Pending":
                    self._start(uid, self._live(change.key, uid))
                elif change.after is None:
                    self._start(uid, self.servers.end(uid))
                elif "deletionTimestamp" in change.last.object["metadata"]:
                    self._start(uid, self._terminate(change.key, uid))
            self._changed.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), 0.2)

    def _start(self, uid: str, coroutine: Any) -> None:
        if uid in self._tasks:
            self._tasks[uid].cancel()
        self._tasks[uid] = asyncio.create_task(coroutine)

    async def _live(self, key: tuple[str, str], uid: str) -> None:
        steps = [
            ("Pulled", "Container image already present on machine"),
            ("Created", "Created container notebook"),
        ]
        with contextlib.suppress(ApiError):
            await asyncio.sleep(self.delay)
            pod = self._update(key, {"spec": {"nodeName": "node-1"}})
            self._event(pod, "Scheduled", f"Successfully assigned {key[0]}/{key[1]} to node-1")
            await asyncio.sleep(self.delay)
            for reason, message in steps:
                self._event(pod, reason, message)
            ip = self.servers.address()
            if self.serve and not self.listen_delay:
                await self.servers.begin(pod, ip)
            self._event(pod, "Started", "Started container notebook")
            self._update(key, {"status": running_status(pod, ip if self.serve else "10.0.0.1")})
            if self.serve and self.listen_delay:
                await asyncio.sleep(self.listen_delay)
                await self.servers.begin(pod, ip)

    async def _terminate(self, key: tuple[str, str], uid: str) -> None:
        await asyncio.sleep(self.delay)
        await self.servers.end(uid)
        with contextlib.suppress(ApiError):
            self.api.store.delete(PODS, key, grace=0, preconditions={"uid": uid})

    def _update(self, key: tuple[str, str], patch: dict[str, Any]) -> dict[str, Any]:
        return self.api.store.merge(PODS, key, patch)

    def _event(self, pod: dict[str, Any], reason: str, message: str) -> None:
        self.api.store.create(EVENTS, pod["metadata"]["namespace"], make_event(pod, reason, message))
