"""What a Kubernetes API server keeps: objects, one monotonic resource version, a history of changes.

No I/O. Semantics follow https://kubernetes.io/docs/reference/using-api/api-concepts/ : lists and watches
are views of one history, the past can be compacted away, and deletion may be graceful.
"""

from __future__ import annotations

import bisect
import copy
import datetime
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .kube_selectors import Selector

Key = tuple[str, str]  # namespace ("" for cluster-scoped objects), name

KINDS = {
    "pods": "Pod", "events": "Event", "leases": "Lease", "namespaces": "Namespace", "nodes": "Node",
    "services": "Service", "secrets": "Secret", "configmaps": "ConfigMap", "endpoints": "Endpoints",
    "persistentvolumeclaims": "PersistentVolumeClaim", "ingresses": "Ingress", "deployments": "Deployment",
}  # fmt: skip


@dataclass(frozen=True)
class Resource:
    """A kind of object: ``Resource("coordination.k8s.io", "v1", "leases")``."""

    group: str
    version: str
    plural: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def kind(self) -> str:
        return KINDS.get(self.plural, self.plural.rstrip("s").capitalize())


PODS = Resource("", "v1", "pods")
EVENTS = Resource("", "v1", "events")
LEASES = Resource("coordination.k8s.io", "v1", "leases")


@dataclass
class ApiError(Exception):
    """An answer that is a `Status` of status `Failure`."""

    code: int
    reason: str
    message: str
    details: dict[str, Any] = field(default_factory=dict)

    def status(self) -> dict[str, Any]:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        }


def gone(message: str) -> ApiError:
    return ApiError(410, "Expired", message)


def too_large(asked: int, current: int) -> ApiError:
    causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    message = f"Too large resource version: {asked}, current: {current}"
    return ApiError(504, "Timeout", message, {"causes": causes, "retryAfterSeconds": 1})


def not_found(resource: Resource, name: str) -> ApiError:
    details = {"name": name, "group": resource.group, "kind": resource.plural}
    return ApiError(404, "NotFound", f'{resource.plural} "{name}" not found', details)


@dataclass(frozen=True)
class Stored:
    """One version of one object; `object` is never changed after it was stored."""

    rv: int
    object: dict[str, Any]
    data: bytes
    """The object as JSON, without `kind` and `apiVersion`, as it stands in a list."""


@dataclass(frozen=True)
class Change:
    rv: int
    resource: Resource
    key: Key
    before: Stored | None
    after: Stored | None
    """None: deleted; what a watch shows of a deletion is `last`."""
    last: Stored


