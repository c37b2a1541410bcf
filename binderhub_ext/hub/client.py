"""JupyterHub's REST API, as far as launches need it. Each method is one request, never retried here.

Source: https://jupyterhub.readthedocs.io/en/stable/reference/rest-api.html
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

from tornado.httputil import HTTPHeaders

from binderhub_ext.hub.http import ConnectionFailed, HTTPClient, Response
from binderhub_ext.sse import Decoder, EventTooLarge
from binderhub_ext.timing import wait_for

T = TypeVar("T")


class HubError(Exception):
    """The Hub did not do what it was asked.

    ::

        HubError
        ├── HubUnreachable   no (whole) answer, or one from a proxy before it: 502, 503, 504
        ├── HubBusy          429, and 503 with Retry-After: it will not now
        └── HubRefused       any other status: it says no

    Attributes
    ----------
    status : int
        The HTTP status; 0 when there was none.
    message : str
        The Hub's own words, or what went wrong on the way.
    retry_after : float or None
        Seconds that the Hub asked us to wait.
    """

    def __init__(self, message: str, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {message}" if status else message)
        self.message = message
        self.status = status
        self.retry_after = retry_after


class HubUnreachable(HubError):
    """The Hub, or what is before it, gave no usable answer."""


class HubBusy(HubError):
    """The Hub asks to come back later."""


class HubRefused(HubError):
    """The Hub answered and said no."""


class _Silent(Exception):
    """A stream that is open and says nothing."""


@dataclass(frozen=True)
class Progress:
    """One event of a server's progress stream."""

    message: str
    progress: int = 0
    ready: bool = False
    failed: bool = False


def retry_after(headers: HTTPHeaders) -> float | None:
    """Return the seconds of a `Retry-After` header; None when there is none or it is a date."""
    value = headers.get("Retry-After", "").strip()
    return float(value) if value.isascii() and value.isdigit() else None


def hub_message(body: bytes) -> str:
    """Return the words of a Hub's error answer (``{"message": ...}``), at most 1,000 characters."""
    text = body[:20_000].decode("utf-8", "replace")
    try:
        message = json.loads(text)["message"]
    except (ValueError, KeyError, TypeError):
        # an HTML page of a proxy tells a person nothing
        message = "" if "<" in text else text
    return str(message).strip()[:1000]


