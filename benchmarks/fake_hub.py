"""A Hub that does nothing but keep time: its moment of ready is known to the microsecond.

Run as a process: ``python -m benchmarks.fake_hub PORT``. Servers are ready after the
`spawn` seconds of their repository's link (see `tests/support/scripted.py`).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tornado.httpclient import AsyncHTTPClient
from tornado.web import Application, RequestHandler

from benchmarks.services import HubAddress
from tests.support.processes import ROOT, Process, free_port, python
from tests.support.scripted import options_of

WORK: dict[str, float] = defaultdict(float)
READY: dict[str, float] = {}
SPAWN: dict[str, float] = {}


class Timed(RequestHandler):
    """Counts the time from a request to its answer as the Hub's work for that user."""

    def prepare(self) -> None:
        self.began = time.monotonic()

    def on_finish(self) -> None:
        WORK[self.path_args[0]] += time.monotonic() - self.began


class User(Timed):
    def post(self, name: str) -> None:
        self.set_status(201)
        self.write({"name": name, "servers": {}})


class Server(Timed):
    def post(self, name: str) -> None:
        options = json.loads(self.request.body)
        SPAWN[name] = float(options_of(options["repo_url"]).get("spawn", 0))
        self.set_status(202)


class Progress(Timed):
    async def get(self, name: str) -> None:
        self.set_header("content-type", "text/event-stream")
        self.say({"progress": 0, "message": "Server requested"})
        await self.flush()
        if SPAWN[name]:
            await asyncio.sleep(SPAWN[name])
        self.say({"progress": 100, "ready": True, "message": f"Server ready at /user/{name}/"})
        READY[name] = time.monotonic()

    def say(self, event: dict[str, Any]) -> None:
        self.write(f"data: {json.dumps(event)}\n\n")


class Timings(RequestHandler):
    def get(self) -> None:
        self.write({"work": WORK, "ready": READY})


async def serve(port: int) -> None:
    user = "/hub/api/users/([^/]+)"
    Application(
        [
            (user, User),
            (user + "/servers?/?", Server),
            (user + "/server/progress", Progress),
            ("/timings", Timings),
        ],
        log_function=lambda handler: None,
    ).listen(port, "127.0.0.1")
    await asyncio.Event().wait()


@asynccontextmanager
async def fake_hub(folder: Path) -> AsyncIterator[HubAddress]:
    """Run it."""
    port = free_port()
    command = [python(), "-m", "benchmarks.fake_hub", str(port)]
    process = Process(command, folder / "fake-hub.log", {}, ROOT)
    try:
        url = f"http://127.0.0.1:{port}/"
        await process.answers(url)
        yield HubAddress(url, url + "hub/api/", "token")
    finally:
        process.kill()


async def timings(hub: HubAddress) -> tuple[dict[str, float], dict[str, float]]:
    """Return the seconds of work for each user, and when their servers were ready (monotonic)."""
    answer = json.loads((await AsyncHTTPClient().fetch(hub.url + "timings")).body)
    return answer["work"], answer["ready"]


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
