"""The command line of the own-suite run: `python -m tests.cpython`, in the repository's root."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.cpython import interpreters, report, selection
from tests.cpython.supervise import WATCHDOG_SECONDS, Job, Run, run


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.cpython",
        description="Run CPython's own queue, connection, pool and executor tests on fastipc.",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--python", nargs="+", metavar="PATH", help="interpreters to use (default: the running one)"
    )
    which.add_argument(
        "--all-pythons", action="store_true", help="each Python 3.10 to 3.13 on PATH and in pyenv"
    )
    parser.add_argument(
        "--target",
        default="fastipc",
        metavar="MODULE",
        help="what stands in for multiprocessing; `multiprocessing` checks this runner",
    )
    parser.add_argument(
        "--method", nargs="+", choices=selection.METHODS, default=list(selection.METHODS)
    )
    parser.add_argument("-k", default="", metavar="TEXT", help="only tests whose name has TEXT")
    parser.add_argument(
        "--built", metavar="DIR", help="import fastipc from here, in each interpreter; no building"
    )
    parser.add_argument(
        "--venvs", type=Path, metavar="DIR", help="keep environments here (default: a fresh folder)"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes at a time (default: 2)")
    parser.add_argument(
        "--watchdog", type=float, default=WATCHDOG_SECONDS, metavar="S", help="limit of one test"
    )
    parser.add_argument(
        "--update", action="store_true", help="raise the kept counts to those of this run"
    )
    return parser.parse_args()


def _interpreters(options: argparse.Namespace) -> list[interpreters.Interpreter]:
    if options.all_pythons:
        return interpreters.find_all()
    if not options.python:
        return [interpreters.running()]
    found = [(path, interpreters.describe(path)) for path in options.python]
    for path, one in found:
        if one is None:
            sys.exit(f"{path} is not a working Python")
    return [one for _, one in found if one is not None]


def _jobs(options: argparse.Namespace, venvs: Path) -> list[Job]:
    """Return what is to be run, with a fastipc for every interpreter that has the suite."""
    jobs = []
    for one in _interpreters(options):
        if not one.has_suite:
            print(f"CPython {one.version}: absent, it has no {selection.MULTIPROCESSING}")
            continue
        first_on_path = options.built
        if options.target == "fastipc" and not options.built:
            if one.base != interpreters.running().base:
                print(f"CPython {one.version}: building fastipc", flush=True)
                one = interpreters.install_fastipc(one, venvs)
                first_on_path = one.packages
            else:
                first_on_path = interpreters.packages_with_fastipc(one)
        jobs += [
            Job(one.path, method, options.target, first_on_path, options.k, options.watchdog)
            for method in options.method
        ]
    return jobs


def main() -> int:
    """Run, print, judge; return the exit status."""
    options = _arguments()
    runs: list[Run] = []
    with tempfile.TemporaryDirectory(prefix="own-suite-venvs-") as folder:
        for job in _jobs(options, options.venvs or Path(folder)):
            runs.append(run(job, options.workers))
            print(report.show(runs[-1]), flush=True)
    if not runs:
        print("no interpreter has CPython's own tests")
        return 1
    if options.k:
        problems = [
            p for done in runs for p in [*done.with_outcome("failed"), *done.trouble_lines()]
        ]
    else:
        expected = report.load_expected()
        problems = report.judge(runs, every_python=options.all_pythons, expected=expected)
    for problem in problems:
        print(f"FAILED: {problem}")
    if problems:
        return 1
    if options.update and not options.k:
        report.raise_expected(runs)
        print(f"raised {report.EXPECTED.name}")
    print("all passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
