"""`python -m tests.storm`: kills producers and consumers at random for minutes and counts what
became of every message.

Exit code 0: the promise held. 1: it did not, or somebody hung, or too little has happened for that
to mean anything: nobody was killed, or in 300 seconds or more one kind of death or one of the sizes
did not occur.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import deaths, happened
from .scenarios import SCENARIOS

ROOT = Path(__file__).resolve().parents[2]

# Beyond what a scenario is to take, before it is given up as hung.
GRACE_S = 90.0

COLUMNS = (
    "scenario", "seconds", "rounds", "lives", "killed", *happened.COLUMN_OF.values(),
    happened.LARGEST, happened.EMPTY, "killed holding a lock", "messages put", "received",
    "left for the supervisor", "missing", "counted as lost", "given up by a shutdown",
    "returned to a victim",
    "locks taken over", "late wakes", "bytes before", "bytes at rest", "of these kept on purpose",
    "failures",
)  # fmt: skip

# Those that are printed, with what stands above them: as wide as what is to be seen below.
PRINTED = {
    "seconds": "     s", "rounds": "rounds", "lives": " lives", "killed": "killed",
    happened.COLUMN_OF[deaths.KILL]: "  KILL", happened.COLUMN_OF[deaths.TERM]: "TERM",
    happened.COLUMN_OF[deaths.EXIT]: "_exit", happened.COLUMN_OF[deaths.IN_PUT]: "in put",
    happened.COLUMN_OF[deaths.ALL]: "at end", happened.COLUMN_OF[deaths.STOP]: " STOP",
    "killed holding a lock": "locked", happened.LARGEST: "largest MiB",
    happened.EMPTY: "    of 0 B", "messages put": "       put", "missing": "missing",
    "counted as lost": "   lost", "locks taken over": "taken over", "bytes before": "  before",
    "bytes at rest": " at rest", "of these kept on purpose": "    kept", "failures": "failures",
}  # fmt: skip


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description=__doc__)
    parser.add_argument(
        "--scenario", action="append", metavar="NAME", choices=SCENARIOS,
        help="only this one (repeatable); see --list",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="of storm, in all scenarios together (30)"
    )
    parser.add_argument(
        "--round", type=float, default=8.0, metavar="SECONDS", help="a queue's storm at most (8)"
    )
    parser.add_argument("--jobs", type=int, default=1, help="scenarios at one time (1)")
    parser.add_argument("--seed", help="what all that is drawn depends on (default: drawn)")
    parser.add_argument(
        "--deadline", type=float, default=30.0, metavar="SECONDS",
        help="somebody hangs when no message was put or got for so long (30)",
    )  # fmt: skip
    parser.add_argument(
        "--aim", type=float, default=0.05, metavar="SECONDS",
        help="workers are stopped for so long to find one that holds a lock (0.05)",
    )  # fmt: skip
    parser.add_argument(
        "--candidate", default="fastipc", metavar="MODULE",
        help="a package with multiprocessing's interface (fastipc)",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the results there")
    parser.add_argument("--list", action="store_true", help="print the names and exit")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def command_of(options: argparse.Namespace, name: str, seconds: float, seed: str) -> list[str]:
    """Return the command line of the process that storms one scenario."""
    return [
        sys.executable, "-X", "faulthandler", "-m", "tests.storm", "--one", name,
        "--seconds", str(seconds), "--round", str(options.round), "--seed", seed,
        "--deadline", str(options.deadline), "--aim", str(options.aim),
        "--candidate", options.candidate,
    ]  # fmt: skip


def command_line(options: argparse.Namespace, seed: str) -> str:
    """Return what repeats a run, as far as timing allows."""
    chosen = [f"--scenario {name}" for name in options.scenario or ()]
    words = [*chosen, f"--seconds {options.seconds:g}", f"--seed {seed}"]
    for name, usual in (
        ("round", 8.0), ("jobs", 1), ("deadline", 30.0), ("aim", 0.05), ("candidate", "fastipc"),
    ):  # fmt: skip
        value = getattr(options, name)
        if value != usual:
            words.append(f"--{name} {value}")
    return " ".join(["python -m tests.storm", *words])


def storm_apart(options: argparse.Namespace, name: str, seconds: float, seed: str) -> Any:
    """Storm one scenario in a process of its own, which may hang or crash."""
    began = time.monotonic()
    # Each round may take its deadline in the storm, in the calm and at rest.
    patience = seconds * 3 + options.deadline * 3 + GRACE_S
    command = command_of(options, name, seconds, seed)
    row = dict.fromkeys(COLUMNS, 0) | {"scenario": name}
    try:
        result = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=patience, check=False
        )
    except subprocess.TimeoutExpired:
        failures = [f"it did not end within {patience:g} s"]
    else:
        try:
            return json.loads(result.stdout)
        except ValueError:
            failures = [
                f"its process ended with {result.returncode}: {result.stdout[-2000:]}"
                f"{result.stderr[-8000:]}"
            ]
    row["seconds"] = round(time.monotonic() - began, 1)
    row["failures"] = len(failures)
    return {"row": row, "failures": failures}


def print_row(row: dict[str, Any]) -> None:
    cells = [f"{row['scenario']:<24}"]
    cells += [f"{row[name]:>{len(head) + 2}}" for name, head in PRINTED.items()]
    print("".join(cells), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    if options.list:
        print("\n".join(SCENARIOS))
        return 0
    seed = options.seed or str(random.SystemRandom().randrange(10**6))
    if options.one:
        from .one import storm_here

        print(json.dumps(storm_here(options, options.one, seed)))
        return 0
    names = options.scenario or list(SCENARIOS)
    share = options.seconds / len(names) * options.jobs
    began = time.monotonic()
    print(f"seed {seed}, {share:.1f} s of storm a scenario", flush=True)
    print(f"{'scenario':<24}" + "".join(f"  {head}" for head in PRINTED.values()), flush=True)
    rows, failures = [], []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for found in pool.map(lambda name: storm_apart(options, name, share, seed), names):
            rows.append(found["row"])
            print_row(found["row"])
            for failure in found["failures"]:
                failures.append(f"{found['row']['scenario']}: {failure}")
                print("    " + failure.replace("\n", "\n        "), flush=True)
    for failure in happened.missing_from(rows, options.seconds):
        failures.append(failure)
        print("    " + failure, flush=True)
    seconds = round(time.monotonic() - began, 1)
    killed = sum(row["killed"] for row in rows)
    put = sum(row["messages put"] for row in rows)
    print(f"{killed} kills, {put} messages, {len(failures)} failures in {seconds:.0f} s")
    if options.json:
        kept = {
            "name": "storm",
            "command": command_line(options, seed),
            "seconds": seconds,
            "seed": seed,
            "rows": rows,
            "failures": failures,
        }
        options.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
