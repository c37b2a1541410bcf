"""BinderHub's configuration for a local run."""

from __future__ import annotations

import logging
import os
from typing import Any

from binderhub_ext.local.build import ProcessBuild
from binderhub_ext.local.provider import LocalGitProvider
from binderhub_ext.local.settings import Settings


def configure(c: Any, settings: Settings) -> None:
    """Fill in a BinderHub config: the service is managed by the Hub, and has no Kubernetes."""
    c.BinderHubExt.address = "127.0.0.1"
    c.BinderHub.base_url = os.environ["JUPYTERHUB_SERVICE_PREFIX"]
    c.BinderHub.hub_url = settings.public_url
    c.BinderHub.hub_api_token = os.environ["JUPYTERHUB_API_TOKEN"]
    c.BinderHub.use_registry = False
    # both names: main's, and the one of 0.1.0
    c.BinderHub.image_prefix = c.BinderHub.docker_image_prefix = "local-"
    c.BinderHub.builder_required = False
    c.BinderHub.repo_providers = {"git": LocalGitProvider}
    c.BinderHub.build_token_secret = (settings.root / "secrets" / "build_token").read_text().strip()
    c.BinderHub.log_level = logging.DEBUG if settings.verbose else logging.INFO
    if settings.builder == "docker":
        from binderhub_ext.local.docker_build import DockerBuild

        c.BinderHub.build_class = DockerBuild
    else:
        c.BinderHub.build_class = ProcessBuild
