"""What BinderHub asks of any spawner, as a mixin: the image and the token come with the request.

No Kubernetes in here. The options are those that BinderHub's `Launcher` sends with
`POST /users/:name/servers/:server_name`; in upstream the same is in `binderhub/binderspawner_mixin.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tornado import web
from traitlets import Bool, Unicode
from traitlets.config import Configurable

ENVIRONMENT = {
    "repo_url": "BINDER_REPO_URL",
    "binder_ref_url": "BINDER_REF_URL",
    "binder_launch_host": "BINDER_LAUNCH_HOST",
    "binder_persistent_request": "BINDER_PERSISTENT_REQUEST",
    "binder_request": "BINDER_REQUEST",
    "binder_client_ip": "BINDER_CLIENT_IP",
}
"""User options that become environment variables of the server."""


if TYPE_CHECKING:
    from jupyterhub.spawner import Spawner as _Spawner
else:
    _Spawner = Configurable


class BinderSpawnerMixin(_Spawner):
    """Put it before a spawner class that has an `image` trait."""

    auth_enabled = Bool(
        False,
        config=True,
        help="""
        Whether people log in to the Hub.

        Then the server is started as JupyterHub starts one, and `jupyterhub-singleuser` has to be in
        the image. Default: False, the token that BinderHub made protects the server.
        """,
    )
    cors_allow_origin = Unicode(
        "",
        config=True,
        help="""
        Origin that may access the servers from a browser; "*" for any. Default: none.

        Sets the header Access-Control-Allow-Origin of the servers. For BinderHub's own API see
        BinderHub.cors_allow_origin.
        """,
    )

    def start(self) -> Any:
        """Start the server with the image of the request.

        Raises
        ------
        tornado.web.HTTPError
            400 when the image or the token is missing and nobody logs in. Not retryable.
        """
        options = self.user_options
        if not self.auth_enabled:
            for name in ("token", "image"):
                if name not in options:
                    raise web.HTTPError(400, f"{name} required")
        if "image" in options:
            self.image = options["image"]
        return super().start()

    def get_args(self) -> list[str]:
        """Return the arguments of the server: for both the classic Notebook and Jupyter Server."""
        if self.auth_enabled:
            return list(super().get_args())
        settings = {
            "base_url": self.server.base_url,
            "token": self.user_options["token"],
            "trust_xheaders": "True",
        }
        if self.default_url:
            settings["default_url"] = self.default_url
        if self.cors_allow_origin:
            settings["allow_origin"] = self.cors_allow_origin
        if self.cors_allow_origin == "*":
            # allow_origin=* alone does not open single files: https://github.com/jupyter/notebook/pull/5898
            settings["allow_origin_pat"] = ".*"
        args = ["--ip=0.0.0.0", f"--port={self.port}"]
        args += [f"--NotebookApp.{name}={value}" for name, value in settings.items()]
        args += self.args
        prefix = "--NotebookApp."
        return args + ["--ServerApp." + arg[len(prefix) :] for arg in args if arg.startswith(prefix)]

    def get_env(self) -> dict[str, str]:
        """Return the environment of the server, with what BinderHub says about the launch."""
        env: dict[str, str] = super().get_env()
        for option, variable in ENVIRONMENT.items():
            if option in self.user_options:
                env[variable] = self.user_options[option]
        return env
