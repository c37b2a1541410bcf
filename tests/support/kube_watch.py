"""Lists and watches of the API server for tests.

Which state a list shows for which `resourceVersion` and `resourceVersionMatch` is the table in
https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list .
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from aiohttp import web

from .kube_faults import Fault, Rule
from .kube_requests import Call
from .kube_selectors import Selector
from .kube_store import ApiError, Resource, Stored, too_large

if TYPE_CHECKING:
    from .kube_api import KubeAPI, Recorded

_TRUE = {"1", "t", "T", "true", "True", "TRUE"}


def cached_rv(api: KubeAPI, at: int | None = None) -> int:
    """The resource version at which the watch cache stands (`at`: of the replica that answers)."""
    cached = api.frozen_at if at is None else at
    # a replica may lag, but knows nothing of the future
    return api.store.rv if cached is None else min(max(cached, api.store.compacted), api.store.rv)


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ApiError(400, "BadRequest", f'invalid resource version "{text}"') from None


async def _wait_for_cache(api: KubeAPI, wanted: int, at: int | None) -> int:
    """Return the cache's resource version as soon as it is `wanted` or later; 504 when it does not come."""
    end = time.monotonic() + api.too_large_wait
    while (current := cached_rv(api, at)) < wanted:
        if time.monotonic() >= end:
            raise too_large(wanted, current)
        await asyncio.sleep(0.01)
    return current


async def list_body(api: KubeAPI, call: Call, at: int | None) -> bytes:
    """Return the JSON of a list."""
    query = call.query
    asked, match = query.get("resourceVersion", ""), query.get("resourceVersionMatch", "")
    limit, token = int(query.get("limit") or 0), query.get("continue", "")
    if match and (token or not asked):
        raise ApiError(400, "BadRequest", "resourceVersionMatch is forbidden here")
    if token and asked:
        raise ApiError(400, "BadRequest", "specifying resource version is not allowed when using continue")
    if match == "Exact" and asked == "0":
        raise ApiError(400, "BadRequest", 'resourceVersionMatch "Exact" is forbidden for resourceVersion "0"')
    start = ""
    if token:
        try:
            page = json.loads(base64.urlsafe_b64decode(token))
        except ValueError as error:
            raise ApiError(400, "BadRequest", f"invalid continue token: {error}") from error
        rv, start = int(page["rv"]), page["start"]
    elif not asked:
        rv = api.store.rv
    elif asked == "0":
        rv, limit = cached_rv(api, at), 0  # the watch cache ignores the limit
    elif match == "Exact" or (limit and not match):
        rv = _number(asked)
        if rv > api.store.rv:
            raise too_large(rv, api.store.rv)
    else:
        rv = await _wait_for_cache(api, _number(asked), at)
    selector = Selector(call.resource.plural, query.get("labelSelector", ""), query.get("fieldSelector", ""))
    found = api.store.select(call.resource, call.namespace, selector, None if rv == api.store.rv else rv)
    found = [item for item in found if "/".join(item[0]) > start] if start else found
    metadata: dict[str, Any] = {"resourceVersion": str(rv)}
    if limit and len(found) > limit:
        last = "/".join(found[limit - 1][0])
        metadata["continue"] = base64.urlsafe_b64encode(
            json.dumps({"rv": rv, "start": last}).encode()
        ).decode()
        if selector.empty:  # a real server cannot count what a selector would leave
            metadata["remainingItemCount"] = len(found) - limit
        found = found[:limit]
    head = {
        "kind": f"{call.resource.kind}List",
        "apiVersion": call.resource.api_version,
        "metadata": metadata,
    }
    items = b",".join(stored.data for _, stored in found)
    return json.dumps(head).encode()[:-1] + b', "items":[' + items + b"]}"


def _line(kind: str, resource: Resource, data: bytes) -> bytes:
    types = json.dumps({"kind": resource.kind, "apiVersion": resource.api_version})[:-1].encode()
    return b'{"type":"%s","object":%s,%s}\n' % (kind.encode(), types, data[1:])


def _bookmark(resource: Resource, rv: int) -> bytes:
    data = {"metadata": {"resourceVersion": str(rv), "creationTimestamp": None}, "spec": {}, "status": {}}
    return _line("BOOKMARK", resource, json.dumps(data).encode())


