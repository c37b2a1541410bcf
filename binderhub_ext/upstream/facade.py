"""The parts of BinderHub that a launch goes through, as one object."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import docker
import docker.errors
import jsonschema
from kubernetes.client import ApiException
from tornado.log import app_log
from urllib3.exceptions import HTTPError

from binderhub_ext.errors import LaunchError
from binderhub_ext.upstream.builders import BuildSink, make_builder
from binderhub_ext.upstream.compat import IS_MAIN, LaunchQuotaExceeded
from binderhub_ext.upstream.repositories import Repositories, Repository, image_and_tag


class Upstream(Repositories):
    """Providers, registry, quota, builders, telemetry.

    Parameters
    ----------
    app : binderhub.app.BinderHub
        After `initialize()`.
    """

    def __init__(self, app: Any) -> None:
        super().__init__(app.tornado_app.settings)
        self._app = app
        self._docker: Any = None

    async def image_exists(self, repository: Repository) -> bool:
        """Ask the registry, the builder or Docker. Raises `LaunchError` registry.unreachable (transient)."""
        image = repository.image_name
        own = getattr(self.build_class, "image_exists", None)
        try:
            if own is not None:
                return bool(await self._in_thread(own, image))
            if self._settings["use_registry"]:
                registry = self._settings["registry"]
                return bool(await registry.get_image_manifest(*image_and_tag(image)))
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
        """Ask the cluster whether there is room for one more server.

        Raises
        ------
        LaunchError
            quota.repo, quota.hub; cluster.unreachable (transient) and start.forbidden when the
            cluster does not say how many there are.
        """
        try:
            await self._check_quota(repository)
        except LaunchQuotaExceeded as error:
            code = "quota.repo" if error.status == "repo_quota" else "quota.hub"
            raise LaunchError(code, message=error.message) from error
        except ApiException as error:
            if error.status in {401, 403}:
                raise LaunchError("start.forbidden") from error
            raise LaunchError("cluster.unreachable", transient=True) from error
        except (HTTPError, OSError, ValueError) as error:
            # ValueError: what came is no list of pods
            raise LaunchError("cluster.unreachable", transient=True) from error

    async def _check_quota(self, repository: Repository) -> None:
        quota = self._settings.get("launch_quota")
        if quota is None:
            await self._check_quota_0_1(repository)
            return
        config = repository.provider.repo_config(self._settings)
        await quota.check_repo_quota(repository.image_name, config, repository.repo_url)

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
        """Make a builder: an object with `submit`, `stream_logs`, `cleanup` (all blocking) and `stop`."""
        return await make_builder(self._app, self.build_class, repository, sink, binder_url)

    async def remove_build(self, builder: Any) -> None:
        """Delete what a builder runs in, its pod: `stop` ends only the watching. Raises what its client raises."""
        await self._in_thread(builder.cleanup)

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
