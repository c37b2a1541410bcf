"""Label and field selectors of the Kubernetes API.

https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors and field-selectors.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Match = Callable[[dict[str, Any]], bool]

# what a real server accepts; other kinds know metadata.name and metadata.namespace
FIELDS = {
    "pods": {"spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName",
             "status.phase", "status.podIP", "status.nominatedNodeName", "spec.hostNetwork"},
    "events": {"involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
               "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath",
               "reason", "reportingComponent", "source", "type"},
}  # fmt: skip

_SET = re.compile(r"^(\S+)\s+(in|notin)\s+\(([^)]*)\)$")
_EQUAL = re.compile(r"^([^!=\s]+)\s*(!=|==|=)\s*(.*)$")


class BadSelector(ValueError):
    """The selector cannot be read; a server answers 400."""


class Selector:
    """All conditions of one request's `labelSelector` and `fieldSelector`."""

    def __init__(self, plural: str, labels: str = "", fields: str = "") -> None:
        self._tests: list[Match] = [_label(part) for part in _split(labels)]
        self._tests += [_field(plural, part) for part in _split(fields)]

    @property
    def empty(self) -> bool:
        return not self._tests

    def matches(self, obj: dict[str, Any]) -> bool:
        return all(test(obj) for test in self._tests)


def _split(text: str) -> list[str]:
    """Split at commas that stand in no parentheses."""
    return [part.strip() for part in re.split(r",(?![^(]*\))", text or "") if part.strip()]


def _label(part: str) -> Match:
    def labels(obj: dict[str, Any]) -> dict[str, str]:
        return obj["metadata"].get("labels") or {}

    if found := _SET.match(part):
        name, operator, values = found[1], found[2], {value.strip() for value in found[3].split(",")}
        if operator == "in":
            return lambda obj: labels(obj).get(name) in values
        return lambda obj: labels(obj).get(name) not in values
    if found := _EQUAL.match(part):
        name, operator, value = found.groups()
        if operator == "!=":
            return lambda obj: labels(obj).get(name) != value
        return lambda obj: labels(obj).get(name) == value
    if re.match(r"^![^\s!=]+$", part):
        return lambda obj: part[1:] not in labels(obj)
    if re.match(r"^[^\s!=]+$", part):
        return lambda obj: part in labels(obj)
    raise BadSelector(f"unable to parse requirement: {part}")


def _field(plural: str, part: str) -> Match:
    found = _EQUAL.match(part)
    if not found:
        raise BadSelector(f"invalid selector: '{part}'; can't understand '{part}'")
    path, operator, value = found.groups()
    if path not in {"metadata.name", "metadata.namespace", *FIELDS.get(plural, ())}:
        raise BadSelector(f"field label not supported: {path}")

    def at_path(obj: dict[str, Any]) -> str:
        here: Any = obj
        for name in path.split("."):
            here = here.get(name) if isinstance(here, dict) else None
        return "" if here is None else str(here)

    if operator == "!=":
        return lambda obj: at_path(obj) != value
    return lambda obj: at_path(obj) == value
