"""The event stream, as its readers see it: a real Hub, a real service, real sockets."""

from __future__ import annotations

import asyncio
import json
import re

import aiohttp
import pytest

from tests.support.scripted import spec
from tests.support.stack import Service, read, stream


def texts(events):
    return [event.get("message", "") for event in events]


async def server_answers(ready) -> bool:
    headers = {"Authorization": f"token {ready['token']}"}
    async with aiohttp.ClientSession() as session:
        async with session.get(ready["url"] + "api/status", headers=headers) as answer:
            return answer.status == 200


async def test_a_launch_ends_in_a_running_server(hub, service):
    events = await read(service.build_url(lines=2, say="Pulling image"))
    assert [e["phase"] for e in events if "Server requested" not in e["message"]] == [
        "waiting", "waiting", "building", "building", "built", "launching", "launching", "ready",
    ]  # fmt: skip
    assert "Pulling image\n" in texts(events)
    ready = events[-1]
    assert ready["url"].startswith(hub.url + "user/repo-") and ready["url"].endswith("/")
    assert await server_answers(ready)
    users = await hub.users()
    assert len(users) == 1 and users[0]["server"] is not None


async def test_the_ready_event_has_every_key_that_readers_know(hub, service):
    ready = (await read(service.build_url(lines=0)))[-1]
    for key in (
        "message", "url", "token", "image", "repo_url", "binder_ref_url", "binder_launch_host",
        "binder_request", "binder_persistent_request", "binder_client_ip",
    ):  # fmt: skip
        assert ready[key], key
    assert list(ready)[:2] == ["phase", "message"]
    assert ready["message"] == f"server running at {ready['url']}\n"
    assert ready["binder_launch_host"] == service.url
    assert ready["binder_request"] == f"v2/test/{spec(lines=0)}"
    server = (await hub.users())[0]["servers"][""]
    assert {k: v for k, v in ready.items() if k in server["user_options"]} == server["user_options"]


async def test_each_event_is_one_data_line_with_phase_first_and_no_event_line(hub, service):
    async with stream(service.build_url(lines=3)) as (answer, _):
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["cache-control"] == "no-cache"
        raw = b""
        async for chunk in answer.content.iter_any():
            raw += chunk
            if re.search(rb'"phase": "(ready|failed)"', raw):
                break
    for block in raw.decode().strip().split("\n\n"):
        *other, data = block.split("\n")
        assert all(line.startswith(("id: ", "retry: ", ":")) for line in other)
        if not data.startswith(("retry: ", ":")):
            assert data.startswith('data: {"phase": "')
            assert json.dumps(json.loads(data.removeprefix("data: "))) == data.removeprefix("data: ")


@pytest.mark.parametrize("cut_at", ["resolving", "building", "launching"])
async def test_reconnect_replays_only_missed_events_and_ends_in_the_same_server(hub, service, cut_at):
    url = service.build_url(name=cut_at, lines=8, every=0.1, spawn=1, say="still starting")
    whole = await read(url, until=lambda e: e.get("stage") == cut_at and e["phase"] != "built")
    if cut_at == "building":
        whole = await read(url, last_event_id=whole[-1].id, until=lambda e: e["message"] == "line 3\n")
        before = await read(url, last_event_id=whole[-1].id, until=lambda e: e["message"] == "line 5\n")
        assert texts(before) == ["line 4\n", "line 5\n"]
        whole = before
    after = await read(url, last_event_id=whole[-1].id)
    ids = [event.id for event in (*whole, *after)]
    numbers = [int(i.split(".")[1]) for i in ids]
    assert numbers == list(range(numbers[0], numbers[-1] + 1)), "nothing twice, nothing missing"
    assert after[-1]["phase"] == "ready"
    assert len(await hub.users()) == 1 and len(await hub.servers()) == 1
    assert hub.count("spawn " + after[-1]["repo_url"]) == 1


async def test_a_reload_with_the_ticket_shows_the_same_launch_from_its_start(hub, service):
    url = service.build_url(lines=2, spawn=0.5)
    first = await read(url, until=lambda e: e["phase"] == "built")
    again = await read(f"{url}?launch={first[0]['ticket']}")
    assert texts(again)[: len(first)] == texts(first)
    once_more = await read(f"{url}?launch={first[0]['ticket']}")
    assert once_more[-1]["url"] == again[-1]["url"] and once_more[-1]["token"] == again[-1]["token"]
    assert len(await hub.users()) == 1


