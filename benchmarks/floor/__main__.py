"""``python -m benchmarks.floor [CASE...]``: print what the machine can do at all."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.floor import CASES, FloorError, measure


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if a case gave no number."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.floor",
        description="Measure what the machine can do at all, by small programs in C.",
        epilog="cases: " + ", ".join(CASES),
    )
    parser.add_argument("cases", metavar="CASE", nargs="*", help="default: all")
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="how long each lasts (default: %(default)s)"
    )
    parser.add_argument("--details", action="store_true", help="also what belongs to each number")
    parser.add_argument("--json", action="store_true", help="print JSON, with all details")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.cases if name not in CASES]
    if unknown:
        parser.error(f"there is no case {', '.join(unknown)}; there are: {', '.join(CASES)}")
    results: dict[str, Any] = {}
    for name in options.cases or CASES:
        try:
            results[name] = measure(name, options.seconds)
        except FloorError as error:
            results[name] = {"error": str(error)}
        if not options.json:
            _print(name, results[name], details=options.details)
    if options.json:
        print(json.dumps(results, indent=1))
    return int(any("error" in result for result in results.values()))


def _print(name: str, result: dict[str, Any], *, details: bool) -> None:
    if "error" in result:
        print(f"{name:22} {result['error']}", flush=True)
        return
    print(f"{name:22} {_shown(result['value']):>10} {result['unit']:11} {CASES[name]}", flush=True)
    if details:
        for detail, number in result.items():
            if detail not in ("value", "unit"):
                print(f"    {detail:28} {_shown(number):>10}", flush=True)


def _shown(number: float) -> str:
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.2f} {letter}"
    return f"{number:.3g}"


if __name__ == "__main__":
    sys.exit(main())
