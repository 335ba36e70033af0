"""What is shown and kept of a check: the table, and the JSON file."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.cases import CASES
from benchmarks.rows import Row

# Raise it when the meaning of a field changes.
SCHEMA = 1


@dataclass
class Outcome:
    """All rounds of one row: each has a result, or an "error", for each side."""

    row: Row
    candidate: str
    rounds: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """How far ahead the candidate was, in each round that has both numbers."""
        return [
            self.row.ratio(each["candidate"]["value"], each["against"]["value"])
            for each in self.rounds
            if "value" in each["candidate"] and "value" in each["against"]
        ]

    @property
    def met(self) -> bool:
        """Whether the median is at the mark or above; a round without a number is a miss."""
        ratios = self.ratios
        return len(ratios) == len(self.rounds) > 0 and median(ratios) >= self.row.least

    def values(self, side: str) -> list[float]:
        """The numbers of one side ("candidate" or "against")."""
        return [each[side]["value"] for each in self.rounds if "value" in each[side]]

    def errors(self) -> list[str]:
        """Why numbers are missing, each reason once."""
        return sorted(
            {
                f"{self.row.name}: {self.row.against if side == 'against' else self.candidate} "
                f"{each[side]['error']}"
                for each in self.rounds
                for side in ("candidate", "against")
                if "error" in each[side]
            }
        )


HEADINGS = ("row", "unit", "theirs", "ours", "ratio", "spread", "target", "met")


def print_table(outcomes: Sequence[Outcome], candidate: str) -> None:
    """Print the rows, with rich where it is installed."""
    lines = [_cells(outcome) for outcome in outcomes]
    title = f"{candidate}: medians of all rounds"
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print(title)
        _print_plain([HEADINGS, *lines])
    else:
        table = Table(title=title, title_justify="left")
        for heading in HEADINGS:
            table.add_column(heading, justify="left" if heading in ("row", "unit") else "right")
        for line in lines:
            table.add_row(*line, style=None if line[-1] == "yes" else "red")
        # Into a file or a pipe: as wide as it needs to be, not cut to 80 columns.
        Console(width=None if sys.stdout.isatty() else 140).print(table)
    for outcome in outcomes:
        for error in outcome.errors():
            print(error)


def _cells(outcome: Outcome) -> tuple[str, ...]:
    row, ratios = outcome.row, outcome.ratios
    ratio = spread = "-"
    if ratios:
        ratio = f"{median(ratios):.2f}x"
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    theirs, ours = (
        _number(median(values)) if (values := outcome.values(side)) else "-"
        for side in ("against", "candidate")
    )
    met = "yes" if outcome.met else "NO"
    return (row.name, CASES[row.case].unit, theirs, ours, ratio, spread, row.target, met)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.3g}"


def _print_plain(lines: Sequence[Sequence[str]]) -> None:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        left = [cell.ljust(width) for cell, width in zip(line[:2], widths[:2], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(line[2:], widths[2:], strict=True)]
        print("  ".join(left + right))


def write_json(
    path: Path,
    outcomes: Sequence[Outcome],
    environment: dict[str, Any],
    settings: dict[str, Any],
) -> None:
    """Keep everything that was measured."""
    document = {
        "schema": SCHEMA,
        "environment": environment,
        "settings": settings,
        "rows": [
            {
                "row": outcome.row.name,
                "case": outcome.row.case,
                "summary": CASES[outcome.row.case].summary,
                "unit": CASES[outcome.row.case].unit,
                "candidate": outcome.candidate,
                "against": outcome.row.against,
                "target": outcome.row.target,
                "least_ratio": outcome.row.least,
                "median_ratio": median(outcome.ratios) if outcome.ratios else None,
                "met": outcome.met,
                "rounds": outcome.rounds,
            }
            for outcome in outcomes
        ],
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
