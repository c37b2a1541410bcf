"""A small BinderHub for the page: real pages, real event streams, and connections that fail on purpose.

What a launch says is a list of events (`Scenario.events`). It is told as the service tells
it: numbered, and to whoever comes back only what they have not seen. `Scenario.faults` says
what goes wrong with the first connection, the second, ...
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import tornado.httpserver
import tornado.iostream
import tornado.testing
import tornado.web
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader

import binderhub_ext.web
from binderhub_ext.web.page import Link, PageRenderer

BASE = "/base/"
EXT_STATIC = Path(binderhub_ext.web.__file__).parent / "static"
REACT_TEMPLATES = Path(__file__).parent / "templates_react"

_BINDERHUB = find_spec("binderhub")
assert _BINDERHUB is not None and _BINDERHUB.origin is not None
BINDERHUB = Path(_BINDERHUB.origin).parent
"""The installed package. Looked up, not imported: only its files are needed."""

PAGES = {"binderhub 0.1.0": BINDERHUB / "templates", "drawn by a script": REACT_TEMPLATES}
"""The two kinds of `page.html`."""


def binderhub_environment(templates: Path, operator: Path | None = None) -> Environment:
    """Return a Jinja environment with the loaders that BinderHub makes."""
    paths = [operator, templates] if operator else [templates]
    loader = ChoiceLoader(
        [PrefixLoader({"templates": FileSystemLoader([templates])}), FileSystemLoader(paths)]
    )
    return Environment(loader=loader, autoescape=True)


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one connection.

    Attributes
    ----------
    after : int
        How many events are sent before it goes wrong.
    status : int
        Answered instead of a stream. 0: a stream.
    stall : bool
        Stay open and say nothing more, instead of dropping the connection.
    again : int
        Before new events, send so many old ones again.
    """

    after: int = 0
    status: int = 0
    stall: bool = False
    again: int = 0


@dataclass
class Scenario:
    """One launch.

    Attributes
    ----------
    events : sequence of dict
        What it says, in order. It ends when they end with `ready` or `failed`; else it goes on.
    faults : list of Fault
        For the first connection, the second, ...; connections after them work.
    known_tickets : set of str or None
        Others are refused as the service does. None: all are taken.
    config : dict
        More for the page's script.
    """

    events: Sequence[dict[str, Any]]
    faults: list[Fault] = field(default_factory=list)
    known_tickets: set[str] | None = None
    config: dict[str, Any] = field(default_factory=dict)
    connections: list[dict[str, str]] = field(default_factory=list)
    pages: int = 0

    def say(self, *events: dict[str, Any]) -> None:
        """Add events while it runs."""
        self.events = [*self.events, *events]


class _Page(tornado.web.RequestHandler):
    def get(self, spec: str) -> None:
        server: PageServer = self.settings["page_server"]
        scenario = server.scenarios[spec]
        scenario.pages += 1
        config = {
            "buildUrl": f"{BASE}build/gh/{spec}",
            "buildToken": "a-build-token",
            "ticket": f"ticket-{scenario.pages}",
            "providerName": "GitHub",
            "spec": spec,
            "repoUrl": f"https://github.com/{spec}",
            "homeUrl": BASE,
            **scenario.config,
        }
        page = server.renderer.render_launch(self.namespace(), config=config, title="Launch")
        self.write_page(page)

    def namespace(self) -> dict[str, Any]:
        return {
            "static_url": lambda path: f"{BASE}static/{path}",
            "ext_static_url": lambda path: f"{BASE}binderhub_ext/static/{path}",
            **self.settings["page_server"].namespace,
        }

    def write_page(self, page: Any) -> None:
        for name, value in page.headers.items():
            self.set_header(name, value)
        self.write(page.html)


class _Message(_Page):
    def get(self, spec: str) -> None:
        self.set_status(410)
        page = self.settings["page_server"].renderer.render_message(
            self.namespace(),
            status=410,
            title="This kind of link has retired",
            message="It opened an image <b>directly</b>.",
            hint="Open the repository instead.",
            link=Link(BASE, "Front page"),
        )
        self.write_page(page)


