"""The error catalogue: every way in which a launch can end badly, as rows of data.

Call sites hold no English for people: they raise `LaunchError(CODE, detail=...)`; what a
person reads comes from the row. The cause goes to the log under the same reference that
the person sees.

`docs/errors.md` lists the rows; a test compares the two.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Mender(str, Enum):
    """Who can mend it."""

    READER = "reader"
    AUTHOR = "repository author"
    OPERATOR = "operator"


@dataclass(frozen=True)
class ErrorRow:
    """One kind of failure.

    Attributes
    ----------
    code : str
        Stable name, for programs: ``<area>.<what>``.
    title : str
        What happened, one sentence without a full stop at its end.
    hint : str
        What the person can do.
    retryable : bool
        Whether the same link may work when tried again soon, with nothing changed.
    mender : Mender
        Who can mend it.
    status_code : int
        The HTTP status that says the same, as BinderHub's `status_code` key.
    """

    code: str
    title: str
    hint: str
    retryable: bool
    mender: Mender
    status_code: int = 500


def _rows(*rows: ErrorRow) -> dict[str, ErrorRow]:
    table = {row.code: row for row in rows}
    assert len(table) == len(rows), "codes are unique"
    return table


_READER, _AUTHOR, _OPERATOR = Mender.READER, Mender.AUTHOR, Mender.OPERATOR

# fmt: off
CATALOGUE = _rows(
    # the link
    ErrorRow(
        "provider.unknown",
        "This BinderHub does not know this kind of repository",
        "Check the part of the link after /v2/. The front page lists what can be launched here.",
        False, _READER, 404,
    ),
    ErrorRow(
        "spec.invalid",
        "The link does not name a repository in the way that this provider needs",
        "Check the link. The front page makes a correct one from a repository's address.",
        False, _READER, 400,
    ),
    ErrorRow(
        "request.invalid",
        "The request is not one that this BinderHub accepts",
        "Check the options of the link.",
        False, _READER, 400,
    ),
    ErrorRow(
        "request.forbidden",
        "This BinderHub refused the request",
        "Open the launch link again. When that does not help, ask those who run this BinderHub.",
        False, _READER, 403,
    ),
    ErrorRow(
        "ticket.invalid",
        "The launch that this page wants to go on with is not known here",
        "Open the launch link again to start a new one.",
        True, _READER, 403,
    ),
    ErrorRow(
        "ticket.expired",
        "The launch that this page wants to go on with is too old",
        "Open the launch link again to start a new one.",
        True, _READER, 403,
    ),
    # the repository
    ErrorRow(
        "repo.not_found",
        "The repository does not exist, or is private",
        "Check the address of the repository, and that it is public.",
        False, _READER, 404,
    ),
    ErrorRow(
        "ref.not_found",
        "The repository has no branch, tag or commit of this name",
        "Check the last part of the link. HEAD always stands for the default branch.",
        False, _READER, 404,
    ),
    ErrorRow(
        "repo.unreachable",
        "The host of the repository does not answer",
        "This usually passes. Try again in a few minutes.",
        True, _OPERATOR, 502,
    ),
    ErrorRow(
        "repo.rate_limited",
        "The host of the repository takes no more requests from this BinderHub for now",
        "Try again later.",
        True, _OPERATOR, 503,
    ),
    ErrorRow(
        "repo.resolve_timeout",
        "The host of the repository took too long to answer",
        "This usually passes. Try again in a few minutes.",
        True, _OPERATOR, 504,
    ),
    ErrorRow(
        "repo.banned",
        "This repository is not allowed to launch here",
        "Ask those who run this BinderHub for the reason.",
        False, _OPERATOR, 403,
    ),
    # limits
    ErrorRow(
        "rate.limited",
        "There were too many launches from your address",
        "Wait a while before you try again.",
        True, _READER, 429,
    ),
    ErrorRow(
        "quota.repo",
        "Too many people are using this repository at the moment",
        "Try again in a few minutes.",
        True, _OPERATOR, 503,
    ),
    ErrorRow(
        "quota.hub",
        "This BinderHub has as many servers running as it may",
        "Try again in a few minutes.",
        True, _OPERATOR, 503,
    ),
    ErrorRow(
        "quota.user",
        "You already have as many servers running as you may",
        "Stop one of your servers, then try again.",
        False, _READER, 409,
    ),
    # the image
    ErrorRow(
        "registry.unreachable",
        "The place where built repositories are kept does not answer",
        "This usually passes. Try again in a few minutes.",
        True, _OPERATOR, 502,
    ),
    ErrorRow(
        "build.failed",
        "The repository could not be built",
        "The log shows what went wrong, usually near its end. "
        "The author of the repository can mend it, often in its list of requirements.",
        False, _AUTHOR,
    ),
    ErrorRow(
        "build.timeout",
        "Building the repository took too long",
        "Try again. When it happens again, the repository needs more than this BinderHub gives to a build.",
        True, _AUTHOR, 504,
    ),
    ErrorRow(
        "build.interrupted",
        "The build was interrupted",
        "Nothing is wrong with the repository. Try again.",
        True, _OPERATOR, 503,
    ),
    ErrorRow(
        "build.no_slot",
        "Too many repositories are being built at the moment",
        "Try again in a few minutes.",
        True, _OPERATOR, 503,
    ),
    # the Hub and the server
    ErrorRow(
        "hub.unreachable",
        "The Hub that starts the servers does not answer",
        "This usually passes. Try again in a few minutes.",
        True, _OPERATOR, 502,
    ),
    ErrorRow(
        "hub.refused",
        "The Hub refused to start a server",
        "Its answer is below. Those who run this BinderHub can mend it.",
        False, _OPERATOR, 502,
    ),
    ErrorRow(
        "server.timeout",
        "The server took too long to start",
        "The image is built now, so it may be faster when you try again.",
        True, _OPERATOR, 504,
    ),
    ErrorRow(
        "server.crashed",
        "The server stopped while it was starting",
        "What it said last is below. A start script or a setting of the repository may be the cause.",
        False, _AUTHOR,
    ),
    ErrorRow(
        "image.pull",
        "The image of the repository could not be brought to the machine that should run it",
        "Try again. When it happens again, tell those who run this BinderHub.",
        True, _OPERATOR,
    ),
    ErrorRow(
        "cluster.full",
        "There is no room for another server at the moment",
        "Try again in a few minutes.",
        True, _OPERATOR, 503,
    ),
    ErrorRow(
        "cluster.unreachable",
        "The cluster that runs the servers does not answer",
        "This usually passes. Try again in a few minutes.",
        True, _OPERATOR, 502,
    ),
    ErrorRow(
        "start.forbidden",
        "The cluster does not allow this BinderHub to start servers at the moment",
        "Those who run this BinderHub can mend it.",
        True, _OPERATOR, 503,
    ),
    ErrorRow(
        "hook.refused",
        "This BinderHub does not allow the launch",
        "Its answer is below. Ask those who run this BinderHub.",
        False, _OPERATOR, 403,
    ),
    # this service
    ErrorRow(
        "launch.abandoned",
        "The launch was given up because nobody was watching it any more",
        "Try again, and keep the page open until the server is there.",
        True, _READER, 410,
    ),
    ErrorRow(
        "service.stopping",
        "This BinderHub is being restarted",
        "Try again in a moment.",
        True, _OPERATOR, 503,
    ),
    ErrorRow(
        "internal",
        "Something went wrong inside this BinderHub",
        "Try again. When it happens again, tell those who run this BinderHub the reference below.",
        True, _OPERATOR,
    ),
)
# fmt: on
"""All rows, by code."""


def new_reference() -> str:
    """Return a short reference that a person can read out and an operator can grep for."""
    return secrets.token_hex(4)


def on_one_line(error: BaseException) -> str:
    """Return an exception's class and words for a line of the log, at most 1,000 characters.

    Its `repr` would not do: exceptions of the Kubernetes clients say nothing there.
    """
    words = " ".join(str(error).split())[:1000]
    return f"{type(error).__name__}: {words}" if words else repr(error)


@dataclass
class LaunchError(Exception):
    """A launch ends with a row of the catalogue.

    Parameters
    ----------
    code : str
        A key of `CATALOGUE`.
    detail : str
        What is particular to this case, in plain text: shown to the person, so never a
        token or an internal address. May be several lines.
    message : str
        Replaces the row's title in BinderHub's `message` key, for texts that upstream has.
    transient : bool
        Whether the launch itself may try this again inside its deadline.
    retry_after : float or None
        Seconds that the other side asked us to wait.
    """

    code: str
    detail: str = ""
    message: str = ""
    transient: bool = False
    retry_after: float | None = None
    reference: str = field(default_factory=new_reference)

    def __post_init__(self) -> None:
        super().__init__(self.code, self.detail)
        if self.code not in CATALOGUE:
            raise KeyError(f"{self.code!r} is not in the error catalogue")

    def __str__(self) -> str:
        return f"{self.code} [{self.reference}]" + (f": {self.detail}" if self.detail else "")

    @property
    def row(self) -> ErrorRow:
        return CATALOGUE[self.code]

    def as_dict(self) -> dict[str, Any]:
        """Return the `error` key of the `failed` event."""
        return {
            "code": self.code,
            "title": self.row.title,
            "detail": self.detail,
            "hint": self.row.hint,
            "retryable": self.row.retryable,
            "reference": self.reference,
        }

    def as_event(self) -> dict[str, Any]:
        """Return the `failed` event, with BinderHub's keys first."""
        message = self.message or (
            f"{self.row.title}: {self.detail}" if self.detail else f"{self.row.title}."
        )
        return {
            "phase": "failed",
            "status_code": self.row.status_code,
            "message": message.rstrip("\n") + "\n",
            "error": self.as_dict(),
        }
