"""What BinderHub tells a spawner about a launch, in its user options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from binderhub_ext.local.server_probe import StartFailed

_KEYS = (
    "binder_ref_url",
    "binder_launch_host",
    "binder_persistent_request",
    "binder_request",
    "binder_client_ip",
)


def image_and_token(options: Mapping[str, Any]) -> tuple[str, str]:
    """Return the image's name and the server's access token.

    Raises
    ------
    StartFailed
        When one is missing: the server was not started by BinderHub.
    """
    image, token = options.get("image"), options.get("token")
    if not (isinstance(image, str) and isinstance(token, str) and image and token):
        raise StartFailed("A server needs an image and a token: start it through BinderHub.")
    return image, token


def binder_environment(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the ``BINDER_...`` variables that notebooks read.

    Source: ``binderhub/binderspawner_mixin.py``, `get_env`.
    """
    env = {key.upper(): str(options[key]) for key in _KEYS if options.get(key) is not None}
    if options.get("repo_url"):
        env["BINDER_REPO_URL"] = str(options["repo_url"])
    return env
