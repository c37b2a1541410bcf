"""The canary, through a real service and a real Hub: it launches, opens the server, and leaves nothing behind."""

import asyncio
import time

import aiohttp
import pytest
from aiohttp import web

from binderhub_ext.watchdog.canary import Canary, user_of
from binderhub_ext.watchdog.hub import Hub
from tests.support.processes import free_port
from tests.support.stack import Service

pytestmark = pytest.mark.timeout(120)


async def launch(hub, service_url, spec, timeout=40.0, token=None):
    async with aiohttp.ClientSession() as session:
        api = Hub(session, hub.api.rstrip("/"), token or hub.settings["admin_token"])
        return await Canary(session, api, service_url, spec, timeout).run()


def spec_of(service, **options):
    return service.build_url(**options).removeprefix(service.url + "build/")


async def test_a_launch_that_succeeds_leaves_no_user(hub, service):
    result = await launch(hub, service.url, spec_of(service, name="canary", lines=1))
    assert (result.ok, result.code, result.detail) == (True, "", "")
    assert 0 < result.seconds < 40
    assert await hub.users() == []


@pytest.mark.parametrize(
    "options, code",
    [({"buildfails": 1}, "build.failed"), ({"resolve": "none"}, "ref.not_found"), ({"spawn": "fail"}, None)],
)
async def test_a_launch_that_fails_beside_the_hub_does_not_blame_it(hub, service, options, code):
    result = await launch(hub, service.url, spec_of(service, name="canary", lines=0, **options))
    assert not result.ok
    assert code is None or result.code == code
    assert result.hub_at_fault is False


async def test_a_hub_that_cannot_be_reached_is_blamed(hub, tmp_path):
    dead = f"http://127.0.0.1:{free_port()}/hub/api/"
    service = await Service(hub, "canary-dead-hub", api_url=dead, Launcher__launch_timeout=3.0).start()
    try:
        result = await launch(hub, service.url, spec_of(service, name="canary", lines=0))
    finally:
        service.stop()
    assert (result.code, result.hub_at_fault) == ("hub.unreachable", True)


async def test_a_service_that_is_not_there_is_not_the_hubs_fault(hub):
    result = await launch(hub, f"http://127.0.0.1:{free_port()}/", "gh/a/b/HEAD")
    assert (result.code, result.hub_at_fault) == ("canary.no_service", False)


async def test_a_launch_without_an_end_is_given_up_at_its_time(hub, service):
    result = await launch(
        hub, service.url, spec_of(service, name="canary", lines=0, spawn="never"), timeout=3.0
    )
    assert result.code == "canary.timeout"
    assert result.hub_at_fault is True
    assert 3.0 <= result.seconds < 5.0


async def test_a_server_that_does_not_stop_holds_it_back_for_no_longer_than_a_launch(hub, service):
    spec, began = spec_of(service, name="canary", lines=0, spawn="hang-stop", hang=20), time.monotonic()
    result = await launch(hub, service.url, spec, timeout=6.0)
    assert result.ok
    assert time.monotonic() - began < 2 * 6.0 + 1.0


async def serve(handler):
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/"


async def test_a_stream_that_is_cut_is_taken_up_where_it_ended(hub):
    """The service's part is played: what matters is what the canary sends when it comes back."""
    seen = []

    async def answer(request):
        if request.path.endswith("/api/status"):
            return (
                web.json_response({})
                if request.headers["Authorization"] == "token t"
                else web.Response(status=403)
            )
        seen.append(request.headers.get("Last-Event-ID", ""))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if len(seen) == 1:
            await response.write(b'id: a-1\ndata: {"phase": "launching", "message": "x"}\n\n')
            return response
        url = f"http://{request.host}/elsewhere/"
        await response.write(
            b'id: a-2\ndata: {"phase": "ready", "url": "%s", "token": "t"}\n\n' % url.encode()
        )
        await asyncio.sleep(5)
        return response

    runner, url = await serve(answer)
    try:
        result = await launch(hub, url, "gh/a/b/HEAD")
    finally:
        await runner.cleanup()
    assert seen == ["", "a-1"]
    assert result.ok


async def test_a_server_that_does_not_answer_blames_hub_or_proxy(hub):
    async def answer(request):
        if "/build/" not in request.path:
            return web.Response(status=503)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        url = f"http://{request.host}/elsewhere/"
        await response.write(b'data: {"phase": "ready", "url": "%s", "token": "t"}\n\n' % url.encode())
        await asyncio.sleep(4)
        return response

    runner, url = await serve(answer)
    try:
        result = await launch(hub, url, "gh/a/b/HEAD", timeout=2.0)
    finally:
        await runner.cleanup()
    assert (result.code, result.hub_at_fault) == ("canary.server", True)
    assert "503" in result.detail


@pytest.mark.parametrize(
    "url, user",
    [
        ("https://hub.example.org/user/jane-repo-abc/", "jane-repo-abc"),
        ("https://hub.example.org/base/user/jane%40x/", "jane@x"),
        ("https://hub.example.org/user/odd/user/jane/", "jane"),
        ("https://hub.example.org/elsewhere/", ""),
    ],
)
def test_the_user_is_read_from_the_servers_address(url, user):
    assert user_of(url) == user
