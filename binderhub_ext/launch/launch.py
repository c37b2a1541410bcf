"""One launch: from a spec to a running server, as a task that no connection owns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from tornado.log import app_log

from binderhub_ext.errors import LaunchError, on_one_line
from binderhub_ext.launch.build import Build
from binderhub_ext.launch.narrator import PROGRESS, Narrator, Stage
from binderhub_ext.launch.request import LaunchRequest, Services
from binderhub_ext.launch.server import LaunchServer, server_options
from binderhub_ext.launch.tickets import Ticket
from binderhub_ext.metrics import service as metrics
from binderhub_ext.timing import Deadline
from binderhub_ext.upstream import LAUNCH_COUNT, LAUNCH_TIME, LAUNCHES_INPROGRESS, Repository

T = TypeVar("T")

# somebody's rule, not something that went wrong
REFUSALS = {"rate.limited", "quota.repo", "quota.hub", "quota.user", "repo.banned", "hook.refused"}

QUOTA_POLL = 3.0
"""Seconds between two looks at a full quota."""


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
        self.server: LaunchServer | None = None
        self.elsewhere: bool | None = False
        """Whether another process goes on with it; None: the Hub could not tell. Means nothing while it is watched."""
        self._s = services
        self._resumed = resumed
        self._say = Narrator(ticket.text, first_number, services.clock, services.settings.resolve_timeout)
        self._repository: Repository | None = None

    @property
    def stream(self) -> Any:
        """What it says (a `LaunchStream`)."""
        return self._say.stream

    @property
    def stage(self) -> Stage:
        return self._say.stage

    async def run(self) -> None:
        """Go through all stages and say how it ended. Raises nothing but `CancelledError`."""
        try:
            final = await self._run()
        except LaunchError as error:
            self.fail(error, "refused" if error.code in REFUSALS else "failed")
        except Exception as error:  # noqa: BLE001 - the person must get an answer, whatever it is
            failure = LaunchError("internal")
            failure.__cause__ = error
            self.fail(failure, "failed")
        else:
            self._say.finish(final, Stage.READY, "ok")
            metrics.OUTCOMES.labels(outcome="ready" if "url" in final else "built").inc()
            app_log.info("Launched %s in %.1f s%s", self.request, self._say.elapsed, self._retries())

    def fail(self, error: LaunchError, outcome: str) -> None:
        """End it with an error, and remove what it made on the Hub."""
        stage = self.stage
        self._say.finish(error.as_event(), Stage.FAILED, error.code)
        metrics.FAILURES.labels(code=error.code).inc()
        metrics.OUTCOMES.labels(outcome=outcome).inc()
        cause = error.__cause__
        app_log.warning(
            "Launch of %s %s while %s after %.1f s: %s%s%s",
            self.request, outcome, stage.value, self._say.elapsed, error,
            f" ({on_one_line(cause)})" if cause is not None else "", self._retries(),
            # what is in the catalogue is an answer, not a crash
            exc_info=cause if error.code == "internal" else None,
        )  # fmt: skip
        # what another process goes on with is that one's; where that is not known, the sweep will see
        ours = self.stream.watchers or self.elsewhere is False
        if ours and self.server is not None and self.server.made:
            self._s.cleaner.add(self.server.leftover)

    def _retries(self) -> str:
        return f", {self.server.retries} retries" if self.server is not None and self.server.retries else ""

    async def _run(self) -> dict[str, Any]:
        say = self._say
        say.say("waiting", "Looking for the repository...")
        if self._resumed:
            options = await self._find_server()
            if options is not None:
                metrics.RESUMED.inc()
                return await self._launch(options, "Going on with the server of this launch...")
        repository = self._repository = await self._resolve()
        if repository.notice:
            say.say("waiting", repository.notice)
        self._enter(Stage.CHECKING, self._s.settings.image_timeout)
        build_only = self.request.build_only
        if await self._bounded(self._image_exists(repository), "registry.unreachable"):
            message = "Done! Found built image" if build_only else "Found built image, launching..."
        else:
            if not build_only:
                # no build for a server that could not be started
                await self._quota(repository)
            await self._build(repository)
            message = "Done! Image built" if build_only else "Built image, launching..."
        if build_only:
            return {"phase": "ready", "message": message + "\n", "imageName": repository.image_name}
        say.say("built", message, PROGRESS[Stage.LAUNCHING], imageName=repository.image_name)
        self._enter(Stage.CHECKING, self._s.settings.image_timeout)
        await self._quota(repository)
        options = server_options(repository, self.request, self._s.office.access_token(self.ticket))
        return await self._launch(options, "Launching server...")

    def _enter(self, stage: Stage, seconds: float) -> None:
        self._say.enter(stage, Deadline.after(seconds, self._s.clock))

    async def _bounded(self, work: Awaitable[T], code: str) -> T:
        try:
            return await self._say.deadline.wait_for(work)
        except asyncio.TimeoutError:
            raise LaunchError(code) from None

    async def _resolve(self) -> Repository:
        prefix, spec = self.request.prefix, self.request.spec
        resolving = self._s.flights.get(
            ("resolve", prefix, spec), lambda: self._s.upstream.resolve(prefix, spec)
        )
        return await self._bounded(resolving, "repo.resolve_timeout")

    async def _image_exists(self, repository: Repository) -> bool:
        upstream, key = self._s.upstream, ("image", repository.image_name)
        return await self._repeated(
            lambda: self._s.flights.get(key, lambda: upstream.image_exists(repository))
        )

    async def _repeated(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask up to three times when the failure may pass. Raises what the last one raised."""
        for attempt in range(2):
            try:
                return await ask()
            except LaunchError as error:
                if not error.transient:
                    raise
                await self._s.clock.sleep(0.5 * 2**attempt)
        return await ask()

    async def _quota(self, repository: Repository) -> None:
        """Raise when one more server would be too many; wait for room first, where that is configured."""
        room = Deadline.after(self._s.settings.quota_wait, self._s.clock)
        said = False
        while True:
            try:
                asking = self._repeated(lambda: self._s.upstream.check_quota(repository))
                await self._bounded(asking, "cluster.unreachable")
                return
            except LaunchError as error:
                if not error.code.startswith("quota."):
                    raise
                if room.remaining <= QUOTA_POLL:
                    # BinderHub's names for the two, as its dashboards know them
                    self._count("repo_quota" if error.code == "quota.repo" else "pod_quota")
                    raise
            if not said:
                said = True
                self._say.enter(Stage.QUEUED, room)
                self._say.in_line(0, "quota")
            await self._s.clock.sleep(QUOTA_POLL)

    async def _build(self, repository: Repository) -> None:
        builds, settings = self._s.builds, self._s.settings
        url = f"{self.request.launch_host}v2/{self.request}"
        build, task = builds.get(repository, url)
        build.waiting += 1
        try:
            if not build.running.is_set():
                self._enter(Stage.QUEUED, settings.build_slot_timeout)
                await self._slot(build, task)
            self._say.enter(Stage.BUILDING, build.deadline)
            self._say.say("waiting", "Waiting for build to start...")
            self._say.show(build.log)
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

    async def _slot(self, build: Build, task: asyncio.Task[None]) -> None:
        """Wait until the build has a slot, and say its place in the line when that changes."""
        running = asyncio.ensure_future(build.running.wait())
        place = 0
        await asyncio.sleep(0)  # the build gets into the line
        try:
            # a build that ends here never had a slot: awaiting its task tells why
            while not (running.done() or task.done()):
                now = self._s.builds.position(build)
                if now != place and self._s.builds.full:
                    place = now
                    self._say.in_line(place, "builds")
                await asyncio.wait({running, task}, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
        finally:
            running.cancel()

    async def _find_server(self) -> dict[str, Any] | None:
        """Return the options of the server that another process started for this launch, if it did."""
        provider = self._s.upstream.provider(self.request.prefix, self.request.spec)
        token = {"token": self._s.office.access_token(self.ticket)}
        server = LaunchServer(self.ticket, self.request, self._s, provider.get_repo_url(), token)
        # without an answer the start itself looks again before it makes anything
        model = await server.look(self._say.deadline)
        return None if model is None or model.get("stopped") else dict(model["user_options"])

    async def _launch(self, options: dict[str, Any], message: str) -> dict[str, Any]:
        settings, clock = self._s.settings, self._s.clock
        self._enter(Stage.LAUNCHING, settings.launch_timeout)
        self._say.say("launching", message)
        server = LaunchServer(self.ticket, self.request, self._s, options["repo_url"], options)
        self.server = server
        began = clock.monotonic()
        try:
            with LAUNCHES_INPROGRESS.track_inprogress():
                await server.start(self._say, look_first=self._resumed)
        except LaunchError as error:
            if error.code not in REFUSALS:
                LAUNCH_TIME.labels(status="failure", retries=-1).observe(clock.monotonic() - began)
                self._count("failure")
            raise
        LAUNCH_TIME.labels(status="success", retries=server.retries).observe(clock.monotonic() - began)
        self._count("success")
        if self._repository is not None:
            self._s.upstream.emit_launch_event(
                self._repository,
                host=self.request.host,
                request_origin=self.request.request_origin,
                have_build_token=self.request.have_build_token,
            )
        message = f"server running at {server.url}\n"
        return {"phase": "ready", "message": message, **options, "url": server.url}

    def _count(self, status: str) -> None:
        if self._repository is not None:
            LAUNCH_COUNT.labels(status=status, **self._repository.metric_labels).inc()
