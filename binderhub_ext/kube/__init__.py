"""A Hub that does not lose its pods: a reflector, and spawners for KubeSpawner's place.

One line of the Hub's configuration switches it on, with health at
``/hub/api/binderhub_ext/health``::

    import binderhub_ext.kube; binderhub_ext.kube.configure(c)

This package runs in the Hub. It imports neither binderhub nor the service. `binder` and
`readiness` need no Kubernetes either.

    spawner -> stopping -> access -> shared -> reflector -> rounds, transport, parsing, cache
                              \\-> podreader, leftovers, abort
"""

from __future__ import annotations

from typing import Any


def configure(c: Any, *, binder: bool = True) -> None:
    """Set the spawner class and the health handler in a JupyterHub configuration.

    Parameters
    ----------
    c : traitlets.config.Config
        The Hub's configuration.
    binder : bool
        Whether servers are started by a BinderHub; else as KubeSpawner starts them.
    """
    from .health import HANDLERS

    c.JupyterHub.spawner_class = "binder-reliable-kubespawner" if binder else "reliable-kubespawner"
    before = c.JupyterHub.get("extra_handlers", [])
    c.JupyterHub.extra_handlers = [*before, *(one for one in HANDLERS if one not in before)]
