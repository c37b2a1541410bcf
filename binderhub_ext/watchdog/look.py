"""One look at all sides at once: the edges' answers and troubles become one `Observation`."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from binderhub_ext.metrics import watchdog as metrics
from binderhub_ext.timing import SYSTEM_CLOCK, Clock

from .canary import Canary
from .cluster import Cluster, ClusterTrouble
from .hub import Hub, HubRefused, HubSilent
from .launches import Launches, LaunchesUnknown
from .lease import Lease
from .observations import CanaryResult, ClusterView, HubTrouble, HubView, LaunchCounts, Observation

log = logging.getLogger("binderhub_ext.watchdog")


@dataclass
class CanarySchedule:
    """Runs the canary every `interval` seconds while this watchdog leads; owns the task.

    Parameters
    ----------
    interval : float
        Seconds from the start of one launch to the start of the next. A launch that takes longer
        delays the next one: there is never more than one.
    """

    canary: Canary
    lease: Lease
    interval: float
    clock: Clock = SYSTEM_CLOCK
    _task: asyncio.Task[CanaryResult] | None = None
    _started: float = float("-inf")

    def tick(self) -> CanaryResult | None:
        """Start a launch when one is due; return the result of one that ended since the last call."""
        result = None
        if self._task is not None and self._task.done():
            result, self._task = self._task.result(), None
            self._measure(result)
        now = self.clock.monotonic()
        if self._task is None and self.lease.leading and now - self._started >= self.interval:
            self._started = now
            self._task = asyncio.create_task(self.canary.run(), name="canary")
        return result

    def _measure(self, result: CanaryResult) -> None:
        metrics.CANARY_RUNS.labels("ok" if result.ok else "failed").inc()
        if result.ok:
            metrics.CANARY_SECONDS.set(result.seconds)
            metrics.CANARY_SUCCESS.set(self.clock.time())
            log.info("The canary's server answered after %.1f s", result.seconds)
        else:
            log.warning("The canary failed after %.1f s: %s %s", result.seconds, result.code, result.detail)

    async def close(self) -> None:
        """Give up a launch that is running; the service removes what it made."""
        task, self._task = self._task, None
        while task is not None and not task.done():
            task.cancel()  # again when it was swallowed: see `Watchdog.end`
            await asyncio.wait({task}, timeout=1.0)


@dataclass
class Look:
    """Looks at the cluster, the Hub and the service concurrently.

    Parameters
    ----------
    launches, canary
        None: not configured.
    """

    hub: Hub
    cluster: Cluster
    launches: Launches | None = None
    canary: CanarySchedule | None = None
    clock: Clock = SYSTEM_CLOCK
    _told: dict[str, str] = field(default_factory=dict)

    async def __call__(self) -> Observation:
        """Return what is seen now; trouble of a side is part of it."""
        cluster, hub, launches = await asyncio.gather(self._cluster(), self._hub(), self._launches())
        self._tell("API server", cluster[1])
        self._tell("Hub", hub[2])
        self._tell("service", launches[1])
        return Observation(
            at=self.clock.monotonic(),
            cluster=cluster[0],
            cluster_error=cluster[1],
            hub=hub[0],
            hub_trouble=hub[1],
            hub_error=hub[2],
            launches=launches[0],
            launches_error=launches[1],
            canary=self.canary.tick() if self.canary else None,
        )

    async def _cluster(self) -> tuple[ClusterView | None, str]:
        try:
            return await self.cluster.view(), ""
        except ClusterTrouble as trouble:
            return None, str(trouble)

    async def _hub(self) -> tuple[HubView | None, HubTrouble, str]:
        try:
            return await self.hub.view(), HubTrouble.NONE, ""
        except HubSilent as trouble:
            return None, HubTrouble.SILENT, str(trouble)
        except HubRefused as trouble:
            return None, HubTrouble.REFUSED, str(trouble)

    async def _launches(self) -> tuple[LaunchCounts | None, str]:
        if self.launches is None:
            return None, ""
        try:
            return await self.launches.view(), ""
        except LaunchesUnknown as trouble:
            return None, str(trouble)

    def _tell(self, side: str, error: str) -> None:
        """Log trouble of a side when it begins and when it ends, not at every look."""
        if bool(error) != bool(self._told.get(side)):
            if error:
                log.warning("The %s could not be looked at: %s", side, error)
            else:
                log.info("The %s answers again", side)
        self._told[side] = error
