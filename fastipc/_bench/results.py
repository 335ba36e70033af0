"""What was measured, by case and by peer, in rounds; as a table and as JSON.

Owns the form in which results are kept. What is to be reached is not its business.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from fastipc._bench.case import Case
from fastipc._bench.cases import CASES
from fastipc._bench.measure import MeasurementError, Settings, measure

# Raise it when the meaning of a field changes.
SCHEMA = 2


class Results:
    """All measurements: for each case and each peer a list with what each round gave.

    That is the result of measure(), or {"kind": "absent" | "failed" | "hung", "error": reason},
    or {"kind": "dropped"} where a peer was not measured again.
    """

    def __init__(self) -> None:
        self.rounds: dict[str, dict[str, list[dict[str, Any]]]] = {}

    def take(self, case: str, peer: str, settings: Settings) -> dict[str, Any]:
        """Measure once, keep what came of it, and return that."""
        try:
            taken = measure(case, peer, settings)
        except MeasurementError as error:
            taken = {"kind": error.kind, "error": error.reason}
        else:
            taken["laps"] = [lap["value"] for lap in taken["laps"]]
        return self.keep(case, peer, taken)

    def keep(self, case: str, peer: str, taken: dict[str, Any]) -> dict[str, Any]:
        """Keep what came of a round, and return it."""
        self.rounds.setdefault(case, {}).setdefault(peer, []).append(taken)
        return taken

    def of(self, case: str, peer: str) -> list[dict[str, Any]]:
        """Return all rounds, none if there are none."""
        return self.rounds.get(case, {}).get(peer, [])

    def number(self, case: str, peer: str, key: str = "value") -> float | None:
        """Return the median over the rounds that have this number."""
        numbers = [taken[key] for taken in self.of(case, peer) if key in taken]
        return median(numbers) if numbers else None

    def problem(self, case: str, peer: str) -> str | None:
        """Return why there is no number: "absent", "failed" or "hung"."""
        return next((taken["kind"] for taken in self.of(case, peer) if "error" in taken), None)

    def errors(self) -> list[str]:
        """Return a line for each reason why numbers are missing, with the cases."""
        cases: dict[str, dict[str, None]] = {}
        for case, peers in self.rounds.items():
            for peer, rounds in peers.items():
                for taken in rounds:
                    if "error" in taken:
                        reason = f"{peer} {taken['kind']}: {taken['error']}"
                        cases.setdefault(reason, {})[case] = None
        return [f"{reason} ({', '.join(found)})" for reason, found in sorted(cases.items())]

    def peers(self) -> list[str]:
        """Return everybody who was measured, in the order of their first measurement."""
        return list(dict.fromkeys(peer for peers in self.rounds.values() for peer in peers))

    def cell(self, case: str, peer: str, key: str = "value") -> str:
        """Return what a table says: a number, or why there is none."""
        number = self.number(case, peer, key)
        if number is not None:
            return shown(number)
        return self.problem(case, peer) or ("-" if not self.of(case, peer) else "dropped")


def shown(number: float) -> str:
    """Return a number in at most seven characters, with three digits that count."""
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(number) >= limit:
            scaled = number / (1e3 if suffix == "k" else limit)
            return f"{scaled:.2f}{suffix}" if scaled < 10 else f"{scaled:.0f}{suffix}"
    if number == int(number) and abs(number) < 1000:
        return f"{int(number)}"
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def better(case: type[Case], ours: float, theirs: float) -> float:
    """Return how far ahead we are: above 1, we are better."""
    if case.more_is_better:
        return ours / theirs if theirs else float("inf")
    return theirs / ours if ours else float("inf")


def best_other(
    results: Results,
    case: str,
    candidate: str,
    leave_out: Iterable[str] = (),
    key: str = "value",
) -> str | None:
    """Return who has the best number beside the candidate and multiprocessing, if anybody."""
    out = {candidate, "multiprocessing", *leave_out}
    numbers = {
        peer: number
        for peer in results.rounds.get(case, {})
        if peer not in out and (number := results.number(case, peer, key)) is not None
    }
    if not numbers:
        return None
    choose = max if key == "value" and CASES[case].more_is_better else min
    return choose(numbers, key=lambda peer: numbers[peer])


# As wide as a table gets where nobody says how wide the screen is.
PLAIN_COLUMNS = 200
# What a column takes beside its text.
BORDER_COLUMNS = 3


def print_results(results: Results, candidate: str = "fastipc") -> None:
    """Print cases against peers, with the candidate's lead over multiprocessing.

    Where the screen is too narrow for everybody there are several tables.
    """
    cases = list(results.rounds)
    first: list[list[str]] = [
        ["case", *cases],
        ["unit", *(CASES[case].unit for case in cases)],
    ]
    names = [name for name in (candidate, "multiprocessing") if name in results.peers()]
    first += [[name, *(results.cell(case, name) for case in cases)] for name in names]
    first.append([f"{candidate} leads", *(_lead(results, case, candidate) for case in cases)])
    others = [
        [name, *(results.cell(case, name) for case in cases)]
        for name in results.peers()
        if name not in names
    ]
    room = _screen_columns() - sum(map(_column_width, first))
    while True:
        columns, left = list(first), room
        while others and (_column_width(others[0]) <= left or len(columns) == len(first)):
            left -= _column_width(others[0])
            columns.append(others.pop(0))
        headings, *lines = zip(*columns)
        print_table(headings, lines, left=2)
        if not others:
            break
    for line in results.errors():
        print(line)


def _lead(results: Results, case: str, candidate: str) -> str:
    ours = results.number(case, candidate)
    theirs = results.number(case, "multiprocessing")
    if ours is None or theirs is None:
        return "-"
    return f"{better(CASES[case], ours, theirs):.3g}x"


def _screen_columns() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PLAIN_COLUMNS


def _column_width(cells: Sequence[str]) -> int:
    # Without rich a heading stands in one line.
    heading = _broken(cells[0]).split("\n") if importlib.util.find_spec("rich") else cells[:1]
    return max(map(len, [*heading, *cells[1:]])) + BORDER_COLUMNS


def _broken(heading: str) -> str:
    """Return a heading on several lines, broken where that does not hurt."""
    text = heading.replace("multiprocessing", "multi-\nprocessing").replace(" ", "\n")
    return text.replace("faster-fifo", "faster-\nfifo").replace("-blocking", "-\nblocking")


def print_table(
    headings: Sequence[str],
    lines: Sequence[Sequence[str]],
    *,
    left: int,
    title: str | None = None,
    marked: Sequence[bool] = (),
) -> None:
    """Print a table, with rich where it is installed; the first `left` columns are texts."""
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        if title:
            print(title)
        _print_plain([headings, *lines], left)
        return
    table = Table(title=title, title_justify="left")
    for column, heading in enumerate(headings):
        justify: Any = "left" if column < left else "right"
        table.add_column(_broken(heading), justify=justify, no_wrap=True)
    for index, line in enumerate(lines):
        table.add_row(*line, style="red" if marked and marked[index] else None)
    # Into a file or a pipe: as wide as it needs to be, not cut to 80 columns.
    Console(width=max(_screen_columns(), 60)).print(table)


def _print_plain(lines: Sequence[Sequence[str]], left: int) -> None:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        cells = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths))
        ]
        print("  ".join(cells).rstrip())


def document(
    results: Results, environment: dict[str, Any], settings: dict[str, Any]
) -> dict[str, Any]:
    """Return everything that was measured, ready for JSON."""
    return {
        "schema": SCHEMA,
        "environment": environment,
        "settings": settings,
        "cases": {
            name: {
                "summary": CASES[name].summary,
                "unit": CASES[name].unit,
                "more_is_better": CASES[name].more_is_better,
            }
            for name in results.rounds
            if name in CASES
        },
        "results": results.rounds,
    }


def write(path: Path, kept: dict[str, Any]) -> None:
    """Write a document."""
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> tuple[Results, dict[str, Any]]:
    """Read a document. Raises OSError, ValueError."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(kept, dict) or kept.get("schema") != SCHEMA:
        raise ValueError(f"{path} is no result of this version: its schema is not {SCHEMA}")
    results = Results()
    results.rounds = kept["results"]
    return results, kept
