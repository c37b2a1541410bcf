"""The canary: one real launch, through the service's own event stream, until the server answers.

It does what a browser does: reads the stream, comes back with the last event's id when the
connection drops, and opens the server. Then it removes the user that the launch made.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import aiohttp

from binderhub_ext.sse import Decoder, EventTooLarge, ServerSentEvent
from binderhub_ext.timing import SYSTEM_CLOCK, Clock, Deadline

from .hub import Hub
from .launches import HUB_AT_FAULT
from .observations import CanaryResult

log = logging.getLogger("binderhub_ext.watchdog")

CLEAN_UP = 120.0
"""Seconds for which the canary's user is asked to be removed, and no longer than a launch may take: a Hub that cannot
stop a server must not keep the canary from noticing."""


class CanaryFailed(Exception):
    """The launch ended badly.

    Attributes
    ----------
    code : str
        The service's error code, or `canary.no_service`, `canary.stream`, `canary.timeout`,
        `canary.server`.
    hub_at_fault : bool
        Whether a restart of the Hub may cure it.
    """

    def __init__(self, code: str, detail: str = "", *, hub_at_fault: bool = False) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail, self.hub_at_fault = code, detail, hub_at_fault


def user_of(server_url: str) -> str:
    """Return the user's name in the address of a server; "" when there is none.

    The name follows the last `/user/` of the path: the Hub's base URL may contain one too.
    """
    _, found, rest = urlsplit(server_url).path.rpartition("/user/")
    return unquote(rest.split("/", 1)[0]) if found else ""


def failure(event: dict[str, Any], last_phase: str) -> CanaryFailed:
    """Return what a `failed` event means.

    A service without error codes says only that a launch failed: then the Hub is held to be at fault
    when the launch had come as far as the Hub.
    """
    error = event.get("error") or {}
    code = str(error.get("code") or "launch.failed")
    at_fault = code in HUB_AT_FAULT or (not error and last_phase == "launching")
    return CanaryFailed(
        code, str(error.get("detail") or event.get("message") or "").strip(), hub_at_fault=at_fault
    )


@dataclass
class Canary:
    """Launches one repository.

    Parameters
    ----------
    service_url : str
        The service's address with its base URL, for example `http://binder/`.
    spec : str
        Provider and repository as in a launch link, for example `gh/binder-examples/requirements/HEAD`.
    timeout : float
        Seconds for everything up to the server's first answer.
    proxy_url : str
        When set, servers are opened through this address instead of the public one.
    """

    session: aiohttp.ClientSession
    hub: Hub
    service_url: str
    spec: str
    timeout: float = 300.0
    proxy_url: str = ""
    clock: Clock = SYSTEM_CLOCK
    _phase: str = field(default="", repr=False)

    async def run(self) -> CanaryResult:
        """Launch once and clean up."""
        started, url = self.clock.monotonic(), ""
        deadline = Deadline.after(self.timeout, self.clock)
        code = detail = ""
        at_fault = False
        try:
            ready = await self._launch(deadline)
            url = str(ready["url"])
            await self._open(url, str(ready.get("token", "")), deadline)
        except CanaryFailed as failed:
            code, detail, at_fault = failed.code, failed.detail, failed.hub_at_fault
        ended = self.clock.monotonic()
        user = user_of(url)
        if user and not await self.hub.delete_user(
            user, Deadline.after(min(CLEAN_UP, self.timeout), self.clock)
        ):
            log.warning(
                "The canary's user could not be removed: the token may lack delete:users, delete:servers"
            )
        return CanaryResult(ended, ended - started, code, detail, at_fault)

    async def _launch(self, deadline: Deadline) -> dict[str, Any]:
        decoder, self._phase = Decoder(), ""
        while True:
            before = decoder.last_event_id
            try:
                async for sent in self._connect(decoder, deadline):
                    event = sent.json()
                    if event.get("phase") == "ready" and event.get("url"):
                        return dict(event)
                    if event.get("phase") in ("failed", "failure"):
                        raise failure(event, self._phase)
                    self._phase = str(event.get("phase") or self._phase)
            except asyncio.TimeoutError as error:
                launching = self._phase == "launching"
                detail = f"no end after {self.timeout:.0f} s, the last phase was {self._phase or 'none'}"
                raise CanaryFailed("canary.timeout", detail, hub_at_fault=launching) from error
            except (EventTooLarge, ValueError, AttributeError) as error:
                raise CanaryFailed("canary.stream", f"the stream cannot be read: {error!r}") from error
            except (aiohttp.ClientError, OSError) as error:
                if not self._phase:
                    raise CanaryFailed("canary.no_service", repr(error)) from error
            if not decoder.last_event_id:
                raise CanaryFailed(
                    "canary.stream", "the stream ended early and has no event ids to resume from"
                )
            decoder = Decoder(last_event_id=decoder.last_event_id)
            # one second, as a browser waits about three: without progress there is no hurry
            await self.clock.sleep(min(1.0 if before == decoder.last_event_id else 0.1, deadline.remaining))

    async def _connect(self, decoder: Decoder, deadline: Deadline) -> AsyncIterator[ServerSentEvent]:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
        if decoder.last_event_id:
            headers["Last-Event-ID"] = decoder.last_event_id
        url = f"{self.service_url.rstrip('/')}/build/{self.spec}"
        timeout = aiohttp.ClientTimeout(total=None, sock_read=None)
        response = await deadline.wait_for(self.session.get(url, headers=headers, timeout=timeout))
        try:
            if response.status != 200:
                text = (await deadline.wait_for(response.text()))[:200]
                raise CanaryFailed("canary.no_service", f"the service answers {response.status}: {text}")
            while chunk := await deadline.wait_for(response.content.readany()):
                for event in decoder.feed(chunk):
                    yield event
        finally:
            response.close()

    async def _open(self, url: str, token: str, deadline: Deadline) -> None:
        """Ask the server itself, until it answers or ten seconds (or the deadline) have passed."""
        parts = urlsplit(url)
        base = self.proxy_url.rstrip("/") + parts.path if self.proxy_url else url
        headers = {"Authorization": f"token {token}"}
        limit, last = deadline.within(10.0), ""
        while not limit.expired:
            try:
                request = self.session.get(base.rstrip("/") + "/api/status", headers=headers)
                response = await limit.wait_for(request)
                response.close()
                if response.status == 200:
                    return
                last = f"the server answers {response.status}"
            except asyncio.TimeoutError:
                last = "the server does not answer in time"
            except (aiohttp.ClientError, OSError) as error:
                last = f"the server does not answer: {error!r}"
            await self.clock.sleep(min(0.5, limit.remaining))
        raise CanaryFailed("canary.server", last, hub_at_fault=True)
