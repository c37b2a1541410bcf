"""`/build/<provider>/<spec>`: the event stream of a launch.

The launch belongs to `launch.launches`; a connection only reads what it says, from where
the reader was, and comes and goes as it likes.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, authenticated

from binderhub_ext.errors import LaunchError
from binderhub_ext.launch.launch import Launch
from binderhub_ext.launch.request import LaunchRequest
from binderhub_ext.launch.tickets import InvalidTicket, split_event_id
from binderhub_ext.metrics import service as metrics
from binderhub_ext.sse import KEEPALIVE, KEEPALIVE_EVENT, encode_data, encode_retry
from binderhub_ext.stream import Watcher
from binderhub_ext.timing import wait_for
from binderhub_ext.web.base import ExtHandler

RETRY_MILLISECONDS = 1000
LINGER = 60.0
"""Seconds that a stream stays open after its last event: readers close it first, or come back and get a 204."""

_SECRETS = re.compile(r"([?&](?:launch|last_event_id|build_token|token|_xsrf)=)[^&]*")

FRESH = 10
"""Seconds within which a page's ticket has not been used by another process, unless the page says that it resumes."""


def accepts_event_stream(accept: str, *, any_type: bool) -> bool:
    """Whether an Accept header offers `text/event-stream` (RFC 9110, 12.5.1).

    Parameters
    ----------
    any_type : bool
        Whether ``*/*`` will do. Robots send it.
    """
    wanted = {"text/event-stream"} | ({"*/*", "text/*"} if any_type else set())
    for part in accept.split(","):
        media_type, *parameters = (text.strip().lower() for text in part.split(";"))
        refused = any(p.replace(" ", "") in {"q=0", "q=0.0", "q=0.00", "q=0.000"} for p in parameters)
        if media_type in wanted and not refused:
            return True
    return False


