"""The BinderHub service with this package's launch flow: traits and wiring, nothing else."""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import re
import signal
import sys
from typing import Any

from binderhub.app import BinderHub
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.web import StaticFileHandler
from traitlets import Bool, Type, Unicode, default

from binderhub_ext.hub.cleanup import Cleaner
from binderhub_ext.hub.client import HubClient
from binderhub_ext.hub.gate import HubGate
from binderhub_ext.hub.sweep import Sweeper
from binderhub_ext.launch.builds import Builds
from binderhub_ext.launch.launches import Launches
from binderhub_ext.launch.request import Services
from binderhub_ext.launch.settings import Launcher
from binderhub_ext.launch.tickets import TicketOffice
from binderhub_ext.timing import SYSTEM_CLOCK, Deadline
from binderhub_ext.upstream import IS_MAIN, DefaultBuild, Upstream
from binderhub_ext.web.build import BuildStreamHandler
from binderhub_ext.web.health import HealthHandler, LiveHandler
from binderhub_ext.web.keepalive import KeepAlives
from binderhub_ext.web.page import PageRenderer
from binderhub_ext.web.pages import STATIC, LaunchPageHandler, RunHandler

OUTGOING_CONNECTIONS = 512

LISTEN_BACKLOG = 2048
"""Connections that may come in one moment: a class that opens a link, readers that come back after a restart.

Where the queue is full, Linux drops the connection's first packet, and the reader repeats it after a second.
"""


