"""Fuzzes what reads shared memory: records, the codec, and a segment that others scribble over.

    python -m tests.fuzz                        all, 10 minutes of CPU time each
    python -m tests.fuzz records --seconds 60   one, shorter
    python -m tests.fuzz --prove                leaves a check out for each; it has to be found

Needs clang-14 with libclang-rt-14-dev and llvm-14, and a Python with its library. Ends with 0 only
if nothing crashed, hung or was read outside of a mapping, and the inputs reach 95 % of the lines of
the decoders (tests/fuzz/targets.py says which these are) in a run of the full length, or in one of
a minute or more what a minute reaches. Beside each other run as many as there are CPUs. What was
found lies in build/fuzz/found/; give such a file to build/fuzz/finds/*/fuzz_NAME to see it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.fuzz import running
from tests.fuzz.building import CLANG, FINDS, LLVM, broken
from tests.fuzz.targets import TARGETS, Break, Target
from tests.support import ROOT

FULL_S = 600
LEAST_PERCENT = 95.0
SHORT_S = 60
PROOF_S = 240


def least_percent(target: Target, seconds: float) -> float:
    """How much of its decoders a run of that length has to reach."""
    if seconds >= FULL_S:
        return LEAST_PERCENT
    return target.least_percent_of_a_minute if seconds >= SHORT_S else 0


def check(
    target: Target, seconds: float, within_s: float, shows: bool
) -> tuple[dict[str, Any], list[str]]:
    """Runs a fuzzer; returns a row for the table, and what is wrong."""
    run = running.fuzz(target, FINDS, seconds, within_s)
    wrong = [f"{target.name}: {path.relative_to(ROOT)}, see {run.log}" for path in run.found]
    covered = running.coverage(target)
    row = {
        "fuzzer": target.name,
        "what it damages": target.what,
        "CPU seconds": round(run.cpu_s),
        "seconds": round(run.seconds),
        "inputs executed": run.executed,
        "inputs kept": run.kept,
        "lines of the decoders": covered.reached + len(covered.missed),
        "lines reached (%)": round(covered.percent, 1),
        "crashes, hangs, reads outside": len(run.found),
    }
    print(
        f"{target.name:9} {run.executed:>9} inputs {run.cpu_s:6.0f} s of CPU time "
        f"{run.seconds:6.0f} s "
        f"{covered.reached} of {covered.reached + len(covered.missed)} lines "
        f"({covered.percent:.1f} %)  {'FAILED' if wrong else 'ok'}",
        flush=True,
    )
    if shows:
        print("\n".join(covered.missed))
    if seconds >= SHORT_S and not run.found:
        least = least_percent(target, seconds)
        if run.cpu_s < seconds:
            wrong.append(f"{target.name}: only {run.cpu_s:.0f} of {seconds:.0f} CPU seconds")
        if covered.percent < least:
            wrong.append(f"{target.name}: {covered.percent:.1f} % is less than {least} %")
            wrong += covered.missed
    return row, wrong


def prove(target: Target, check: Break) -> tuple[dict[str, Any], list[str]]:
    """Leaves a check out, and sees whether the fuzzer notices, and calls it what it is."""
    run = running.fuzz(target, broken(check), PROOF_S, PROOF_S, seed=1)
    kinds = sorted({path.name.partition("-")[0] for path in run.found})
    found = check.found_as in kinds
    print(
        f"{target.name:9} without {check.what}: "
        f"{'found' if found else 'MISSED'} after {run.cpu_s:.0f} CPU s: {', '.join(kinds) or '-'}",
        flush=True,
    )
    row = {
        "fuzzer": target.name,
        "check left out": check.what,
        "has to be found as": check.found_as,
        "found": ", ".join(kinds) or "nothing",
        "after CPU seconds": round(run.cpu_s),
    }
    wrong = [] if found else [f"{target.name}: without {check.what}: no {check.found_as}"]
    return row, wrong


def keep(
    path: Path, proves: bool, began: float, rows: list[dict[str, Any]], failures: list[str]
) -> None:
    """Writes what is known so far."""
    results = {
        "name": "fuzz",
        "command": "python -m tests.fuzz" + (" --prove" if proves else ""),
        "seconds": round(time.monotonic() - began),
        "rows": rows,
        "failures": failures,
    }
    path.write_text(json.dumps(results, indent=2) + "\n")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument(
        "--seconds", type=float, default=FULL_S, help="CPU time for each (default: %(default)s)"
    )
    parser.add_argument(
        "--within", type=float, default=1e9, help="seconds after which each is ended all the same"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="how many run beside each other (default: as many as there are CPUs)",
    )
    parser.add_argument("--prove", action="store_true", help="find checks that are left out")
    parser.add_argument("--missed", action="store_true", help="print the lines not reached")
    parser.add_argument("--json", type=Path, help="where to write the results")
    arguments = parser.parse_args()
    unknown = set(arguments.targets) - set(TARGETS)
    if unknown:
        parser.error(
            f"no such fuzzer: {', '.join(sorted(unknown))} (there are: {', '.join(TARGETS)})"
        )
    missing = [name for name in (CLANG, *LLVM.values()) if shutil.which(name) is None]
    if missing:
        parser.error(
            f"missing: {', '.join(missing)}: apt install clang-14 libclang-rt-14-dev llvm-14"
        )
    targets = [TARGETS[name] for name in arguments.targets or TARGETS]
    began = time.monotonic()
    rows: list[dict[str, Any]] = []
    failures: list[str] = []
    with ThreadPoolExecutor(arguments.jobs) as pool:
        if arguments.prove:
            runs = [pool.submit(prove, target, one) for target in targets for one in target.breaks]
        else:
            limits = (arguments.seconds, arguments.within, arguments.missed)
            runs = [pool.submit(check, target, *limits) for target in targets]
        try:
            for one in runs:
                row, wrong = one.result()
                rows.append(row)
                failures += wrong
                if arguments.json is not None:
                    keep(arguments.json, arguments.prove, began, rows, failures)
        except BaseException:
            running.GIVEN_UP.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for reason in failures:
        print(reason, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
