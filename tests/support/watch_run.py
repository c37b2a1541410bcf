"""A watchdog in the test's own process, wired by the application as it is wired in production."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from binderhub_ext.watchdog.app import WatchdogApp
from binderhub_ext.watchdog.cluster import connect
from binderhub_ext.watchdog.watch import Watchdog

from .kube_api import EVENTS, KubeAPI
from .watch_hub import HubDeployment

SCALE = 20
"""Every time of the watchdog's defaults is divided by this, so that a minute is three seconds."""

SCALED: dict[str, Any] = {
    "interval": 10 / SCALE,
    "timeout": 2.0,
    "bounds": {
        "start_stuck": 60 / SCALE,
        "stop_stuck": 60 / SCALE,
        "ghost": 90 / SCALE,
        "orphan": 60 / SCALE,
        "hub_silent": 60 / SCALE,
        "no_launch": 60 / SCALE,
    },
    "cooldown": 600 / SCALE,
    "grace": 20 / SCALE,
    "settle": 60 / SCALE,
    "lease_duration": 5.0,
}


@contextlib.asynccontextmanager
async def watching(api: KubeAPI, hub: HubDeployment, **settings: Any) -> AsyncIterator[Watchdog]:
    """Run a watchdog while the block lasts.

    Parameters
    ----------
    settings
        Traits of `WatchdogApp`; the times are the scaled defaults.
    """
    app = WatchdogApp(
        hub_api_url=hub.api_url,
        hub_token=hub.watchdog_token,
        namespace="default",
        **{**SCALED, "identity": "watchdog-1", **settings},
    )
    client = await connect(settings.get("api_server") or api.url)
    async with aiohttp.ClientSession() as session:
        watchdog, canary = app.make(session, client)
        task = asyncio.create_task(watchdog.run())
        try:
            yield watchdog
        finally:
            watchdog.end()
            ended = await asyncio.gather(task, return_exceptions=True)
            if canary is not None:
                await canary.close()
            await client.close()
            if isinstance(ended[0], BaseException):  # an error of the watchdog's own is an error of the test
                raise ended[0]


def told(api: KubeAPI) -> list[str]:
    """Return the reasons of the Events that the watchdog wrote, the oldest first."""
    found = [item.object for item in api.store.state(EVENTS).values()]
    ours = [e for e in found if e.get("source", {}).get("component") == "binderhub-ext-watchdog"]
    return [e["reason"] for e in sorted(ours, key=lambda e: int(e["metadata"]["resourceVersion"]))]
