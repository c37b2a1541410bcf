"""What one run of the local BinderHub was told, handed to its processes through the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

VARIABLE = "BINDERHUB_EXT_LOCAL"
"""The environment variable that carries the settings, as JSON."""

SERVICE_PREFIX = "/services/binder/"
"""Where the proxy serves the BinderHub service."""

_PRIVATE = ("BINDERHUB_EXT_LOCAL", "CONFIGPROXY_", "JUPYTERHUB_")
# what a shell or a git hook that started us may have set, and its children must not inherit
_FOREIGN = ("GIT_", "JPY_", "JUPYTER_", "VIRTUAL_ENV", "PYTHONHOME", "MAKE", "MFLAGS")


@dataclass(frozen=True)
class Settings:
    """One run.

    Attributes
    ----------
    data_dir : str
        Images, servers' files, secrets, logs. Absolute.
    run_id : str
        In the environment of every process of this run (see `processes`).
    port : int
        The public side, on 127.0.0.1. The three others are free ports on 127.0.0.1, too.
    hub_port, proxy_port, service_port : int
        Where the Hub, the proxy's API and the BinderHub service listen.
    proxy_command : tuple of str
        How to start configurable-http-proxy.
    builder : str
        ``process`` or ``docker``.
    verbose : bool
        Whether the processes log everything.
    cull_after : int
        Seconds after which a server that nobody uses is stopped.
    """

    data_dir: str
    run_id: str
    port: int
    hub_port: int
    proxy_port: int
    service_port: int
    proxy_command: tuple[str, ...]
    builder: str = "process"
    verbose: bool = False
    cull_after: int = 3600

    @property
    def root(self) -> Path:
        return Path(self.data_dir)

    @property
    def public_url(self) -> str:
        """Where a browser finds the Hub, with a slash at its end."""
        return f"http://127.0.0.1:{self.port}/"

    @property
    def service_url(self) -> str:
        """Where a browser finds the BinderHub service, with a slash at its end."""
        return self.public_url.rstrip("/") + SERVICE_PREFIX

    def environment(self) -> dict[str, str]:
        """Return the variables from which `from_environment` makes the same settings."""
        return {VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Return the settings of the run that this process belongs to.

        Raises
        ------
        KeyError
            When this process belongs to none.
        """
        values = json.loads(environ[VARIABLE])
        values["proxy_command"] = tuple(values["proxy_command"])
        return cls(**values)


def clean_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return an environment for processes that run a repository's code or install its packages.

    The Hub's secrets are left out, and what would make git, pip or Jupyter work elsewhere. The
    run's id stays: `processes` finds them by it.
    """
    return {
        key: value
        for key, value in environ.items()
        if key == "BINDERHUB_EXT_LOCAL_RUN" or not key.startswith(_PRIVATE + _FOREIGN)
    }
