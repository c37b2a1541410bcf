"""A real JupyterHub and the service before it, as processes."""

from __future__ import annotations

import asyncio
import json
import secrets
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from binderhub_ext.sse import Decoder
from tests.support.processes import Process, free_port, proxy_command, python
from tests.support.scripted import spec


class Hub:
    """A JupyterHub whose servers are scripted (see `scripted`)."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "state").mkdir(exist_ok=True)
        self.state = folder / "state"
        self.settings: dict[str, Any] = {
            "port": free_port(),
            "hub_port": free_port(),
            "proxy_port": free_port(),
            "proxy_command": proxy_command(),
            "service_token": secrets.token_hex(16),
            "admin_token": secrets.token_hex(16),
            **settings,
        }
        self.process: Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings['port']}/"

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.settings['hub_port']}/hub/api/"

    def environment(self) -> dict[str, str]:
        return {
            "BINDERHUB_EXT_TEST_HUB": json.dumps(self.settings),
            "BINDERHUB_EXT_TEST_STATE": str(self.state),
            "CONFIGPROXY_AUTH_TOKEN": self.settings["admin_token"],
        }

    async def start(self) -> Hub:
        config = Path(__file__).with_name("hub_config.py")
        self.process = Process(
            [python(), "-m", "jupyterhub", "--config", str(config)],
            self.folder / "hub.log",
            self.environment(),
            self.folder,
        )
        await self.process.answers(self.api + "health")
        await self.process.answers(self.url + "hub/api")
        return self

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()
            self.process.kill()

    async def request(self, method: str, path: str, **kwargs: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"token {self.settings['admin_token']}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            async with session.request(method, self.api + path, **kwargs) as answer:
                text = await answer.text()
                return answer.status, json.loads(text) if text.startswith(("{", "[")) else text

    async def users(self) -> list[dict[str, Any]]:
        status, users = await self.request("GET", "users?limit=200")
        assert status == 200, users
        return users

    async def servers(self) -> list[dict[str, Any]]:
        """All servers that the Hub has, pending or ready."""
        return [server for user in await self.users() for server in user["servers"].values()]

    async def has(self, users: int, seconds: float = 10) -> list[dict[str, Any]]:
        """Wait until there are so many users, and return them. Raises when there are not after that time."""
        until = asyncio.get_running_loop().time() + seconds
        while True:
            found = await self.users()
            if len(found) == users:
                return found
            if asyncio.get_running_loop().time() > until:
                raise AssertionError(f"{len(found)} users on the Hub, not {users}: {found}")
            # the Hub's REST API has nothing to wait for: it must be asked
            await asyncio.sleep(0.05)

    async def empty(self, seconds: float = 10) -> None:
        """Wait until there are no users. Raises when there still are some after that time."""
        await self.has(0, seconds)

    async def clear(self) -> None:
        """Remove all users and servers, whoever made them."""
        until = asyncio.get_running_loop().time() + 15
        while (users := await self.users()) and asyncio.get_running_loop().time() < until:
            for user in users:
                for name in user["servers"]:
                    # a pending start ends with its server's DELETE, not with its user's
                    await self.request("DELETE", f"users/{user['name']}/servers/{name}")
                await self.request("DELETE", f"users/{user['name']}")
            await asyncio.sleep(0.05)

    def count(self, what: str) -> int:
        """How often something happened: ``build <repo url>``, ``spawn ...``, ``resolve ...``, ``hook ...``."""
        import hashlib

        path = self.state / ("count-" + hashlib.sha256(what.encode()).hexdigest()[:20])
        return path.stat().st_size if path.exists() else 0


class Service:
    """The BinderHub service, before a Hub."""

    def __init__(self, hub: Hub, name: str = "service", api_url: str = "", **config: Any) -> None:
        self.hub = hub
        self.port = free_port()
        self.base = "/"
        self.log = hub.folder / f"{name}.log"
        self.config = {key.replace("__", "."): value for key, value in config.items()}
        self.api_url = api_url
        self.environment: dict[str, str] = {}
        self.process: Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.base}"

    async def start(self) -> Service:
        settings = {
            "hub_url": self.hub.url,
            "service_token": self.hub.settings["service_token"],
            "base_url": self.base,
            "config": self.config,
        }
        environment = {
            **self.hub.environment(),
            "BINDERHUB_EXT_TEST_SERVICE": json.dumps(settings),
            "JUPYTERHUB_API_URL": self.api_url or self.hub.api,
            **self.environment,
        }
        config = Path(__file__).with_name("binderhub_config.py")
        command = [python(), "-m", "binderhub_ext", "--config", str(config), "--port", str(self.port)]
        self.process = Process(command, self.log, environment, self.hub.folder)
        await self.process.answers(self.url + "metrics")
        return self

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()
            self.process.kill()

    def build_url(self, of: str = "", prefix: str = "test", **options: Any) -> str:
        return f"{self.url}build/{prefix}/{of or spec(**options)}"

    async def metrics(self) -> dict[str, float]:
        """Return all samples of /metrics by their names and labels as they are written."""
        async with aiohttp.ClientSession() as session, session.get(self.url + "metrics") as answer:
            text = await answer.text()
        samples = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in samples}


class Event(dict[str, Any]):
    """The JSON of one event, and its id."""

    id: str = ""


@asynccontextmanager
async def stream(url: str, *, last_event_id: str = "", headers: dict[str, str] | None = None) -> Any:
    """Open an event stream. Yields the answer and an iterator over its events."""
    headers = {"Accept": "text/event-stream", **(headers or {})}
    if last_event_id:
        headers["Last-Event-ID"] = last_event_id
    timeout = aiohttp.ClientTimeout(total=None)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector, read_bufsize=1 << 20) as session:
        async with session.get(_exact(url), headers=headers) as answer:

            async def events() -> Any:
                decoder = Decoder(max_event_bytes=1 << 24)
                async for chunk in answer.content.iter_any():
                    for raw in decoder.feed(chunk):
                        event = Event(raw.json())
                        event.id = raw.id
                        yield event

            yield answer, events()


def _exact(url: str) -> Any:
    from yarl import URL

    return URL(url, encoded=True)


async def read(url: str, *, until: Any = None, seconds: float = 60, **kwargs: Any) -> list[Event]:
    """Read a stream to its last event (or until a predicate holds) and return the events."""
    found: list[Event] = []

    async def run() -> None:
        async with stream(url, **kwargs) as (_, events):
            async for event in events:
                found.append(event)
                if event["phase"] in {"ready", "failed"} or (until and until(event)):
                    return

    try:
        await asyncio.wait_for(run(), seconds)
    except asyncio.TimeoutError:
        raise AssertionError(f"no end after {seconds} s; the last events: {found[-3:]}") from None
    return found
