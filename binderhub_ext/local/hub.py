"""JupyterHub's configuration for a local run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from binderhub_ext.local import processes
from binderhub_ext.local.binder_options import image_and_token
from binderhub_ext.local.settings import SERVICE_PREFIX, Settings, clean_environment

_HERE = Path(__file__).resolve().parent


def configure(c: Any, settings: Settings) -> None:
    """Fill in a JupyterHub config: nobody logs in, BinderHub makes temporary users."""
    root = settings.root

    c.JupyterHub.bind_url = settings.public_url
    c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{settings.hub_port}"
    c.JupyterHub.default_url = SERVICE_PREFIX
    c.JupyterHub.log_level = "DEBUG" if settings.verbose else "INFO"
    c.JupyterHub.db_url = f"sqlite:///{root / 'hub.sqlite'}"
    c.JupyterHub.cookie_secret_file = str(root / "secrets" / "cookie_secret")
    c.JupyterHub.cleanup_servers = True
    c.JupyterHub.cleanup_proxy = True
    # as in BinderHub's chart: a start is answered at once, its progress has a stream of its own
    c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
    c.JupyterHub.authenticator_class = "null"
    c.JupyterHub.last_activity_interval = 60

    c.JupyterHub.proxy_class = "configurable-http-proxy"
    c.ConfigurableHTTPProxy.command = list(settings.proxy_command)
    c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{settings.proxy_port}"
    c.ConfigurableHTTPProxy.auth_token = (root / "secrets" / "proxy_token").read_text().strip()
    c.ConfigurableHTTPProxy.pid_file = str(root / "proxy.pid")
    c.ConfigurableHTTPProxy.debug = settings.verbose

    if settings.builder == "docker":
        c.JupyterHub.spawner_class = "binderhub_ext.local.docker_spawner.ContainerSpawner"
    else:
        c.JupyterHub.spawner_class = "binderhub_ext.local.spawner.ImageSpawner"
    c.Spawner.apply_user_options = check_options
    c.Spawner.start_timeout = 120
    c.Spawner.http_timeout = 30

    environment = clean_environment() | settings.environment() | {processes.RUN: settings.run_id}
    start = [sys.executable, "-m", "binderhub_ext.local.start"]
    service = [*start, "service", "--config", str(_HERE / "binderhub_config.py")]
    culler = [
        *("nice", sys.executable, "-m", "jupyterhub_idle_culler", "--cull-users=True"),
        f"--timeout={settings.cull_after}",
        f"--cull-every={max(1, min(60, settings.cull_after // 2))}",
    ]
    c.JupyterHub.services = [
        {
            "name": "binder",
            "url": f"http://127.0.0.1:{settings.service_port}",
            "command": [*service, "--port", str(settings.service_port)],
            "environment": environment,
        },
        {"name": "culler", "command": culler, "environment": environment},
    ]
    c.JupyterHub.load_roles = [
        {"name": "binder", "services": ["binder"], "scopes": ["servers", "admin:users"]},
        {
            "name": "culler",
            "services": ["culler"],
            "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers", "admin:users"],
        },
    ]


def check_options(spawner: Any, options: dict[str, Any]) -> None:
    """Refuse a start that does not come from BinderHub (the Hub answers 400); called by the Hub."""
    image_and_token(options)
