"""The server of a launch: its name and options, its start, and who else may be starting it."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from jupyterhub.utils import maybe_future
from tornado.log import app_log
from tornado.web import HTTPError

from binderhub_ext.errors import LaunchError
from binderhub_ext.hub.cleanup import Leftover
from binderhub_ext.hub.client import HubError, Progress
from binderhub_ext.hub.gate import GateState
from binderhub_ext.hub.start import RetryPolicy, ServerRequest, ServerStart
from binderhub_ext.launch.names import name_from_repo
from binderhub_ext.launch.narrator import PROGRESS, Narrator, Stage
from binderhub_ext.launch.request import LaunchRequest, Services
from binderhub_ext.launch.tickets import Ticket
from binderhub_ext.metrics import service as metrics
from binderhub_ext.timing import Deadline
from binderhub_ext.upstream import Repository


def server_options(repository: Repository, request: LaunchRequest, token: str) -> dict[str, Any]:
    """Return a server's `user_options`, as BinderHub sends them, which are most of the `ready` event too."""
    return {
        "image": repository.image_name,
        "repo_url": repository.repo_url,
        "token": token,
        "binder_ref_url": repository.ref_url,
        "binder_launch_host": request.launch_host,
        "binder_request": f"v2/{repository.prefix}/{repository.spec}",
        "binder_persistent_request": f"v2/{repository.prefix}/{repository.resolved_spec}",
        "binder_client_ip": request.client_ip,
    }


class LaunchServer:
    """The one server of a launch, whichever process starts it.

    Parameters
    ----------
    repo_url : str
        Its name is made from this and the ticket.
    options : dict
        Its `user_options`; for a look at what there is, its token is enough.
    """

    def __init__(
        self,
        ticket: Ticket,
        request: LaunchRequest,
        services: Services,
        repo_url: str,
        options: dict[str, Any],
    ) -> None:
        own = name_from_repo(repo_url, services.office.suffix(ticket))
        settings = services.settings
        if services.auth_enabled:
            name = own if settings.allow_named_servers else ""
            limit = settings.named_server_limit_per_user
            self.request = ServerRequest(request.user, name, False, options, limit)
        else:
            self.request = ServerRequest(own, "", True, options)
        self.options = options
        self.made = False
        self.retries = 0
        self._s = services
        self._name = str(request)

    @property
    def url(self) -> str:
        """Where a browser finds it, with a slash at the end."""
        server = f"{quote(self.request.server, safe='@~')}/" if self.request.server else ""
        return f"{self._s.hub_url}user/{quote(self.request.user, safe='@~')}/{server}"

    @property
    def leftover(self) -> Leftover:
        """What a clean-up would have to remove."""
        request = self.request
        return Leftover(request.user, request.server, request.create_user, token=str(self.options["token"]))

    async def look(self, deadline: Deadline) -> dict[str, Any] | None:
        """Return the Hub's model of it; None when there is none, or the Hub cannot be asked."""
        try:
            model = await deadline.wait_for(self._s.hub.get_user(self.request.user)) or {}
        except (HubError, asyncio.TimeoutError) as error:
            app_log.debug("Looking for the server of %s: %r", self._name, error)
            return None
        server = (model.get("servers") or {}).get(self.request.server)
        return server if server is not None and self.request.is_ours(server) else None

    async def start(self, narrator: Narrator, *, look_first: bool) -> None:
        """Start it, or go on with its start. Raises `LaunchError`."""
        settings = self._s.settings
        policy = RetryPolicy(
            attempts=settings.retries,
            first=settings.retry_delay,
            wait_for_quota=settings.quota_wait > 0,
        )

        def progress(event: Progress) -> None:
            share = PROGRESS[Stage.LAUNCHING] + min(event.progress, 100) * 29 // 100
            narrator.say("launching", event.message, share)

        def retrying(failure: LaunchError, attempt: int) -> None:
            metrics.RETRIES.labels(code=failure.code).inc()
            app_log.info("Launch of %s: attempt %d failed, trying again: %s", self._name, attempt, failure)
            narrator.say("launching", f"Launch attempt {attempt} failed, retrying...")

        start = ServerStart(
            self._s.hub,
            self.request,
            self._s.gate,
            clock=self._s.clock,
            policy=policy,
            on_progress=progress,
            on_retry=retrying,
            on_queue=narrator.in_line,
            before_start=self._hook() if settings.pre_launch_hook else None,
        )
        presence = asyncio.create_task(self._show_presence(narrator, at_once=look_first))
        try:
            await start.run(narrator.deadline, look_first=look_first)
        finally:
            self.made, self.retries = start.made, start.retries
            presence.cancel()

    async def _show_presence(self, narrator: Narrator, *, at_once: bool) -> None:
        """Let another process that has this launch, too, see on the Hub that somebody watches it here."""
        interval = self._s.settings.abandon_timeout / 4
        if not at_once:
            await self._s.clock.sleep(interval)
        while True:
            # nor is a Hub that does not answer asked for more than it must be
            away = self._s.gate.state is GateState.OPEN and self._s.gate.reason == "unreachable"
            if away or not narrator.stream.watchers:
                await self._s.clock.sleep(interval)
                continue
            now = datetime.datetime.fromtimestamp(self._s.clock.time(), datetime.timezone.utc)
            try:
                await self._s.hub.touch_user(self.request.user, now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
            except HubError as error:
                app_log.debug("Presence at %s: %r", self._name, error)
            await self._s.clock.sleep(interval)

    async def last_activity(self) -> str | None:
        """Return when the Hub last heard of the user. Raises `HubError`."""
        model = await self._s.hub.get_user(self.request.user)
        return model.get("last_activity") if model else None

    def _hook(self) -> Callable[[], Awaitable[None]]:
        settings, request = self._s.settings, self.request

        async def hook() -> None:
            options = request.options
            try:
                await maybe_future(
                    settings.pre_launch_hook(
                        settings, options["image"], request.user, request.server, options["repo_url"]
                    )
                )
            except HTTPError as error:
                raise refusal(error) from error

        return hook


def refusal(error: HTTPError) -> LaunchError:
    """Return what a pre-launch hook's `tornado.web.HTTPError` means to a person: its own text."""
    text = (error.log_message or error.reason or "") % (error.args or ())
    return LaunchError("hook.refused", detail=text, message=text)
