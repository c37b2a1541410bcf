"""What operators see and do: restarts, replicas, health, limits, logs."""

from __future__ import annotations

import asyncio
import json
import re
import signal

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from tests.support.scripted import spec
from tests.support.stack import Service, read, stream


@pytest_asyncio.fixture
async def own_service(hub):
    """Makes services with settings of their own, and stops them."""
    made = []

    async def make(name="own", **config):
        service = await Service(hub, name=f"{name}-{len(made)}", **config).start()
        made.append(service)
        return service

    yield make
    for service in made:
        service.stop()


async def health(service, path="health"):
    async with aiohttp.ClientSession() as session, session.get(service.url + path) as answer:
        return answer.status, await answer.json()


@pytest.mark.parametrize("stage", ["building", "launching", "ready"])
@pytest.mark.parametrize("back_to", ["the same service", "another replica"])
async def test_a_launch_survives_the_service(hub, own_service, stage, back_to):
    service = await own_service()
    replica = await own_service() if back_to == "another replica" else None
    url = service.build_url(name=f"survive-{stage}", lines=3, build=1, spawn=2)
    seen = await read(url, until=lambda e: {"building": e["message"] == "line 1\n",
                                            "launching": e["message"] == "Server requested\n"}.get(stage))  # fmt: skip
    service.process.signal(signal.SIGKILL)
    service.process.popen.wait()
    if replica is None:
        await service.start()
    else:
        url = url.replace(service.url, replica.url)
    # `ready` was sent, but the reader did not get it
    last = seen[-2] if stage == "ready" else seen[-1]
    events = await read(url, last_event_id=last.id)
    assert events[-1]["phase"] == "ready"
    assert len(await hub.users()) == 1 and len(await hub.servers()) == 1
    numbers = [int(e.id.split(".")[1]) for e in events]
    assert numbers[0] == int(last.id.split(".")[1]) + 1, "the numbers go on"
    if stage == "ready":
        assert events[-1]["url"] == seen[-1]["url"] and events[-1]["token"] == seen[-1]["token"]
    else:
        assert hub.count("spawn " + events[-1]["repo_url"]) == 1


async def test_a_replica_that_nobody_watches_leaves_the_launch_to_the_other(hub, own_service):
    first = await own_service(Launcher__abandon_timeout=2.0)
    second = await own_service(Launcher__abandon_timeout=2.0)
    url = first.build_url(lines=0, spawn=7)
    seen = await read(url, until=lambda e: e["message"] == "Server requested\n")
    events = await read(url.replace(first.url, second.url), last_event_id=seen[-1].id)
    assert events[-1]["phase"] == "ready"
    await asyncio.sleep(3)
    assert len(await hub.servers()) == 1


@pytest.mark.parametrize("resumed", [True, False])
async def test_a_page_that_is_reloaded_at_once_onto_another_replica_says_that_it_resumes(
    hub, own_service, resumed
):
    first, second = await own_service(), await own_service()
    of = spec(lines=0, spawn=3)
    page = URL(f"{first.url}v2/test/{of}", encoded=True)
    async with aiohttp.ClientSession() as session, session.get(page) as answer:
        config = re.search(r'id="launch-config"[^>]*>(.*?)</script>', await answer.text(), re.S)
    ticket = json.loads(config[1])["ticket"]
    url = first.build_url(of) + f"?launch={ticket}"
    await read(url, until=lambda e: e["message"] == "Server requested\n")
    url = url.replace(first.url, second.url) + ("&resumed=true" if resumed else "")
    events = await read(url)
    assert events[-1]["phase"] == "ready" and len(await hub.servers()) == 1
    gone_on = any(event["message"].startswith("Going on with the server") for event in events)
    assert gone_on is resumed and hub.count("resolve " + events[-1]["repo_url"]) == (1 if resumed else 2)


async def test_sigterm_tells_readers_to_come_back_and_ends_in_time(hub, own_service):
    service = await own_service(Launcher__shutdown_timeout=4.0)
    async with stream(service.build_url(lines=0, spawn="never")) as (answer, _):
        raw = b""
        async for chunk in answer.content.iter_any():
            raw += chunk
            if b"Server requested" in raw and b"goodbye" not in raw:
                service.process.signal(signal.SIGTERM)
                raw += b"goodbye"
    assert re.fullmatch(rb".*goodbye(:keepalive\n\n)*retry: \d+\n\n", raw, re.S)
    assert await asyncio.to_thread(service.process.popen.wait, 5) == 0
    assert len(await hub.users()) == 1, "the launch is handed over, not removed"


@pytest.mark.parametrize("what", ["resolve", "hook"])
async def test_sigterm_ends_in_time_also_when_a_part_does_not_end(hub, own_service, what):
    service = await own_service(name=f"stubborn-{what}", Launcher__shutdown_timeout=2.0)
    url = service.build_url(lines=0, **{what: "stubborn"})
    repo_url = f"http://repos.test/repo?lines=0&{what}=stubborn"
    async with stream(url):
        while not hub.count(f"{what} {repo_url}"):  # noqa: ASYNC110 - a file has nothing to wait for
            await asyncio.sleep(0.05)
        service.process.signal(signal.SIGTERM)
        assert await asyncio.to_thread(service.process.popen.wait, 5) == 0
    # a look-up has no owner any more who would wait for it
    assert ("Not everything has ended within 2 s" in service.process.text) is (what == "hook")


