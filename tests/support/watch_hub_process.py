"""A real JupyterHub as a process, and what tests ask of its REST API."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class HubProcess:
    """The Hub.

    Parameters
    ----------
    server : str
        Address of the API server that its spawner uses, without credentials.
    spawner : str
        The spawner's class.
    poll_interval : float
        Seconds between the Hub's polls of a server.
    config : dict
        More configuration, "Class.trait" to value.
    scopes : list of str
        What the watchdog's token may do.
    """

    def __init__(
        self,
        server: str,
        folder: Path,
        *,
        spawner: str = "kubespawner.KubeSpawner",
        poll_interval: float = 30,
        config: dict[str, Any] | None = None,
        scopes: tuple[str, ...] = ("list:users", "read:servers"),
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.admin_token, self.watchdog_token = secrets.token_hex(16), secrets.token_hex(16)
        self.facts = {
            "port": self.port,
            "folder": str(folder),
            "spawner": spawner,
            "poll_interval": poll_interval,
            "admin_token": self.admin_token,
            "watchdog_token": self.watchdog_token,
            "watchdog_scopes": list(scopes),
            "config": config or {},
        }
        self.process: asyncio.subprocess.Process | None = None
        self._session: aiohttp.ClientSession | None = None
        (folder / "kubeconfig").write_text(json.dumps(kubeconfig(server)))

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hub/api"

    async def __aenter__(self) -> HubProcess:
        self._session = aiohttp.ClientSession(headers={"Authorization": f"token {self.admin_token}"})
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self.end()
        await self._session.close()

    async def gone(self, user: str) -> bool:
        """Ask for a user's removal; return whether the Hub says that it is gone."""
        try:
            return (await self.call("DELETE", f"/users/{user}", timeout=5.0))[0] in (204, 404)
        except asyncio.TimeoutError:
            return False

    def freeze(self) -> None:
        """Stop the Hub's process where it stands: it accepts connections and never answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    async def call(self, method: str, path: str, timeout: float = 20.0, **how: Any) -> tuple[int, Any]:
        """Ask the Hub as an administrator; return the status and the JSON, if any."""
        assert self._session is not None
        limit = aiohttp.ClientTimeout(total=timeout)
        async with self._session.request(method, self.api_url + path, timeout=limit, **how) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text.startswith(("{", "[")) else text

    async def server(self, user: str) -> dict[str, Any] | None:
        """Return the Hub's word on a user's default server; None when it knows none."""
        status, model = await self.call("GET", f"/users/{user}")
        return model["servers"].get("") if status == 200 else None

    async def start_server(self, user: str) -> int:
        """Ask for a server; 0 when the Hub did not say yet what becomes of it."""
        await self.call("POST", f"/users/{user}")
        try:
            return (await self.call("POST", f"/users/{user}/server", timeout=3.0, json={}))[0]
        except asyncio.TimeoutError:
            return 0

    async def request_start(self, user: str) -> bool:
        """Ask once for a server; return whether the Hub took the request."""
        return (await self.call("POST", f"/users/{user}/server", timeout=60.0, json={}))[0] in (201, 202)

    async def request_stop(self, user: str) -> bool:
        """Ask once that a server is stopped; return whether the Hub took the request."""
        return (await self.call("DELETE", f"/users/{user}/server", timeout=60.0))[0] in (202, 204, 404)

    async def until_ready(self, user: str, seconds: float = 20.0) -> None:
        async def ready() -> bool:
            server = await self.server(user)
            return bool(server and server["ready"])

        await until(ready, seconds, f"the server of {user} is ready")

    async def until_answers(self, seconds: float = 60.0) -> None:
        async def answers() -> bool:
            with contextlib.suppress(aiohttp.ClientError, asyncio.TimeoutError):
                return (await self.call("GET", "/", timeout=1.0))[0] == 200
            return False

        await until(answers, seconds, "the Hub answers")

    def log(self) -> str:
        return (self.folder / "hub.log").read_text()

    async def launch(self) -> None:
        """Start the process; the users and servers that it has known before are there again."""
        environment = {
            **os.environ,
            "WATCH_HUB": json.dumps(self.facts),
            "KUBECONFIG": str(self.folder / "kubeconfig"),
            "PYTHONPATH": str(ROOT),
            "CONFIGPROXY_AUTH_TOKEN": "unused",
        }
        with (self.folder / "hub.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "jupyterhub", "-f", str(ROOT / "tests/support/watch_hub_config.py")),
                cwd=self.folder,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def end(self) -> None:
        """End the process."""
        process = self.process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.terminate()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), 2.0)
                return
            process.kill()
        await process.wait()


def kubeconfig(server: str, user: dict[str, Any] | None = None, **cluster: Any) -> dict[str, Any]:
    """Return a configuration of Kubernetes clients; `user`: the credentials, none by default."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "test", "user": user or {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }


async def until(condition: Any, seconds: float, what: str, every: float = 0.05) -> float:
    """Wait until `condition()` is true; return the seconds that it took.

    Raises
    ------
    AssertionError
        When it did not become true in time.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    while True:
        result = condition()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return loop.time() - started
        assert loop.time() - started < seconds, f"not within {seconds} s: {what}"
        await asyncio.sleep(every)
