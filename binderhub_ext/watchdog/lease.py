"""Who of several watchdogs may act: a Kubernetes Lease, which also remembers the restarts.

A restart is written into the Lease *before* it is done, with the resource version of the Lease that
made this watchdog the leader. So when two believe to lead, the API server lets one write through,
and whoever comes next knows of the restart even if this process dies in the middle of it.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from kubernetes_asyncio import client

from binderhub_ext.timing import SYSTEM_CLOCK, Clock, Deadline

from .cluster import ClusterTrouble, answer
from .history import RestartHistory

RESTARTS = "binderhub-ext/hub-restarts"
"""The annotation with the times of the restarts, a JSON list of seconds since 1970."""

log = logging.getLogger("binderhub_ext.watchdog")


def written_restarts(lease: dict[str, Any]) -> list[int]:
    """Return the times of the restarts that a Lease holds; what cannot be read counts as none."""
    text = ((lease.get("metadata") or {}).get("annotations") or {}).get(RESTARTS, "[]")
    try:
        return [int(moment) for moment in json.loads(text)]
    except (ValueError, TypeError):
        log.warning("The annotation %s of the Lease cannot be read: %r", RESTARTS, text)
        return []


@dataclass
class Lease:
    """Leadership among watchdogs of one Hub.

    Parameters
    ----------
    api : kubernetes_asyncio.client.ApiClient
    identity : str
        This watchdog's name: its pod's.
    duration : float
        Seconds after which a leader that does not renew is followed by another. Judged by how long the
        Lease did not change, by this machine's clock (as client-go does), never by comparing clocks.
    timeout : float
        Seconds for one request.
    """

    api: Any
    namespace: str
    name: str
    identity: str
    history: RestartHistory
    duration: float = 30.0
    timeout: float = 5.0
    clock: Clock = SYSTEM_CLOCK
    _lease: dict[str, Any] = field(default_factory=dict)
    _changed: float = 0.0
    _renewed: float = float("-inf")

    @property
    def leading(self) -> bool:
        """Whether this watchdog holds the Lease now."""
        return self.clock.monotonic() - self._renewed < self.duration

    async def keep(self) -> bool:
        """Renew the Lease, or take it when it is free; return whether it is held afterwards.

        Trouble of the API server is no error here: without renewal the Lease is lost by itself.
        """
        try:
            lease = await self._read()
        except ClusterTrouble as trouble:
            log.debug("The Lease could not be read: %s", trouble)
            return self.leading
        now = self.clock.monotonic()
        self.history.learn(written_restarts(lease), now=now, wall=self.clock.time())
        if self._version(lease) != self._version(self._lease):
            self._changed = now
        self._lease = lease
        holder = (lease.get("spec") or {}).get("holderIdentity") or ""
        if holder not in ("", self.identity) and now - self._changed < self.duration:
            self._renewed = float("-inf")
            return False
        return await self._write(holder=self.identity)

    async def note_restart(self) -> int | None:
        """Write that the Hub is restarted now; return the moment's written form.

        None: it could not be written, so another watchdog may be leading, and the restart must not
        be done.
        """
        moment = self.history.add(now=self.clock.monotonic(), wall=self.clock.time())
        # a look may take longer than the Lease lasts: that nobody took it since is what the write shows
        held = (self._lease.get("spec") or {}).get("holderIdentity") == self.identity
        if held and await self._write(holder=self.identity):
            return moment
        self.history.retract(moment)
        return None

    async def release(self) -> None:
        """Give the Lease back, so that the next watchdog need not wait for its end."""
        if self.leading:
            await self._write(holder="")
            self._renewed = float("-inf")

    @staticmethod
    def _version(lease: dict[str, Any]) -> str:
        return str((lease.get("metadata") or {}).get("resourceVersion", ""))

    async def _read(self) -> dict[str, Any]:
        api = client.CoordinationV1Api(self.api)
        request = api.read_namespaced_lease(self.name, self.namespace, _preload_content=False)
        try:
            return await answer(request, Deadline.after(self.timeout, self.clock))
        except ClusterTrouble as trouble:
            if trouble.status == 404:
                return {}
            raise

    async def _write(self, holder: str) -> bool:
        started = self.clock.monotonic()
        try:
            self._lease = await self._send(self._body(holder))
        except ClusterTrouble as trouble:
            level = logging.DEBUG if trouble.status == 409 else logging.WARNING
            log.log(level, "The Lease could not be written: %s", trouble)
            if trouble.status == 409:
                self._renewed = float("-inf")
            return False
        self._changed = self.clock.monotonic()
        if self._renewed == float("-inf") and holder:
            log.info("%s leads now: it holds the Lease %s", self.identity, self.name)
        self._renewed = started  # counted from before the request: the Lease cannot be older than we think
        return True

    def _body(self, holder: str) -> dict[str, Any]:
        spec = self._lease.get("spec") or {}
        now = datetime.fromtimestamp(self.clock.time(), timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        taken = holder != spec.get("holderIdentity")
        # what others wrote on the Lease (Helm's labels and annotations) stays
        metadata = {"name": self.name, "namespace": self.namespace, **(self._lease.get("metadata") or {})}
        restarts = self.history.written(self.clock.monotonic())
        metadata["annotations"] = {**(metadata.get("annotations") or {}), RESTARTS: json.dumps(restarts)}
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": max(1, round(self.duration)),
                "acquireTime": now if taken else spec.get("acquireTime", now),
                "renewTime": now,
                "leaseTransitions": int(spec.get("leaseTransitions") or 0) + (1 if taken and holder else 0),
            },
        }

    async def _send(self, body: dict[str, Any]) -> dict[str, Any]:
        api = client.CoordinationV1Api(self.api)
        if self._lease:
            request = api.replace_namespaced_lease(self.name, self.namespace, body, _preload_content=False)
        else:
            request = api.create_namespaced_lease(self.namespace, body, _preload_content=False)
        return await answer(request, Deadline.after(self.timeout, self.clock))
