"""`python -m tests.reliability.leaks`: repeats whole lives of fastipc's objects and looks for what
is left: descriptors, mappings, memory files, children, names in /dev/shm, threads, and memory.

    python -m tests.reliability.leaks           all cycles, thousands of times
    python -m tests.reliability.leaks --short   fewer times (CI)
    python -m tests.reliability.leaks --asan    instead, a few times under AddressSanitizer's leak
                                                checker, which has to find a leak on purpose first

Memory is counted to the byte (mallinfo2, all of Python's memory by malloc): a cycle that loses as
little as a pointer each time is found. Ends with 0 if nothing was left.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import gc
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.support import ROOT, resources

# What a cycle may lose each time, on an average: less than anything that malloc gives out, which is
# found in each of many spans of cycles. Caches of Python's and the C library's grow for a while,
# and then no more: for 8 spans, now and then, on a busy machine, and never seen for 30.
BYTES_A_CYCLE = 12
NOISE_BYTES = 1200
SPANS = 40
WATCHDOG_S = 900
SOURCES = ("csrc", "fastipc", "tests", "setup.py", "pyproject.toml", "README.md", "LICENSE")
# Sizes that nothing else has: of what is lost to see that the leak checker runs, and, with the
# environment variable, of what is lost of ours to see that it would be found.
CANARY_BYTES = 7919
PURPOSE_BYTES = 6007
ON_PURPOSE = "FASTIPC_LEAK_ON_PURPOSE"
ROUNDS_DONE = "rounds done"
OURS = re.compile(r"/csrc/|/fastipc/_|_core\.c|_core\.cpython")


class _Mallinfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd",
            "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


def bytes_in_use() -> int | None:
    """Bytes that malloc has given out; None where it cannot be asked (glibc before 2.33)."""
    function = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if function is None:
        return None
    function.restype = _Mallinfo2
    found = function()
    return int(found.uordblks + found.hblkhd)


def held() -> set[tuple[Any, ...]]:
    """What this process holds, with each mapping of a memory file, whoever has made it."""
    found = resources()
    with open("/proc/self/maps") as maps:
        for line in maps:
            fields = line.split(None, 5)
            if len(fields) == 6 and ("memfd" in fields[5] or "/dev/shm" in fields[5]):
                found.add(("mapping", fields[0], fields[5].strip()))
    return found


def private_dev_shm() -> bool:
    """Gives this process and its children an empty /dev/shm of their own, where that is permitted:
    others on this machine make names, too."""
    libc = ctypes.CDLL(None)
    new_mounts, recursive_private = 0x20000, 0x44000
    return (
        libc.unshare(new_mounts) == 0
        and libc.mount(None, b"/", None, ctypes.c_ulong(recursive_private), None) == 0
        and libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", ctypes.c_ulong(0), None) == 0
    )


def repeat(cycle: Callable[[], None], times: int) -> None:
    for _ in range(times):
        cycle()
    gc.collect()


def check(cycle: Callable[[], None], times: int) -> dict[str, Any]:
    """Repeats the cycle, at least twice as often as said, and tells what is left and what grew."""
    started = time.monotonic()
    repeat(cycle, min(times, 50))
    before, in_use = held(), bytes_in_use()
    growth: int | None = None
    allowed = times * BYTES_A_CYCLE + NOISE_BYTES
    spans = 0
    while spans < 2 or (spans < SPANS and growth is not None and growth > allowed):
        repeat(cycle, times)
        spans += 1
        now = bytes_in_use()
        if now is not None and in_use is not None:
            # What is lost each time is lost in every span; what caches take is not.
            grown = max(now - in_use, 0)
            growth = grown if growth is None else min(growth, grown)
        in_use = now
    left = sorted(map(str, held() - before))
    row = {
        "cycle": cycle.__name__.replace("_", " "),
        "repeated": spans * times,
        "descriptors, mappings, files, children and threads left": len(left),
        "bytes lost each time": (
            "unknown" if growth is None else round(max(growth - NOISE_BYTES, 0) / times, 1)
        ),
        "seconds": round(time.monotonic() - started, 1),
    }
    failures = [f"{cycle.__name__}: left behind: {each}" for each in left]
    if growth is not None and growth > allowed:
        failures.append(f"{cycle.__name__}: {growth} bytes more after {times} cycles, each time")
    return {"row": row, "failures": failures}


def planned(short: bool) -> list[tuple[Callable[[], None], int]]:
    """The cycles and how often each is repeated, twice."""
    from . import cycles

    heavy = {cycles.large_messages, cycles.views, cycles.pipes, cycles.dropped, cycles.backlog}
    plan = [
        (cycle, (4 if cycle in heavy else 50) if short else (100 if cycle in heavy else 2000))
        for cycle in cycles.IN_ONE_PROCESS
    ]
    plan += [(cycle, 6 if short else 250) for cycle in cycles.WITH_CHILDREN]
    plan += [(cycle, 1 if short else 15) for cycle in cycles.WITH_INTERPRETERS]
    return plan


def run_here(short: bool, names: Sequence[str]) -> dict[str, Any]:
    """All cycles in this process."""
    rows, failures = [], []
    private_dev_shm()
    for cycle, times in planned(short):
        if names and cycle.__name__ not in names:
            continue
        found = check(cycle, times)
        rows.append(found["row"])
        failures += found["failures"]
        print("  ".join(f"{name}: {value}" for name, value in found["row"].items()), flush=True)
    return {"rows": rows, "failures": failures}


# ---- under AddressSanitizer ----


def leaks_of_ours(report: str) -> list[str]:
    """The leaks of a report whose stack goes through our code. Python itself leaves much."""
    blocks = re.split(r"\n(?=(?:Direct|Indirect) leak of )", report)
    return [
        block.split("\n\n")[0]
        for block in blocks[1:]
        if block.startswith("Direct") and OURS.search(block.split("\n\n")[0])
    ]


def judged(done: subprocess.CompletedProcess[str]) -> tuple[list[str], list[str]]:
    """Of a run under AddressSanitizer: the leaks of ours, and what is wrong without them. A report
    without what was lost for this very question is no report."""
    wrong = []
    if done.returncode:
        wrong.append(f"exit code {done.returncode}: {done.stderr[-3000:]}")
    if ROUNDS_DONE not in done.stdout:
        wrong.append(f"the cycles did not end: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    if "ERROR: LeakSanitizer: " not in done.stderr or not sizes_of(done.stderr, CANARY_BYTES):
        wrong.append(
            f"the leak checker did not run, or not to its end: what was lost for it is not in its "
            f"report: {done.stderr[-1000:]}"
        )
    return leaks_of_ours(done.stderr), wrong


def sizes_of(report: str, size: int) -> list[int]:
    """How many objects of that size each of a report's direct leaks has."""
    found = re.findall(r"^Direct leak of (\d+) byte\(s\) in (\d+) object", report, re.M)
    return [int(count) for total, count in found if int(total) == int(count) * size]


