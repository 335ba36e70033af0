"""Runs the measured program under a tool of the system."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.alone import run_alone

ROOT = Path(__file__).resolve().parent.parent.parent


class ToolError(Exception):
    """There are no counts; the text says why, and what to do about it."""


def run_tool(tool: list[str], arguments: list[str], limit: float) -> str:
    """Run `benchmarks.costs.program` under `tool`, for at most `limit` seconds.

    Returns what the program printed. Raises ToolError: the tool is missing, it or the program
    failed, or the time was over.
    """
    if shutil.which(tool[0]) is None:
        raise ToolError(
            f"there is no {tool[0]}: install it (on Debian and Ubuntu: sudo apt install {tool[0]})"
        )
    command = [*tool, sys.executable, "-m", "benchmarks.costs.program", *arguments]
    # The same hashes in each run: how long a look into a dict takes depends on them.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    try:
        code, out, err = run_alone(command, limit, cwd=ROOT, env=environment)
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{tool[0]} did not end in {limit:.0f} s") from error
    if code != 0:
        raise ToolError(f"{tool[0]} ended with {code}: {err.strip()[-2000:]}")
    return out
