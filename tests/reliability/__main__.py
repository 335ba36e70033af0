"""Runs what shows the promise of docs/reliability.md, and makes that page's figures.

    python -m tests.reliability run                  everything in full; hours
    python -m tests.reliability run --short          a sample of each; half an hour
    python -m tests.reliability run --only crash,storm
    python -m tests.reliability page FOLDER...       keep the results and write the page
    python -m tests.reliability page                 write it of what is kept

A run leaves each tool's log and JSON in build/reliability, or in the folder given with --out. A
process or a name in /dev/shm that a tool has left is a failure of it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from benchmarks.page import PageError
from fastipc._bench import environment
from tests.support import ROOT

from . import page
from .tools import TOOLS, Tool, rows_of_c_tests, with_seed

OUT = ROOT / "build" / "reliability"


def _run_and_look_around(
    words: Sequence[str], report: Path, output: IO[str]
) -> tuple[int, list[str]]:
    """Runs a command; returns its exit code and what it has left behind."""
    report.unlink(missing_ok=True)
    around = subprocess.run(
        [sys.executable, "-m", "tests.reliability.around", str(report), *words],
        cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    try:
        found = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        code = around.returncode or 1
        return code, [f"nobody could look at what it has left: {error}; ended with {code}"]
    report.unlink()
    return found["exit"], found["left"]


def run_tool(tool: Tool, short: bool, folder: Path) -> dict[str, Any]:
    """Runs a tool to its end; returns what it has kept, with when, where and how it ended."""
    kept, log = folder / f"{tool.name}.json", folder / f"{tool.name}.log"
    before = environment.describe([])
    started = time.monotonic()
    with open(log, "w", encoding="utf-8") as output:
        code, left = _run_and_look_around(
            tool.words(short, kept), folder / f"{tool.name}.left", output
        )
    seconds = round(time.monotonic() - started, 1)
    text = log.read_text(encoding="utf-8", errors="replace")
    if tool.writes_json:
        try:
            found = json.loads(kept.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            found = {"rows": [], "failures": [f"it has kept nothing: {error}; see {log.name}"]}
    else:
        rows, failures = rows_of_c_tests(text)
        found = {"rows": rows, "failures": failures}
    if code and not found["failures"]:
        found["failures"] = [f"it ended with {code}: {text.strip()[-500:]}"]
    found["failures"] = [*found["failures"], *left]
    # A run that was broken off and went on knows better how long it took in all.
    found = {
        **found,
        "name": tool.name,
        "command": with_seed(tool.command(short), found),
        "seconds": max(seconds, float(found.get("seconds", 0))),
        "date": before["date"],
        "commit": before["commit"],
        "where": environment.caption(before),
        "exit": code,
        "left": left,
    }
    kept.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def run(options: argparse.Namespace) -> int:
    """Runs the tools, one after the other; 1 if one found a failure or is not there."""
    known = {tool.name: tool for tool in TOOLS}
    names = options.only.split(",") if options.only else list(known)
    options.out.mkdir(parents=True, exist_ok=True)
    failed = False
    for name in names:
        tool = known[name]
        if not tool.is_there():
            print(f"{name:<12} is not there: no {tool.needs}", flush=True)
            failed = True
            continue
        print(f"{name:<12} {tool.command(options.short)}", flush=True)
        found = run_tool(tool, options.short, options.out)
        failed = failed or bool(found["failures"])
        print(
            f"{'':<12} {found['seconds']:.0f} s, {len(found['rows'])} rows, "
            f"{len(found['failures'])} failures",
            flush=True,
        )
    print(f"results: {options.out}; python -m tests.reliability page {options.out}")
    return int(failed)


def make_page(options: argparse.Namespace) -> int:
    """Keeps the results of the folders, if any are given, and writes the page."""
    try:
        for folder in options.folders:
            names = page.keep([folder])
            if not names:
                print(f"no results in {folder}", file=sys.stderr)
                return 1
            print(f"{folder}: {', '.join(names)}")
        page.write()
    except (OSError, ValueError, KeyError, PageError) as error:
        print(f"python -m tests.reliability page: {error}", file=sys.stderr)
        return 1
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.reliability",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="what", required=True)
    runs = commands.add_parser("run", help="run the tools")
    runs.add_argument("--short", action="store_true", help="a sample of each")
    runs.add_argument("--only", metavar="NAME,...", help=", ".join(tool.name for tool in TOOLS))
    runs.add_argument("--out", type=Path, default=OUT, help="where results and logs go")
    pages = commands.add_parser("page", help="write docs/reliability.md's figures")
    pages.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    options = parser.parse_args(arguments)
    if options.what == "run" and options.only:
        unknown = sorted(set(options.only.split(",")) - {tool.name for tool in TOOLS})
        if unknown:
            parser.error(f"no such tool: {', '.join(unknown)}")
    return run(options) if options.what == "run" else make_page(options)


if __name__ == "__main__":
    sys.exit(main())
