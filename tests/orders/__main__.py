"""Proves the orders of the barrier pairs of csrc/PROTOCOL.md, each with mutants that lack it.

    python -m tests.orders             all pairs
    python -m tests.orders L W         only these
    python -m tests.orders --json FILE keeps what each run showed

Needs gcc with ThreadSanitizer. Ends with 0 only if no true build failed and each mutant did: see
proofs.py. The litmus tests take both CPUs for some seconds, where that is allowed; with only one
they show nothing, and that is a failure unless --one-cpu says that it is known.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.orders.build import Build
from tests.orders.proofs import LITMUS, RACES, Pair, all_pairs
from tests.orders.runs import Outcome, build_litmus, run_litmus, run_race


def prove(
    pairs: list[Pair], show: Callable[[Outcome], None], may_miss_a_cpu: bool
) -> list[Outcome]:
    """Runs the tests of the pairs: races beside each other, litmus tests one by one behind them."""
    jobs = len(os.sched_getaffinity(0))
    outcomes = []
    with (
        tempfile.TemporaryDirectory(prefix="fastipc-orders.") as folder,
        ThreadPoolExecutor(jobs) as compilers,
        ThreadPoolExecutor(jobs) as runners,
    ):
        build = Build(Path(folder), compilers)
        races = [
            runners.submit(run_race, build, pair.name, label)
            for pair in pairs
            if pair.name in RACES
            for label in (None, *pair.labels)
        ]
        programs = [
            (pair.name, split, runners.submit(build_litmus, build, pair.name, split))
            for pair in pairs
            if pair.name in LITMUS
            for split in (None, *(label for label, _ in LITMUS[pair.name].mutants))
        ]
        try:
            for race in races:
                outcomes.append(race.result())
                show(outcomes[-1])
            built = [(name, split, program.result()) for name, split, program in programs]
        except BaseException:
            runners.shutdown(wait=False, cancel_futures=True)
            compilers.shutdown(wait=False, cancel_futures=True)
            raise
        for name, split, program in built:
            outcomes.append(run_litmus(program, name, split, may_miss_a_cpu))
            show(outcomes[-1])
    return outcomes


def show_line(outcome: Outcome) -> None:
    verdict = "ok" if outcome.wrong is None else "FAILED"
    print(
        f"{outcome.pair}  {outcome.test:7} {outcome.build:15} {verdict:7} {outcome.showed}",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.orders",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pairs", nargs="*", help="letters of PROTOCOL.md's table; all by default")
    parser.add_argument(
        "--one-cpu", action="store_true", help="with one CPU, leave the litmus tests out"
    )
    parser.add_argument("--json", type=Path, help="keep what each run showed in this file")
    arguments = parser.parse_args()
    pairs = {pair.name: pair for pair in all_pairs()}
    unknown = set(arguments.pairs) - set(pairs)
    if unknown:
        parser.error(f"no such pair: {', '.join(sorted(unknown))} (there are: {' '.join(pairs)})")
    began = time.monotonic()
    chosen = [pairs[name] for name in arguments.pairs or pairs]
    outcomes = prove(chosen, show_line, arguments.one_cpu)
    seconds = time.monotonic() - began
    wrong = [f"{o.pair}, {o.test}, {o.build}: {o.wrong}" for o in outcomes if o.wrong is not None]
    for reason in wrong:
        print(reason, file=sys.stderr)
    print(f"{len(outcomes)} runs, {len(wrong)} failed, {seconds:.0f} s")
    if arguments.json is not None:
        kept = {
            "name": "orders",
            "command": " ".join(["python -m tests.orders", *arguments.pairs]),
            "seconds": round(seconds, 1),
            "rows": [
                {
                    "pair": " and ".join(pairs[o.pair].labels),
                    "test": o.test,
                    "build": o.build,
                    "showed": o.showed,
                    "as expected": o.wrong is None,
                }
                for o in outcomes
            ],
            "failures": wrong,
        }
        arguments.json.write_text(json.dumps(kept, indent=1) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
