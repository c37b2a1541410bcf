"""What a launch says of itself: its stage, how long it has taken, how long it may still take."""

from __future__ import annotations

from enum import Enum
from typing import Any

from binderhub_ext.metrics import service as metrics
from binderhub_ext.sse import encode_data
from binderhub_ext.stream import EventLog, LaunchStream
from binderhub_ext.timing import Clock, Deadline


class Stage(str, Enum):
    """Where a launch is."""

    RESOLVING = "resolving"
    CHECKING = "checking"
    QUEUED = "queued"
    BUILDING = "building"
    LAUNCHING = "launching"
    READY = "ready"
    FAILED = "failed"


# the progress at which a stage begins, in percent
PROGRESS = {
    Stage.RESOLVING: 0,
    Stage.CHECKING: 5,
    Stage.QUEUED: 8,
    Stage.BUILDING: 10,
    Stage.LAUNCHING: 70,
    Stage.READY: 100,
    Stage.FAILED: 100,
}

# why a launch waits in line
_QUEUES = {
    "builds": "Other repositories are being built.",
    "unreachable": "The Hub that starts the servers does not answer at the moment.",
    "busy": "The Hub starts as many servers as it can at the moment.",
    "quota": "There is no room for another server at the moment.",
}


class Narrator:
    """Writes a launch's events, and keeps its stage and the bound of that stage.

    Parameters
    ----------
    ticket : str
        Prefix of the events' ids; the first event carries it as a key, too.
    first_number : int
        Number of the first event.
    seconds : float
        The bound of the first stage.
    """

    def __init__(self, ticket: str, first_number: int, clock: Clock, seconds: float) -> None:
        self.stream = LaunchStream(ticket, first_number)
        self.stage = Stage.RESOLVING
        self.deadline = Deadline.after(seconds, clock)
        self.ended_at: float | None = None
        self._clock = clock
        self._began = self._stage_began = clock.monotonic()
        self._once: dict[str, Any] = {"ticket": ticket}

    @property
    def elapsed(self) -> float:
        """Seconds since the launch began, until it ended."""
        return (self._clock.monotonic() if self.ended_at is None else self.ended_at) - self._began

    def enter(self, stage: Stage, deadline: Deadline) -> None:
        """The next stage begins; it has until `deadline`."""
        self._end_stage("ok")
        self.stage = stage
        self.deadline = deadline

    def say(self, phase: str, message: str, progress: int = 0, **keys: Any) -> None:
        """Write an event: BinderHub's keys, then ours. `message` gets the newline at its end here."""
        self.stream.append(self._frame({"phase": phase, "message": message + "\n", **keys}, progress))

    def in_line(self, place: int, reason: str) -> None:
        """Say that the launch waits, at which place (from 1), and why."""
        phase = "launching" if self.stage is Stage.LAUNCHING else "waiting"
        line = f" You are number {place} in line; your launch goes on by itself." if place > 0 else ""
        self.say(phase, f"{_QUEUES[reason]}{line}", queue={"position": place, "reason": reason})

    def show(self, log: EventLog) -> None:
        """Show a shared log from its start, until something else is said."""
        self.stream.splice(log)

    def finish(self, event: dict[str, Any], stage: Stage, result: str) -> None:
        """Write the last event."""
        self._end_stage(result)
        self.stage = stage
        self.ended_at = self._clock.monotonic()
        self.stream.finish(self._frame(event))

    def _frame(self, event: dict[str, Any], progress: int = 0) -> bytes:
        event["stage"] = self.stage.value
        event["elapsed"] = round(self.elapsed, 3)
        if self.stage not in {Stage.READY, Stage.FAILED}:
            event["remaining"] = round(self.deadline.remaining, 1)
        event["progress"] = max(progress, PROGRESS[self.stage])
        event.update(self._once)
        self._once = {}
        return encode_data(event)

    def _end_stage(self, result: str) -> None:
        now = self._clock.monotonic()
        metrics.STAGE_SECONDS.labels(stage=self.stage.value, result=result).observe(now - self._stage_began)
        self._stage_began = now
