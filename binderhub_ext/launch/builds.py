"""Shared builds: one build for each image, however many launches want it."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future as ThreadFuture
from typing import Any

from tornado.log import app_log

from binderhub_ext.errors import LaunchError, on_one_line
from binderhub_ext.launch.build import Build
from binderhub_ext.launch.settings import Launcher
from binderhub_ext.metrics import service as metrics
from binderhub_ext.timing import Clock, Deadline, backoff
from binderhub_ext.upstream import BUILD_COUNT, BUILD_TIME, BUILDS_INPROGRESS, Repository, Upstream

LOG_TAIL_WAIT = 3.0
"""Seconds that the last log lines may take to arrive after a builder said that it has ended."""

REMOVAL_TIME = 120.0
"""Seconds for which the deletion of a build that was given up is tried."""


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
        self._removals: dict[str, asyncio.Task[None]] = {}
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
            # otherwise what was asked for is left to end by itself: another replica may wait for it
            build.unwanted = self._settings.abandon_builds
            # whoever comes now begins anew
            self._running.pop(build.repository.image_name, None)
            task.cancel()

    async def close(self) -> None:
        """Stop watching all builds; what they run in goes on."""
        tasks = [*self._tasks, *self._removals.values()]
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
        await self._get_slot(build)
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

    async def _get_slot(self, build: Build) -> None:
        """Wait in line. Raises `LaunchError` build.no_slot."""
        bound = Deadline.after(self._settings.build_slot_timeout, self._clock)
        slot = asyncio.ensure_future(self._slots.acquire())
        self._queue.append(build)
        try:
            await bound.wait_for(slot)
        except (asyncio.CancelledError, asyncio.TimeoutError) as error:
            # one that came in the very moment in which the build was given up goes back
            slot.cancel()
            slot.add_done_callback(lambda ended: None if ended.cancelled() else self._slots.release())
            if isinstance(error, asyncio.CancelledError):
                raise
            raise LaunchError("build.no_slot") from None
        finally:
            self._queue.remove(build)

    async def _build(self, build: Build, binder_url: str) -> None:
        pool, name = self._upstream.build_pool, build.repository.build_name
        if name in self._removals:
            # the builder would join the earlier build, which is about to end
            await asyncio.wait({self._removals[name]}, timeout=build.deadline.remaining)
        builder = await self._new_builder(build, binder_url)
        logs: list[ThreadFuture[None]] = []

        def follow_log() -> None:
            if not logs:
                logs.append(_watched(build, pool.submit(builder.stream_logs)))

        build.on_running = follow_log
        submitted = _watched(build, pool.submit(builder.submit), must_report=True)
        try:
            await self._outcome(build, logs)
        finally:
            builder.stop()
            # where it waits for a thread, nothing was asked for yet
            submitted.cancel()
            if build.unwanted:
                removal = asyncio.create_task(self._remove(name, builder, submitted))
                removal.add_done_callback(lambda _: self._removals.pop(name, None))
                self._removals[name] = removal

    async def _new_builder(self, build: Build, binder_url: str) -> Any:
        """Make the builder. The registry may be asked for credentials: raises `LaunchError` registry.unreachable."""
        bound = build.deadline.within(self._settings.image_timeout)
        try:
            return await bound.wait_for(self._upstream.new_build(build.repository, build, binder_url))
        except Exception as error:
            raise LaunchError("registry.unreachable", transient=True) from error

    async def _outcome(self, build: Build, logs: list[ThreadFuture[None]]) -> None:
        """Wait for the end of a build, and of its log. Raises `LaunchError` build.*."""
        try:
            await build.deadline.wait_for(build.outcome())
        except asyncio.TimeoutError:
            build.unwanted = True
            raise LaunchError("build.timeout") from None
        except LaunchError:
            raise
        except Exception as error:
            failure = LaunchError("build.interrupted")
            words = on_one_line(error)
            app_log.error("Build of %s [%s]: %s", build.repository.image_name, failure.reference, words)
            raise failure from error
        finally:
            tail = [asyncio.wrap_future(work) for work in logs if not work.done()]
            if tail and build.ended:
                await asyncio.wait(tail, timeout=LOG_TAIL_WAIT)

    async def _remove(self, name: str, builder: Any, submitted: ThreadFuture[None]) -> None:
        """Delete what a build runs in that was given up."""
        deadline = Deadline.after(REMOVAL_TIME, self._clock)
        removed = await self._delete(name, builder, deadline)
        if removed and not submitted.done():
            # it may have been asked for only in this moment, and be there after the deletion
            await asyncio.wait({asyncio.wrap_future(submitted)}, timeout=deadline.remaining)
            removed = await self._delete(name, builder, deadline)
        if removed:
            app_log.info("Build %s was given up, and what it ran in deleted", name)

    async def _delete(self, name: str, builder: Any, deadline: Deadline) -> bool:
        attempt = 0
        while True:
            try:
                await deadline.wait_for(self._upstream.remove_build(builder))
                return True
            except Exception as error:  # noqa: BLE001 - whatever a builder's client raises, it is tried again
                wait = backoff(attempt, first=1.0, limit=15.0)
                if wait >= deadline.remaining:
                    # BinderHub deletes what has become too old
                    app_log.error(
                        "Build %s was given up, but what it runs in is not deleted: %s",
                        name,
                        on_one_line(error),
                    )
                    return False
            await self._clock.sleep(wait)
            attempt += 1


def _watched(build: Build, work: ThreadFuture[None], *, must_report: bool = False) -> ThreadFuture[None]:
    """Let the build hear when a thread of its builder fails.

    Parameters
    ----------
    must_report : bool
        A builder that returns without a word has ended all the same.
    """
    loop = asyncio.get_running_loop()

    def ended(done: ThreadFuture[None]) -> None:
        error = done.exception() if not done.cancelled() else None
        if error is not None:
            loop.call_soon_threadsafe(build.crashed, error)
        elif must_report:
            silent = LaunchError("build.interrupted")
            loop.call_soon_threadsafe(loop.call_later, LOG_TAIL_WAIT, build.crashed, silent)

    work.add_done_callback(ended)
    return work