class BuildStreamHandler(ExtHandler):
    """Subscribes to a launch and writes what it says."""

    def initialize(self) -> None:
        super().initialize()
        self._closed = False
        self._keepalive = KEEPALIVE
        self._wake: Callable[[], None] = lambda: None
        self.last_write = 0.0
        self.write_began: float | None = None

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("content-type", "text/event-stream")
        self.set_header("cache-control", "no-cache")
        # nginx collects an answer before it passes it on, unless it is told not to
        self.set_header("x-accel-buffering", "no")
        # fetch-based readers of other origins send these when they come back
        self.set_header(
            "access-control-allow-headers", "cache-control, last-event-id, x-xsrftoken, authorization"
        )

    def redirect(self, *args: Any, **kwargs: Any) -> None:
        # an EventSource cannot follow the redirect to a login page
        raise HTTPError(403, "Log in to this BinderHub first")

    async def prepare(self) -> None:
        # whoever has a ticket gets the server's token: neither belongs into a log
        self.request.uri = _SECRETS.sub(r"\1[secret]", self.request.uri or "")
        await super().prepare()
        if self.request.method == "GET" and not accepts_event_stream(
            self.request.headers.get("Accept", ""), any_type=self.settings["binderhub_ext_accept_any"]
        ):
            raise HTTPError(400, "Missing Accept header: text/event-stream")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer 200 with a `failed` event: browsers cannot read the body of an error."""
        failure = self.failure_of(status_code, kwargs.get("exc_info"))
        event = failure.as_event()
        if status_code != 500 or failure.code == "internal":
            event["status_code"] = status_code
        self.set_status(200)
        metrics.FAILURES.labels(code=failure.code).inc()
        # the id makes a browser that comes back get the 204 that stops it
        self.finish(b"id: -.1.end\n" + encode_data(event))

    def on_connection_close(self) -> None:
        self._closed = True
        self._wake()

    @authenticated
    async def get(self, _prefix: str, _spec: str) -> None:
        event_id = self.request.headers.get("Last-Event-ID", "") or self.get_query_argument(
            "last_event_id", ""
        )
        if event_id.endswith(".end"):
            self.set_status(204)
            self.clear_header("content-type")
            return
        prefix, spec = self.provider_and_spec()
        address = self.request.remote_ip or ""
        self.launches.admit(address)
        launch, after = self._find_or_start(prefix, spec, event_id)
        watcher = self.launches.watch(launch, after, address)
        self._wake = watcher.wake
        if self.get_query_argument("keepalive", "") == "event":
            self._keepalive = KEEPALIVE + KEEPALIVE_EVENT
        keepalives = self.settings["binderhub_ext_keepalives"]
        keepalives.add(self)
        try:
            # a new launch says its first words now, and they go out with the headers
            await asyncio.sleep(0)
            await self._send(encode_retry(RETRY_MILLISECONDS) + watcher.read(), first=True)
            await self._copy(watcher)
        except StreamClosedError:
            self._closed = True
        finally:
            keepalives.discard(self)
            self.launches.leave(launch, watcher, address)

    def _find_or_start(self, prefix: str, spec: str, event_id: str) -> tuple[Launch, int]:
        """Return the launch that this request is about, and the number of the last event that it has."""
        text, after = self.get_query_argument("launch", ""), 0
        if event_id:
            try:
                of, number, _ = split_event_id(event_id)
            except InvalidTicket as error:
                raise LaunchError("ticket.invalid") from error
            if not text or text == of:
                text, after = of, number
        ticket = self.check_ticket(text, prefix, spec) if text else None
        launch = self.launches.find(ticket) if ticket is not None else None
        if launch is not None:
            if after:
                metrics.RECONNECTS.inc()
            return launch, after
        if ticket is None or not (ticket.from_page or event_id):
            # whoever comes back to a launch, or from a page of ours, was let in before
            self.check_build_token(self.get_query_argument("build_token", None), f"{prefix}/{spec}")
            self.check_rate_limit()
        else:
            self._have_build_token = ticket.from_page
        request = self._request(prefix, spec)
        now = self.launches.services.clock.time()
        if ticket is None:
            ticket, resumed = self.office.issue(prefix, spec, self.user_name, now, from_page=False), False
        else:
            again = bool(event_id) or self.get_query_argument("resumed", "") == "true"
            resumed = again or now - ticket.issued > FRESH
        return self.launches.start(ticket, request, first_number=after + 1, resumed=resumed), after

    def _request(self, prefix: str, spec: str) -> LaunchRequest:
        build_only = self.get_query_argument("build_only", "").lower() == "true"
        if build_only and not self.settings.get("enable_api_only_mode"):
            raise HTTPError(
                400,
                "Building but not launching is not permitted when"
                " the API only mode was not enabled by setting `enable_api_only_mode` to True. ",
            )
        if prefix not in self.settings["repo_providers"]:
            raise LaunchError(
                "provider.unknown", message=f"No provider found for prefix {unquote(prefix)[:80]}"
            )
        return LaunchRequest(
            prefix=prefix,
            spec=spec.rstrip("/"),
            build_only=build_only,
            user=self.user_name,
            launch_host=self.launch_host(),
            client_ip=self.request.remote_ip or "",
            host=self.request.host,
            request_origin=self.request.headers.get("Origin")
            or self.request.headers.get("Sec-Fetch-Site", ""),
            have_build_token=self._have_build_token,
        )

    async def _copy(self, watcher: Watcher) -> None:
        while not self._closed:
            chunk = watcher.read()
            if chunk:
                await self._send(chunk)
            elif watcher.at_end:
                break
            else:
                await watcher.wait()
        if not self._closed:
            gone = asyncio.Event()
            self._wake = gone.set
            try:
                await wait_for(gone.wait(), LINGER)
            except asyncio.TimeoutError:
                return

    async def _send(self, chunk: bytes, first: bool = False) -> None:
        self.last_write = self.write_began = self.launches.services.clock.monotonic()
        if first:
            self.write(chunk)
            await self.flush()
        else:
            # past RequestHandler's own buffer, which would copy each chunk twice
            assert self.request.connection is not None
            await self.request.connection.write(chunk)
        self.write_began = None

    def say_goodbye(self, milliseconds: int) -> None:
        """Ask the reader to come back after so many milliseconds, and end the answer."""
        if not self._closed and self.request.connection is not None:
            self._closed = True
            self.request.connection.write(encode_retry(milliseconds))
            self._wake()

    def keep_alive(self, now: float, interval: float, stall_limit: float) -> None:
        """Write a comment when nothing was written for `interval` seconds; close a connection that takes nothing."""
        if self._closed or self.request.connection is None:
            return
        if self.write_began is not None:
            if now - self.write_began > stall_limit:
                self._closed = True
                self.request.connection.stream.close()
        elif now - self.last_write >= interval:
            self.last_write = now
            self.request.connection.write(self._keepalive)
