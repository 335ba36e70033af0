"""The types of what queues.py and connection.py use to let a handle travel."""

from collections.abc import Callable
from typing import Any, TypeVar

from ._core import ConnectionBase, QueueBase

_H = TypeVar("_H", bound=QueueBase | ConnectionBase)
_State = TypeVar("_State")

def register(handle: QueueBase | ConnectionBase) -> None: ...
def attached() -> list[QueueBase | ConnectionBase]: ...
def spawning() -> bool: ...
def reduce_handle(
    rebuild: Callable[[type[_H], _State, list[int]], _H], handle: _H, state: _State
) -> tuple[Callable[..., _H], tuple[Any, ...]]: ...
def settle() -> bool: ...
