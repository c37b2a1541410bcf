"""Event streams through Debian's nginx: with the shipped settings, and with nginx's defaults.

What is scaled: a launch of three minutes with silent minutes in it takes nine seconds here, so that every time is
divided by twenty: the service's keep-alive (15 s) and nginx's default `proxy_read_timeout` (60 s), which is written
out as 3 s where nginx's defaults are tested. The shipped settings are used as they are. With SLOW_TESTS=1 nothing is
scaled.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from pathlib import Path

import pytest

from tests.support.processes import Process, free_port
from tests.support.stack import Service, stream
from tests.support.watch_chart import ROOT

SHIPPED = ROOT / "helm-chart/values/nginx-location.conf"
SPEEDS = [
    pytest.param(20, id="twenty times as fast"),
    pytest.param(
        1, id="in real time", marks=pytest.mark.skipif(not os.environ.get("SLOW_TESTS"), reason="9 minutes")
    ),
]
pytestmark = pytest.mark.timeout(400)


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


async def launch(url: str, seconds: float):
    """Follow a stream as a browser does; return the events and how many connections it took."""
    events, last, connections = [], "", 0
    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline:
        connections += 1
        with contextlib.suppress(Exception):  # noqa: BLE001 - however a proxy cuts it: a browser comes back
            async with stream(url, last_event_id=last) as (answer, incoming):
                assert answer.status in (200, 502, 504)
                async for event in incoming:
                    events.append(event)
                    last = event.id or last
                    if event["phase"] in ("ready", "failed"):
                        return events, connections
        await asyncio.sleep(0.1)
    raise AssertionError(
        f"no end after {seconds} s and {connections} connections; the last events: {events[-3:]}"
    )


@contextlib.asynccontextmanager
async def serving(hub, speed, keepalive):
    service = await Service(
        hub, f"behind-nginx-{keepalive}", Launcher__keepalive_interval=keepalive / speed
    ).start()
    try:
        yield service
    finally:
        service.stop()


def silent_minutes(service, at, name, speed):
    """Return the link of a launch of three minutes: two silent minutes of building, and one of starting."""
    path = service.build_url(name=name, lines=2, every=60 / speed, spawn=60 / speed).removeprefix(service.url)
    return at + path


def check(events, hub):
    assert events[-1]["phase"] == "ready", events[-1]
    ids = [event.id for event in events]
    assert len(ids) == len(set(ids)), "an event came twice"
    lines = [event["message"] for event in events if event["message"].startswith("line ")]
    assert lines == ["line 0\n", "line 1\n"]


@pytest.mark.parametrize("speed", SPEEDS)
async def test_with_the_shipped_settings_a_launch_arrives_over_one_connection(hub, tmp_path, speed):
    async with serving(hub, speed, 15) as service:
        async with nginx(tmp_path, service.port, SHIPPED.read_text()) as at:
            events, connections = await launch(
                silent_minutes(service, at, "shipped", speed), 400 / speed + 20
            )
    check(events, hub)
    assert connections == 1
    assert len(await hub.users()) == 1


@pytest.mark.parametrize("speed", SPEEDS)
async def test_with_nginx_defaults_the_keep_alive_holds_the_connection(hub, tmp_path, speed):
    async with serving(hub, speed, 15) as service:
        async with nginx(tmp_path, service.port, f"proxy_read_timeout {60 // speed}s;") as at:
            events, _ = await launch(silent_minutes(service, at, "defaults", speed), 400 / speed + 20)
    check(events, hub)
    assert len(await hub.users()) == 1


@pytest.mark.parametrize("speed", SPEEDS)
async def test_with_nginx_defaults_and_no_keep_alive_it_arrives_by_reconnecting(hub, tmp_path, speed):
    """The keep-alive is set so long that nginx gives up first, in every silent minute."""
    async with serving(hub, speed, 1000) as service:
        async with nginx(tmp_path, service.port, f"proxy_read_timeout {50 // speed}s;") as at:
            events, connections = await launch(silent_minutes(service, at, "cut", speed), 400 / speed + 20)
    check(events, hub)
    assert connections >= 3
    assert len(await hub.users()) == 1
