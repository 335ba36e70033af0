"""Builds the C stepper once and wraps it: record an operation's instructions, kill at one.

Owns the ctypes boundary and the arithmetic of kill points; does not know what is killed.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

_SOURCE = Path(__file__).with_name("stepper.c")
MOST_PAUSES = 3  # as in stepper.c: a kill takes one of four hardware breakpoints
_CAPACITY = 4_000_000  # recorded instructions of one operation; 32 MB of addresses


class UnsupportedError(Exception):
    """This machine cannot run the crash tool; the message says why."""


class Ending(IntEnum):
    """How a traced operation ended (`enum ending` in stepper.c)."""

    FINISHED = 1
    KILLED = 2
    DIED = 3
    HUNG = 4
    ERROR = 5


class _Range(ctypes.Structure):
    _fields_ = [("start", ctypes.c_uint64), ("end", ctypes.c_uint64)]


class _Point(ctypes.Structure):
    _fields_ = [
        ("address", ctypes.c_uint64),
        ("occurrence", ctypes.c_uint64),
        ("callee_address", ctypes.c_uint64),
        ("callee_occurrence", ctypes.c_uint64),
    ]


class _Outcome(ctypes.Structure):
    _fields_ = [
        ("ending", ctypes.c_int32),
        ("wait_status", ctypes.c_int32),
        ("error", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
        ("count", ctypes.c_uint64),
        ("address", ctypes.c_uint64),
    ]


@dataclass(frozen=True)
class Outcome:
    """The end of one traced operation."""

    ending: Ending
    wait_status: int
    error: int
    count: int
    address: int

    def __str__(self) -> str:
        if self.ending is Ending.DIED:
            if os.WIFSIGNALED(self.wait_status):
                return f"the victim died of signal {os.WTERMSIG(self.wait_status)}"
            return f"the victim exited with {os.waitstatus_to_exitcode(self.wait_status)}"
        if self.ending is Ending.HUNG:
            return "the victim's operation did not end within the deadline"
        if self.ending is Ending.ERROR:
            return f"the tracer failed: {os.strerror(self.error)}"
        return self.ending.name.lower()


@dataclass(frozen=True)
class Range:
    """Addresses of executable text, `start` <= address < `end`."""

    start: int
    end: int
    path: str

    def __contains__(self, address: int) -> bool:
        return self.start <= address < self.end


@dataclass(frozen=True, slots=True)
class Point:
    """One instruction of a recording, found again by counting how often its address is met.

    Instructions of callees (libc) are counted from the call on: their own addresses are also met
    on behalf of others.
    """

    index: int  # in the recording, from 0
    address: int
    occurrence: int  # from 1
    callee_address: int = 0
    callee_occurrence: int = 0
    follows_system_call: bool = False

    @property
    def place(self) -> int:
        """The instruction before which the victim is killed."""
        return self.callee_address or self.address


@dataclass(frozen=True)
class AsleepPoint:
    """A kill while the victim sleeps in the kernel, so long after it fell asleep."""

    index: int  # among the kills of this kind, from 0
    further_us: int

    def __str__(self) -> str:
        return f"asleep, {self.further_us} microseconds further"


def executable_ranges(path: str) -> list[Range]:
    """Returns where this process has the file's text mapped; forked children share it."""
    wanted = os.path.realpath(path)
    ranges = []
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            fields = line.rstrip("\n").split(maxsplit=5)
            if len(fields) == 6 and "x" in fields[1] and fields[5] == wanted:
                start, end = (int(part, 16) for part in fields[0].split("-"))
                ranges.append(Range(start, end, wanted))
    if not ranges:
        raise LookupError(f"no executable mapping of {wanted}; is it loaded?")
    return ranges


def vdso_ranges() -> list[Range]:
    """Returns where the text lies that the kernel lends libc."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        lines = [line.split() for line in maps]
    return [
        Range(*(int(part, 16) for part in fields[0].split("-")), fields[-1])
        for fields in lines
        if fields[-1] == "[vdso]"
    ]


def libc_ranges() -> list[Range]:
    """Returns where libc's text is mapped, and the vDSO's."""
    path_of_libc = None
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            fields = line.rstrip("\n").split(maxsplit=5)
            path = fields[-1]
            if os.path.basename(path).startswith(("libc.so", "libc-", "ld-musl")):
                path_of_libc = path
    if path_of_libc is None:
        raise LookupError("no libc is mapped")
    return [*executable_ranges(path_of_libc), *vdso_ranges()]


def locate(address: int) -> str:
    """Names the function, or at least the file offset, of an address in this process."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            fields = line.rstrip("\n").split(maxsplit=5)
            start, end = (int(part, 16) for part in fields[0].split("-"))
            if start <= address < end and len(fields) == 6:
                offset = address - start + int(fields[2], 16)
                return f"{os.path.basename(fields[5])}+{offset:#x}{_symbol(fields[5], offset)}"
    return hex(address)


