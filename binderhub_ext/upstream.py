"""What this package knows of binderhub's internals, for 0.1.0 (PyPI) and main alike.

The only module that imports `binderhub` beside `app.py`, which subclasses its application.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, Protocol
from urllib.parse import unquote

import binderhub.base
import binderhub.build
import binderhub.builder
import binderhub.launcher
import docker
import docker.errors
import jsonschema
from binderhub.builder import (
    BUILD_COUNT,
    BUILD_TIME,
    BUILDS_INPROGRESS,
    LAUNCH_COUNT,
    LAUNCH_TIME,
    LAUNCHES_INPROGRESS,
)
from binderhub.repoproviders import RepoProvider
from tornado.httpclient import HTTPClientError
from tornado.ioloop import IOLoop
from tornado.log import app_log
from tornado.web import HTTPError
from traitlets import Any as AnyTrait
from traitlets import Dict, Unicode
from traitlets.config import LoggingConfigurable

from binderhub_ext.errors import LaunchError

__all__ = [
    "BUILDS_INPROGRESS",
    "BUILD_COUNT",
    "BUILD_TIME",
    "IS_MAIN",
    "LAUNCHES_INPROGRESS",
    "LAUNCH_COUNT",
    "LAUNCH_TIME",
    "BaseHandler",
    "BuildExecutor",
    "BuildPhase",
    "BuildSink",
    "DefaultBuild",
    "LocalBuildExecutor",
    "RepoProvider",
    "Repository",
    "Upstream",
    "UpstreamLauncher",
    "binder_version",
    "health_checks",
    "repository_failure",
]

IS_MAIN: bool = hasattr(binderhub.build, "BuildExecutor")
"""True with binderhub main (2020-09 and later), False with 0.1.0."""


class BuildPhase(Enum):
    """What a builder reports of its state: the values of main's `ProgressEvent.BuildStatus`."""

    PENDING = "pending"
    RUNNING = "running"
    BUILT = "built"
    FAILED = "failed"
    UNKNOWN = "unknown"


if IS_MAIN:
    BuildExecutor = binderhub.build.BuildExecutor
else:

    class BuildExecutor(LoggingConfigurable):  # type: ignore[no-redef]
        """Main's interface of a builder, for 0.1.0: what local builders derive from.

        `submit` runs in a thread, reports with `progress_status` and `progress_log`, and
        returns when the build has ended.
        """

        q = AnyTrait(help="Receives what `progress` reports, in the main thread: an object with `put`.")
        name = Unicode(help="Unique name of what is built.")
        repo_url = Unicode(help="URL of the repository.")
        ref = Unicode(help="Resolved ref.")
        image_name = Unicode(help="Full name of the image to build, with its tag.")
        git_credentials = Unicode("", config=True, help="Output of a git credential helper.")
        push_secret = Unicode("", config=True, help="Secret for pushing to the registry.")
        builder_info = Dict(config=True, help="Facts about the builder for /versions.")

        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.main_loop = IOLoop.current()
            self.stop_event = threading.Event()

        def submit(self) -> None:
            raise NotImplementedError

        def stream_logs(self) -> None:
            """Main's builders follow a pod's log here; local ones report it from `submit`."""

        def cleanup(self) -> None:
            """Remove what the build left behind."""

        def stop(self) -> None:
            """Stop watching the build."""
            self.stop_event.set()


DefaultBuild = binderhub.build.KubernetesBuildExecutor if IS_MAIN else binderhub.build.Build
"""What builds images where nothing else is configured."""


class LocalBuildExecutor(BuildExecutor):  # type: ignore[misc,valid-type]
    """A builder of this package: the same two reports with both versions of binderhub."""

    def progress_status(self, status: BuildPhase) -> None:
        """Report a change of state. Safe to call from any thread."""
        self.main_loop.add_callback(self.q.put, status)

    def progress_log(self, message: str, phase: str = "building") -> None:
        """Report one line of the log (it ends in a newline). Safe to call from any thread."""
        self.main_loop.add_callback(self.q.put, json.dumps({"phase": phase, "message": message}))

    @classmethod
    def image_exists(cls, image_name: str) -> bool:
        """Say whether this image is there already. Blocking; the service asks in a thread."""
        raise NotImplementedError


