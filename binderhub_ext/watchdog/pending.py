"""For how long the Hub has been starting and stopping servers, by its own word: a metric, and no sign.

A sign needs a second witness. A start that takes long because its pod waits for a node is none, but people should know
of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from binderhub_ext.metrics import watchdog as metrics

from .observations import Observation, ServerKey

ACTIONS = {"spawn": "start", "stop": "stop"}
"""The Hub's word for what is pending -> the label `action`."""

for _action in ACTIONS.values():
    metrics.OLDEST_PENDING.labels(_action)


@dataclass
class PendingAges:
    """Follows each start and stop from the first look at which it was pending, by the monotonic clock."""

    _since: dict[tuple[ServerKey, str, str], float] = field(default_factory=dict)

    def update(self, obs: Observation) -> dict[str, float]:
        """Take one observation in; return the age in seconds of the oldest start and of the oldest stop.

        What a Hub that cannot be looked at does is not known: then there are none.
        """
        if obs.hub is None:
            return dict.fromkeys(ACTIONS.values(), 0.0)
        pending = [(s.key, s.pending, s.started) for s in obs.hub.servers.values() if s.pending in ACTIONS]
        self._since = {one: self._since.get(one, obs.at) for one in pending}
        ages = dict.fromkeys(ACTIONS.values(), 0.0)
        for (_, what, _), since in self._since.items():
            ages[ACTIONS[what]] = max(ages[ACTIONS[what]], obs.at - since)
        return ages
