"""Notices a server that has started, at once: a person waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tornado.httpclient import AsyncHTTPClient, HTTPError
from tornado.simple_httpclient import HTTPStreamClosedError, HTTPTimeoutError

from binderhub_ext.timing import Deadline

PROBE_SECONDS = 0.025
"""Pause between two looks at a port that refuses connections."""


class StartFailed(Exception):
    """The server cannot be started; the Hub shows the text to the person who waits."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.jupyterhub_message = message


async def wait_until_it_answers(url: str, deadline: Deadline, runs: Callable[[], Awaitable[bool]]) -> bool:
    """Return True when `url` answers, and False when the server ended or the deadline passed.

    A server that listens and does not answer yet is not asked again, but waited for.
    """
    client = AsyncHTTPClient()
    while await runs() and not deadline.expired:
        patience = max(0.01, min(20.0, deadline.remaining))
        try:
            await client.fetch(url, connect_timeout=patience, request_timeout=patience)
            return True
        except (OSError, HTTPStreamClosedError):
            await asyncio.sleep(PROBE_SECONDS)
        except HTTPTimeoutError:
            continue
        except HTTPError:
            await asyncio.sleep(PROBE_SECONDS)
    return False
