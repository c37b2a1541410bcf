"""Role-based access control in front of the API server of the tests.

A proxy that lets through what one ServiceAccount may do, as the authorizer of Kubernetes judges Roles
(https://kubernetes.io/docs/reference/access-authn-authz/rbac/): any rule that matches group, resource, verb and, where
the rule has names, the object's name. Everything else is answered 403. It remembers which verbs were used.
"""

from __future__ import annotations

from typing import Any

import aiohttp
from aiohttp import web

from .kube_requests import Call, parse

Right = tuple[str, str, str]
"""Group, resource, verb."""


class RBACProxy:
    """The proxy.

    Parameters
    ----------
    upstream : str
        Address of the API server.
    objects : list
        Rendered objects: Roles, RoleBindings and ServiceAccounts are read, others are ignored.
    account : str
        Name of the ServiceAccount whose requests these are.
    namespace : str
        Its namespace, and the one in which the objects are installed.
    """

    def __init__(
        self, upstream: str, objects: list[dict[str, Any]], account: str, namespace: str = "default"
    ) -> None:
        self.upstream, self.namespace = upstream, namespace
        bound = {
            item["roleRef"]["name"]
            for item in objects
            if item["kind"] == "RoleBinding"
            and any(s["kind"] == "ServiceAccount" and s["name"] == account for s in item["subjects"])
        }
        roles = [item for item in objects if item["kind"] == "Role" and item["metadata"]["name"] in bound]
        self.rules: list[dict[str, Any]] = [rule for role in roles for rule in role["rules"]]
        self.used: set[Right] = set()
        self.refused: list[str] = []
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self.url = ""

    @property
    def granted(self) -> set[Right]:
        return {
            (group, resource, verb)
            for rule in self.rules
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }

    def allows(self, call: Call) -> bool:
        resource = call.resource.plural + (f"/{call.subresource}" if call.subresource else "")
        return call.namespace == self.namespace and any(
            call.resource.group in rule["apiGroups"]
            and resource in rule["resources"]
            and call.verb in rule["verbs"]
            # a create request has no name yet, so a rule with names never allows one
            and (
                not rule.get("resourceNames")
                or (call.verb != "create" and call.name in rule["resourceNames"])
            )
            for rule in self.rules
        )

    async def __aenter__(self) -> RBACProxy:
        self._session = aiohttp.ClientSession()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None and self._session is not None
        await self._runner.cleanup()
        await self._session.close()

    async def _handle(self, request: web.Request) -> web.Response:
        call = parse(request.method, request.path, dict(request.query))
        if call is None or not self.allows(call):
            what = f"{call.verb} {call.resource.plural} {call.name}" if call else request.path
            self.refused.append(what)
            status = {
                "kind": "Status",
                "status": "Failure",
                "reason": "Forbidden",
                "code": 403,
                "message": what,
            }
            return web.json_response(status, status=403)
        self.used.add((call.resource.group, call.resource.plural, call.verb))
        assert self._session is not None
        data = await request.read()
        async with self._session.request(
            request.method,
            self.upstream + request.path_qs,
            data=data,
            headers={"Content-Type": request.headers.get("Content-Type", "application/json")},
        ) as answer:
            return web.Response(
                body=await answer.read(), status=answer.status, headers={"Content-Type": answer.content_type}
            )