if IS_MAIN:
    from binderhub.quota import LaunchQuotaExceeded
else:

    class LaunchQuotaExceeded(Exception):  # type: ignore[no-redef]
        """Never raised: 0.1.0 has no quota classes."""

        status = message = ""


binder_version: str = str(getattr(binderhub, "__version__", "0.1.0"))

UpstreamLauncher = binderhub.launcher.Launcher
"""Where operators' `c.Launcher` settings are defined."""


class BaseHandler(binderhub.base.BaseHandler):
    """BinderHub's handler; in 0.1.0 with the checks that main has, which let everything pass."""

    if not IS_MAIN:
        _have_build_token = False

        def check_build_token(self, build_token: str | None, provider_spec: str) -> None:
            """0.1.0 has no build tokens."""

        def check_rate_limit(self) -> None:
            """0.1.0 has no rate limit."""

        def get_badge_base_url(self) -> str:
            return ""


class BuildSink(Protocol):
    """Who hears what a builder reports; called in the main thread."""

    def on_status(self, status: BuildPhase) -> None:
        """The builder's state changed."""

    def on_log(self, line: str) -> None:
        """One line of the log: JSON as repo2docker writes it, or any text."""


class _Reports:
    """The `q` of a builder: turns both versions' reports into calls of a sink."""

    # 0.1.0 reports a pod's phase; a pod that succeeded is deleted, and only then is it done
    _PODS: ClassVar[dict[str, BuildPhase]] = {
        "Pending": BuildPhase.PENDING,
        "Running": BuildPhase.RUNNING,
        "Deleted": BuildPhase.BUILT,
        "Failed": BuildPhase.FAILED,
    }

    def __init__(self, sink: BuildSink) -> None:
        self._sink = sink

    def put(self, report: Any) -> None:
        if isinstance(report, BuildPhase):
            self._sink.on_status(report)
        elif isinstance(report, str):
            self._sink.on_log(report)
        elif isinstance(report, dict):
            if report["kind"] == "log":
                self._sink.on_log(report["payload"])
            elif report["payload"] != "Succeeded":
                self._sink.on_status(self._PODS.get(report["payload"], BuildPhase.UNKNOWN))
        elif getattr(report.kind, "name", report.kind) in {"LOG_MESSAGE", "log"}:
            self._sink.on_log(report.payload)
        else:
            self._sink.on_status(BuildPhase(report.payload.value))


@dataclass(frozen=True)
class Repository:
    """A repository at a commit, and what BinderHub calls its image.

    Attributes
    ----------
    provider : RepoProvider
        BinderHub's object.
    spec : str
        What was resolved: differs from the link's when its branch is gone and HEAD stands in.
    resolved_spec : str
        The same with the commit for the ref.
    notice : str
        What the person should know about the link; may be empty.
    """

    provider: Any = field(repr=False)
    prefix: str
    spec: str
    resolved_spec: str
    repo_url: str
    ref: str
    ref_url: str
    image_name: str
    build_name: str
    notice: str = ""

    @property
    def metric_labels(self) -> dict[str, str]:
        """The labels of BinderHub's build and launch counters."""
        return {"provider": self.provider.name, "repo": self.repo_url}


