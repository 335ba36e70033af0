"""`python -m tests.reliability.namespace_kills [OPERATION...]`: the crash tool's operations with
all their processes in PID namespaces of their own, so that victim, survivor, peer and fresh process
have equal pids. Prints one JSON object an operation; ends with 1 after a failure, with 2 if it
cannot run here.

Owns only where the processes are forked into; what is killed and judged is tests.crash's.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.crash import harness
from tests.crash.operation import Operation, Reports, Violation
from tests.crash.processes import ChildFailure
from tests.crash.stepper import Outcome, UnsupportedError

from . import namespaces

_STOP_AFTER = 5  # failures of a variant


def recoveries(channel: Any) -> int:
    """How many locks were taken over from the dead, in both directions if there are two."""
    handle = getattr(channel, "queue", None)
    if handle is not None:
        return int(handle.stats().recoveries)
    both = channel.sender.stats()
    return int(both.sent.recoveries + both.received.recoveries)


class Laboratory(harness.Laboratory):
    """Runs each case with every process in a namespace of its own, the first victim of an operation
    that takes over from one, too. Counts the locks that were taken over from the dead."""

    taken_over = 0

    def run(
        self,
        operation: Operation,
        trace: Callable[[int], Outcome],
        reports: Reports | None = None,
    ) -> tuple[Outcome, str]:
        case: Any = operation
        close: Callable[[], None] = case.close

        def close_noting() -> None:
            self.taken_over += recoveries(case.channel)
            close()

        case.close = close_noting
        plain_fork = os.fork
        with namespaces.each_fork_in_a_namespace_of_its_own() as fork:
            os.fork = fork
            try:
                return super().run(operation, trace, reports)
            finally:
                os.fork = plain_fork


def run(kind: type[Operation], wanted: int) -> dict[str, Any]:
    """Kills the operation at so many points, spread over all its variants; counts and judges what
    came of it as the crash tool does with a sample. No kill of a variant is a failure, too."""
    started = time.monotonic()
    laboratory = Laboratory()
    tally = harness.Tally(kind.name)
    variants = 0
    try:
        planned = harness.plan(laboratory, kind, wanted)
    except (Violation, ChildFailure) as failure:
        tally.failures.append(f"without any kill: {failure}")
    else:
        harness.count_instructions(tally, planned)
        laboratory.taken_over = 0
        variants = len(planned.variants)
        for variant in range(variants):
            targets = [target for target in planned.targets if target.variant == variant]
            found = harness.run_targets(laboratory, kind, planned, targets, _STOP_AFTER)
            if not found.kills and not found.failures:
                found.failures.append(
                    f"variant {variant} went another way each time, and was never killed"
                )
            tally.add(found)
        if not variants:
            tally.failures.append("it has no variant, and was never killed")
        harness._judge_tally(tally, kind, wanted)
    tally.seconds = round(time.monotonic() - started, 1)
    more = {"variants": variants, "taken_over": laboratory.taken_over}
    return {**dataclasses.asdict(tally), **more}


def main(arguments: Sequence[str] | None = None) -> int:
    from tests.crash.operations import OPERATIONS

    known = {operation.name: operation for operation in OPERATIONS}
    parser = argparse.ArgumentParser(
        prog="python -m tests.reliability.namespace_kills", description=__doc__
    )
    parser.add_argument("operations", nargs="*", metavar="OPERATION", help="default: all")
    parser.add_argument("--points", type=int, default=40, help="kills an operation, at least (40)")
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
                    "variants": each["variants"],
                    "points": each["points"],
                    "kills": each["kills"],
                    "of them asleep": each["asleep"],
                    "state before": each["before"],
                    "state after": each["after"],
                    "loss counted": each["lost"],
                    "never met again": each["missed"],
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
    if os.environ.get("LD_BIND_NOW") is None:
        # As tests.crash does, and for its reason: what is called from inside shall be seen.
        os.environ["LD_BIND_NOW"] = "1"
        os.execv(
            sys.executable,
            [sys.executable, "-m", "tests.reliability.namespace_kills", *sys.argv[1:]],
        )
    sys.exit(main())
