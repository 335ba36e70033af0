"""What the models of docs/model say about themselves: their runs and their steps."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.support import ROOT

FOLDER = ROOT / "docs" / "model"
RUN = re.compile(r"^ \* (run|broken) ([a-z-]+):((?: -D\w+(?:=\w+)?)*)(?: -> (.+))?$", re.M)
LABEL = re.compile(r"(?<![\w?])([a-z]+(?:_[a-z0-9]+)+)\s*:(?![:=])")


@dataclass(frozen=True)
class Run:
    """One search: what is defined, and the error that it must find, or none."""

    name: str
    defines: tuple[str, ...]
    error: str | None

    @property
    def is_fair(self) -> bool:
        """It searches for cycles in which the formula of the model never comes true."""
        return "-DENDS" in self.defines


class Model:
    """One file of docs/model."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.stem
        self.text = path.read_text()

    @cached_property
    def runs(self) -> list[Run]:
        return [
            Run(name, tuple(defines.split()), error or None)
            for _, name, defines, error in RUN.findall(self.text)
        ]

    def lines_of(self, run: Run) -> dict[tuple[str, int], str]:
        """The lines that a run consists of, as the preprocessor leaves them."""
        command = ["gcc", "-E", "-x", "c", *run.defines, self.path.name]
        done = subprocess.run(
            command, cwd=FOLDER, capture_output=True, text=True, timeout=60, check=True
        )
        kept: dict[tuple[str, int], str] = {}
        file, number = "", 0
        for line in done.stdout.splitlines():
            marker = re.match(r'# (\d+) "([^"]+)"', line)
            if marker:
                number, file = int(marker[1]), Path(marker[2]).name
                continue
            if line.strip():
                kept[file, number] = kept.get((file, number), "") + line
            number += 1
        return kept

    @cached_property
    def labels(self) -> set[str]:
        """The labels of steps: all that have an underscore and are not spin's own `end_`."""
        found: set[str] = set()
        for run in self.runs:
            if run.error is None:
                found.update(LABEL.findall("\n".join(self.lines_of(run).values())))
        return {label for label in found if not label.startswith("end_")}

    @property
    def steps(self) -> set[str]:
        """The names of the steps, as in PROTOCOL.md. A number tells two places apart."""
        return {re.sub(r"_\d+$", "", label).replace("_", "-") for label in self.labels}


def all_models() -> list[Model]:
    return [Model(path) for path in sorted(FOLDER.glob("*.pml"))]