def _error(error: ApiError) -> bytes:
    return json.dumps({"type": "ERROR", "object": error.status()}).encode() + b"\n"


async def watch(
    api: KubeAPI, request: web.Request, call: Call, record: Recorded, rule: Rule | None
) -> web.StreamResponse:
    """Answer a watch: lines of JSON until `timeoutSeconds`, the client's leaving, or an error."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.enable_chunked_encoding()
    lines = _lines(api, call, rule)
    selector = Selector(
        call.resource.plural, call.query.get("labelSelector", ""), call.query.get("fieldSelector", "")
    )
    await response.prepare(request)
    record.status = 200
    api.watching.add(record)
    try:
        async for line in _fault_lines(api, call, rule) if _short(rule) else lines(selector):
            record.bytes += len(line)
            await response.write(line)
    finally:
        api.watching.discard(record)
    return response


def _short(rule: Rule | None) -> bool:
    return rule is not None and rule.fault not in (Fault.SILENT, Fault.STALE)


async def _fault_lines(api: KubeAPI, call: Call, rule: Rule) -> AsyncIterator[bytes]:
    if rule.fault is Fault.GONE:
        yield _error(
            ApiError(410, "Expired", f"too old resource version: {call.query.get('resourceVersion')}")
        )
    elif rule.fault is Fault.BOOKMARK:
        yield _bookmark(call.resource, api.store.rv)
    elif rule.fault is Fault.GARBAGE:
        yield b"upstream connect error or disconnect/reset before headers\n"
        await rule.cleared.wait()


def _lines(api: KubeAPI, call: Call, rule: Rule | None) -> Any:
    store, resource = api.store, call.resource
    asked = call.query.get("resourceVersion", "")
    bookmarks = call.query.get("allowWatchBookmarks") in _TRUE
    timeout = float(call.query.get("timeoutSeconds") or 1800)

    def lag() -> int | None:
        stale = rule is not None and rule.fault is Fault.STALE and rule in api.faults.rules
        return rule.at if stale and rule is not None else None

    def wanted(key: tuple[str, str], stored: Stored | None, selector: Selector) -> bool:
        if stored is None or (call.namespace is not None and key[0] != call.namespace):
            return False
        return selector.matches(stored.object)

    async def lines(selector: Selector) -> AsyncIterator[bytes]:
        changed = asyncio.Event()
        store.listeners.add(changed.set)
        end = time.monotonic() + timeout
        next_bookmark = time.monotonic() + api.bookmark_interval
        silent = rule is not None and rule.fault is Fault.SILENT
        try:
            if asked in ("", "0"):  # synthetic ADDED events, then what changes
                position = cached_rv(api, lag()) if asked else store.rv
                for _, stored in store.select(resource, call.namespace, selector, position):
                    yield _line("ADDED", resource, stored.data)
            else:
                position = _number(asked)
            while True:
                if silent or api.faults.silent(resource.plural):
                    await asyncio.Event().wait()  # for ever: the client must notice
                changed.clear()
                visible = cached_rv(api, lag())
                if visible > position or position < store.compacted:
                    try:
                        changes = store.changes(position, visible)
                    except ApiError as error:
                        yield _error(error)
                        return
                    position = max(position, visible)
                    for change in changes:
                        if change.resource != resource:
                            continue
                        was = wanted(change.key, change.before, selector)
                        is_ = wanted(change.key, change.after, selector)
                        if is_:
                            yield _line("MODIFIED" if was else "ADDED", resource, change.last.data)
                        elif was:
                            yield _line("DELETED", resource, change.last.data)
                    continue
                now = time.monotonic()
                if now >= end:
                    if bookmarks:
                        yield _bookmark(resource, position)
                    return
                if bookmarks and now >= next_bookmark:
                    next_bookmark = now + api.bookmark_interval
                    yield _bookmark(resource, position)
                    continue
                wait = min(end, next_bookmark if bookmarks else end) - now
                try:
                    await asyncio.wait_for(changed.wait(), min(max(wait, 0.001), 0.5))
                except asyncio.TimeoutError:
                    continue
        finally:
            store.listeners.discard(changed.set)

    return lines