def proof_failures(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What is wrong with a run that has left something of ours on purpose: it must be found, as
    what it is, and nothing else may be wrong."""
    found, wrong = judged(done)
    if not any(sizes_of(leak, sys.getsizeof(b"") + PURPOSE_BYTES) for leak in found):
        wrong.append(f"a leak on purpose was not found: {done.stderr[-3000:]}")
    return [f"with a leak on purpose: {failure}" for failure in wrong]


def run_asan(short: bool, names: Sequence[str]) -> dict[str, Any]:
    """Builds the extension with AddressSanitizer in a folder of its own, leaves something there on
    purpose, which has to be found, then runs each cycle a few times, and keeps what the leak
    checker says of our code."""
    library = subprocess.run(
        [os.environ.get("CC", "gcc"), "-print-file-name=libasan.so"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    times = 1 if short else 3
    with tempfile.TemporaryDirectory(prefix="fastipc-leaks.") as folder:
        root = Path(folder)
        for name in SOURCES:
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.o", "_core.c", "build")
                shutil.copytree(ROOT / name, root / name, ignore=ignored)
            elif (ROOT / name).exists():
                shutil.copy(ROOT / name, root / name)
        subprocess.run(
            [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
            cwd=root, env={**os.environ, "FASTIPC_SANITIZE": "address"},
            capture_output=True, check=True, timeout=400,
        )  # fmt: skip
        environment = {
            **os.environ,
            "LD_PRELOAD": library,
            "PYTHONMALLOC": "malloc",
            # Stacks through Python's code, which keeps no frame pointers; a leak is not an exit
            # code, since most are Python's own.
            "ASAN_OPTIONS": "detect_leaks=1:fast_unwind_on_malloc=0:malloc_context_size=12",
            "LSAN_OPTIONS": "exitcode=0:max_leaks=0:print_suppressions=0",
        }
        environment.pop("PYTHONPATH", None)

        def run(times: int, **more: str) -> subprocess.CompletedProcess[str]:
            words = [sys.executable, "-m", "tests.reliability.leaks", "--cycles-only", str(times)]
            return subprocess.run(
                [*words, "--only", ",".join(names)], cwd=root, env={**environment, **more},
                capture_output=True, text=True, timeout=WATCHDOG_S,
            )  # fmt: skip

        proof = run(0, **{ON_PURPOSE: "1"})
        done = run(times)
    failures = proof_failures(proof)
    rows = [
        {
            "cycle": "nothing but a leak on purpose, under AddressSanitizer",
            "repeated": 1,
            "leaks with a frame of ours": len(leaks_of_ours(proof.stderr)),
            "as expected": not failures,
        }
    ]
    found, wrong = judged(done)
    all_leaks = len(re.findall(r"^Direct leak of", done.stderr, re.M))
    rows.append(
        {
            "cycle": "all in one process and with forks, under AddressSanitizer",
            "repeated": times,
            "leaks with a frame of ours": len(found),
            # Without the one that shows that the checker has run.
            "leaks of Python's own": max(all_leaks - len(found) - 1, 0),
            "as expected": not found and not wrong,
        }
    )
    for row in rows:
        print("  ".join(f"{name}: {value}" for name, value in row.items()), flush=True)
    return {"rows": rows, "failures": failures + found + wrong}


def lose(size: int) -> None:
    """Loses some memory of no module, so that a leak checker that runs has something to report.
    A few pieces: the address of the last may still lie in a register."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    for _ in range(5):
        libc.malloc(size)


def lose_of_ours(size: int) -> None:
    """As if the extension forgot to give up its reference to what get_bytes() returns. A queue
    would not do: whatever Python's collector knows hangs on its lists, and is never lost to a leak
    checker; the bytes that a cycle loses are counted for that."""
    import fastipc

    queue = fastipc.Queue()
    for _ in range(5):
        queue.put_bytes(b"x" * size)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(queue.get_bytes()))
    queue.close()