class HubClient:
    """The Hub's REST API.

    Parameters
    ----------
    api_url : str
        ``http://hub:8081/hub/api/``.
    token : str
        The service's API token; it needs the scopes `servers` and `admin:users`.
    timeout : float
        Seconds for an answer, or between two chunks of a progress stream (the Hub sends
        something every 8).
    """

    def __init__(self, api_url: str, token: str, *, timeout: float = 30.0) -> None:
        headers = {"Authorization": f"token {token}", "Accept": "application/json"}
        self._timeout = timeout
        self._http = HTTPClient(api_url if api_url.endswith("/") else api_url + "/", headers)

    def close(self) -> None:
        """Close the idle connections."""
        self._http.close()

    async def health(self) -> None:
        """Ask whether the Hub answers at all. Raises `HubError` when it does not."""
        await self._request("GET", "health")

    async def get_user(self, name: str) -> dict[str, Any] | None:
        """Return the user's model, with its `servers`; None when there is no such user."""
        response = await self._request("GET", _user(name), allow={404})
        return None if response.status == 404 else self._json(response)

    async def users_page(self, offset: int, limit: int) -> list[dict[str, Any]]:
        """Return up to `limit` users from `offset` on."""
        return self._json(await self._request("GET", f"users?offset={offset}&limit={limit}"))

    async def create_user(self, name: str) -> bool:
        """Create a user. Returns False when there was one of this name."""
        return (await self._request("POST", _user(name), b"", allow={409})).status != 409

    async def start_server(self, user: str, server: str, options: Mapping[str, Any]) -> None:
        """Ask for a server; the Hub starts it in its own time. `options` become its `user_options`."""
        await self._request("POST", _server(user, server), json.dumps(options).encode())

    async def stop_server(self, user: str, server: str) -> bool:
        """Ask for the server to be stopped, and forgotten if it has a name.

        Returns
        -------
        bool
            True when there is no such server (any more), False while it is stopping.
        """
        body = b'{"remove": true}' if server else None
        response = await self._request("DELETE", _server(user, server), body, allow={404})
        return response.status in {204, 404}

    async def delete_user(self, name: str) -> bool:
        """Delete the user and their server. Returns whether there was one."""
        return (await self._request("DELETE", _user(name), allow={404})).status != 404

    async def touch_user(self, name: str, timestamp: str) -> None:
        """Tell the Hub of activity of this user at `timestamp` (ISO 8601)."""
        body = json.dumps({"last_activity": timestamp}).encode()
        await self._request("POST", _user(name) + "/activity", body)

    @asynccontextmanager
    async def progress(self, user: str, server: str) -> AsyncIterator[AsyncIterator[Progress]]:
        """Follow a server's start. Yields an iterator, which ends when the Hub closes the stream."""
        path = _server(user, server) + "/progress"
        streams = AsyncExitStack()
        try:
            async with streams:
                opening = self._http.stream("GET", path, headers={"Accept": "text/event-stream"})
                head, chunks = await self._opened(streams.enter_async_context(opening))
                if head.status != 200:
                    body = b"".join([chunk async for chunk in self._in_time(chunks)])
                    self._raise(Response(head.status, head.headers, body))
                yield self._progress_events(self._in_time(chunks))
        except ConnectionFailed as error:
            raise HubUnreachable(str(error)) from error
        except _Silent as error:
            raise HubUnreachable(f"nothing came for {self._timeout:g} s") from error

    async def _opened(self, opening: Awaitable[T]) -> T:
        try:
            return await wait_for(opening, self._timeout)
        except asyncio.TimeoutError as error:
            raise _Silent from error

    async def _in_time(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        while True:
            try:
                yield await wait_for(chunks.__anext__(), self._timeout)
            except StopAsyncIteration:
                return
            except asyncio.TimeoutError as error:
                raise _Silent from error

    @staticmethod
    async def _progress_events(chunks: AsyncIterator[bytes]) -> AsyncIterator[Progress]:
        decoder = Decoder()
        try:
            async for chunk in chunks:
                for event in decoder.feed(chunk):
                    model = event.json()
                    yield Progress(
                        message=str(model.get("message") or ""),
                        progress=int(model.get("progress") or 0),
                        ready=bool(model.get("ready")),
                        failed=bool(model.get("failed")),
                    )
        except (EventTooLarge, ValueError, AttributeError) as error:
            raise HubUnreachable(f"the progress stream cannot be read: {error}") from error

    async def _request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        allow: frozenset[int] | set[int] = frozenset(),
    ) -> Response:
        try:
            response = await wait_for(self._http.request(method, path, body), self._timeout)
        except ConnectionFailed as error:
            raise HubUnreachable(str(error)) from error
        except asyncio.TimeoutError as error:
            raise HubUnreachable(f"no answer within {self._timeout:g} s") from error
        if response.status >= 300 and response.status not in allow:
            self._raise(response)
        return response

    @staticmethod
    def _raise(response: Response) -> None:
        message = hub_message(response.body)
        wait = retry_after(response.headers)
        if response.status == 429 or (response.status == 503 and wait is not None):
            raise HubBusy(message, response.status, wait)
        if response.status in {502, 503, 504}:
            raise HubUnreachable(message, response.status, wait)
        raise HubRefused(message, response.status, wait)

    @staticmethod
    def _json(response: Response) -> Any:
        try:
            return json.loads(response.body)
        except ValueError as error:
            raise HubUnreachable("the Hub's answer is not JSON") from error


def _user(name: str) -> str:
    # as jupyterhub/user.py escapes names in its own URLs
    return "users/" + quote(name, safe="@~")


def _server(user: str, server: str) -> str:
    return f"{_user(user)}/servers/{quote(server, safe='@~')}" if server else f"{_user(user)}/server"
