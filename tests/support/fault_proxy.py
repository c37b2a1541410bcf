"""A TCP proxy that fails on purpose: toxiproxy's faults, and those of HTTP.

::

    async with FaultProxy(port) as proxy:
        with proxy.on(Status(503, path="/users/", first=2)) as fault:
            ...                        # requests go to proxy.url
            assert fault.hits == 2

A fault strikes a whole request when its head arrives: all of them, or those whose method
and path match, or only the first few. What cannot be told from HTTP is one nameless
request. `Down` needs no request, and `FaultProxy.drop` ends those that are under way.

Source: https://github.com/Shopify/toxiproxy#toxics
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from tests.support.proxy_faults import Exchange, Fault, Request

CHUNK = 1 << 16
_METHOD = re.compile(rb"[A-Z]{1,16}($| )")
_HEAD = re.compile(rb"(?P<method>[A-Z]+) (?P<path>\S+) HTTP/1\.[01]\r\n(?s:.*?)\r\n(?:(?<=\r\n\r\n))")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_UNFRAMED = re.compile(rb"\r\n(upgrade|transfer-encoding):", re.IGNORECASE)


class FaultProxy:
    """A proxy before 127.0.0.1:`target`.

    Parameters
    ----------
    target : int
        The port of what is behind it.
    port : int
        Where it listens; 0: a free one.
    """

    def __init__(self, target: int, port: int = 0) -> None:
        self.target = target
        self.port = port
        self.requests: list[Request] = []
        """All that came, oldest first."""
        self._faults: list[Fault] = []
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._changed = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    async def __aenter__(self) -> FaultProxy:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop_listening()
        for connection in list(self._connections):
            connection.close()
            await connection.gone.wait()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until this holds; looked at whenever a connection or a request comes."""
        while not holds():
            self._changed.clear()
            await self._changed.wait()

    async def listen(self) -> None:
        """Accept connections."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=CHUNK)
            self.port = self._server.sockets[0].getsockname()[1]

    async def stop_listening(self) -> None:
        """Refuse connections."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def add(self, fault: Fault) -> Fault:
        """Switch a fault on, for requests that come from now on."""
        self._faults.append(fault)
        await fault.switched_on(self)
        return fault

    async def remove(self, fault: Fault) -> None:
        """Switch it off, also for requests that it has struck."""
        self._faults.remove(fault)
        fault.off.set()
        await fault.switched_off(self)

    async def clear(self) -> None:
        """Switch all faults off."""
        for fault in list(self._faults):
            await self.remove(fault)

    @contextlib.asynccontextmanager
    async def on(self, *faults: Fault) -> AsyncIterator[Any]:
        """Switch faults on for a block; yields the first."""
        for fault in faults:
            await self.add(fault)
        try:
            yield faults[0] if faults else None
        finally:
            for fault in faults:
                if fault in self._faults:
                    await self.remove(fault)

    def drop(self, path: str = "", *, reset: bool = False) -> int:
        """End the connections whose last request matches. Returns how many."""
        chosen = [c for c in self._connections if re.search(path, c.exchange.request.path)]
        for connection in chosen:
            if reset:
                connection.reset()
            else:
                connection.close()
        return len(chosen)

    def strike(self, request: Request) -> Iterator[Fault]:
        """Yield the faults that strike this request."""
        self.requests.append(request)
        self._changed.set()
        for fault in list(self._faults):
            if fault.strikes(request):
                yield fault

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self, reader, writer)
        self._connections.add(connection)
        self._changed.set()
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            connection.gone.set()


