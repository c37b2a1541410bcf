"""The JupyterHub of the tests: real, with servers that behave as their link says."""

import json
import os

from jupyterhub.apihandlers.users import SpawnProgressAPIHandler

from tests.support.scripted import ScriptedSpawner

settings = json.loads(os.environ["BINDERHUB_EXT_TEST_HUB"])
c = get_config()  # type: ignore[name-defined]  # noqa: F821

# bounds are short here: so is the time in which the Hub says that its progress stream is alive
SpawnProgressAPIHandler.keepalive_interval = 0.5
c.JupyterHub.spawner_class = ScriptedSpawner
c.JupyterHub.authenticator_class = settings.get("authenticator", "null")
c.Authenticator.allow_all = True
c.DummyAuthenticator.password = "pw"
c.JupyterHub.bind_url = f"http://127.0.0.1:{settings['port']}"
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{settings['hub_port']}"
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{settings['proxy_port']}"
c.ConfigurableHTTPProxy.command = settings["proxy_command"]
c.JupyterHub.db_url = "sqlite:///hub.sqlite"
c.JupyterHub.cookie_secret_file = os.path.abspath("cookie_secret")
c.JupyterHub.cleanup_servers = True
c.JupyterHub.allow_named_servers = bool(settings.get("named_servers"))
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": settings.get("slow_spawn_timeout", 0)}
c.JupyterHub.concurrent_spawn_limit = settings.get("concurrent_spawn_limit", 0)
c.JupyterHub.active_server_limit = settings.get("active_server_limit", 0)
c.Spawner.start_timeout = settings.get("start_timeout", 60)
c.Spawner.http_timeout = settings.get("http_timeout", 20)
c.Spawner.consecutive_failure_limit = 0
c.JupyterHub.log_level = "INFO"
c.JupyterHub.services = [
    {"name": "binder", "api_token": settings["service_token"], **settings.get("service", {})},
    {"name": "tests", "api_token": settings["admin_token"], "admin": True},
]
c.JupyterHub.load_roles = [
    {"name": "binder", "scopes": ["servers", "admin:users"], "services": ["binder"]},
    {
        "name": "user",
        "scopes": ["self", "access:services"],
    },
]
