"""Lanes: services with short bounds, each between two proxies that fail on purpose, where launches are tried."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from binderhub_ext.sse import Decoder
from tests.support.fault_proxy import FaultProxy
from tests.support.scripted import spec
from tests.support.stack import Event, Hub, Service

BOUNDS: dict[str, Any] = {
    "Launcher__resolve_timeout": 1.5,
    "Launcher__image_timeout": 2.0,
    "Launcher__build_slot_timeout": 1.5,
    "Launcher__build_timeout": 4.0,
    "Launcher__hub_request_timeout": 1.5,
    "Launcher__abandon_timeout": 1.0,
}
"""The bounds of all lanes, in seconds."""

LAUNCH_TIMEOUT = {"brief": 2, "patient": 20, "narrow": 20}
"""The bound of the launching stage in each lane: brief ones see failures out, patient ones recoveries."""


@dataclass
class Lane:
    """A service before the Hub of the tests.

    Attributes
    ----------
    back : FaultProxy
        Between the service and the Hub's API.
    front : FaultProxy
        Between the browser and the service.
    """

    service: Service
    back: FaultProxy
    front: FaultProxy
    _exit: AsyncExitStack = field(repr=False)

    @classmethod
    async def open(cls, hub: Hub, name: str, **config: Any) -> Lane:
        """Start the service and both proxies."""
        async with AsyncExitStack() as exit:
            back = await exit.enter_async_context(FaultProxy(hub.settings["hub_port"]))
            service = Service(hub, name, api_url=back.url + "hub/api/", **config)
            exit.callback(service.stop)
            await service.start()
            front = await exit.enter_async_context(FaultProxy(service.port))
            return cls(service, back, front, exit.pop_all())

    async def close(self) -> None:
        await self._exit.aclose()

    def url(self, name: str, **options: Any) -> str:
        """Return the address of a launch, through the front proxy."""
        return f"{self.front.url}build/test/{spec(name, **{'lines': 0, **options})}"

    async def quiet(self, seconds: float = 25.0) -> dict[str, float]:
        """Wait until nothing is left to clean up and the gate before the Hub is closed. Returns the metrics."""
        until = asyncio.get_running_loop().time() + seconds
        while True:
            metrics = await self.service.metrics()
            busy = {
                name: metrics[name]
                for name in ("binderhub_ext_cleanup_backlog", "binderhub_ext_hub_breaker_state")
                if metrics.get(name)
            }
            if not busy:
                return metrics
            if asyncio.get_running_loop().time() > until:
                raise AssertionError(f"after {seconds} s still {busy}")
            await asyncio.sleep(0.1)


async def watch(
    url: str,
    *,
    seconds: float = 60,
    headers: dict[str, str] | None = None,
    silence: float = 2.0,
    each: Callable[[Event], None] = lambda event: None,
) -> list[Event]:
    """Read a stream to its last event as a browser's EventSource does: whatever cuts it, it comes back.

    Parameters
    ----------
    silence : float
        Seconds without a byte after which the connection is given up, as the page does.
    each : callable
        Gets each event as it comes.
    """
    found: list[Event] = []
    last_id = ""

    async def once(session: aiohttp.ClientSession) -> bool:
        nonlocal last_id
        sent = {"Accept": "text/event-stream", **(headers or {})}
        if last_id:
            sent["Last-Event-ID"] = last_id
        async with session.get(_exact(url), headers=sent) as answer:
            assert answer.status == 200, f"{answer.status} before the last event"
            decoder = Decoder(max_event_bytes=1 << 24)
            async for chunk in answer.content.iter_any():
                for raw in decoder.feed(chunk):
                    event = Event(raw.json())
                    event.id = last_id = raw.id
                    found.append(event)
                    each(event)
                    if event["phase"] in {"ready", "failed"}:
                        return True
        return False

    async def run() -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_read=silence)
        async with aiohttp.ClientSession(
            timeout=timeout, connector=aiohttp.TCPConnector(limit=0, force_close=True)
        ) as session:
            while True:
                try:
                    if await once(session):
                        return
                except (aiohttp.ClientError, OSError, asyncio.TimeoutError):
                    pass
                await asyncio.sleep(0.2)

    try:
        await asyncio.wait_for(run(), seconds)
    except asyncio.TimeoutError:
        raise AssertionError(f"no end after {seconds} s; the last events: {found[-3:]}") from None
    return found


def _exact(url: str) -> Any:
    from yarl import URL

    return URL(url, encoded=True)
