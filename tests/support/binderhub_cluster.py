"""BinderHub in a cluster, as far as launches need it: its builder and quota before an API server of the tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import kubernetes.client
import pytest
from traitlets.config import Application

from binderhub_ext.upstream import DefaultBuild, Repository, Upstream
from tests.support.kube_api import KubeAPI


@asynccontextmanager
async def in_cluster(
    api: KubeAPI, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> AsyncIterator[Upstream]:
    """Yield a BinderHub that finds itself in the cluster of this API server; stops the server at the end."""
    configuration = kubernetes.client.Configuration()
    configuration.host = api.url
    # main's parts make their own clients
    monkeypatch.setattr("kubernetes.config.load_incluster_config", lambda: None)
    monkeypatch.setattr(kubernetes.client.Configuration, "_default", configuration)
    pools = {"build_pool": ThreadPoolExecutor(8), "executor": ThreadPoolExecutor(8)}
    app = Application()
    app.build_class = DefaultBuild
    app.tornado_app = SimpleNamespace(
        settings={
            **pools,
            "use_registry": False,
            # of 0.1.0
            "kubernetes_client": kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(configuration)),
            "build_namespace": "default",
            "builder_image_spec": "builder:1",
            "build_memory_limit": "1G",
            "build_docker_host": "/var/run/docker.sock",
            "build_node_selector": {},
            "appendix": "",
            "log_tail_lines": 10,
            **settings,
        }
    )
    try:
        yield Upstream(app)
    finally:
        # ends the watches that builders are still in
        await api.stop()
        for pool in pools.values():
            await asyncio.to_thread(pool.shutdown)


def repository(name: str) -> Repository:
    """Return a repository at a commit."""
    url = f"https://repos.test/{name}"
    return Repository(
        provider=SimpleNamespace(name="Git", git_credentials="", repo_config=lambda settings: {"quota": 1}),
        prefix="git",
        spec=f"{name}/main",
        resolved_spec=f"{name}/abc123",
        repo_url=url,
        ref="abc123",
        ref_url=url,
        image_name=f"image-{name}:abc123",
        build_name=f"build-{name}",
    )
