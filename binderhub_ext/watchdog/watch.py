"""The watchdog's loop: look, judge, decide, act, and tell."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from binderhub_ext.metrics import watchdog as metrics
from binderhub_ext.timing import SYSTEM_CLOCK, Clock

from .cluster import Cluster, ClusterTrouble
from .decisions import Action, Decider, Decision, orphans_to_delete
from .evidence import Evidence
from .lease import Lease
from .observations import Observation
from .pending import PendingAges
from .signs import Finding, Sign, SignTracker

log = logging.getLogger("binderhub_ext.watchdog")

for _sign in Sign:
    for _metric in (metrics.SUBJECTS, metrics.OLDEST, metrics.STANDS, metrics.RESTARTS):
        _metric.labels(_sign.value)
for _action in Action:
    metrics.DECISIONS.labels(_action.value)


@dataclass
class Recovery:
    """A restart whose end is still to be seen."""

    decision: Decision
    started: float


@dataclass
class Watchdog:
    """One watchdog.

    Parameters
    ----------
    look : callable
        Makes one observation; never raises for trouble of the sides that it looks at.
    restart : callable
        Restarts the Hub as a decision says. Raises `ClusterTrouble` or `OSError` when it could not.
    interval : float
        Seconds from the start of one look to the start of the next.
    delete_orphans : bool
        Whether pods of servers that the Hub does not know are deleted.
    """

    look: Callable[[], Awaitable[Observation]]
    restart: Callable[[Decision], Awaitable[None]]
    cluster: Cluster
    lease: Lease
    tracker: SignTracker
    decider: Decider
    evidence: Evidence
    interval: float = 10.0
    delete_orphans: bool = False
    clock: Clock = SYSTEM_CLOCK
    last_round: float | None = None
    last_observation: Observation | None = None
    last_decision: Decision = field(default_factory=lambda: Decision(Action.NONE))
    findings: list[Finding] = field(default_factory=list)
    pending: PendingAges = field(default_factory=PendingAges)
    _recovery: Recovery | None = None
    _task: asyncio.Task[None] | None = None
    _ending: bool = False

    async def run(self) -> None:
        """Look again and again, until `end`; then give the Lease back."""
        self._task = asyncio.current_task()
        try:
            while not self._ending:
                started = self.clock.monotonic()
                await self.round()
                if not self._ending:
                    await self.clock.sleep(self.interval - (self.clock.monotonic() - started))
        except asyncio.CancelledError:
            if not self._ending:
                raise
        finally:
            await self.lease.release()

    def end(self) -> None:
        """Make `run` return soon.

        Cancelling alone is not enough: up to Python 3.11 `asyncio.wait_for` swallows a cancellation that
        comes when its result is there (https://github.com/python/cpython/issues/86296).
        """
        self._ending = True
        if self._task is not None:
            self._task.cancel()

    async def round(self) -> Decision:
        """Look once, and do what follows from it."""
        started = self.clock.monotonic()
        leader = await self.lease.keep()
        obs = await self.look()
        self.decider.note(obs)
        self.findings = self.tracker.update(obs)
        self._see_recovery(obs)
        decision = self.decider.decide(self.findings, obs, leader=leader)
        self._measure(obs, decision, leader)
        if decision.action in (Action.RESTART, Action.WOULD_RESTART):
            await self._carry_out(decision, obs)
        elif decision.action is not self.last_decision.action or decision.sign != self.last_decision.sign:
            await self._tell(decision, obs)
        self.last_decision = decision
        await self._delete_orphans(obs, decision, leader)
        self.last_round, self.last_observation = self.clock.monotonic(), obs
        metrics.ROUNDS.inc()
        metrics.ROUND_SECONDS.observe(self.last_round - started)
        return decision

    async def _carry_out(self, decision: Decision, obs: Observation) -> None:
        dry = decision.action is Action.WOULD_RESTART
        self.evidence.keep("decision" if dry else "before", decision, self.findings, obs)
        if dry:
            self.decider.history.imagine(self.clock.monotonic())
            await self._tell(decision, obs, keep=False)
            return
        if await self.lease.note_restart() is None:
            metrics.RESTART_ERRORS.inc()
            log.warning("The Hub is not restarted: the Lease could not be written")
            return
        await self._tell(decision, obs, keep=False)
        try:
            await self.restart(decision)
        except (ClusterTrouble, OSError) as error:
            metrics.RESTART_ERRORS.inc()
            log.error("The Hub could not be restarted: %s", error)
            self.evidence.keep("after", decision, self.findings, obs, error=str(error))
            return
        metrics.RESTARTS.labels(decision.sign).inc()
        self.tracker.forget()
        self.decider.restarted(self.clock.monotonic())
        self._recovery = Recovery(decision, self.clock.monotonic())

    def _see_recovery(self, obs: Observation) -> None:
        """Keep what is seen after a restart: once when the new Hub answers, or when it does not come back."""
        if self._recovery is None:
            return
        seconds = obs.at - self._recovery.started
        old = self._recovery.decision.hub_pod
        pods = obs.cluster.hub_pods if obs.cluster is not None else ()
        replaced = old is None or any(pod.incarnation != old.incarnation and not pod.deleting for pod in pods)
        if obs.hub is not None and replaced and seconds > 0:
            metrics.RECOVERY_SECONDS.observe(seconds)
            log.info("The restarted Hub answers after %.0f s", seconds)
        elif seconds < self.decider.limits.cooldown:
            return
        else:
            log.error("The Hub does not answer %.0f s after its restart", seconds)
        back = obs.hub is not None and replaced
        self.evidence.keep(
            "after", self._recovery.decision, self.findings, obs, recovered=back, seconds=round(seconds, 1)
        )
        self._recovery = None

    async def _tell(self, decision: Decision, obs: Observation, *, keep: bool = True) -> None:
        """Say what was decided: a log line, evidence, and an Event on the Hub's pod."""
        if decision.action is Action.NONE:
            log.info("No sign stands any more")
            return
        reason = decision.reasons[0]
        more = f" and {len(decision.reasons) - 1} more" if len(decision.reasons) > 1 else ""
        text = (
            f"{decision.action.value}: {reason.sign.value} for {reason.seconds:.0f} s "
            f"({', '.join(f'{k}={v}' for k, v in reason.facts.items())}){more}"
            + (f"; {decision.detail}" if decision.detail else "")
        )
        log.warning("Decision %s", text)
        if keep:
            self.evidence.keep("decision", decision, self.findings, obs)
        pods = obs.cluster.hub_pods if obs.cluster is not None else ()
        pod = decision.hub_pod or (pods[0] if pods else None)
        if pod is None or decision.action is Action.HELD_NOT_LEADER:
            return
        try:
            camel = "".join(part.title() for part in decision.action.value.split("_"))
            await self.cluster.event(pod, f"Watchdog{camel}", text, warning=True)
        except ClusterTrouble as trouble:
            log.warning("The Event could not be written: %s", trouble)

    async def _delete_orphans(self, obs: Observation, decision: Decision, leader: bool) -> None:
        allowed = self.delete_orphans and not self.decider.limits.dry_run and self.decider.settled(obs.at)
        for finding in orphans_to_delete(self.findings, leader=leader, allowed=allowed):
            pod, uid = str(finding.facts["pod"]), str(finding.facts["uid"])
            log.warning("Deleting the orphan %s: the Hub knows no server %s", pod, finding.facts["server"])
            try:
                await self.cluster.delete_pod(pod, uid)
            except ClusterTrouble as trouble:
                log.warning("The orphan %s could not be deleted: %s", pod, trouble)
                continue
            metrics.ORPHANS_DELETED.inc()
            self.evidence.keep("orphan", decision, [finding], obs)

    def _measure(self, obs: Observation, decision: Decision, leader: bool) -> None:
        metrics.LEADER.set(leader)
        metrics.DECISIONS.labels(decision.action.value).inc()
        metrics.ANSWERS.labels("hub").set(obs.hub is not None)
        metrics.ANSWERS.labels("api_server").set(obs.cluster is not None)
        metrics.ANSWERS.labels("service").set(not obs.launches_error)
        for action, seconds in self.pending.update(obs).items():
            metrics.OLDEST_PENDING.labels(action).set(seconds)
        for sign in Sign:
            found = [finding for finding in self.findings if finding.sign is sign]
            metrics.SUBJECTS.labels(sign.value).set(len(found))
            metrics.OLDEST.labels(sign.value).set(max((f.seconds for f in found), default=0.0))
            metrics.STANDS.labels(sign.value).set(any(f.stands for f in found))


def count_standing(findings: Sequence[Finding]) -> dict[str, int]:
    """Return how many subjects each sign stands for."""
    return {sign.value: n for sign in Sign if (n := sum(f.stands for f in findings if f.sign is sign))}
