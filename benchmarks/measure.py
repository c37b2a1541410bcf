"""Numbers and the tables that show them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


def median(values: Sequence[float]) -> float:
    """Return the middle value; NaN of none."""
    return percentile(values, 50)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that `percent` of `values` do not exceed (nearest rank); NaN of none."""
    if not values:
        return math.nan
    rank = math.ceil(percent / 100 * len(values))
    return sorted(values)[max(0, rank - 1)]


def seconds(value: float) -> str:
    """Write a time so that three digits count."""
    if math.isnan(value):
        return "-"
    if abs(value) < 0.1:
        return f"{value * 1000:.2f} ms"
    return f"{value:.2f} s"


def ratio(value: float, base: float) -> str:
    """Write how many times `base` a value is."""
    return "-" if math.isnan(value) or math.isnan(base) or base <= 0 else f"{value / base:.2f} x"


@dataclass
class Table:
    """A table of plain text.

    Parameters
    ----------
    title : str
        What was measured, as a sentence.
    columns : tuple of str
    aim : str
        What this package holds itself to.
    """

    title: str
    columns: tuple[str, ...]
    aim: str = ""
    rows: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        """Add a row."""
        self.rows.append(cells)

    def note(self, text: str) -> None:
        """Add a line below the table."""
        self.notes.append(text)

    def show(self) -> None:
        """Print it."""
        widths = [max(len(row[i]) for row in (self.columns, *self.rows)) for i in range(len(self.columns))]

        def line(cells: Sequence[str]) -> str:
            first, *others = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
            return "  ".join([first, *(o.strip().rjust(w) for o, w in zip(others, widths[1:], strict=True))])

        print(f"\n{self.title}")
        if self.aim:
            print(f"  aim: {self.aim}")
        print("  " + line(self.columns))
        print("  " + line(["-" * width for width in widths]))
        for row in self.rows:
            print("  " + line(row))
        for note in self.notes:
            print(f"  {note}")
        print(flush=True)
