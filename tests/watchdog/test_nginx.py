"""Event streams through Debian's nginx, in real time: with the shipped settings, and with nginx's own defaults.

A launch of more than three minutes, silent for 65 s three times: longer than nginx's default `proxy_read_timeout` of
60 s. Three such launches run at the same time, each through an nginx of its own, and nearly all of it is waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.support.processes import Process, free_port
from tests.support.stack import Event, Hub, Service, stream
from tests.support.watch_chart import ROOT

SHIPPED = (ROOT / "helm-chart/values/nginx-location.conf").read_text()
NGINX_DEFAULTS = ""

NGINX_TIMEOUT = 60.0
"""nginx's default `proxy_read_timeout`, in seconds."""

SILENCE = NGINX_TIMEOUT + 5.0
"""Seconds of building after each of two lines, and of starting the server."""

pytestmark = [pytest.mark.minutes, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@contextlib.asynccontextmanager
async def nginx(folder: Path, upstream: int, location: str):
    """Run nginx before a port; yields its address."""
    program = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None:
        pytest.skip("nginx is missing: Debian's package nginx has it")
    port = free_port()
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    scratch = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    place = f"location / {{\n{location}\nproxy_pass http://127.0.0.1:{upstream};\n}}"
    (folder / "nginx.conf").write_text(
        f"pid {folder}/nginx.pid; error_log {folder}/error.log; daemon off; worker_processes 1;\nevents {{}}\n"
        f"http {{ access_log off;\n{scratch}server {{ listen 127.0.0.1:{port}; {place} }} }}\n"
    )
    process = Process(
        [program, "-p", str(folder), "-c", str(folder / "nginx.conf")], folder / "out.log", {}, folder
    )
    try:
        await process.answers(f"http://127.0.0.1:{port}/metrics")
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.stop()
        process.kill()


@dataclass
class Arrival:
    """How a launch came through.

    Attributes
    ----------
    at : list of float
        Seconds from the first connection to the arrival of each event.
    connections : int
        How many it took.
    """

    events: list[Event] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    connections: int = 0

    async def follow(self, url: str, seconds: float) -> Arrival:
        """Follow a stream as a browser does, to its last event."""
        loop, last = asyncio.get_running_loop(), ""
        began = loop.time()
        while loop.time() < began + seconds:
            self.connections += 1
            # a proxy may cut a stream in the middle of a chunk: a browser comes back
            with contextlib.suppress(aiohttp.ClientError):
                async with stream(url, last_event_id=last) as (answer, incoming):
                    assert answer.status in (200, 502, 504)
                    async for event in incoming:
                        self.events.append(event)
                        self.at.append(loop.time() - began)
                        last = event.id or last
                        if event["phase"] in ("ready", "failed"):
                            return self
            await asyncio.sleep(0.1)
        raise AssertionError(
            f"no end after {seconds} s and {self.connections} connections: {self.events[-3:]}"
        )

    def check(self) -> None:
        """Check that every event came, and once."""
        assert self.events[-1]["phase"] == "ready", self.events[-1]
        ids = [event.id for event in self.events]
        assert len(ids) == len(set(ids)), "an event came twice"
        lines = [event["message"] for event in self.events if event["message"].startswith("line ")]
        assert lines == ["line 0\n", "line 1\n"]
        silences = [after - before for before, after in zip(self.at, self.at[1:], strict=False)]
        assert sum(seconds > NGINX_TIMEOUT for seconds in silences) == 3
        late = [
            at - event["elapsed"]
            for event, at in zip(self.events, self.at, strict=True)
            if "elapsed" in event
        ]
        assert max(late) < NGINX_TIMEOUT / 4, "events were held back"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub(tmp_path_factory):
    hub = await Hub(tmp_path_factory.mktemp("nginx-hub"), start_timeout=120).start()
    yield hub
    hub.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def arrivals(hub, tmp_path_factory):
    """Three launches at the same time, by name."""

    async def launch(name: str, location: str, **settings: float) -> tuple[str, Arrival]:
        service = Service(hub, f"behind-nginx-{name}", **settings)
        try:
            await service.start()
            link = service.build_url(name=name, lines=2, every=SILENCE, spawn=SILENCE)
            async with nginx(tmp_path_factory.mktemp(name), service.port, location) as at:
                url = at + link.removeprefix(service.url)
                return name, await Arrival().follow(url, 3 * SILENCE + 45)
        finally:
            service.stop()

    return dict(
        await asyncio.gather(
            launch("shipped", SHIPPED),
            launch("defaults", NGINX_DEFAULTS),
            # without a keep-alive nginx gives up in each silent minute
            launch("cut", NGINX_DEFAULTS, Launcher__keepalive_interval=1000.0),
        )
    )


async def test_with_the_shipped_settings_a_launch_arrives_over_one_connection(arrivals):
    arrivals["shipped"].check()
    assert arrivals["shipped"].connections == 1


async def test_with_nginx_defaults_a_launch_arrives_too(arrivals):
    arrivals["defaults"].check()


async def test_with_nginx_defaults_and_no_keep_alive_it_arrives_by_reconnecting(arrivals):
    arrivals["cut"].check()
    assert arrivals["cut"].connections >= 4


async def test_coming_back_starts_no_second_server(hub, arrivals):
    assert len(await hub.users()) == len(arrivals)
    for name in arrivals:
        assert [user["name"] for user in await hub.users() if name in user["name"]], name
