"""What a request to the Kubernetes API asks for: verb, kind, namespace, name. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .kube_store import Resource

_PATH = re.compile(
    r"^/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+)/(?P<version>[^/]+))"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/))?"
    r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[^/]+))?/?$"
)
_TRUE = {"1", "t", "T", "true", "True", "TRUE"}


@dataclass(frozen=True)
class Call:
    verb: str
    resource: Resource
    namespace: str | None
    name: str
    subresource: str
    query: dict[str, str]


def parse(method: str, path: str, query: dict[str, str]) -> Call | None:
    """Return what is asked for; None when the path is not one of the API.

    `watch` is true for every spelling that Go's `strconv.ParseBool` takes: clients send `True`.
    """
    found = _PATH.match(path)
    if not found:
        return None
    resource = Resource(found["group"] or "", found["core"] or found["version"], found["plural"])
    name = found["name"] or ""
    if method == "GET" and not name:
        verb = "watch" if query.get("watch") in _TRUE else "list"
    elif method == "DELETE" and not name:
        verb = "deletecollection"
    else:
        verbs = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
        if method not in verbs:
            return None
        verb = verbs[method]
    return Call(verb, resource, found["namespace"], name, found["sub"] or "", query)
