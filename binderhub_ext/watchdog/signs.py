"""The signs of a Hub that lost touch with its pods, as a state machine over observations.

A sign is a contradiction between two sides, for one subject (a server, a pod, the Hub itself).
Contradictions are ordinary for seconds: the two sides are never read in the same instant. So a sign
*stands* only when it was seen in every observation for its whole bound. What could not be seen
proves nothing: time without an observation is not counted, and trouble of the API server makes
everything that leans on its word start from zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from .observations import CanaryResult, HubTrouble, Observation, ServerKey


class Sign(str, Enum):
    """What can be wrong. The values are labels of metrics and words in the configuration."""

    START_STUCK = "start_stuck"
    """The Hub says that a server is still starting; its pod has been ready for a while."""
    STOP_STUCK = "stop_stuck"
    """The Hub says that a server is still stopping; it has no pod any more."""
    GHOST = "ghost"
    """The Hub says that a server is ready; it has no pod."""
    ORPHAN = "orphan"
    """A pod carries a server that the Hub does not know."""
    HUB_SILENT = "hub_silent"
    """The Hub's API does not answer, while the API server does."""
    NO_LAUNCH = "no_launch"
    """Launches are tried, and none succeeds."""
    CANARY = "canary"
    """The watchdog's own launches fail."""


CURED_BY_RESTART = frozenset(Sign) - {Sign.ORPHAN}
"""A new Hub process starts with a fresh view of its pods; it does not know more servers than before."""


@dataclass(frozen=True)
class Bounds:
    """How long each sign may last, in seconds, and how many failures count.

    The defaults find a lost Hub in about a minute, and lie above what an ordinary Hub takes:
    JupyterHub waits `Spawner.http_timeout` (30 s) for a server after its pod is ready, and notices
    a pod that is gone after `Spawner.poll_interval` (30 s).
    """

    start_stuck: float = 60.0
    stop_stuck: float = 60.0
    ghost: float = 90.0
    orphan: float = 300.0
    hub_silent: float = 60.0
    no_launch: float = 300.0
    no_launch_failures: int = 5
    canary_failures: int = 2

    def of(self, sign: Sign) -> float:
        """Return the seconds for which `sign` must be seen until it stands."""
        return 0.0 if sign is Sign.CANARY else float(getattr(self, sign.value))


@dataclass(frozen=True)
class Finding:
    """A sign that is there for one subject.

    Attributes
    ----------
    seconds : float
        For how long it was seen without interruption.
    stands : bool
        Whether that is its bound or more.
    facts : mapping
        What both sides said, for the evidence.
    curable : bool
        Whether a restart of the Hub may cure it.
    """

    sign: Sign
    subject: str
    seconds: float
    stands: bool
    facts: Mapping[str, Any] = field(default_factory=dict)
    curable: bool = True

    def as_dict(self) -> dict[str, Any]:
        return {
            "sign": self.sign.value,
            "subject": self.subject,
            "seconds": round(self.seconds, 1),
            "stands": self.stands,
            "facts": dict(self.facts),
        }


@dataclass
class _Standing:
    seconds: float
    facts: Mapping[str, Any]


_COMPARED = (Sign.START_STUCK, Sign.STOP_STUCK, Sign.GHOST, Sign.ORPHAN)
"""The signs that need both views."""

_Seen = dict[str, Mapping[str, Any]]
"""Facts by subject, of one sign in one observation."""


def _between(obs: Observation) -> dict[Sign, _Seen]:
    """Compare the Hub's servers with the cluster's pods. Both views must be there."""
    assert obs.hub is not None and obs.cluster is not None
    seen: dict[Sign, _Seen] = {sign: {} for sign in _COMPARED}
    pods = {pod.key: pod for pod in obs.cluster.pods if pod.key is not None and pod.over}
    pods.update({pod.key: pod for pod in obs.cluster.pods if pod.key is not None and not pod.over})
    for key, server in obs.hub.servers.items():
        pod = pods.get(key)
        facts = {
            "server": str(key),
            "pending": server.pending,
            "ready": server.ready,
            "started": server.started,
        }
        if pod is not None:
            facts |= {"pod": pod.name, "phase": pod.phase, "pod_ready": pod.ready, "deleting": pod.deleting}
        subject = f"{key} started {server.started}"
        if server.pending == "spawn" and pod is not None and pod.ready and not pod.deleting:
            seen[Sign.START_STUCK][f"{subject} pod {pod.uid}"] = facts
        elif server.pending == "stop" and pod is None:
            seen[Sign.STOP_STUCK][subject] = facts
        elif server.ready and not server.pending and (pod is None or pod.over):
            seen[Sign.GHOST][subject] = facts
    for pod in obs.cluster.pods:
        if pod.key is not None and not pod.deleting and pod.key not in obs.hub.servers:
            seen[Sign.ORPHAN][pod.uid] = {
                "pod": pod.name,
                "uid": pod.uid,
                "server": str(pod.key),
                "phase": pod.phase,
            }
    return seen


