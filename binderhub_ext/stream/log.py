"""An append-only log of encoded events, bounded in bytes, that wakes its listeners."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice

from binderhub_ext.sse import encode_data


class EventLog:
    """Frames (the bytes of one event, without its `id:` line) in the order of their indices.

    Parameters
    ----------
    max_bytes : int
        When the frames grow past this, the oldest are dropped; indices stay what they
        were. 0: no bound.
    """

    __slots__ = ("_dropped", "_frames", "_max_bytes", "_size", "listeners")

    def __init__(self, max_bytes: int = 0) -> None:
        self._frames: deque[bytes] = deque()
        self._dropped = 0
        self._size = 0
        self._max_bytes = max_bytes
        self.listeners: set[Callable[[], None]] = set()
        """Called, without arguments, after each append; must not block or raise."""

    def __len__(self) -> int:
        """How many frames were ever appended: the index of the next one."""
        return self._dropped + len(self._frames)

    @property
    def dropped(self) -> int:
        """How many of the oldest frames are gone."""
        return self._dropped

    @property
    def size(self) -> int:
        """Bytes of the frames that are kept."""
        return self._size

    def append(self, frame: bytes) -> None:
        """Add a frame, drop the oldest ones past the bound, and wake the listeners."""
        self._frames.append(frame)
        self._size += len(frame)
        while self._max_bytes and self._size > self._max_bytes and len(self._frames) > 1:
            self._size -= len(self._frames.popleft())
            self._dropped += 1
        for listener in tuple(self.listeners):
            listener()

    def since(self, index: int, stop: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Yield `(index, frame)` from `index` up to `stop`, exclusive.

        When frames were dropped, the first is a note that says how many, under the index
        of the last of them.
        """
        stop = len(self) if stop is None else min(stop, len(self))
        if index < self._dropped and index < stop:
            last = min(self._dropped, stop) - 1
            lines = "1 line was" if last == index else f"{last - index + 1} lines were"
            yield last, encode_data({"phase": "unknown", "message": f"... {lines} left out here ...\n"})
            index = last + 1
        if index >= stop:
            return
        first = index - self._dropped
        if first == len(self._frames) - 1:
            yield index, self._frames[-1]
        else:
            for frame in islice(self._frames, first, stop - self._dropped):
                yield index, frame
                index += 1
