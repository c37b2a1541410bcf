"""Observations for tests of the watchdog's pure core, and a clock that tests advance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from binderhub_ext.watchdog.observations import (
    ClusterView,
    HubPod,
    HubServer,
    HubTrouble,
    HubView,
    Observation,
    ServerKey,
    ServerPod,
)

HUB_POD = HubPod("hub-1", "hub-uid-1")


@dataclass
class FakeClock:
    """Both clocks; `wall` can be made to jump."""

    now: float = 1000.0
    wall: float = 1_700_000_000.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.wall

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(max(0.0, seconds))

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds


def key(user: str) -> ServerKey:
    return ServerKey(user)


def server(user: str, pending: str = "", ready: bool = False, started: str = "t0") -> HubServer:
    return HubServer(key(user), ready, pending, started)


def pod(user: str, *, uid: str = "", **how: Any) -> ServerPod:
    return ServerPod(f"jupyter-{user}", uid or f"uid-{user}", key(user), **{"ready": True, **how})


def look(
    at: float,
    servers: Iterable[HubServer] | None = (),
    pods: Iterable[ServerPod] | None = (),
    hub_pods: tuple[HubPod, ...] = (HUB_POD,),
    **more: Any,
) -> Observation:
    """Return an observation; `servers=None`: the Hub is silent, `pods=None`: the API server is away."""
    hub = None if servers is None else HubView({s.key: s for s in servers})
    cluster = None if pods is None else ClusterView(tuple(pods), hub_pods)
    if hub is None:
        more = {"hub_trouble": HubTrouble.SILENT, "hub_error": "no answer", **more}
    if cluster is None:
        more = {"cluster_error": "no answer", **more}
    return Observation(at, hub, cluster, **more)
