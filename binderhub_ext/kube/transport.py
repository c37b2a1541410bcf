"""A reflector's requests: one page of a list, one watch. Errors become outcomes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp

from binderhub_ext.timing import wait_for

from .rounds import Outcome

T = TypeVar("T")

CONNECT_SECONDS = 5.0
"""Longest wait for a TCP connection: a healthy API server accepts at once."""


@dataclass
class Failed(Exception):
    """A request did not give what it was for.

    Attributes
    ----------
    outcome : Outcome
    detail : str
        For the log.
    """

    outcome: Outcome
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.outcome.value}: {self.detail}" if self.detail else self.outcome.value


def outcome_of_status(code: int, message: str, details: Any = None) -> Outcome:
    """Return what an error `Status` of the API means for a list or a watch."""
    causes = (details or {}).get("causes") or [] if isinstance(details, dict) else []
    too_large = any(cause.get("reason") == "ResourceVersionTooLarge" for cause in causes)
    if too_large or "Too large resource version" in message:
        return Outcome.TOO_LARGE
    if code == 410:
        return Outcome.GONE
    return Outcome.HTTP_ERROR


def _failed_status(code: int, body: bytes) -> Failed:
    try:
        status = json.loads(body)
        message, details = str(status.get("message", "")), status.get("details")
    except (ValueError, AttributeError):
        message, details = body[:200].decode(errors="replace"), None
    return Failed(outcome_of_status(code, message, details), f"HTTP {code}: {message}")


async def hedged(attempt: Callable[[], Awaitable[T]], patience: float) -> T:
    """Return the first result of one attempt, or of another that begins beside it when it takes long.

    A connection that hangs may do so for ever, while a new one is answered at once; but one that is only
    slow must be let finish. So the first goes on, and the second is replaced every `patience` seconds.

    Raises
    ------
    Exception
        What the last attempt raised, when all that had begun have failed.
    """
    tasks = [asyncio.ensure_future(attempt())]
    try:
        while True:
            done, _ = await asyncio.wait(tasks, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if len(tasks) == 1 or task.exception() is None:
                    return task.result()
                tasks.remove(task)
            if not done:
                for task in tasks[1:]:
                    task.cancel()
                tasks[1:] = [asyncio.ensure_future(attempt())]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Transport:
    """Requests of one kind of resource, through a list method of the Kubernetes client.

    Parameters
    ----------
    method : callable
        Such as `CoreV1Api.list_namespaced_pod`.
    arguments : dict
        Namespace and selectors, the same in every request.
    """

    def __init__(self, method: Any, arguments: dict[str, Any]) -> None:
        self._method, self._arguments = method, arguments

    async def page(self, timeout: float, patience: float, **query: Any) -> bytes:
        """Return the body of one page of a list.

        Parameters
        ----------
        timeout : float
            Seconds for all attempts together.
        patience : float
            Seconds after which the question is asked over another connection, too.

        Raises
        ------
        Failed
            Whatever went wrong, `timeout` included.
        """

        async def attempt() -> bytes:
            async with await self._request(limits, **query) as response:
                body: bytes = await response.read()
                if response.status != 200:
                    raise _failed_status(response.status, body)
                return body

        limits = aiohttp.ClientTimeout(total=timeout, sock_connect=min(CONNECT_SECONDS, timeout))
        try:
            return await wait_for(hedged(attempt, patience), timeout)
        except asyncio.TimeoutError as error:
            raise Failed(Outcome.UNREACHABLE, f"no answer within {timeout:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Failed(Outcome.UNREACHABLE, repr(error)) from error

    async def watch(self, silence: float, **query: Any) -> AsyncIterator[bytes]:
        """Yield what a watch sends, as it comes, until the server ends it.

        Parameters
        ----------
        silence : float
            Seconds without a byte after which the connection counts as dead.

        Raises
        ------
        Failed
        """
        limits = aiohttp.ClientTimeout(total=None, sock_connect=min(CONNECT_SECONDS, silence))
        try:
            response = await wait_for(
                self._request(limits, watch=True, allow_watch_bookmarks=True, **query), silence
            )
            try:
                if response.status != 200:
                    raise _failed_status(response.status, await wait_for(response.read(), silence))
                while data := await wait_for(response.content.readany(), silence):
                    yield data
            finally:
                response.close()
        except asyncio.TimeoutError as error:
            raise Failed(Outcome.SILENT, f"nothing came for {silence:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Failed(Outcome.UNREACHABLE, repr(error)) from error

    async def _request(self, limits: aiohttp.ClientTimeout, **query: Any) -> aiohttp.ClientResponse:
        response: aiohttp.ClientResponse = await self._method(
            **self._arguments, **query, _preload_content=False, _request_timeout=limits
        )
        return response
