"""The arguments of benchmarks.check, and what they may say; what is done with them is its own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.rows import ROWS, SECONDS_OF
from fastipc._bench.adapters import ADAPTERS
from fastipc._bench.cases import CASES
from fastipc._bench.measure import Settings

LEAST_ROUNDS = 5
# In so many rounds everybody is measured, however far behind.
ROUNDS_FOR_ALL = 2


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    defaults = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.check",
        description="Measure the rows, interleaved with whom they are compared with.",
        epilog="cases with rows: " + ", ".join(dict.fromkeys(row.case for row in ROWS)),
    )
    parser.add_argument(
        "rows",
        metavar="ROW",
        nargs="*",
        type=_row_name,
        help="a row (CASE/AGAINST), or a case for all its rows; default: all",
    )
    parser.add_argument("--list", action="store_true", help="print the rows and do nothing")
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
        "--seconds-of",
        metavar="CASE=SECONDS",
        type=_case_seconds,
        action="append",
        default=[],
        help="how long one of this case lasts, as often as needed (default: as --seconds, and at "
        f"least {', '.join(f'{case}={least:g}' for case, least in SECONDS_OF.items())})",
    )
    parser.add_argument(
        "--peers",
        metavar="PEER,...",
        type=_peer_names,
        default=list(ADAPTERS),
        help="among whom the best is looked for (default: all)",
    )
    parser.add_argument(
        "--all-peers",
        action="store_true",
        help=f"measure those that are far behind in more than {ROUNDS_FOR_ALL} rounds, too",
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
    if text not in {row.name for row in ROWS} | {row.case for row in ROWS}:
        raise argparse.ArgumentTypeError(f"there is no row {text!r}")
    return text


def _case_seconds(text: str) -> tuple[str, float]:
    case, _, number = text.partition("=")
    if case not in CASES:
        raise argparse.ArgumentTypeError(f"there is no case {case!r}")
    try:
        seconds = float(number)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} says no time: CASE=SECONDS, above 0")
    return case, seconds


def _peer_names(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in ADAPTERS:
            raise argparse.ArgumentTypeError(
                f"there is no peer {name!r}: choose from {', '.join(ADAPTERS)}"
            )
    return names
