"""``python -m benchmarks.costs``: what a message costs in instructions and system calls."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.costs import instructions, syscalls
from benchmarks.costs.tools import ToolError


def main(arguments: Sequence[str] | None = None) -> int:
    """Count and print; 1 if there is something that could not be counted."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.costs",
        description="Count what a message costs: instructions (valgrind), system calls (strace).",
    )
    parser.add_argument(
        "what",
        metavar="WHAT",
        nargs="*",
        default=[],
        help="instructions, syscalls (default: both)",
    )
    parser.add_argument("--markdown", action="store_true", help="print tables, not JSON")
    parser.add_argument(
        "--messages",
        type=int,
        default=syscalls.UNPACED_COUNT,
        help="how many pass under strace without a pace (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    known = {
        "instructions": instructions.measure,
        "syscalls": lambda: {
            "unpaced": syscalls.measure("unpaced", options.messages),
            "paced": syscalls.measure("paced", syscalls.PACED_COUNT),
        },
    }
    for name in options.what:
        if name not in known:
            parser.error(f"there is no {name!r}; there are: {', '.join(known)}")
    found: dict[str, Any] = {}
    failed = False
    for name in options.what or known:
        try:
            found[name] = known[name]()
        except ToolError as error:
            print(f"no {name}: {error}", file=sys.stderr)
            failed = True
    print(markdown(found) if options.markdown else json.dumps(found, indent=1))
    return int(failed)


def markdown(found: dict[str, Any]) -> str:
    """Return the tables."""
    tables = []
    if "instructions" in found:
        tables.append(_instructions_table(found["instructions"]))
    if "syscalls" in found:
        tables.append(_syscalls_table(found["syscalls"]))
    return "\n\n".join(tables)


def _instructions_table(kinds: dict[str, dict[str, dict[str, float]]]) -> str:
    owners = ("all", *instructions.OWNERS)
    rows = [
        [f"{kind}, {operation}", *(f"{costs[owner]:.0f}" for owner in owners)]
        for kind, operations in kinds.items()
        for operation, costs in operations.items()
    ]
    return _table(["instructions a message", *owners], rows)


def _syscalls_table(runs: dict[str, dict[str, float]]) -> str:
    names = sorted({name for calls in runs.values() for name in calls} - {"messages", "seconds"})
    rows = []
    for name in ["all", *names]:
        row = [name]
        for calls in runs.values():
            wanted = names if name == "all" else [name]
            number = sum(calls.get(each, 0) for each in wanted)
            row.append(f"{1000 * number / calls['messages']:.3g}")
        rows.append(row)
    heads = [
        f"{run}: {calls['messages']:,}, {calls['messages'] / calls['seconds']:,.0f}/s"
        for run, calls in runs.items()
    ]
    return _table(["system calls a thousand messages", *heads], rows)


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
