"""The contexts: multiprocessing's, with fastipc's queues and pipes in them.

Owns which class a context hands out, and nothing about start methods: those, and the choice of the
default, are multiprocessing's own, read and set there each time, so that a program which uses both
packages has one.  Whatever else multiprocessing.context has is found here too.  Types: context.pyi.
"""

import multiprocessing.context as _standard
from multiprocessing.context import (
    AuthenticationError,
    BufferTooShort,
    ForkProcess,
    ForkServerProcess,
    Process,
    ProcessError,
    SpawnProcess,
    TimeoutError,
    assert_spawning,
    get_spawning_popen,
    set_spawning_popen,
)

from ._serializers import PICKLE

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
    """What the three start methods share; Pool and Manager get the context, and so our queues."""

    def Queue(self, maxsize=0, *, max_bytes=None, label=None, copy=False, serializer=PICKLE):
        """Return a queue; see fastipc.queues.Queue."""
        from .queues import Queue

        return Queue(
            maxsize,
            ctx=self.get_context(),
            max_bytes=max_bytes,
            label=label,
            copy=copy,
            serializer=serializer,
        )

    def JoinableQueue(
        self, maxsize=0, *, max_bytes=None, label=None, copy=False, serializer=PICKLE
    ):
        """Return a queue with task_done() and join(); see fastipc.queues.JoinableQueue."""
        from .queues import JoinableQueue

        return JoinableQueue(
            maxsize,
            ctx=self.get_context(),
            max_bytes=max_bytes,
            label=label,
            copy=copy,
            serializer=serializer,
        )

    def SimpleQueue(self, *, label=None, serializer=PICKLE):
        """Return a queue without limits and timeouts; see fastipc.queues.SimpleQueue."""
        from .queues import SimpleQueue

        return SimpleQueue(ctx=self.get_context(), label=label, serializer=serializer)

    def Pipe(self, duplex=True, *, label=None, serializer=PICKLE):
        """Return the two ends of a pipe; see fastipc.connection.Pipe."""
        from .connection import Pipe

        return Pipe(duplex, label=label, serializer=serializer)

    def get_context(self, method=None):
        """Return this context, or fastipc's context for a start method."""
        if method is None:
            return self
        return _ours(super().get_context(method))

    def __reduce_ex__(self, protocol):
        # In each process one object a start method; a user's subclass is pickled like any object.
        if any(self is context for context in _concrete_contexts.values()):
            return _default_context.get_context, (self.get_start_method(),)
        return super().__reduce_ex__(protocol)

    def __repr__(self):
        return f"<fastipc {type(self).__name__}>"


class ForkContext(BaseContext, _standard.ForkContext):
    """fork: the child is a copy of the parent."""


class SpawnContext(BaseContext, _standard.SpawnContext):
    """spawn: the child is a fresh interpreter."""


class ForkServerContext(BaseContext, _standard.ForkServerContext):
    """forkserver: the child is a copy of a server process without threads."""


class DefaultContext(BaseContext, _standard.DefaultContext):
    """The context of the package itself: follows multiprocessing's start method at each call."""

    def __init__(self):
        # Without state of its own: multiprocessing.context._default_context has it all.
        pass

    def get_context(self, method=None):
        """Return the context in force, which fixes the start method, or that of a start method."""
        return _ours(_standard._default_context.get_context(method))

    def set_start_method(self, method, force=False):
        """Set the start method, of multiprocessing and fastipc alike."""
        _standard._default_context.set_start_method(method, force)

    def get_start_method(self, allow_none=False):
        """Return the name of the start method in force."""
        return _standard._default_context.get_start_method(allow_none)

    def get_all_start_methods(self):
        """Return the names of the start methods, the system's default first."""
        return _standard._default_context.get_all_start_methods()

    def __reduce_ex__(self, protocol):
        # The only one: pickled by its name.
        return "_default_context"


_concrete_contexts = {
    "fork": ForkContext(),
    "spawn": SpawnContext(),
    "forkserver": ForkServerContext(),
}
_default_context = DefaultContext()


def _ours(context):
    """Our context in the place of multiprocessing's.

    One that another package registered there under a name of its own is returned as it is.
    """
    return _concrete_contexts.get(context.get_start_method(), context)


def __getattr__(name):
    # The standard library's private helpers, and what a newer Python adds.
    return getattr(_standard, name)
