"""System calls a message: two processes of fastipc's program under strace.

Owns how strace is run and how its log is read. It counts what `strace -f -c` would, but only
between the marks, and tells a futex that waits from one that wakes.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.costs.tools import run_tool

UNPACED_COUNT = 1_000_000
PACED_COUNT = 20_000
LIMIT_SECONDS = 300.0

_CALL = re.compile(r"^(\d+) +(\w+)\((.*)$")
_FUTEX = re.compile(r"FUTEX_(WAIT|WAKE)")
MARK = "getppid"


def measure(part: str, count: int) -> dict[str, float]:
    """Count the calls of both processes while `count` messages pass, "paced" or "unpaced".

    The result has the calls of each name, "messages", and the "seconds" that the producer took:
    strace makes each call slower, and so may spoil a pace. Raises ToolError.
    """
    # Sleeping between two messages is the pacing's business; to stop there would spoil it.
    look = ["--seccomp-bpf", "-e", "trace=!clock_nanosleep"] if part == "paced" else []
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        out = run_tool(["strace", "-f", *look, "-o", str(log)], [part, str(count)], LIMIT_SECONDS)
        calls = read_log(log.read_text())
    return {"messages": count, "seconds": float(out), **dict(calls.most_common())}


def read_log(text: str) -> Counter[str]:
    """Count the calls that each process makes between its two marks."""
    marks: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for line in text.splitlines():
        # What was interrupted by another process goes on in a line of its own: "<... resumed".
        found = _CALL.match(line)
        if not found:
            continue
        process, name, arguments = found.groups()
        if name == MARK:
            marks[process] += 1
        elif marks[process] == 1:
            asks = _FUTEX.search(arguments) if name == "futex" else None
            calls[f"futex {asks[1].lower()}" if asks else name] += 1
    return calls
