"""A real JupyterHub as the API server of the tests runs it: a process behind a pod.

`HubDeployment` plays Deployment and kubelet for the Hub: when the Hub's pod is deleted, its process is
ended, and a new pod with a new process takes its place, on the same database and port.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from .kube_api import PODS, ApiError, KubeAPI
from .watch_hub_process import HubProcess, free_port, until

__all__ = ["HubDeployment", "free_port", "until"]

NAMESPACE = "default"


class HubDeployment(HubProcess):
    """The Hub's Deployment.

    Parameters
    ----------
    start_delay : float
        Seconds from the end of a pod to the start of the next one's process.
    how
        See `HubProcess`.
    """

    def __init__(self, api: KubeAPI, folder: Path, *, start_delay: float = 0.2, **how: Any) -> None:
        super().__init__(api.url, folder, **how)
        self.api, self.start_delay = api, start_delay
        self.starts = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def pod_name(self) -> str:
        return f"hub-{self.starts}"

    async def __aenter__(self) -> HubDeployment:
        await super().__aenter__()
        await self.start()
        self._task = asyncio.create_task(self._supervise())
        await self.until_answers()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await super().__aexit__()

    async def clean(self) -> None:
        """Remove every user; when the Hub cannot, replace it by one that has never had a user."""
        await self.until_answers()
        try:
            users = (await self.call("GET", "/users", timeout=5.0))[1]
            for user in users:
                await until(lambda name=user["name"]: self.gone(name), 8, f"{user['name']} is gone")
        except (AssertionError, asyncio.TimeoutError):
            starts = self.starts
            (self.folder / "renew").touch()
            with contextlib.suppress(ApiError):
                self.api.delete_pod(self.pod_name)
            await until(lambda: self.starts > starts, 20, "the Hub is replaced")
            await self.until_answers()

    async def start(self) -> None:
        """Create the pod, and start its process."""
        self.starts += 1
        if (self.folder / "renew").exists():
            (self.folder / "renew").unlink()
            (self.folder / "jupyterhub.sqlite").unlink(missing_ok=True)
        self.api.store.create(PODS, NAMESPACE, self._pod())
        await self.launch()

    async def _supervise(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            pod = self.api.store.state(PODS).get((NAMESPACE, self.pod_name))
            if pod is not None and "deletionTimestamp" not in pod.object["metadata"]:
                continue
            await self.end()
            with contextlib.suppress(ApiError):
                self.api.store.delete(PODS, (NAMESPACE, self.pod_name), grace=0)
            await asyncio.sleep(self.start_delay)
            await self.start()

    def _pod(self) -> dict[str, Any]:
        return {
            "metadata": {"name": self.pod_name, "labels": {"app": "jupyterhub", "component": "hub"}},
            "spec": {"containers": [{"name": "hub", "image": "hub"}], "terminationGracePeriodSeconds": 30},
            "status": {
                "phase": "Running",
                "containerStatuses": [
                    {
                        "name": "hub",
                        "restartCount": 0,
                        "state": {"running": {}},
                        "image": "hub",
                        "imageID": "",
                    }
                ],
            },
        }
