"""PID namespaces whose processes have equal pids, for tests: each has an idle process 1, and what
is forked into a fresh one is its process 2. Needs the right to make namespaces (root).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterator

_CLONE_NEWPID = 0x20000000
_PR_SET_PDEATHSIG = 1
_WALL = 0x40000000  # threads and traced processes too
_libc = ctypes.CDLL(None, use_errno=True)
_plain_fork = os.fork

FIRST_PID = 2
"""The pid that the first process forked into a namespace has there."""


class UnsupportedError(Exception):
    """This process may not make PID namespaces; the message says why."""


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*arguments) < 0:
        error = ctypes.get_errno()
        raise UnsupportedError(f"{name}() of a PID namespace: {os.strerror(error)}")


class Namespace:
    """A PID namespace of its own below this process's; close() kills all that lives in it."""

    def __init__(self) -> None:
        own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        ready, telling = os.pipe()
        try:
            _call("unshare", _CLONE_NEWPID)
            try:
                self._init = _plain_fork()
                if self._init == 0:
                    _idle(telling)
            finally:
                _call("setns", own, _CLONE_NEWPID)
            self._namespace = os.open(f"/proc/{self._init}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
            os.close(telling)
            telling = -1
            if os.read(ready, 1):  # nothing: it was closed by the other program's start
                os.waitpid(self._init, 0)
                os.close(self._namespace)
                raise UnsupportedError("process 1 of a PID namespace could not become `sleep`")
        finally:
            os.close(own)
            os.close(ready)
            if telling >= 0:
                os.close(telling)

    def fork(self) -> int:
        """As os.fork(), with the child in here; the first one has FIRST_PID as its pid."""
        own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _call("setns", self._namespace, _CLONE_NEWPID)
            try:
                return _plain_fork()
            finally:
                # In the child too, where it fails: a namespace above one's own cannot be entered.
                with contextlib.suppress(UnsupportedError):
                    _call("setns", own, _CLONE_NEWPID)
        finally:
            os.close(own)

    def close(self, *, reap_others: bool = False) -> None:
        """Ends the namespace, and with it each process in it. Whoever forked or traced them has
        to wait for them first, or says that any other child of this process may be reaped here:
        process 1 ends behind all others."""
        os.close(self._namespace)
        os.kill(self._init, signal.SIGKILL)
        if not reap_others:
            os.waitpid(self._init, 0)
            return
        while os.waitpid(-1, _WALL)[0] != self._init:
            pass


def _idle(telling: int) -> None:
    """Process 1 of a namespace: holds nothing that a test looks at, ends with its parent.

    Another program: a child that was forked and lives on would share whatever its parent views.
    """
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.closerange(0, telling)
        os.closerange(telling + 1, 4096)
        os.execvp("sleep", ["sleep", "infinity"])
    finally:
        os.write(telling, b"-")
        os._exit(1)


@contextlib.contextmanager
def each_fork_in_a_namespace_of_its_own() -> Iterator[Callable[[], int]]:
    """Gives a replacement of os.fork(), each child of which is process FIRST_PID of a fresh
    namespace; what these fork themselves stays with them. The namespaces end with the block, and
    each child that was left, such as one that was traced and not waited for, is reaped."""
    owner = os.getpid()
    with contextlib.ExitStack() as stack:

        def fork() -> int:
            if os.getpid() != owner:
                return _plain_fork()
            namespace = Namespace()
            stack.callback(namespace.close, reap_others=True)
            pid = namespace.fork()
            if pid == 0 and os.getpid() != FIRST_PID:
                os._exit(99)
            return pid

        yield fork


def why_not() -> str:
    """Why no namespace can be made here; '' if one can."""
    try:
        Namespace().close()
    except (UnsupportedError, OSError) as error:
        return str(error)
    return ""
