"""Fuzzes what reads shared memory: records, the codec, and a segment that others scribble over.

    python -m tests.fuzz                        all, 10 minutes of CPU time each
    python -m tests.fuzz records --seconds 60   one, shorter
    python -m tests.fuzz --prove                leaves a check out for each; it has to be found

Needs clang-14 with libclang-rt-14-dev and llvm-14, and a Python with its library. Ends with 0 only
if nothing crashed, hung or was read outside of a mapping, and, in a run of the full length, the
inputs reach 95 % of the lines of the decoders (tests/fuzz/targets.py says which these are). What
was found lies in build/fuzz/found/; give such a file to build/fuzz/finds/*/fuzz_NAME to see it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from tests.fuzz import running
from tests.fuzz.building import CLANG, FINDS, LLVM, broken
from tests.fuzz.targets import TARGETS, Target
from tests.support import ROOT

FULL_S = 600
LEAST_PERCENT = 95.0
PROOF_S = 240


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
    if seconds >= FULL_S and not run.found:
        if run.cpu_s < seconds:
            wrong.append(f"{target.name}: only {run.cpu_s:.0f} of {seconds:.0f} CPU seconds")
        if covered.percent < LEAST_PERCENT:
            wrong.append(f"{target.name}: {covered.percent:.1f} % is less than {LEAST_PERCENT} %")
            wrong += covered.missed
    return row, wrong


def prove(target: Target) -> tuple[dict[str, Any], list[str]]:
    """Leaves a check out, and sees whether the fuzzer notices."""
    run = running.fuzz(target, broken(target), PROOF_S, PROOF_S, seed=1)
    verdict = "found" if run.found else "MISSED"
    print(
        f"{target.name:9} without {target.broken_by}: {verdict} after {run.cpu_s:.0f} CPU s",
        flush=True,
    )
    row = {
        "fuzzer": target.name,
        "check left out": target.broken_by,
        "found": bool(run.found),
        "after CPU seconds": round(run.cpu_s),
    }
    wrong = [] if run.found else [f"{target.name}: {target.broken_by} was not noticed"]
    return row, wrong


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
    began = time.monotonic()
    rows: list[dict[str, Any]] = []
    failures: list[str] = []
    for name in arguments.targets or TARGETS:
        target = TARGETS[name]
        if arguments.prove:
            row, wrong = prove(target)
        else:
            row, wrong = check(target, arguments.seconds, arguments.within, arguments.missed)
        rows.append(row)
        failures += wrong
        if arguments.json is not None:
            results = {
                "name": "fuzz",
                "command": "python -m tests.fuzz" + (" --prove" if arguments.prove else ""),
                "seconds": round(time.monotonic() - began),
                "rows": rows,
                "failures": failures,
            }
            arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    for reason in failures:
        print(reason, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
