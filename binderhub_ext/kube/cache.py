"""What is known of one kind of resource: folds lists, watch events and direct reads. No I/O.

Every version of every object has a resource version, and newer ones are greater: numbers of one
counter. Each fold compares them, so whatever arrives late, twice or from a replica that lags
changes nothing, and an object never goes back in time.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions ; the
comparison of versions is that of `ResourceVersion` in KEP-5504.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Object = dict[str, Any]


def version_number(text: Any) -> int | None:
    """Return a resource version as a number; None when it is not one that can be compared."""
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() else None


def key_of(obj: Object) -> str:
    """Return ``namespace/name``, KubeSpawner's key of an object."""
    metadata = obj["metadata"]
    return f"{metadata.get('namespace', '')}/{metadata['name']}"


def _older_or_same(one: Object, other: Object) -> bool:
    """Whether `one` is known to be no newer than `other`."""
    a, b = version_number(_version(one)), version_number(_version(other))
    if a is None or b is None:
        return _version(one) == _version(other)
    return a <= b


def _version(obj: Object) -> Any:
    return obj["metadata"].get("resourceVersion")


def slim(obj: Object) -> Object:
    """Drop what nobody here reads and is a large part of an object: `metadata.managedFields`."""
    obj["metadata"].pop("managedFields", None)
    return obj


class Cache:
    """The objects, and the resource version up to which every change is known.

    Parameters
    ----------
    on_change : callable
        Called with the key of every object that changed, after the change. Must not raise.

    Attributes
    ----------
    objects : dict
        By ``namespace/name``. A list replaces the dict as a whole.
    version : str
        Where a watch goes on; empty before the first list.
    """

    def __init__(self, on_change: Callable[[str], None] = lambda key: None) -> None:
        self.objects: dict[str, Object] = {}
        self.version = ""
        self._on_change = on_change
        self._gone: set[str | None] = set()  # uids of objects that a direct read found to be gone
        self._read: set[str] = set()  # keys of objects that came from a direct read

    def fold_list(self, items: Iterable[Object], version: str) -> None:
        """Take a complete list.

        What a direct read found and the list, which is older, does not know yet stays: the watch
        that follows tells the rest.
        """
        listed = {key_of(obj): obj for obj in items}
        uids = {obj["metadata"].get("uid") for obj in listed.values()}
        self._gone &= uids  # the others are gone in this list, too
        listed = {key: obj for key, obj in listed.items() if obj["metadata"].get("uid") not in self._gone}
        number = version_number(version)
        for key in list(self._read):
            known = version_number(_version(self.objects[key]))
            if known is not None and number is not None and known > number:
                listed[key] = self.objects[key]
            else:
                self._read.discard(key)
        changed = [
            key
            for key in self.objects.keys() | listed.keys()
            if key not in listed
            or key not in self.objects
            or _version(self.objects[key]) != _version(listed[key])
        ]
        self.objects, self.version = listed, version
        for key in changed:
            self._on_change(key)

    def fold_event(self, event: Object) -> None:
        """Take an event of a watch: ADDED, MODIFIED, DELETED or BOOKMARK.

        Raises
        ------
        KeyError, TypeError
            When the event is not one of the Kubernetes API. Nothing was changed.
        """
        kind, obj = event["type"], event["object"]
        version = _version(obj)
        if kind in ("ADDED", "MODIFIED"):
            self._put(obj)
        elif kind == "DELETED":
            self._drop(obj)
        elif kind != "BOOKMARK":
            raise KeyError(f"unknown watch event {kind!r}")
        old, new = version_number(self.version), version_number(version)
        if old is None or new is None or new > old:
            self.version = version

    def fold_read(self, obj: Object) -> None:
        """Take one object that was read directly, with a quorum read."""
        if self._put(obj):
            self._read.add(key_of(obj))

    def fold_missing(self, key: str) -> None:
        """Take it that a quorum read found no such object.

        The watch may still deliver older versions of it; its uid is remembered until a watch or a
        list says that the object is gone, so that it cannot come back meanwhile.
        """
        known = self.objects.pop(key, None)
        self._read.discard(key)
        if known is not None:
            self._gone.add(known["metadata"].get("uid"))
            self._on_change(key)

    def _put(self, obj: Object) -> bool:
        key = key_of(obj)
        known = self.objects.get(key)
        if obj["metadata"].get("uid") in self._gone or (known is not None and _older_or_same(obj, known)):
            return False
        self.objects[key] = slim(obj)
        self._read.discard(key)
        self._on_change(key)
        return True

    def _drop(self, obj: Object) -> None:
        key, uid = key_of(obj), obj["metadata"].get("uid")
        self._gone.discard(uid)
        known = self.objects.get(key)
        if known is None or (known["metadata"].get("uid") != uid and _older_or_same(obj, known)):
            return  # nothing, or a newer object of the same name
        del self.objects[key]
        self._read.discard(key)
        self._on_change(key)