class Connection:
    """A client's connection, and ours to what is behind the proxy."""

    def __init__(self, proxy: FaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.exchange = Exchange(Request(), self)
        self.answer_head = b""
        self.answer_head_ended = False
        self.gone = asyncio.Event()
        self._proxy = proxy
        self._reader, self._writer = reader, writer
        self._target: asyncio.StreamWriter | None = None
        self._end = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Copy in both directions until one side closes."""
        try:
            answers, self._target = await asyncio.open_connection("127.0.0.1", self._proxy.target)
        except OSError:
            self.reset()
            return
        self.later(self._up())
        self.later(self._down(answers))
        try:
            await self._end.wait()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._writer.close()
            self._target.close()

    def later(self, work: Any) -> None:
        """Do something beside, until the connection ends."""
        self._tasks.add(asyncio.create_task(work))

    def close(self) -> None:
        """End it in good order (FIN)."""
        self._end.set()

    def reset(self) -> None:
        """End it with RST."""
        sock = self._writer.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()
        self._end.set()

    async def flushed(self) -> None:
        """Wait until what was written has left this process."""
        self._writer.transport.set_write_buffer_limits(0)
        with contextlib.suppress(OSError):
            await self._writer.drain()

    async def _up(self) -> None:
        rest = b""
        try:
            while chunk := rest or await self._reader.read(CHUNK):
                # as much of a head as there is; what does not look like one is not HTTP
                while b"\r\n\r\n" not in chunk and _METHOD.match(chunk) and len(chunk) < CHUNK:
                    more = await self._reader.read(CHUNK)
                    if not more:
                        break
                    chunk += more
                match = _HEAD.match(chunk)
                if match is None:
                    await self._begin(Request())
                    await self._opaque(chunk)
                    return
                rest = await self._request(match, chunk[match.end() :])
        except OSError:
            pass
        finally:
            await self._side_closed("up")

    async def _request(self, head: re.Match[bytes], body: bytes) -> bytes:
        """Pass a request on, or answer it. Returns what follows it."""
        request = Request(head["method"].decode(), head["path"].decode())
        await self._begin(request)
        exchange = self.exchange
        answers = [answer for fault in exchange.faults if (answer := fault.answer(request)) is not None]
        if not answers:
            await self._pass(exchange, head[0], "up")
            if _UNFRAMED.search(head[0]):
                await self._opaque(body)
                return b""
        length = _LENGTH.search(head[0])
        remaining = int(length[1]) if length else 0
        while remaining > 0:
            chunk = body or await self._reader.read(CHUNK)
            if not chunk:
                return b""
            chunk, body = chunk[:remaining], chunk[remaining:]
            remaining -= len(chunk)
            if not answers:
                await self._pass(exchange, chunk, "up")
        if answers:
            await self._pass(exchange, answers[0], "down")
            if not answers[0].startswith(b"HTTP/"):
                await self.flushed()
                self.close()
        return body

    async def _opaque(self, chunk: bytes) -> None:
        while chunk := chunk or await self._reader.read(CHUNK):
            await self._pass(self.exchange, chunk, "up")
            chunk = b""

    async def _begin(self, request: Request) -> None:
        self.answer_head, self.answer_head_ended = b"", False
        self.exchange = exchange = Exchange(request, self)
        exchange.faults = list(self._proxy.strike(request))
        for fault in exchange.faults:
            await fault.began(exchange)

    async def _down(self, answers: asyncio.StreamReader) -> None:
        try:
            while chunk := await answers.read(CHUNK):
                await self._pass(self.exchange, chunk, "down")
        except OSError:
            pass
        finally:
            await self._side_closed("down")

    async def _side_closed(self, direction: str) -> None:
        for fault in self.exchange.faults:
            if fault.direction == direction:
                await fault.ended(self.exchange)
        await self.flushed()
        self.close()

    async def _pass(self, exchange: Exchange, chunk: bytes, direction: str) -> None:
        faults = [fault for fault in exchange.faults if fault.direction == direction]
        await self._through(exchange, chunk, faults, direction)
        writer = self._writer if direction == "down" else self._target
        assert writer is not None
        with contextlib.suppress(OSError):
            await writer.drain()

    async def _through(self, exchange: Exchange, chunk: bytes, faults: list[Fault], direction: str) -> None:
        if not faults:
            writer = self._writer if direction == "down" else self._target
            assert writer is not None
            if not self._end.is_set():
                writer.write(chunk)
            return
        async for piece in faults[0].pieces(exchange, chunk):
            await self._through(exchange, piece, faults[1:], direction)
