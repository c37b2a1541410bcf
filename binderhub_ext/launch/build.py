"""One build, as all who wait for it see it: its state and its log."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from typing import Any

from binderhub_ext.errors import LaunchError
from binderhub_ext.sse import encode_data
from binderhub_ext.stream import EventLog
from binderhub_ext.timing import Deadline
from binderhub_ext.upstream import BuildPhase, Repository

LINE_LIMIT = 32 << 10
"""Characters of one log line that are shown."""

# what a log line may not claim: these end a launch
_OUTCOMES = {"failed", "failure", "ready", "built"}


class Build:
    """One build, and its log for all who watch.

    Await `wait` for its end. The build belongs to nobody who waits: it goes on when they leave.
    """

    def __init__(self, repository: Repository, log_limit: int) -> None:
        self.repository = repository
        self.log = EventLog(log_limit)
        self.waiting = 0
        self.running = asyncio.Event()
        """Set when it has a slot."""
        self.deadline = Deadline.after(0.0)
        """By when it must have ended; known once it is running."""
        self.started = False
        self.unwanted = False
        """Whether what it runs in is deleted when it is given up."""
        self._phase: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._tail: deque[str] = deque(maxlen=20)
        self._failure_line = ""
        self.on_running: Callable[[], None] = lambda: None

    # -- the builder's reports (upstream.BuildSink) --

    def on_status(self, status: BuildPhase) -> None:
        if status is BuildPhase.RUNNING:
            self.started = True
            self.on_running()
        elif status in {BuildPhase.BUILT, BuildPhase.FAILED} and not self._phase.done():
            self._phase.set_result(status is BuildPhase.BUILT)

    def on_log(self, line: str) -> None:
        phase, message, extra = _parse_line(line)
        if len(message) > LINE_LIMIT:
            message = message[:LINE_LIMIT] + " ... (the rest of this line is left out)\n"
        if phase in {"failed", "failure"}:
            # repo2docker's last words; the launches say that it failed
            self._failure_line = message.strip()
        if phase in _OUTCOMES:
            phase = "building"
        self._tail.append(message)
        self.log.append(encode_data({"phase": phase, "message": message, **extra}))

    # -- its course --

    @property
    def ended(self) -> bool:
        """Whether the builder said how it ended."""
        return self._phase.done()

    async def outcome(self) -> None:
        """Wait until the builder says how it ended. Raises `LaunchError` build.failed."""
        if not await asyncio.shield(self._phase):
            raise LaunchError("build.failed", detail=self.why())

    def crashed(self, error: BaseException) -> None:
        """The builder itself came to grief, whatever it was building."""
        if not self._phase.done():
            self._phase.set_exception(error)
            self._phase.exception()  # seen, also when nobody waits any more

    def why(self) -> str:
        """The lines that say why it failed, as far as they can be told from the others."""
        if self._failure_line:
            return self._failure_line[-1500:]
        lines = "".join(self._tail).splitlines()
        telling = [line for line in lines if "error" in line.lower() or "failed" in line.lower()]
        return "\n".join((telling or lines)[-5:])[-1500:]


def _parse_line(line: str) -> tuple[str, str, dict[str, Any]]:
    """Return phase, message and the other keys that readers know of one line of a builder's log."""
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        return "unknown", line if line.endswith("\n") else line + "\n", {}
    phase, message = event.get("phase"), event.get("message")
    extra = {"progress": event["progress"]} if "progress" in event else {}
    return (
        (phase if isinstance(phase, str) else "unknown"),
        (message if isinstance(message, str) else ""),
        extra,
    )
