"""How launches end, from the service's own metrics.

Counters are read as differences between two looks. Behind one address there may be several replicas,
and any of them may answer: each process is followed by itself, told apart by its start time.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from binderhub_ext.timing import SYSTEM_CLOCK, Clock, Deadline

from .observations import LaunchCounts

HUB_AT_FAULT = frozenset({"hub.unreachable", "hub.refused", "server.timeout"})
"""Error codes of a launch that a restart of the Hub may cure. A failed build, a full cluster or a
missing image are none of the Hub's business."""


class LaunchesUnknown(Exception):
    """The service's metrics could not be read."""


@dataclass(frozen=True)
class Totals:
    """What one process of the service has counted since it started."""

    process: str
    succeeded: float
    failed: float


def parse_totals(text: str) -> Totals:
    """Read the service's metrics.

    Failures are those with a code in `HUB_AT_FAULT`. A BinderHub without this package's metrics counts
    successes and failures of the launching stage only, without codes: all of them are taken.

    Raises
    ------
    LaunchesUnknown
        When the text is no metrics, or holds none about launches.
    """
    sums: dict[str, float] = {}
    process = ""
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "process_start_time_seconds":
                    process = repr(sample.value)
                label = {
                    "binderhub_launch_count_total": "status",
                    "binderhub_ext_launch_outcomes_total": "outcome",
                    "binderhub_ext_failures_total": "code",
                }.get(sample.name)
                if label:
                    key = f"{sample.name}/{sample.labels.get(label, '')}"
                    sums[key] = sums.get(key, 0.0) + sample.value
    except ValueError as error:
        raise LaunchesUnknown(f"the service's metrics cannot be read: {error}") from error
    if any(key.startswith("binderhub_ext_launch_outcomes_total/") for key in sums):
        failed = sum(sums.get(f"binderhub_ext_failures_total/{code}", 0.0) for code in HUB_AT_FAULT)
        return Totals(process, sums.get("binderhub_ext_launch_outcomes_total/ready", 0.0), failed)
    if not process and not sums:
        raise LaunchesUnknown("the service's metrics say nothing about launches")
    return Totals(
        process,
        sums.get("binderhub_launch_count_total/success", 0.0),
        sums.get("binderhub_launch_count_total/failure", 0.0),
    )


@dataclass
class LaunchCounter:
    """Turns totals of any number of processes into launches since the look before."""

    most_processes: int = 100
    _seen: dict[str, Totals] = field(default_factory=dict)

    def update(self, totals: Totals) -> LaunchCounts:
        """Return what was added since this process was last seen; nothing at its first sight."""
        before = self._seen.pop(totals.process, totals)
        self._seen[totals.process] = totals
        while len(self._seen) > self.most_processes:  # those that were not seen for longest are gone
            del self._seen[next(iter(self._seen))]
        if totals.succeeded < before.succeeded or totals.failed < before.failed:
            return LaunchCounts(int(totals.succeeded), int(totals.failed))  # started again
        return LaunchCounts(int(totals.succeeded - before.succeeded), int(totals.failed - before.failed))


@dataclass
class Launches:
    """The metrics page of the service.

    Parameters
    ----------
    url : str
        For example `http://binder/metrics`.
    timeout : float
        Seconds for one look.
    """

    session: aiohttp.ClientSession
    url: str
    timeout: float = 10.0
    clock: Clock = SYSTEM_CLOCK
    counter: LaunchCounter = field(default_factory=LaunchCounter)

    async def view(self) -> LaunchCounts:
        """Return the launches that ended since the look before.

        Raises
        ------
        LaunchesUnknown
        """
        deadline = Deadline.after(self.timeout, self.clock)
        try:
            response = await deadline.wait_for(self.session.get(self.url))
            text = await deadline.wait_for(response.text())
        except asyncio.TimeoutError as error:
            raise LaunchesUnknown("the service's metrics do not come in time") from error
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            raise LaunchesUnknown(
                f"the service's metrics do not come: {type(error).__name__}: {error}"
            ) from error
        if response.status != 200:
            raise LaunchesUnknown(f"the service answers {response.status} to {self.url}")
        return self.counter.update(parse_totals(text))
