"""Start a server and see it become ready, within one deadline. The one owner of retries.

Whatever happened before (an attempt of this process, of one that was killed, of another
replica), the Hub is asked what there is, and the same server is gone on with: one launch
has one user and one server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tornado.log import app_log

from binderhub_ext.errors import LaunchError
from binderhub_ext.hub.client import HubBusy, HubClient, HubError, HubRefused, HubUnreachable, Progress
from binderhub_ext.hub.diagnosis import hub_failure, spawn_failure, start_timeout
from binderhub_ext.hub.gate import HubGate
from binderhub_ext.timing import Clock, Deadline, backoff


@dataclass(frozen=True)
class ServerRequest:
    """The server that a launch wants.

    Attributes
    ----------
    user, server : str
        Names on the Hub; `server` is empty for the default one.
    create_user : bool
        Whether the user is a temporary one, made for this launch.
    options : mapping
        The server's `user_options`. Their `token` is what tells our server from another.
    named_limit : int
        How many named servers the user may have; 0: no limit.
    """

    user: str
    server: str
    create_user: bool
    options: Mapping[str, Any] = field(repr=False)
    named_limit: int = 0

    def is_ours(self, model: Mapping[str, Any]) -> bool:
        """Whether the server of this model is the one that this launch started."""
        return (model.get("user_options") or {}).get("token") == self.options["token"]


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how soon to try again.

    Attributes
    ----------
    attempts : int
        How many times a server is started, when it fails for a reason that may pass. A Hub
        that does not answer is asked until the deadline, however often that is.
    first, limit : float
        Seconds: the first and the longest wait (see `timing.backoff`).
    wait_for_quota : bool
        Whether a Hub that has as many servers as it may is asked again until the deadline.
    """

    attempts: int = 4
    first: float = 1.0
    limit: float = 15.0
    wait_for_quota: bool = False


# Tornado's words for a 500 of which the Hub tells no more
_SAYS_NOTHING = {"", "Internal Server Error"}


class _NotYet(Exception):
    """The server is neither ready nor failed: look again."""


