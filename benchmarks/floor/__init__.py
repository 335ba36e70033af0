"""What the machine can do at all: small programs in C that do as little as the job allows.

Owns which measurements there are, how their programs are compiled (on demand, into a folder under
build/) and how they are run. How they measure is said in the C beside this. Nothing here imports
fastipc or what it is compared with.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.alone import run_alone

FOLDER = Path(__file__).resolve().parent
BUILD = FOLDER.parent.parent / "build" / "floor"
FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wshadow", "-Werror"]

# A measurement warms up and finds out how much fits into its time; on a busy machine, processes
# that spin wait for each other much longer than that. Beyond this it is given up.
LIMIT_SECONDS = 60.0
LIMIT_FACTOR = 20.0

MIB = 1024**2


class FloorError(Exception):
    """There is no number; the text says why, and what to do about it."""


@dataclass(frozen=True)
class FloorCase:
    """One measurement: which program does it, and what it is told."""

    summary: str
    unit: str
    program: str
    measurement: str
    # Of large messages: their size, and how many different ones the sender has in hand. They
    # take turns, as do those of the benchmarks of the same sizes.
    size: int = 0
    sources: int = 0


def _memcpy(mib: int) -> FloorCase:
    return FloorCase(f"memcpy of {mib} MiB, warm", "bytes/s", "copy", "memcpy", mib * MIB, 1)


def _stream(mib: int) -> FloorCase:
    summary = f"bytes of {mib} MiB through a shared ring into a buffer, the best of some rings"
    return FloorCase(summary, "bytes/s", "copy", "stream", mib * MIB, 3)


def _copy_sum(mib: int, sources: int) -> FloorCase:
    summary = f"arrays of {mib} MiB copied into shared blocks, and summed there by the other"
    return FloorCase(summary, "bytes/s", "copy", "copy-sum", mib * MIB, sources)


_FLOOR_CASES = {
    "ring-64B-throughput": FloorCase(
        "64 bytes through a shared ring with a lock on each side, both spinning",
        "messages/s",
        "small",
        "throughput",
    ),
    "ring-roundtrip-spin": FloorCase(
        "64 bytes there and back through two shared rings, both spinning, median",
        "us",
        "small",
        "roundtrip",
    ),
    "futex-roundtrip": FloorCase(
        "two processes on two CPUs that wake each other by futex, median", "us", "wake", "futex"
    ),
    "pipe-roundtrip": FloorCase(
        "64 bytes there and back through two pipes, on two CPUs, median", "us", "wake", "pipe"
    ),
    **{f"memcpy-{mib}MiB": _memcpy(mib) for mib in (1, 4, 8, 16, 64)},
    **{f"ring-stream-{mib}MiB": _stream(mib) for mib in (1, 16)},
    **{
        f"copy-sum-{mib}MiB": _copy_sum(mib, sources) for mib, sources in ((1, 10), (8, 6), (64, 4))
    },
    "pacing": FloorCase(
        "CPU time of sleeping until each of 10,000 moments a second", "us CPU", "wake", "pacing"
    ),
    "pacing-wake": FloorCase(
        "the same, and at each moment a sleeping process is woken: CPU time of both",
        "us CPU",
        "wake",
        "pacing-wake",
    ),
}

# What there is to measure: names, and what each of them is.
CASES: dict[str, str] = {name: case.summary for name, case in _FLOOR_CASES.items()}


def measure(case_name: str, seconds: float) -> dict[str, Any]:
    """Measure for about so many seconds, in processes of their own, which end with this call.

    The result has `value` and `unit`; its other numbers are what the value was chosen from, or
    what belongs to it, and their names tell. Raises FloorError: the compiler is missing or refuses
    the programs, a program failed, or it did not end in time.
    """
    if case_name not in _FLOOR_CASES:
        raise FloorError(f"there is no case {case_name!r}; there are: {', '.join(CASES)}")
    case = _FLOOR_CASES[case_name]
    limit = LIMIT_SECONDS + LIMIT_FACTOR * seconds
    numbers = [seconds, int(limit) + 1, os.getpid(), case.size, case.sources]
    command = [str(program(case.program)), case.measurement, *map(str, numbers)]
    out = _run(case_name, command, limit)
    found: dict[str, Any] = {name: float(number) for name, number in map(str.split, out)}
    return {"value": found.pop("value"), "unit": case.unit, **found}


def program(name: str) -> Path:
    """Return the compiled program, compiling it if it, or how it is compiled, is new.

    Raises FloorError.
    """
    sources = [FOLDER / "floor.c", FOLDER / f"{name}.c"]
    compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
    if shutil.which(compiler[0]) is None:
        raise FloorError(
            f"the programs of the floor cannot be compiled: there is no {compiler[0]!r}: install "
            "a C compiler (on Debian and Ubuntu: sudo apt install build-essential), or name "
            "one in CC"
        )
    command = [*compiler, *FLAGS]
    state = hashlib.sha256("\0".join(command).encode())
    for source in [FOLDER / "floor.h", *sources]:
        state.update(source.read_bytes())
    built = BUILD / f"{name}-{state.hexdigest()[:16]}"
    if built.exists():
        return built
    BUILD.mkdir(parents=True, exist_ok=True)
    # Into a file of our own, then renamed: others may compile the same at this moment.
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        fresh = Path(folder, name)
        done = subprocess.run(
            [*command, *map(str, sources), "-o", str(fresh)],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode != 0:
            raise FloorError(
                f"the programs of the floor cannot be compiled: {shlex.join(done.args)} said:\n"
                f"{done.stderr.strip()}"
            )
        os.replace(fresh, built)
    return built


def _run(case_name: str, command: list[str], limit: float) -> list[str]:
    # If this process is killed first, the kernel ends the command's processes.
    try:
        code, out, err = run_alone(command, limit)
    except subprocess.TimeoutExpired as error:
        raise FloorError(
            f"{case_name} did not end in {limit:.0f} s: is the machine very busy?"
        ) from error
    if code != 0:
        why = err.strip() or f"exit code {code}"
        raise FloorError(f"{case_name} failed: {why}")
    return out.splitlines()
