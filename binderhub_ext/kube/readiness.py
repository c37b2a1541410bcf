"""Finds out at once that a server answers, so that the Hub's first check succeeds.

The Hub looks with waits that grow (`jupyterhub.utils.wait_for_http_server`); whoever starts a
server can look more often and return from `start()` only when it answers. Needs neither Kubernetes
nor the Hub.
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlparse

from binderhub_ext.timing import Deadline, wait_for

PROBE_SECONDS = 0.05
"""Between two probes: a twentieth of what a person notices, and 20 requests a second at most."""


async def answers(url: str, timeout: float) -> bool:
    """Whether a server answers at `url` with anything but a 5xx, as the Hub judges it.

    Parameters
    ----------
    url : str
        With `https`, or with no host, an accepted connection is enough.
    timeout : float
        Seconds.
    """
    target = urlparse(url)
    try:
        return await wait_for(_ask(target.scheme, target.hostname or "", target.port, target.path), timeout)
    except (
        OSError,
        asyncio.TimeoutError,
        asyncio.IncompleteReadError,
        asyncio.LimitOverrunError,
        ValueError,
    ):
        return False


async def _ask(scheme: str, host: str, port: int | None, path: str) -> bool:
    reader, writer = await asyncio.open_connection(host, port or (443 if scheme == "https" else 80))
    try:
        if scheme == "https":
            return True
        request = f"GET {path or '/'} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAccept: */*\r\n\r\n"
        writer.write(request.encode())
        await writer.drain()
        status = (await reader.readuntil(b"\n")).split()
        return len(status) >= 2 and status[0].startswith(b"HTTP/") and int(status[1]) < 500
    finally:
        writer.close()


async def wait_until_answering(url: str, deadline: Deadline, *, every: float = PROBE_SECONDS) -> bool:
    """Probe until a server answers; return False when the deadline passes first.

    Parameters
    ----------
    url : str
        What the Hub will ask: the server's address with its base URL and ``api``.
    every : float
        Seconds between probes.
    """
    while not await answers(url, min(5.0, max(every, deadline.remaining))):
        if deadline.expired:
            return False
        await deadline.clock.sleep(min(every, deadline.remaining))
    return True
