"""An HTTP/1.1 client for the Hub: no limit of connections, and a request that is given up is closed at once.

Tornado's own clients queue requests behind a small number of connections, and go on
reading an answer that nobody waits for. This one is Tornado's documented client side of
`HTTP1Connection`, with a pool of idle connections.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters
from tornado.httputil import (
    HTTPHeaders,
    HTTPMessageDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import IOStream, StreamClosedError
from tornado.log import app_log
from tornado.tcpclient import TCPClient

from binderhub_ext.timing import wait_for

MAX_BODY = 32 << 20
"""Bytes of an answer that is read whole: past this it is an error."""

DRAIN = 1.0
"""Seconds that the rest of an answer may take whose reader has heard enough: then its connection is closed."""


class ConnectionFailed(OSError):
    """No answer: refused, reset, closed early, not HTTP, or no such host."""


@dataclass(frozen=True)
class Response:
    """An answer, whatever its status."""

    status: int
    headers: HTTPHeaders
    body: bytes = b""


class _Reader(HTTPMessageDelegate):
    """Hands the head of an answer to one future and its chunks to one bounded queue."""

    def __init__(self) -> None:
        self.head: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self.chunks: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=16)
        self.complete = False

    def headers_received(self, start_line: Any, headers: HTTPHeaders) -> None:
        assert isinstance(start_line, ResponseStartLine)
        if start_line.code >= 200 and not self.head.done():
            self.head.set_result(Response(start_line.code, headers))

    async def data_received(self, chunk: bytes) -> None:
        await self.chunks.put(chunk)

    def finish(self) -> None:
        self.complete = True

    def on_connection_close(self) -> None:
        pass

    @property
    def ended(self) -> bool:
        """Whether the answer has come to its end, and all of it was taken."""
        return self.complete and self.chunks.empty()

    async def rest(self) -> None:
        """Take what is left, and throw it away."""
        while await self.chunks.get() is not None:
            pass


@dataclass
class HTTPClient:
    """Requests to one origin.

    Parameters
    ----------
    base_url : str
        ``http://host:port/path/``: what each request's path is appended to.
    headers : dict
        Sent with each request.
    idle_limit : int
        How many idle connections are kept.
    """

    base_url: str
    headers: dict[str, str] = field(default_factory=dict)
    idle_limit: int = 64
    ssl_options: ssl.SSLContext | None = None
    _idle: list[IOStream] = field(default_factory=list, repr=False)
    _tcp: TCPClient = field(default_factory=TCPClient, repr=False)
    _draining: set[asyncio.Task[None]] = field(default_factory=set, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"not an http or https URL: {self.base_url!r}")
        self._https = parts.scheme == "https"
        self._host = parts.hostname
        self._port = parts.port or (443 if self._https else 80)
        self._netloc = parts.netloc.rpartition("@")[2]
        self._path = parts.path
        if self._https and self.ssl_options is None:
            # reading the certificates of all authorities takes longer than a request
            self.ssl_options = ssl.create_default_context()

    def close(self) -> None:
        """Close the idle connections, and those whose last answer is still ending."""
        for task in self._draining:
            task.cancel()
        for stream in self._idle:
            stream.close()
        self._idle.clear()

    async def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Response:
        """Send a request and read the whole answer. Cancelling it closes the connection.

        Raises
        ------
        ConnectionFailed
            When there is no whole answer.
        """
        async with self.stream(method, path, body, headers) as (head, chunks):
            parts, size = [], 0
            async for chunk in chunks:
                parts.append(chunk)
                size += len(chunk)
                if size > MAX_BODY:
                    raise ConnectionFailed(f"the answer is longer than {MAX_BODY} bytes")
        return Response(head.status, head.headers, b"".join(parts))

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> AsyncIterator[tuple[Response, AsyncIterator[bytes]]]:
        """Send a request; yield the head of the answer and an iterator over its chunks.

        Leaving the block with an exception closes the connection. Leaving it otherwise before
        the end gives the answer `DRAIN` seconds to end by itself, in the background: the Hub
        ends a progress stream right after it said "ready", and the connection can be used again.

        Raises
        ------
        ConnectionFailed
            Also from the iterator, when the answer is cut short.
        """
        stream = await self._connect()
        reader = _Reader()
        connection = HTTP1Connection(stream, True, HTTP1ConnectionParameters(max_body_size=1 << 62))
        task: asyncio.Task[None] | None = None
        heard = False
        try:
            self._send(connection, method, path, body, headers)
            task = asyncio.create_task(self._receive(connection, reader))
            waiting: set[asyncio.Future[Any]] = {task, reader.head}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not reader.head.done():
                raise ConnectionFailed(f"no answer from {self._netloc}")
            yield reader.head.result(), self._chunks(reader)
            heard = True
        finally:
            if heard and task is not None and not reader.ended:
                draining = asyncio.create_task(self._drain(stream, reader, task))
                self._draining.add(draining)
                draining.add_done_callback(self._draining.discard)
            else:
                await self._release(stream, reader, task)

    async def _drain(self, stream: IOStream, reader: _Reader, task: asyncio.Task[None]) -> None:
        try:
            # when that is too short, `ended` stays False, which closes it
            with suppress(asyncio.TimeoutError):
                await wait_for(reader.rest(), DRAIN)
        finally:
            await self._release(stream, reader, task)

    async def _release(self, stream: IOStream, reader: _Reader, task: asyncio.Task[None] | None) -> None:
        """Keep the connection when its answer was read to the end, else close it; end its reading."""
        reusable = reader.ended and reader.head.result().headers.get("Connection", "").lower() != "close"
        if not reusable:
            stream.close()
        if task is not None:
            if not task.done():
                task.cancel()
            await asyncio.wait({task})
        if reusable:
            self._keep(stream)

    async def _connect(self) -> IOStream:
        while self._idle:
            stream = self._idle.pop()
            if not stream.closed():
                stream.set_close_callback(None)
                return stream
        tls = self.ssl_options if self._https else None
        try:
            stream = await self._tcp.connect(self._host, self._port, ssl_options=tls)
        except (OSError, StreamClosedError) as error:
            cause = getattr(error, "real_error", None) or error
            raise ConnectionFailed(f"{self._netloc}: {cause}") from error
        stream.set_nodelay(True)
        return stream

    def _keep(self, stream: IOStream) -> None:
        if stream.closed() or len(self._idle) >= self.idle_limit:
            stream.close()
            return

        def forget() -> None:
            if stream in self._idle:
                self._idle.remove(stream)

        # with a close callback the stream notices that the other side hung up while it is idle
        stream.set_close_callback(forget)
        self._idle.append(stream)

    def _send(
        self,
        connection: HTTP1Connection,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str] | None,
    ) -> None:
        fields = HTTPHeaders({"Host": self._netloc, **self.headers, **(headers or {})})
        if body is not None or method in {"POST", "PUT", "PATCH"}:
            fields["Content-Length"] = str(len(body or b""))
        # a closed stream shows up when the answer is read
        connection.write_headers(RequestStartLine(method, self._path + path, ""), fields, body)
        connection.finish()

    @staticmethod
    async def _receive(connection: HTTP1Connection, reader: _Reader) -> None:
        try:
            await connection.read_response(reader)
        except (OSError, ValueError) as error:  # StreamClosedError is an OSError
            app_log.debug("Hub connection: %r", error)  # told by `complete`, which stays False
        await reader.chunks.put(None)

    async def _chunks(self, reader: _Reader) -> AsyncIterator[bytes]:
        while (chunk := await reader.chunks.get()) is not None:
            yield chunk
        if not reader.complete:
            raise ConnectionFailed(f"{self._netloc} closed the connection in the middle of its answer")
