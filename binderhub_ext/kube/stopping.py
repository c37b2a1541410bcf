"""Stopping a server: its pod goes, now or later, and the Hub never waits for ever."""

from __future__ import annotations

import asyncio

from traitlets import Float

from binderhub_ext.timing import Deadline

from .access import PodAccess
from .bounds import BOUNDS
from .podreader import Unknown, delete_pod
from .pods import pod_facts


class StoppingSpawner(PodAccess):
    """KubeSpawner whose `stop` is bounded."""

    stop_timeout = Float(
        120,
        config=True,
        help="""
        Seconds that `stop` may take. Default: 120.

        Then the Hub counts the server as stopped, and its pod is deleted in the background until the
        API server says that it is gone.
        """,
    )

    async def stop(self, now: bool = False) -> None:
        """Delete the pod, and return when it is gone.

        Raises
        ------
        asyncio.TimeoutError
            After `stop_timeout` seconds, or when the API server did not take the request within
            `k8s_api_request_retry_timeout` seconds. The pod is then deleted in the background.
        """
        deadline = Deadline.after(self.stop_timeout)
        uid = self._known_uid()
        with BOUNDS.under_way("stop", self._log_name, self.stop_timeout):
            try:
                await deadline.wait_for(self._stop(0 if now else self.delete_grace_period, uid, deadline))
            except BaseException as error:
                self._delete_later(uid)
                if isinstance(error, asyncio.TimeoutError):
                    bound = f"{self.stop_timeout:g} seconds"
                    raise asyncio.TimeoutError(f"pod {self._key} did not disappear in {bound}!") from error
                raise

    async def _stop(self, grace_seconds: int, uid: str, deadline: Deadline) -> None:
        clock = deadline.clock
        asked = False
        asking = deadline.within(self.k8s_api_request_retry_timeout)
        while not deadline.expired:
            attempt = deadline.within(self.k8s_api_request_timeout)
            try:
                if not asked:
                    if await delete_pod(
                        self.api, self.namespace, self.pod_name, uid, grace_seconds, attempt.remaining
                    ):
                        self._forget(uid)
                        return
                    asked = True
                pod = await self._pod(attempt.remaining, sure=True)
                if pod is None or (uid and pod_facts(pod).uid != uid):
                    return
            except Unknown as error:
                self.log.warning("Pod %s cannot be stopped yet: %s", self._key, error)
            if not asked:
                if asking.expired:
                    break
                await clock.sleep(min(1.0, asking.remaining))
                continue
            reflector = self.pod_reflector
            until = clock.monotonic() + self.read_every
            while clock.monotonic() < until and not deadline.expired:
                if reflector is None:
                    await clock.sleep(min(1.0, deadline.remaining))
                    break
                if self._key not in reflector.resources:
                    break  # the cache says that it is gone: make sure
                await reflector.wait_for_change(self._key, min(deadline.remaining, until - clock.monotonic()))
        raise asyncio.TimeoutError
