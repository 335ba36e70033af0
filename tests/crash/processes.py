"""Forked children that exchange reports with their parent and cannot outlast a deadline.

Plain os.fork and os.pipe: nothing of what is under test carries the reports.
"""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import os
import pickle
import re
import select
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

_LENGTH = struct.Struct("=Q")
_TOOL_FRAME = re.compile(
    r'  File ".*(crash/(harness|processes|__main__)\.py|<frozen runpy>)", line \d+ in '
)
_PR_SET_PDEATHSIG = 1
_LONGEST_POLL = 3600.0  # poll() takes its timeout as an int of milliseconds, 24 days at most
_libc = ctypes.CDLL(None)


class ChildFailure(Exception):
    """A child raised, died or missed its deadline; the message says which and where."""


class Link:
    """One end of a two-way pipe that carries pickled reports."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self.read_fd = read_fd
        self.write_fd = write_fd

    def send(self, report: object) -> None:
        data = pickle.dumps(report)
        view = memoryview(_LENGTH.pack(len(data)) + data)
        try:
            while view:
                view = view[os.write(self.write_fd, view) :]
        except BrokenPipeError:
            pass  # the other side is gone; whoever waits for its report learns how

    def receive(self) -> Any:
        (length,) = _LENGTH.unpack(self._read_exactly(_LENGTH.size))
        return pickle.loads(self._read_exactly(length))

    def _read_exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = os.read(self.read_fd, size - len(data))
            if not part:
                raise EOFError
            data += part
        return bytes(data)

    def close(self) -> None:
        os.close(self.read_fd)
        os.close(self.write_fd)


class Child:
    """A forked process that runs `function(link)`; what that returns is its last report."""

    def __init__(self, name: str, function: Callable[[Link], object]) -> None:
        self.name = name
        self.exit_status: int | None = None
        self._last_words = os.memfd_create(f"crash-{name}")
        from_child, child_writes = os.pipe()
        child_reads, to_child = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(from_child)
            os.close(to_child)
            self._run(function, Link(child_reads, child_writes))
        os.close(child_reads)
        os.close(child_writes)
        self.link = Link(from_child, to_child)
        self._pidfd = os.pidfd_open(self.pid)

    def _run(self, function: Callable[[Link], object], link: Link) -> None:
        """Never returns. A hung child is ended with SIGABRT and leaves its traceback."""
        status = 1
        try:
            # A child never outlives whoever would have to end it.
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            faulthandler.enable(self._last_words, all_threads=True)
            link.send(function(link))
            status = 0
        except BaseException:
            os.write(self._last_words, traceback.format_exc().encode(errors="replace"))
        finally:
            os._exit(status)

    def report(self, timeout: float) -> Any:
        """Returns the child's next report; raises ChildFailure if there is none in time."""
        if not self._await(self.link.read_fd, timeout):
            self.abort()
            raise ChildFailure(
                f"{self.name} hung (no report within {timeout:g} s){self.last_words()}"
            )
        try:
            return self.link.receive()
        except EOFError:
            self.wait(timeout)
            raise ChildFailure(f"{self.name} {self._end()}{self.last_words()}") from None

    def _await(self, fd: int, timeout: float) -> bool:
        """Waits until the descriptor is readable, or the child is gone."""
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.register(self._pidfd, select.POLLIN)
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            ready = poll.poll(min(max(left, 0), _LONGEST_POLL) * 1000)
            if ready:
                if fd not in dict(ready) and fd != self._pidfd:
                    # Dead without a report; siblings may hold the pipe's other end.
                    self.wait(timeout)
                    raise ChildFailure(f"{self.name} {self._end()}{self.last_words()}")
                return True
            if left <= 0:
                return False

    def await_asleep(self, timeout: float) -> None:
        """Waits until the child's main thread sleeps in the kernel, and goes on to."""
        deadline = time.monotonic() + timeout
        looks = 0
        while looks < 3:  # once could be a page fault or a lock of the kernel's
            with open(f"/proc/{self.pid}/stat", encoding="utf-8") as stat:
                state = stat.read().rpartition(") ")[2][:1]
            looks = looks + 1 if state == "S" else 0
            if time.monotonic() > deadline:
                raise ChildFailure(f"{self.name} does not fall asleep, its state is {state}")
            time.sleep(0.0005)

    def wait(self, timeout: float) -> int:
        """Returns the exit code (negative: the signal) once the child has ended."""
        if self.exit_status is None:
            if not self._await(self._pidfd, timeout):
                self.abort()
                raise ChildFailure(
                    f"{self.name} did not exit within {timeout:g} s{self.last_words()}"
                )
            self.exit_status = os.waitpid(self.pid, 0)[1]
        return os.waitstatus_to_exitcode(self.exit_status)

    def expect_success(self, timeout: float) -> None:
        """Raises ChildFailure unless the child exits with 0 in time."""
        if self.wait(timeout) != 0:
            raise ChildFailure(f"{self.name} {self._end()}{self.last_words()}")

    def note_reaped(self, wait_status: int) -> None:
        """Somebody else (the tracer) has waited for the child."""
        self.exit_status = wait_status

    def abort(self) -> None:
        """Ends the child; SIGABRT makes faulthandler write where it was."""
        for number, patience in ((signal.SIGABRT, 2.0), (signal.SIGKILL, 10.0)):
            if self.exit_status is None:
                signal.pidfd_send_signal(self._pidfd, number)
                if self._await(self._pidfd, patience):
                    self.exit_status = os.waitpid(self.pid, 0)[1]

    def close(self) -> None:
        """Releases the descriptors; ends a child that still runs."""
        if self.exit_status is None:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self.exit_status = os.waitpid(self.pid, 0)[1]
        self.link.close()
        os.close(self._pidfd)
        os.close(self._last_words)

    def _end(self) -> str:
        code = os.waitstatus_to_exitcode(self.exit_status or 0)
        return f"died of {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"

    def last_words(self) -> str:
        """Returns the traceback that the child left, on a line of its own, or nothing."""
        size = os.fstat(self._last_words).st_size
        words = os.pread(self._last_words, min(size, 20000), 0).decode(errors="replace")
        # Of a dump, the frames of this tool below the operation's own say nothing.
        lines = [line for line in words.splitlines() if not _TOOL_FRAME.match(line)]
        return "\n" + "\n".join(lines) if lines else ""


