"""What a Kubernetes API server refuses of what it is sent, before it looks at what it keeps. No I/O."""

from __future__ import annotations

from typing import Any

from .kube_requests import Call
from .kube_store import EVENTS, ApiError

PATCHES = {"application/merge-patch+json", "application/strategic-merge-patch+json"}
"""The patches that the API server of the tests applies, both as a JSON merge patch."""


def check_sent(call: Call, body: Any, content_type: str) -> None:
    """Judge the body of a create, update or patch.

    Raises
    ------
    ApiError
        400 for an object of another name or namespace than the URL's, 415 for a patch of another kind, 422 for an
        Event of another namespace than what it is about, 500 for a new object with a resource version.
    """
    if call.verb == "patch" and (content_type not in PATCHES or not isinstance(body, dict)):
        raise ApiError(415, "UnsupportedMediaType", f"{content_type} is none of {', '.join(sorted(PATCHES))}")
    metadata = body.get("metadata") or {}
    if call.name and metadata.get("name", call.name) != call.name:
        what = f"the name of the object ({metadata['name']}) does not match the name on the URL ({call.name})"
        raise ApiError(400, "BadRequest", what)
    if metadata.get("namespace", call.namespace) != call.namespace:
        what = "the namespace of the provided object does not match the namespace sent on the request"
        raise ApiError(400, "BadRequest", what)
    if call.verb == "create" and call.resource == EVENTS:
        namespace = (body.get("involvedObject") or {}).get("namespace")
        if namespace != call.namespace:
            what = f'involvedObject.namespace: Invalid value: "{namespace}": does not match event.namespace'
            raise ApiError(422, "Invalid", what)
    if call.verb == "create" and not call.subresource and metadata.get("resourceVersion"):
        raise ApiError(500, "", "resourceVersion should not be set on objects to be created")
