"""The gate before the Hub: a circuit breaker, with a line of those who wait while it is open.

    closed ──(failures in a row, or "come back later")──▶ open ──(the Hub answers)──▶ half open
      ▲                                                    ▲                             │
      └────────(those let through are answered)────────────┼─────────────────────────────┤
                                                           └──────(one fails)────────────┘

While it is open nobody asks the Hub but one probe. When the Hub is back, those in line are
let through in their order, a few at first and then twice as many each time: a Hub that has
just started must not fall over again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from enum import Enum

from tornado.log import app_log

from binderhub_ext.metrics import service as metrics
from binderhub_ext.timing import Clock, backoff, wait_for

BUSY_LIMIT = 60.0
"""The most seconds for which one answer of the Hub can keep everybody in line."""


class GateState(Enum):
    """As the metric `binderhub_ext_hub_breaker_state` shows it."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class HubGate:
    """Lets requests through to the Hub, or keeps them in line.

    Parameters
    ----------
    probe : async callable
        Asks the Hub whether it answers; raises when it does not.
    threshold : int
        Failures in a row, of whoever, that open it.
    step : float
        Seconds between two groups that are let through when it is half open.
    """

    def __init__(
        self, probe: Callable[[], Awaitable[None]], clock: Clock, *, threshold: int = 5, step: float = 0.5
    ) -> None:
        self.state = GateState.CLOSED
        self.reason = ""
        """Why it is not closed: ``unreachable`` or ``busy``."""
        self.since = clock.monotonic()
        """When the state last changed, in seconds of the clock."""
        self._probe = probe
        self._clock = clock
        self._threshold = threshold
        self._step = step
        self._failures = 0
        self._line: deque[asyncio.Future[None]] = deque()
        self._watch: asyncio.Task[None] | None = None
        metrics.QUEUE.labels(queue="hub").set_function(lambda: len(self._line))
        metrics.BREAKER.set_function(lambda: self.state.value)

    @property
    def waiting(self) -> int:
        """How many are in line."""
        return len(self._line)

    async def enter(self, tell: Callable[[int, str], None]) -> None:
        """Return at once when it is closed, else when it is this caller's turn.

        Parameters
        ----------
        tell : callable
            Gets the caller's place in the line, from 1, and the reason, each time they change.
        """
        if self.state is GateState.CLOSED:
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        said = (0, "")
        try:
            while not turn.done():
                place = (self._line.index(turn) + 1, self.reason)
                if place != said:
                    said = place
                    tell(*place)
                await asyncio.wait({turn}, timeout=1.0)
        finally:
            if turn in self._line:
                self._line.remove(turn)

    def succeeded(self) -> None:
        """The Hub answered."""
        self._failures = 0

    def failed(self) -> None:
        """The Hub gave no usable answer."""
        self._failures += 1
        if self._failures >= self._threshold or self.state is GateState.HALF_OPEN:
            self._open("unreachable", 0.0)

    def busy(self, seconds: float) -> None:
        """The Hub asked to come back in so many seconds; after `BUSY_LIMIT` it is asked whether it answers."""
        self._open("busy", min(seconds, BUSY_LIMIT))

    async def close(self) -> None:
        """Stop watching; those in line stay there."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)

    def _change(self, state: GateState) -> None:
        if state is not self.state:
            self.state, self.since = state, self._clock.monotonic()
            log = app_log.warning if state is GateState.OPEN else app_log.info
            log(
                "The gate before the Hub is %s (%s), %d in line",
                state.name.lower(),
                self.reason,
                self.waiting,
            )

    def _open(self, reason: str, seconds: float) -> None:
        if self.state is GateState.OPEN:
            return
        self.reason = reason
        self._change(GateState.OPEN)
        self._failures = 0
        if self._watch is not None:
            self._watch.cancel()
        self._watch = asyncio.create_task(self._until_closed(seconds))

    async def _until_closed(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        attempt = 0
        while not await self._answers():
            await self._clock.sleep(backoff(attempt, first=0.5, limit=3.0))
            attempt += 1
        self._change(GateState.HALF_OPEN)
        group = 4
        while self._line:
            for _ in range(min(group, len(self._line))):
                turn = self._line.popleft()
                if not turn.done():
                    turn.set_result(None)
            group *= 2
            await self._clock.sleep(self._step)
        self.reason = ""
        self._change(GateState.CLOSED)

    async def _answers(self) -> bool:
        try:
            await wait_for(self._probe(), 5.0)
        except Exception as error:  # noqa: BLE001 - whatever it is, the Hub is not there
            app_log.debug("The Hub does not answer: %r", error)
            return False
        return True
