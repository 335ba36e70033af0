"""Runs spin on one model and judges what it says."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.model.models import FOLDER, Model, Run

# What a search may take: more is a mistake in the model's size.
MOST_MIB = 2500
MOST_STEPS = 1_000_000
MOST_SECONDS = 180
UNREACHED = re.compile(r'^\t(\S+):(\d+), state \d+, "(.*)"$', re.M)
# A search that ends early, whatever it has found so far, shows nothing.
CUT_SHORT = (
    "Search not completed",
    "max search depth too small",
    "MEMLIM",
    "out of memory",
    "Bit statespace search",
    "Hash-Compact",
)


@dataclass
class Result:
    """What a search came to."""

    output: str
    trail: str
    seconds: float

    @property
    def states(self) -> int:
        found = re.search(r"^\s*(\d+|\d\S*e\+\d+) states, stored", self.output, re.M)
        return int(float(found[1])) if found else 0

    @property
    def mib(self) -> int:
        found = re.search(r"^\s*([\d.]+)\ttotal actual memory usage", self.output, re.M)
        return int(float(found[1])) if found else 0

    @property
    def error(self) -> str | None:
        found = re.search(r"^pan:1: (.+?)(?: \(at depth \d+\))?$", self.output, re.M)
        return found[1] if found else None

    @property
    def unreached(self) -> set[tuple[str, int, str]]:
        return {
            (Path(file).name, int(line), text)
            for file, line, text in UNREACHED.findall(self.output)
            if text != "-end-"
        }


def search(model: Model, run: Run, folder: Path) -> Result:
    """Searches all states; files are left in `folder`, which must be empty."""
    for path in [model.path, *FOLDER.glob("*.inc")]:
        shutil.copy(path, folder)
    _call(["spin", "-a", *run.defines, model.path.name], folder)
    kind = ["-DNFAIR=3"] if run.is_fair else ["-DSAFETY"]
    _call(
        ["gcc", "-O2", "-w", "-DCOLLAPSE", f"-DMEMLIM={MOST_MIB}", *kind, "-o", "pan", "pan.c"],
        folder,
    )
    began = time.monotonic()
    searches = ["./pan", f"-m{MOST_STEPS}", "-w22", *(["-a", "-f"] if run.is_fair else [])]
    output = _call(searches, folder)
    seconds = time.monotonic() - began
    trail = ""
    if (folder / f"{model.path.name}.trail").exists():
        trail = _call(["spin", "-t", "-p", "-g", "-l", *run.defines, model.path.name], folder)
    return Result(output, trail, seconds)


def _call(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=MOST_SECONDS,
        check=False,
    )
    if done.returncode != 0 or "syntax error" in done.stdout or "placed incorrectly" in done.stdout:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def complaint(run: Run, result: Result) -> str | None:
    """Why the result is not what the model says of this run; None if it is."""
    if run.error is not None:
        if result.error is None:
            return f"is broken on purpose, and no error was found (expected: {run.error})"
        if not result.error.startswith(run.error):
            return f"found {result.error!r}, expected {run.error!r}"
        return None
    if result.error is not None:
        return f"found {result.error!r}"
    if not re.search(r"^State-vector .* errors: 0$", result.output, re.M):
        return "did not end with a count of errors"
    for words in CUT_SHORT:
        if words in result.output:
            return f"did not search all states: {words}"
    wanted = ["assertion violations\t+", "Full statespace search"]
    wanted.append(
        "acceptance   cycles \t+ (fairness enabled)" if run.is_fair else "invalid end states\t+"
    )
    for words in wanted:
        if words not in result.output:
            return f"did not look for everything: there is no {words!r} in its output"
    return None


def never_reached(model: Model, results: dict[Run, Result]) -> list[str]:
    """Statements that no run reaches: they show nothing. A line may say "not reached: why"."""
    missed = set().union(*(result.unreached for result in results.values()))
    for run, result in results.items():
        lines = model.lines_of(run)
        missed = {place for place in missed if place[:2] not in lines or place in result.unreached}
    texts = {path.name: path.read_text().splitlines() for path in FOLDER.iterdir()}
    return [
        f"{file}:{line}: {text}"
        for file, line, text in sorted(missed)
        if "not reached: " not in texts.get(file, [""] * line)[line - 1]
    ]
