"""A cache of Kubernetes resources that cannot stay wrong: `ReliableReflector`.

It has the interface of KubeSpawner's `ResourceReflector`, and its configuration: `timeout_seconds`
is how long a watch is asked to last, `request_timeout` bounds one page of a list, `restart_seconds`
is the most that a watch may last. What is different is inside: `rounds` decides, `transport` asks,
`parsing` reads, `cache` knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from typing import Any

from kubespawner.reflector import ResourceReflector
from kubespawner.spawner import EventReflector, PodReflector
from traitlets import Float, Int

from binderhub_ext.metrics import kube as metrics
from binderhub_ext.timing import SYSTEM_CLOCK, Clock, wait_for

from .cache import Cache, version_number
from .entries import Entry, Object, Objects
from .parsing import Lines, Slicer, parse_list
from .rounds import BENIGN, Outcome, Rounds, Step
from .transport import Failed, Transport, outcome_of_status


class ReliableReflector(ResourceReflector):
    """List and watch, for ever.

    `start()` returns when the first list is there; its cancellation, or that of anybody who waits
    for `first_load_future`, touches nobody else.
    """

    inactivity_seconds = Float(
        0,
        config=True,
        help="""
        Seconds without a byte after which a watch counts as dead, and a new one is opened.

        0 (the default): `timeout_seconds` + 3. A healthy API server ends a watch after
        `timeout_seconds`, so a silence that is longer means that the connection is gone.
        """,
    )
    page_size = Int(
        250,
        config=True,
        help="""
        Objects in one page of a list; 0: all in one.

        Default: 250, which is 2 MB of usual pods: larger pages hold the event loop for longer, smaller
        ones cost more requests, but only when the Hub starts.
        """,
    )
    backoff_limit = Float(
        10,
        config=True,
        help="""
        The longest wait, in seconds, before the next attempt when the API server does not answer.

        Default: 10, so that the cache is current soon after the API server is back. Never more than the
        inactivity limit.
        """,
    )

    clock: Clock = SYSTEM_CLOCK
    packed = False
    """Whether objects are kept as JSON: see `entries`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._load_waiters: set[asyncio.Future[None]] = set()
        self._key_waiters: dict[str, set[asyncio.Future[None]]] = {}
        self.loaded = False
        self.cache = Cache(self._changed, packed=self.packed)
        super().__init__(*args, **kwargs)
        self.watch_task: asyncio.Task[None] | None = None
        limit = min(self.backoff_limit, self.silence)
        self.rounds = Rounds(first=min(0.25, limit), limit=limit)
        self.last_error = ""
        self._started_at = self._current_at = self.clock.monotonic()
        self._nudged = asyncio.Event()
        arguments = {"label_selector": self.label_selector, "field_selector": self.field_selector}
        if not self.omit_namespace:
            arguments["namespace"] = self.namespace
        self._transport = Transport(getattr(self.api, self.list_method_name), arguments)
        self._labels = (self.kind, "" if self.omit_namespace else self.namespace)
        self.slicer = Slicer(clock=self.clock)
        metrics.AGE.labels(*self._labels).set_function(lambda: self.age)
        metrics.OBJECTS.labels(*self._labels).set_function(lambda: len(self.resources))
        metrics.VERSION.labels(*self._labels).set_function(lambda: version_number(self.cache.version) or 0)
        metrics.LONGEST_BLOCK.labels(*self._labels).set_function(lambda: self.slicer.longest)

    # what others see

    @property
    def resources(self) -> Objects:
        """The objects by ``namespace/name``; a list replaces the dict, so do not keep it."""
        return self.cache.objects

    @property
    def first_load_future(self) -> asyncio.Future[None]:
        """A future of one's own that is done when the first list is there."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.loaded:
            future.set_result(None)
        else:
            self._load_waiters.add(future)
            future.add_done_callback(self._load_waiters.discard)
        return future

    @first_load_future.setter
    def first_load_future(self, value: object) -> None:
        """The base class sets one shared future; it is not used."""

    @property
    def silence(self) -> float:
        """Seconds: the inactivity limit in force."""
        return self.inactivity_seconds or self.timeout_seconds + 3.0

    @property
    def age(self) -> float:
        """Seconds since the cache was known to be current: since the API server last said something."""
        return self.clock.monotonic() - self._current_at

    def healthy(self) -> bool:
        """Whether the cache is loaded, its task runs, and it was current within the inactivity limit."""
        running = self.watch_task is not None and not self.watch_task.done()
        return running and self.loaded and self.age <= self.silence

    def relist(self) -> None:
        """Ask for the most recent state as soon as possible; the present one stays until it is there."""
        self.rounds.relist()
        self.nudge()

    def nudge(self) -> None:
        """End the wait before the next attempt: there is reason to believe that it would succeed."""
        self._nudged.set()

    async def wait_for_change(self, key: str, seconds: float) -> None:
        """Return when the object changed, or after this time; whoever wants to know looks again."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters = self._key_waiters.setdefault(key, set())
        waiters.add(future)
        try:
            await asyncio.wait([future], timeout=max(0.0, seconds))
        finally:
            waiters.discard(future)
            if not waiters and self._key_waiters.get(key) is waiters:
                del self._key_waiters[key]

    # lifecycle

    async def start(self) -> None:
        """Begin, and return when the first list is there: as long as the API server is away, wait.

        Raises
        ------
        RuntimeError
            When it runs already.
        """
        if self.watch_task is not None and not self.watch_task.done():
            raise RuntimeError(f"Task watching for {self.kind} is already running")
        self.ensure_running()
        await self.first_load_future

    def ensure_running(self) -> None:
        """Start the task, or start it again should somebody have ended it."""
        if self._stopping or (self.watch_task is not None and not self.watch_task.done()):
            return
        if self.watch_task is None:
            self.log.info("watching for %s in %s", self.kind, self._labels[1] or "all namespaces")
        else:
            metrics.TASK_RESTARTS.labels(*self._labels).inc()
            self.log.error("The task watching for %s had ended; starting it again", self.kind)
        self.watch_task = asyncio.create_task(self._run(), name=f"reflector-{self.kind}")
        self.watch_task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        """Notice an end that nobody asked for; one that was cancelled waits for the next use."""
        if not self._stopping and not task.cancelled():
            self.log.error("The task watching for %s failed", self.kind, exc_info=task.exception())
            asyncio.get_running_loop().call_later(self.backoff_limit, self.ensure_running)

    async def stop(self) -> None:
        """End the task, and wait until it has ended."""
        self._stopping = True
        task, self.watch_task = self.watch_task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        for future in list(self._load_waiters):
            future.cancel()
        for gauge in (metrics.AGE, metrics.OBJECTS, metrics.VERSION, metrics.LONGEST_BLOCK):
            with contextlib.suppress(KeyError):
                gauge.remove(*self._labels)

    # the work

    async def _run(self) -> None:
        while True:
            step, began, busy = self.rounds.step, self.clock.monotonic(), self.slicer.busy
            self._nudged.clear()
            try:
                if step is Step.WATCH:
                    await self._watch()
                    lasted = self.clock.monotonic() - began
                    outcome = Outcome.TIMEOUT if lasted >= 0.9 * self._watch_seconds() else Outcome.CLOSED
                else:
                    metrics.LISTS.labels(*self._labels, step.value).inc()
                    await self._list(step)
                    outcome = Outcome.LISTED
            except Failed as error:
                outcome = error.outcome
                self.last_error = str(error)
            metrics.BUSY.labels(*self._labels).inc(self.slicer.busy - busy)
            wait = self.rounds.ended(outcome, self.clock.monotonic() - began, self.loaded)
            self._tell(step, outcome, wait)
            if wait:
                with contextlib.suppress(asyncio.TimeoutError):
                    await wait_for(self._nudged.wait(), wait)

    def _tell(self, step: Step, outcome: Outcome, wait: float) -> None:
        if step is Step.WATCH:
            metrics.WATCH_ENDS.labels(*self._labels, outcome.value).inc()
        if outcome in BENIGN:
            return
        metrics.ERRORS.labels(*self._labels, outcome.value).inc()
        level = self.log.warning if wait else self.log.info
        level(
            "%s of %s ended (%s), next in %.1f s",
            step.value,
            self.kind,
            self.last_error or outcome.value,
            wait,
        )

    async def _list(self, step: Step) -> None:
        query: dict[str, Any] = {"limit": self.page_size} if self.page_size else {}
        if step is Step.LIST_FROM:
            query.update(resource_version=self.cache.version, resource_version_match="NotOlderThan")
        items: list[Entry] = []
        while True:
            body = await self._transport.page(self.request_timeout, self.silence, **query)
            with self._unreadable():
                found, metadata = await parse_list(body, self.slicer, packed=self.packed)
            items += found
            if not metadata.get("continue"):
                break
            query = {"limit": self.page_size, "_continue": metadata["continue"]}
        old, new = version_number(self.cache.version), version_number(metadata["resourceVersion"])
        if step is Step.LIST_FROM and old is not None and new is not None and new < old:
            raise Failed(Outcome.STALE, f"the list is of {new}, the cache of {old}")
        self.slicer.begin()
        self.cache.fold_list(items, metadata["resourceVersion"])
        self.slicer.end()
        self._current()
        self.loaded = True
        for future in list(self._load_waiters):
            if not future.done():
                future.set_result(None)

    def _watch_seconds(self) -> float:
        """How long a watch is asked to last."""
        return max(1, min(self.timeout_seconds or self.restart_seconds, self.restart_seconds or 3600))

    async def _watch(self) -> None:
        lines = Lines()
        stream = self._transport.watch(
            self.silence, resource_version=self.cache.version, timeout_seconds=int(self._watch_seconds())
        )
        try:
            async for data in stream:
                self._current()
                self.slicer.begin()
                for line in lines.feed(data):
                    with self._unreadable():
                        self._fold(json.loads(line))
                    await self.slicer.breathe()
                self.slicer.end()
        finally:
            await stream.aclose()  # type: ignore[attr-defined]
        self._current()

    def _fold(self, event: Object) -> None:
        if event["type"] == "ERROR":
            status = event["object"]
            code, message = int(status.get("code", 500)), str(status.get("message", ""))
            raise Failed(outcome_of_status(code, message, status.get("details")), f"{code}: {message}")
        self.cache.fold_event(event)

    @contextlib.contextmanager
    def _unreadable(self) -> Iterator[None]:
        """What cannot be read as the API's JSON is a failed request, not a defect."""
        try:
            yield
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Failed(Outcome.UNREADABLE, repr(error)[:200]) from error

    def _current(self) -> None:
        self._current_at = self.clock.monotonic()

    def _changed(self, key: str) -> None:
        for future in self._key_waiters.get(key, ()):
            if not future.done():
                future.set_result(None)


class ReliablePodReflector(ReliableReflector, PodReflector):
    """KubeSpawner's `PodReflector`, reliable."""

    packed = True


class ReliableEventReflector(ReliableReflector, EventReflector):
    """KubeSpawner's `EventReflector`, reliable."""

    @property
    def events(self) -> list[Object]:
        """The events, the latest last; one without any time comes first, instead of ending the sort."""
        return sorted(
            self.resources.values(),
            key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "",
        )
