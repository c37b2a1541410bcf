"""Tickets: what lets a launch be found again, by this process or by another with the same secret.

A ticket is short (it is in every event's id) and holds no more than who began the launch
and when; it is signed together with the provider, the spec and the user. All else follows
from it and the secret: the name of the temporary user, the server's access token. What
the launch has come to is known by the Hub and the builder.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import struct
from dataclasses import dataclass

_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_HEAD = struct.Struct(">c9sI")
_MAC_BYTES = 12


class InvalidTicket(ValueError):
    """Not a ticket of ours, or not for this provider, spec and user."""


@dataclass(frozen=True)
class Ticket:
    """One launch, for those who hold it.

    Attributes
    ----------
    text : str
        What goes over the wire: 35 characters of base64url.
    nonce : bytes
        9 random bytes.
    issued : int
        When it was made, in seconds since 1970.
    from_page : bool
        Made for a page of this service, which stands for a build token: the launch did
        not have to pass the limits for foreign pages and programs.
    """

    text: str
    nonce: bytes
    issued: int
    from_page: bool


class TicketOffice:
    """Makes and checks tickets.

    Parameters
    ----------
    secret : bytes
        The same in all replicas and after restarts; whoever has it can make tickets and
        knows the access tokens of all launches.
    """

    def __init__(self, secret: bytes) -> None:
        if not secret:
            raise ValueError("the secret is empty")
        self._secret = hashlib.sha256(b"binderhub_ext tickets\0" + secret).digest()

    def issue(self, provider: str, spec: str, user: str, now: float, *, from_page: bool) -> Ticket:
        """Make a ticket for a new launch. `user` is empty where BinderHub has no authentication."""
        nonce, issued = secrets.token_bytes(9), int(now)
        head = _HEAD.pack(b"p" if from_page else b"s", nonce, issued)
        raw = head + self._mac(head, provider, spec, user)
        text = base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")
        return Ticket(text, nonce, issued, from_page)

    def check(self, text: str, provider: str, spec: str, user: str) -> Ticket:
        """Return the ticket. Raises `InvalidTicket` when it is not ours or for something else."""
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            kind, nonce, issued = _HEAD.unpack(raw[: _HEAD.size])
        except (ValueError, struct.error) as error:
            raise InvalidTicket("malformed") from error
        expected = self._mac(raw[: _HEAD.size], provider, spec, user)
        if not hmac.compare_digest(raw[_HEAD.size :], expected):
            raise InvalidTicket("wrong signature")
        return Ticket(text, nonce, issued, kind == b"p")

    def access_token(self, ticket: Ticket) -> str:
        """Return the token of the launch's server: 32 characters of base64url."""
        digest = hmac.digest(self._secret, b"token\0" + ticket.nonce, "sha256")
        return base64.urlsafe_b64encode(digest[:24]).decode("ascii")

    def suffix(self, ticket: Ticket) -> str:
        """Return 12 characters of [a-z0-9] that make the launch's user or server name its own, and known as ours."""
        own = self._letters(b"name\0" + ticket.nonce, 8)
        return own + self._letters(b"mark\0" + own.encode(), 4)

    def made(self, name: str) -> bool:
        """Whether a name ends with a suffix of ours."""
        suffix = name.rpartition("-")[2]
        own, mark = suffix[:8], suffix[8:]
        return len(suffix) == 12 and hmac.compare_digest(
            mark.encode("utf-8", "replace"),
            self._letters(b"mark\0" + own.encode("utf-8", "replace"), 4).encode(),
        )

    def _letters(self, message: bytes, count: int) -> str:
        number = int.from_bytes(hmac.digest(self._secret, message, "sha256")[:8], "big")
        letters = []
        for _ in range(count):
            number, index = divmod(number, len(_ALPHABET))
            letters.append(_ALPHABET[index])
        return "".join(letters)

    def _mac(self, head: bytes, *bound_to: str) -> bytes:
        message = head + b"\0".join(text.encode("utf-8", "surrogatepass") for text in bound_to)
        return hmac.digest(self._secret, message, "sha256")[:_MAC_BYTES]


def split_event_id(event_id: str) -> tuple[str, int, bool]:
    """Take an event's id apart: the ticket's text, the event's number, whether it was the last.

    Raises `InvalidTicket` when it has not the form of `stream.LaunchStream`'s ids.
    """
    parts = event_id.split(".")
    number = parts[1] if len(parts) in {2, 3} else ""
    if not (number.isascii() and number.isdigit() and len(number) < 16) or parts[2:] not in ([], ["end"]):
        raise InvalidTicket("malformed event id")
    return parts[0], int(number), len(parts) == 3
