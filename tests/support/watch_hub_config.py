"""Configuration of the JupyterHub that the watchdog's tests run; its facts come from the environment."""

import json
import os

from sqlalchemy import event
from sqlalchemy.engine import Engine

from tests.support.watch_proxy import MemoryProxy


@event.listens_for(Engine, "connect")
def no_waiting_for_the_disk(connection, _):
    """The Hub commits a dozen times for each start and stop; its database need not outlive the machine."""
    connection.execute("PRAGMA synchronous = OFF")


facts = json.loads(os.environ["WATCH_HUB"])
c = get_config()  # noqa: F821

c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{facts['port']}"
c.JupyterHub.bind_url = f"http://127.0.0.1:{facts['port']}"
c.JupyterHub.db_url = f"sqlite:///{facts['folder']}/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = f"{facts['folder']}/cookie_secret"
c.JupyterHub.proxy_class = MemoryProxy
c.JupyterHub.authenticator_class = "null"
c.JupyterHub.spawner_class = facts["spawner"]
c.JupyterHub.cleanup_servers = False  # servers outlive the Hub, as in the chart
c.JupyterHub.concurrent_spawn_limit = 0
c.JupyterHub.log_level = "INFO"
c.JupyterHub.services = [
    {"name": "tests", "api_token": facts["admin_token"]},
    {"name": "watchdog", "api_token": facts["watchdog_token"]},
]
c.JupyterHub.load_roles = [
    {"name": "tests", "services": ["tests"], "scopes": ["admin:users", "admin:servers"]},
    {"name": "watchdog", "services": ["watchdog"], "scopes": facts["watchdog_scopes"]},
]
c.KubeSpawner.namespace = "default"
c.KubeSpawner.poll_interval = facts["poll_interval"]
c.Spawner.poll_jitter = 0
for name, value in facts["config"].items():
    section, trait = name.split(".")
    c[section][trait] = value
