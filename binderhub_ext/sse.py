"""Server-Sent Events as text: encoding and decoding, no I/O.

A foundation, because the service writes such streams (`stream/`, `web/`) and reads the
Hub's (`hub/`), and the watchdog reads the service's.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

KEEPALIVE = b":keepalive\n\n"
"""A comment: readers ignore it, proxies see that the connection lives. As BinderHub writes it."""

KEEPALIVE_EVENT = b"event: keepalive\ndata: {}\n\n"
"""The same for scripts, which do not see comments: only for readers that ask for it, as others may take any event."""


def encode_data(payload: Mapping[str, Any] | str) -> bytes:
    """Return the `data:` line of one event and the blank line that ends it.

    Parameters
    ----------
    payload : mapping or str
        A mapping is written as `json.dumps` does by default (clients grep for
        ``"phase": "ready"``); a str must be JSON on one line already.
    """
    text = payload if isinstance(payload, str) else json.dumps(payload)
    return b"data: " + text.encode("utf-8", "replace") + b"\n\n"


def encode_retry(milliseconds: int) -> bytes:
    """Return the line that tells an EventSource how long to wait before it reconnects."""
    return b"retry: %d\n\n" % milliseconds


@dataclass(frozen=True)
class ServerSentEvent:
    """One event as a reader sees it."""

    data: str
    event: str = "message"
    id: str = ""
    retry: int | None = None

    def json(self) -> Any:
        """Parse `data`. Raises `ValueError` when it is no JSON."""
        return json.loads(self.data)


class EventTooLarge(ValueError):
    """A line or an event is longer than the decoder accepts."""


def _end_of_line(text: str, start: int) -> tuple[int, int]:
    """Return where the line that begins at `start` ends and the next begins; (-1, -1) when it has no end yet.

    [spec] Lines end with CRLF, LF or CR; a CR at the very end may be half of a CRLF.
    """
    newline = text.find("\n", start)
    carriage = text.find("\r", start, newline if newline >= 0 else len(text))
    if carriage < 0:
        return (newline, newline + 1) if newline >= 0 else (-1, -1)
    if carriage + 1 == len(text):
        return -1, -1
    return carriage, carriage + (2 if text[carriage + 1] == "\n" else 1)


@dataclass
class Decoder:
    """Turns chunks of bytes, cut anywhere, into events.

    Parameters
    ----------
    max_event_bytes : int
        An event that grows past this raises `EventTooLarge`: a server that sends
        without end must not fill our memory.
    """

    max_event_bytes: int = 1 << 20
    last_event_id: str = ""
    _utf8: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8-sig")("replace"), repr=False
    )
    _buffer: str = field(default="", repr=False)
    _data: list[str] = field(default_factory=list, repr=False)
    _size: int = field(default=0, repr=False)
    _event: str = field(default="", repr=False)
    _retry: int | None = field(default=None, repr=False)

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """Yield each event that `chunk` completes."""
        text = self._buffer + self._utf8.decode(chunk)
        start = 0
        while True:
            end, after = _end_of_line(text, start)
            if end < 0:
                break
            event = self._take_line(text[start:end])
            start = after
            if event is not None:
                yield event
        self._buffer = text[start:]
        if len(self._buffer) + self._size > self.max_event_bytes:
            raise EventTooLarge(f"an event is longer than {self.max_event_bytes} bytes")

    def _take_line(self, line: str) -> ServerSentEvent | None:
        if not line:
            return self._dispatch()
        if line.startswith(":"):
            return None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._size += len(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self.last_event_id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self._retry = int(value)
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        # [spec] an event without data is not dispatched, but its type is forgotten
        data, event, retry = self._data, self._event, self._retry
        self._data, self._event, self._retry, self._size = [], "", None, 0
        if not data:
            return None
        return ServerSentEvent("\n".join(data), event or "message", self.last_event_id, retry)
