"""A Kubernetes API server on a real socket, for tests: lists, watches, paging, graceful deletion, and faults.

Semantics: https://kubernetes.io/docs/reference/using-api/api-concepts/ . Any kind works under `/api/v1` and
`/apis/<group>/<version>`, namespaced or not; there is no authentication.

In a test::

    async with KubeAPI() as api:
        api.create_pod("jupyter-ada")
        rule = api.faults.add(Rule(Fault.HANG, verb="list"))

As a process, with its controls under `/_fake/` (see `kube_control`)::

    python -m tests.support.kube_api --port 8001
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from . import kube_control, kube_pods
from .kube_faults import Fault, Faults, Rule
from .kube_requests import Call, parse
from .kube_selectors import BadSelector, Selector
from .kube_store import EVENTS, LEASES, PODS, ApiError, Resource, Store
from .kube_watch import cached_rv, list_body, watch

__all__ = ["EVENTS", "LEASES", "PODS", "ApiError", "Fault", "KubeAPI", "Resource", "Rule"]


@dataclass(eq=False)
class Recorded:
    """One request that was received; `bytes` grows while it is answered."""

    at: float
    method: str
    path: str
    verb: str
    plural: str
    query: dict[str, str]
    headers: dict[str, str]
    status: int = 0
    bytes: int = 0


class KubeAPI:
    """The server.

    Parameters
    ----------
    port : int
        0 for any free one.
    bookmark_interval : float
        Seconds between the bookmarks of a watch that asked for them (a real server: about 60).
    too_large_wait : float
        Seconds that a cache is given to reach the resource version that was asked for (a real server: 3).
    """

    def __init__(
        self,
        port: int = 0,
        host: str = "127.0.0.1",
        *,
        bookmark_interval: float = 60,
        too_large_wait: float = 0.2,
    ) -> None:
        self.host, self.port = host, port
        self.bookmark_interval = bookmark_interval
        self.too_large_wait = too_large_wait
        self.store = Store()
        self.faults = Faults()
        self.requests: list[Recorded] = []
        self.frozen_at: int | None = None
        self.watching: set[Recorded] = set()
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None

    # lifecycle

    async def start(self) -> None:
        app = web.Application(client_max_size=16 * 2**20)
        kube_control.add_routes(app, self)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(
            app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None, keepalive_timeout=3600
        )
        await self._runner.setup()
        await self.accept()

    async def stop(self) -> None:
        self.faults.clear()
        await self.refuse()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> KubeAPI:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def refuse(self) -> None:
        """Close the port, and cut every connection."""
        if self._site is not None:
            await self._site.stop()
            self._site = None
        self.cut()

    async def accept(self) -> None:
        """Listen (again), on the same port as before."""
        if self._site is None:
            assert self._runner is not None
            self._site = web.TCPSite(self._runner, self.host, self.port, reuse_address=True)
            await self._site.start()
            self.port = self._runner.addresses[0][1]

    def cut(self) -> None:
        """Reset every open connection."""
        if self._runner is not None and self._runner.server is not None:
            for protocol in list(self._runner.server.connections):
                if protocol.transport is not None:
                    protocol.transport.abort()

    def freeze_cache(self) -> None:
        """Stop the watch cache: watches and lists from the cache stay as they are now; etcd goes on."""
        self.frozen_at = self.store.rv

    def thaw_cache(self) -> None:
        self.frozen_at = None
        for listener in list(self.store.listeners):
            listener()

    # what tests do with objects

    def create_pod(self, name: str, namespace: str = "default", **how: Any) -> dict[str, Any]:
        """Create a running single-user server's pod; `how`: see `kube_pods.make_pod`."""
        return self.store.create(PODS, namespace, kube_pods.make_pod(name, **how))

    def delete_pod(self, name: str, namespace: str = "default", grace: int = 0) -> None:
        self.store.delete(PODS, (namespace, name), grace=grace)

    def pods(self, namespace: str = "default") -> list[str]:
        return [key[1] for key in self.store.state(PODS) if key[0] == namespace]

    def received(self, verb: str = "", plural: str = "") -> list[Recorded]:
        return [r for r in self.requests if verb in ("", r.verb) and plural in ("", r.plural)]

    # answering

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.path in ("/healthz", "/livez", "/readyz"):
            return web.Response(text="ok")
        if request.path == "/version":
            return web.json_response(
                {"major": "1", "minor": "34", "gitVersion": "v1.34.0", "platform": "linux/amd64"}
            )
        call = parse(request.method, request.path, dict(request.query))
        record = Recorded(
            time.monotonic(),
            request.method,
            request.path,
            call.verb if call else "",
            call.resource.plural if call else "",
            dict(request.query),
            dict(request.headers),
        )
        self.requests.append(record)
        try:
            if call is None:
                raise ApiError(404, "NotFound", "the server could not find the requested resource")
            response = await self._meet_faults(request, call, record)
            if response is None:
                response = await self._answer(request, call, record)
        except ApiError as error:
            headers = {"Retry-After": "1"} if error.code in (429, 503) else {}
            response = web.json_response(error.status(), status=error.code, headers=headers)
        except BadSelector as error:
            response = web.json_response(ApiError(400, "BadRequest", str(error)).status(), status=400)
        record.status = response.status
        if isinstance(response, web.Response) and isinstance(response.body, bytes):
            record.bytes += len(response.body)
        return response

    async def _meet_faults(
        self, request: web.Request, call: Call, record: Recorded
    ) -> web.StreamResponse | None:
        rule = self.faults.meet(call.verb, call.resource.plural, call.query)
        if rule is None:
            return None
        if rule.fault is Fault.HANG:
            await rule.cleared.wait()
        elif rule.fault is Fault.LOST:
            await asyncio.get_running_loop().create_future()
        elif rule.fault is Fault.DELAY:
            await asyncio.sleep(rule.seconds)
        elif rule.fault is Fault.ERROR:
            raise ApiError(rule.code, "InternalError", f"injected error {rule.code}")
        elif rule.fault is Fault.NOT_JSON:
            return web.Response(
                text="<html><body>upstream connect error</body></html>", content_type="text/html"
            )
        elif rule.fault is Fault.RESET:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        elif rule.fault is Fault.TRUNCATED:
            response = web.StreamResponse(
                headers={"Content-Type": "application/json", "Content-Length": "5000"}
            )
            await response.prepare(request)
            await response.write(b'{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"')
            if request.transport is not None:
                request.transport.close()
            return response
        elif call.verb == "watch":
            return await watch(self, request, call, record, rule)
        elif rule.fault is Fault.STALE:
            return await self._answer(request, call, record, at=rule.at)
        return None

    async def _answer(
        self, request: web.Request, call: Call, record: Recorded, at: int | None = None
    ) -> web.StreamResponse:
        store, resource, key = self.store, call.resource, (call.namespace or "", call.name)
        if call.verb == "watch":
            return await watch(self, request, call, record, None)
        if call.verb == "list":
            body = await list_body(self, call, at)
            return web.Response(body=body, content_type="application/json")
        if call.verb == "get":
            cached = cached_rv(self, at) if call.query.get("resourceVersion") else None
            found = store.state(resource, cached).get(key) if cached is not None else None
            return self._object(call, found.object if found else store.get(resource, key))
        body = json.loads(await request.read() or b"{}")
        if call.verb == "create" and call.subresource == "binding":
            store.merge(resource, key, {"spec": {"nodeName": body["target"]["name"]}})
            return web.json_response({"kind": "Status", "apiVersion": "v1", "status": "Success"}, status=201)
        if call.verb == "create":
            return self._object(
                call, store.create(resource, call.namespace or "", with_defaults(call, body)), 201
            )
        if call.verb == "update":
            if call.subresource == "status":
                body = {**store.get(resource, key), "status": body.get("status", {})}
            return self._object(call, store.update(resource, key, body))
        if call.verb == "patch":
            if not isinstance(body, dict):
                raise ApiError(415, "UnsupportedMediaType", "only merge patches are supported")
            if call.subresource == "status":
                body = {"status": body.get("status", {})}
            return self._object(call, store.merge(resource, key, body))
        grace = call.query.get("gracePeriodSeconds", body.get("gracePeriodSeconds"))
        how = {"grace": None if grace is None else int(grace), "preconditions": body.get("preconditions")}
        if call.verb == "delete":
            deleted_object = store.delete(resource, key, **how)
            if resource.plural in ("pods", "services", "persistentvolumeclaims"):
                return self._object(call, deleted_object)
            details = {"name": key[1], "kind": resource.plural, "uid": deleted_object["metadata"]["uid"]}
            done = {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Success",
                "details": details,
            }
            return web.json_response(done)
        selector = Selector(
            resource.plural, call.query.get("labelSelector", ""), call.query.get("fieldSelector", "")
        )
        found_keys = [key for key, _ in store.select(resource, call.namespace, selector)]
        deleted = [store.delete(resource, key, **how) for key in found_keys]
        items = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "items": deleted}
        return web.json_response({**items, "metadata": {"resourceVersion": str(store.rv)}})

    @staticmethod
    def _object(call: Call, obj: dict[str, Any], status: int = 200) -> web.Response:
        kinds = {"kind": call.resource.kind, "apiVersion": call.resource.api_version}
        return web.json_response({**kinds, **obj}, status=status)


def with_defaults(call: Call, obj: dict[str, Any]) -> dict[str, Any]:
    """Return a new object with what the server itself sets: a pod begins as Pending."""
    if call.resource == PODS:
        obj = {**obj, "status": {"phase": "Pending", "qosClass": "BestEffort"}}
    return obj


async def serve(port: int, host: str, pods_run: bool) -> None:
    async with contextlib.AsyncExitStack() as stack:
        api = await stack.enter_async_context(KubeAPI(port, host))
        if pods_run:
            await stack.enter_async_context(kube_pods.PodController(api))
        print(api.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description="A Kubernetes API server for tests")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument(
        "--run-pods", action="store_true", help="play scheduler and kubelet: created pods become ready"
    )
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(options.port, options.host, options.run_pods))
