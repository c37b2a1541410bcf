"""What follows from the signs that stand: restart the Hub, or hold and say why.

Restarting a Hub is cheap when it is right and an outage when it is wrong, so every reason to hold
comes before the one to act. The rules, in their order, are the rows of `Action`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from .history import RestartHistory
from .observations import HubPod, Observation
from .signs import Finding, Sign


class Action(str, Enum):
    """The outcome of one round. The values are labels of metrics and words in the evidence."""

    NONE = "none"
    """No sign stands that asks for a restart."""
    HELD_NOT_LEADER = "held_not_leader"
    """Another watchdog holds the Lease."""
    HELD_API_SERVER = "held_api_server"
    """The API server does not answer, or answers again only since `settle`."""
    HELD_NO_HUB_POD = "held_no_hub_pod"
    """There is no Hub pod: what made it go away brings it back, a restart cannot."""
    HELD_UPDATING = "held_updating"
    """The Hub's pod is being replaced, or its container does not run."""
    HELD_GRACE = "held_grace"
    """The Hub was not up for `grace`."""
    HELD_COOLDOWN = "held_cooldown"
    """The last restart is less than `cooldown` ago."""
    HELD_LIMIT = "held_limit"
    """There were `restart_limit` restarts in the last 24 hours: this needs a person."""
    WOULD_RESTART = "would_restart"
    """All rules allow it, and `dry_run` forbids it."""
    RESTART = "restart"
    """Delete the Hub's pod, or run the configured command."""


@dataclass(frozen=True)
class Limits:
    """The operator's rules; times in seconds.

    Parameters
    ----------
    cooldown : float
        Least time between two restarts.
    restart_limit : int
        Most restarts in 24 hours; 0 never restarts.
    grace : float
        A Hub process younger than this is left alone.
    settle : float
        The API server must have answered for this long without a gap.
    restart_on : frozenset of Sign
        Signs that may lead to a restart; the others are only reported.
    needs_pod : bool
        Whether a restart deletes a pod (else it is a command, and no pod need be seen).
    """

    cooldown: float = 600.0
    restart_limit: int = 4
    grace: float = 300.0
    settle: float = 60.0
    restart_on: frozenset[Sign] = frozenset(Sign)
    needs_pod: bool = True
    dry_run: bool = False


@dataclass(frozen=True)
class Decision:
    """What to do after one observation.

    Attributes
    ----------
    reasons : tuple of Finding
        The signs that stand and that a restart may cure.
    hub_pod : HubPod or None
        The pod that `Action.RESTART` deletes.
    detail : str
        The rule in numbers, for people.
    """

    action: Action
    reasons: tuple[Finding, ...] = ()
    hub_pod: HubPod | None = None
    detail: str = ""

    @property
    def sign(self) -> str:
        """The sign that stood longest; "" for none."""
        return self.reasons[0].sign.value if self.reasons else ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "action": self.action.value,
            "sign": self.sign,
            "detail": self.detail,
            "hub_pod": self.hub_pod.name if self.hub_pod else None,
            "reasons": [finding.as_dict() for finding in self.reasons],
        }


@dataclass
class Decider:
    """Applies `Limits`. `note` must be given every observation, in order.

    The Hub's age is what this watchdog saw of it with its own monotonic clock, never the difference
    of two wall clocks: a clock that jumps must not make a young Hub look old.
    """

    limits: Limits = field(default_factory=Limits)
    history: RestartHistory = field(default_factory=RestartHistory)
    _api_server_since: float | None = None
    _incarnation: str | None = None
    _hub_since: float | None = None

    def note(self, obs: Observation) -> None:
        """Follow how long the API server has answered, and how long the Hub's process has been there."""
        if obs.cluster is None:
            self._api_server_since = None
            return
        if self._api_server_since is None:
            self._api_server_since = obs.at
        if not self.limits.needs_pod:
            self._hub_since = obs.at if self._hub_since is None else self._hub_since
            return
        pods = obs.cluster.hub_pods
        steady = len(pods) == 1 and pods[0].running and not pods[0].deleting
        incarnation = pods[0].incarnation if steady else None
        if incarnation is None:
            self._hub_since = None
        elif incarnation != self._incarnation or self._hub_since is None:
            self._hub_since = obs.at
        self._incarnation = incarnation

    def restarted(self, now: float) -> None:
        """Note that a restart was done: where no pod tells, the Hub's age starts here."""
        self._hub_since = now if not self.limits.needs_pod else None

    def settled(self, now: float) -> bool:
        """Whether both the API server and the Hub have been there long enough to be believed."""
        hub, api_server = self._hub_since, self._api_server_since
        if hub is None or api_server is None:
            return False
        return now - hub >= self.limits.grace and now - api_server >= self.limits.settle

    def decide(self, findings: Sequence[Finding], obs: Observation, *, leader: bool) -> Decision:
        """Return what to do now. `note` must have been given `obs` before."""
        limits, now = self.limits, obs.at
        reasons = tuple(f for f in findings if f.stands and f.curable and f.sign in limits.restart_on)
        if not reasons:
            return Decision(Action.NONE)
        pods = obs.cluster.hub_pods if obs.cluster is not None else ()

        def decision(action: Action, detail: str = "", pod: HubPod | None = None) -> Decision:
            return Decision(action, reasons, pod, detail)

        if not leader:
            return decision(Action.HELD_NOT_LEADER, "another watchdog holds the Lease")
        answering = 0.0 if self._api_server_since is None else now - self._api_server_since
        if obs.cluster is None or answering < limits.settle:
            return decision(
                Action.HELD_API_SERVER,
                f"the API server answers since {answering:.0f} s of {limits.settle:.0f} s",
            )
        if limits.needs_pod and not pods:
            return decision(Action.HELD_NO_HUB_POD, "no pod has the Hub's labels")
        if self._hub_since is None:
            states = ", ".join(f"{p.name} running={p.running} deleting={p.deleting}" for p in pods)
            return decision(Action.HELD_UPDATING, states)
        pod = pods[0] if limits.needs_pod else None
        age = now - self._hub_since
        if age < limits.grace:
            return decision(
                Action.HELD_GRACE, f"the Hub is up since {age:.0f} s of {limits.grace:.0f} s", pod
            )
        since = self.history.since_last(now)
        if since < limits.cooldown:
            return decision(
                Action.HELD_COOLDOWN, f"restarted {since:.0f} s ago, cooldown is {limits.cooldown:.0f} s", pod
            )
        count = self.history.in_last_day(now)
        if count >= limits.restart_limit:
            return decision(
                Action.HELD_LIMIT, f"{count} restarts in 24 hours, the limit is {limits.restart_limit}", pod
            )
        return decision(Action.WOULD_RESTART if limits.dry_run else Action.RESTART, "", pod)


def orphans_to_delete(findings: Sequence[Finding], *, leader: bool, allowed: bool) -> list[Finding]:
    """Return the orphans whose pods are to be deleted now."""
    return [f for f in findings if f.sign is Sign.ORPHAN and f.stands] if leader and allowed else []
