"""``python -m benchmarks.check [ROW...]``: are the marks met?

Measures each row in rounds. A round takes both sides, one directly after the other, in alternating
order, each in fresh processes; its ratio compares neighbours in time, and the row's result is the
median of these ratios. Exits with 1 if a row misses its mark. Takes a quiet machine and minutes,
so it is no part of the tests.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import environment, report
from benchmarks.measure import MeasurementError, Settings, measure
from benchmarks.report import Outcome
from benchmarks.rows import ROWS, Row

LEAST_ROUNDS = 5


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    defaults = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.check",
        description="Measure the rows, interleaved with whom they are compared with.",
        epilog="rows: " + ", ".join(row.name for row in ROWS),
    )
    parser.add_argument(
        "rows",
        metavar="ROW",
        nargs="*",
        type=_row_name,
        help="default: all",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=LEAST_ROUNDS,
        help="measurements of each side (default: %(default)s; fewer prove nothing)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=defaults.seconds,
        help="how long a measurement lasts, after its warm-up (default: %(default)s)",
    )
    parser.add_argument(
        "--candidate",
        metavar="MODULE",
        default="fastipc",
        help="what is checked; multiprocessing against itself shows the noise",
    )
    parser.add_argument(
        "--start-method",
        choices=("fork", "spawn", "forkserver"),
        default=defaults.start_method,
        help="how the measured processes are started (default: %(default)s)",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="keep all results there")
    return parser.parse_args(arguments)


def _row_name(text: str) -> str:
    if text not in {row.name for row in ROWS}:
        raise argparse.ArgumentTypeError(f"there is no row {text!r}")
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check; the result is the exit status."""
    options = parse(arguments)
    rows = [row for row in ROWS if not options.rows or row.name in options.rows]
    settings = Settings(options.start_method, options.seconds)
    where = environment.describe({options.candidate, *(row.against for row in rows)})
    print(
        f"{where['python']}, kernel {where['kernel']}, {where['cpus_available']} CPUs "
        f"({where['cpu']}), load {where['load_average']:.1f}, commit {where['commit']}"
    )
    outcomes = [Outcome(row, options.candidate) for row in rows]
    try:
        # Round by round over all rows, not row by row: a disturbance of some seconds spoils one
        # round of several rows, which the medians bear, and not several rounds of one.
        for number in range(options.rounds):
            for outcome in outcomes:
                outcome.rounds.append(_round(outcome.row, options.candidate, number, settings))
                _show_round(outcome, number, options.rounds)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    report.print_table(outcomes, options.candidate)
    if options.json is not None:
        kept: dict[str, Any] = {**asdict(settings), "rounds": options.rounds}
        report.write_json(options.json, outcomes, where, kept)
    missed = [outcome.row.name for outcome in outcomes if not outcome.met]
    print(f"missed: {', '.join(missed)}" if missed else f"all {len(outcomes)} rows met")
    return 1 if missed else 0


def _round(row: Row, candidate: str, number: int, settings: Settings) -> dict[str, Any]:
    """Measure both sides once; which comes first alternates."""
    sides = [("against", row.against), ("candidate", candidate)]
    if number % 2:
        sides.reverse()
    taken: dict[str, Any] = {"first": sides[0][0]}
    for side, peer in sides:
        try:
            taken[side] = measure(row.case, peer, settings)
        except MeasurementError as error:
            taken[side] = {"error": str(error)}
    return taken


def _show_round(outcome: Outcome, number: int, rounds: int) -> None:
    taken = outcome.rounds[-1]
    texts = [
        f"{taken[side]['value']:,.4g}" if "value" in taken[side] else taken[side]["error"]
        for side in ("against", "candidate")
    ]
    print(
        f"round {number + 1}/{rounds}  {outcome.row.name:24} "
        f"{outcome.row.against} {texts[0]}, {outcome.candidate} {texts[1]}",
        file=sys.stderr,
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