def cycles_only(times: int, names: Sequence[str]) -> None:
    """What runs under AddressSanitizer."""
    from . import cycles

    lose(CANARY_BYTES)
    for cycle in cycles.IN_ONE_PROCESS + cycles.WITH_CHILDREN:
        if not names or cycle.__name__ in names:
            repeat(cycle, times)
    if os.environ.get(ON_PURPOSE):
        lose_of_ours(PURPOSE_BYTES)
    print(ROUNDS_DONE, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.reliability.leaks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--short", action="store_true", help="fewer times")
    parser.add_argument("--asan", action="store_true", help="under AddressSanitizer instead")
    parser.add_argument("--only", default="", metavar="NAME,...", help="only these cycles")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the results there")
    parser.add_argument("--cycles-only", type=int, metavar="TIMES", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    faulthandler.dump_traceback_later(WATCHDOG_S if options.short else 4 * WATCHDOG_S, exit=True)
    names = [name for name in options.only.split(",") if name]
    if options.cycles_only is not None:
        cycles_only(options.cycles_only, names)
        return 0
    if not options.asan and os.environ.get("PYTHONMALLOC") != "malloc":
        # Python's own allocator keeps what it was given, and malloc keeps pieces for each thread
        # that it counts as given out: neither here.
        given = sys.argv[1:] if arguments is None else list(arguments)
        os.environ["PYTHONMALLOC"] = "malloc"
        os.environ["GLIBC_TUNABLES"] = "glibc.malloc.tcache_count=0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.reliability.leaks", *given])
    started = time.monotonic()
    found = run_asan(options.short, names) if options.asan else run_here(options.short, names)
    for failure in found["failures"]:
        print(failure, file=sys.stderr)
    if options.json:
        given = sys.argv[1:] if arguments is None else list(arguments)
        kept = {
            "name": "leaks-asan" if options.asan else "leaks",
            "command": " ".join(["python -m tests.reliability.leaks", *given]),
            "seconds": round(time.monotonic() - started, 1),
            "python": platform.python_version(),
            **found,
        }
        options.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return int(bool(found["failures"]))


if __name__ == "__main__":
    sys.exit(main())
