"""Which scripts of a page may run: those that its templates hold, and nothing else.

Templates escape what comes from a request, so every ``<script>`` in a rendered page was
written by the operator or by us. Each gets a nonce, and the Content-Security-Policy names
it; an inline event handler, or a script that a log line smuggles in, has none.

Source: https://www.w3.org/TR/CSP3/#strict-dynamic-usage
"""

from __future__ import annotations

import secrets
from html.parser import HTMLParser
from itertools import accumulate


class _ScriptTags(HTMLParser):
    """Finds where `<script` begins: not in comments, attributes, or the text of other scripts."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=False)
        # getpos() counts lines by \n
        self._line_starts = [0, *accumulate(len(line) + 1 for line in html.split("\n"))]
        self.positions: list[int] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            line, column = self.getpos()
            self.positions.append(self._line_starts[line - 1] + column)


def add_nonces(html: str, nonce: str) -> str:
    """Return `html` with the nonce on each of its scripts.

    It becomes the first attribute: of two with the same name, the first counts.
    """
    parts: list[str] = []
    end = 0
    for position in _ScriptTags(html).positions:
        after_name = position + len("<script")
        parts += [html[end:after_name], f' nonce="{nonce}"']
        end = after_name
    return "".join([*parts, html[end:]])


def new_nonce() -> str:
    """Return a nonce that nobody can guess, for one answer."""
    return secrets.token_urlsafe(18)


def content_security_policy(nonce: str) -> str:
    """Return the policy of a page whose scripts have this nonce.

    `strict-dynamic`: a script of the operator may load others (that is what analytics
    snippets do). Images, styles and connections are not restricted, for the same reason;
    who may embed the page is the operator's decision, as before.
    """
    return "; ".join(
        [
            f"script-src 'nonce-{nonce}' 'strict-dynamic'",
            "script-src-attr 'none'",
            "object-src 'none'",
            "base-uri 'self'",
        ]
    )
