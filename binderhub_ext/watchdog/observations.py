"""What the watchdog saw in one look at the Hub, the cluster and the launches.

Only data: the edges (`hub.py`, `cluster.py`, `launches.py`, `canary.py`) make it, the pure core
(`signs.py`, `decisions.py`) reads it. A part that could not be seen is None, never empty: "the Hub
knows no server" and "the Hub does not answer" are different facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


@dataclass(frozen=True, order=True)
class ServerKey:
    """A server as both sides name it: its user, and the name of the server ("" for the default one)."""

    user: str
    server: str = ""

    def __str__(self) -> str:
        return f"{self.user}/{self.server}"


@dataclass(frozen=True)
class HubServer:
    """A server that the Hub holds to be active.

    Attributes
    ----------
    pending : str
        "spawn", "stop", "check", or "" when nothing is pending.
    started : str
        The Hub's own time stamp; tells one start of a server from the next.
    """

    key: ServerKey
    ready: bool
    pending: str = ""
    started: str = ""


@dataclass(frozen=True)
class ServerPod:
    """A pod that carries a server.

    Attributes
    ----------
    key : ServerKey or None
        None when the pod says not whose it is.
    ready : bool
        The pod's condition `Ready`.
    deleting : bool
        Its deletion was asked for, and it is still there.
    """

    name: str
    uid: str
    key: ServerKey | None
    phase: str = "Running"
    ready: bool = False
    deleting: bool = False

    @property
    def over(self) -> bool:
        """Whether its containers have ended for good."""
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True)
class HubPod:
    """A pod of the Hub itself.

    Attributes
    ----------
    restarts : int
        How often its container was started again: a new container is a new Hub.
    running : bool
        Whether the container runs; says nothing of whether it is ready.
    """

    name: str
    uid: str
    restarts: int = 0
    running: bool = True
    deleting: bool = False

    @property
    def incarnation(self) -> str:
        """Tells one process of the Hub from the next."""
        return f"{self.uid}#{self.restarts}"


@dataclass(frozen=True)
class HubView:
    """The active servers that the Hub knows."""

    servers: Mapping[ServerKey, HubServer] = field(default_factory=dict)


@dataclass(frozen=True)
class ClusterView:
    """The pods of servers and of the Hub that the API server knows."""

    pods: tuple[ServerPod, ...] = ()
    hub_pods: tuple[HubPod, ...] = ()


class HubTrouble(str, Enum):
    """Why the Hub's view is missing."""

    NONE = ""
    SILENT = "silent"
    """No answer, or none but server errors: the Hub's fault."""
    REFUSED = "refused"
    """It answers, but not to us: the watchdog's token or address is wrong."""


@dataclass(frozen=True)
class LaunchCounts:
    """Launches that ended since the look before: only such as the Hub had a part in."""

    succeeded: int = 0
    failed: int = 0


@dataclass(frozen=True)
class CanaryResult:
    """How one launch of the canary ended.

    Attributes
    ----------
    at : float
        When it ended, in seconds of the monotonic clock.
    seconds : float
        From the request to the server's first answer, or to the failure.
    code : str
        "" when the server answered; else the service's error code, or one of the canary's own.
    hub_at_fault : bool
        Whether a restart of the Hub may cure it.
    """

    at: float
    seconds: float
    code: str = ""
    detail: str = ""
    hub_at_fault: bool = False

    @property
    def ok(self) -> bool:
        return not self.code


@dataclass(frozen=True)
class Observation:
    """One look.

    Attributes
    ----------
    at : float
        When it was complete, in seconds of the monotonic clock.
    hub, cluster, launches
        None: could not be seen.
    canary : CanaryResult or None
        A launch that ended since the look before.
    hub_error, cluster_error, launches_error : str
        Why a part is missing, for people.
    """

    at: float
    hub: HubView | None = None
    cluster: ClusterView | None = None
    launches: LaunchCounts | None = None
    canary: CanaryResult | None = None
    hub_trouble: HubTrouble = HubTrouble.NONE
    hub_error: str = ""
    cluster_error: str = ""
    launches_error: str = ""

    def summary(self) -> dict[str, Any]:
        """Return the sizes of what was seen, for the evidence."""
        facts: dict[str, Any] = {
            "hub": self.hub_error or "answers",
            "cluster": self.cluster_error or "answers",
        }
        if self.hub is not None:
            servers = self.hub.servers.values()
            facts["servers"] = len(servers)
            facts["ready"] = sum(server.ready for server in servers)
            facts["pending"] = {
                kind: count
                for kind in ("spawn", "stop", "check")
                if (count := sum(server.pending == kind for server in servers))
            }
        if self.cluster is not None:
            facts["pods"] = len(self.cluster.pods)
            facts["pods_ready"] = sum(pod.ready for pod in self.cluster.pods)
            facts["hub_pods"] = [
                {"name": pod.name, "restarts": pod.restarts, "running": pod.running, "deleting": pod.deleting}
                for pod in self.cluster.hub_pods
            ]
        return facts