@dataclass
class SignTracker:
    """Follows every sign through the observations.

    Parameters
    ----------
    bounds : Bounds
    max_gap : float
        Seconds. When two observations lie further apart (a suspended machine, a slow look), no more
        than this is counted.
    """

    bounds: Bounds = field(default_factory=Bounds)
    max_gap: float = 30.0
    _standing: dict[Sign, dict[str, _Standing]] = field(default_factory=lambda: {sign: {} for sign in Sign})
    _last: float | None = None
    _incarnation: str | None = None
    _failed_launches: int = 0
    _failed_canaries: list[CanaryResult] = field(default_factory=list)

    def update(self, obs: Observation) -> list[Finding]:
        """Take one observation in; return every sign that is there, standing or not, the oldest first."""
        step = 0.0 if self._last is None else min(max(0.0, obs.at - self._last), self.max_gap)
        self._last = obs.at
        self._notice_new_hub(obs)
        if obs.cluster is None:
            self.forget()  # the API server is the one in trouble: what was seen of the Hub proves nothing
            return []
        if obs.hub is not None:
            for sign, seen in _between(obs).items():
                self._take(sign, seen, step)
        self._take_silence(obs, step)
        self._take_launches(obs, step)
        self._take_canary(obs)
        return self._findings(compared=obs.hub is not None)

    def forget(self) -> None:
        """Start every sign from zero."""
        for standing in self._standing.values():
            standing.clear()
        self._failed_launches = 0
        self._failed_canaries.clear()

    def _notice_new_hub(self, obs: Observation) -> None:
        if obs.cluster is None or len(obs.cluster.hub_pods) != 1:
            return
        incarnation = obs.cluster.hub_pods[0].incarnation
        if self._incarnation not in (None, incarnation):
            self.forget()
        self._incarnation = incarnation

    def _take(self, sign: Sign, seen: _Seen, step: float) -> None:
        before = self._standing[sign]
        self._standing[sign] = {
            subject: _Standing(before[subject].seconds + step if subject in before else 0.0, facts)
            for subject, facts in seen.items()
        }

    def _take_silence(self, obs: Observation, step: float) -> None:
        silent = obs.hub_trouble is HubTrouble.SILENT
        self._take(Sign.HUB_SILENT, {"hub": {"error": obs.hub_error}} if silent else {}, step)

    def _take_launches(self, obs: Observation, step: float) -> None:
        if obs.launches is None:
            return
        if obs.launches.succeeded:
            self._failed_launches = 0
            self._take(Sign.NO_LAUNCH, {}, step)
            return
        self._failed_launches += obs.launches.failed
        if self._failed_launches:
            self._take(
                Sign.NO_LAUNCH, {"service": {"failed_since_last_success": self._failed_launches}}, step
            )

    def _take_canary(self, obs: Observation) -> None:
        if obs.canary is None:
            return
        if obs.canary.ok:
            self._failed_canaries.clear()
        else:
            self._failed_canaries = [*self._failed_canaries, obs.canary][-self.bounds.canary_failures :]
        self._standing[Sign.CANARY] = {}
        if self._failed_canaries:
            facts = {
                "failures": len(self._failed_canaries),
                "codes": [result.code for result in self._failed_canaries],
                "detail": obs.canary.detail,
            }
            self._standing[Sign.CANARY]["canary"] = _Standing(obs.at - self._failed_canaries[0].at, facts)

    def _findings(self, compared: bool) -> list[Finding]:
        findings = []
        for sign, subjects in self._standing.items():
            # while the Hub's side is missing, what it said before is kept, but nothing follows from it
            current = compared or sign not in _COMPARED
            for subject, at in subjects.items():
                stands = current and at.seconds >= self.bounds.of(sign)
                findings.append(Finding(sign, subject, at.seconds, stands, at.facts))
        return sorted(map(self._judge, findings), key=lambda finding: -finding.seconds)

    def _judge(self, finding: Finding) -> Finding:
        """Apply what counts beside the seconds."""
        if finding.sign is Sign.NO_LAUNCH and self._failed_launches < self.bounds.no_launch_failures:
            return replace(finding, stands=False)
        if finding.sign is Sign.CANARY:
            enough = len(self._failed_canaries) >= self.bounds.canary_failures
            return replace(finding, stands=enough, curable=all(c.hub_at_fault for c in self._failed_canaries))
        return replace(finding, curable=finding.sign in CURED_BY_RESTART)


__all__ = ["CURED_BY_RESTART", "Bounds", "Finding", "ServerKey", "Sign", "SignTracker"]
