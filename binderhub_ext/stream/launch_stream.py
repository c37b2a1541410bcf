"""What one launch says, numbered: its own events, with the logs of shared builds spliced in.

A build's log is held once, however many launches show it: a launch's stream refers to it,
and its watchers are woken by it directly, so a line costs the launches nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from binderhub_ext.stream.log import EventLog


@dataclass
class _Part:
    """A stretch of a stream: `log[:length]`, numbered from `first` on."""

    log: EventLog
    first: int
    length: int | None = None

    def __len__(self) -> int:
        return len(self.log) if self.length is None else self.length


class LaunchStream:
    """The events of one launch, each with a sequence number: 1, 2, 3, ...

    Parameters
    ----------
    prefix : str
        What each event's id begins with. An id is ``<prefix>.<number>``; the last one is
        ``<prefix>.<number>.end``, so that whoever sees it come back knows that everything
        was delivered, without remembering anything.
    first : int
        The first number. More than 1 when a launch goes on that another process began.
    """

    __slots__ = ("_id", "_parts", "_watchers", "finished", "left", "prefix")

    def __init__(self, prefix: str, first: int = 1) -> None:
        self.prefix = prefix
        self.finished = False
        self.left = 0
        """How many watchers have left."""
        self._id = b"id: " + prefix.encode("ascii") + b"."
        self._parts = [_Part(EventLog(), first)]
        self._watchers: set[Watcher] = set()

    @property
    def next_number(self) -> int:
        """The number of the next event."""
        return self._parts[-1].first + len(self._parts[-1])

    @property
    def watchers(self) -> int:
        """How many are watching now."""
        return len(self._watchers)

    def append(self, frame: bytes) -> None:
        """Say something. Ends the splice of a shared log, if one is open."""
        if self.finished:
            raise RuntimeError("the stream has ended")
        part = self._parts[-1]
        if part.length is None and part.log is not self._own:
            self.end_splice()
        self._parts[-1].log.append(frame)

    def finish(self, frame: bytes) -> None:
        """Say the last thing."""
        if self._parts[-1].log is not self._own:
            self.end_splice()
        self.finished = True
        self._parts[-1].log.append(frame)

    @property
    def _own(self) -> EventLog:
        # parts alternate: own, shared, own, ...
        return self._parts[(len(self._parts) - 1) // 2 * 2].log

    def splice(self, log: EventLog) -> None:
        """From here on show `log`, from its start and as it grows, until `end_splice`."""
        part = self._parts[-1]
        if part.log is not self._own:
            self.end_splice()
            part = self._parts[-1]
        part.length = len(part.log)
        self._go_on_with(log)

    def end_splice(self) -> None:
        """Stop showing the spliced log where it is now."""
        part = self._parts[-1]
        if part.log is self._own:
            return
        part.length = len(part.log)
        self._go_on_with(EventLog())

    def _go_on_with(self, log: EventLog) -> None:
        old = self._parts[-1]
        self._parts.append(_Part(log, old.first + len(old)))
        for watcher in self._watchers:
            old.log.listeners.discard(watcher.wake)
            log.listeners.add(watcher.wake)
            watcher.wake()

    def watch(self, after: int = 0) -> Watcher:
        """Return a watcher that gets everything after the event of this number. Close it at the end."""
        watcher = Watcher(self, after)
        self._watchers.add(watcher)
        self._parts[-1].log.listeners.add(watcher.wake)
        return watcher

    def _forget(self, watcher: Watcher) -> None:
        if watcher in self._watchers:
            self._watchers.discard(watcher)
            self.left += 1
        self._parts[-1].log.listeners.discard(watcher.wake)

    def read(self, number: int, max_bytes: int) -> tuple[bytes, int]:
        """Return the frames from `number` on, with their ids, and the number that comes next.

        Returns no bytes when there is nothing new. Stops after the frame that passes `max_bytes`.
        """
        chunks: list[bytes] = []
        size = 0
        last = self.next_number - 1 if self.finished else -1
        for part in self._parts_from(number):
            index = max(0, number - part.first)
            for at, frame in part.log.since(index, part.length):
                number = part.first + at
                mark = b".end\n" if number == last else b"\n"
                chunks.append(b"%b%d%b%b" % (self._id, number, mark, frame))
                number += 1
                size += len(frame)
                if size >= max_bytes:
                    return b"".join(chunks), number
        return b"".join(chunks), number

    def _parts_from(self, number: int) -> list[_Part]:
        last = self._parts[-1]
        if number >= last.first:
            return [last]
        return [part for part in self._parts if number < part.first + len(part)]


class Watcher:
    """One reader's position in a stream.

    A position past the end (an id from a process that had said more) waits there: what
    comes next is delivered, whatever its number, and the end always.
    """

    __slots__ = ("_stream", "_waiter", "next", "wake")

    def __init__(self, stream: LaunchStream, after: int) -> None:
        self._stream = stream
        self.next = min(max(1, after + 1), stream.next_number)
        if stream.finished and self.next == stream.next_number:
            self.next -= 1
        self._waiter: asyncio.Future[None] | None = None
        self.wake = self._wake  # one bound method, for sets

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    @property
    def at_end(self) -> bool:
        """Whether everything was read and nothing more will come."""
        return self._stream.finished and self.next >= self._stream.next_number

    def read(self, max_bytes: int = 1 << 16) -> bytes:
        """Return what is new, as bytes for the wire; empty when nothing is."""
        chunk, self.next = self._stream.read(self.next, max_bytes)
        return chunk

    async def wait(self) -> None:
        """Wait until something may be new, or `wake` is called."""
        if self.next < self._stream.next_number:
            return
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def close(self) -> None:
        """Stop watching."""
        self._stream._forget(self)
        self._wake()
