"""The cluster's side: pods, Events and the Hub's pod, from the Kubernetes API server.

Answers are read as JSON and not as the client library's models: a pod with a field that the library's
release does not know must not blind the watchdog.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import aiohttp
from kubernetes_asyncio import client, config
from kubernetes_asyncio.client.exceptions import ApiException

from binderhub_ext.timing import SYSTEM_CLOCK, Clock, Deadline

from .observations import ClusterView, HubPod, ServerKey, ServerPod

COMPONENT = "binderhub-ext-watchdog"
"""Who the Events say that they come from."""

PAGE = 500
USERNAME = "hub.jupyter.org/username"
SERVERNAME = "hub.jupyter.org/servername"


class ClusterTrouble(Exception):
    """The API server did not answer, or refused.

    Attributes
    ----------
    status : int
        Its HTTP status; 0 when there was no answer.
    """

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


async def answer(request: Awaitable[Any], deadline: Deadline) -> dict[str, Any]:
    """Await one request that was made with `_preload_content=False`; return its JSON.

    Raises
    ------
    ClusterTrouble
        For everything but a JSON object with a 2xx status, in time.
    """
    try:
        response = await deadline.wait_for(request)
        body = await deadline.wait_for(response.text())
    except asyncio.TimeoutError as error:  # aiohttp's own is one of these too
        raise ClusterTrouble("the API server does not answer in time") from error
    except (aiohttp.ClientError, ApiException, OSError, UnicodeError) as error:
        raise ClusterTrouble(f"the API server does not answer: {type(error).__name__}: {error}") from error
    if not 200 <= response.status < 300:
        raise ClusterTrouble(f"the API server answers {response.status}: {body[:300]}", response.status)
    try:
        parsed = json.loads(body)
    except ValueError as error:
        raise ClusterTrouble(f"the API server's answer is no JSON: {body[:100]!r}") from error
    if not isinstance(parsed, dict):
        raise ClusterTrouble("the API server's answer is no object")
    return parsed


def server_key(metadata: dict[str, Any]) -> ServerKey | None:
    """Return whose server a pod carries.

    KubeSpawner writes the plain names as annotations, and as labels what of them a label may hold
    (kubespawner `spawner.py`, `_build_common_annotations`, `_build_common_labels`).
    """
    for source in (metadata.get("annotations") or {}, metadata.get("labels") or {}):
        if USERNAME in source:
            return ServerKey(source[USERNAME], source.get(SERVERNAME, ""))
    return None


def server_pod(pod: dict[str, Any]) -> ServerPod:
    metadata, status = pod["metadata"], pod.get("status") or {}
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or ()}
    return ServerPod(
        name=metadata["name"],
        uid=metadata["uid"],
        key=server_key(metadata),
        phase=status.get("phase", "Unknown"),
        ready=conditions.get("Ready") == "True",
        deleting=bool(metadata.get("deletionTimestamp")),
    )


def hub_pod(pod: dict[str, Any]) -> HubPod:
    metadata, statuses = pod["metadata"], (pod.get("status") or {}).get("containerStatuses") or []
    # beside sidecars, the chart's container is called "hub"
    status = next((s for s in statuses if s.get("name") == "hub"), statuses[0] if statuses else {})
    return HubPod(
        name=metadata["name"],
        uid=metadata["uid"],
        restarts=int(status.get("restartCount", 0)),
        running="running" in (status.get("state") or {}),
        deleting=bool(metadata.get("deletionTimestamp")),
    )


@dataclass
class Cluster:
    """One namespace, seen through the API server.

    Parameters
    ----------
    api : kubernetes_asyncio.client.ApiClient
    namespace : str
    server_selector, hub_selector : str
        Label selectors of the servers' pods and of the Hub's pod.
    timeout : float
        Seconds for one operation, all its pages together.
    """

    api: Any
    namespace: str
    server_selector: str
    hub_selector: str
    timeout: float = 10.0
    clock: Clock = SYSTEM_CLOCK

    async def view(self) -> ClusterView:
        """List the pods. No resource version is given: the answer is current, not a cache's.

        Raises
        ------
        ClusterTrouble
        """
        deadline = Deadline.after(self.timeout, self.clock)
        try:
            hub_pods = tuple([hub_pod(p) async for p in self._pods(self.hub_selector, deadline)])
            pods = tuple([server_pod(p) async for p in self._pods(self.server_selector, deadline)])
        except (KeyError, TypeError, AttributeError) as error:
            raise ClusterTrouble(f"the API server's list is malformed: {error!r}") from error
        return ClusterView(pods, hub_pods)

    async def _pods(self, selector: str, deadline: Deadline) -> AsyncIterator[dict[str, Any]]:
        core, more = client.CoreV1Api(self.api), None
        while True:
            arguments = {"label_selector": selector, "limit": PAGE, "_preload_content": False}
            if more:
                arguments["_continue"] = more
            page = await answer(core.list_namespaced_pod(self.namespace, **arguments), deadline)
            for pod in page.get("items") or ():
                yield pod
            more = (page.get("metadata") or {}).get("continue")
            if not more:
                return

    async def delete_pod(self, name: str, uid: str) -> None:
        """Delete exactly this pod, not one that took its name. A pod that is gone is no error."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        core = client.CoreV1Api(self.api)
        try:
            await answer(
                core.delete_namespaced_pod(name, self.namespace, body=body, _preload_content=False),
                Deadline.after(self.timeout, self.clock),
            )
        except ClusterTrouble as trouble:
            if trouble.status not in (404, 409):  # gone, or another pod of that name by now
                raise

    async def event(self, pod: HubPod, reason: str, message: str, *, warning: bool) -> None:
        """Write a Kubernetes Event on the Hub's pod, where `kubectl describe` shows it."""
        now = datetime.fromtimestamp(self.clock.time(), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{pod.name}.{secrets.token_hex(8)}", "namespace": self.namespace},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": pod.name,
                "namespace": self.namespace,
                "uid": pod.uid,
            },
            "reason": reason,
            "message": message[:1000],  # readers need not expect more than 1 kB (events.k8s.io/v1, `note`)
            "type": "Warning" if warning else "Normal",
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": "",
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        core = client.CoreV1Api(self.api)
        await answer(
            core.create_namespaced_event(self.namespace, body, _preload_content=False),
            Deadline.after(self.timeout, self.clock),
        )


async def connect(api_server: str = "") -> Any:
    """Return an `ApiClient`.

    Parameters
    ----------
    api_server : str
        The API server's address, without credentials (a test's, or `kubectl proxy`). Empty: the one of
        the pod that this runs in, or of KUBECONFIG.
    """
    configuration = client.Configuration()
    if api_server:
        configuration.host = api_server
    else:
        try:
            config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException:
            await config.load_kube_config(client_configuration=configuration)
    return client.ApiClient(configuration)