def _symbol(path: str, offset: int) -> str:
    """Asks addr2line; a missing tool or symbol only makes the message poorer."""
    try:
        answer = subprocess.run(
            ["addr2line", "-s", "-f", "-e", path, hex(offset)],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        ).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return ""
    if not answer or answer[0] == "??":
        return ""
    line = f" {answer[1]}" if len(answer) > 1 and not answer[1].startswith("??") else ""
    return f" ({answer[0]}{line})"


_files: dict[int, str] = {}  # what source_files() knows of this process; "": not known


def source_files(addresses: Sequence[int]) -> dict[int, str]:
    """Returns the names of the source files that the addresses were made from, where known."""
    unknown = [address for address in addresses if address not in _files]
    if unknown:
        _files.update(dict.fromkeys(unknown, ""))
        _files.update(_find_source_files(unknown))
    return {address: _files[address] for address in addresses if _files[address]}


def _find_source_files(addresses: Sequence[int]) -> dict[int, str]:
    places: dict[str, list[tuple[int, int]]] = {}
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            fields = line.rstrip("\n").split(maxsplit=5)
            if len(fields) < 6 or "x" not in fields[1] or not fields[5].startswith("/"):
                continue
            start, end = (int(part, 16) for part in fields[0].split("-"))
            found = [
                (address, address - start + int(fields[2], 16))
                for address in addresses
                if start <= address < end
            ]
            if found:
                places.setdefault(fields[5], []).extend(found)
    files: dict[int, str] = {}
    for path, pairs in places.items():
        try:
            answer = subprocess.run(
                ["addr2line", "-s", "-e", path],
                input="".join(f"{offset:#x}\n" for _, offset in pairs),
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            ).stdout.splitlines()
        except (OSError, subprocess.SubprocessError):
            continue
        for (address, _), place in zip(pairs, answer, strict=False):
            files[address] = place.partition(":")[0]
    return files


def build_shared_object(source: Path, *flags: str) -> Path:
    """Compiles a C file into a shared object beside the byte code (git-ignored), once."""
    compiler = os.environ.get("CC", "cc").split()
    if shutil.which(compiler[0]) is None:
        raise UnsupportedError(f"no C compiler ({compiler[0]}) to build {source.name} with")
    key = hashlib.sha256(source.read_bytes() + repr((compiler, flags)).encode()).hexdigest()[:16]
    for folder in (source.parent / "__pycache__", Path(tempfile.gettempdir())):
        folder_is_shared = folder == Path(tempfile.gettempdir())
        if folder_is_shared:
            folder = Path(tempfile.mkdtemp(prefix="fastipc-crash-"))
        try:
            folder.mkdir(exist_ok=True)
            target = folder / f"{source.stem}-{key}.so"
            if target.exists():
                return target
            # Written under another name first: two test processes may build at once.
            unfinished = target.with_suffix(f".{os.getpid()}")
            command = [*compiler, "-O2", "-g", "-shared", "-fPIC", "-Wall", "-Wextra", *flags]
            subprocess.run([*command, "-o", unfinished, source], check=True, timeout=120)
            unfinished.rename(target)
            return target
        except PermissionError:
            continue
    raise UnsupportedError("no folder to write the compiled stepper to")


