"""``python -m fastipc demo [FOLDER]``: a real job, done by multiprocessing and by fastipc.

Every regular file under a folder goes through worker processes and back: paths out by a
JoinableQueue, contents and their SHA-256 by a Queue, a summary by request and response over a
Pipe. Owns the command: its arguments, the order of the runs, and the table. The job itself is in
`_demo_job`, the files are in `_demo_files`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sysconfig
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from fastipc._command import fail, positive
from fastipc._demo_files import Contents, Skipped, scan
from fastipc._demo_job import JobResult, run_job
from fastipc._demo_workers import JobError
from fastipc._progress import Progress

Library = tuple[str, Any]
"""A name to show, and the module: multiprocessing, or one that can stand in for it."""

MODES = {"with hashing": True, "pure transport": False}


@dataclass(frozen=True)
class Measure:
    """A line of the table."""

    label: str
    of: Callable[[JobResult], float]
    more_is_better: bool
    digits: int


MEASURES = (
    Measure("items/s", lambda result: result.item_count / result.seconds, True, 0),
    Measure("MB/s", lambda result: result.byte_count / 1e6 / result.seconds, True, 0),
    Measure("CPU seconds", lambda result: result.cpu_seconds, False, 2),
)

# What all workers together may hold of the files before a run of pure transport.
HOLD_BYTES_MOST = 1024**3
HOLD_PART_OF_MEMORY = 16

# How many of the paths that were skipped are named without --verbose.
SKIPPED_SHOWN = 5


@dataclass
class Comparison:
    """The results of all runs, by mode and by library."""

    results: dict[tuple[str, str], list[JobResult]] = field(default_factory=dict)
    changed: set[Skipped] = field(default_factory=set)

    def add(self, mode: str, library: str, result: JobResult) -> None:
        """Keep the result of one run."""
        self.results.setdefault((mode, library), []).append(result)
        self.changed.update(result.changed)


def add_command(commands: Any) -> None:
    """Add the command and its arguments to the parser of ``python -m fastipc``."""
    parser = commands.add_parser(
        "demo",
        help="send a folder's files through worker processes, by multiprocessing and by fastipc",
        description=(
            "Send every regular file under FOLDER through worker processes and back, by "
            "multiprocessing and by fastipc in turn, check every digest, and compare."
        ),
        epilog=(
            "exit status: 0 all digests agree; 1 they do not, or a run failed; 2 nothing can be "
            "sent from FOLDER; 130 interrupted"
        ),
    )
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        help="default: the standard library of this Python, without installed packages",
    )
    parser.add_argument(
        "--start-method",
        choices=multiprocessing.get_all_start_methods(),
        help="how the workers are started (default: this Python's own)",
    )
    parser.add_argument(
        "--workers",
        type=positive,
        default=min(4, len(os.sched_getaffinity(0))),
        help="worker processes (default: one for each CPU, at most 4: %(default)s)",
    )
    parser.add_argument(
        "--rounds",
        type=positive,
        default=3,
        help="runs of each library in each mode (default: %(default)s)",
    )
    parser.add_argument(
        "--plain", action="store_true", help="no progress bar, even where there is a terminal"
    )
    parser.add_argument("--verbose", action="store_true", help="name every path that was skipped")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, libraries: Sequence[Library] | None = None) -> int:
    """Run the command; the result is its exit status."""
    folder = options.folder if options.folder is not None else sysconfig.get_path("stdlib")
    leave_out: frozenset[str] = frozenset()
    if options.folder is None:
        leave_out = frozenset({"site-packages", "dist-packages"})
    with Progress(plain=options.plain) as progress:
        progress.start("reading the files", None)
        try:
            contents = scan(folder, leave_out=leave_out, on_file=progress.advance)
        except OSError as error:
            return fail("demo", 2, f"cannot list {_printable(folder)}: {error.strerror}")
        found = f"{contents.file_count:,} files, {contents.byte_count / 1e6:,.1f} MB"
        progress.finish(f"{found} under {_printable(contents.folder)}")
        if not contents.pieces:
            _report_skipped(contents.skipped, options.verbose)
            return fail("demo", 2, f"no regular file can be read under {_printable(folder)}")
        try:
            comparison = compare(libraries or _libraries(), contents, options, progress)
        except JobError as error:
            return fail("demo", 1, str(error))
    _report(comparison, contents, options)
    return 0


def compare(
    libraries: Sequence[Library],
    contents: Contents,
    options: argparse.Namespace,
    progress: Progress,
) -> Comparison:
    """Run the job with each library in each mode, in alternating order. Raises JobError."""
    comparison = Comparison()
    hold_bytes = _memory_to_hold() // options.workers
    for mode, hashing in MODES.items():
        for number in range(options.rounds):
            for name, module in libraries if number % 2 == 0 else reversed(libraries):
                title = f"{mode}, round {number + 1} of {options.rounds}: {name}"
                progress.start(title, len(contents.pieces))
                try:
                    result = run_job(
                        module,
                        contents.pieces,
                        start_method=options.start_method,
                        worker_count=options.workers,
                        hashing=hashing,
                        hold_bytes=hold_bytes,
                        on_item=progress.advance,
                    )
                except JobError as error:
                    raise JobError(f"{title}: {error}") from error
                progress.finish(f"{title}: {result.seconds:.2f} s")
                comparison.add(mode, name, result)
    return comparison


def _libraries() -> list[Library]:
    import fastipc

    return [("multiprocessing", multiprocessing), ("fastipc", fastipc)]


def _memory_to_hold() -> int:
    available = 0
    with open("/proc/meminfo", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1]) * 1024
    return min(HOLD_BYTES_MOST, available // HOLD_PART_OF_MEMORY)


def _report(comparison: Comparison, contents: Contents, options: argparse.Namespace) -> None:
    (_, old), (_, new) = list(comparison.results)[:2]
    transport = comparison.results["pure transport", new][0]
    method = options.start_method or multiprocessing.get_start_method()
    print(
        f"\nworkers: {options.workers}, start method {method}, "
        f"rounds each: {options.rounds}; medians\n"
    )
    print(f"{'':22}{old:>16}{new:>16}{'ratio':>9}")
    for mode in MODES:
        print(mode)
        for measure in MEASURES:
            left, right = (
                median(measure.of(result) for result in comparison.results[mode, name])
                for name in (old, new)
            )
            ratio = right / left if measure.more_is_better else left / right
            texts = (f"{value:,.{measure.digits}f}" for value in (left, right))
            print("  {:20}{:>16}{:>16}{:8.2f}x".format(measure.label, *texts, ratio))
    print("\nratio: above 1, fastipc is faster, or needs less CPU time (parent and workers)")
    print("with hashing: workers read and hash each file, the parent hashes what arrives")
    print(
        f"pure transport: no hashing; {transport.held_count:,} of {transport.item_count:,} items "
        "are in the workers' memory before the clock runs"
    )
    agreed = contents.file_count - len({each.path for each in comparison.changed})
    print(f"digests agree: {agreed:,} of {contents.file_count:,} files, in every round")
    _report_skipped([*contents.skipped, *sorted(comparison.changed)], options.verbose)


def _report_skipped(skipped: Sequence[Skipped], verbose: bool) -> None:
    if not skipped:
        print("skipped: nothing")
        return
    counts = Counter(each.reason for each in skipped)
    reasons = "; ".join(f"{reason}: {count:,}" for reason, count in counts.most_common())
    print(f"skipped: {len(skipped):,} ({reasons})")
    shown = skipped if verbose else skipped[:SKIPPED_SHOWN]
    for path, reason in shown:
        print(f"  {_printable(path)}: {reason}")
    if len(shown) < len(skipped):
        print(f"  and {len(skipped) - len(shown):,} more (--verbose names them all)")


def _printable(path: str) -> str:
    """Return the path with whatever a terminal cannot show, or would obey, escaped."""
    return path if path.isprintable() else ascii(path)[1:-1]
