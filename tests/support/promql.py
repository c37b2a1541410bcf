"""What a PromQL expression asks of its metrics: their names, the values of their labels, and labels to group by.

No parser of the language: enough of it for the alerts and the dashboard of the chart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

WORDS = {
    "and",
    "or",
    "unless",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "offset",
    "bool",
}
SELECTOR = re.compile(r"\b([a-zA-Z_:][\w:]*)\b(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
GROUPED = re.compile(r"\bby\s*\(([^)]*)\)\s*\(")


@dataclass
class Use:
    """One use of a metric in an expression.

    Attributes
    ----------
    matched : dict
        Label to the values that it is compared with.
    grouped : set
        Labels that the result is grouped by.
    """

    metric: str
    matched: dict[str, set[str]] = field(default_factory=dict)
    grouped: set[str] = field(default_factory=set)


def uses(expression: str) -> list[Use]:
    """Return every use of a metric, in order."""
    groups = list(_groups(expression))
    hidden = re.sub(
        r"\b(?:by|on)\s*\([^)]*\)|\[[^]]*\]|\boffset\s+\w+", lambda m: " " * len(m[0]), expression
    )
    found = []
    for match in SELECTOR.finditer(hidden):
        inside_braces = hidden.rfind("{", 0, match.start()) > hidden.rfind("}", 0, match.start())
        is_function = hidden[match.end() :].lstrip().startswith("(")
        if match[1] in WORDS or inside_braces or is_function:
            continue
        matched = {label: set(value.split("|")) for label, _, value in MATCHER.findall(match[2] or "")}
        grouped = {label for labels, start, end in groups if start <= match.start() < end for label in labels}
        found.append(Use(match[1], matched, grouped))
    return found


def _groups(expression: str) -> Iterator[tuple[set[str], int, int]]:
    """Yield the labels of each `by (...)`, with where the parentheses after it begin and end."""
    for match in GROUPED.finditer(expression):
        depth, end = 1, match.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(expression[end], 0)
            end += 1
        yield {label.strip() for label in match[1].split(",") if label.strip()}, match.end(), end