class Upstream:
    """The parts of BinderHub that a launch goes through: providers, registry, quota, builders, telemetry.

    Parameters
    ----------
    app : binderhub.app.BinderHub
        After `initialize()`.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._settings: dict[str, Any] = app.tornado_app.settings
        self._docker: Any = None

    def provider(self, prefix: str, spec: str) -> Any:
        """Make the provider's object. Raises `LaunchError`: provider.unknown, spec.invalid, repo.banned."""
        providers = self._settings["repo_providers"]
        if prefix not in providers:
            raise LaunchError("provider.unknown", message=f"No provider found for prefix {prefix}")
        if "\0" in unquote(spec) or len(spec) > 2000:
            raise LaunchError("spec.invalid")
        try:
            provider = providers[prefix](config=self._settings["traitlets_config"], spec=spec)
            banned = provider.is_banned()
        except LaunchError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a provider makes of a spec, the link is wrong
            raise LaunchError("spec.invalid", detail=str(error)[:1000]) from error
        if banned:
            raise LaunchError(
                "repo.banned",
                message=f"Sorry, {spec} is not allowed to launch. Please contact admins for more info!",
            )
        return provider

    async def resolve(self, prefix: str, spec: str) -> Repository:
        """Find the commit that a spec stands for.

        Raises
        ------
        LaunchError
            provider.unknown, spec.invalid, repo.banned, repo.not_found, ref.not_found,
            repo.unreachable, repo.rate_limited.
        """
        provider = self.provider(prefix, spec)
        ref, notice = await self._ref(provider), ""
        if ref is None:
            provider, spec, ref, notice = await self._without_ref(provider, prefix, spec)
        repo_url = provider.get_repo_url()
        slug = provider.get_build_slug()
        image_prefix = self._settings.get("image_prefix") or self._settings.get("docker_image_prefix", "")
        safe_slug, build_name = _image_and_build_slug(slug, ref, image_prefix)
        return Repository(
            provider=provider,
            prefix=prefix,
            spec=spec,
            resolved_spec=await provider.get_resolved_spec()
            if hasattr(provider, "get_resolved_spec")
            else spec,
            repo_url=repo_url,
            ref=ref,
            ref_url=await provider.get_resolved_ref_url()
            if hasattr(provider, "get_resolved_ref_url")
            else repo_url,
            image_name=f"{image_prefix}{safe_slug}:{ref}".replace("_", "-").lower(),
            build_name=build_name,
            notice=notice,
        )

    async def _ref(self, provider: Any) -> str | None:
        try:
            return await provider.get_resolved_ref()
        except Exception as error:
            failure = repository_failure(error)
            if failure is error:
                raise
            raise failure from error

    async def _without_ref(self, provider: Any, prefix: str, spec: str) -> tuple[Any, str, str, str]:
        """Look whether the repository is there at all, and let HEAD stand in for a default branch that was renamed."""
        unresolved = getattr(provider, "unresolved_ref", "")
        message = (
            f"Could not resolve ref for {prefix}:{spec}. Double check your URL and that your repo is public."
        )
        if not unresolved or unresolved == "HEAD" or not spec.endswith("/" + unresolved):
            raise LaunchError(
                "ref.not_found" if unresolved not in {"", "HEAD"} else "repo.not_found", message=message
            )
        head_spec = spec[: -len(unresolved)] + "HEAD"
        head_provider = self.provider(prefix, head_spec)
        head = await self._ref(head_provider)
        if head is None:
            raise LaunchError("repo.not_found", message=message)
        if provider.name == "GitHub" and unresolved in {"master", "main"}:
            notice = (
                f"{message} Tip: HEAD will always resolve to a repository's default branch.\n"
                f"Trying again with HEAD instead of {unresolved}. Please update your links."
            )
            return head_provider, head_spec, head, notice
        raise LaunchError("ref.not_found", detail=f"There is no {unresolved!r}.", message=message)

    async def image_exists(self, repository: Repository) -> bool:
        """Ask the registry, the builder or Docker. Raises `LaunchError` registry.unreachable (transient)."""
        image = repository.image_name
        own = getattr(self.build_class, "image_exists", None)
        try:
            if own is not None:
                return bool(await self._in_thread(own, image))
            if self._settings["use_registry"]:
                registry = self._settings["registry"]
                return bool(await registry.get_image_manifest(*_image_and_tag(image)))
            return bool(await self._in_thread(self._docker_has, image))
        except Exception as error:
            raise LaunchError("registry.unreachable", transient=True) from error

    def _docker_has(self, image: str) -> bool:
        if self._docker is None:
            self._docker = docker.from_env(version="auto")
        try:
            self._docker.images.get(image)
        except docker.errors.ImageNotFound:
            return False
        return True

    async def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._settings["executor"], function, *args)

    async def check_quota(self, repository: Repository) -> None:
        """Raises `LaunchError` quota.repo or quota.hub when one more server would be too many."""
        config = repository.provider.repo_config(self._settings) if IS_MAIN else {}
        quota = self._settings.get("launch_quota")
        if quota is None:
            await self._check_quota_0_1(repository)
            return
        try:
            await quota.check_repo_quota(repository.image_name, config, repository.repo_url)
        except LaunchQuotaExceeded as error:
            LAUNCH_COUNT.labels(status=error.status, **repository.metric_labels).inc()
            code = "quota.repo" if error.status == "repo_quota" else "quota.hub"
            raise LaunchError(code, message=error.message) from error

    async def _check_quota_0_1(self, repository: Repository) -> None:
        limit, kube = self._settings.get("per_repo_quota"), self._settings.get("kubernetes_client")
        if not limit or kube is None:
            return
        pods = await self._in_thread(
            lambda: kube.list_namespaced_pod(
                self._settings["build_namespace"], label_selector="app=jupyterhub,component=singleuser-server"
            )
        )
        image = repository.image_name.rsplit(":", 1)[0]
        same = [p for p in pods.items if any(c.image.rsplit(":", 1)[0] == image for c in p.spec.containers)]
        if len(same) >= limit:
            raise LaunchError(
                "quota.repo", message=f"Too many users running {repository.repo_url}! Try again soon."
            )

    @property
    def build_class(self) -> Any:
        """The class of builders that is configured."""
        return self._settings.get("build_class") or self._app.build_class

    @property
    def build_pool(self) -> Any:
        """BinderHub's threads for builders."""
        return self._settings["build_pool"]

    async def new_build(self, repository: Repository, sink: BuildSink, binder_url: str) -> Any:
        """Make a builder: an object with `submit`, `stream_logs` (both blocking) and `stop`."""
        wanted = {
            "q": _Reports(sink),
            "name": repository.build_name,
            "repo_url": repository.repo_url,
            "ref": repository.ref,
            "image_name": repository.image_name,
            "git_credentials": repository.provider.git_credentials,
        }
        settings = self._settings
        if not IS_MAIN and not issubclass(self.build_class, BuildExecutor):
            return self.build_class(
                api=settings["kubernetes_client"],
                namespace=settings["build_namespace"],
                push_secret=settings["docker_push_secret"] if settings["use_registry"] else None,
                builder_image=settings["builder_image_spec"],
                memory_limit=settings["build_memory_limit"],
                docker_host=settings["build_docker_host"],
                node_selector=settings["build_node_selector"],
                appendix=settings["appendix"].format(binder_url=binder_url, repo_url=repository.repo_url),
                log_tail_lines=settings["log_tail_lines"],
                **wanted,
            )
        build = self.build_class(parent=self._app, **wanted)
        if not settings["use_registry"]:
            build.push_secret = ""
        elif IS_MAIN:
            credentials = await settings["registry"].get_credentials(*_image_and_tag(repository.image_name))
            if credentials:
                build.registry_credentials = credentials
        return build

    def emit_launch_event(
        self, repository: Repository, *, host: str, request_origin: str, have_build_token: bool
    ) -> None:
        """Write BinderHub's telemetry event of a launch that succeeded."""
        log, name = self._settings["event_log"], repository.provider.name
        if not IS_MAIN:
            log.emit_launch(provider=name, spec=repository.spec, status="success")
            return
        event = {
            "provider": name,
            "spec": repository.spec,
            "ref": repository.ref,
            "status": "success",
            "build_token": have_build_token,
            "origin": self._settings["normalized_origin"] or host,
            "request_origin": request_origin,
        }
        try:
            log.emit("binderhub.jupyter.org/launch", 6, event)
        except (ValueError, jsonschema.ValidationError) as error:
            # a provider of the operator's own is not in the schema: that must not fail a launch
            app_log.warning("The launch event was not written: %s", str(error).splitlines()[0])