class Stepper:
    """The loaded stepper; in a forked victim its `begin` and `end` enclose the operation."""

    def __init__(self) -> None:
        if sys.platform != "linux" or platform.machine() != "x86_64":
            raise UnsupportedError(
                f"the crash tool steps x86-64 Linux only, not {sys.platform} {platform.machine()}"
            )
        library = ctypes.CDLL(str(build_shared_object(_SOURCE)), use_errno=True)
        self._begin: Callable[[], int] = library.stepper_begin
        self._end: Callable[[], int] = library.stepper_end
        self._record = library.stepper_record
        self._kill = library.stepper_kill
        self._kill_asleep = library.stepper_kill_asleep
        for function in (self._record, self._kill, self._kill_asleep, self._end):
            function.restype = None

    def begin(self) -> None:
        """Victim: the operation starts behind this call."""
        error = -self._begin()
        if error:
            raise UnsupportedError(f"ptrace is not allowed here: {os.strerror(error)}")

    def end(self) -> None:
        """Victim: the operation is over."""
        self._end()

    def record(
        self,
        pid: int,
        inside: Sequence[Range],
        callees: Sequence[Range] = (),
        *,
        free_outside: bool = True,
        timeout: float = 60.0,
    ) -> tuple[Outcome, list[int]]:
        """Lets the victim run; returns the addresses of the instructions executed inside."""
        # Not from the heap, which would keep it: each fork copies what its parent has.
        with mmap.mmap(-1, _CAPACITY * ctypes.sizeof(ctypes.c_uint64)) as memory:
            addresses = (ctypes.c_uint64 * _CAPACITY).from_buffer(memory)
            outcome = self._step(pid, inside, callees, free_outside, timeout, None, addresses)
            found = addresses[: min(outcome.count, _CAPACITY)]
            del addresses
        return outcome, found

    def kill(
        self,
        pid: int,
        point: Point,
        *,
        pauses: Sequence[int] = (),
        pause_us: int = 0,
        timeout: float = 60.0,
    ) -> Outcome:
        """Kills the victim right before it executes the point's instruction.

        It is held for a while at each of the addresses `pauses`, of which there are up to three.
        """
        outcome = _Outcome()
        self._kill(
            pid,
            ctypes.byref(_as_point(point)),
            (ctypes.c_uint64 * len(pauses))(*pauses),
            ctypes.c_size_t(len(pauses)),
            ctypes.c_int64(pause_us),
            ctypes.c_int64(int(timeout * 1000)),
            ctypes.byref(outcome),
        )
        return _as_outcome(outcome)

    def kill_stepping(
        self,
        pid: int,
        point: Point,
        inside: Sequence[Range],
        callees: Sequence[Range] = (),
        *,
        free_outside: bool = True,
        timeout: float = 60.0,
    ) -> Outcome:
        """Kills it there on the way, and at the speed, of the recording."""
        end = ctypes.byref(_as_point(point))
        nothing = (ctypes.c_uint64 * 0)()
        return self._step(pid, inside, callees, free_outside, timeout, end, nothing)

    def _step(
        self,
        pid: int,
        inside: Sequence[Range],
        callees: Sequence[Range],
        free_outside: bool,
        timeout: float,
        end: object,
        addresses: ctypes.Array[ctypes.c_uint64],
    ) -> Outcome:
        outcome = _Outcome()
        self._record(
            pid,
            _as_array(inside),
            ctypes.c_size_t(len(inside)),
            _as_array(callees),
            ctypes.c_size_t(len(callees)),
            int(free_outside),
            ctypes.c_int64(int(timeout * 1000)),
            end,
            addresses,
            ctypes.c_size_t(len(addresses)),
            ctypes.byref(outcome),
        )
        return _as_outcome(outcome)

    def kill_asleep(self, pid: int, further_us: int, *, timeout: float = 60.0) -> Outcome:
        """Kills the victim while it sleeps in the kernel."""
        outcome = _Outcome()
        self._kill_asleep(
            pid,
            ctypes.c_int64(further_us),
            ctypes.c_int64(int(timeout * 1000)),
            ctypes.byref(outcome),
        )
        return _as_outcome(outcome)


def _as_array(ranges: Sequence[Range]) -> ctypes.Array[_Range]:
    return (_Range * max(len(ranges), 1))(*(_Range(r.start, r.end) for r in ranges))


def _as_point(point: Point) -> _Point:
    return _Point(point.address, point.occurrence, point.callee_address, point.callee_occurrence)


def _as_outcome(raw: _Outcome) -> Outcome:
    return Outcome(Ending(raw.ending), raw.wait_status, raw.error, raw.count, raw.address)


def points_of(
    addresses: Sequence[int], inside: Sequence[Range], once: Sequence[Range] = ()
) -> list[Point]:
    """Turns a recording into its kill points, one an instruction.

    In `once` a repetition counts once: the vDSO's clock reads again when the kernel has just
    written, which it does as often as it likes, most of all while somebody takes single steps.
    """
    seen: Counter[int] = Counter()
    seen_in_callee: Counter[int] = Counter()
    call = (0, 0)  # the last instruction inside, and its occurrence
    points: list[Point] = []
    system_calls: dict[int, bool] = {}
    before = 0
    for index, address in enumerate(addresses):
        follows = system_calls.get(before, False)
        if any(address in part for part in inside):
            seen[address] += 1
            seen_in_callee.clear()
            call = (address, seen[address])
            points.append(Point(index, *call, follows_system_call=follows))
        else:  # in a callee: met so often since the last instruction inside
            seen_in_callee[address] += 1
            if seen_in_callee[address] == 1 or not any(address in part for part in once):
                points.append(Point(index, *call, address, seen_in_callee[address], follows))
        if address not in system_calls:
            system_calls[address] = _is_system_call(address)
        before = address
    return points


def _is_system_call(address: int) -> bool:
    """Whether `syscall` stands there in this process's text, which its children share."""
    return address != 0 and ctypes.string_at(address, 2) == b"\x0f\x05"


def evenly_spaced(points: Sequence[Point], wanted: int | None) -> list[Point]:
    """Picks `wanted` points (None: all), the first and the last among them."""
    if wanted is None or wanted >= len(points):
        return list(points)
    step = (len(points) - 1) / max(wanted - 1, 1)
    return [points[round(i * step)] for i in range(wanted)]
