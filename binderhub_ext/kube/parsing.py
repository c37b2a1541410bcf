"""JSON of lists and watches, parsed in slices so that the event loop is never held for long.

`json.loads` of a list of 5,000 pods holds the interpreter, and with it the Hub, for the better
part of a second, in whichever thread it runs. Here a list is taken apart item by item.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from binderhub_ext.timing import SYSTEM_CLOCK, Clock

from .entries import Entry, Object, slim

_ITEMS = re.compile(r'"items"\s*:\s*(\[|null)')
_BETWEEN = re.compile(r"[\s,]*")
_DECODER = json.JSONDecoder()


class Slicer:
    """Lets the event loop run between pieces of work.

    Parameters
    ----------
    slice_seconds : float
        Work goes on for at most this long, plus one piece, before others are let in.

    Attributes
    ----------
    busy : float
        Seconds of work so far.
    longest : float
        Seconds of the longest stretch without letting others in.
    """

    def __init__(self, slice_seconds: float = 0.004, clock: Clock = SYSTEM_CLOCK) -> None:
        self._limit, self._clock = slice_seconds, clock
        self.busy = 0.0
        self.longest = 0.0
        self._since = clock.monotonic()

    def begin(self) -> None:
        """Work begins after a wait."""
        self._since = self._clock.monotonic()

    def end(self) -> None:
        """Work ends before a wait."""
        spent = self._clock.monotonic() - self._since
        self.busy += spent
        self.longest = max(self.longest, spent)
        self._since = self._clock.monotonic()

    async def breathe(self) -> None:
        """Between two pieces of work."""
        if self._clock.monotonic() - self._since >= self._limit:
            self.end()
            await asyncio.sleep(0)
            self.begin()


async def parse_list(
    body: bytes, slicer: Slicer, *, packed: bool = False
) -> tuple[list[Entry], dict[str, Any]]:
    """Return the items and the metadata of a list.

    Parameters
    ----------
    body : bytes
        The answer to a list request; any order of the keys.
    packed : bool
        Whether the objects are kept as JSON.

    Raises
    ------
    ValueError
        When it is no list of the Kubernetes API.
    """
    slicer.begin()
    text = body.decode()
    found = _ITEMS.search(text)
    if not found:
        raise ValueError(f"not a list: {text[:80]!r}")
    items: list[Entry] = []
    position = found.end()
    if found[1] == "[":
        while text[(position := _BETWEEN.match(text, position).end()) : position + 1] != "]":  # type: ignore[union-attr]
            item, end = _DECODER.raw_decode(text, position)
            try:
                items.append(Entry.of(item, packed=packed, text=text[position:end] if packed else None))
            except (KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"not an object: {text[position : position + 80]!r}") from error
            position = end
            await slicer.breathe()
        position += 1
    rest = json.loads(text[: found.start()] + '"items":null' + text[position:])
    metadata = rest.get("metadata") if isinstance(rest, dict) else None
    if not isinstance(metadata, dict) or not isinstance(metadata.get("resourceVersion"), str):
        raise ValueError(f"a list without a resource version: {text[:80]!r}")
    slicer.end()
    return items, metadata


class Lines:
    """Splits a stream of bytes into lines of any length."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes, without empty ones."""
        head, newline, _ = data.partition(b"\n")
        if not newline:
            self._rest.append(data)
            return []
        lines = (b"".join(self._rest) + data).split(b"\n")
        self._rest = [lines.pop()]
        return [line for line in lines if line.strip()]


def parse_object(body: bytes) -> Object:
    """Return one object.

    Raises
    ------
    ValueError
        When it is none of the Kubernetes API.
    """
    found = json.loads(body)
    if not isinstance(found, dict) or not isinstance(found.get("metadata"), dict):
        raise ValueError(f"not an object: {body[:80]!r}")
    return slim(found)
