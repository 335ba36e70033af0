"""The types of the contexts: which class each factory returns, which context each name gives."""

import multiprocessing.context as _standard
from multiprocessing.context import (
    AuthenticationError as AuthenticationError,
    BufferTooShort as BufferTooShort,
    ForkProcess as ForkProcess,
    ForkServerProcess as ForkServerProcess,
    Process as Process,
    ProcessError as ProcessError,
    SpawnProcess as SpawnProcess,
    TimeoutError as TimeoutError,
    assert_spawning as assert_spawning,
    get_spawning_popen as get_spawning_popen,
    set_spawning_popen as set_spawning_popen,
)
from typing import Any, Literal, overload

from ._serializers import Serializer
from .connection import Connection

# Under other names, because the contexts' methods are called like the classes.
from .queues import JoinableQueue as _JoinableQueue, Queue as _Queue, SimpleQueue as _SimpleQueue

__all__ = [
    "AuthenticationError",
    "BaseContext",
    "BufferTooShort",
    "DefaultContext",
    "ForkContext",
    "ForkProcess",
    "ForkServerContext",
    "ForkServerProcess",
    "Process",
    "ProcessError",
    "SpawnContext",
    "SpawnProcess",
    "TimeoutError",
    "assert_spawning",
    "get_spawning_popen",
    "set_spawning_popen",
]

class BaseContext(_standard.BaseContext):
    def Queue(
        self,
        maxsize: int = 0,
        *,
        max_bytes: int | None = None,
        label: str | None = None,
        copy: bool = False,
        serializer: Serializer | None = ...,
    ) -> _Queue[Any]: ...
    def JoinableQueue(
        self,
        maxsize: int = 0,
        *,
        max_bytes: int | None = None,
        label: str | None = None,
        copy: bool = False,
        serializer: Serializer | None = ...,
    ) -> _JoinableQueue[Any]: ...
    def SimpleQueue(
        self, *, label: str | None = None, serializer: Serializer | None = ...
    ) -> _SimpleQueue[Any]: ...
    def Pipe(
        self,
        duplex: bool = True,
        *,
        label: str | None = None,
        serializer: Serializer | None = ...,
    ) -> tuple[Connection[Any, Any], Connection[Any, Any]]: ...
    @overload  # type: ignore[override]  # ours in the place of multiprocessing's
    def get_context(self, method: None = None) -> BaseContext: ...
    @overload
    def get_context(self, method: Literal["spawn"]) -> SpawnContext: ...
    @overload
    def get_context(self, method: Literal["fork"]) -> ForkContext: ...
    @overload
    def get_context(self, method: Literal["forkserver"]) -> ForkServerContext: ...
    @overload
    def get_context(self, method: str) -> BaseContext: ...

class ForkContext(BaseContext, _standard.ForkContext): ...
class SpawnContext(BaseContext, _standard.SpawnContext): ...
class ForkServerContext(BaseContext, _standard.ForkServerContext): ...

class DefaultContext(BaseContext, _standard.DefaultContext):
    def __init__(self) -> None: ...

_concrete_contexts: dict[str, BaseContext]
_default_context: DefaultContext
