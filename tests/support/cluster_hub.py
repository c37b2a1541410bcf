"""A JupyterHub whose pods are on a real cluster, and what runs those pods where no node does.

The cluster's own controllers make and replace the Hub's pod; `ClusterHub` plays the kubelet for it and for the
servers' pods, which wait for a scheduler that there is not. Such pods are on no node, so a deletion is at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from .cluster import NOBODY, Namespace, Object
from .kube_pods import running_status
from .pod_servers import PodServers
from .watch_hub_process import HubProcess

LABELS = {"app": "jupyterhub", "component": "hub"}


class ClusterHub(HubProcess):
    """The Hub's Deployment, and its pods' and its servers' kubelet.

    Parameters
    ----------
    server : str
        Address of the API server for the Hub's spawner, without credentials.
    """

    def __init__(self, namespace: Namespace, folder: Path, server: str, **config: Any) -> None:
        spawner = {
            "namespace": namespace.name,
            "scheduler_name": NOBODY,
            "image": "example/image:1",
            **config,
        }
        super().__init__(
            server, folder, poll_interval=1, config={f"KubeSpawner.{k}": v for k, v in spawner.items()}
        )
        self.namespace = namespace
        self.pods: list[Object] = []
        """The Hub's pods that ran, the oldest first."""
        self.deleted: list[str] = []
        """Names of the pods that were deleted, the first first."""
        self._servers = PodServers()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> ClusterHub:
        await super().__aenter__()
        self._task = asyncio.create_task(self._run())
        template = {
            "metadata": {"labels": LABELS},
            "spec": {"schedulerName": NOBODY, "containers": [CONTAINER]},
        }
        spec = {"replicas": 1, "selector": {"matchLabels": LABELS}, "template": template}
        await self.namespace.create("deployments", {"metadata": {"name": "hub"}, "spec": spec})
        await self.until_answers()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self._servers.end_all()
        await super().__aexit__()

    async def _run(self) -> None:
        begun = set()
        async with contextlib.aclosing(self.namespace.watch("pods")) as changes:
            async for kind, pod in changes:
                uid, labels = pod["metadata"]["uid"], pod["metadata"]["labels"]
                if kind == "DELETED":
                    self.deleted.append(pod["metadata"]["name"])
                    await self._end_pod(uid)
                elif uid not in begun and pod["spec"]["schedulerName"] == NOBODY:
                    begun.add(uid)
                    await (self._run_hub(pod) if LABELS.items() <= labels.items() else self._run_server(pod))

    async def _run_hub(self, pod: Object) -> None:
        self.pods.append(pod)
        await self.end()  # the pod before, should its deletion not have been seen yet
        await self.launch()
        await self.namespace.set_status("pods", pod["metadata"]["name"], running_status(pod, "10.0.0.1"))

    async def _run_server(self, pod: Object) -> None:
        ip = self._servers.address()
        if pod["spec"]["containers"][0].get("ports"):
            await self._servers.begin(pod, ip)
        await self.namespace.set_status("pods", pod["metadata"]["name"], running_status(pod, ip))

    async def _end_pod(self, uid: str) -> None:
        if self.pods and uid == self.pods[-1]["metadata"]["uid"]:
            await self.end()
        await self._servers.end(uid)


CONTAINER = {"name": "hub", "image": "example/hub:1"}


def server_pod(name: str) -> Object:
    """Return a pod of a single-user server that no Hub has made."""
    labels = {"app": "jupyterhub", "component": "singleuser-server"}
    metadata = {"name": name, "labels": labels, "annotations": {"hub.jupyter.org/username": name}}
    spec = {"schedulerName": NOBODY, "containers": [{"name": "notebook", "image": "example/image:1"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