@pytest.mark.parametrize("how", ["header", "query"])
async def test_whoever_comes_back_after_the_end_is_told_to_stop(hub, service, how):
    url = service.build_url(lines=0, resolve="none")
    failed = (await read(url))[-1]
    assert failed["phase"] == "failed" and failed.id.endswith(".end")
    if how == "query":
        async with stream(f"{url}?last_event_id={failed.id}") as (answer, _):
            assert answer.status == 204
    else:
        async with stream(url, last_event_id=failed.id) as (answer, _):
            assert answer.status == 204


async def test_the_stream_stays_open_after_the_last_event(hub, service):
    async with stream(service.build_url(lines=0)) as (_, events):
        async for event in events:
            if event["phase"] == "ready":
                break
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(events.__anext__(), 1.0)


async def test_two_tabs_share_one_build_see_all_of_its_log_and_get_a_server_each(hub, service):
    url = service.build_url(lines=10, every=0.1)
    early = asyncio.create_task(read(url))
    middle = await read(url, until=lambda e: e["message"] == "line 5\n")
    late = asyncio.create_task(read(url))
    first, second = await early, await late
    lines = [f"line {i}\n" for i in range(10)]
    assert [t for t in texts(first) if t.startswith("line")] == lines
    assert [t for t in texts(second) if t.startswith("line")] == lines
    assert [t for t in texts(middle) if t.startswith("line")] == lines[:6]
    assert first[-1]["url"] != second[-1]["url"] and first[-1]["token"] != second[-1]["token"]
    assert hub.count("build " + first[-1]["repo_url"]) == 1


async def test_fifty_tabs_start_one_build_and_resolve_once(hub, service):
    url = service.build_url(name="fifty", lines=3, build=1.5, buildfails=1, resolve="slow")
    results = await asyncio.gather(*(read(url) for _ in range(50)))
    assert {events[-1]["error"]["code"] for events in results} == {"build.failed"}
    repo = "http://repos.test/fifty?lines=3&build=1.5&buildfails=1&resolve=slow"
    assert hub.count("build " + repo) == 1
    assert hub.count("resolve " + repo) <= 5
    assert await hub.users() == []


async def test_a_build_that_nobody_watches_goes_on_for_the_next(hub, service):
    url = service.build_url(name="alone", lines=2, build=2)
    await read(url, until=lambda e: e["message"] == "line 1\n")
    await asyncio.sleep(1.5)  # longer than the time after which the launch is given up
    events = await read(url)
    assert events[-1]["phase"] == "ready"
    assert hub.count("build http://repos.test/alone?lines=2&build=2") == 1


async def test_a_late_comer_to_a_given_up_launch_is_told_so(hub, service):
    url = service.build_url(name="given-up", lines=0, spawn="never")
    seen = await read(url, until=lambda e: e["message"] == "Server requested\n")
    assert len(await hub.users()) == 1
    await hub.empty(15)
    events = await read(url, last_event_id=seen[-1].id)
    assert events[-1]["error"]["code"] == "launch.abandoned" and events[-1]["error"]["retryable"]


