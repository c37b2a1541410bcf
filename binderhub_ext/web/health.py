"""`/health`: what is wrong, for people and probes. `/health/live`: whether this process answers, and nothing else."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from binderhub_ext.hub.client import HubError
from binderhub_ext.hub.gate import GateState
from binderhub_ext.timing import wait_for
from binderhub_ext.upstream import health_checks
from binderhub_ext.web.base import ExtHandler

HUB_PATIENCE = 3.0
"""Seconds that the Hub has to answer a health check."""

OLD_LEFTOVER = 600.0
"""Seconds after which a leftover that cannot be removed is worth a look."""


class LiveHandler(ExtHandler):
    """For liveness probes: a restart of this service does not help when it is the Hub that is down."""

    log_success_debug = True
    skip_check_request_ip = True

    async def prepare(self) -> None:
        """No log-in, no bans."""

    def get(self) -> None:
        self.write({"ok": True})


class HealthHandler(LiveHandler):
    """BinderHub's form: ``{"ok": bool, "checks": [{"service": str, "ok": bool, ...}]}``; 503 when it is not ok."""

    async def get(self) -> None:  # type: ignore[override]
        checks = [await self._hub(), self._launches(), self._clean_up(), self._sweep()]
        checks += await health_checks(self)
        ok = all(check["ok"] or check.get("_ignore_failure") for check in checks)
        self.set_status(200 if ok else 503)
        self.set_header("content-type", "application/json")
        self.finish(json.dumps({"ok": ok, "checks": checks}))

    async def head(self) -> None:
        await self.get()

    async def _hub(self) -> dict[str, Any]:
        services = self.launches.services
        gate = services.gate
        check: dict[str, Any] = {"service": "JupyterHub API", "ok": True, "breaker": gate.state.name.lower()}
        if gate.state is GateState.CLOSED:
            try:
                await wait_for(services.flights.get("health", services.hub.health), HUB_PATIENCE)
            except (HubError, asyncio.TimeoutError) as error:
                check.update(ok=False, why=str(error) or f"no answer within {HUB_PATIENCE:g} s")
        else:
            since = round(services.clock.monotonic() - gate.since, 1)
            check.update(
                ok=gate.state is GateState.HALF_OPEN,
                why=gate.reason,
                since_seconds=since,
                waiting=gate.waiting,
            )
        return check

    def _launches(self) -> dict[str, Any]:
        return {"service": "Launches", "ok": not self.launches.closing, **self.launches.counts()}

    def _clean_up(self) -> dict[str, Any]:
        cleaner = self.launches.services.cleaner
        oldest = round(cleaner.oldest, 1)
        return {
            "service": "Clean-up",
            "ok": oldest < OLD_LEFTOVER,
            "backlog": cleaner.backlog,
            "oldest_seconds": oldest,
            # an operator should look at it, but it keeps nobody from launching
            "_ignore_failure": True,
        }

    def _sweep(self) -> dict[str, Any]:
        problem = self.settings["binderhub_ext_sweeper"].problem
        check = {"service": "Sweep for leftovers", "ok": not problem, "_ignore_failure": True}
        return {**check, "why": problem} if problem else check
