"""The Docker engine: whether one answers, what it has, and the containers of a run."""

from __future__ import annotations

from typing import Any

import docker
import docker.errors
import requests.exceptions

from binderhub_ext.local.failures import LocalFailure

RUN_LABEL = "binderhub_ext.run"
"""Every container of a run carries it; the value is the run's id."""


def client() -> Any:
    """Return a client of the engine that ``DOCKER_HOST`` names, else of this machine's.

    Raises
    ------
    LocalFailure
        When none answers.
    """
    try:
        engine = docker.from_env(version="auto", timeout=60)
        engine.ping()
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        raise LocalFailure(
            "no Docker engine answers: start one, or use --builder process, which needs none"
        ) from error
    return engine


def has_image(name: str) -> bool:
    """Say whether the engine has an image of this name. Blocking."""
    try:
        client().images.get(name)
    except docker.errors.ImageNotFound:
        return False
    return True


def remove_all(run_id: str) -> None:
    """Remove what is left of a run's containers. Blocking."""
    for container in client().containers.list(all=True, filters={"label": f"{RUN_LABEL}={run_id}"}):
        try:
            container.remove(force=True)
        except docker.errors.APIError:
            continue  # it is being removed already
