"""`python -m tests.crash`: kills operations at chosen instructions and prints what was left.

Exit code 0: every kill left the state before or after. 1: a failure, or too few points.
2: the tool cannot run here.

The full run (`--full --json FILE`) kills each operation at every instruction inside the extension,
then at every instruction of libc that is called from there. It takes hours; broken off and started
again with the same FILE, the same build and the same tool, it goes on with what is not done yet.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from .harness import (
    INSIDE,
    LIBC,
    Laboratory,
    Tally,
    count_instructions,
    plan,
    run_operation,
    run_targets,
)
from .operation import Operation, Violation
from .processes import Child, ChildFailure, flush_before_fork
from .proofs import PROOFS
from .results import Results, fingerprint
from .stepper import UnsupportedError, evenly_spaced, libc_ranges

_COLUMNS = (
    ("operation", 40), ("part", 8), ("inside", 8), ("libc", 8), ("left out", 9), ("points", 8),
    ("kills", 8), ("syscall", 9), ("asleep", 8), ("before", 8), ("after", 8), ("lost", 7),
    ("missed", 8), ("failures", 10), ("s", 9),
)  # fmt: skip


def _operations() -> dict[str, type[Operation]]:
    from .operations import OPERATIONS  # needs fastipc, which the proofs do not

    return {operation.name: operation for operation in OPERATIONS}


def _points(text: str) -> int | None:
    return None if text == "all" else int(text)


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    return int(index), int(count)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.crash",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--operation", action="append", metavar="NAME", help="only this one (repeatable)"
    )
    parser.add_argument(
        "--points", type=_points, default=160, metavar="N|all", help="kills an operation (160)"
    )
    parser.add_argument("--libc", action="store_true", help="also as many points in libc")
    parser.add_argument("--full", action="store_true", help="all points, libc's too; see above")
    parser.add_argument(
        "--shard", type=_shard, default=(0, 1), metavar="I/N", help="of a full run, each N-th part"
    )
    parser.add_argument(
        "--estimate", action="store_true", help="only count the points, and say how long they take"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument(
        "--deadline", type=float, default=10.0, help="seconds that any process may take"
    )
    parser.add_argument(
        "--stop-after", type=int, default=5, metavar="N", help="failures of each worker"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the results there")
    parser.add_argument("--lines", action="store_true", help="print a JSON object an operation")
    parser.add_argument("--list", action="store_true", help="print the names and exit")
    return parser.parse_args(arguments)


def _print_header() -> None:
    print("".join(f"{name:<{w}}" if w > 30 else f"{name:>{w}}" for name, w in _COLUMNS))


def _print_row(tally: Tally) -> None:
    values = (
        tally.name, tally.part or "sample", tally.total, tally.libc, tally.left_out, tally.points,
        tally.kills, tally.behind_system_calls, tally.asleep, tally.before, tally.after, tally.lost,
        tally.missed, len(tally.failures), f"{tally.seconds:.1f}",
    )  # fmt: skip
    print(
        "".join(
            f"{value:<{w}}" if w > 30 else f"{value:>{w}}"
            for value, (_, w) in zip(values, _COLUMNS, strict=True)
        ),
        flush=True,
    )
    for failure in tally.failures:
        print("    " + failure.replace("\n", "\n        "), flush=True)


def _work(
    options: argparse.Namespace, names: Sequence[str], results: Results
) -> Iterator[tuple[str, int | None, tuple[str, ...]]]:
    """What is to be done: an operation, how many points, of which parts."""
    if not options.full:
        parts = (INSIDE, LIBC) if options.libc else (INSIDE,)
        yield from ((name, options.points, parts) for name in names)
        return
    index, count = options.shard
    everything = [(name, part) for part in (INSIDE, LIBC) for name in names]
    for name, part in everything[index::count]:
        if not results.has(name, part):
            yield name, None, (part,)


def _estimate(known: dict[str, type[Operation]], names: Sequence[str]) -> int:
    """Counts the points of the full run, and kills at a few of them to see what they take."""
    print(f"{'operation':<40}{'inside':>9}{'libc':>9}{'s':>9}")
    sums = [0, 0, 0.0]
    for name in names:

        def measure(name: str = name) -> tuple[int, int, float]:
            laboratory = Laboratory()
            planned = plan(laboratory, known[name], None, (INSIDE, LIBC))
            tally = Tally(name)
            count_instructions(tally, planned)
            few = evenly_spaced(range(len(planned.targets)), 24)
            started = time.monotonic()
            run_targets(
                laboratory, known[name], planned, [planned.targets[i] for i in few], 24,
                is_sample=False,
            )  # fmt: skip
            each = (time.monotonic() - started) / len(few)
            return tally.total, tally.libc, each * tally.points

        flush_before_fork()
        child = Child("the estimate", lambda _, measure=measure: measure())  # type: ignore[misc]
        try:
            inside, libc, seconds = child.report(600)
        except (Violation, ChildFailure) as failure:
            print(f"{name:<40}{failure}")
            continue
        finally:
            child.close()
        print(f"{name:<40}{inside:>9}{libc:>9}{seconds:>9.0f}", flush=True)
        sums = [sums[0] + inside, sums[1] + libc, sums[2] + seconds]
    print(
        f"{'in all':<40}{sums[0]:>9}{sums[1]:>9}{sums[2]:>9.0f}\n"
        f"{sums[2] / 3600:.1f} hours with one worker, by the time that few kills took"
    )
    return 0


def _build() -> str:
    """Tells what is killed, and by whom it is judged, from anything else."""
    folder = Path(__file__).parent
    files = {path for suffix in ("*.py", "*.c") for path in folder.glob(suffix)}
    files = {path for path in files if not path.name.startswith("test_")}
    files |= {Path(part.path) for part in libc_ranges() if part.path.startswith("/")}
    try:
        from fastipc import _core
    except ImportError:
        return fingerprint(files)
    return fingerprint({*files, str(_core.__file__)})


def _command(options: argparse.Namespace, names: Sequence[str]) -> str:
    """How to come by the same results again."""
    words = ["python -m tests.crash"]
    words += [f"--operation {name}" for name in names] if options.operation else []
    words += ["--full"] if options.full else []
    words += [f"--json {options.json}"] if options.json else []
    return " ".join(words)


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
    if options.estimate:
        return _estimate(known, names)
    build = _build() if options.json else ""
    results = Results(options.json, build, _command(options, names), resume=options.full)
    if not options.lines:
        _print_header()
    failed = False
    for name, wanted, parts in _work(options, names, results):
        try:
            tally = run_operation(
                known[name],
                wanted=wanted,
                parts=parts,
                workers=options.workers,
                deadline=options.deadline,
                stop_after=options.stop_after,
            )
        except UnsupportedError as error:
            print(f"unsupported here: {error}", file=sys.stderr)
            return 2
        failed = failed or bool(tally.failures)
        results.add(tally)
        if options.lines:
            print(json.dumps(dataclasses.asdict(tally)), flush=True)
        else:
            _print_row(tally)
    return int(failed)


if __name__ == "__main__":
    if os.environ.get("LD_BIND_NOW") is None:
        # Else a victim's first call of a function of libc leads through the linker, and what
        # comes behind it is not seen to be called from inside.
        os.environ["LD_BIND_NOW"] = "1"
        os.execv(sys.executable, [sys.executable, "-m", "tests.crash", *sys.argv[1:]])
    sys.exit(main())