class BinderHubExt(BinderHub):
    """BinderHub, with the launch flow of this package."""

    name = "binderhub-ext"
    description = "BinderHub with one page and one event stream for each launch"

    aliases = {
        **BinderHub.aliases,
        "log-level": "Application.log_level",
        "f": "BinderHub.config_file",
        "config": "BinderHub.config_file",
        "port": "BinderHub.port",
    }

    accept_any_type = Bool(
        False,
        config=True,
        help="""
        Whether requests for an event stream that accept any type (`*/*`) are let in. Off, because
        robots that follow links send that, and each would start a launch.
        """,
    )

    address = Unicode(
        "",
        config=True,
        help="""
        The address to listen on. Empty, the default: all of them, as in BinderHub, whose port only
        the cluster's network reaches.
        """,
    )

    ticket_secret = Unicode(
        config=True,
        help="""
        Secret from which launch tickets and the access tokens of servers are made. The same in
        all replicas. Default: made from `build_token_secret` when that is set, else from
        `hub_api_token`, which all replicas have and restarts keep.
        """,
    )

    if not IS_MAIN:
        # main has these; with 0.1.0 they serve the launch flow of this package
        build_class = Type(DefaultBuild, klass=object, config=True, help="The class that builds images.")
        hub_url_local = Unicode(
            config=True, help="The Hub's URL for this service, if it differs from `hub_url`."
        )
        image_prefix = Unicode(
            config=True, help="Prefix of all image names. Main's name for `docker_image_prefix`."
        )
        banner_message = Unicode("", config=True, help="HTML shown at the top of each page.")
        build_token_secret = Unicode("", config=True, help="Secret for tokens, as hex digits.")
        enable_api_only_mode = Bool(False, config=True, help="Serve no pages, and allow build_only.")
        cors_allow_origin = Unicode("", config=True, help="Origins whose pages may read the event stream.")

        @default("hub_url_local")
        def _default_hub_url_local(self) -> str:
            return self.hub_url

        @default("image_prefix")
        def _default_image_prefix(self) -> str:
            return self.docker_image_prefix

    def init_pycurl(self) -> None:
        """Let registries and hosts of repositories be asked over more than Tornado's 10 connections."""
        super().init_pycurl()
        AsyncHTTPClient.configure(AsyncHTTPClient.configured_class(), max_clients=OUTGOING_CONNECTIONS)

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        super().initialize(*args, **kwargs)
        if not IS_MAIN:
            self._main_settings()
        self.launcher = Launcher(
            parent=self,
            hub_url=self.hub_url,
            hub_api_token=self.hub_api_token,
            create_user=not self.auth_enabled,
            **({"hub_url_local": self.hub_url_local} if IS_MAIN else {}),
        )
        settings = self.tornado_app.settings
        settings["launcher"] = self.launcher
        settings["binderhub_ext_health_class"] = getattr(self, "health_handler_class", None)
        settings["binderhub_ext_accept_any"] = self.accept_any_type
        settings["binderhub_ext_renderer"] = PageRenderer(
            settings["jinja2_env"], operator_headers=settings.get("headers", {})
        )
        self.tornado_app.add_handlers(".*$", self.ext_handlers())

    def _main_settings(self) -> None:
        settings = self.tornado_app.settings
        settings.update(
            build_class=self.build_class,
            banner_message=self.banner_message,
            enable_api_only_mode=self.enable_api_only_mode,
            image_prefix=self.image_prefix,
        )
        if self.cors_allow_origin:
            settings.setdefault("headers", {})["Access-Control-Allow-Origin"] = self.cors_allow_origin

    def ext_handlers(self) -> list[Any]:
        """The handlers that take the place of BinderHub's, and those that are new."""
        base = re.escape(self.base_url)
        handlers: list[Any] = [
            (base + r"build/([^/]+)/(.+)", BuildStreamHandler),
            (base + r"health", HealthHandler),
            (base + r"health/live", LiveHandler),
        ]
        if not self.enable_api_only_mode:
            static = {"path": str(STATIC)}
            handlers += [
                (base + r"v2/([^/]+)/(.+)", LaunchPageHandler),
                (base + r"run/?", RunHandler),
                (base + r"binderhub_ext/static/(.*)", StaticFileHandler, static),
            ]
        return handlers

    def secret(self) -> bytes:
        """The secret of tickets, the same after a restart and in each replica."""
        if self.ticket_secret:
            return self.ticket_secret.encode()
        configured = self.config.BinderHub.get("build_token_secret") or self.config.BinderHubExt.get(
            "build_token_secret"
        )
        if configured or os.environ.get("BINDERHUB_BUILD_TOKEN_SECRET"):
            secret = self.build_token_secret
            return secret if isinstance(secret, bytes) else secret.encode()
        return hmac.digest(self.hub_api_token.encode(), b"binderhub_ext ticket secret", "sha256")

    def make_services(self) -> Services:
        """Make what launches work with. Called in the event loop."""
        api_url = os.environ.get("JUPYTERHUB_API_URL") or self.hub_url_local + "hub/api/"
        hub = HubClient(api_url, self.hub_api_token, timeout=self.launcher.hub_request_timeout)
        upstream = Upstream(self)
        return Services(
            upstream=upstream,
            hub=hub,
            gate=HubGate(hub.health, SYSTEM_CLOCK),
            cleaner=Cleaner(hub, SYSTEM_CLOCK),
            builds=Builds(upstream, self.launcher, SYSTEM_CLOCK, self.concurrent_build_limit),
            office=TicketOffice(self.secret()),
            settings=self.launcher,
            clock=SYSTEM_CLOCK,
            hub_url=self.hub_url,
            auth_enabled=self.auth_enabled,
        )

    def start(self, run_loop: bool = True) -> None:
        """Serve until SIGTERM or SIGINT."""
        if not run_loop:
            self._listen()
            return
        # not `asyncio.run`: at its end it waits for whatever does not heed its cancellation, and for look-ups of names
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        loop.run_until_complete(self.serve())
        logging.shutdown()
        sys.stdout.flush()
        # threads of builders may wait for a cluster for minutes; their builds go on without them
        os._exit(0)

    def _listen(self) -> None:
        services = self.make_services()
        self.launches = Launches(services)
        settings = self.tornado_app.settings
        settings["binderhub_ext_launches"] = self.launches
        settings["binderhub_ext_keepalives"] = self.keepalives = KeepAlives(
            self.launcher.keepalive_interval, SYSTEM_CLOCK
        )
        self.keepalives.start()
        self.sweeper = Sweeper(
            services.hub,
            services.cleaner,
            SYSTEM_CLOCK,
            made_by_us=services.office.made,
            bound=self.launcher.launch_timeout + 60,
            interval=self.launcher.sweep_interval,
        )
        settings["binderhub_ext_sweeper"] = self.sweeper
        if not self.auth_enabled:
            self.sweeper.start()
        self.log.info("BinderHub with binderhub_ext starting on port %i", self.port)
        self.http_server = HTTPServer(self.tornado_app, xheaders=True)
        self.http_server.listen(self.port, self.address, backlog=LISTEN_BACKLOG)
        if self.builder_required:
            watch = self.watch_builders if IS_MAIN else self.watch_build_pods
            self._watch_builders = asyncio.ensure_future(watch())

    async def serve(self) -> None:
        """Serve, and end in good order: nothing new, streams told to come back, clean-up given its time."""
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        self._listen()
        await stop.wait()
        self.log.info("Stopping")
        await self.shut_down()

    async def shut_down(self) -> None:
        """End what `_listen` began, within `Launcher.shutdown_timeout`."""
        deadline = Deadline.after(self.launcher.shutdown_timeout)
        steps = asyncio.create_task(self._end_in_order(deadline))
        # a step that hangs is not waited for, nor is its cancellation: the process ends
        done, _ = await asyncio.wait({steps}, timeout=deadline.remaining)
        if steps in done:
            steps.result()
        else:
            self.log.warning("Not everything has ended within %g s", self.launcher.shutdown_timeout)
        self.build_pool.shutdown(wait=False)

    async def _end_in_order(self, deadline: Deadline) -> None:
        self.http_server.stop()
        await self.launches.close()
        # readers come back by themselves, and whoever answers then goes on with their launches
        self.keepalives.say_goodbye()
        self.keepalives.stop()
        await self.sweeper.close()
        services = self.launches.services
        await services.cleaner.close(grace=deadline.remaining * 0.75)
        await services.gate.close()
        services.hub.close()
        await self.http_server.close_all_connections()


main = BinderHubExt.launch_instance
