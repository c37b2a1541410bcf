"""A node for pods on any API server, also a real one: scheduler and kubelet in one, over HTTP.

Pods that name `SCHEDULER` as theirs are bound to a node that exists only as an object, get a status and a
tiny HTTP server, and end when they are deleted. So a real Hub has pods where no machine could run them,
and no other scheduler or kubelet of the cluster is concerned.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import aiohttp

from .kube_pods import make_event, running_status
from .pod_servers import PodServers

SCHEDULER = "binderhub-ext-tests"
MERGE = {"Content-Type": "application/merge-patch+json"}


class ClusterNode:
    """Scheduler and kubelet of one namespace.

    Parameters
    ----------
    url : str
        The API server; nothing is sent but plain requests, so a real one is reached through ``kubectl proxy``.
    delay : float
        Seconds between the steps of a pod's life.
    """

    def __init__(self, url: str, namespace: str, *, delay: float = 0.05) -> None:
        self.url, self.namespace, self.delay = url, namespace, delay
        self.name = f"{namespace}-node"
        self.servers = PodServers()
        self.going = asyncio.Event()
        """Cleared: nothing happens to pods until it is set again."""
        self.going.set()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ending: set[str] = set()
        self._watching: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> ClusterNode:
        self._session = aiohttp.ClientSession(self.url)
        await self.ask(
            "POST", "/api/v1/nodes", {"metadata": {"name": self.name}, "spec": {"unschedulable": True}}
        )
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._watching is not None and self._session is not None
        tasks = [self._watching, *self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.servers.end_all()
        await self.ask("DELETE", f"/api/v1/nodes/{self.name}")
        await self._session.close()

    async def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Return the status and the JSON of an answer."""
        assert self._session is not None
        headers = {"Content-Type": "application/json", **(headers or {})}
        data = None if body is None else json.dumps(body)
        async with self._session.request(method, path, data=data, headers=headers) as answer:
            return answer.status, await answer.json()

    @property
    def pods_path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"

    async def pods(self) -> dict[str, dict[str, Any]]:
        """Return the namespace's pods by name."""
        _, found = await self.ask("GET", self.pods_path)
        return {pod["metadata"]["name"]: pod for pod in found["items"]}

    async def delete(self, name: str, grace: int = 0) -> int:
        """Delete a pod; a grace of 0 s is how one vanishes at once. Returns the HTTP status."""
        status, _ = await self.ask("DELETE", f"{self.pods_path}/{name}", {"gracePeriodSeconds": grace})
        return status

    async def _watch(self) -> None:
        assert self._session is not None
        while True:
            _, found = await self.ask("GET", self.pods_path)
            for pod in found["items"]:
                await self._see(pod)
            query = {
                "watch": "1",
                "resourceVersion": found["metadata"]["resourceVersion"],
                "timeoutSeconds": "60",
            }
            with contextlib.suppress(aiohttp.ClientPayloadError):
                async with self._session.get(self.pods_path, params=query) as answer:
                    async for line in answer.content:
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            break
                        if event["type"] == "DELETED":
                            await self.servers.end(event["object"]["metadata"]["uid"])
                        else:
                            await self._see(event["object"])

    async def _see(self, pod: dict[str, Any]) -> None:
        await self.going.wait()
        uid = pod["metadata"]["uid"]
        if pod["spec"].get("schedulerName") != SCHEDULER:
            return
        if "deletionTimestamp" in pod["metadata"]:
            if uid not in self._ending:
                self._ending.add(uid)
                self._begin(uid, self._end(pod))
        elif uid not in self._tasks and not pod["spec"].get("nodeName"):
            self._begin(uid, self._run(pod))

    def _begin(self, uid: str, work: Any) -> None:
        if uid in self._tasks:
            self._tasks[uid].cancel()
        self._tasks[uid] = asyncio.create_task(work)

    async def _run(self, pod: dict[str, Any]) -> None:
        path, ip = f"{self.pods_path}/{pod['metadata']['name']}", self.servers.address()
        await asyncio.sleep(self.delay)
        target = {"apiVersion": "v1", "kind": "Node", "name": self.name}
        binding = {"metadata": {"name": pod["metadata"]["name"]}, "target": target}
        status, _ = await self.ask("POST", f"{path}/binding", binding)
        if status != 201:  # deleted meanwhile
            return
        await self._tell(pod, "Scheduled", f"Successfully assigned to {self.name}")
        await asyncio.sleep(self.delay)
        await self.servers.begin(pod, ip)
        await self._tell(pod, "Started", "Started container notebook")
        await self.ask("PATCH", f"{path}/status", {"status": running_status(pod, ip)}, MERGE)

    async def _end(self, pod: dict[str, Any]) -> None:
        await asyncio.sleep(self.delay)
        await self.servers.end(pod["metadata"]["uid"])
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
        await self.ask("DELETE", f"{self.pods_path}/{pod['metadata']['name']}", options)

    async def _tell(self, pod: dict[str, Any], reason: str, message: str) -> None:
        await self.ask(
            "POST", f"/api/v1/namespaces/{self.namespace}/events", make_event(pod, reason, message)
        )