def _image_and_build_slug(slug: str, ref: str, image_prefix: str) -> tuple[str, str]:
    limit = 255 - len(image_prefix)
    if IS_MAIN:
        safe = binderhub.builder._safe_build_slug(slug, limit=limit)
        return safe, binderhub.builder._generate_build_name(slug, ref, prefix="build-")
    # in 0.1.0 both are methods that use nothing of their handler but each other
    handler = binderhub.builder.BuildHandler
    instance = handler.__new__(handler)
    return instance._safe_build_slug(slug, limit=limit), instance._generate_build_name(
        slug, ref, prefix="build-"
    )


def _image_and_tag(image: str) -> tuple[str, str]:
    if IS_MAIN:
        return binderhub.builder._get_image_basename_and_tag(image)
    name, _, tag = "/".join(image.split("/")[-2:]).partition(":")
    return name, tag


_GIT = (
    (re.compile(r"could not resolve host|connection (refused|reset|timed out)|timed out|failed to connect|"
                r"couldn't connect|network is unreachable|early EOF|HTTP 5\d\d|returned error: 5\d\d", re.I),
     "repo.unreachable"),
    (re.compile(r"returned error: 429|rate limit", re.I), "repo.rate_limited"),
    (re.compile(r"not found|does not exist|not appear to be a git repository|authentication failed|"
                r"could not read (username|password)|permission denied|access denied|returned error: 40[134]|"
                r"terminal prompts disabled", re.I),
     "repo.not_found"),
)  # fmt: skip