async def test_a_crowd_that_comes_in_one_moment_is_let_in_at_once(hub, own_service):
    service = await own_service()
    # stopped, it accepts nobody: whoever gets a connection now stands in its queue
    service.process.signal(signal.SIGSTOP)
    try:
        coming = (asyncio.open_connection("127.0.0.1", service.port) for _ in range(500))
        # those that do not fit in would be through after 1 s, if they were
        streams = await asyncio.wait_for(asyncio.gather(*coming), 0.9)
    finally:
        service.process.signal(signal.SIGCONT)
    for _, writer in streams:
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answers = await asyncio.wait_for(asyncio.gather(*(reader.read() for reader, _ in streams)), 30)
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
    for _, writer in streams:
        writer.close()


async def test_a_new_process_removes_what_a_killed_one_left(hub, own_service):
    service = await own_service()
    await read(
        service.build_url(lines=0, spawn="never"), until=lambda e: e["message"] == "Server requested\n"
    )
    ready = (await read(service.build_url(name="used", lines=0)))[-1]
    await hub.request("POST", "users/somebody-else-0123456789ab")
    service.process.signal(signal.SIGKILL)
    service.process.popen.wait()
    later = await own_service(Launcher__launch_timeout=-59, Launcher__sweep_interval=0.5)
    users = await hub.has(2, 20)
    assert sorted(user["name"] for user in users) == sorted(
        [ready["url"].rstrip("/").rpartition("/")[2], "somebody-else-0123456789ab"]
    )
    assert "Found 1 temporary users" in later.process.text


async def test_health_says_what_is_wrong_and_liveness_does_not_fail_for_the_hub(hub, own_service):
    service = await own_service()
    status, model = await health(service)
    assert status == 200 and model["ok"]
    assert {check["service"] for check in model["checks"]} >= {
        "JupyterHub API",
        "Launches",
        "Clean-up",
        "Sweep for leftovers",
    }
    lost = Service(hub, name="lost", api_url="http://127.0.0.1:1/hub/api/")
    await lost.start()
    try:
        status, model = await health(lost)
        assert status == 503 and not model["ok"]
        assert (await health(lost, "health/live")) == (200, {"ok": True})
    finally:
        lost.stop()


async def test_launches_wait_in_line_while_the_hub_is_away_and_end_readably(hub, own_service):
    service = Service(hub, name="away", api_url="http://127.0.0.1:1/hub/api/", Launcher__launch_timeout=6)
    await service.start()
    try:
        results = await asyncio.gather(*(read(service.build_url(lines=0), seconds=20) for _ in range(6)))
        for events in results:
            assert events[-1]["error"]["code"] == "hub.unreachable"
            assert events[-1]["elapsed"] < 6 + 5
        queues = [e["queue"] for events in results for e in events if "queue" in e]
        assert queues and all(q["reason"] == "unreachable" and q["position"] >= 1 for q in queues)
        assert (await service.metrics())["binderhub_ext_hub_breaker_state"] == 2
    finally:
        service.stop()


async def test_an_address_has_its_limits(hub, own_service):
    service = await own_service(Launcher__launches_per_address=2, Launcher__watchers_per_address=3)
    async with stream(service.build_url(lines=0, spawn="never")) as (_, first):
        seen = await first.__anext__()
        async with stream(service.build_url(name="b", lines=0, spawn="never")) as (_, second):
            await second.__anext__()
            third = await read(service.build_url(name="c", lines=0))
            assert third[-1]["error"]["code"] == "rate.limited"
            url = service.build_url(lines=0, spawn="never") + f"?launch={seen['ticket']}"
            async with stream(url) as (_, again):
                await again.__anext__()
                assert (await read(url))[-1]["error"]["code"] == "rate.limited"


async def test_no_ticket_and_no_token_is_ever_logged(hub, own_service):
    service = await own_service(BinderHub__debug=True)
    url = service.build_url(lines=0)
    events = await read(url)
    await read(f"{url}?launch={events[0]['ticket']}&build_token=&last_event_id={events[0].id}")
    await read(f"{url}?launch=forged-ticket&token=very-secret&_xsrf=of-a-session")
    await read(service.build_url(lines=0, spawn="fail"))
    log = service.process.text
    assert "200 GET /build" in log
    for secret in (events[0]["ticket"], events[-1]["token"], "forged-ticket", "very-secret", "of-a-session",
                   hub.settings["service_token"]):  # fmt: skip
        assert secret not in log
    async with aiohttp.ClientSession() as session, session.get(service.url + "metrics") as answer:
        text = await answer.text()
    assert events[0]["ticket"] not in text and events[-1]["token"] not in text


async def test_failed_launches_leave_nothing_and_retries_are_seen(hub, service):
    events = await read(service.build_url(lines=0, spawn="fail", why="exit code 1"))
    assert events[-1]["error"]["code"] == "server.crashed"
    events = await read(service.build_url(name="flaky", lines=0, flaky=2))
    assert events[-1]["phase"] == "ready"
    assert sum("retrying" in e["message"] for e in events) == 2
    await hub.has(1)


async def test_a_build_waits_for_a_slot_and_says_its_place(hub, own_service):
    service = await own_service(BinderHub__concurrent_build_limit=1, Launcher__build_slot_timeout=5.0)
    first = asyncio.create_task(read(service.build_url(name="a", lines=1, build=2)))
    await read(service.build_url(name="a", lines=1, build=2), until=lambda e: e["message"] == "line 0\n")
    second = await read(service.build_url(name="b", lines=1))
    assert second[-1]["phase"] == "ready"
    assert [e["queue"] for e in second if "queue" in e] == [{"position": 1, "reason": "builds"}]
    assert (await first)[-1]["phase"] == "ready"
    third = asyncio.create_task(read(service.build_url(name="c", lines=1, build=30), until=lambda e: 0))
    await asyncio.sleep(0.5)
    fourth = await read(service.build_url(name="d", lines=1))
    assert fourth[-1]["error"]["code"] == "build.no_slot"
    third.cancel()
