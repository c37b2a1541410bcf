"""Processes of the tests: started in a session of their own, ended by their ids."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def proxy_command() -> list[str]:
    """Return the command of npm's configurable-http-proxy."""
    node = shutil.which("node") or str(ROOT / ".venv/node/bin/node")
    return [node, str(ROOT / "node_modules/configurable-http-proxy/bin/configurable-http-proxy")]


class Process:
    """A child process with its log in a file.

    Parameters
    ----------
    command : sequence of str
    log : Path
        Gets its output.
    """

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str], cwd: Path) -> None:
        self.log = log
        with log.open("ab") as out:
            self.popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **env},
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    async def answers(self, url: str, seconds: float = 60) -> None:
        """Wait until a GET of this URL is answered, whatever the status. Raises when the process ends first."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while True:
            if self.popen.poll() is not None:
                raise RuntimeError(f"exited with {self.popen.returncode}:\n{self.text[-3000:]}")
            try:
                await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=5).close())
                return
            except urllib.error.HTTPError:
                return
            except OSError:
                if loop.time() > until:
                    raise TimeoutError(f"{url} does not answer:\n{self.text[-3000:]}") from None
                await asyncio.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone."""
        self.popen.send_signal(number)

    def kill(self) -> None:
        """End it and its children now."""
        children: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.popen.pid).children(recursive=True)
        with contextlib.suppress(ProcessLookupError):
            self.popen.kill()
        self.popen.wait()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()

    def stop(self, seconds: float = 15) -> int:
        """End it in good order (SIGTERM), else by force. Returns its exit code."""
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.popen.returncode


def python() -> str:
    return sys.executable
