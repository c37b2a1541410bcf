"""What a pod's object says about the server in it. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .entries import Object


class PodState(str, Enum):
    """The state of a single-user server's pod."""

    STARTING = "starting"
    RUNNING = "running"
    TERMINATING = "terminating"
    ENDED = "ended"  # its container is no longer there; the object is


@dataclass(frozen=True)
class PodFacts:
    """
    Attributes
    ----------
    exit_code : int or None
        Of the notebook container, for `ENDED`; 1 when it is not known.
    """

    state: PodState
    exit_code: int | None = None
    uid: str = ""


def pod_facts(pod: Object, container: str = "notebook") -> PodFacts:
    """Return what the object says, in the order in which KubeSpawner's `poll` judges it."""
    status, metadata = pod.get("status") or {}, pod["metadata"]
    uid = metadata.get("uid") or ""
    phase, containers = status.get("phase"), status.get("containerStatuses")
    if phase != "Pending":
        if containers is None:
            return PodFacts(PodState.ENDED, 1, uid)
        for one in containers:
            terminated = (one.get("state") or {}).get("terminated")
            if one.get("name") == container and terminated:
                return PodFacts(PodState.ENDED, int(terminated.get("exitCode", 1)), uid)
    if "deletionTimestamp" in metadata:
        return PodFacts(PodState.TERMINATING, None, uid)
    ready = containers is not None and all(one.get("ready") for one in containers)
    if phase == "Running" and status.get("podIP") and ready:
        return PodFacts(PodState.RUNNING, None, uid)
    return PodFacts(PodState.STARTING, None, uid)