def now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Store:
    """Objects and their history.

    `listeners` are called after every change, and must not block.
    """

    def __init__(self, first_rv: int = 1000) -> None:
        self.rv = first_rv
        self.compacted = first_rv
        self.history: list[Change] = []
        self.listeners: set[Callable[[], None]] = set()
        self._objects: dict[Resource, dict[Key, Stored]] = {}

    # reading

    def get(self, resource: Resource, key: Key) -> dict[str, Any]:
        """Return the object as it is now, not to be changed; `ApiError` 404 when there is none."""
        try:
            return self._objects[resource][key].object
        except KeyError:
            raise not_found(resource, key[1]) from None

    def state(self, resource: Resource, at: int | None = None) -> dict[Key, Stored]:
        """Return all objects as they were at a resource version (None: now), sorted as etcd sorts them."""
        objects = dict(self._objects.get(resource, {}))
        if at is not None and at < self.rv:
            if at < self.compacted:
                raise gone(f"The provided resource version is too old: {at} ({self.compacted})")
            for change in reversed(self.history[self._index(at) :]):
                if change.resource == resource:
                    if change.before is None:
                        objects.pop(change.key, None)
                    else:
                        objects[change.key] = change.before
        return dict(sorted(objects.items()))

    def select(
        self, resource: Resource, namespace: str | None, selector: Selector, at: int | None = None
    ) -> list[tuple[Key, Stored]]:
        return [
            (key, stored)
            for key, stored in self.state(resource, at).items()
            if (namespace is None or key[0] == namespace) and selector.matches(stored.object)
        ]

    def changes(self, after: int, up_to: int) -> list[Change]:
        """Return the changes with ``after < rv <= up_to``; 410 when some of them were compacted away."""
        if after < self.compacted:
            raise gone(f"too old resource version: {after} ({self.compacted})")
        return self.history[self._index(after) : self._index(up_to)]

    def _index(self, rv: int) -> int:
        return bisect.bisect_right(self.history, rv, key=lambda change: change.rv)

    def compact(self) -> None:
        """Forget the history: a watch or a page that starts before now is answered 410."""
        self.history.clear()
        self.compacted = self.rv

    # writing

    def create(self, resource: Resource, namespace: str, obj: dict[str, Any]) -> dict[str, Any]:
        obj = copy.deepcopy(obj)
        metadata = obj.setdefault("metadata", {})
        if not metadata.get("name"):
            if not metadata.get("generateName"):
                raise ApiError(
                    422, "Invalid", "metadata.name: Required value: name or generateName is required"
                )
            # as the API server does: one that is taken is not used
            while not metadata.get("name") or (namespace, metadata["name"]) in self._objects.get(
                resource, {}
            ):
                metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
        key = (namespace, metadata["name"])
        if key in self._objects.get(resource, {}):
            details = {"name": key[1], "group": resource.group, "kind": resource.plural}
            raise ApiError(409, "AlreadyExists", f'{resource.plural} "{key[1]}" already exists', details)
        if namespace:
            metadata["namespace"] = namespace
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = now()
        return self._write(resource, key, obj)

    def update(self, resource: Resource, key: Key, obj: dict[str, Any]) -> dict[str, Any]:
        """Replace an object; a `resourceVersion` in it must be the present one (optimistic concurrency).

        A Lease is replaced only by who says which version, and one that is not there is created.
        Source: kubernetes `pkg/registry/coordination/lease/strategy.go`, `AllowUnconditionalUpdate` and
        `AllowCreateOnUpdate`.
        """
        obj = copy.deepcopy(obj)
        metadata = obj.setdefault("metadata", {})
        if resource == LEASES and key not in self._objects.get(resource, {}):
            if metadata.get("uid"):
                raise ApiError(409, "Conflict", "Precondition failed: UID in object meta: ")
            metadata.pop("resourceVersion", None)
            return self.create(resource, key[0], obj)
        current = self.get(resource, key)
        if resource == LEASES and not metadata.get("resourceVersion"):
            raise ApiError(422, "Invalid", "metadata.resourceVersion: must be specified for an update")
        for name in ("resourceVersion", "uid"):
            if metadata.get(name) and metadata[name] != current["metadata"][name]:
                what = f'Operation cannot be fulfilled on {resource.plural} "{key[1]}"'
                raise ApiError(
                    409, "Conflict", f"{what}: the object has been modified; please apply your changes again"
                )
        for name in (
            "uid",
            "creationTimestamp",
            "namespace",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        ):
            if name in current["metadata"]:
                metadata[name] = current["metadata"][name]
        metadata["name"] = key[1]
        metadata["resourceVersion"] = current["metadata"]["resourceVersion"]
        if obj == current:  # a no-op update is no change
            return current
        return self._write(resource, key, obj)

    def merge(self, resource: Resource, key: Key, patch: dict[str, Any]) -> dict[str, Any]:
        """Apply a JSON merge patch (RFC 7386)."""
        return self.update(resource, key, merge_patch(self.get(resource, key), patch))

    def delete(
        self,
        resource: Resource,
        key: Key,
        *,
        grace: int | None = None,
        preconditions: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Delete an object, or mark a scheduled pod as terminating when it is granted a grace period.

        Whoever plays the kubelet ends a terminating pod with ``grace=0``.
        """
        current = self.get(resource, key)
        for name, wanted in (preconditions or {}).items():
            if wanted and current["metadata"].get(name) != wanted:
                message = f"the {name} in the precondition ({wanted}) does not match"
                raise ApiError(
                    409, "Conflict", f"Operation cannot be fulfilled: Precondition failed: {message}"
                )
        if resource == PODS:
            if grace is None:
                grace = current.get("spec", {}).get("terminationGracePeriodSeconds", 30)
            if grace > 0 and current.get("spec", {}).get("nodeName"):
                if "deletionTimestamp" in current["metadata"]:
                    return current
                marked = copy.deepcopy(current)
                marked["metadata"]["deletionTimestamp"] = now()
                marked["metadata"]["deletionGracePeriodSeconds"] = grace
                return self._write(resource, key, marked)
        before = self._objects[resource].pop(key)
        self.rv += 1
        last = self._freeze(current, self.rv)
        self._record(Change(self.rv, resource, key, before, None, last))
        return last.object

    def _write(self, resource: Resource, key: Key, obj: dict[str, Any]) -> dict[str, Any]:
        self.rv += 1
        objects = self._objects.setdefault(resource, {})
        before, after = objects.get(key), self._freeze(obj, self.rv)
        objects[key] = after
        self._record(Change(self.rv, resource, key, before, after, after))
        return after.object

    def _freeze(self, obj: dict[str, Any], rv: int) -> Stored:
        bare = {k: v for k, v in obj.items() if k not in ("kind", "apiVersion")}
        bare["metadata"] = {**bare["metadata"], "resourceVersion": str(rv)}
        return Stored(rv, bare, json.dumps(bare, separators=(",", ":")).encode())

    def _record(self, change: Change) -> None:
        self.history.append(change)
        for listener in list(self.listeners):
            listener()


def merge_patch(target: Any, patch: Any) -> Any:
    """Return `target` with a JSON merge patch applied: None removes a key, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result
