"""Fixtures that several rooms share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.stack import Hub, Service


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    hub = await Hub(tmp_path_factory.mktemp("hub")).start()
    yield hub
    hub.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_service(shared_hub: Hub) -> AsyncIterator[Service]:
    service = await Service(shared_hub, Launcher__abandon_timeout=1.0).start()
    yield service
    service.stop()


@pytest_asyncio.fixture
async def hub(shared_hub: Hub) -> AsyncIterator[Hub]:
    """The Hub that all tests share, empty at the start of each."""
    await shared_hub.clear()
    await shared_hub.empty()
    for path in shared_hub.state.iterdir():
        path.unlink()
    yield shared_hub


@pytest_asyncio.fixture
async def service(hub: Hub, shared_service: Service) -> Service:
    """The service that all tests share. Launches that nobody watches are given up after 1 s."""
    return shared_service
