"""The watchdog's own pages: `/health`, `/metrics`, `/evidence`."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from .signs import Sign
from .watch import Watchdog

WATCHDOG: web.AppKey[Watchdog] = web.AppKey("watchdog", Watchdog)


def health(watchdog: Watchdog) -> tuple[bool, dict[str, Any]]:
    """Return whether the watchdog does its work, and the facts.

    It is healthy while its rounds go on. That the Hub or the API server is in trouble is a fact here,
    not an illness: a watchdog that is restarted because of it would watch nothing.
    """
    age = None if watchdog.last_round is None else watchdog.clock.monotonic() - watchdog.last_round
    # a round may take as long as its slowest side, which is bounded by the timeouts of the edges
    well = age is not None and age < 3 * watchdog.interval + 30.0
    obs = watchdog.last_observation
    return well, {
        "ok": well,
        "last_round_seconds_ago": None if age is None else round(age, 1),
        "leader": watchdog.lease.leading,
        "identity": watchdog.lease.identity,
        "dry_run": watchdog.decider.limits.dry_run,
        "decision": watchdog.last_decision.as_dict(),
        "stands": {
            s.value: n for s in Sign if (n := sum(f.stands for f in watchdog.findings if f.sign is s))
        },
        "restarts_in_last_day": watchdog.decider.history.in_last_day(watchdog.clock.monotonic()),
        "seen": obs.summary() if obs is not None else None,
    }


async def get_health(request: web.Request) -> web.Response:
    well, facts = health(request.app[WATCHDOG])
    return web.json_response(facts, status=200 if well else 503)


async def get_metrics(request: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def get_evidence(request: web.Request) -> web.Response:
    records = request.app[WATCHDOG].evidence.records
    return web.Response(text=json.dumps(records, indent=1) + "\n", content_type="application/json")


def make_pages(watchdog: Watchdog) -> web.Application:
    """Return the web application."""
    pages = web.Application()
    pages[WATCHDOG] = watchdog
    pages.add_routes(
        [
            web.get("/health", get_health),
            web.get("/metrics", get_metrics),
            web.get("/evidence", get_evidence),
        ]
    )
    return pages
