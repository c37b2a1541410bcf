"""When the Hub was restarted by a watchdog: what cooldown and daily limit are judged by.

The times live in an annotation of the Lease, so that a new watchdog knows what the one before did.
They are wall-clock times there, and wall clocks jump: an age is taken from the wall clock once, when
a time is first seen, and followed with the monotonic clock from then on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

DAY = 86_400.0


@dataclass
class RestartHistory:
    """The restarts of the last day.

    Attributes
    ----------
    _at : dict
        Wall-clock second of each restart, as it is written -> when that was by the monotonic clock.
    _imagined : list
        When a dry run would have restarted, by the monotonic clock; never written.
    """

    _at: dict[int, float] = field(default_factory=dict)
    _imagined: list[float] = field(default_factory=list)

    def learn(self, written: Iterable[int], *, now: float, wall: float) -> None:
        """Take over the times that the Lease holds.

        A time that lies in the future (the clock was put back, or another machine's is ahead) counts
        as just now: waiting too long is safer than restarting twice.

        Parameters
        ----------
        written : iterable of int
            Seconds since 1970.
        now, wall : float
            The monotonic and the wall clock, now.
        """
        for moment in written:
            self._at.setdefault(moment, now - max(0.0, wall - moment))

    def add(self, *, now: float, wall: float) -> int:
        """Note a restart that is about to be done; return its written form."""
        moment = int(wall)
        while moment in self._at:  # two restarts in one second of a clock that was put back
            moment += 1
        self._at[moment] = now
        return moment

    def imagine(self, now: float) -> None:
        """Note what a dry run would have done, so that what it says next is what it would say then."""
        self._imagined.append(now)

    def retract(self, moment: int) -> None:
        """Forget a restart that was noted and then not done."""
        self._at.pop(moment, None)

    def since_last(self, now: float) -> float:
        """Return the seconds since the last restart; infinity when there was none."""
        return min((now - at for at in self._all()), default=float("inf"))

    def in_last_day(self, now: float) -> int:
        """Return how many restarts there were in the last 24 hours."""
        return sum(now - at < DAY for at in self._all())

    def written(self, now: float) -> list[int]:
        """Return what to write to the Lease: the last day's times, the oldest first."""
        return sorted(moment for moment, at in self._at.items() if now - at < DAY)

    def _all(self) -> list[float]:
        return [*self._at.values(), *self._imagined]
