"""Ends the Hub when a cache that it needs cannot be refreshed, and a restart could help.

A restart cannot help while the API server answers nobody: then the Hub goes on, and its servers
with it. Whether it answers is asked over a new connection, with a new client.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from enum import Enum
from logging import Logger
from typing import Any

import aiohttp

from binderhub_ext.timing import SYSTEM_CLOCK, Clock, wait_for

from .reflector import ReliableReflector


class Verdict(str, Enum):
    """What to do about a cache."""

    FINE = "fine"
    WAIT = "wait"  # too old, but nobody gets an answer from the API server
    ABORT = "abort"


def verdict(age: float, timeout: float, reachable: bool | None, when_unreachable: bool) -> Verdict:
    """Judge a cache.

    Parameters
    ----------
    age, timeout : float
        Seconds since the cache was known to be current, and what is allowed; 0 allows any.
    reachable : bool or None
        Whether a new client gets an answer from the API server; None while that was not asked.
    when_unreachable : bool
        Whether to abort also when it does not.
    """
    if timeout <= 0 or age <= timeout:
        return Verdict.FINE
    return Verdict.ABORT if reachable or when_unreachable else Verdict.WAIT


async def api_server_answers(
    method_name: str, arguments: dict[str, Any], api_group: str, timeout: float = 10
) -> bool:
    """Whether a client made for this question gets an answer to a small list.

    Any answer counts but 5xx and 429, also a refusal: a Hub that may not list its pods
    has to say so by ending.
    """
    from kubernetes_asyncio import client

    async with client.ApiClient() as api_client:
        method = getattr(getattr(client, api_group)(api_client), method_name)
        try:
            response = await wait_for(
                method(**arguments, limit=1, _preload_content=False, _request_timeout=timeout), timeout
            )
            status = int(response.status)
            response.close()
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError):
            return False
    return status < 500 and status != 429


def end_the_hub() -> None:
    """Leave the event loop with exit status 1, as JupyterHub does after too many failed spawns."""
    asyncio.get_running_loop().call_soon(sys.exit, 1)


async def guard(
    reflector: ReliableReflector,
    *,
    timeout: float,
    when_unreachable: bool,
    answers: Callable[[], Awaitable[bool]],
    abort: Callable[[], None],
    log: Logger,
    clock: Clock = SYSTEM_CLOCK,
) -> None:
    """Watch over one reflector until it is too old and the Hub has to end, or for ever.

    Parameters
    ----------
    timeout : float
        Seconds; `reflector_abort_timeout`.
    answers : callable
        Asks whether the API server answers anybody.
    abort : callable
        Ends the Hub.
    """
    while True:
        reachable = await answers() if verdict(reflector.age, timeout, True, True) is Verdict.ABORT else None
        judged = verdict(reflector.age, timeout, reachable, when_unreachable)
        if judged is Verdict.ABORT:
            log.critical(
                "The cache of %s could not be refreshed for %.0f s (limit %.0f s; last error: %s). "
                "Ending the Hub so that it is started again.",
                reflector.kind,
                reflector.age,
                timeout,
                reflector.last_error or "none",
            )
            abort()
            return
        if judged is Verdict.WAIT:
            log.error(
                "The cache of %s could not be refreshed for %.0f s, but the API server answers nobody: "
                "a restart of the Hub would not help.",
                reflector.kind,
                reflector.age,
            )
        await clock.sleep(max(min(1.0, timeout / 10), min(30.0, (timeout - reflector.age) / 2)))
