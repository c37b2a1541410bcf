"""Reads and deletes one pod directly: what a spawner does when the cache cannot answer."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from kubernetes_asyncio import client
from kubernetes_asyncio.client.rest import ApiException

from binderhub_ext.metrics import kube as metrics
from binderhub_ext.timing import wait_for

from .entries import Object
from .parsing import parse_object

AT_ONCE = 20
"""Reads at a time: while the cache is away every poll of every server wants one."""


class Unknown(Exception):
    """The API server did not say; nothing is known about the pod."""


_slots: dict[asyncio.AbstractEventLoop, asyncio.Semaphore] = {}


def _slot() -> asyncio.Semaphore:
    loop = asyncio.get_running_loop()
    if loop not in _slots:
        _slots.clear()
        _slots[loop] = asyncio.Semaphore(AT_ONCE)
    return _slots[loop]


async def read_pod(api: Any, namespace: str, name: str, timeout: float) -> Object | None:
    """Return the pod as it is now (a quorum read: no resource version), None when there is none.

    Parameters
    ----------
    timeout : float
        Seconds, the wait for a free slot included.

    Raises
    ------
    Unknown
        When the API server did not answer in time, or not with the pod.
    """
    try:
        found = await wait_for(_read(api, namespace, name, timeout), timeout)
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError) as error:
        metrics.READS.labels("unknown").inc()
        raise Unknown(repr(error)) from error
    except Unknown:
        metrics.READS.labels("unknown").inc()
        raise
    metrics.READS.labels("missing" if found is None else "found").inc()
    return found


async def _read(api: Any, namespace: str, name: str, timeout: float) -> Object | None:
    async with _slot():
        response = await api.read_namespaced_pod(
            name=name, namespace=namespace, _preload_content=False, _request_timeout=timeout
        )
        async with response:
            body = await response.read()
    if response.status == 404:
        return None
    if response.status != 200:
        raise Unknown(f"HTTP {response.status}")
    return parse_object(body)


async def delete_pod(
    api: Any, namespace: str, name: str, uid: str, grace_seconds: int | None, timeout: float
) -> bool:
    """Ask for the deletion of a pod; return True when it is gone or another has taken its name.

    Parameters
    ----------
    uid : str
        Only a pod with this uid is deleted; empty for any of the name.
    grace_seconds : int or None
        Seconds that the pod's processes are given; None for what the pod says.

    Raises
    ------
    Unknown
        When the API server did not answer, or not with success. Retryable.
    """
    options = client.V1DeleteOptions(grace_period_seconds=grace_seconds)
    if uid:
        options.preconditions = client.V1Preconditions(uid=uid)
    try:
        response = await wait_for(
            api.delete_namespaced_pod(
                name=name, namespace=namespace, body=options, _preload_content=False, _request_timeout=timeout
            ),
            timeout,
        )
        async with response:
            status = response.status
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ApiException) as error:
        raise Unknown(repr(error)) from error
    if status == 404 or (status == 409 and uid):
        return True
    if status not in (200, 202):
        raise Unknown(f"HTTP {status}")
    return False
