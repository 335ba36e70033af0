"""Mends faults of the standard library itself that make its own tests hang by chance.

A test that meets one of them hangs with `multiprocessing`, too, so it says nothing about fastipc;
mended in the processes that run the suite, it stays in the suite and says something. What is
mended here is mended in a later patch release of the same Python, and left alone there.
"""

from __future__ import annotations

import concurrent.futures.process
import contextlib
import inspect
import threading
from typing import Any

# An executor's manager thread holds the shutdown lock while it joins the feeder thread, which may
# be waiting for that lock to report an object that cannot be pickled.
FEEDER_DEADLOCK = "https://github.com/python/cpython/issues/125451"


def apply() -> list[str]:
    """Mend what this interpreter needs, once; return the addresses of the faults it had."""
    if not _has_feeder_deadlock():
        return []
    _mend_feeder_deadlock()
    return [FEEDER_DEADLOCK]


def _has_feeder_deadlock() -> bool:
    process: Any = concurrent.futures.process
    # Up to 3.11 the manager joins before it locks; from 3.12.8 and 3.13.1 the feeder does not lock.
    joins_under_lock = hasattr(process._ExecutorManagerThread, "_join_executor_internals")
    feeder_locks = "shutdown_lock" in inspect.signature(process._SafeQueue.__init__).parameters
    return joins_under_lock and feeder_locks


def _mend_feeder_deadlock() -> None:
    """Let the feeder wake the manager without the shutdown lock: the wake-up pipe has its own."""
    process: Any = concurrent.futures.process
    queue, wakeup = process._SafeQueue, process._ThreadWakeup
    make_queue, make_wakeup = queue.__init__, wakeup.__init__
    wake, close = wakeup.wakeup, wakeup.close

    def init_queue(self: Any, *args: Any, shutdown_lock: Any, **options: Any) -> None:
        make_queue(self, *args, shutdown_lock=contextlib.nullcontext(), **options)

    def init_wakeup(self: Any) -> None:
        self._guard = threading.Lock()
        make_wakeup(self)

    def guarded_wake(self: Any) -> None:
        with self._guard:
            wake(self)

    def guarded_close(self: Any) -> None:
        with self._guard:
            close(self)

    queue.__init__, wakeup.__init__ = init_queue, init_wakeup
    wakeup.wakeup, wakeup.close = guarded_wake, guarded_close
