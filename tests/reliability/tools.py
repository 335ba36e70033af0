"""The tools of the full run: their commands, and how their results are read.

Owns no tool: those with a command of their own write `--json FILE` themselves; what the C tests
print is read here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import ROOT

PYTHON = "python"  # as the page shows it; it is run by the interpreter that runs this


@dataclass(frozen=True)
class Tool:
    """One command of the full run."""

    name: str
    title: str
    full: str
    short: str
    needs: str = ""  # a folder of tests without which it is not there
    writes_json: bool = True

    def is_there(self) -> bool:
        """Whether this tree has the tool."""
        return not self.needs or (ROOT / self.needs / "__main__.py").exists()

    def command(self, short: bool) -> str:
        """The command as a user would type it, without where it keeps its results."""
        return self.short if short else self.full

    def words(self, short: bool, kept: Path) -> list[str]:
        """The command to run."""
        words = self.command(short).split()
        if words[0] == PYTHON:
            words[0] = sys.executable
        return [*words, "--json", str(kept)] if self.writes_json else words


TOOLS = (
    Tool(
        "crash",
        "Every instruction",
        "python -m tests.crash --full",
        "python -m tests.crash --points 110",
        needs="tests/crash",
    ),
    Tool(
        "namespaces",
        "Equal pids in two PID namespaces",
        "python -m tests.reliability.namespace_kills --points 400",
        "python -m tests.reliability.namespace_kills --points 10",
    ),
    Tool(
        "storm",
        "Storms",
        "python -m tests.storm --seconds 600",
        "python -m tests.storm --seconds 30",
        needs="tests/storm",
    ),
    Tool(
        "model",
        "The models",
        "python -m tests.model",
        "python -m tests.model lock wake",
        needs="tests/model",
    ),
    Tool(
        "orders",
        "Orders",
        "python -m tests.orders",
        "python -m tests.orders",
        needs="tests/orders",
    ),
    Tool(
        "fuzz",
        "Hostile bytes",
        "python -m tests.fuzz",
        "python -m tests.fuzz --seconds 20",
        needs="tests/fuzz",
    ),
    Tool(
        "c",
        "C tests",
        "make -C tests/c check",
        "make -C tests/c check",
        writes_json=False,
    ),
    Tool(
        "c-asan",
        "C tests under AddressSanitizer, with its leak checker, and UndefinedBehaviorSanitizer",
        "make -C tests/c check-asan",
        "make -C tests/c check-asan",
        writes_json=False,
    ),
    Tool(
        "c-tsan",
        "C tests under ThreadSanitizer",
        "make -C tests/c check-tsan",
        "make -C tests/c check-tsan",
        writes_json=False,
    ),
    Tool(
        "leaks",
        "Leaks",
        "python -m tests.reliability.leaks",
        "python -m tests.reliability.leaks --short",
    ),
    Tool(
        "leaks-asan",
        "Leaks, by AddressSanitizer's leak checker",
        "python -m tests.reliability.leaks --asan",
        "python -m tests.reliability.leaks --asan --short",
    ),
)


def with_seed(command: str, found: Mapping[str, Any]) -> str:
    """The command with the seed that the tool has drawn and kept: what repeats the same run."""
    seed = found.get("seed")
    if seed is None or " --seed " in command:
        return command
    return f"{command} --seed {seed}"


def rows_of_c_tests(output: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows and the failures of what tests/c/run_tests.sh prints."""
    rows: list[dict[str, Any]] = []
    failures: list[str] = []
    for line in output.splitlines():
        if match := re.match(r"ok +(\w+) ?(?:\((\d+) cases\))?", line):
            rows.append({"binary": match[1], "cases": int(match[2] or 1), "result": "passed"})
        elif match := re.match(r"FAIL +(\w+) \((.*)\)", line):
            rows.append({"binary": match[1], "cases": "-", "result": "failed"})
            failures.append(f"{match[1]}: {match[2]}")
    return rows, failures
