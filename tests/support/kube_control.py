"""Controls of an API server that runs as a process of its own, as JSON over HTTP under `/_fake/`.

| request | effect |
|---|---|
| `POST /_fake/faults {"fault": "hang", "verb": "list", ...}` | add a rule (the fields of `Rule`) |
| `DELETE /_fake/faults` | end all rules |
| `POST /_fake/refuse {"seconds": 5}` | close the port and every connection for this time |
| `POST /_fake/cut` | reset every open connection |
| `POST /_fake/compact` | forget the history |
| `POST /_fake/freeze`, `/_fake/thaw` | stop the watch cache, let it go on |
| `POST /_fake/pods {"count": 200, "namespace": "default", "size": 8000}` | create pods |
| `GET /_fake/state` | resource version, and the requests so far, counted by verb and kind |
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from aiohttp import web

from .kube_faults import Fault, Rule

if TYPE_CHECKING:
    from .kube_api import KubeAPI


def add_routes(app: web.Application, api: KubeAPI) -> None:
    tasks: set[asyncio.Task[None]] = set()

    async def add_fault(request: web.Request) -> web.Response:
        fields = await request.json()
        api.faults.add(Rule(**{**fields, "fault": Fault(fields["fault"])}))
        return web.json_response({"rules": len(api.faults.rules)})

    async def clear_faults(request: web.Request) -> web.Response:
        api.faults.clear()
        return web.json_response({"rules": 0})

    async def refuse(request: web.Request) -> web.Response:
        seconds = float((await request.json())["seconds"])

        async def later() -> None:
            await asyncio.sleep(0.02)  # so that this answer gets out
            await api.refuse()
            await asyncio.sleep(seconds)
            await api.accept()

        task = asyncio.create_task(later())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return web.json_response({"seconds": seconds})

    async def cut(request: web.Request) -> web.Response:
        asyncio.get_running_loop().call_later(0.02, api.cut)
        return web.json_response({})

    async def compact(request: web.Request) -> web.Response:
        api.store.compact()
        return web.json_response({"resourceVersion": api.store.rv})

    async def freeze(request: web.Request) -> web.Response:
        api.freeze_cache()
        return web.json_response({"resourceVersion": api.store.rv})

    async def thaw(request: web.Request) -> web.Response:
        api.thaw_cache()
        return web.json_response({"resourceVersion": api.store.rv})

    async def pods(request: web.Request) -> web.Response:
        fields = await request.json()
        count, prefix = int(fields.pop("count", 1)), fields.pop("prefix", "jupyter-")
        for number in range(count):
            api.create_pod(f"{prefix}{number:05}", **fields)
        return web.json_response({"resourceVersion": api.store.rv})

    async def state(request: web.Request) -> web.Response:
        counts = Counter(f"{r.verb} {r.plural}" for r in api.requests)
        sent = sum(r.bytes for r in api.requests)
        return web.json_response({"resourceVersion": api.store.rv, "requests": dict(counts), "bytes": sent})

    app.router.add_post("/_fake/faults", add_fault)
    app.router.add_delete("/_fake/faults", clear_faults)
    for handler in (refuse, cut, compact, freeze, thaw, pods):
        app.router.add_post(f"/_fake/{handler.__name__}", handler)
    app.router.add_get("/_fake/state", state)
