"""What BinderHub's main branch lets operators configure goes on working. Needs that branch: `make test-binderhub`."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest
import pytest_asyncio
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from binderhub_ext.upstream import IS_MAIN
from tests.support.scripted import spec
from tests.support.stack import Hub, Service, read

pytestmark = pytest.mark.skipif(not IS_MAIN, reason="binderhub 0.1.0 has none of this")


@pytest_asyncio.fixture
async def serve(hub):
    made = []

    async def serve(environment=None, **config):
        service = Service(hub, name=f"main-{len(made)}", **config)
        service.environment = environment or {}
        made.append(service)
        return await service.start()

    yield serve
    for service in made:
        service.stop()


async def get(url, **headers):
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status, await answer.text(), answer.headers


def code(events):
    return events[-1].get("error", {}).get("code", events[-1]["phase"])


async def test_build_tokens_and_the_rate_limit(serve):
    import jwt

    service = await serve(RateLimiter__limit=1, BinderHub__build_token_secret="00" * 32)
    of = spec(lines=0)
    url = service.build_url(of)
    assert code(await read(f"{url}?build_token=nonsense")) == "request.forbidden"
    claims = {"exp": 9999999999, "aud": f"test/{of}", "origin": service.url.split("/")[2]}
    token = jwt.encode(claims, key=bytes(32), algorithm="HS256")
    for _ in range(3):
        assert code(await read(f"{url}?build_token={token}")) == "ready"
    foreign = jwt.encode({**claims, "origin": "evil.test"}, key=bytes(32), algorithm="HS256")
    assert code(await read(f"{url}?build_token={foreign}")) == "request.forbidden"
    assert code(await read(url)) == "ready"
    limited = await read(url)
    assert code(limited) == "rate.limited" and limited[-1]["status_code"] == 429


async def test_banned_networks_and_banned_repositories(serve):
    service = await serve(BinderHub__ban_networks={"127.0.0.0/8": "this machine"})
    events = await read(service.build_url(lines=0))
    assert code(events) == "request.forbidden" and "this machine" in events[-1]["message"]
    assert (await get(service.url + "versions"))[0] == 200
    other = await serve(ScriptedProvider__banned_specs=[".*evil.*"])
    assert code(await read(other.build_url(name="evil", lines=0))) == "repo.banned"
    assert code(await read(other.build_url(name="good", lines=0))) == "ready"


@pytest.mark.parametrize("status, expected", [("pod_quota", "quota.hub"), ("repo_quota", "quota.repo")])
async def test_quotas_refuse_and_are_counted_apart_from_failures(hub, serve, status, expected):
    service = await serve(Tests__quota=status)
    events = await read(service.build_url(lines=0))
    assert code(events) == expected and events[-1]["message"] == "Too many users! Try again soon.\n"
    assert not any(event["phase"] == "built" for event in events), "no build for a server that cannot start"
    metrics = await service.metrics()
    counted = {name for name in metrics if name.startswith("binderhub_launch_count_total")}
    assert any(f'status="{status}"' in name for name in counted)
    assert not any('status="failure"' in name for name in counted)
    assert metrics['binderhub_ext_launch_outcomes_total{outcome="refused"}'] == 1


async def test_a_launch_waits_for_room_where_that_is_configured(hub, serve):
    service = await serve(Tests__quota="pod_quota", Launcher__quota_wait=30.0)
    reading = asyncio.create_task(read(service.build_url(lines=0)))
    waiting = await read(service.build_url(name="other", lines=0), until=lambda e: "queue" in e)
    assert waiting[-1]["queue"]["reason"] == "quota"
    (hub.state / "room").touch()
    assert code(await reading) == "ready"


async def test_a_quota_that_cannot_be_counted_is_tried_again_and_then_told(hub, serve):
    service = await serve(Tests__quota="uncounted")
    assert code(await read(service.build_url(lines=0))) == "ready"
    events = await read(service.build_url(lines=0, quota="down"))
    assert code(events) == "cluster.unreachable"
    assert (
        f"[{events[-1]['error']['reference']}] (ApiException: (500) Reason: etcdserver"
        in service.process.text
    )


async def test_the_registry_is_asked_and_its_absence_told(serve):
    there = {"tags": set()}

    class Manifest(RequestHandler):
        def get(self, image, tag):
            there["tags"].add(tag)
            self.set_status(200 if there.get("built") else 404)
            self.finish({"schemaVersion": 2})

    sockets = bind_sockets(0, "127.0.0.1")
    server = HTTPServer(Application([(r"/v2/(.+)/manifests/(.+)", Manifest)]))
    server.add_sockets(sockets)
    address = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    config = {
        "BinderHub__use_registry": True,
        "BinderHub__image_prefix": "registry.test/prefix-",
        "BinderHub__build_class": "tests.support.scripted_main.RegistryBuild",
        "DockerRegistry__url": address,
        "DockerRegistry__token_url": "",
    }
    service = await serve(**config)
    events = await read(service.build_url(lines=1))
    assert code(events) == "ready" and "line 0\n" in [event["message"] for event in events]
    assert events[-1]["image"].startswith("registry.test/prefix-") and there["tags"]
    there["built"] = True
    events = await read(service.build_url(lines=1))
    assert code(events) == "ready" and "line 0\n" not in [event["message"] for event in events]
    server.stop()
    await server.close_all_connections()
    assert code(await read(service.build_url(lines=1))) == "registry.unreachable"


async def test_build_only_needs_api_only_mode_and_ends_with_the_image(hub, serve):
    service = await serve(BinderHub__enable_api_only_mode=True)
    url = service.build_url(lines=1)
    for message in ("Done! Image built\n", "Done! Found built image\n"):
        ready = (await read(f"{url}?build_only=true"))[-1]
        assert ready["phase"] == "ready" and ready["message"] == message
        assert ready["imageName"] and "url" not in ready and "token" not in ready
    assert await hub.users() == []
    assert (await get(service.url + "v2/test/" + spec(lines=0)))[0] == 404
    other = await serve()
    events = await read(other.build_url(lines=1) + "?build_only=true")
    assert code(events) == "request.invalid" and events[-1]["status_code"] == 400


async def test_the_telemetry_event_of_a_launch(hub, serve):
    service = await serve(BinderHub__normalized_origin="binder.test")
    of = spec(name="telemetry", lines=0)
    assert code(await read(service.build_url(of), headers={"Origin": "http://page.test"})) == "ready"
    event = json.loads((hub.state / "telemetry.jsonl").read_text().splitlines()[-1])
    assert event["schema"] == "binderhub.jupyter.org/launch" and event["spec"] == of
    assert event["origin"] == "binder.test" and event["request_origin"] == "http://page.test"


async def test_the_operators_templates_scripts_and_banner_are_on_the_page(serve, tmp_path):
    (tmp_path / "page.html").write_text(
        '{% extends "templates/page.html" %}{% block extra_header %}{{ super() }}<meta name="mine">{% endblock %}'
    )
    service = await serve(
        BinderHub__template_path=str(tmp_path),
        BinderHub__extra_footer_scripts={"a": "window.mine = 1;"},
        BinderHub__banner_message="<b>Down on Sunday</b>",
    )
    status, html, headers = await get(service.url + "v2/test/" + spec(lines=0))
    assert status == 200
    assert '<meta name="mine">' in html and "window.mine = 1;" in html and "<b>Down on Sunday</b>" in html
    assert 'id="launch-config"' in html and "dist/bundle.js" not in html
    assert "nonce-" in headers["Content-Security-Policy"]


@pytest_asyncio.fixture
async def auth_hub(tmp_path):
    hub = Hub(tmp_path / "hub", authenticator="dummy", named_servers=True)
    hub.settings["service"] = {
        "oauth_client_id": "service-binder",
        "oauth_redirect_uri": "http://127.0.0.1/oauth_callback",
    }
    await hub.start()
    yield hub
    hub.stop()


@pytest.mark.parametrize("named", [True, False], ids=["named servers", "one server each"])
async def test_logged_in_people_launch_their_own_servers(auth_hub, named):
    hub = auth_hub
    await hub.request("POST", "users/alice")
    _, model = await hub.request("POST", "users/alice/tokens", json={})
    service = Service(
        hub,
        BinderHub__auth_enabled=True,
        Launcher__allow_named_servers=named,
        Launcher__named_server_limit_per_user=2,
    )
    service.environment = {
        "JUPYTERHUB_API_TOKEN": hub.settings["service_token"],
        "JUPYTERHUB_CLIENT_ID": "service-binder",
        "JUPYTERHUB_SERVICE_PREFIX": "/",
        "JUPYTERHUB_BASE_URL": "/",
        "JUPYTERHUB_OAUTH_CALLBACK_URL": "/oauth_callback",
    }
    await service.start()
    try:
        url, alice = service.build_url(lines=0), {"Authorization": f"token {model['token']}"}
        assert code(await read(url)) == "request.forbidden"
        first = await read(url, headers=alice)
        assert code(first) == "ready", first[-1]
        again = await read(url, headers=alice, last_event_id=first[-2].id)
        assert again[-1]["url"] == first[-1]["url"]
        assert code(await read(url, last_event_id=first[-2].id, headers={})) == "request.forbidden"
        second = await read(url, headers=alice)
        assert code(second) == ("ready" if named else "quota.user")
        third = await read(url, headers=alice)
        assert code(third) == "quota.user" and "already has" in third[-1]["message"]
        users = await hub.users()
        assert [user["name"] for user in users] == ["alice"]
        assert len(users[0]["servers"]) == (2 if named else 1), "nothing of a user's own is removed"
    finally:
        service.stop()