def flush_before_fork() -> None:
    """Keeps buffered output from being written once more by a child."""
    sys.stdout.flush()
    sys.stderr.flush()


class Board:
    """A few words that all processes of a case share: who is the victim, what has happened."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)

    def __getitem__(self, index: int) -> int:
        return int(_LENGTH.unpack_from(self._memory, 8 * index)[0])

    def __setitem__(self, index: int, value: int) -> None:
        _LENGTH.pack_into(self._memory, 8 * index, value)

    def close(self) -> None:
        self._memory.close()


def state_of(pid: int, thread: int | None = None) -> str:
    """Returns the letter under which /proc tells a thread's state; "" when it is gone."""
    try:
        with open(f"/proc/{pid}/task/{thread or pid}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(") ")[2][:1]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def await_sleep_or_end(pid: int, timeout: float, thread: int | None = None) -> None:
    """Waits until the thread sleeps in the kernel and goes on to, or is gone."""
    deadline = time.monotonic() + timeout
    looks = 0
    while looks < 6:
        state = state_of(pid, thread)
        if state in ("", "Z", "X"):
            return
        looks = looks + 1 if state == "S" else 0
        if time.monotonic() > deadline:
            raise ChildFailure(f"process {pid} does not fall asleep, its state is {state}")
        time.sleep(0.0005)


def start_sleeper(function: Callable[[], object], timeout: float) -> threading.Thread:
    """Starts a thread of this process, a daemon; returns once it sleeps in the kernel."""
    numbers: list[int] = []
    has_begun = threading.Event()

    def begin() -> None:
        # As /proc numbers them, where they are looked at: a PID namespace has others.
        numbers.extend(map(int, os.readlink("/proc/thread-self").split("/task/")))
        has_begun.set()
        function()

    thread = threading.Thread(target=begin, daemon=True)
    thread.start()
    if not has_begun.wait(timeout):
        raise ChildFailure("the second thread does not get on")
    await_sleep_or_end(numbers[0], timeout, numbers[1])
    return thread
