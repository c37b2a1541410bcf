"""The services that are compared, as processes, and what a part is given to work with."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.support.processes import ROOT, Process, free_port
from tests.support.scripted import spec
from tests.support.stack import Hub

_ABOUT = (
    "import binderhub, binderhub.build as b;"
    "print(getattr(binderhub, '__version__', '0.1.0'), hasattr(b, 'BuildExecutor'))"
)


@dataclass(frozen=True)
class Contender:
    """A service that can be measured.

    Attributes
    ----------
    module : str
        What `python -m` runs.
    """

    name: str
    python: str
    module: str

    @property
    def is_peer(self) -> bool:
        return self.module == "binderhub"


@dataclass(frozen=True)
class HubAddress:
    """Where a Hub is, and the token that it takes from the service."""

    url: str
    api_url: str
    token: str


class Service:
    """A contender that runs."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}/"

    def build_url(self, **options: Any) -> str:
        """Return the address of the event stream of a link (see `scripted`)."""
        return f"{self.url}build/test/{spec(**options)}"

    @property
    def memory(self) -> int:
        """Resident bytes of its process."""
        return psutil.Process(self.process.popen.pid).memory_info().rss

    @property
    def cpu(self) -> float:
        """Seconds of CPU time that it has used."""
        times = psutil.Process(self.process.popen.pid).cpu_times()
        return times.user + times.system


@dataclass
class Bench:
    """What a part is given.

    Attributes
    ----------
    folder : Path
        For logs and state; removed at the end.
    quick : bool
        Smaller numbers: to see that it works.
    contenders : list of Contender
        This package first; then the peer, where it can run.
    peer_missing : str
        Why there is no peer; empty when there is one.
    """

    folder: Path
    quick: bool
    contenders: list[Contender]
    peer_missing: str = ""

    @property
    def state(self) -> Path:
        """Where processes count what they do."""
        return self.folder / "hub" / "state"

    @asynccontextmanager
    async def hub(self, **settings: Any) -> AsyncIterator[Hub]:
        """Run a real JupyterHub, whose servers are scripted."""
        hub = Hub(self.folder / "hub", **settings)
        try:
            yield await hub.start()
        finally:
            hub.stop()

    @asynccontextmanager
    async def service(self, which: Contender, hub: Hub | HubAddress, **config: Any) -> AsyncIterator[Service]:
        """Run a contender before a Hub. `config`: ``Launcher__launch_timeout=...``."""
        if isinstance(hub, Hub):
            hub = HubAddress(hub.url, hub.api, hub.settings["service_token"])
        self.state.mkdir(parents=True, exist_ok=True)
        port = free_port()
        if not which.is_peer:
            # all readers come from one address here
            config = {"Launcher__launches_per_address": 0, "Launcher__watchers_per_address": 0, **config}
        settings = {
            "hub_url": hub.url,
            "token": hub.token,
            "config": {key.replace("__", "."): value for key, value in config.items()},
        }
        environment = {
            "BINDERHUB_EXT_BENCHMARK": json.dumps(settings),
            "BINDERHUB_EXT_TEST_STATE": str(self.state),
            "JUPYTERHUB_API_URL": hub.api_url,
        }
        file = str(Path(__file__).with_name("service_config.py"))
        command = [which.python, "-m", which.module, "--config", file, "--port", str(port)]
        process = Process(command, self.folder / f"{which.module}.log", environment, self.folder)
        try:
            await process.answers(f"http://127.0.0.1:{port}/metrics")
            yield Service(process, port)
        finally:
            process.stop(5)
            process.kill()


def contenders(peer_python: str) -> tuple[list[Contender], str]:
    """Find out what can be compared.

    Returns
    -------
    list of Contender
    str
        Why there is no peer; empty when there is one.
    """
    ours = Contender("binderhub_ext", sys.executable, "binderhub_ext")
    about = subprocess.run([peer_python, "-c", _ABOUT], capture_output=True, text=True, cwd=ROOT)
    if about.returncode:
        return [ours], f"{peer_python} has no binderhub: {about.stderr.strip().splitlines()[-1:]}"
    version, works = about.stdout.split()
    if works != "True":
        missing = f"BinderHub {version} builds and looks for images with Kubernetes and Docker alone"
        return [ours], f"no peer: {missing}; --peer-python names an interpreter that has a later one"
    return [ours, Contender(f"BinderHub {version.split('.g')[0]}", peer_python, "binderhub")], ""
