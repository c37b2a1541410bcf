"""Starts `python -m binderhub_ext.local` as a person would, and talks to what it runs."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psutil

ROOT = Path(__file__).resolve().parents[2]


class LocalRun:
    """One run of the command, in a process group of its own.

    Parameters
    ----------
    arguments : str
        Of the command line; ``--data-dir`` and ``--port 0`` are added.
    """

    def __init__(self, data_dir: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self.lines: list[str] = []
        self._fresh: queue.Queue[str | None] = queue.Queue()
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "binderhub_ext.local",
                "--port",
                "0",
                "--data-dir",
                str(data_dir),
                *arguments,
            ],
            cwd=ROOT,
            env=os.environ | (env or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            self._fresh.put(line)
        self._fresh.put(None)

    def wait_for_link(self, timeout: float = 60) -> str:
        """Return the launch link, once it is printed."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for line in self.lines:
                if match := re.match(r"Launch link: (\S+)$", line):
                    return match[1]
            with contextlib.suppress(queue.Empty):
                if self._fresh.get(timeout=0.1) is None:
                    break
        raise AssertionError(f"no launch link; printed: {self.lines}; log: {self.hub_log()[-3000:]}")

    def hub_log(self) -> str:
        path = self.data_dir / "logs" / "hub.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def family(self) -> list[psutil.Process]:
        """Return every process that belongs to this run, the command itself included."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                text = " ".join(process.cmdline()) + json.dumps(process.environ())
                if str(self.data_dir) in text and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return [each for each in found if each.pid != os.getpid()]

    def wait_until_gone(self, timeout: float = 10) -> list[str]:
        """Return the command lines of what is left after at most `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while left := self.family():
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        result = []
        for process in left:
            with contextlib.suppress(psutil.Error):
                result.append(" ".join(process.cmdline()))
        return result

    def stop(self, number: int = signal.SIGINT, *, group: bool = False, timeout: float = 20) -> int:
        """Send a signal to the command (or its group), and return its exit code."""
        if self.process.poll() is None:
            if group:
                os.killpg(self.process.pid, number)
            else:
                self.process.send_signal(number)
        return self.process.wait(timeout)

    def clean_up(self) -> None:
        """End whatever a failed test left."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(15)
        for process in self.family():
            with contextlib.suppress(psutil.Error):
                process.kill()

    # what it runs

    def service_environment(self) -> dict[str, str]:
        """Return the environment that the Hub gave to the service: its token is in there."""
        for process in self.family():
            with contextlib.suppress(psutil.Error):
                if "binderhub_config.py" in " ".join(process.cmdline()):
                    return process.environ()
        raise AssertionError("there is no service")

    def hub(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Ask the Hub's REST API with the service's token; return the status and the JSON answer."""
        env = self.service_environment()
        request = urllib.request.Request(
            env["JUPYTERHUB_API_URL"] + path,
            method=method,
            data=json.dumps(body).encode() if body is not None else (b"" if method == "POST" else None),
            headers={"Authorization": f"token {env['JUPYTERHUB_API_TOKEN']}"},
        )
        return fetch_json(request)

    def users(self) -> dict[str, Any]:
        """Return the Hub's users by name."""
        return {user["name"]: user for user in self.hub("GET", "/users")[1]}

    def start_server(self, user: str, image: str, **options: str) -> str:
        """Start a server as BinderHub does, wait until the Hub says it is ready, and return its URL."""
        assert self.hub("POST", f"/users/{quote(user)}")[0] == 201
        body = {"image": image, "token": "t0k-" + user, "repo_url": "https://host/repo"} | options
        status, answer = self.hub("POST", f"/users/{quote(user)}/server", body)
        assert status in (201, 202), answer
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            server = self.hub("GET", f"/users/{quote(user)}")[1]["servers"].get("", {})
            if server.get("ready"):
                base = urlsplit(self.wait_for_link())
                return f"{base.scheme}://{base.netloc}{server['url']}"
            assert server, f"the server ended; log: {self.hub_log()[-3000:]}"
            time.sleep(0.05)
        raise AssertionError(f"the server did not start; log: {self.hub_log()[-3000:]}")

    def launch(self, link: str | None = None, timeout: float = 120) -> list[dict[str, Any]]:
        """Read the event stream of a launch link to its end, and return the events."""
        url = (link or self.wait_for_link()).replace("/v2/", "/build/").partition("?")[0]
        request = urllib.request.Request(url, headers={"Accept": "text/event-stream"})
        events = []
        with urllib.request.urlopen(request, timeout=timeout) as response:
            for raw in response:
                line = raw.decode().rstrip("\n")
                if line.startswith("data: "):
                    events.append(json.loads(line[len("data: ") :]))
                    if events[-1]["phase"] in ("ready", "failed"):
                        break
        return events


def fetch_json(request: urllib.request.Request) -> tuple[int, Any]:
    """Return the status and the JSON answer, of errors too."""
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            raw, status = response.read(), response.status
    except urllib.error.HTTPError as error:
        raw, status = error.read(), error.code
    return status, json.loads(raw) if raw else None


def server_api(url: str, token: str, path: str, method: str = "GET", body: Any = None) -> tuple[int, Any]:
    """Ask a Jupyter Server's REST API."""
    request = urllib.request.Request(
        url + path,
        method=method,
        data=json.dumps(body).encode() if body is not None else None,
        headers={"Authorization": f"token {token}"},
    )
    return fetch_json(request)


def make_repository(path: Path, files: dict[str, str], message: str = "start") -> str:
    """Make a git repository (or one more commit in it), and return the commit's id."""
    path.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    if not (path / ".git").exists():
        git(path, "init", "--quiet", "--initial-branch=main")
    git(path, "add", "--all")
    git(path, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(path, "rev-parse", "HEAD")


def git(path: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *identity, *arguments],
        cwd=path,
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout.strip()


@contextlib.contextmanager
def running(data_dir: Path, *arguments: str, env: dict[str, str] | None = None) -> Iterator[LocalRun]:
    """Yield a run whose launch link is there; end it afterwards."""
    run = LocalRun(data_dir, *arguments, env=env)
    try:
        run.wait_for_link()
        yield run
    finally:
        run.clean_up()
