"""What answers where a pod says that it runs: a tiny HTTP server for each, as a single-user server does."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from aiohttp import web


class PodServers:
    """Servers at addresses in 127.0.0.0/8, one for each pod, by its uid."""

    def __init__(self) -> None:
        self.listening: dict[str, float] = {}
        """Pod name to the moment (`loop.time()`) of its server's first accepted connection."""
        self._runners: dict[str, web.AppRunner] = {}
        self._addresses = iter(range(1, 60_000))

    def address(self) -> str:
        """Return an IP address that no other pod has."""
        number = next(self._addresses)
        return f"127.{os.getpid() % 250 + 2}.{number // 250}.{number % 250 + 1}"

    async def begin(self, pod: dict[str, Any], ip: str) -> None:
        """Listen at the pod's own port."""

        async def answer(request: web.Request) -> web.Response:
            return web.json_response({"version": "2.0"}, headers={"X-JupyterHub-Version": "5.0.0"})

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        self._runners[pod["metadata"]["uid"]] = runner
        await runner.setup()
        port = pod["spec"]["containers"][0]["ports"][0]["containerPort"]
        await web.TCPSite(runner, ip, port, reuse_address=True).start()
        self.listening[pod["metadata"]["name"]] = asyncio.get_running_loop().time()

    async def end(self, uid: str) -> None:
        """Close the server of a pod, if it has one."""
        runner = self._runners.pop(uid, None)
        if runner is not None:
            await runner.cleanup()

    async def end_all(self) -> None:
        for uid in list(self._runners):
            await self.end(uid)
