"""Whether the installed KubeSpawner is one whose internals this package knows."""

from __future__ import annotations

import inspect
import logging
from typing import Any

KNOWN = ((7, 1),)
"""Versions (major, minor) with which the spawner is tested."""

_METHODS = {
    "_start_reflector": ("kind", "reflector_class", "replace"),
    "_start_watching_pods": ("replace",),
    "_start_watching_events": ("replace",),
    "_get_reflector_key": ("kind",),
    "_start": (),
    "_make_create_pod_request": ("pod", "request_timeout"),
    "_get_pod_url": ("pod",),
    "is_pod_running": ("pod",),
}
_REFLECTOR = ("start", "stop", "_list_and_update")


def problems(spawner: Any, reflector: Any) -> list[str]:
    """Return what is missing of the internals that the spawner builds on, as names."""
    missing = []
    for name, parameters in _METHODS.items():
        method = getattr(spawner, name, None)
        if method is None or not set(parameters) <= set(inspect.signature(method).parameters):
            missing.append(f"{spawner.__name__}.{name}")
    missing += [f"{reflector.__name__}.{name}" for name in _REFLECTOR if not hasattr(reflector, name)]
    return missing


def check(log: logging.Logger | None = None) -> None:
    """Say in one line when KubeSpawner is not one of the known versions.

    Raises
    ------
    ImportError
        When what the spawner builds on is not there.
    """
    import kubespawner
    from kubespawner.reflector import ResourceReflector

    version = kubespawner.__version__
    missing = problems(kubespawner.KubeSpawner, ResourceReflector)
    if missing:
        raise ImportError(
            f"binderhub_ext does not fit jupyterhub-kubespawner {version}: it has no {', '.join(missing)}"
        )
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers not in KNOWN:
        known = ", ".join(".".join(map(str, one)) for one in KNOWN)
        (log or logging.getLogger("jupyterhub")).warning(
            "binderhub_ext was tested with jupyterhub-kubespawner %s, not with %s", known, version
        )
