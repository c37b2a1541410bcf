"""The Hub's spawner of the process builder: Jupyter Server on a private copy of an image."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import jupyterhub
from jupyterhub.spawner import Spawner

from binderhub_ext.local import copies, processes
from binderhub_ext.local.binder_options import binder_environment, image_and_token
from binderhub_ext.local.images import Image
from binderhub_ext.local.server_probe import StartFailed, wait_until_it_answers
from binderhub_ext.local.settings import Settings, clean_environment
from binderhub_ext.timing import Deadline, wait_for


class ImageSpawner(Spawner):
    """Start a Jupyter Server from an image directory.

    Reads what BinderHub sends as user options: ``image``, ``token``, ``repo_url`` and the
    ``binder_...`` ones. `start` returns when the server answers, so that the Hub's first look
    finds it.
    """

    _ports: ClassVar[set[int]] = set()

    process: asyncio.subprocess.Process | None = None
    watcher: asyncio.Task[None] | None = None
    stage = "Waiting for the Hub"
    # names the directory and the log: another one for each start, and safe whatever the user is called
    server_id = "none"

    @property
    def settings(self) -> Settings:
        return Settings.from_environment()

    @property
    def directory(self) -> Path:
        return self.settings.root / "servers" / self.server_id

    @property
    def log_file(self) -> Path:
        return self.settings.root / "logs" / f"server-{self.server_id}.log"

    async def start(self) -> str:
        """Start the server and return its address, once it answers.

        Raises
        ------
        StartFailed
            When the options or the image are not what they must be, or the server ends at once.
        """
        name, token = image_and_token(self.user_options)
        image = Image.named(name, self.settings.root)
        self.server_id = secrets.token_hex(8)
        self.stage = "Looking at the image"
        if not await asyncio.to_thread(image.is_whole):
            raise StartFailed(f"The image {name} is not here, or broken.")
        image.mark_used()
        self.stage = "Copying the repository"
        await asyncio.to_thread(self._prepare, image)
        self.stage = "Starting Jupyter Server"
        self.port = self._free_port()
        with self.log_file.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self._command(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory / "work",
                env=self._environment(image, token),
                start_new_session=True,
            )
        self.watcher = asyncio.create_task(self._watch(self.process))
        url = f"http://127.0.0.1:{self.port}"
        api = f"{url}{self.server.base_url}api"
        if not await wait_until_it_answers(api, Deadline.after(self.start_timeout), self._runs):
            last = await asyncio.to_thread(_last_lines, self.log_file)
            raise StartFailed(f"Jupyter Server did not start:\n{last}")
        return url

    async def poll(self) -> int | None:
        """Return None while the server runs, else its exit code."""
        return 0 if self.process is None else self.process.returncode

    async def stop(self, now: bool = False) -> None:
        """End the server with all that it started, and remove its files."""
        if self.process is not None and self.process.returncode is None:
            _signal_group(self.process.pid, signal.SIGTERM)
            try:
                await wait_for(self.process.wait(), 3)
            except asyncio.TimeoutError:
                _signal_group(self.process.pid, signal.SIGKILL)
        if self.watcher is not None:
            await self.watcher

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what `start` is doing, for the Hub's progress stream."""
        said = ""
        while not (self.process is not None and self.process.returncode is not None):
            if self.stage != said:
                said = self.stage
                yield {"message": said}
            await asyncio.sleep(0.05)

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Clean up after the server, whoever or whatever ended it."""
        await process.wait()
        self._ports.discard(self.port)
        await asyncio.to_thread(processes.end_all, processes.SERVER, self.server_id)
        await asyncio.to_thread(copies.remove, self.directory)

    async def _runs(self) -> bool:
        return self.process is not None and self.process.returncode is None

    def _free_port(self) -> int:
        """Return a port that nobody listens on, and that no other server was given that may not listen yet."""
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = int(probe.getsockname()[1])
            if port not in self._ports:
                self._ports.add(port)
                return port

    def _prepare(self, image: Image) -> None:
        copies.remove(self.directory)
        for name in ("config", "data", "runtime", "ipython"):
            (self.directory / name).mkdir(parents=True)
        copies.copy_repository(image.repo, self.directory / "work")

    def _command(self) -> list[str]:
        arguments = {
            "ServerApp.ip": "127.0.0.1",
            "ServerApp.port": self.port,
            "ServerApp.port_retries": 0,
            "ServerApp.open_browser": False,
            "ServerApp.base_url": self.server.base_url,
            "ServerApp.root_dir": str(self.directory / "work"),
            "ServerApp.trust_xheaders": True,
            "ServerApp.allow_root": True,
            "ServerApp.default_url": self.default_url or "/lab",
            # the Hub looks for its own version in each answer, and warns where it is missing
            "ServerApp.tornado_settings": {"headers": {"X-JupyterHub-Version": jupyterhub.__version__}},
            "ServerApp.log_level": "DEBUG" if self.settings.verbose else "INFO",
            # nothing that asks the internet for news, updates or extensions
            "LabApp.extension_manager": "readonly",
            "LanguageServerManager.autodetect": False,
            "LabApp.news_url": None,
            "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        }
        return [
            sys.executable,
            *("-m", "binderhub_ext.local.start", "server"),
            *(f"--{key}={value}" for key, value in arguments.items()),
            *self.get_args(),
        ]

    def _environment(self, image: Image, token: str) -> dict[str, str]:
        env = clean_environment() | self.get_env() | binder_environment(self.user_options)
        scripts = str(image.venv / "bin")
        env |= {
            processes.RUN: self.settings.run_id,
            processes.SERVER: self.server_id,
            # in the environment and not in the arguments, which every user of this machine can see
            "JUPYTER_TOKEN": token,
            "JUPYTER_CONFIG_DIR": str(self.directory / "config"),
            "JUPYTER_DATA_DIR": str(self.directory / "data"),
            "JUPYTER_RUNTIME_DIR": str(self.directory / "runtime"),
            "JUPYTERLAB_SETTINGS_DIR": str(self.directory / "config" / "lab"),
            "JUPYTERLAB_WORKSPACES_DIR": str(self.directory / "config" / "workspaces"),
            "IPYTHONDIR": str(self.directory / "ipython"),
            "JUPYTER_PATH": os.pathsep.join(
                [str(image.path / "jupyter"), str(image.venv / "share" / "jupyter")]
            ),
            "PATH": os.pathsep.join([scripts, env.get("PATH", os.defpath)]),
            "VIRTUAL_ENV": str(image.venv),
        }
        return env


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return


def _last_lines(path: Path, count: int = 10) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-count:])
