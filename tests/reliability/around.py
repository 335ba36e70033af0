"""`python -m tests.reliability.around REPORT COMMAND...`: runs a command and looks at what is left
of it: processes, however far they are descended from it, and names in /dev/shm.

What a process holds, such as descriptors, mappings and the memory files of queues, goes with it; of
one that is left, it is counted. Writes the exit code and what was left to REPORT, as JSON, and ends
what was left. Owns no tool, and does not judge.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .leaks import private_dev_shm

_PR_SET_CHILD_SUBREAPER = 36
_SLOW_TO_GO_S = 5.0  # such as multiprocessing's own helpers, which end behind those they help
_WALL = 0x40000000  # traced ones, too


def adopt_orphans() -> None:
    """Makes this process the parent of each descendant whose own parent ends."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) has failed")


def names_in_dev_shm(is_private: bool) -> set[str]:
    """The names; where others make some too, without multiprocessing's semaphores."""
    names = os.listdir("/dev/shm") if os.path.isdir("/dev/shm") else []
    return {name for name in names if is_private or not name.startswith("sem.")}


def run(command: Sequence[str]) -> tuple[int, list[str]]:
    """Runs the command; returns its exit code, and what was left. Only for a process that has no
    other children: it reaps them all."""
    adopt_orphans()
    is_private = private_dev_shm()
    before = names_in_dev_shm(is_private)
    process = subprocess.Popen(command)
    code = None
    while code is None:
        # Orphans are reaped as they end, as process 1 would have done.
        pid, status = os.waitpid(-1, _WALL)
        if pid == process.pid:
            code = process.returncode = os.waitstatus_to_exitcode(status)
    left = [f"it left a process: {each}" for each in _end_all()]
    names = sorted(names_in_dev_shm(is_private) - before)
    return code, left + [f"it left /dev/shm/{name}" for name in names]


def _end_all() -> list[str]:
    """Waits a little for this process's children to end, and ends those that do not, with all that
    come from them; returns what these were."""
    deadline = time.monotonic() + _SLOW_TO_GO_S
    left: dict[int, str] = {}
    while True:
        try:
            ended, _ = os.waitpid(-1, _WALL | os.WNOHANG)
        except ChildProcessError:
            return list(left.values())
        if ended:
            continue
        if time.monotonic() > deadline:
            for pid in _children():
                left.setdefault(pid, _described(pid))
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _children() -> list[int]:
    found: list[int] = []
    for task in os.listdir("/proc/self/task"):
        found += map(int, Path(f"/proc/self/task/{task}/children").read_text().split())
    return found


def _described(pid: int) -> str:
    """A process and what it holds."""
    folder = Path(f"/proc/{pid}")
    try:
        command = folder.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        descriptors = len(os.listdir(folder / "fd"))
        mappings = folder.joinpath("maps").read_text().count("memfd:")
    except OSError as error:  # it ends just now, or is somebody else's
        return f"{pid} ({error})"
    return f"{pid}, {command[:200]} ({descriptors} descriptors, {mappings} mapped memory files)"


def main(arguments: Sequence[str]) -> int:
    report, *command = arguments
    code, left = run(command)
    Path(report).write_text(json.dumps({"exit": code, "left": left}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
