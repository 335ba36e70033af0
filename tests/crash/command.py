"""Runs `python -m tests.crash` as the tests do, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*operations_and_options: str, timeout: float, root: Path = ROOT) -> list[dict[str, Any]]:
    """Returns one tally for each operation named before the first option."""
    words = list(operations_and_options)
    names = [word for word in words if not word.startswith("-")]
    if any(word.startswith("-") for word in words):
        first_option = next(i for i, word in enumerate(words) if word.startswith("-"))
        names, words = words[:first_option], words[first_option:]
    else:
        words = []
    arguments = [part for name in names for part in ("--operation", name)]
    # What the tool starts ends with it, also when the timeout kills it.
    result = subprocess.run(
        [sys.executable, "-m", "tests.crash", "--lines", *arguments, *words],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if result.returncode == 2:
        pytest.skip(result.stderr.strip())
    assert result.returncode in (0, 1), result.stderr
    tallies = [json.loads(line) for line in result.stdout.splitlines()]
    assert [tally["name"] for tally in tallies] == names, result.stderr
    assert result.returncode == int(any(tally["failures"] for tally in tallies)), result.stderr
    return tallies
