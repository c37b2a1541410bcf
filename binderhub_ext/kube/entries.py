"""Objects as a cache keeps them: as text, parsed when somebody looks.

5,000 pods as dictionaries are more than a million objects for Python's garbage collector to walk:
each full collection then holds the event loop for more than 100 ms. Text costs it nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]


def slim(obj: Object) -> Object:
    """Drop what nobody here reads and is a large part of an object: `metadata.managedFields`."""
    obj["metadata"].pop("managedFields", None)
    return obj


def key_of(obj: Object) -> str:
    """Return ``namespace/name``, KubeSpawner's key of an object."""
    metadata = obj["metadata"]
    return f"{metadata.get('namespace', '')}/{metadata['name']}"


@dataclass(frozen=True)
class Entry:
    """One version of one object.

    Attributes
    ----------
    content : dict or str
        The object, or its JSON.
    """

    __slots__ = ("content", "key", "uid", "version")
    key: str
    uid: str | None
    version: str | None
    content: Object | str

    @classmethod
    def of(cls, obj: Object, *, packed: bool, text: str | None = None) -> Entry:
        """Return the entry of an object.

        Parameters
        ----------
        packed : bool
            Whether to keep JSON instead of the object.
        text : str, optional
            The object's JSON, where it is at hand.

        Raises
        ------
        KeyError, TypeError
            When this is no object of the Kubernetes API.
        """
        metadata = obj["metadata"]
        content = (json.dumps(slim(obj)) if text is None else text) if packed else slim(obj)
        return cls(key_of(obj), metadata.get("uid"), metadata.get("resourceVersion"), content)

    def object(self) -> Object:
        """Return the object; when packed a new one each time."""
        return slim(json.loads(self.content)) if isinstance(self.content, str) else self.content


class Objects(Mapping[str, Object]):
    """The objects of a cache by ``namespace/name``, read-only; only what is looked at is parsed."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = entries

    def __getitem__(self, key: str) -> Object:
        return self._entries[key].object()

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
