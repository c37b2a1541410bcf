"""What can go wrong with an API server, as data: each fault is a rule that matches requests.

Two more are methods of the server, because they are not about one request: `refuse` (the port is closed,
every connection cut) and `freeze_cache` (the watch cache no longer learns what etcd knows).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import Enum


class Fault(str, Enum):
    """What a matching request meets."""

    HANG = "hang"  # accepted, not answered; goes on when the fault is cleared
    LOST = "lost"  # accepted, and never answered: the connection has lost its other end
    DELAY = "delay"  # answered after `seconds`
    ERROR = "error"  # a Status of `code`
    NOT_JSON = "not_json"  # 200 with a page of HTML
    TRUNCATED = "truncated"  # the body ends in the middle, and the connection with it
    RESET = "reset"  # the connection is cut without an answer
    STALE = "stale"  # served by a replica whose watch cache stands at `at`
    # watches only
    SILENT = "silent"  # open, but nothing is sent any more, not even the end (half-open TCP)
    CLOSE_AT_ONCE = "close_at_once"  # a complete, empty answer
    GONE = "gone"  # one ERROR event with code 410
    BOOKMARK = "bookmark"  # one BOOKMARK, asked for or not, then the end
    GARBAGE = "garbage"  # one line that is no JSON, then silence


@dataclass(eq=False)
class Rule:
    """A fault and the requests that it meets.

    Parameters
    ----------
    fault : Fault
    verb : str
        list, watch, get, create, update, patch, delete, deletecollection; "" for all.
    plural : str
        pods, events, ...; "" for all.
    times : int or None
        How many requests it meets before it ends; None for all.
    code : int
        For `ERROR`: the HTTP status.
    seconds : float
        For `DELAY`.
    at : int
        For `STALE`: the resource version of the replica's cache.
    query : dict
        Parameters that a request must have to be met.
    """

    fault: Fault
    verb: str = ""
    plural: str = ""
    times: int | None = None
    code: int = 500
    seconds: float = 0.0
    at: int = 0
    query: dict[str, str] = field(default_factory=dict)
    met: int = 0
    cleared: asyncio.Event = field(default_factory=asyncio.Event)
    seen: asyncio.Event = field(default_factory=asyncio.Event)
    """Set as soon as one request met the rule."""

    def matches(self, verb: str, plural: str, query: dict[str, str]) -> bool:
        if self.times is not None and self.met >= self.times:
            return False
        if self.fault in WATCH_ONLY and verb != "watch":
            return False
        asked = all(query.get(name) == value for name, value in self.query.items())
        return self.verb in ("", verb) and self.plural in ("", plural) and asked


WATCH_ONLY = {Fault.SILENT, Fault.CLOSE_AT_ONCE, Fault.GONE, Fault.BOOKMARK, Fault.GARBAGE}


class Faults:
    """The rules in force; the first that matches is met."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []

    def add(self, rule: Rule) -> Rule:
        self.rules.append(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        self.rules.remove(rule)
        rule.cleared.set()

    def clear(self) -> None:
        for rule in list(self.rules):
            self.remove(rule)

    def meet(self, verb: str, plural: str, query: dict[str, str]) -> Rule | None:
        for rule in self.rules:
            if rule.matches(verb, plural, query):
                rule.met += 1
                rule.seen.set()
                return rule
        return None

    def silent(self, plural: str) -> bool:
        """Whether open watches of this kind have gone silent."""
        return any(
            rule.fault is Fault.SILENT and rule.times is None and rule.plural in ("", plural)
            for rule in self.rules
        )
