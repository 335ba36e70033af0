"""The worker processes of the demo: watched while they work, ended in every case.

Owns signals and life and death. What the workers do is in `_demo_job`.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import parent_process
from multiprocessing.connection import wait
from types import FrameType
from typing import Any

# How long a worker may take to leave once it has been told to.
LEAVE_SECONDS = 10.0


class JobError(Exception):
    """The job could not be done: a worker died, or what came back is not what was sent."""


def leave_with_the_parent() -> None:
    """Be a thread that ends its process, a worker, when the parent has ended.

    A parent that was killed cannot do it, and a worker blocked in `get()` would stay for ever.
    The thread sleeps until then, so it costs the measurement nothing.
    """
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class Interruptions:
    """Ctrl-C and the death of a worker, made exceptions where the job expects them.

    They can come at any time, also while processes are being started or ended, where an exception
    would leave some of them behind. So, while a `with` statement on this object runs in the main
    thread, Ctrl-C waits, except inside `let_in()`.
    """

    def __init__(self) -> None:
        self._let_in = False
        self._interrupted = False
        self._ended: list[Any] = []
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interruptions:
        for number in (signal.SIGINT, signal.SIGUSR1):
            # A program that was started in the background may have to ignore Ctrl-C.
            if number != signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._notice)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._interrupted:
            raise KeyboardInterrupt

    def _notice(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            self._interrupted = True
        if self._let_in:
            self._let_in = False
            self._raise()

    def _raise(self) -> None:
        if self._interrupted:
            raise KeyboardInterrupt
        if self._ended:
            worker = self._ended[0]
            worker.join(LEAVE_SECONDS)  # its sentinel is a little ahead of its exit code
            raise JobError(f"{worker.name} {how_it_ended(worker)}")

    @contextmanager
    def let_in(self, workers: Sequence[Any]) -> Iterator[None]:
        """Raise KeyboardInterrupt, or JobError as soon as a worker ends, whatever call blocks."""
        owners = {worker.sentinel: worker for worker in workers}
        stop, stopper = os.pipe()

        def wait_for_an_end() -> None:
            ended = [owners[ready] for ready in wait([*owners, stop]) if ready != stop]
            if ended:
                self._ended = ended
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

        watcher = threading.Thread(target=wait_for_an_end, daemon=True)
        watcher.start()
        try:
            try:
                self._let_in = True
                self._raise()  # what came before
                yield
            finally:
                self._let_in = False
        finally:  # also when the exception came just before that assignment
            os.close(stopper)
            watcher.join()
            os.close(stop)


@contextmanager
def sigint_blocked() -> Iterator[None]:
    """Have processes that are started here begin with SIGINT blocked.

    Ctrl-C reaches them too, and would meet some before they can ignore it.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def end(workers: Sequence[Any]) -> None:
    """Leave none of the workers alive, whatever state they are in."""
    for stop in ("terminate", "kill"):
        for worker in workers:
            if worker.is_alive():
                getattr(worker, stop)()
        for worker in workers:
            worker.join(1)
    for worker in workers:
        worker.close()


def how_it_ended(worker: Any) -> str:
    """Return the rest of a sentence that begins with the worker's name."""
    code = worker.exitcode
    if code is None:
        return f"(pid {worker.pid}) did not leave"
    if code < 0:
        return f"(pid {worker.pid}) was killed by {signal.Signals(-code).name}"
    return f"(pid {worker.pid}) died with exit code {code}"
