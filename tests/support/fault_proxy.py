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
import random
import re
import socket
import struct
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

CHUNK = 1 << 16
_METHOD = re.compile(rb"[A-Z]{1,16}($| )")
_HEAD = re.compile(rb"(?P<method>[A-Z]+) (?P<path>\S+) HTTP/1\.[01]\r\n(?s:.*?)\r\n(?:(?<=\r\n\r\n))")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_UNFRAMED = re.compile(rb"\r\n(upgrade|transfer-encoding):", re.IGNORECASE)


@dataclass(frozen=True)
class Request:
    """What a request says in its first line; empty when it is not HTTP."""

    method: str = ""
    path: str = ""


@dataclass(eq=False)
class Exchange:
    """One request and its answer, on a connection."""

    request: Request
    connection: Connection
    faults: list[Fault] = field(default_factory=list)
    passed: dict[Fault, int] = field(default_factory=lambda: defaultdict(int))
    """What each fault has counted in it."""


@dataclass(eq=False, kw_only=True)
class Fault:
    """A fault; this one changes nothing.

    Parameters
    ----------
    method : str
        Which requests: a regular expression for the whole method.
    path : str
        A regular expression that is searched for in the path.
    skip, first : int
        Only the first N of those, after some that are let through.
    direction : str
        ``down``: what the client gets; ``up``: what it sends.
    """

    method: str = ""
    path: str = ""
    skip: int = 0
    first: int | None = None
    direction: str = "down"
    hits: int = field(default=0, init=False)
    """How many requests it has struck."""

    def __post_init__(self) -> None:
        self.struck = asyncio.Event()
        self.off = asyncio.Event()
        self._seen = 0

    def strikes(self, request: Request) -> bool:
        """Whether it strikes this request; counts."""
        if self.method and not re.fullmatch(self.method, request.method):
            return False
        if self.path and not re.search(self.path, request.path):
            return False
        self._seen += 1
        if self._seen <= self.skip or (self.first is not None and self.hits >= self.first):
            return False
        self.hits += 1
        self.struck.set()
        return True

    # -- what a fault can do --

    async def began(self, exchange: Exchange) -> None:
        """The head of the request is there, and not yet passed on."""

    def answer(self, request: Request) -> bytes | None:
        """Return the answer, when the request is not to be passed on."""
        return None

    async def pieces(self, exchange: Exchange, chunk: bytes) -> AsyncIterator[bytes]:
        """Yield what becomes of a chunk in the fault's direction."""
        yield chunk

    async def ended(self, exchange: Exchange) -> None:
        """The other side has closed the connection."""

    async def switched_on(self, proxy: FaultProxy) -> None:
        """It was added."""

    async def switched_off(self, proxy: FaultProxy) -> None:
        """It was removed."""


# -- toxiproxy's --


@dataclass(eq=False)
class Latency(Fault):
    """Each chunk is `seconds` late, give or take `jitter`."""

    seconds: float = 0.0
    jitter: float = 0.0
    random: random.Random = field(default_factory=lambda: random.Random(0))

    async def pieces(self, exchange: Exchange, chunk: bytes) -> AsyncIterator[bytes]:
        await asyncio.sleep(max(0.0, self.seconds + self.random.uniform(-self.jitter, self.jitter)))
        yield chunk


@dataclass(eq=False)
class Timeout(Fault):
    """Nothing gets through; after `seconds` the connection is closed (0: when the fault is switched off)."""

    seconds: float = 0.0

    async def began(self, exchange: Exchange) -> None:
        exchange.connection.later(self._close(exchange.connection))

    async def _close(self, connection: Connection) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.off.wait(), self.seconds or None)
        connection.close()

    async def pieces(self, exchange: Exchange, chunk: bytes) -> AsyncIterator[bytes]:
        return
        yield b""


@dataclass(eq=False)
class ResetPeer(Fault):
    """The connection is reset (RST, not FIN) `seconds` after the request began."""

    seconds: float = 0.0

    async def began(self, exchange: Exchange) -> None:
        if self.seconds:
            exchange.connection.later(self._reset(exchange.connection))
        else:
            exchange.connection.reset()

    async def _reset(self, connection: Connection) -> None:
        await asyncio.sleep(self.seconds)
        connection.reset()


@dataclass(eq=False)
class Slicer(Fault):
    """Chunks are cut into pieces of `size` bytes, each `seconds` after the one before."""

    size: int = 1
    seconds: float = 0.0

    async def pieces(self, exchange: Exchange, chunk: bytes) -> AsyncIterator[bytes]:
        for at in range(0, len(chunk), self.size):
            yield chunk[at : at + self.size]
            await exchange.connection.flushed()
            await asyncio.sleep(self.seconds)


@dataclass(eq=False)
class LimitData(Fault):
    """After `size` bytes the connection is closed."""

    size: int = 0

    async def pieces(self, exchange: Exchange, chunk: bytes) -> AsyncIterator[bytes]:
        rest = self.size - exchange.passed[self]
        exchange.passed[self] += len(chunk)
        if rest > 0:
            yield chunk[:rest]
        if exchange.passed[self] >= self.size:
            await exchange.connection.flushed()
            exchange.connection.close()


