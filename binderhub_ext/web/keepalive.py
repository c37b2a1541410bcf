"""Keeps silent event streams alive, with one timer for all of them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tornado.ioloop import PeriodicCallback

from binderhub_ext.timing import Clock

if TYPE_CHECKING:
    from binderhub_ext.web.build import BuildStreamHandler

STALL_LIMIT = 120.0
"""Seconds after which a connection whose reader takes nothing is closed."""


class KeepAlives(set["BuildStreamHandler"]):
    """The connections of all event streams.

    Parameters
    ----------
    interval : float
        Seconds of silence after which a comment is written.
    """

    def __init__(self, interval: float, clock: Clock) -> None:
        super().__init__()
        self._interval = interval
        self._clock = clock
        self._timer = PeriodicCallback(self.sweep, max(50.0, interval * 1000 / 4))

    def start(self) -> None:
        """Begin. Called in the event loop."""
        self._timer.start()

    def stop(self) -> None:
        """End."""
        self._timer.stop()

    def say_goodbye(self) -> None:
        """Tell all readers to come back soon, not all at once, and close their connections."""
        for handler in list(self):
            handler.say_goodbye(random.randint(500, 3000))

    def sweep(self) -> None:
        """Look at each connection once."""
        now = self._clock.monotonic()
        for handler in list(self):
            handler.keep_alive(now, self._interval * 0.75, STALL_LIMIT)
