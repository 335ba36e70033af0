"""The types of pipes and connections."""

import multiprocessing.connection as _standard
from collections.abc import Iterable
from multiprocessing.connection import Client as Client, Listener as Listener
from typing import Any

from ._core import ConnectionBase

__all__ = ["Client", "Connection", "Listener", "Pipe", "wait"]

class Connection(ConnectionBase, _standard.Connection):
    def __init__(self, handle: int, readable: bool = True, writable: bool = True) -> None: ...

class StreamConnection(Connection): ...

def Pipe(duplex: bool = True, *, label: str | None = None) -> tuple[Connection, Connection]: ...
def wait(object_list: Iterable[Any], timeout: float | None = None) -> list[Any]: ...