def repository_failure(error: Exception) -> LaunchError:
    """Say why a provider could not resolve a ref, from whatever it raised."""
    if isinstance(error, LaunchError):
        return error
    text = str(error)
    if isinstance(error, (HTTPClientError, HTTPError)):
        status = getattr(error, "code", None) or getattr(error, "status_code", 500)
        if status in {403, 429}:
            return LaunchError("repo.rate_limited")
        return LaunchError("repo.not_found" if status in {401, 404, 410, 422} else "repo.unreachable")
    if "rate limit" in text.lower():
        return LaunchError("repo.rate_limited", detail=text[:500])
    if "git ls-remote" in text:
        for pattern, code in _GIT:
            if pattern.search(text):
                return LaunchError(code)
        return LaunchError("repo.unreachable")
    if isinstance(error, (OSError, asyncio.TimeoutError)):
        return LaunchError("repo.unreachable")
    if isinstance(error, ValueError):
        return LaunchError("spec.invalid", detail=text[:500])
    return LaunchError("internal")


async def health_checks(handler: Any) -> list[dict[str, Any]]:
    """Return main's own checks of the registry and the pod quota, in the form of its `/health`."""
    if not IS_MAIN:
        return []
    settings = handler.settings
    checks: dict[str, Any] = {}
    upstream = settings["binderhub_ext_health_class"].__new__(settings["binderhub_ext_health_class"])
    upstream.application, upstream.hub_url = handler.application, ""
    upstream.get_checks(checks)
    # this package asks the Hub itself, once and with less patience
    checks.pop("JupyterHub API").close()
    results = await asyncio.gather(*checks.values(), return_exceptions=True)
    found = []
    for service, result in zip(checks, results, strict=True):
        if isinstance(result, BaseException):
            found.append({"service": service, "ok": False, "why": type(result).__name__})
        else:
            found.append({"service": service, **({"ok": result} if isinstance(result, bool) else result)})
    return found
