"""A real JupyterHub, as a process of its own, whose spawner uses the API server of the tests.

Its proxy is one that remembers routes and does nothing, because here nobody opens a server in a browser.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

TOKEN = "test-token-of-a-service"  # noqa: S105

CONFIG = """
import asyncio, os, types
from jupyterhub.proxy import Proxy

class RememberingProxy(Proxy):
    should_start = False
    routes = {{}}
    async def add_route(self, routespec, target, data):
        self.routes[routespec] = {{"routespec": routespec, "target": target, "data": data}}
    async def delete_route(self, routespec):
        self.routes.pop(routespec, None)
    async def get_all_routes(self):
        return self.routes

c.JupyterHub.proxy_class = RememberingProxy
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.bind_url = "http://127.0.0.1:{proxy_port}"
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.authenticate_prometheus = False
c.JupyterHub.db_url = "sqlite:///{folder}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{folder}/cookie_secret"
c.JupyterHub.services = [{{"name": "tester", "api_token": "{token}"}}]
c.JupyterHub.load_roles = [{{"name": "all", "services": ["tester"],
    "scopes": ["admin:users", "admin:servers", "read:hub", "read:metrics"]}}]
c.JupyterHub.cleanup_servers = False
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 0, "slow_stop_timeout": 1}}
c.JupyterHub.init_spawners_timeout = 10
c.KubeSpawner.namespace = "default"
c.KubeSpawner.image = "example/image:1"
c.KubeSpawner.poll_interval = 1
c.KubeSpawner.start_timeout = 6
c.KubeSpawner.http_timeout = 5
c.KubeSpawner.k8s_api_request_timeout = 1
c.KubeSpawner.k8s_api_request_retry_timeout = 3
c.ReliableKubeSpawner.stop_timeout = 4
c.ReliableKubeSpawner.poll_timeout = 2
c.ReliableKubeSpawner.read_every = 1
c.ResourceReflector.timeout_seconds = 2
c.ResourceReflector.request_timeout = 3
c.ReliableReflector.backoff_limit = 0.5
c.ReliableReflector.inactivity_seconds = 3
"""

STOCK = 'c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"\n'
OURS = "import binderhub_ext.kube; binderhub_ext.kube.configure(c, binder=False)\n"
IMPATIENT = """
# the stock reflector's sleeps between attempts, 51 s in all before it gives up, take a hundredth
import kubespawner.reflector
sleep = asyncio.sleep
fast = types.ModuleType("asyncio")
fast.__dict__.update(asyncio.__dict__)
fast.sleep = lambda seconds: sleep(seconds / 100)
kubespawner.reflector.asyncio = fast
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class HubProcess:
    """The Hub.

    Parameters
    ----------
    folder : Path
        Keeps its database: a Hub that is started again in the same folder knows its servers.
    api_url : str
        The API server.
    config : str
        What to add to the configuration.
    """

    def __init__(self, folder: Path, api_url: str, config: str = OURS) -> None:
        self.folder, self.api_url, self.config = folder, api_url, config
        self.port = free_port()
        self.log = folder / "hub.log"
        self.process: asyncio.subprocess.Process | None = None
        self._session: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hub"

    @property
    def session(self) -> aiohttp.ClientSession:
        assert self._session is not None
        return self._session

    async def __aenter__(self) -> HubProcess:
        settings = CONFIG.format(port=self.port, proxy_port=free_port(), folder=self.folder, token=TOKEN)
        (self.folder / "jupyterhub_config.py").write_text(settings + textwrap.dedent(self.config))
        cluster = {"name": "fake", "cluster": {"server": self.api_url}}
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [cluster],
            "users": [{"name": "nobody", "user": {}}],
            "contexts": [{"name": "here", "context": {"cluster": "fake", "user": "nobody"}}],
            "current-context": "here",
        }
        (self.folder / "kubeconfig").write_text(json.dumps(kubeconfig))
        env = {
            **os.environ,
            "KUBECONFIG": str(self.folder / "kubeconfig"),
            "PYTHONPATH": os.getcwd(),
            "CONFIGPROXY_AUTH_TOKEN": "x",
        }
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "jupyterhub", cwd=self.folder, env=env, stdout=log, stderr=log
            )
        self._session = aiohttp.ClientSession(headers={"Authorization": f"token {TOKEN}"})
        try:
            await asyncio.wait_for(self._until_ready(), 40)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _until_ready(self) -> None:
        assert self.process is not None
        while self.process.returncode is None:
            with contextlib.suppress(aiohttp.ClientError):
                async with self.session.get(f"{self.url}/api/info") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.1)
        raise RuntimeError(f"the Hub ended:\n{self.log.read_text()[-3000:]}")

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self.process.wait(), 8)
            except asyncio.TimeoutError:
                self.process.kill()
                await self.process.wait()

    async def request(self, method: str, path: str, **body: Any) -> tuple[int, Any]:
        """Return the status and the JSON (None when there is none)."""
        async with self.session.request(method, f"{self.url}/api{path}", json=body or None) as answer:
            text = await answer.text()
            with contextlib.suppress(ValueError):
                return answer.status, json.loads(text)
            return answer.status, text or None

    async def launch(self, user: str) -> int:
        """Create a user and ask for their server; return the status of the latter."""
        status, _ = await self.request("POST", f"/users/{user}")
        assert status in (201, 409)
        return (await self.request("POST", f"/users/{user}/server"))[0]

    async def progress(self, user: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the events of a start until it has ended."""
        async with self.session.get(f"{self.url}/api/users/{user}/server/progress") as answer:
            async for line in answer.content:
                if line.startswith(b"data:"):
                    yield json.loads(line[5:])

    async def outcome(self, user: str) -> dict[str, Any]:
        """Wait for the last event of a start."""
        last: dict[str, Any] = {}
        async for event in self.progress(user):
            last = event
        return last

    async def server(self, user: str) -> dict[str, Any]:
        """Return the user's default server as the Hub lists it; empty when there is none."""
        _, found = await self.request("GET", f"/users/{user}?include_stopped_servers")
        server = (found or {}).get("servers", {}).get("", {})
        return server if server.get("ready") or server.get("pending") else {}