class _Events(tornado.web.RequestHandler):
    """The event stream."""

    async def get(self, spec: str) -> None:
        scenario = self.settings["page_server"].scenarios[spec]
        arguments = {name: self.get_argument(name) for name in self.request.arguments}
        last_id = self.request.headers.get("Last-Event-ID") or arguments.get("last_event_id", "")
        scenario.connections.append({**arguments, "last": last_id})
        count = len(scenario.connections)
        fault = scenario.faults[count - 1] if count <= len(scenario.faults) else None
        if fault and fault.status:
            self.set_status(fault.status)
            return
        self.set_header("Content-Type", "text/event-stream")
        self.write("retry: 100\n\n")
        if scenario.known_tickets is not None and arguments["launch"] not in scenario.known_tickets:
            error = {"code": "ticket.expired", "title": "Too old", "hint": "Open the link again."}
            self.write(f"data: {json.dumps({'phase': 'failed', 'message': 'old', 'error': error})}\n\n")
            await self.flush()
            return
        try:
            await self.tell(scenario, int(last_id or 0), fault)
        except tornado.iostream.StreamClosedError:
            pass  # the reader left

    async def tell(self, scenario: Scenario, seen: int, fault: Fault | None) -> None:
        number = max(0, seen - (fault.again if fault else 0))
        sent = 0
        while True:
            # many at once, as a service that has many does
            while number < len(scenario.events) and not (fault and sent >= fault.after):
                event = scenario.events[number]
                number += 1
                sent += number > seen
                self.write(f"id: {number}\ndata: {json.dumps(event)}\n\n")
            await self.flush()
            if fault and sent >= fault.after:
                if fault.stall:
                    await asyncio.sleep(3600)
                self.request.connection.stream.close()  # type: ignore[union-attr]
                return
            await asyncio.sleep(0.02)


class _JupyterServer(tornado.web.RequestHandler):
    """Stands for the server that a launch ends in: says how it was asked for."""

    def get(self, _path: str) -> None:
        self.finish(f"<title>Jupyter</title><h1>Server</h1><p id=asked>{self.request.uri}</p>")


@dataclass
class PageServer:
    """A server on a port of its own. Use `page_server()`."""

    renderer: PageRenderer
    namespace: dict[str, Any]
    scenarios: dict[str, Scenario] = field(default_factory=dict)
    origin: str = ""

    def launch(self, scenario: Scenario, query: str = "") -> str:
        """Return a launch link for a new scenario."""
        spec = f"user/repo{len(self.scenarios)}/HEAD"
        self.scenarios[spec] = scenario
        return f"{self.origin}{BASE}v2/gh/{spec}{query}"

    def server_url(self) -> str:
        """Return the URL of the Jupyter server that launches end in."""
        return f"{self.origin}{BASE}user/one/"

    def ready(self, **more: Any) -> dict[str, Any]:
        """Return the last event of a launch that succeeded."""
        event = {"phase": "ready", "message": "server running\n", "url": self.server_url(), "token": "s3cret"}
        return {**event, "stage": "ready", **more}

    def application(self) -> tornado.web.Application:
        """Return what serves it."""
        static = tornado.web.StaticFileHandler
        return tornado.web.Application(
            [
                (BASE + "v2/gh/(.*)", _Page),
                (BASE + "build/gh/(.*)", _Events),
                (BASE + "message/(.*)", _Message),
                (BASE + "user/(.*)", _JupyterServer),
                (BASE + "binderhub_ext/static/(.*)", static, {"path": str(EXT_STATIC)}),
                (BASE + "static/(.*)", static, {"path": str(BINDERHUB / "static")}),
            ],
            page_server=self,
            log_function=lambda handler: None,
        )


@contextmanager
def page_server(
    templates: Path, *, namespace: dict[str, Any] | None = None, operator: Path | None = None
) -> Iterator[PageServer]:
    """Serve pages made from this kind of `page.html`, from a thread.

    Parameters
    ----------
    templates : Path
        One of `PAGES`.
    namespace : dict
        What the operator's configuration gives to templates.
    operator : Path
        The operator's `template_path`.
    """
    renderer = PageRenderer(binderhub_environment(templates, operator))
    server = PageServer(renderer, namespace or {})
    started = threading.Event()

    async def serve() -> None:
        socket, port = tornado.testing.bind_unused_port()
        http = tornado.httpserver.HTTPServer(server.application())
        http.add_socket(socket)
        server.origin = f"http://127.0.0.1:{port}"
        started.set()
        await stopped.wait()
        http.stop()

    loop = asyncio.new_event_loop()
    stopped = asyncio.Event()
    thread = threading.Thread(target=_run, args=[loop, serve()], name="page-server")
    thread.start()
    assert started.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join(10)


def _run(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, None]) -> None:
    """Run in this thread; what still runs at the end (streams that stay open) is cancelled."""
    asyncio.set_event_loop(loop)
    loop.run_until_complete(main)
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.close()
