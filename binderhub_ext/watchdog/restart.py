"""The two ways to restart a Hub: delete its pod, or run a command."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from binderhub_ext.timing import wait_for

from .cluster import Cluster
from .decisions import Decision


@dataclass
class DeletePod:
    """Deletes the pod that was looked at; the Hub's Deployment makes a new one."""

    cluster: Cluster

    async def __call__(self, decision: Decision) -> None:
        """Raises `ClusterTrouble` when the API server refused or did not answer."""
        if decision.hub_pod is None:
            raise OSError("no pod of the Hub was seen")
        await self.cluster.delete_pod(decision.hub_pod.name, decision.hub_pod.uid)


@dataclass
class RunCommand:
    """Runs a command, for Hubs that are no pods.

    Parameters
    ----------
    command : sequence of str
        Program and arguments; no shell.
    timeout : float
        Seconds until it is killed.
    """

    command: Sequence[str]
    timeout: float = 60.0

    async def __call__(self, decision: Decision) -> None:
        """Raises `OSError` when it could not be started, failed, or did not end in time."""
        process = await asyncio.create_subprocess_exec(*self.command, stdin=asyncio.subprocess.DEVNULL)
        try:
            status = await wait_for(process.wait(), self.timeout)
        except asyncio.TimeoutError as error:
            raise OSError(f"{self.command[0]} did not end within {self.timeout:.0f} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if status != 0:
            raise OSError(f"{self.command[0]} ended with status {status}")
