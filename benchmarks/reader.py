"""A reader of event streams that costs next to nothing: bytes and the times at which they came."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any
from urllib.parse import urlsplit

_EVENT = re.compile(rb"data: (\{.*?\})\n\n", re.DOTALL)
END = b'"phase": "ready"', b'"phase": "failed"'


class Reader(asyncio.Protocol):
    """One connection that asks for one stream.

    Chunks of the transfer encoding are left in place: both services write whole events in a
    chunk, and an event that is cut in two does not parse and is missed.
    """

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._transport: asyncio.Transport | None = None
        self._waiting: list[tuple[tuple[bytes, ...], asyncio.Future[float]]] = []
        self._size = 0
        self._tail = b""
        self.asked_at = 0.0
        self.closed = False
        self.arrivals: list[tuple[float, int, bytes]] = []
        """Time, size of all that came up to then, and the bytes."""

    async def open(self) -> Reader:
        """Connect and send the request."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, self._url.hostname, self._url.port)
        return self

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.asked_at = time.monotonic()
        transport.write(
            f"GET {self._url.path} HTTP/1.1\r\nHost: {self._url.netloc}\r\n"
            "Accept: text/event-stream\r\nUser-Agent: benchmark\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        self._size += len(data)
        self.arrivals.append((now, self._size, data))
        if self._waiting:
            seen = self._tail + data
            self._tail = seen[-40:]
            self._look(seen, now)

    def _look(self, seen: bytes, now: float) -> None:
        for entry in list(self._waiting):
            patterns, future = entry
            if any(pattern in seen for pattern in patterns):
                self._waiting.remove(entry)
                if not future.done():
                    future.set_result(now)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(ConnectionError(f"the stream ended early: {self.text[-500:]}"))

    def until(self, *patterns: bytes) -> asyncio.Future[float]:
        """Return a future of the time at which one of these bytes has come."""
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting.append((patterns, future))
        self._look(b"".join(data for _, _, data in self.arrivals), time.monotonic())
        return future

    @property
    def text(self) -> str:
        """All that came."""
        return b"".join(data for _, _, data in self.arrivals).decode("utf-8", "replace")

    def events(self) -> list[tuple[float, dict[str, Any]]]:
        """Return all events and when the last byte of each had come."""
        raw = b"".join(data for _, _, data in self.arrivals)
        found, at = [], 0
        for match in _EVENT.finditer(raw):
            while self.arrivals[at][1] < match.end():
                at += 1
            found.append((self.arrivals[at][0], json.loads(match[1])))
        return found

    def last_event(self) -> dict[str, Any]:
        """Return the last event; empty when there is none."""
        events = self.events()
        return events[-1][1] if events else {}

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()


class LaunchFailed(Exception):
    """A stream ended otherwise than with `ready`."""


async def launch(url: str, limit: float = 300) -> tuple[Reader, float]:
    """Launch, hang up, and return the reader and the time of `ready`.

    Raises
    ------
    LaunchFailed
        Also when there is no end within `limit` seconds.
    """
    reader = await Reader(url).open()
    try:
        at = await asyncio.wait_for(reader.until(*END), limit)
    except asyncio.TimeoutError:
        raise LaunchFailed(f"no end within {limit:.0f} s: {reader.text[-300:]}") from None
    except ConnectionError as error:
        raise LaunchFailed(str(error)) from error
    finally:
        reader.close()
    last = reader.last_event()
    if last.get("phase") != "ready":
        raise LaunchFailed(f"the launch failed: {last.get('message', reader.text[-1000:])}")
    return reader, at
