"""The types of the queues: generic in what they carry."""

import multiprocessing.queues as _standard
from collections.abc import Iterable
from queue import Empty as Empty, Full as Full
from types import GenericAlias
from typing import Any, SupportsFloat, SupportsIndex, TypeVar

from ._core import QueueBase
from ._serializers import Serializer
from ._shutdown import ShutDown as ShutDown
from ._stats import Stats
from .connection import Connection
from .context import BaseContext

__all__ = ["Empty", "Full", "JoinableQueue", "Queue", "ShutDown", "SimpleQueue"]

_T = TypeVar("_T")

class Queue(QueueBase, _standard.Queue[_T]):
    def __init__(
        self,
        maxsize: int = 0,
        *,
        ctx: BaseContext | None = None,
        max_bytes: int | None = None,
        label: str | None = None,
        copy: bool = False,
        serializer: Serializer | None = ...,
    ) -> None: ...
    def put(self, obj: _T, block: bool = True, timeout: SupportsFloat | None = None) -> None: ...
    def put_nowait(self, obj: _T) -> None: ...
    def get(
        self,
        block: bool = True,
        timeout: SupportsFloat | None = None,
        *,
        copy: bool | None = None,
    ) -> _T: ...
    def get_nowait(self) -> _T: ...
    def put_many(
        self, items: Iterable[_T], block: bool = True, timeout: SupportsFloat | None = None
    ) -> None: ...
    def get_many(
        self,
        max_items: SupportsIndex,
        block: bool = True,
        timeout: SupportsFloat | None = None,
        *,
        copy: bool | None = None,
    ) -> list[_T]: ...
    @classmethod
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    def stats(self) -> Stats: ...
    def join_thread(self) -> None: ...
    def cancel_join_thread(self) -> None: ...
    @property
    def closed(self) -> bool: ...
    # What travels is not what multiprocessing's queues send, hence the overrides.
    def __getstate__(self) -> dict[str, Any]: ...  # type: ignore[override]
    def __setstate__(self, state: dict[str, Any]) -> None: ...  # type: ignore[override]

class JoinableQueue(Queue[_T], _standard.JoinableQueue[_T]):  # type: ignore[misc]
    def task_done(self) -> None: ...
    def join(self) -> None: ...

class SimpleQueue(_standard.SimpleQueue[_T]):
    def __init__(
        self,
        *,
        ctx: BaseContext | None = None,
        label: str | None = None,
        serializer: Serializer | None = ...,
    ) -> None: ...
    def get(self) -> _T: ...
    def put(self, item: _T) -> None: ...
    def stats(self) -> Stats: ...
    def empty(self) -> bool: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...
    def __getstate__(self) -> tuple[Connection, Connection]: ...  # type: ignore[override]
    def __setstate__(  # type: ignore[override]
        self, state: tuple[Connection, Connection]
    ) -> None: ...
