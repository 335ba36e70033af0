"""Helpers of the tests that also run inside children: no pytest here, so that a spawned child
starts quickly, and no queue, pipe or semaphore of the implementation that is being tested.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing import reduction, resource_sharer
from pathlib import Path
from typing import Any

START_METHODS = ("fork", "spawn", "forkserver")
ROOT = Path(__file__).resolve().parent.parent
# How long a test waits for something that must happen. Generous: it is only used up by a defect.
PATIENCE_S = 30.0
# A child that outlives this prints its stacks and exits, so that no hang outlives the session.
CHILD_WATCHDOG_S = 55.0
# How long a test looks at something that must not happen, such as a blocked call returning.
GLANCE_S = 0.1


def until(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """Returns the first true result of condition(), which is asked again and again."""
    deadline = time.monotonic() + PATIENCE_S
    pause = 0.0005
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not become true within {PATIENCE_S} s")
        time.sleep(pause)
        pause = min(pause * 2, 0.02)


class Flag:
    """An event between processes and threads, made of a plain pipe only."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def set(self) -> None:
        """Makes each wait(), now and later, return True."""
        os.write(self._write, b"x")

    def wait(self, timeout: float = PATIENCE_S) -> bool:
        """Waits until some process has called set(); False if none did in time."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        return bool(poll.poll(timeout * 1000))

    def is_set(self) -> bool:
        """Whether some process has called set()."""
        return self.wait(0)

    def close(self) -> None:
        """Closes this process's descriptors."""
        for fd in (self._read, self._write):
            if fd >= 0:
                os.close(fd)
        self._read = self._write = -1

    def __del__(self) -> None:
        self.close()

    def __getstate__(self) -> tuple[Any, Any]:
        return reduction.DupFd(self._read), reduction.DupFd(self._write)

    def __setstate__(self, state: tuple[Any, Any]) -> None:
        self._read, self._write = (handle.detach() for handle in state)


class Background:
    """A call that runs in a thread of its own; result() returns or raises what the call did."""

    def __init__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._call = (function, args, kwargs)
        self._outcome: tuple[Any, BaseException | None] | None = None
        self._thread = threading.Thread(target=self._run, name="background", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        function, args, kwargs = self._call
        del self._call
        try:
            self._outcome = (function(*args, **kwargs), None)
        except BaseException as error:
            self._outcome = (None, error)
        del function, args, kwargs

    @property
    def done(self) -> bool:
        """Whether the call has ended."""
        return not self._thread.is_alive()

    def until_blocked(self) -> None:
        """Returns once the thread sleeps inside the call; fails if the call has ended."""
        until_asleep(until(lambda: self._thread.native_id))
        time.sleep(GLANCE_S)
        assert not self.done, f"the call should block, but ended: {self._outcome}"

    def result(self, timeout: float = PATIENCE_S) -> Any:
        """The call's result, or its exception."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            faulthandler.dump_traceback()
            raise AssertionError(f"the call did not end within {timeout} s")
        assert self._outcome is not None
        value, error = self._outcome
        if error is not None:
            try:
                raise error
            finally:
                del error
        return value


def task_state(task: int) -> str:
    """The state letter of a process or thread, '' if there is none."""
    try:
        stat = Path(f"/proc/{task}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return stat.rpartition(")")[2].split()[0]


def until_asleep(task: int) -> None:
    """Returns once a process or thread was found asleep several times in a row."""
    deadline = time.monotonic() + PATIENCE_S
    found = 0
    while found < 6:
        state = task_state(task)
        assert state not in ("", "Z", "X"), f"task {task} ended instead of sleeping"
        found = found + 1 if state == "S" else 0
        assert time.monotonic() < deadline, f"task {task} does not go to sleep"
        time.sleep(0.005)


def start_child_watchdog() -> None:
    """Makes this process print its stacks and die when it outlives CHILD_WATCHDOG_S.

    A signal and not faulthandler.dump_traceback_later(): that one waits in a forked child for the
    parent's watchdog thread, which the child does not have.
    """
    faulthandler.enable()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    faulthandler.register(signal.SIGALRM, chain=True)
    signal.setitimer(signal.ITIMER_REAL, CHILD_WATCHDOG_S)


def in_fork(function: Callable[[], Any]) -> int:
    """Runs a function in a child made by os.fork(), under a watchdog; returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        start_child_watchdog()
        function()
        code = 0
    finally:
        os._exit(code)


def ended(pid: int) -> int:
    """The exit code of such a child, once it has ended."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run_child(target: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """What the children fixture starts: the target under a watchdog."""
    start_child_watchdog()
    if os.environ.get("FASTIPC_TEST_BAN"):
        importlib.import_module("tests.ban").install()
    target(*args)


def resources() -> set[tuple[Any, ...]]:
    """What this process holds now and a test must give back: descriptors, children, names in
    /dev/shm, threads, and mapped segments."""
    held: set[tuple[Any, ...]] = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            held.add(("descriptor", int(name), os.readlink(f"/proc/self/fd/{name}")))
        except FileNotFoundError:  # the one that listdir() itself used
            continue
    for task in os.listdir("/proc/self/task"):
        try:
            children = Path(f"/proc/self/task/{task}/children").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        held.update(("child", int(pid)) for pid in children.split())
    if os.path.isdir("/dev/shm"):
        # Not the semaphores of multiprocessing, which whatever else runs here may create, too.
        names = (name for name in os.listdir("/dev/shm") if not name.startswith("sem."))
        held.update(("/dev/shm", name) for name in names)
    held.update(("thread", thread.name, thread.ident) for thread in threading.enumerate())
    with open("/proc/self/maps") as maps:
        held.update(("mapping", *line.split(None, 5)[::5]) for line in maps if "fastipc:" in line)
    return held


def leaks_since(before: set[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
    """What is held now and was not before; what is only slow to go is waited for."""
    leaked = resources() - before
    if leaked and getattr(resource_sharer._resource_sharer, "_listener", None) is not None:
        resource_sharer.stop(timeout=5)
    deadline = time.monotonic() + 5
    while leaked and time.monotonic() < deadline:
        gc.collect()
        leaked = resources() - before
        if leaked:
            time.sleep(0.01)
    return leaked


def segment_files() -> dict[int, os.stat_result]:
    """The memory files of fastipc that this process has open, by inode."""
    files = {}
    for name in os.listdir("/proc/self/fd"):
        path = f"/proc/self/fd/{name}"
        try:
            if os.readlink(path).startswith("/memfd:fastipc"):
                status = os.stat(path)
                files[status.st_ino] = status
        except FileNotFoundError:
            continue
    return files


def segment_bytes(inode: int) -> int:
    """How much memory a segment that this process has open occupies."""
    return segment_files()[inode].st_blocks * 512


def script_environment() -> dict[str, str]:
    """The environment of a fresh interpreter that is to find fastipc and the tests."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def start_script(
    text: str, *args: str, options: Sequence[str] = (), prefix: Sequence[str] = ()
) -> subprocess.Popen[str]:
    """Starts a program, given as text, in a fresh interpreter; the caller ends it.

    options: of the interpreter; prefix: a command that starts it.
    """
    return subprocess.Popen(
        [*prefix, sys.executable, "-X", "faulthandler", *options, "-c", text, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=script_environment(),
    )


def run_script(
    text: str,
    *args: str,
    timeout: float = PATIENCE_S,
    options: Sequence[str] = (),
    prefix: Sequence[str] = (),
) -> tuple[int, str, str]:
    """Runs a program to its end: exit code, standard output, standard error."""
    with start_script(text, *args, options=options, prefix=prefix) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return process.returncode, out, err
