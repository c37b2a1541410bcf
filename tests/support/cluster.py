"""A real cluster: namespaces of the tests' own, their objects as JSON, and the credentials of their accounts.

`make test-kubernetes` opens `kubectl proxy`, which speaks as the administrator of `KUBECONFIG`, and names its
address in `KUBE_TEST_SERVER`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from .watch_hub_process import kubeconfig

SERVER = os.environ.get("KUBE_TEST_SERVER", "")
needs_cluster = pytest.mark.skipif(not SERVER, reason="needs a cluster: make test-kubernetes")

GROUPS = {
    "deployments": "apis/apps/v1",
    "leases": "apis/coordination.k8s.io/v1",
    "servicemonitors": "apis/monitoring.coreos.com/v1",
    "podmonitors": "apis/monitoring.coreos.com/v1",
    "prometheusrules": "apis/monitoring.coreos.com/v1",
    "replicasets": "apis/apps/v1",
    "roles": "apis/rbac.authorization.k8s.io/v1",
}

NOBODY = "nobody"
"""A scheduler that there is not: pods that wait for it stay as the test sets them, also where there are nodes."""

Object = dict[str, Any]


def kubectl(*arguments: str) -> str:
    """Run kubectl as the administrator; return what it prints."""
    return subprocess.run(
        ["kubectl", *arguments], capture_output=True, text=True, timeout=60, check=True
    ).stdout


class Namespace:
    """One namespace, seen by the administrator."""

    def __init__(self, session: aiohttp.ClientSession, name: str) -> None:
        self.session, self.name = session, name

    def path(self, plural: str, name: str = "") -> str:
        path = f"/{GROUPS.get(plural, 'api/v1')}/namespaces/{self.name}/{plural}"
        return f"{path}/{name}" if name else path

    async def ask(
        self, method: str, plural: str, name: str = "", body: Object | None = None, **how: Any
    ) -> tuple[int, Object]:
        """Ask the API server; return the status and the object."""
        async with self.session.request(method, self.path(plural, name), json=body, **how) as answer:
            return answer.status, await answer.json()

    async def create(self, plural: str, body: Object) -> Object:
        status, made = await self.ask("POST", plural, body=body)
        assert status == 201, made
        return made

    async def get(self, plural: str, name: str) -> Object | None:
        """Return an object; None when there is none."""
        status, found = await self.ask("GET", plural, name)
        return found if status == 200 else None

    async def items(self, plural: str, selector: str = "", fields: str = "") -> list[Object]:
        query = {"labelSelector": selector, "fieldSelector": fields}
        status, found = await self.ask("GET", plural, params=query)
        assert status == 200, found
        return found["items"]

    async def set_status(self, plural: str, name: str, status: Object) -> Object:
        """Report the state of an object, as a controller or a kubelet does."""
        merge = {"Content-Type": "application/merge-patch+json"}
        code, made = await self.ask("PATCH", plural, f"{name}/status", body={"status": status}, headers=merge)
        assert code == 200, made
        return made

    async def watch(self, plural: str, version: str = "") -> AsyncIterator[tuple[str, Object]]:
        """Yield the type and the object of each change after a resource version; "": what is there comes first."""
        query = {"watch": "true", "resourceVersion": version}
        no_limit = aiohttp.ClientTimeout(total=None)
        async with self.session.get(self.path(plural), params=query, timeout=no_limit) as answer:
            while line := await answer.content.readline():
                change = json.loads(line)
                yield change["type"], change["object"]

    async def until(
        self, plural: str, holds: Callable[[list[Object]], Any], what: str, seconds: float = 30.0
    ) -> list[Object]:
        """Wait for a state of all objects of a kind; return them."""
        _, listed = await self.ask("GET", plural)
        found: dict[str, Object] = {item["metadata"]["uid"]: item for item in listed["items"]}

        async def follow() -> None:
            if holds(list(found.values())):
                return
            async with contextlib.aclosing(
                self.watch(plural, listed["metadata"]["resourceVersion"])
            ) as changes:
                async for kind, item in changes:
                    found[item["metadata"]["uid"]] = item
                    if kind == "DELETED":
                        del found[item["metadata"]["uid"]]
                    if holds(list(found.values())):
                        return

        try:
            await asyncio.wait_for(follow(), seconds)
        except asyncio.TimeoutError:
            names = [item["metadata"]["name"] for item in found.values()]
            raise AssertionError(f"not within {seconds} s: {what}; there are {names}") from None
        return list(found.values())

    async def kubeconfig(self, folder: Path, account: str) -> Path:
        """Write a configuration with a token of a ServiceAccount; return its path."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        made = await self.create(f"serviceaccounts/{account}/token", body)
        shown = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "--output", "json"))
        cluster = dict(shown["clusters"][0]["cluster"])
        config = kubeconfig(cluster.pop("server"), {"token": made["status"]["token"]}, **cluster)
        path = folder / f"{self.name}-{account}.json"
        path.write_text(json.dumps(config))
        return path


@contextlib.asynccontextmanager
async def new_namespace(**labels: str) -> AsyncIterator[Namespace]:
    """Make a namespace with a random name; at the end it is deleted with all that is in it."""
    name = f"binderhub-ext-{secrets.token_hex(4)}"
    async with aiohttp.ClientSession(SERVER) as session:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        async with session.post("/api/v1/namespaces", json=body) as answer:
            assert answer.status == 201, await answer.text()
        try:
            namespace = Namespace(session, name)
            # until then no pod can be created
            await namespace.until("serviceaccounts", bool, "the account `default`")
            yield namespace
        finally:
            async with session.delete(f"/api/v1/namespaces/{name}") as answer:
                assert answer.status in (200, 202), await answer.text()