@dataclass(eq=False)
class SlowClose(Fault):
    """The connection stays open for `seconds` after the other side has closed it."""

    seconds: float = 0.0

    async def ended(self, exchange: Exchange) -> None:
        await asyncio.sleep(self.seconds)


@dataclass(eq=False)
class Down(Fault):
    """Connections are refused, and those that are open are closed."""

    async def switched_on(self, proxy: FaultProxy) -> None:
        await proxy.stop_listening()
        proxy.drop()

    async def switched_off(self, proxy: FaultProxy) -> None:
        await proxy.listen()


# -- of HTTP --


@dataclass(eq=False)
class Status(Fault):
    """The request is answered with this status, and not passed on."""

    status: int = 500
    body: str = ""
    retry_after: str | int | None = None
    content_type: str = "application/json"

    def answer(self, request: Request) -> bytes | None:
        body = self.body.encode()
        lines = [f"HTTP/1.1 {self.status} On purpose", f"Content-Type: {self.content_type}"]
        lines.append(f"Content-Length: {len(body)}")
        if self.retry_after is not None:
            lines.append(f"Retry-After: {self.retry_after}")
        return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(eq=False)
class Garbage(Fault):
    """The answer is not HTTP."""

    body: bytes = b"SSH-2.0-OpenSSH_9.2\r\n"

    def answer(self, request: Request) -> bytes | None:
        return self.body


@dataclass(eq=False)
class Truncated(Fault):
    """The answer ends after `size` bytes of its body, less than its head promised."""

    size: int = 0

    async def pieces(self, exchange: Exchange, chunk: bytes) -> AsyncIterator[bytes]:
        async for piece, whole in _up_to(self, exchange, chunk, size=self.size):
            yield piece
            if whole:
                await exchange.connection.flushed()
                exchange.connection.close()


@dataclass(eq=False)
class Stalled(Fault):
    """The answer stops after `size` bytes of its body, or so many events, until the fault is switched off."""

    size: int | None = None
    events: int | None = None

    async def pieces(self, exchange: Exchange, chunk: bytes) -> AsyncIterator[bytes]:
        if self.off.is_set():
            yield chunk
            return
        shown = 0
        async for piece, whole in _up_to(self, exchange, chunk, size=self.size, events=self.events):
            shown += len(piece)
            yield piece
            if whole:
                await self.off.wait()
                yield chunk[shown:]


@dataclass(eq=False)
class CutEvents(Fault):
    """The event stream is cut after so many events (or bytes of its body), by RST when `reset`."""

    events: int | None = None
    size: int | None = None
    reset: bool = False

    async def pieces(self, exchange: Exchange, chunk: bytes) -> AsyncIterator[bytes]:
        async for piece, whole in _up_to(self, exchange, chunk, size=self.size, events=self.events):
            yield piece
            if whole:
                await exchange.connection.flushed()
                if self.reset:
                    exchange.connection.reset()
                else:
                    exchange.connection.close()


@dataclass(eq=False)
class LostAnswer(Fault):
    """The request is done, but its answer is lost: the connection is reset."""

    async def pieces(self, exchange: Exchange, chunk: bytes) -> AsyncIterator[bytes]:
        exchange.connection.reset()
        return
        yield b""


@dataclass(eq=False)
class Replaced(Status):
    """The request is done, but this status is what the client sees of it."""

    def answer(self, request: Request) -> bytes | None:
        return None

    async def pieces(self, exchange: Exchange, chunk: bytes) -> AsyncIterator[bytes]:
        if not exchange.passed[self]:
            exchange.passed[self] = 1
            yield super().answer(exchange.request) or b""


async def _up_to(
    fault: Any, exchange: Exchange, chunk: bytes, *, size: int | None = None, events: int | None = None
) -> AsyncIterator[tuple[bytes, bool]]:
    """Yield what of a chunk comes before the limit, and whether the limit was reached with it.

    The head of the answer is not counted. An event ends in an empty line, which no chunk's
    frame (``\\r\\n``) is. What follows the limit is dropped.
    """
    connection, passed = exchange.connection, exchange.passed
    if passed[fault] < 0:
        return
    at = 0
    if not connection.answer_head_ended:
        connection.answer_head += chunk
        head, found, _ = connection.answer_head.partition(b"\r\n\r\n")
        if not found:
            yield chunk, False
            return
        connection.answer_head_ended = True
        at = len(chunk) - (len(connection.answer_head) - len(head) - 4)
    limit = size if size is not None else events or 0
    while True:
        if passed[fault] >= limit:
            passed[fault] = -1
            yield chunk[:at], True
            return
        if size is not None:
            step = min(limit - passed[fault], len(chunk) - at)
            passed[fault] += step
            at += step
        else:
            end = chunk.find(b"\n\n", at)
            passed[fault] += end >= 0
            at = end + 2 if end >= 0 else len(chunk)
        if at >= len(chunk) and passed[fault] < limit:
            yield chunk, False
            return


# -- the proxy --


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
