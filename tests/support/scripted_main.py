"""What only BinderHub's main branch has, scripted."""

from __future__ import annotations

import logging
from typing import Any

from binderhub.quota import LaunchQuota, LaunchQuotaExceeded
from kubernetes.client import ApiException

from tests.support.scripted import STATE, ScriptedBuild, counted, options_of


def full_quota(status: str) -> type[LaunchQuota]:
    """Return a quota that is full: ``pod_quota`` or ``repo_quota``."""

    class FullQuota(LaunchQuota):
        async def check_repo_quota(self, image_name: str, repo_config: Any, repo_url: str) -> None:
            if not (STATE / "room").exists():
                raise LaunchQuotaExceeded("Too many users! Try again soon.", quota=1, used=1, status=status)

    return FullQuota


class UncountedQuota(LaunchQuota):
    """A quota whose pods cannot be counted, or not the first two times."""

    async def check_repo_quota(self, image_name: str, repo_config: Any, repo_url: str) -> None:
        if options_of(repo_url).get("quota") == "down" or counted("quota " + repo_url) <= 2:
            raise ApiException(status=500, reason="etcdserver: leader changed")


def TelemetryFile(event_log: Any) -> list[logging.Handler]:
    """Return a handler that writes the telemetry events into a file."""
    return [logging.FileHandler(STATE / "telemetry.jsonl")]


class RegistryBuild(ScriptedBuild):
    """A builder that leaves the question whether an image is there to the registry."""

    image_exists = None
