"""Starts, stops and polls that are under way, and which of them are older than their bound."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from binderhub_ext.metrics import kube as metrics
from binderhub_ext.timing import SYSTEM_CLOCK, Clock

GRACE_SECONDS = 10.0
"""By how much an action may pass its bound before it counts as overdue: it still has to clean up."""


@dataclass(eq=False)
class Action:
    """One call of `start`, `stop` or `poll`.

    Attributes
    ----------
    began : float
        Seconds of the clock.
    bound : float
        Seconds that it may take.
    """

    name: str
    server: str
    began: float
    bound: float


@dataclass
class Bounds:
    """The actions under way."""

    clock: Clock = SYSTEM_CLOCK
    actions: set[Action] = field(default_factory=set)

    @contextlib.contextmanager
    def under_way(self, name: str, server: str, bound: float) -> Iterator[Action]:
        """Count an action for as long as the block runs."""
        action = Action(name, server, self.clock.monotonic(), bound)
        self.actions.add(action)
        try:
            yield action
        finally:
            self.actions.discard(action)

    def age(self, action: Action) -> float:
        return self.clock.monotonic() - action.began

    def overdue(self) -> list[Action]:
        """Return the actions that are older than their bound and the grace."""
        return [action for action in self.actions if self.age(action) > action.bound + GRACE_SECONDS]


BOUNDS = Bounds()
"""Those of this Hub."""

for _name in ("start", "stop", "poll"):
    metrics.OVERDUE.labels(_name).set_function(
        lambda name=_name: sum(action.name == name for action in BOUNDS.overdue())  # type: ignore[misc]
    )
