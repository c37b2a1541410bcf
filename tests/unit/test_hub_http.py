"""Connections to the Hub: used again where that is possible, closed where nobody waits any more."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from binderhub_ext.hub import http
from binderhub_ext.hub.http import HTTPClient


@asynccontextmanager
async def server(*chunks: bytes, ends_after: float | None = 0.0):
    """Answer each request with these chunks, and end the answer after a while, or never (None)."""
    connections = []

    async def serve(reader, writer):
        connections.append(writer)
        while await reader.readline():
            while await reader.readline() not in {b"\r\n", b""}:
                pass
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for chunk in chunks:
                writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await asyncio.sleep(3600 if ends_after is None else ends_after)
            writer.write(b"0\r\n\r\n")
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = HTTPClient(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/")
    try:
        yield client, connections
    finally:
        client.close()
        listener.close()
        for writer in connections:
            writer.close()


async def first_chunk(client: HTTPClient) -> bytes:
    async with client.stream("GET", "progress") as (_, chunks):
        async for chunk in chunks:
            return chunk
    raise AssertionError("no chunk")


async def test_a_connection_whose_answer_ends_soon_after_it_was_heard_is_used_again():
    async with server(b"ready", b"more", ends_after=0.05) as (client, connections):
        for _ in range(3):
            assert (await first_chunk(client)).startswith(b"ready")
            await asyncio.sleep(0.2)
        assert len(connections) == 1


async def test_a_connection_whose_answer_does_not_end_is_closed(monkeypatch):
    monkeypatch.setattr(http, "DRAIN", 0.05)
    async with server(b"ready", ends_after=None) as (client, connections):
        assert await first_chunk(client) == b"ready"
        await asyncio.sleep(0.2)
        assert await first_chunk(client) == b"ready"
        assert len(connections) == 2


async def test_a_request_that_is_given_up_is_closed_at_once():
    async with server(b"ready", ends_after=0.05) as (client, connections):
        with pytest.raises(RuntimeError):
            async with client.stream("GET", "progress"):
                raise RuntimeError("given up")
        assert (await client.request("GET", "next")).body == b"ready"
        assert len(connections) == 2
