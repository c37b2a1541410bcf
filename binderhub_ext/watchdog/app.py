"""The watchdog as an application: wiring, nothing else."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any, cast

import aiohttp
from aiohttp import web
from traitlets import Unicode, default

from .canary import Canary
from .cluster import Cluster, connect
from .decisions import Decider
from .evidence import Evidence
from .history import RestartHistory
from .hub import Hub
from .launches import Launches
from .lease import Lease
from .look import CanarySchedule, Look
from .restart import DeletePod, RunCommand
from .settings import Settings
from .signs import SignTracker
from .watch import Watchdog
from .web import make_pages

log = logging.getLogger("binderhub_ext.watchdog")


class WatchdogApp(Settings):
    """Compares what a JupyterHub says with what its cluster says, and restarts a Hub that lost touch."""

    name = "binderhub_ext.watchdog"
    description = (
        "Compares what a JupyterHub says with what its cluster says, and restarts a Hub that lost touch."
    )

    config_file = Unicode("", help="A configuration file in Python or JSON.").tag(config=True)

    aliases: dict[Any, Any] = {
        ("f", "config"): "WatchdogApp.config_file",
        "port": "WatchdogApp.port",
        "log-level": "Application.log_level",
    }
    flags = {
        "dry-run": ({"WatchdogApp": {"dry_run": True}}, "Decide and tell, but restart and delete nothing.")
    }

    @default("log_level")
    def _log_level(self) -> int:
        return logging.INFO

    def initialize(self, argv: list[str] | None = None) -> None:
        """Read the command line and the configuration file."""
        super().initialize(argv)
        if self.config_file:
            self.load_config_file(*reversed(os.path.split(os.path.abspath(self.config_file))))
            self.parse_command_line(argv)  # the command line wins over the file
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.handlers[:] = [handler]
        log.setLevel(cast(int, self.log_level))
        log.propagate = False

    def make(self, session: aiohttp.ClientSession, api: Any) -> tuple[Watchdog, CanarySchedule | None]:
        """Wire a watchdog up."""
        hub = Hub(session, self.hub_api_url.rstrip("/"), self.hub_token, self.timeout)
        cluster = Cluster(api, self.namespace, self.server_selector, self.hub_selector, self.timeout)
        history = RestartHistory()
        lease = Lease(
            api,
            self.namespace,
            self.lease_name,
            self.identity,
            history,
            self.lease_duration,
            self.timeout / 2,
        )
        service = self.service_url.rstrip("/")
        launches = Launches(session, f"{service}/metrics", self.timeout) if service else None
        canary = None
        if service and self.canary_spec:
            bird = Canary(session, hub, service, self.canary_spec, self.canary_timeout, self.canary_proxy_url)
            canary = CanarySchedule(bird, lease, self.canary_interval)
        return Watchdog(
            look=Look(hub, cluster, launches, canary),
            restart=RunCommand(self.restart_command) if self.restart_command else DeletePod(cluster),
            cluster=cluster,
            lease=lease,
            tracker=SignTracker(self.sign_bounds(), max_gap=3 * self.interval + self.timeout),
            decider=Decider(self.limits(), history),
            evidence=Evidence(Path(self.evidence_dir) if self.evidence_dir else None),
            interval=self.interval,
            delete_orphans=self.delete_orphans,
        ), canary

    async def serve(self) -> None:
        """Watch until SIGTERM or SIGINT."""
        api = await connect(self.api_server)
        runner: web.AppRunner | None = None
        try:
            async with aiohttp.ClientSession() as session:
                watchdog, canary = self.make(session, api)
                runner = web.AppRunner(make_pages(watchdog), access_log=None)
                await runner.setup()
                await web.TCPSite(runner, self.ip or None, self.port).start()
                log.info("Watching %s%s", self.hub_api_url, " (dry run)" if self.dry_run else "")
                await self._until_told(watchdog)
                if canary is not None:
                    await canary.close()
        finally:
            if runner is not None:
                await runner.cleanup()
            await api.close()

    async def _until_told(self, watchdog: Watchdog) -> None:
        """Run the watchdog until a signal; an error of its own ends the process."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, watchdog.end)
        await asyncio.create_task(watchdog.run(), name="watchdog")
        log.info("Told to end")

    def start(self) -> None:
        """Run the application."""
        asyncio.run(self.serve())


def main() -> None:
    WatchdogApp.launch_instance()


__all__ = ["WatchdogApp", "main"]
