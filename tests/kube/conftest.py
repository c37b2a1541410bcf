"""Fixtures: an API server, and spawners of the real classes that use it, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from jupyterhub import orm
from jupyterhub.objects import Hub
from kubernetes_asyncio.client import Configuration
from kubespawner import KubeSpawner
from traitlets.config import Config

from binderhub_ext.kube.bounds import BOUNDS
from binderhub_ext.kube.leftovers import Leftovers
from binderhub_ext.kube.shared import SharedReflectors
from binderhub_ext.kube.spawner import ReliableKubeSpawner
from tests.support.kube_api import KubeAPI
from tests.support.kube_pods import PodController

SHORT = {
    "timeout_seconds": 1,  # seconds of a watch
    "request_timeout": 2,
    "backoff_limit": 0.3,
    "inactivity_seconds": 1.5,
}


@pytest.fixture
async def api() -> AsyncIterator[KubeAPI]:
    async with KubeAPI(bookmark_interval=0.3) as server:
        before = Configuration.get_default_copy()
        configuration = Configuration()
        configuration.host = server.url
        Configuration.set_default(configuration)
        try:
            yield server
        finally:
            Configuration.set_default(before)


@pytest.fixture
async def pods_run(api: KubeAPI) -> AsyncIterator[PodController]:
    async with PodController(api, delay=0.02, serve=True) as controller:
        yield controller


@pytest.fixture(autouse=True)
def separate(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Spawner classes keep their reflectors on the class: every test has its own."""
    monkeypatch.setattr("kubespawner.spawner.load_config", lambda **_: None)
    monkeypatch.setattr(KubeSpawner, "reflectors", {})
    monkeypatch.setattr(ReliableKubeSpawner, "reflectors", SharedReflectors())
    monkeypatch.setattr(ReliableKubeSpawner, "leftovers", Leftovers(first=0.05, limit=0.2, settle=0.5))
    yield
    BOUNDS.actions.clear()


def settings(**more: Any) -> Config:
    config = Config()
    config.ResourceReflector.timeout_seconds = SHORT["timeout_seconds"]
    config.ResourceReflector.request_timeout = SHORT["request_timeout"]
    config.ReliableReflector.backoff_limit = SHORT["backoff_limit"]
    config.ReliableReflector.inactivity_seconds = SHORT["inactivity_seconds"]
    config.KubeSpawner.namespace = "default"
    config.KubeSpawner.image = "example/image:1"
    config.KubeSpawner.http_timeout = 5
    config.KubeSpawner.k8s_api_request_timeout = 1
    config.KubeSpawner.k8s_api_request_retry_timeout = 2
    config.ReliableKubeSpawner.stop_timeout = 4
    config.ReliableKubeSpawner.poll_timeout = 1.5
    config.ReliableKubeSpawner.read_every = 0.5
    for name, value in more.items():
        # a trait of the spawner, or of its reflectors: `ResourceReflector__request_timeout`
        section, _, trait = name.rpartition("__")
        config[section or "KubeSpawner"][trait] = value
    return config


@pytest.fixture
async def make_spawner(api: KubeAPI) -> AsyncIterator[Callable[..., Any]]:
    classes: set[type[KubeSpawner]] = {KubeSpawner, ReliableKubeSpawner}

    def make(cls: type[KubeSpawner] = ReliableKubeSpawner, name: str = "ada", **more: Any) -> Any:
        classes.add(cls)
        user = mock.Mock()
        user.name, user.id, user.url, user.escaped_name = name, 1, f"/user/{name}/", name
        user.groups = []
        hub = Hub(base_url="/hub/", ip="127.0.0.1", port=8081)
        orm_server = orm.Server(proto="http", ip="127.0.0.1", port=8888, base_url=user.url, cookie_name="c")
        orm_spawner = SimpleNamespace(name="", server=orm_server, state={}, user_options={})
        options = more.pop("user_options", {})
        spawner = cls(
            hub=hub, user=user, config=settings(**more), api_token="secret", oauth_client_id="client",
            user_options=options, orm_spawner=orm_spawner,
        )  # fmt: skip
        spawner.db = mock.Mock()
        return spawner

    yield make
    for cls in classes:
        await asyncio.wait_for(cls._stop_all_reflectors(), 5)


@pytest.fixture
def until() -> Callable[..., Any]:
    async def until(condition: Callable[[], Any], seconds: float = 5.0) -> None:
        """Return as soon as the condition holds; fail when it does not within this time."""
        end = asyncio.get_running_loop().time() + seconds
        while not condition():
            assert asyncio.get_running_loop().time() < end, f"not within {seconds} s"
            await asyncio.sleep(0.01)

    return until