BAD = {
    "unknown provider": ("nonsense", "a/b", "provider.unknown"),
    "a spec of the wrong form": ("test", "no-ref", "spec.invalid"),
    "a ref that does not exist": ("test", spec(resolve="none"), "ref.not_found"),
    "HEAD of a repository without commits": ("test", spec(resolve="none", ref="HEAD") + "x", "ref.not_found"),
    "a repository that is private or gone": ("test", spec(resolve="gone"), "repo.not_found"),
    "a host that is down": ("test", spec(resolve="unreachable"), "repo.unreachable"),
    "a provider that breaks": ("test", spec(resolve="odd"), "internal"),
    "a banned repository": ("test", spec(banned=1), "repo.banned"),
    "requirements that do not install": ("test", spec(buildfails=1), "build.failed"),
    "a builder that breaks": ("test", spec(buildcrash=1), "build.interrupted"),
    "NUL in a spec": ("test", "a%00b/main", "spec.invalid"),
    "a spec of 5,000 characters": ("test", "x" * 5000 + "/main", "spec.invalid"),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_input_is_answered_readably_and_leaves_nothing(hub, service, name):
    prefix, of, code = BAD[name]
    before = service.log.stat().st_size
    events = await read(service.build_url(of, prefix=prefix))
    last = events[-1]
    assert last["phase"] == "failed" and last["message"].endswith("\n")
    assert last["error"]["code"] == code
    assert last["error"]["title"] and last["error"]["hint"] and last["error"]["reference"]
    assert await hub.users() == []
    log = service.log.read_text()[before:]
    assert ("Traceback" in log) == (code == "internal")
    if code == "internal":
        assert last["error"]["reference"] in log


@pytest.mark.parametrize(
    "name",
    ["Grüße-世界-🚀", "e\u0301" * 20, "x" * 300, "..", "../../etc", "a b\tc", "-rf", "\u202eevil", "%2e%2e"],
)
async def test_names_of_every_kind_launch(hub, service, name):
    events = await read(service.build_url(name=name))
    assert events[-1]["phase"] == "ready", events[-1]
    assert re.fullmatch(r"[a-z0-9-]+", (await hub.users())[0]["name"])
    assert await server_answers(events[-1])


async def test_forged_and_foreign_tickets_and_ids_are_refused(hub, service):
    url = service.build_url(name="mine", resolve="none")
    ticket = (await read(url))[0]["ticket"]
    other = service.build_url(name="other", resolve="none")
    forged = ("A" if ticket[20] != "A" else "B").join((ticket[:20], ticket[21:]))
    for address, options in [
        (f"{url}?launch={forged}", {}),
        (f"{url}?launch=x", {}),
        (f"{other}?launch={ticket}", {}),
        (url, {"last_event_id": f"{forged}.3"}),
        (url, {"last_event_id": "no such id"}),
        (url, {"last_event_id": f"{ticket}.{'9' * 40}"}),
        (other, {"last_event_id": f"{ticket}.1"}),
    ]:
        events = await read(address, **options)
        assert [e["error"]["code"] for e in events] == ["ticket.invalid"], (address, options)
    assert await hub.users() == []


async def test_an_id_with_a_number_from_the_future_gets_the_end(hub, service):
    url = service.build_url(name="future", resolve="none")
    ticket = (await read(url))[0]["ticket"]
    events = await read(url, last_event_id=f"{ticket}.999999")
    assert [e["phase"] for e in events] == ["failed"]


@pytest.mark.parametrize(
    "accept, welcome",
    [
        ("text/event-stream", True),
        ("text/event-stream, */*", True),
        ("text/html, text/event-stream;q=0.9", True),
        ("TEXT/EVENT-STREAM", True),
        ("*/*", False),
        ("text/html", False),
        ("text/event-stream;q=0", False),
    ],
)
async def test_only_readers_of_event_streams_are_let_in(hub, service, accept, welcome):
    events = await read(service.build_url(resolve="none"), headers={"Accept": accept})
    assert (events[-1]["error"]["code"] == "ref.not_found") == welcome
    if not welcome:
        assert events[-1]["status_code"] == 400 and "Accept" in events[-1]["message"]


async def test_pages_of_other_origins_may_send_the_last_event_id(hub, service):
    async with aiohttp.ClientSession() as session:
        async with session.options(
            service.build_url(resolve="none"), headers={"Origin": "http://other.test"}
        ) as answer:
            assert answer.status < 300
            allowed = answer.headers["access-control-allow-headers"]
            assert "last-event-id" in allowed and "cache-control" in allowed
            assert answer.headers["access-control-allow-origin"] == "*"


async def test_a_line_of_10_mb_and_invalid_text_harm_nobody(hub, service):
    events = await read(service.build_url(name="big", bigline=10_000_000, lines=1))
    assert events[-1]["phase"] == "ready"
    assert max(len(t) for t in texts(events)) < 40_000
    assert any("left out" in t for t in texts(events))


@pytest.mark.parametrize("asked", [False, True], ids=["as ever", "with events for scripts"])
async def test_a_silent_stream_is_kept_alive_by_comments_and_by_events_only_where_they_are_asked_for(
    hub, asked
):
    service = await Service(hub, name="silent", Launcher__keepalive_interval=0.2).start()
    try:
        url = service.build_url(lines=0, spawn="never") + ("?keepalive=event" if asked else "")
        raw = b""
        async with stream(url) as (answer, _):
            async for chunk in answer.content.iter_any():
                raw += chunk
                if raw.count(b":keepalive\n\n") >= 3:
                    break
    finally:
        service.stop()
    assert raw.count(b"event: keepalive\ndata: {}\n\n") in ({2, 3} if asked else {0})
    assert raw.count(b"event:") == raw.count(b"event: keepalive\n")
