"""What a spawner knows of its pod: the shared caches, and the API server itself."""

from __future__ import annotations

import asyncio
from typing import Any

from kubespawner import KubeSpawner
from traitlets import Bool, Float

from . import abort, compatibility
from .entries import Object
from .leftovers import Leftover, Leftovers
from .podreader import delete_pod, read_pod
from .pods import PodState, pod_facts
from .reflector import ReliableEventReflector, ReliablePodReflector, ReliableReflector
from .shared import SharedReflectors

compatibility.check()


class PodAccess(KubeSpawner):
    """KubeSpawner with reliable reflectors, and a direct way to its pod."""

    reflectors = SharedReflectors()
    leftovers = Leftovers()

    reflector_abort_timeout = Float(
        300,
        config=True,
        help="""
        Seconds for which the cache of pods or events may fail to be refreshed before the Hub ends,
        so that Kubernetes starts it again. 0: never.

        Default: 300, the start timeout that most deployments have: until then nobody has lost more
        than one launch. While the API server answers nobody the Hub goes on, see
        `reflector_abort_when_unreachable`.
        """,
    )
    reflector_abort_when_unreachable = Bool(
        False,
        config=True,
        help="""
        Whether the Hub ends after `reflector_abort_timeout` also when the API server answers nobody.

        Default: False: a restart would not help, and running servers would lose their Hub.
        """,
    )
    read_every = Float(
        5,
        config=True,
        help="""
        Seconds between direct reads of the pod by a `start` or `stop` that waits, and the age of the
        cache from which on it is not relied upon alone. Default: 5, one request per waiting server.
        """,
    )

    # reflectors

    def _guard(self, reflector: ReliableReflector) -> Any:
        arguments = {} if reflector.omit_namespace else {"namespace": reflector.namespace}
        return abort.guard(
            reflector,
            timeout=self.reflector_abort_timeout,
            when_unreachable=self.reflector_abort_when_unreachable,
            answers=lambda: abort.api_server_answers(
                reflector.list_method_name, arguments, reflector.api_group_name
            ),
            abort=abort.end_the_hub,
            log=self.log,
        )

    async def _start_reflector(
        self, kind: str, reflector_class: Any, replace: bool = False, **kwargs: Any
    ) -> ReliableReflector:
        """Return the shared reflector; wait for its first list no longer than one request may take.

        KubeSpawner asks with `replace` when it doubts the cache: then the same reflector lists anew,
        and what it has stays until the new list is there.
        """
        reliable = {"pods": ReliablePodReflector, "events": ReliableEventReflector}[kind]
        reflector = self.reflectors.obtain(
            self._get_reflector_key(kind),
            lambda: reliable(parent=self, namespace=self.namespace, **kwargs),
            self._guard,
            self.log,
        )
        if replace:
            reflector.relist()
        if not reflector.loaded:
            await asyncio.wait([reflector.first_load_future], timeout=self.k8s_api_request_timeout)
        return reflector

    @classmethod
    async def _stop_all_reflectors(cls) -> None:
        await cls.reflectors.close()
        await cls.leftovers.close()

    # what is known of the pod

    @property
    def _key(self) -> str:
        return f"{self.namespace}/{self.pod_name}"

    async def _pod(self, timeout: float, *, sure: bool = False) -> Object | None:
        """Return the pod from the cache when that can be relied upon, else from the API server.

        Parameters
        ----------
        timeout : float
            Seconds.
        sure : bool
            Whether the answer matters so much that the API server is asked anyway.

        Raises
        ------
        Unknown
            When neither could say.
        """
        reflector: ReliableReflector | None = self.pod_reflector
        if not sure and reflector is not None and reflector.healthy():
            known = reflector.resources.get(self._key)
            if known is not None and pod_facts(known).state in (PodState.STARTING, PodState.RUNNING):
                return known
        found = await read_pod(self.api, self.namespace, self.pod_name, timeout)
        if reflector is not None:
            if found is None:
                reflector.cache.fold_missing(self._key)
            else:
                reflector.cache.fold_read(found)
            if not reflector.healthy():
                reflector.nudge()
        return found

    def _known_uid(self) -> str:
        """Return the uid of the pod that a stop or a failed start is about, empty when it is not known."""
        reflector = self.pod_reflector
        known = reflector.resources.get(self._key) if reflector is not None else None
        return pod_facts(known).uid if known is not None else ""

    def _forget(self, uid: str) -> None:
        reflector = self.pod_reflector
        if reflector is not None and self._known_uid() == uid:
            reflector.cache.fold_missing(self._key)

    def _delete_later(self, uid: str) -> None:
        """See to it in the background that the pod goes."""
        api, timeout = self.api, float(self.k8s_api_request_timeout)
        grace_seconds = self.delete_grace_period

        async def delete(namespace: str, name: str, uid: str) -> bool:
            return await delete_pod(api, namespace, name, uid, grace_seconds, timeout)

        self.leftovers.add(Leftover(self.namespace, self.pod_name, uid), delete, self.log)
