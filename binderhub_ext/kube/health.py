"""`/hub/api/binderhub_ext/health`: 200 only while the Hub can start and stop servers.

`/hub/health` is an empty handler: it answers 200 also when the Hub lost touch with its pods. This
one needs no token, so that a probe can ask, and names neither users nor servers.
"""

from __future__ import annotations

import json
from typing import Any

from tornado import web

from .bounds import BOUNDS, Bounds
from .shared import SharedReflectors


def facts(reflectors: SharedReflectors, bounds: Bounds, left_to_delete: int) -> tuple[bool, dict[str, Any]]:
    """Return whether the Hub is healthy, and why.

    A reflector that nobody needed yet is no fault: a Hub without servers is healthy.
    """
    caches = [
        {
            "kind": kind,
            "namespace": namespace,
            "healthy": reflector.healthy(),
            "loaded": reflector.loaded,
            "age": round(reflector.age, 3),
            "limit": reflector.silence,
            "resource_version": reflector.cache.version,
            "objects": len(reflector.resources),
            "failures": reflector.rounds.failures,
        }
        for (kind, namespace), reflector in reflectors.items()
    ]
    overdue = [
        {"action": action.name, "age": round(bounds.age(action), 3), "bound": action.bound}
        for action in bounds.overdue()
    ]
    healthy = not overdue and all(cache["healthy"] for cache in caches)
    pending = {name: sum(a.name == name for a in bounds.actions) for name in ("start", "stop", "poll")}
    return healthy, {
        "status": "ok" if healthy else "unhealthy",
        "caches": caches,
        "pending": pending,
        "overdue": overdue,
        "left_to_delete": left_to_delete,
    }


class HealthHandler(web.RequestHandler):
    """Answers 200 or 503, with the facts as JSON."""

    def get(self) -> None:
        from .access import PodAccess

        healthy, body = facts(PodAccess.reflectors, BOUNDS, len(PodAccess.leftovers))
        self.set_status(200 if healthy else 503)
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(body) + "\n")

    head = get


HANDLERS: list[tuple[str, type[web.RequestHandler]]] = [(r"/api/binderhub_ext/health", HealthHandler)]
"""For `c.JupyterHub.extra_handlers`."""
