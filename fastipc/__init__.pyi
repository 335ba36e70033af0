"""The types of the package's names, most of which are bound at run time (see __init__.py)."""

from multiprocessing import reduction as reducer
from multiprocessing.process import (
    active_children as active_children,
    current_process as current_process,
    parent_process as parent_process,
)
from queue import Empty as Empty, Full as Full

from . import context as context
from ._core import (
    get_view_bytes as get_view_bytes,
    get_view_limit as get_view_limit,
    set_view_limit as set_view_limit,
)
from .connection import Pipe as Pipe
from .context import (
    AuthenticationError as AuthenticationError,
    BufferTooShort as BufferTooShort,
    Process as Process,
    ProcessError as ProcessError,
    TimeoutError as TimeoutError,
    _default_context,
)
from .queues import (
    JoinableQueue as JoinableQueue,
    Queue as Queue,
    ShutDown as ShutDown,
    SimpleQueue as SimpleQueue,
)

__all__ = [
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BufferTooShort",
    "Condition",
    "Empty",
    "Event",
    "Full",
    "JoinableQueue",
    "Lock",
    "Manager",
    "Pipe",
    "Pool",
    "Process",
    "ProcessError",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "ShutDown",
    "SimpleQueue",
    "TimeoutError",
    "Value",
    "active_children",
    "allow_connection_pickling",
    "cpu_count",
    "current_process",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "get_view_bytes",
    "get_view_limit",
    "log_to_stderr",
    "parent_process",
    "reducer",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
    "set_view_limit",
]

__version__: str
SUBDEBUG: int
SUBWARNING: int

# Bound methods of the default context, as in multiprocessing.
Array = _default_context.Array
Barrier = _default_context.Barrier
BoundedSemaphore = _default_context.BoundedSemaphore
Condition = _default_context.Condition
Event = _default_context.Event
Lock = _default_context.Lock
Manager = _default_context.Manager
Pool = _default_context.Pool
RLock = _default_context.RLock
RawArray = _default_context.RawArray
RawValue = _default_context.RawValue
Semaphore = _default_context.Semaphore
Value = _default_context.Value
allow_connection_pickling = _default_context.allow_connection_pickling
cpu_count = _default_context.cpu_count
freeze_support = _default_context.freeze_support
get_all_start_methods = _default_context.get_all_start_methods
get_context = _default_context.get_context
get_logger = _default_context.get_logger
get_start_method = _default_context.get_start_method
log_to_stderr = _default_context.log_to_stderr
set_executable = _default_context.set_executable
set_forkserver_preload = _default_context.set_forkserver_preload
set_start_method = _default_context.set_start_method
