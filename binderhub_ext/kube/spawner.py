"""Spawners that do not lose their pods: `ReliableKubeSpawner` and `BinderSpawner`.

They are KubeSpawner with its configuration, and differ where it waits, asks and gives up:

- the cache is a `ReliableReflector`; when it cannot answer, the one pod is read directly;
- `start`, `stop` and `poll` end within a bound, and a pod that should go is deleted, if not now
  then later;
- `start` returns when the server answers.
"""

from __future__ import annotations

import asyncio
import json
from contextvars import ContextVar
from typing import Any

import aiohttp
from kubernetes_asyncio.client.rest import ApiException
from traitlets import Float

from binderhub_ext.timing import Deadline, wait_for

from .binder import BinderSpawnerMixin
from .bounds import BOUNDS
from .entries import Object
from .podreader import Unknown
from .pods import PodState, pod_facts
from .readiness import wait_until_answering
from .reflector import ReliableReflector
from .stopping import StoppingSpawner
from .urls import changed_address

_STARTING: ContextVar[Deadline | None] = ContextVar("_STARTING", default=None)
"""The deadline of the start that the present task is part of."""


class ReliableKubeSpawner(StoppingSpawner):
    """KubeSpawner that survives its API server's bad days."""

    poll_timeout = Float(
        10,
        config=True,
        help="""
        Seconds that `poll` may take. Default: 10.

        When neither the cache nor the API server says in that time whether the pod runs, it is
        assumed to be running.
        """,
    )

    async def poll(self) -> int | None:
        """Return None while the pod runs, or may be running; else its exit code, 1 when that is not known."""
        deadline = Deadline.after(self.poll_timeout)
        with BOUNDS.under_way("poll", self._log_name, self.poll_timeout):
            try:
                return await deadline.wait_for(self._poll(deadline))
            except (Unknown, asyncio.TimeoutError) as error:
                self.log.warning(
                    "Cannot tell whether pod %s runs, assuming that it does: %r", self._key, error
                )
                return None

    async def _poll(self, deadline: Deadline) -> int | None:
        reflector = await deadline.within(self.poll_timeout / 2).wait_for(self._watching_pods())
        reflector.ensure_running()
        pod = await self._pod(deadline.remaining)
        if pod is None:
            return 1
        facts = pod_facts(pod)
        if facts.state is PodState.ENDED:
            if self.delete_stopped_pods:
                self._delete_later(facts.uid)
            return facts.exit_code
        if facts.state is PodState.RUNNING and self.server:
            self._follow_address(pod)
        return None

    async def _watching_pods(self) -> ReliableReflector:
        """Return the reflector; without its first list when that takes longer than a moment."""
        task = asyncio.ensure_future(self._start_watching_pods())
        try:
            await asyncio.wait([task], timeout=self.poll_timeout / 3)
            reflector: ReliableReflector = task.result() if task.done() else self.pod_reflector
            return reflector
        finally:
            task.cancel()

    def _follow_address(self, pod: Object) -> None:
        """Take over a pod's new address: one that was restarted in place may have another."""
        url = self._get_pod_url(pod)
        new = changed_address(self.server.url, url)
        if new is not None:
            self.log.warning("Pod %s url changed! %s -> %s", self._key, self.server.url, url)
            self.server.ip, self.server.port = new
            self.db.commit()

    # start

    _created_uid = ""
    _creating = False

    async def _start(self) -> Any:
        """Start the pod, and return its URL when the server in it answers, or could have."""
        deadline = Deadline.after(self.start_timeout)
        self._created_uid, self._creating = "", False
        token = _STARTING.set(deadline)
        with BOUNDS.under_way("start", self._log_name, self.start_timeout):
            try:
                url = await deadline.wait_for(super()._start())
                await self._wait_until_answering(url, deadline)
                return url
            except BaseException:
                # a failure, the Hub's start timeout, a stop while pending: nobody else may come for the pod
                if self._creating:
                    self._delete_later(self._created_uid)
                raise
            finally:
                _STARTING.reset(token)

    async def _make_create_pod_request(self, pod: Any, request_timeout: float) -> bool:
        """Create the pod; False when it is to be tried again, which the caller does within its time.

        Raises
        ------
        ApiException
            When the API server refuses: a quota, a policy, a pod that is not valid. Not retryable.
        """
        name = pod.metadata.name
        self.leftovers.starting(self.namespace, name)
        self._creating = True
        self.log.info("Creating pod %s", self._key)
        try:
            status, body = await wait_for(self._post_pod(pod, request_timeout), request_timeout)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            self.log.warning("Pod %s cannot be created yet: %r", self._key, error)
            return False
        if status in (200, 201, 202):
            self._created_uid = str(json.loads(body)["metadata"]["uid"])
            return True
        if status == 409:
            if json.loads(body).get("reason") == "AlreadyExists":
                self.log.info("A pod %s exists, deleting it first", self._key)
                await self.stop(True)
            return False
        if status == 429 or status >= 500:
            self.log.warning("Pod %s cannot be created yet: HTTP %s", self._key, status)
            return False
        refusal = ApiException(status=status, reason=body.decode(errors="replace")[:1000])
        self.log.error("Pod %s cannot be created: HTTP %s: %s", self._key, status, refusal.reason)
        raise refusal

    async def _post_pod(self, pod: Any, timeout: float) -> tuple[int, bytes]:
        response = await self.api.create_namespaced_pod(
            self.namespace, pod, _preload_content=False, _request_timeout=timeout
        )
        async with response:
            return response.status, await response.read()

    def is_pod_running(self, pod: Object | None) -> Any:
        """Whether the pod runs.

        KubeSpawner's `_start` looks again and again, with waits that grow to 5 seconds. It awaits
        what it gets, so it gets an answer that comes when the pod runs.
        """
        deadline = _STARTING.get()
        if deadline is not None:
            return self._wait_until_running(deadline)
        return pod is not None and pod_facts(pod).state is PodState.RUNNING

    async def _wait_until_running(self, deadline: Deadline) -> bool:
        """Wait for the cache, and read the pod directly when the cache cannot be relied upon."""
        clock = deadline.clock
        next_read = clock.monotonic() + self.read_every
        while True:
            reflector: ReliableReflector = self.pod_reflector
            pod = reflector.resources.get(self._key)
            if pod is not None:
                facts = pod_facts(pod)
                if facts.state is PodState.RUNNING and facts.uid == self._created_uid:
                    return True
            if deadline.expired:
                return False
            if clock.monotonic() >= next_read:
                # also in time for the deadline: a pod that is ready must not be given up for a late cache
                next_read = clock.monotonic() + min(self.read_every, max(0.1, deadline.remaining / 2))
                if pod is None or reflector.age > self.read_every or deadline.remaining < 3 * self.read_every:
                    try:
                        await self._pod(min(self.read_every, max(0.1, deadline.remaining)), sure=True)
                    except Unknown as error:
                        self.log.warning("Pod %s cannot be read: %s", self._key, error)
                    continue
            await reflector.wait_for_change(self._key, min(deadline.remaining, next_read - clock.monotonic()))

    async def _wait_until_answering(self, url: Any, deadline: Deadline) -> None:
        """Return when the Hub's first check will succeed; at the latest when the Hub should judge."""
        if isinstance(url, str) and self.server:
            path = self.server.base_url.rstrip("/") + "/api"
            spare = max(0.0, deadline.remaining - min(5.0, self.start_timeout / 10))
            await wait_until_answering(url + path, deadline.within(min(float(self.http_timeout), spare)))


class BinderSpawner(BinderSpawnerMixin, ReliableKubeSpawner):
    """`ReliableKubeSpawner` for BinderHub."""
