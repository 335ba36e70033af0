"""Makes the constructors of multiprocessing's queues, pipes and semaphores raise.

A pytest plugin (-p tests.ban) for the run that shows that fastipc uses none of them; children
install it, too, when FASTIPC_TEST_BAN is set.
"""

from __future__ import annotations

import os
from typing import Any, NoReturn

VARIABLE = "FASTIPC_TEST_BAN"


class BannedError(BaseException):
    """Somebody made an object of multiprocessing's; no handler for Exception hides it."""


def _banned(name: str) -> Any:
    def construct(*_: Any, **__: Any) -> NoReturn:
        raise BannedError(f"multiprocessing's {name} was used")

    return construct


def install() -> None:
    """Bans the constructors in this process."""
    from multiprocessing import connection, queues, synchronize

    for cls in (queues.Queue, queues.JoinableQueue, queues.SimpleQueue, synchronize.SemLock):
        cls.__init__ = _banned(cls.__name__)
    connection.Pipe = _banned("Pipe")
    allowed = connection.Connection.__init__

    def construct(self: connection.Connection, *args: Any, **kwargs: Any) -> None:
        # A subclass may be built on it: over a descriptor of the user's own.
        if type(self) is connection.Connection:
            raise BannedError("multiprocessing's Connection was used")
        allowed(self, *args, **kwargs)

    connection.Connection.__init__ = construct  # type: ignore[method-assign]


def pytest_configure() -> None:
    """Bans them in pytest's process and, through the environment, in its children."""
    os.environ[VARIABLE] = "1"
    install()
