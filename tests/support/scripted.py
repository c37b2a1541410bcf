"""Repositories, builds and servers that behave as their link says. The Hub, the service and the sockets are real.

A link's spec is ``<escaped name?option=value&...>/<ref>``. The options:

    resolve=slow|hang|none|gone|unreachable|limited|broken|odd   what the repository's host does; none: no such ref
    resolve=hang-once                    it does not answer the first time
    resolve=stubborn                     it does not answer, and goes on also when it is cancelled
    banned=1, hook=no                    the operator does not allow it; a hook of the operator's says no
    hook=stubborn                        it does not answer, and goes on also when it is cancelled
    image=down|hang|slow|down-once       what the registry does
    lines=N, every=S, build=S            N log lines, S seconds apart, and S seconds to build
    bigline=N                            one of N characters, and one that is no JSON
    buildfails=1, buildcrash=1           the repository cannot be built; the builder breaks
    buildsilent=1                        the builder ends without a word
    spawn=S                              the server is ready after S seconds
    spawn=never|fail|crash|hang-stop     never ready; fails at once; serves, then dies; stop() hangs
    spawn=unreachable                    it runs, but nothing listens where it says
    failafter=S, why=TEXT                it fails after S seconds; what the spawner says
    flaky=N                              the first N starts fail for a reason that passes
    stop=S                               stop() takes S seconds
    say=TEXT                             a progress message of the spawner (repeatable)
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from jupyterhub.spawner import Spawner
from tornado.httpclient import HTTPClientError
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, HTTPError, RequestHandler
from traitlets import Unicode

from binderhub_ext.errors import LaunchError
from binderhub_ext.upstream import BuildPhase, LocalBuildExecutor, RepoProvider

STATE = Path(os.environ.get("BINDERHUB_EXT_TEST_STATE", "/nonexistent"))


def spec(name: str = "repo", ref: str = "main", **options: Any) -> str:
    """Return the spec of a link."""
    query = "&".join(f"{key}={quote(str(value))}" for key, value in options.items())
    return f"{quote(f'{name}?{query}', safe='')}/{quote(ref, safe='')}"


def options_of(repo_url: str) -> dict[str, str]:
    return {key: values[-1] for key, values in parse_qs(urlsplit(repo_url).query).items()}


def counted(what: str) -> int:
    """Count an occurrence in a file, across processes. Returns how often it happened, from 1."""
    path = STATE / ("count-" + hashlib.sha256(what.encode()).hexdigest()[:20])
    with path.open("ab") as file:
        file.write(b".")
        return file.tell()


class ScriptedProvider(RepoProvider):
    # one of the names that the telemetry event of main may have
    name = Unicode("Git")
    display_config = {"displayName": "Scripted", "id": "test"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        escaped, _, self.unresolved_ref = self.spec.partition("/")
        if not self.unresolved_ref:
            raise ValueError("Spec is not of the form <name>/<ref>")
        self.repo = f"http://repos.test/{unquote(escaped)}"
        self.options = options_of(self.repo)

    def is_banned(self) -> bool:
        return "banned" in self.options or super().is_banned()

    def repo_config(self, settings: Any) -> dict[str, Any]:
        return {"quota": None}

    async def get_resolved_ref(self) -> str | None:
        counted("resolve " + self.repo)
        match self.options.get("resolve"):
            case "slow":
                await asyncio.sleep(0.5)
            case "hang":
                await asyncio.Event().wait()
            case "none":
                return hashlib.sha1(b"head").hexdigest() if self.unresolved_ref == "HEAD" else None
            case "gone":
                raise LaunchError("repo.not_found")
            case "unreachable":
                raise OSError("connection refused")
            case "limited":
                raise HTTPClientError(429, "too many requests")
            case "broken":
                raise HTTPClientError(500, "the host has a bad day")
            case "hang-once":
                if counted("hung " + self.repo) == 1:
                    await asyncio.Event().wait()
            case "stubborn":
                await stubborn()
            case "odd":
                raise KeyError("what a broken provider raises")
        ref = hashlib.sha1(self.spec.encode()).hexdigest()
        # whoever knows only the image's name finds its link here
        (STATE / f"ref-{ref}").write_text(self.repo)
        return ref

    async def get_resolved_spec(self) -> str:
        return self.spec

    async def get_resolved_ref_url(self) -> str:
        return self.repo

    def get_repo_url(self) -> str:
        return self.repo

    def get_build_slug(self) -> str:
        return self.repo


class ScriptedBuild(LocalBuildExecutor):
    @classmethod
    def image_exists(cls, image_name: str) -> bool:
        if (STATE / "registry-down").exists():
            raise OSError("connection refused")
        link = STATE / ("ref-" + image_name.rpartition(":")[2])
        match options_of(link.read_text()).get("image") if link.exists() else None:
            case "down":
                raise OSError("connection refused")
            case "down-once":
                if counted("registry " + image_name) == 1:
                    raise OSError("connection refused")
            case "hang":
                time.sleep(3)
            case "slow":
                time.sleep(0.5)
        return (STATE / f"image-{digest(image_name)}").exists()

    def submit(self) -> None:
        options = options_of(self.repo_url)
        counted("build " + self.repo_url)
        if "buildcrash" in options:
            raise RuntimeError("the builder broke")
        if "buildsilent" in options:
            return
        self.progress_status(BuildPhase.RUNNING)
        for i in range(int(options.get("lines", 3))):
            self.progress_log(f"line {i}\n")
            self.stop_event.wait(float(options.get("every", 0)))
        if "bigline" in options:
            self.progress_log("x" * int(options["bigline"]) + "\n")
            self.main_loop.add_callback(self.q.put, "no JSON \udcff\x1b[31m\x00")
        self.stop_event.wait(float(options.get("build", 0)))
        if "buildfails" in options:
            self.progress_log("ERROR: No matching distribution found for nonsense==9\n")
            self.progress_status(BuildPhase.FAILED)
            return
        (STATE / f"image-{digest(self.image_name)}").touch()
        self.progress_status(BuildPhase.BUILT)


async def hook(launcher: Any, image: str, username: str, server_name: str, repo_url: str) -> None:
    """An operator's pre_launch_hook."""
    match options_of(repo_url).get("hook"):
        case "no":
            raise HTTPError(403, "Not during the exam")
        case "stubborn":
            counted("hook " + repo_url)
            await stubborn()


