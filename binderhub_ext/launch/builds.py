"""Shared builds: one build for each image, however many launches want it."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future as ThreadFuture
from typing import Any

from tornado.log import app_log

from binderhub_ext.errors import LaunchError
from binderhub_ext.launch.settings import Launcher
from binderhub_ext.metrics import service as metrics
from binderhub_ext.sse import encode_data
from binderhub_ext.stream import EventLog
from binderhub_ext.timing import Clock, Deadline
from binderhub_ext.upstream import (
    BUILD_COUNT,
    BUILD_TIME,
    BUILDS_INPROGRESS,
    BuildPhase,
    Repository,
    Upstream,
)

LINE_LIMIT = 32 << 10
"""Characters of one log line that are shown."""

LOG_TAIL_WAIT = 3.0
"""Seconds that the last log lines may take to arrive after a builder said that it has ended."""

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


class Builds:
    """All builds under way.

    Parameters
    ----------
    slots : int
        How many run at once (`BinderHub.concurrent_build_limit`).
    """

    def __init__(self, upstream: Upstream, settings: Launcher, clock: Clock, slots: int) -> None:
        self._upstream = upstream
        self._settings = settings
        self._clock = clock
        self._slots = asyncio.Semaphore(slots)
        self._queue: list[Build] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: dict[str, tuple[Build, asyncio.Task[None]]] = {}
        metrics.QUEUE.labels(queue="builds").set_function(lambda: len(self._queue))

    def get(self, repository: Repository, binder_url: str) -> tuple[Build, asyncio.Task[None]]:
        """Return the build of this image, started if it is not under way, and the task that ends with it."""
        name = repository.image_name
        if name not in self._running:
            build = Build(repository, self._settings.build_log_limit)
            task = asyncio.create_task(self._run(build, binder_url))
            task.add_done_callback(lambda done: self._ended(name, done))
            self._running[name] = build, task
            self._tasks.add(task)
        return self._running[name]

    @property
    def full(self) -> bool:
        """Whether all slots are taken."""
        return self._slots.locked()

    def position(self, build: Build) -> int:
        """The place of a build in the line for a slot, from 1; 0 when it has one."""
        return self._queue.index(build) + 1 if build in self._queue else 0

    def leave(self, build: Build, task: asyncio.Task[None]) -> None:
        """A launch that waited for this build is gone."""
        if build.waiting == 0 and (self._settings.abandon_builds or not build.started):
            # whoever comes now begins anew
            self._running.pop(build.repository.image_name, None)
            task.cancel()

    async def close(self) -> None:
        """Stop watching all builds."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._running.get(name, (None, None))[1] is task:
            del self._running[name]
        if not task.cancelled() and task.exception() is not None:
            app_log.debug("Build of %s: %r", name, task.exception())

    async def _run(self, build: Build, binder_url: str) -> None:
        self._queue.append(build)
        try:
            await Deadline.after(self._settings.build_slot_timeout, self._clock).wait_for(
                self._slots.acquire()
            )
        except asyncio.TimeoutError:
            raise LaunchError("build.no_slot") from None
        finally:
            self._queue.remove(build)
        build.deadline = Deadline.after(self._settings.build_timeout, self._clock)
        build.running.set()
        labels = build.repository.metric_labels
        began = self._clock.monotonic()
        status = "failure"
        try:
            with BUILDS_INPROGRESS.track_inprogress():
                await self._build(build, binder_url)
            status = "success"
        finally:
            self._slots.release()
            BUILD_TIME.labels(status=status).observe(self._clock.monotonic() - began)
            BUILD_COUNT.labels(status=status, **labels).inc()

    async def _build(self, build: Build, binder_url: str) -> None:
        loop, pool = asyncio.get_running_loop(), self._upstream.build_pool
        try:
            executor = await self._upstream.new_build(build.repository, build, binder_url)
        except Exception as error:
            raise LaunchError("registry.unreachable", transient=True) from error
        logs: list[ThreadFuture[None]] = []

        def watch(work: ThreadFuture[None]) -> ThreadFuture[None]:
            def report(done: ThreadFuture[None]) -> None:
                error = done.exception() if not done.cancelled() else None
                if error is not None:
                    loop.call_soon_threadsafe(build.crashed, error)

            work.add_done_callback(report)
            return work

        def follow_log() -> None:
            if not logs:
                logs.append(watch(pool.submit(executor.stream_logs)))

        build.on_running = follow_log
        submitted = watch(pool.submit(executor.submit))
        # a builder that returns without a word has ended all the same
        submitted.add_done_callback(lambda _: loop.call_soon_threadsafe(loop.call_later, LOG_TAIL_WAIT, build.crashed,
                                                                        LaunchError("build.interrupted")))  # fmt: skip
        try:
            await build.deadline.wait_for(build.outcome())
        except asyncio.TimeoutError:
            raise LaunchError("build.timeout") from None
        except LaunchError:
            raise
        except Exception as error:
            failure = LaunchError("build.interrupted")
            app_log.error("Build of %s [%s]: %r", build.repository.image_name, failure.reference, error)
            raise failure from error
        finally:
            tail = [asyncio.wrap_future(work) for work in logs if not work.done()]
            if tail:
                await asyncio.wait(tail, timeout=LOG_TAIL_WAIT)
            executor.stop()