class ServerStart:
    """One server being started.

    Parameters
    ----------
    client : HubClient
    request : ServerRequest
    gate : HubGate
        What keeps launches in line while the Hub is in trouble.
    on_progress : callable
        Gets each `Progress` once, also when the Hub's stream was cut and taken up again.
    on_retry : callable
        Gets the failure and the number of the attempt that failed, from 1.
    on_queue : callable
        Gets the place in line and the reason, when the launch waits for the Hub.
    before_start : async callable, optional
        Called once the user exists, before the server is asked for; may raise `LaunchError`.
    """

    def __init__(
        self,
        client: HubClient,
        request: ServerRequest,
        gate: HubGate,
        *,
        clock: Clock,
        policy: RetryPolicy,
        on_progress: Callable[[Progress], None],
        on_retry: Callable[[LaunchError, int], None],
        on_queue: Callable[[int, str], None],
        before_start: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._client = client
        self._gate = gate
        self._on_queue = on_queue
        self._request = request
        self._clock = clock
        self._policy = policy
        self._on_progress = on_progress
        self._on_retry = on_retry
        self._before_start = before_start
        self._heard: list[str] = []
        self._started = False
        self._failed_starts = 0
        self._failure: LaunchError | None = None
        self._user_exists = False
        self.retries = 0
        """How many attempts have failed."""
        self.made = False
        """Whether there may be something of ours on the Hub."""

    async def run(self, deadline: Deadline, *, look_first: bool = False) -> None:
        """Return when the server is ready.

        Parameters
        ----------
        look_first : bool
            Ask the Hub what there is before anything is made: for launches that may have
            been begun by another process.

        Raises
        ------
        LaunchError
            With a code of the catalogue: ``server.*``, ``hub.*``, ``quota.*``, ``image.pull``,
            ``cluster.full``, ``start.forbidden``.
        """
        while True:
            try:
                await self._turn(deadline)
                await deadline.wait_for(self._attempt(look_first))
                self._gate.succeeded()
                return
            except asyncio.TimeoutError:
                raise self._failure or start_timeout(self._heard) from None
            except HubError as error:
                app_log.debug("Hub: %r", error)
                failure = self._hub_failure(error)
            except _NotYet as error:
                failure = LaunchError("server.timeout", detail=str(error), transient=True)
            except LaunchError as error:
                self._gate.succeeded()
                failure = error
                self._failed_starts += 1
            self._failure = failure
            look_first = True
            if not failure.transient or self._failed_starts >= self._policy.attempts:
                raise failure
            self.retries += 1
            wait = backoff(self.retries - 1, first=self._policy.first, limit=self._policy.limit)
            if max(wait, failure.retry_after or 0.0) >= deadline.remaining:
                raise failure
            self._on_retry(failure, self.retries)
            # "come back later" is the gate's business; a full Hub's is ours
            full = failure.code == "quota.hub"
            await self._clock.sleep(max(wait, failure.retry_after or 0.0) if full else wait)

    async def _turn(self, deadline: Deadline) -> None:
        """Wait in line while the Hub is in trouble."""
        try:
            await deadline.wait_for(self._gate.enter(self._on_queue))
        except asyncio.TimeoutError:
            raise self._failure or LaunchError("hub.unreachable") from None

    def _hub_failure(self, error: HubError) -> LaunchError:
        """Tell the gate, and say what it means for this launch."""
        failure = hub_failure(error)
        if isinstance(error, HubUnreachable):
            self._gate.failed()
        elif failure.code == "quota.hub":
            failure.transient = self._policy.wait_for_quota
        elif isinstance(error, HubBusy):
            self._gate.busy(error.retry_after or 5.0)
        else:
            self._gate.succeeded()
            # a 500 is the Hub's answer; only what is no answer is asked for until the deadline
            self._failed_starts += 1
        return failure

    async def _attempt(self, look_first: bool) -> None:
        look_first = look_first or self._started or not self._request.create_user
        if not look_first:
            await self._create_user()
        elif await self._find():
            return
        if self._before_start is not None:
            await self._before_start()
        self._started = self.made = True
        self._heard.clear()
        try:
            await self._client.start_server(self._request.user, self._request.server, self._request.options)
        except HubRefused as error:
            if error.status < 500 and error.status not in {400, 409}:
                raise
            # a spawn that failed within the Hub's slow_spawn_timeout answers 500, one that is there
            # already 400 or 409: the progress stream knows more than these words
            if not await self._find(error):
                raise
            return
        if not self._request.create_user:
            # the Hub accepts it also when another launch of this user is starting the same server
            if not await self._find():
                raise _NotYet("The server is gone.")
            return
        await self._follow()

    async def _create_user(self) -> None:
        if not self._request.create_user or self._user_exists:
            return
        # a request whose answer never comes may have been done all the same
        before, self.made = self.made, True
        try:
            created = await self._client.create_user(self._request.user)
        except HubRefused as error:
            if error.status < 500:
                self.made = before
            raise
        self._user_exists = True
        if not created:
            self.made = before
            # ours from before, or somebody else's: _find looks into it
            await self._find()

    async def _find(self, refusal: HubRefused | None = None) -> bool:
        """Look what the Hub has, and see a server of ours through.

        Returns False when there is none to wait for: it can be started.
        """
        model = await self._client.get_user(self._request.user)
        if model is None:
            self._user_exists = False
            await self._create_user()
            return False
        self._user_exists = True
        server = (model.get("servers") or {}).get(self._request.server)
        if server is None or (server.get("stopped") and not server.get("pending")):
            self._check_limit(model)
            if refusal is not None and refusal.status >= 500 and refusal.message not in _SAYS_NOTHING:
                raise spawn_failure(refusal.message, self._heard)
            return False
        if server.get("pending") == "stop":
            # of an attempt that failed; it must be gone before the next can start
            raise _NotYet("The Hub is still stopping the server of an earlier attempt.")
        if not self._request.is_ours(server):
            self.made = False  # what is there is not ours to remove
            raise LaunchError(
                "quota.user", message=f"User {self._request.user} already has a running server."
            )
        if server.get("pending") == "check":
            # a Hub that has just started is not sure yet of the servers that run
            raise _NotYet("The Hub is looking whether the server runs.")
        self.made = True
        if server.get("ready"):
            return True
        self._started = True
        await self._follow()
        return True

    def _check_limit(self, model: Mapping[str, Any]) -> None:
        limit = self._request.named_limit
        named = [name for name in model.get("servers") or {} if name and name != self._request.server]
        if self._request.server and limit and len(named) >= limit:
            raise LaunchError(
                "quota.user",
                message=f"User {self._request.user} already has the maximum of {limit} named servers."
                "  One must be deleted before a new server can be created",
            )

    async def _follow(self) -> None:
        again = 0
        async with self._progress() as events:
            async for event in events:
                if event.ready:
                    return
                if event.failed:
                    raise spawn_failure(event.message, self._heard)
                self._failure = None
                # a stream that is taken up again starts from the first message
                if again < len(self._heard) and self._heard[again] == event.message:
                    again += 1
                    continue
                again = len(self._heard) + 1
                self._heard.append(event.message)
                self._on_progress(event)
        raise _NotYet("The Hub's progress stream was cut.")

    @asynccontextmanager
    async def _progress(self) -> AsyncIterator[AsyncIterator[Progress]]:
        try:
            async with self._client.progress(self._request.user, self._request.server) as events:
                yield events
        except HubRefused as error:
            if error.status not in {400, 404}:
                raise
            # "is not starting": it came to its end just now, and the Hub's model tells how
            raise LaunchError("server.crashed", error.message, transient=True) from error