async def stubborn() -> None:
    """Never end, as code does that takes its cancellation for any other exception."""
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


def digest(image_name: str) -> str:
    return hashlib.sha256(image_name.encode()).hexdigest()[:20]


class _Api(RequestHandler):
    def get(self) -> None:
        self.set_header("X-JupyterHub-Version", "6.0.0")
        self.write({"version": "2", "token": self.get_query_argument("token", "")})


class ScriptedSpawner(Spawner):
    """Serves what a server serves, inside the Hub's process."""

    _http: HTTPServer | None = None
    _gone: int | None = None

    @property
    def script(self) -> dict[str, str]:
        return options_of(str(self.user_options.get("repo_url", "")))

    async def start(self) -> tuple[str, int]:
        script = self.script
        counted("spawn " + self.user_options["repo_url"])
        how = script.get("spawn", "0")
        if int(script.get("flaky", 0)) >= counted("flaky " + self.user_options["repo_url"]):
            raise ConnectionRefusedError("Connection refused")
        if "failafter" in script:
            await asyncio.sleep(float(script["failafter"]))
            raise RuntimeError(script.get("why", "the spawner cannot do it"))
        if how == "fail":
            raise RuntimeError(script.get("why", "the spawner cannot do it"))
        if how == "never":
            await asyncio.Event().wait()
        if how not in {"crash", "hang-stop", "unreachable"}:
            await asyncio.sleep(float(how))
        sockets = bind_sockets(0, "127.0.0.1")
        self._http = HTTPServer(Application([(r"/.*", _Api)]))
        if how == "unreachable":
            sockets[0].close()
            return "127.0.0.1", 1
        self._http.add_sockets(sockets)
        self._gone = 1 if how == "crash" else None
        return "127.0.0.1", sockets[0].getsockname()[1]

    async def poll(self) -> int | None:
        if self._http is None:
            return 0
        return self._gone

    async def stop(self, now: bool = False) -> None:
        if self.script.get("spawn") == "hang-stop":
            await asyncio.sleep(float(self.script.get("hang", 3600)))
        await asyncio.sleep(float(self.script.get("stop", 0)))
        if self._http is not None:
            self._http.stop()
            self._http = None

    async def progress(self) -> Any:
        for text in parse_qs(urlsplit(self.user_options["repo_url"]).query).get("say", []):
            yield {"progress": 50, "message": text}

    def get_state(self) -> dict[str, Any]:
        return super().get_state()
