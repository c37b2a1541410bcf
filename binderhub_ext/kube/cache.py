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

from .entries import Entry, Object, Objects


def version_number(text: Any) -> int | None:
    """Return a resource version as a number; None when it is not one that can be compared."""
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() else None


def _older_or_same(one: Entry, other: Entry) -> bool:
    """Whether `one` is known to be no newer than `other`."""
    a, b = version_number(one.version), version_number(other.version)
    return one.version == other.version if a is None or b is None else a <= b


class Cache:
    """The objects, and the resource version up to which every change is known.

    Parameters
    ----------
    on_change : callable
        Called with the key of every object that changed, after the change. Must not raise.
    packed : bool
        Whether objects are kept as JSON: for kinds whose objects are many and large.

    Attributes
    ----------
    entries : dict
        By ``namespace/name``. A list replaces the dict as a whole.
    version : str
        Where a watch goes on; empty before the first list.
    """

    def __init__(self, on_change: Callable[[str], None] = lambda key: None, *, packed: bool = False) -> None:
        self.entries: dict[str, Entry] = {}
        self.version = ""
        self.packed = packed
        self._on_change = on_change
        self._gone: set[str | None] = set()  # uids of objects that a direct read found to be gone
        self._read: set[str] = set()  # keys of objects that came from a direct read

    @property
    def objects(self) -> Objects:
        """The objects; a list replaces them, so do not keep it."""
        return Objects(self.entries)

    def fold_list(self, items: Iterable[Entry], version: str) -> None:
        """Take a complete list.

        What a direct read found and the list, which is older, does not know yet stays: the watch
        that follows tells the rest.
        """
        listed = {entry.key: entry for entry in items}
        self._gone &= {entry.uid for entry in listed.values()}  # the others are gone in this list, too
        listed = {key: entry for key, entry in listed.items() if entry.uid not in self._gone}
        number = version_number(version)
        for key in list(self._read):
            known = version_number(self.entries[key].version)
            if known is not None and number is not None and known > number:
                listed[key] = self.entries[key]
            else:
                self._read.discard(key)
        old, self.entries, self.version = self.entries, listed, version
        for key in old.keys() | listed.keys():
            if key not in listed or key not in old or old[key].version != listed[key].version:
                self._on_change(key)

    def fold_event(self, event: Object) -> None:
        """Take an event of a watch: ADDED, MODIFIED, DELETED or BOOKMARK.

        Raises
        ------
        KeyError, TypeError
            When the event is not one of the Kubernetes API. Nothing was changed.
        """
        kind, obj = event["type"], event["object"]
        version = obj["metadata"].get("resourceVersion")
        if kind in ("ADDED", "MODIFIED"):
            self._put(Entry.of(obj, packed=self.packed))
        elif kind == "DELETED":
            self._drop(Entry.of(obj, packed=False))
        elif kind != "BOOKMARK":
            raise KeyError(f"unknown watch event {kind!r}")
        old, new = version_number(self.version), version_number(version)
        if old is None or new is None or new > old:
            self.version = version

    def fold_read(self, obj: Object) -> None:
        """Take one object that was read directly, with a quorum read."""
        entry = Entry.of(obj, packed=self.packed)
        if self._put(entry):
            self._read.add(entry.key)

    def fold_missing(self, key: str) -> None:
        """Take it that a quorum read found no such object.

        The watch may still deliver older versions of it; its uid is remembered until a watch or a
        list says that the object is gone, so that it cannot come back meanwhile.
        """
        known = self.entries.pop(key, None)
        self._read.discard(key)
        if known is not None:
            self._gone.add(known.uid)
            self._on_change(key)

    def _put(self, entry: Entry) -> bool:
        known = self.entries.get(entry.key)
        if entry.uid in self._gone or (known is not None and _older_or_same(entry, known)):
            return False
        self.entries[entry.key] = entry
        self._read.discard(entry.key)
        self._on_change(entry.key)
        return True

    def _drop(self, entry: Entry) -> None:
        self._gone.discard(entry.uid)
        known = self.entries.get(entry.key)
        if known is None or (known.uid != entry.uid and _older_or_same(entry, known)):
            return  # nothing, or a newer object of the same name
        del self.entries[entry.key]
        self._read.discard(entry.key)
        self._on_change(entry.key)
