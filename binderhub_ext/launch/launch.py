"""One launch: from a spec to a running server, as a task that no connection owns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import quote

from jupyterhub.utils import maybe_future
from tornado.log import app_log
from tornado.web import HTTPError

from binderhub_ext.errors import LaunchError
from binderhub_ext.hub.cleanup import Cleaner, Leftover
from binderhub_ext.hub.client import HubClient, HubError, Progress
from binderhub_ext.hub.start import RetryPolicy, ServerRequest, ServerStart
from binderhub_ext.launch.builds import Builds
from binderhub_ext.launch.flights import Flights
from binderhub_ext.launch.names import name_from_repo
from binderhub_ext.launch.settings import Launcher
from binderhub_ext.launch.tickets import Ticket, TicketOffice
from binderhub_ext.metrics import service as metrics
from binderhub_ext.sse import encode_data
from binderhub_ext.stream import LaunchStream
from binderhub_ext.timing import Clock, Deadline
from binderhub_ext.upstream import LAUNCH_COUNT, LAUNCH_TIME, LAUNCHES_INPROGRESS, Repository, Upstream

_REFUSALS = {"rate.limited", "quota.repo", "quota.hub", "quota.user", "repo.banned", "hook.refused"}


class Stage(str, Enum):
    """Where a launch is."""

    RESOLVING = "resolving"
    CHECKING = "checking"
    QUEUED = "queued"
    BUILDING = "building"
    LAUNCHING = "launching"
    READY = "ready"
    FAILED = "failed"


# the progress at which a stage begins, in percent
_PROGRESS = {
    "resolving": 0,
    "checking": 5,
    "queued": 8,
    "building": 10,
    "launching": 70,
    "ready": 100,
    "failed": 100,
}


@dataclass(frozen=True)
class LaunchRequest:
    """What somebody asked for.

    Attributes
    ----------
    prefix, spec : str
        The provider's prefix and the spec, as in the URL.
    user : str
        The logged-in user's name; empty where BinderHub has no authentication.
    launch_host : str
        This BinderHub's public address, with its base URL.
    host, request_origin, have_build_token
        For the telemetry event.
    """

    prefix: str
    spec: str
    build_only: bool = False
    user: str = ""
    launch_host: str = ""
    client_ip: str = ""
    host: str = ""
    request_origin: str = ""
    have_build_token: bool = False


@dataclass
class Services:
    """What launches work with; made once by the application."""

    upstream: Upstream
    hub: HubClient
    cleaner: Cleaner
    builds: Builds
    office: TicketOffice
    settings: Launcher
    clock: Clock
    hub_url: str
    auth_enabled: bool
    flights: Flights = field(default_factory=Flights)


class Launch:
    """One launch. `run` is its course; `stream` is what it says.

    Parameters
    ----------
    first_number : int
        The number of its first event: more than 1 when another process had begun it.
    resumed : bool
        Whether another process may have begun it: the Hub is asked first.
    """

    def __init__(
        self,
        ticket: Ticket,
        request: LaunchRequest,
        services: Services,
        *,
        first_number: int = 1,
        resumed: bool = False,
    ) -> None:
        self.ticket = ticket
        self.request = request
        self.stream = LaunchStream(ticket.text, first_number)
        self.stage = Stage.RESOLVING
        self.error: LaunchError | None = None
        self.ended_at: float | None = None
        self._s = services
        self._resumed = resumed
        self._began = self._stage_began = services.clock.monotonic()
        self._deadline = Deadline.after(services.settings.resolve_timeout, services.clock)
        self._start: ServerStart | None = None
        self._leftover: Leftover | None = None
        self._repository: Repository | None = None
        self._extra: dict[str, Any] = {"ticket": ticket.text}

    # -- what it says --

    def _say(self, phase: str, message: str, progress: int = 0, **keys: Any) -> None:
        self.stream.append(self._frame({"phase": phase, "message": message, **keys}, progress))

    def _frame(self, event: dict[str, Any], progress: int = 0) -> bytes:
        now = self._s.clock.monotonic()
        event["stage"] = self.stage.value
        event["elapsed"] = round(now - self._began, 3)
        if self.stage not in {Stage.READY, Stage.FAILED}:
            event["remaining"] = round(self._deadline.remaining, 1)
        event["progress"] = max(progress, _PROGRESS[self.stage.value])
        event.update(self._extra)
        self._extra = {}
        return encode_data(event)

    def _enter(self, stage: Stage, seconds: float | None = None) -> None:
        self._leave_stage("ok")
        self.stage = stage
        if seconds is not None:
            self._deadline = Deadline.after(seconds, self._s.clock)

    def _leave_stage(self, result: str) -> None:
        now = self._s.clock.monotonic()
        metrics.STAGE_SECONDS.labels(stage=self.stage.value, result=result).observe(now - self._stage_began)
        self._stage_began = now

    # -- its course --

    async def run(self) -> None:
        """Go through all stages and say how it ended. Raises nothing but `CancelledError`."""
        try:
            final = await self._run()
            outcome = "ready" if "url" in final else "built"
            self._enter(Stage.READY)
        except LaunchError as error:
            final, outcome = self._failed(error), "refused" if error.code in _REFUSALS else "failed"
        except Exception as error:  # noqa: BLE001 - the person must get an answer, whatever it is
            failure = LaunchError("internal")
            failure.__cause__ = error
            final, outcome = self._failed(failure), "failed"
        self._finish(final, outcome)

    def give_up(self, error: LaunchError, outcome: str) -> None:
        """End it from outside, after its task was cancelled."""
        self._finish(self._failed(error), outcome)

    def _failed(self, error: LaunchError) -> dict[str, Any]:
        self.error = error
        self._leave_stage(error.code)
        stage, self.stage = self.stage, Stage.FAILED
        metrics.FAILURES.labels(code=error.code).inc()
        cause = error.__cause__
        app_log.warning(
            "Launch of %s failed while %s after %.1f s: %s%s",
            self._name, stage.value, self._s.clock.monotonic() - self._began, error,
            f" ({cause!r})" if cause is not None else "",
            # what is in the catalogue is an answer, not a crash
            exc_info=cause if error.code == "internal" else None,
        )  # fmt: skip
        if self._leftover is not None and self._start is not None and self._start.made:
            self._s.cleaner.add(self._leftover)
        return error.as_event()

    def _finish(self, final: dict[str, Any], outcome: str) -> None:
        metrics.OUTCOMES.labels(outcome=outcome).inc()
        self.ended_at = self._s.clock.monotonic()
        if outcome in {"ready", "built"}:
            app_log.info("Launched %s in %.1f s", self._name, self.ended_at - self._began)
        self.stream.finish(self._frame(final))

    @property
    def _name(self) -> str:
        return f"{self.request.prefix}/{self.request.spec[:200]}"

    async def _run(self) -> dict[str, Any]:
        self._say("waiting", "Looking for the repository...\n")
        if self._resumed:
            taken_over = await self._take_over()
            if taken_over is not None:
                return taken_over
        repository = await self._resolve()
        self._enter(Stage.CHECKING, self._s.settings.image_timeout)
        built = await self._bounded(self._image_exists(repository), "registry.unreachable")
        if built:
            message = (
                "Done! Found built image\n"
                if self.request.build_only
                else "Found built image, launching...\n"
            )
        else:
            if not self.request.build_only:
                await self._bounded(self._s.upstream.check_quota(repository), "hub.unreachable")
            await self._build(repository)
            message = "Done! Image built\n" if self.request.build_only else "Built image, launching...\n"
        if self.request.build_only:
            return {"phase": "ready", "message": message, "imageName": repository.image_name}
        self._say("built", message, _PROGRESS["launching"], imageName=repository.image_name)
        await self._bounded(self._s.upstream.check_quota(repository), "hub.unreachable")
        return await self._launch(self._options(repository), repository.repo_url)

    async def _bounded(self, work: Any, code: str) -> Any:
        try:
            return await self._deadline.wait_for(work)
        except asyncio.TimeoutError:
            raise LaunchError(code) from None

    async def _resolve(self) -> Repository:
        prefix, spec = self.request.prefix, self.request.spec.rstrip("/")
        upstream = self._s.upstream

        async def resolve() -> Repository:
            return await self._s.flights.get(
                ("resolve", prefix, spec), lambda: upstream.resolve(prefix, spec)
            )

        self._repository = repository = await self._bounded(resolve(), "repo.resolve_timeout")
        if repository.notice:
            self._say("waiting", repository.notice + "\n")
        return repository

    async def _image_exists(self, repository: Repository) -> bool:
        upstream = self._s.upstream
        for attempt in range(3):
            try:
                return await self._s.flights.get(
                    ("image", repository.image_name), lambda: upstream.image_exists(repository)
                )
            except LaunchError as error:
                if not error.transient or attempt == 2:
                    raise
                await self._s.clock.sleep(0.5 * 2**attempt)
        raise AssertionError("unreachable")

    async def _build(self, repository: Repository) -> None:
        builds = self._s.builds
        url = f"{self.request.launch_host}v2/{self.request.prefix}/{self.request.spec}"
        build, task = builds.get(repository, url)
        self._enter(Stage.BUILDING, self._s.settings.build_slot_timeout + self._s.settings.build_timeout)
        place = builds.position(build)
        if place > 1:
            self._extra["queue"] = {"position": place, "reason": "builds"}
        self._say("waiting", "Waiting for build to start...\n")
        self.stream.splice(build.log)
        build.waiting += 1
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise LaunchError("build.interrupted") from None
            raise
        finally:
            build.waiting -= 1
            self.stream.end_splice()
            if not task.done():
                builds.leave(build, task)

    def _options(self, repository: Repository) -> dict[str, Any]:
        """The server's `user_options`, as BinderHub sends them, which are most of the `ready` event too."""
        return {
            "image": repository.image_name,
            "repo_url": repository.repo_url,
            "token": self._s.office.access_token(self.ticket),
            "binder_ref_url": repository.ref_url,
            "binder_launch_host": self.request.launch_host,
            "binder_request": f"v2/{repository.prefix}/{repository.spec}",
            "binder_persistent_request": f"v2/{repository.prefix}/{repository.resolved_spec}",
            "binder_client_ip": self.request.client_ip,
        }

    def _server(self, repo_url: str, options: dict[str, Any]) -> ServerRequest:
        own = name_from_repo(repo_url, self._s.office.suffix(self.ticket))
        settings = self._s.settings
        if not self._s.auth_enabled:
            return ServerRequest(own, "", True, options)
        server = own if settings.allow_named_servers else ""
        return ServerRequest(self.request.user, server, False, options, settings.named_server_limit_per_user)

    async def _take_over(self) -> dict[str, Any] | None:
        """Go on with the server that another process started, if there is one."""
        provider = self._s.upstream.provider(self.request.prefix, self.request.spec.rstrip("/"))
        options = {"token": self._s.office.access_token(self.ticket)}
        wanted = self._server(provider.get_repo_url(), options)
        try:
            model = await self._deadline.wait_for(self._s.hub.get_user(wanted.user)) or {}
        except (HubError, asyncio.TimeoutError) as error:
            # no answer, no take-over: the start itself looks again before it makes anything
            app_log.debug("Looking for the server of %s: %r", self._name, error)
            return None
        server = (model.get("servers") or {}).get(wanted.server)
        if server is None or server.get("stopped") or not wanted.is_ours(server):
            return None
        metrics.RESUMED.inc()
        options = dict(server["user_options"])
        return await self._launch(options, options.get("repo_url", ""), again=True)

    async def _launch(self, options: dict[str, Any], repo_url: str, again: bool = False) -> dict[str, Any]:
        settings = self._s.settings
        self._enter(Stage.LAUNCHING, settings.launch_timeout)
        self._say(
            "launching", "Going on with the server of this launch...\n" if again else "Launching server...\n"
        )
        request = self._server(repo_url, options)
        self._leftover = Leftover(request.user, request.server, delete_user=request.create_user)
        self._start = start = ServerStart(
            self._s.hub,
            request,
            clock=self._s.clock,
            policy=RetryPolicy(attempts=settings.retries, first=settings.retry_delay),
            on_progress=self._hub_progress,
            on_retry=self._retrying,
            before_start=self._hook(request) if settings.pre_launch_hook else None,
        )
        began = self._s.clock.monotonic()
        try:
            with LAUNCHES_INPROGRESS.track_inprogress():
                await start.run(self._deadline, look_first=self._resumed)
        except LaunchError:
            LAUNCH_TIME.labels(status="failure", retries=-1).observe(self._s.clock.monotonic() - began)
            self._count("failure")
            raise
        LAUNCH_TIME.labels(status="success", retries=start.retries).observe(self._s.clock.monotonic() - began)
        self._count("success")
        if self._repository is not None:
            self._s.upstream.emit_launch_event(
                self._repository,
                host=self.request.host,
                request_origin=self.request.request_origin,
                have_build_token=self.request.have_build_token,
            )
        url = f"{self._s.hub_url}user/{quote(request.user, safe='@~')}/"
        if request.server:
            url += f"{quote(request.server, safe='@~')}/"
        return {"phase": "ready", "message": f"server running at {url}\n", **options, "url": url}

    def _count(self, status: str) -> None:
        if self._repository is not None:
            LAUNCH_COUNT.labels(status=status, **self._repository.metric_labels).inc()

    def _hub_progress(self, event: Progress) -> None:
        progress = _PROGRESS["launching"] + min(event.progress, 100) * 29 // 100
        self._say("launching", event.message + "\n", progress)

    def _retrying(self, failure: LaunchError, attempt: int) -> None:
        metrics.RETRIES.labels(code=failure.code).inc()
        app_log.info("Launch of %s: attempt %d failed, trying again: %s", self._name, attempt, failure)
        self._say("launching", f"Launch attempt {attempt} failed, retrying...\n")

    def _hook(self, request: ServerRequest) -> Callable[[], Any]:
        settings = self._s.settings

        async def hook() -> None:
            try:
                await maybe_future(
                    settings.pre_launch_hook(
                        settings,
                        request.options["image"],
                        request.user,
                        request.server,
                        request.options["repo_url"],
                    )
                )
            except HTTPError as error:
                text = (error.log_message or error.reason or "") % (error.args or ())
                raise LaunchError("hook.refused", detail=text, message=text) from error

        return hook
