"""Faults for `fault_proxy.FaultProxy`: toxiproxy's, and those of HTTP.

Source: https://github.com/Shopify/toxiproxy#toxics
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.fault_proxy import Connection, FaultProxy


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
