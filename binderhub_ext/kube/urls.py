"""Addresses of servers. No I/O."""

from __future__ import annotations

from urllib.parse import urlparse

_PORTS = {"http": 80, "https": 443}


def address(url: str) -> tuple[str, int]:
    """Return host and port of a URL, the scheme's port where it names none."""
    parsed = urlparse(url)
    return parsed.hostname or "", parsed.port or _PORTS.get(parsed.scheme, 0)


def changed_address(known: str, new: str) -> tuple[str, int] | None:
    """Return None when both URLs have the same host and port, else those of `new`."""
    return None if address(known) == address(new) else address(new)
