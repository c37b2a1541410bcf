"""The same launches without a BinderHub: a Hub driven through its REST API, and emptied again."""

from __future__ import annotations

import asyncio
import time

from binderhub_ext.hub.client import HubClient
from tests.support.stack import Hub


async def drive(hub: Hub, number: int, repo_url: str) -> float:
    """Start servers at once, as many as `number`. Returns the seconds until all are ready.

    Raises
    ------
    RuntimeError
        When one of them does not become ready.
    """
    client = HubClient(hub.api, hub.settings["service_token"])

    async def one(name: str) -> None:
        await client.create_user(name)
        await client.start_server(name, "", {"repo_url": repo_url, "image": "none", "token": name})
        async with client.progress(name, "") as events:
            async for event in events:
                if event.ready:
                    return
        raise RuntimeError(f"the server of {name} did not become ready")

    began = time.monotonic()
    try:
        await asyncio.gather(*(one(f"direct-{number}-{i}") for i in range(number)))
        return time.monotonic() - began
    finally:
        client.close()


async def clear(hub: Hub) -> None:
    """Remove all users and servers; wait for launches that are under way."""
    for _ in range(600):
        users = []
        while page := (await hub.request("GET", f"users?limit=200&offset={len(users)}"))[1]:
            users += page
        if not users:
            return
        for i in range(0, len(users), 20):
            names = [user["name"] for user in users[i : i + 20]]
            await asyncio.gather(*(hub.request("DELETE", f"users/{name}") for name in names))
        await asyncio.sleep(0.2)
    raise RuntimeError("the Hub could not be emptied")
