"""`python -m tests.reliability.namespace_kills [OPERATION...]`: the crash tool's operations with
all their processes in PID namespaces of their own, so that victim, survivor, peer and fresh process
have equal pids. Prints one JSON object an operation; ends with 1 after a failure, with 2 if it
cannot run here.

Owns only where the processes are forked into; what is killed and judged is tests.crash's.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.crash.harness import Laboratory
from tests.crash.operation import Operation, OtherWay, Violation
from tests.crash.processes import ChildFailure
from tests.crash.stepper import Ending, Point, UnsupportedError, evenly_spaced

from . import namespaces

_TRIES = 4  # of a case that went another way than recorded


def recoveries(channel: Any) -> int:
    """How many locks were taken over from the dead, in both directions if there are two."""
    handle = getattr(channel, "queue", None)
    if handle is not None:
        return int(handle.stats().recoveries)
    both = channel.sender.stats()
    return int(both.sent.recoveries + both.received.recoveries)


def run_case(
    laboratory: Laboratory, kind: type[Operation], point: Point | None
) -> tuple[str, list[Point], int]:
    """Records the operation (point None) or kills it there: ending or state, the points, and the
    locks that were taken over."""
    taken_over = 0

    def make() -> Operation:
        operation: Any = kind()
        close: Callable[[], None] = operation.close

        def close_noting() -> None:
            nonlocal taken_over
            taken_over = recoveries(operation.channel)
            close()

        operation.close = close_noting
        return operation

    plain_fork = os.fork
    with namespaces.each_fork_in_a_namespace_of_its_own() as fork:
        os.fork = fork
        try:
            if point is None:
                state, points = laboratory.record(make)
                return state, points, 0
            outcome = laboratory.kill(make, point)[0]
            return outcome.ending.name, [], taken_over
        finally:
            os.fork = plain_fork


def run(kind: type[Operation], wanted: int) -> dict[str, Any]:
    """Kills the operation at so many points; counts what came of it. No kill is a failure, too."""
    laboratory = Laboratory()
    tally: dict[str, Any] = {"name": kind.name, "kills": 0, "taken_over": 0, "failures": []}
    points: list[Point] = []
    for _ in range(_TRIES):
        try:
            _, points, _ = run_case(laboratory, kind, None)
            break
        except OtherWay:
            continue
        except (Violation, ChildFailure) as error:
            tally["failures"].append(f"while recording: {error}")
            return tally
    for point in evenly_spaced(points, wanted):
        for _ in range(_TRIES):
            try:
                ending, _, taken_over = run_case(laboratory, kind, point)
            except OtherWay:
                continue
            except (Violation, ChildFailure) as error:
                tally["failures"].append(f"at instruction {point.index}: {error}")
                break
            tally["taken_over"] += taken_over
            if ending == Ending.KILLED.name:
                tally["kills"] += 1
                break
    if not tally["kills"] and not tally["failures"]:
        tally["failures"].append("it went another way each time, and was never killed")
    return tally


def main(arguments: Sequence[str] | None = None) -> int:
    from tests.crash.operations import OPERATIONS

    known = {operation.name: operation for operation in OPERATIONS}
    parser = argparse.ArgumentParser(
        prog="python -m tests.reliability.namespace_kills", description=__doc__
    )
    parser.add_argument("operations", nargs="*", metavar="OPERATION", help="default: all")
    parser.add_argument("--points", type=int, default=40, help="kills an operation (40)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the results there")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.operations) - set(known))
    if unknown:
        parser.error(f"no such operation: {', '.join(unknown)}")
    reason = namespaces.why_not()
    if reason:
        print(f"no PID namespaces here: {reason}", file=sys.stderr)
        return 2
    tallies: list[dict[str, Any]] = []
    started = time.monotonic()
    for name in options.operations or known:
        try:
            tally = run(known[name], options.points)
        except UnsupportedError as error:
            print(f"unsupported here: {error}", file=sys.stderr)
            return 2
        tallies.append(tally)
        print(json.dumps(tally), flush=True)
    failures = [f"{each['name']}: {failure}" for each in tallies for failure in each["failures"]]
    if options.json:
        kept = {
            "name": "namespaces",
            "command": "python -m tests.reliability.namespace_kills " + " ".join(sys.argv[1:]),
            "seconds": round(time.monotonic() - started, 1),
            "rows": [
                {
                    "operation": each["name"],
                    "kills": each["kills"],
                    "locks taken over from the dead": each["taken_over"],
                    "failures": len(each["failures"]),
                }
                for each in tallies
            ],
            "failures": failures,
        }
        options.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
