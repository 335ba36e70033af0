"""Runs a program in a session of its own, so that all of its processes end with it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any


def run_alone(command: Sequence[str], limit: float, **options: Any) -> tuple[int, str, str]:
    """Run a command for at most `limit` seconds; return its exit code and what it printed.

    options: of subprocess.Popen. Raises subprocess.TimeoutExpired once the time is over and the
    command's processes have been killed; OSError if it cannot be started.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    ) as process:
        try:
            out, err = process.communicate(timeout=limit)
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, out, err
