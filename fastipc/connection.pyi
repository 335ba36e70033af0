"""The types of pipes and connections."""

import multiprocessing.connection as _standard
from collections.abc import Iterable
from multiprocessing.connection import Client as Client, Listener as Listener
from typing import Any

from typing_extensions import TypeVar

from ._core import ConnectionBase
from ._serializers import Serializer
from ._stats import ConnectionStats

__all__ = ["Client", "Connection", "Listener", "Pipe", "wait"]

_Sent = TypeVar("_Sent", contravariant=True, default=Any)
_Received = TypeVar("_Received", covariant=True, default=Any)

class Connection(ConnectionBase, _standard.Connection[_Sent, _Received]):
    # Again here, because the extension's are found first and know no types.
    def send(self, obj: _Sent) -> None: ...
    def recv(self) -> _Received: ...
    def stats(self) -> ConnectionStats: ...
    def __init__(self, handle: int, readable: bool = True, writable: bool = True) -> None: ...

class StreamConnection(Connection[_Sent, _Received]): ...

def Pipe(
    duplex: bool = True, *, label: str | None = None, serializer: Serializer | None = ...
) -> tuple[Connection[Any, Any], Connection[Any, Any]]: ...
def wait(object_list: Iterable[Any], timeout: float | None = None) -> list[Any]: ...
