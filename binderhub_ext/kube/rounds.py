"""What a reflector does next: list or watch, from which resource version, after which wait. No I/O.

The rules are those of client-go's reflector (`tools/cache/reflector.go`):

- go on from the last resource version after any error, by watching, or by a list that is not older;
- only on 410 ("too old") or "Too large resource version" ask for the most recent state, by leaving
  the resource version out (a quorum list); never 0, which may be any time in the past;
- never give up. Waits grow up to a limit, carry jitter, and begin anew only after the connection
  has been healthy for a while: whatever ends at once, also successfully, is a reason to wait. The
  time for which a request hung counts as part of the wait: one that hung for long is followed at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from binderhub_ext.timing import backoff


class Step(str, Enum):
    """The next request."""

    LIST_RECENT = "list_recent"  # no resource version: a quorum list
    LIST_FROM = "list_from"  # not older than the last resource version
    WATCH = "watch"


class Outcome(str, Enum):
    """How a request ended; the values are the label `reason` of the metrics."""

    LISTED = "listed"
    TIMEOUT = "timeout"  # the server ended the watch at the time that was asked for
    CLOSED = "closed"  # the watch ended before that, without an error
    SILENT = "silent"  # nothing came for longer than the inactivity limit
    GONE = "gone"  # 410
    TOO_LARGE = "too_large"  # 504 "Too large resource version"
    STALE = "stale"  # an answer older than what is known
    UNREADABLE = "unreadable"  # no JSON, or not the API's
    HTTP_ERROR = "http_error"
    UNREACHABLE = "unreachable"  # no connection, or it broke


BENIGN = {Outcome.LISTED, Outcome.TIMEOUT}
RECOVERED_AT_ONCE = {Outcome.CLOSED, Outcome.SILENT, Outcome.GONE, Outcome.TOO_LARGE}
"""Errors after which the first new attempt needs no wait."""


@dataclass
class Rounds:
    """The state machine.

    Parameters
    ----------
    first, limit : float
        Seconds: the base of the first wait, the most of any.
    healthy : float
        Seconds after which a watch counts as healthy, also when it ends badly.
    uniform : callable
        Source of randomness for jitter.
    """

    first: float = 0.25
    limit: float = 10.0
    healthy: float = 5.0
    uniform: Callable[[float, float], float] = random.uniform
    step: Step = Step.LIST_RECENT
    failures: int = 0
    """Requests in a row after which there was no healthy interval."""

    doubted: bool = False

    def relist(self) -> None:
        """Someone doubts the cache: ask for the most recent state next."""
        self.doubted = True

    def ended(self, outcome: Outcome, lasted: float = 0.0, loaded: bool = True) -> float:
        """Take the end of a request, decide on the next, and return the seconds to wait before it.

        Parameters
        ----------
        lasted : float
            Seconds that the request took.
        loaded : bool
            Whether there has been a list already.
        """
        watched = self.step is Step.WATCH
        self._next(outcome, watched, loaded)
        if outcome is Outcome.LISTED:
            return 0.0  # says nothing yet of the watch: the count of failures stays
        if outcome is Outcome.TIMEOUT or (watched and lasted >= self.healthy):
            self.failures = 0
            if outcome is Outcome.TIMEOUT:
                return 0.0
        self.failures += 1
        if self.failures == 1 and outcome in RECOVERED_AT_ONCE:
            return 0.0
        wait = backoff(self.failures - 1, first=self.first, limit=self.limit, uniform=self.uniform)
        hung = not watched or outcome is Outcome.SILENT
        return max(0.0, wait - lasted) if hung else wait

    def _next(self, outcome: Outcome, watched: bool, loaded: bool) -> None:
        doubted, self.doubted = self.doubted, False
        if doubted or (not loaded and outcome is not Outcome.LISTED):
            self.step = Step.LIST_RECENT
        elif outcome in (Outcome.GONE, Outcome.TOO_LARGE, Outcome.STALE):
            self.step = Step.LIST_RECENT
        elif outcome is Outcome.UNREADABLE:
            self.step = Step.LIST_FROM if watched else self.step
        elif watched or outcome is Outcome.LISTED:
            self.step = Step.WATCH
