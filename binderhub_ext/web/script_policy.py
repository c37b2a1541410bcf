"""Which scripts of a page may run: those that its templates hold, and nothing else.

Templates escape what comes from a request, so every ``<script>`` and every event handler
(``onclick="..."``) in a rendered page was written by the operator or by us. Each script
gets a nonce, and the Content-Security-Policy names it, beside the hashes of the handlers.
What a log line smuggles in later has neither.

Source: https://www.w3.org/TR/CSP3/#strict-dynamic-usage and #unsafe-hashes-usage
"""

from __future__ import annotations

import hashlib
import secrets
from base64 import b64encode
from html.parser import HTMLParser
from itertools import accumulate


class _Scripts(HTMLParser):
    """Finds the handlers, and where `<script` begins: not in comments, attributes, or other scripts."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=False)
        # getpos() counts lines by \n
        self._line_starts = [0, *accumulate(len(line) + 1 for line in html.split("\n"))]
        self.positions: list[int] = []
        self.handlers: set[str] = set()
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handlers.update(value for name, value in attrs if name.startswith("on") and value)
        if tag == "script":
            line, column = self.getpos()
            self.positions.append(self._line_starts[line - 1] + column)


def policed(html: str, nonce: str) -> tuple[str, str]:
    """Return the page with the nonce on each of its scripts, and its Content-Security-Policy.

    `strict-dynamic`: a script of the operator may load others (that is what analytics
    snippets do). Images, styles and connections are not restricted, for the same reason;
    who may embed the page is the operator's decision, as before.
    """
    scripts = _Scripts(html)
    handlers = " ".join(f"'sha256-{_digest(handler)}'" for handler in sorted(scripts.handlers))
    policy = [
        f"script-src 'nonce-{nonce}' 'strict-dynamic'",
        f"script-src-attr 'unsafe-hashes' {handlers}" if handlers else "script-src-attr 'none'",
        "object-src 'none'",
        "base-uri 'self'",
    ]
    return _with_nonces(html, scripts.positions, nonce), "; ".join(policy)


def _with_nonces(html: str, positions: list[int], nonce: str) -> str:
    # it becomes the first attribute: of two with the same name, the first counts
    parts: list[str] = []
    end = 0
    for position in positions:
        after_name = position + len("<script")
        parts += [html[end:after_name], f' nonce="{nonce}"']
        end = after_name
    return "".join([*parts, html[end:]])


def _digest(handler: str) -> str:
    return b64encode(hashlib.sha256(handler.encode("utf-8", "replace")).digest()).decode()


def new_nonce() -> str:
    """Return a nonce that nobody can guess, for one answer."""
    return secrets.token_urlsafe(18)
