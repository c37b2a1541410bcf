"""Each fault of the proxy does to real sockets what its name says, and nothing to other requests."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
import pytest_asyncio
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from binderhub_ext.hub.http import ConnectionFailed, HTTPClient
from tests.support.fault_proxy import FaultProxy
from tests.support.proxy_faults import (
    CutEvents,
    Down,
    Garbage,
    Latency,
    LimitData,
    LostAnswer,
    Replaced,
    Request,
    ResetPeer,
    Slicer,
    SlowClose,
    Stalled,
    Status,
    Timeout,
    Truncated,
)

BODY = "0123456789" * 10


class Hello(RequestHandler):
    posted: list[bytes] = []

    def get(self):
        self.write(BODY)

    def post(self):
        self.posted.append(self.request.body)
        self.write(str(len(self.request.body)))


class Events(RequestHandler):
    async def get(self):
        for i in range(5):
            self.write(f"data: {i}\n\n")
            await self.flush()


@pytest_asyncio.fixture
async def target():
    Hello.posted.clear()
    server = HTTPServer(Application([("/events", Events), ("/.*", Hello)]))
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    yield sockets[0].getsockname()[1]
    server.stop()
    await server.close_all_connections()


@pytest_asyncio.fixture
async def proxy(target):
    async with FaultProxy(target) as proxy:
        yield proxy


@pytest.fixture
def client(proxy):
    client = HTTPClient(proxy.url)
    yield client
    client.close()


@contextlib.asynccontextmanager
async def raw(proxy, send=b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"):
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        writer.write(send)
        yield reader
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def read_events(client):
    """Return the body of the event stream as far as it came, and whether it came to its end."""
    body = b""
    try:
        async with client.stream("GET", "events") as (_, chunks):
            async for chunk in chunks:
                body += chunk
    except ConnectionFailed:
        return body, False
    return body, True


async def test_without_faults_nothing_changes(proxy, client):
    assert (await client.request("GET", "hello")).body.decode() == BODY
    assert (await client.request("POST", "hello", b"x" * 300_000)).body == b"300000"
    assert await read_events(client) == (b"".join(b"data: %d\n\n" % i for i in range(5)), True)
    assert proxy.requests == [Request("GET", "/hello"), Request("POST", "/hello"), Request("GET", "/events")]
    assert proxy.connections == 1, "connections are kept alive through it"


async def test_what_is_not_http_is_passed_on():
    async def echo(reader, writer):
        while chunk := await reader.read(100):
            writer.write(chunk.upper())
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with FaultProxy(server.sockets[0].getsockname()[1]) as proxy:
        async with raw(proxy, b"hello") as reader:
            assert await reader.readexactly(5) == b"HELLO"
        async with proxy.on(LimitData(size=2)), raw(proxy, b"hello") as reader:
            assert await reader.read() == b"HE"
    server.close()


async def test_latency_delays_the_answer_or_the_request(proxy, client):
    for direction in "down", "up":
        async with proxy.on(Latency(seconds=0.2, jitter=0.05, direction=direction)):
            began = time.monotonic()
            await client.request("GET", "hello")
            assert 0.15 <= time.monotonic() - began < 1


async def test_timeout_lets_nothing_through_and_closes_after_a_while(proxy, client):
    async with proxy.on(Timeout(seconds=0.2)), raw(proxy) as reader:
        began = time.monotonic()
        assert await reader.read() == b""
        assert time.monotonic() - began >= 0.19


async def test_timeout_without_seconds_hangs_until_it_is_switched_off(proxy):
    fault = await proxy.add(Timeout())
    async with raw(proxy) as reader:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reader.read(), 0.2)
        await proxy.remove(fault)
        assert await reader.read() == b""


async def test_reset_peer_sends_a_real_reset(proxy):
    async with proxy.on(ResetPeer()), raw(proxy) as reader:
        with pytest.raises(ConnectionResetError):
            await reader.read()
    async with (
        proxy.on(ResetPeer(seconds=0.1)),
        raw(proxy, b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n") as reader,
    ):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        with pytest.raises(ConnectionResetError):
            await reader.read()
            await reader.read()


async def test_slicer_cuts_the_answer_into_small_pieces(proxy, client):
    async with proxy.on(Slicer(size=10, seconds=0.01)):
        began = time.monotonic()
        assert (await client.request("GET", "hello")).body.decode() == BODY
        assert time.monotonic() - began >= 0.1


async def test_limit_data_closes_after_so_many_bytes(proxy):
    async with proxy.on(LimitData(size=20)), raw(proxy) as reader:
        assert len(await reader.read()) == 20


async def test_slow_close_keeps_the_connection_open(proxy):
    request = b"GET /hello HTTP/1.0\r\nConnection: close\r\n\r\n"
    async with proxy.on(SlowClose(seconds=0.3)), raw(proxy, request) as reader:
        began = time.monotonic()
        assert (await reader.read()).endswith(BODY.encode())
        assert time.monotonic() - began >= 0.29


async def test_down_refuses_connections_and_ends_those_that_are_open(proxy, client):
    await client.request("GET", "hello")
    async with raw(proxy, b"GET /hello HTTP/1.1\r\n") as reader:
        await proxy.until(lambda: proxy.connections == 2)
        fault = await proxy.add(Down())
        assert await reader.read() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
        with pytest.raises(ConnectionFailed):
            await client.request("GET", "hello")
    await proxy.remove(fault)
    assert (await client.request("GET", "hello")).status == 200


async def test_status_answers_with_body_and_retry_after(proxy, client):
    fault = Status(status=503, body='{"message": "no"}', retry_after=7, method="POST", path="^/hel")
    async with proxy.on(fault):
        assert (await client.request("GET", "hello")).status == 200
        assert (await client.request("POST", "other", b"1")).status == 200
        for _ in range(2):
            answer = await client.request("POST", "hello", b"x" * 200_000)
            assert answer.status == 503 and answer.body == b'{"message": "no"}'
            assert answer.headers["Retry-After"] == "7"
    assert Hello.posted == [b"1"] and fault.hits == 2
    assert (await client.request("POST", "hello", b"2")).status == 200


async def test_garbage_is_no_http(proxy, client):
    async with proxy.on(Garbage()):
        with pytest.raises(ConnectionFailed):
            await client.request("GET", "hello")


async def test_a_truncated_body_is_shorter_than_its_head_says(proxy, client):
    async with proxy.on(Truncated(size=10)):
        async with raw(proxy) as reader:
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            assert b"Content-Length: 100" in head and body == b"0123456789"
        with pytest.raises(ConnectionFailed):
            await client.request("GET", "hello")


async def test_a_stalled_stream_goes_on_when_the_fault_is_switched_off(proxy, client):
    fault = await proxy.add(Stalled(events=2))
    async with client.stream("GET", "events") as (_, chunks):
        body = b""
        while body.count(b"\n\n") < 2:
            body += await chunks.__anext__()
        waiting = asyncio.ensure_future(chunks.__anext__())
        assert not (await asyncio.wait({waiting}, timeout=0.2))[0]
        await proxy.remove(fault)
        body += await waiting
        async for chunk in chunks:
            body += chunk
    assert body.count(b"\n\n") == 5


async def test_an_event_stream_is_cut_after_so_many_events_or_bytes(proxy, client):
    async with proxy.on(CutEvents(events=2)):
        body, whole = await read_events(client)
        assert body == b"data: 0\n\ndata: 1\n\n" and not whole
    async with proxy.on(CutEvents(size=0)):
        body, whole = await read_events(client)
        assert body == b"" and not whole
    async with (
        proxy.on(CutEvents(events=1, reset=True)),
        raw(proxy, b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n") as reader,
    ):
        with pytest.raises(ConnectionResetError):
            while True:
                assert await reader.read(1 << 16)


async def test_a_lost_answer_is_to_a_request_that_was_done(proxy, client):
    async with proxy.on(LostAnswer(method="POST")):
        with pytest.raises(ConnectionFailed):
            await client.request("POST", "hello", b"once")
    assert Hello.posted == [b"once"]


async def test_a_replaced_answer_is_to_a_request_that_was_done(proxy, client):
    async with proxy.on(Replaced(status=409, body="no", method="POST")):
        answer = await client.request("POST", "hello", b"once")
    assert (answer.status, answer.body) == (409, b"no") and Hello.posted == [b"once"]


async def test_only_the_first_few_are_struck_and_some_can_be_let_through(proxy, client):
    fault = Status(status=500, first=2, skip=1, path="hello")
    async with proxy.on(fault):
        statuses = [(await client.request("GET", "hello")).status for _ in range(5)]
    assert statuses == [200, 500, 500, 200, 200]
    assert fault.struck.is_set() and fault.hits == 2


async def test_requests_under_way_can_be_dropped(proxy):
    async with (
        proxy.on(Timeout()),
        raw(proxy) as reader,
        raw(proxy, b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n") as other,
    ):
        await proxy.until(lambda: len(proxy.requests) == 2)
        assert proxy.drop("hello", reset=True) == 1
        with pytest.raises(ConnectionResetError):
            await reader.read()
        assert proxy.drop("other") == 1
        assert await other.read() == b""


async def test_a_target_that_is_down_resets_the_client(target):
    async with FaultProxy(1) as proxy, raw(proxy) as reader:
        with pytest.raises(ConnectionResetError):
            await reader.read()
