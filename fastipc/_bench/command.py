"""``python -m fastipc bench [CASE...]``: a short comparison with whatever else could do the job.

Owns the command: its arguments, which cases the short version has, and what is printed. How
things are measured is the business of `measure`; whether marks are met is `benchmarks.check`'s in
the repository. Cheap to import: the measurements are loaded when the command runs.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastipc._command import fail, positive

if TYPE_CHECKING:
    from fastipc._bench.measure import Settings
    from fastipc._bench.results import Results

CANDIDATE = "fastipc"
BASE = "multiprocessing"

SHORT = (
    "queue-int",
    "queue-tuple",
    "queue-dict5",
    "queue-dataclass",
    "queue-64B",
    "queue-16KiB",
    "queue-4MiB",
    "queue-int-4to4",
    "queue-int-roundtrip",
    "queue-many-100",
    "pipe-64B-throughput",
    "pipe-64B-roundtrip",
    "pipe-1MiB-into",
    "numpy-1MiB",
    "queue-create-close",
)
QUICK = ("queue-int", "queue-64B", "pipe-64B-throughput", "pipe-64B-roundtrip", "numpy-1MiB")

SECONDS = 0.2
QUICK_SECONDS = 0.02


class UsageError(Exception):
    """An argument cannot be used; the text says which and why."""


def add_command(commands: Any) -> None:
    """Add the command and its arguments to the parser of ``python -m fastipc``."""
    parser = commands.add_parser(
        "bench",
        help="measure fastipc, multiprocessing and other libraries beside each other",
        description=(
            "Measure fastipc beside multiprocessing and every other library for the same job that "
            "is installed. Takes one to two minutes; close what else keeps the machine busy."
        ),
        epilog=(
            "exit status: 0 fastipc did every case; 1 it failed, or results could not be kept; "
            "2 an argument cannot be used; 130 interrupted"
        ),
    )
    parser.add_argument(
        "cases", metavar="CASE", nargs="*", help="what to measure (default: some; see --list)"
    )
    parser.add_argument("--list", action="store_true", help="name all cases and do nothing else")
    parser.add_argument(
        "--quick", action="store_true", help="fewer cases, and shorter ones: about 20 seconds"
    )
    parser.add_argument(
        "--peers",
        metavar="NAME,...",
        help="whom to compare with (default: all that are installed)",
    )
    parser.add_argument(
        "--rounds",
        type=positive,
        default=1,
        help="measure everything so often, and show medians (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds",
        type=_seconds,
        help=f"how long a measurement lasts, after its warm-up (default: {SECONDS})",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="keep all results there")
    parser.add_argument(
        "--plot", metavar="FILE", type=Path, help="draw them, as .svg or .png (needs matplotlib)"
    )
    parser.add_argument(
        "--plain", action="store_true", help="no progress bar, even where there is a terminal"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; the result is its exit status."""
    from fastipc._bench import environment, plot, results as kept_results
    from fastipc._bench.cases import CASES
    from fastipc._bench.measure import Settings

    if options.list:
        width = max(map(len, CASES))
        for name, each in CASES.items():
            print(f"{name:{width}}  {each.summary} [{each.unit}]")
        return 0
    try:
        cases = _chosen_cases(options, CASES)
        peers = _chosen_peers(options)
        for path in (options.json, options.plot):
            _check_file(path)
        if options.plot is not None:
            plot.check(options.plot)
    except (UsageError, plot.PlotError) as error:
        return fail("bench", 2, str(error))
    settings = Settings(
        seconds=options.seconds or (QUICK_SECONDS if options.quick else SECONDS),
        lap_timeout_seconds=20,
    )
    results, absent = _measure(cases, peers, options, settings)
    where = environment.describe([CANDIDATE, BASE, *(peer for peer in peers if peer not in absent)])
    caption = environment.caption(where)
    print(caption)
    kept_results.print_results(results, CANDIDATE)
    if absent:
        print(f"absent, as they are not installed: {', '.join(absent)}")
    print(f"{CANDIDATE} leads: above 1x it is better than {BASE}; units with /s: more is better")
    try:
        if options.json is not None:
            used = {**asdict(settings), "rounds": options.rounds, "candidate": CANDIDATE}
            kept_results.write(options.json, kept_results.document(results, where, used))
        if options.plot is not None:
            plot.draw(options.plot, results, CANDIDATE, caption)
    except (OSError, plot.PlotError) as error:
        return fail("bench", 1, f"the results cannot be kept: {error}")
    # Without NumPy, nobody has a number for arrays.
    return 0 if all(results.problem(case, CANDIDATE) in (None, "absent") for case in cases) else 1


def _measure(
    cases: Sequence[str], peers: Sequence[str], options: argparse.Namespace, settings: Settings
) -> tuple[Results, list[str]]:
    """Measure all; returns the results, and who cannot be imported."""
    from fastipc._bench.adapters import ADAPTERS
    from fastipc._bench.results import Results
    from fastipc._progress import Progress

    # Looked for, and not imported: what others do when they are imported stays in the drivers.
    absent = [peer for peer in peers if find_spec(ADAPTERS[peer].module.partition(".")[0]) is None]
    names = [BASE, CANDIDATE, *(peer for peer in peers if peer not in absent)]
    results = Results()
    with Progress(plain=options.plain) as progress:
        for number in range(options.rounds):
            for index, case in enumerate(cases, 1):
                title = f"{case} ({index} of {len(cases)})"
                if options.rounds > 1:
                    title += f", round {number + 1} of {options.rounds}"
                progress.start(title, len(names))
                for name in reversed(names) if number % 2 else names:
                    results.take(case, name, settings)
                    progress.advance()
                ours, theirs = (results.cell(case, name) for name in (CANDIDATE, BASE))
                progress.finish(f"{title}: {CANDIDATE} {ours}, {BASE} {theirs}")
    return results, absent


def _chosen_cases(options: argparse.Namespace, known: Any) -> list[str]:
    wanted = list(dict.fromkeys(options.cases)) or list(QUICK if options.quick else SHORT)
    for name in wanted:
        if name not in known:
            raise UsageError(f"there is no case {name!r}: --list names all of them")
    return wanted


def _chosen_peers(options: argparse.Namespace) -> list[str]:
    from fastipc._bench.adapters import ADAPTERS

    if options.peers is None:
        return list(ADAPTERS)
    wanted = [name for name in dict.fromkeys(options.peers.split(",")) if name]
    for name in wanted:
        if name not in ADAPTERS and name not in (CANDIDATE, BASE):
            raise UsageError(f"--peers: there is no {name!r}: choose from {', '.join(ADAPTERS)}")
    return [name for name in wanted if name in ADAPTERS]


def _check_file(path: Path | None) -> None:
    """Find out before the measurements that what they give can be kept."""
    if path is None:
        return
    folder = path.parent
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a file")
    if not folder.is_dir():
        raise UsageError(f"{path} cannot be written: there is no folder {folder}")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise UsageError(f"{path} cannot be written: permission denied")


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number <= 60:
        raise argparse.ArgumentTypeError("must be above 0 and at most 60")
    return number
