"""`python -m tests.crash`: kills operations at chosen instructions and prints what was left.

Exit code 0: every kill left the state before or after. 1: a failure, or too few points.
2: the tool cannot run here.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence

from .harness import Tally, run_operation
from .operation import Operation
from .proofs import PROOFS
from .stepper import UnsupportedError


def _operations() -> dict[str, type[Operation]]:
    from .operations import OPERATIONS  # needs fastipc, which the proofs do not

    return {operation.name: operation for operation in OPERATIONS}


def _points(text: str) -> int | None:
    return None if text == "all" else int(text)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument(
        "--operation", action="append", metavar="NAME", help="only this one (repeatable)"
    )
    parser.add_argument(
        "--points", type=_points, default=160, metavar="N|all", help="kills an operation (160)"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument(
        "--deadline", type=float, default=10.0, help="seconds that any process may take"
    )
    parser.add_argument(
        "--stop-after", type=int, default=5, metavar="N", help="failures of each worker"
    )
    parser.add_argument(
        "--libc", action="store_true", help="also kill in libc while called from inside"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object an operation")
    parser.add_argument("--list", action="store_true", help="print the names and exit")
    return parser.parse_args(arguments)


def _print_row(tally: Tally) -> None:
    print(
        f"{tally.name:<32}{tally.total:>9}{tally.points:>8}{tally.kills:>8}{tally.before:>8}"
        f"{tally.after:>8}{tally.finished:>9}{len(tally.failures):>10}{tally.seconds:>8.1f}",
        flush=True,
    )
    for failure in tally.failures:
        print("    " + failure.replace("\n", "\n        "), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    known = {operation.name: operation for operation in PROOFS}
    if options.operation is None or not set(options.operation) <= set(known):
        known = {**_operations(), **known}
    proofs = {operation.name for operation in PROOFS}
    if options.list:
        print("\n".join(known))
        return 0
    names = options.operation or [name for name in known if name not in proofs]
    unknown = sorted(set(names) - set(known))
    if unknown:
        print(f"no operation named {', '.join(unknown)}; see --list", file=sys.stderr)
        return 2
    if not options.json:
        print(
            f"{'operation':<32}{'inside':>9}{'points':>8}{'kills':>8}{'before':>8}{'after':>8}"
            f"{'finished':>9}{'failures':>10}{'s':>8}"
        )
    failed = False
    for name in names:
        try:
            tally = run_operation(
                known[name],
                wanted=options.points,
                workers=options.workers,
                deadline=options.deadline,
                stop_after=options.stop_after,
                with_libc=options.libc,
            )
        except UnsupportedError as error:
            print(f"unsupported here: {error}", file=sys.stderr)
            return 2
        failed = failed or bool(tally.failures)
        if options.json:
            print(json.dumps(dataclasses.asdict(tally)), flush=True)
        else:
            _print_row(tally)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
