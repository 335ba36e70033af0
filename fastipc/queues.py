"""The queues: names, arguments and multiprocessing's manners.

What happens in put() and get() is the extension's (fastipc._core) and below; how a queue reaches
another process is _handles.py's.
"""

from __future__ import annotations

import multiprocessing.queues as _standard
import operator
import os
import threading
import weakref
from queue import Empty, Full
from types import GenericAlias

from . import _core, _handles, _serializers
from ._shutdown import ShutDown
from .connection import Connection, _encoded_label, _pipe, wait

__all__ = ["Empty", "Full", "JoinableQueue", "Queue", "ShutDown", "SimpleQueue"]

# multiprocessing's: the largest value of a semaphore.
_MAXSIZE_LIMIT = 2**31 - 1


def _limit(name: str, value: object, maximum: int) -> int:
    """A limit as csrc/ wants it: 0 for none."""
    number = operator.index(value)  # type: ignore[arg-type]
    if number > maximum:
        raise OverflowError(f"{name} is {number}; the largest is {maximum}")
    return max(number, 0)


# A forked child must not find a lock held by a thread that exists only in its parent, nor an
# item that its parent has taken.
_end_locks: weakref.WeakSet[_EndLock] = weakref.WeakSet()
_shared_readers: weakref.WeakSet[_SharedReader] = weakref.WeakSet()


def _start_anew_in_child() -> None:
    for lock in list(_end_locks):
        lock._lock._at_fork_reinit()
    for reader in list(_shared_readers):
        reader._taken = None
    for handle in _handles.attached():
        if isinstance(handle, _core.QueueBase):
            handle._forget_taken()


os.register_at_fork(after_in_child=_start_anew_in_child)


class _EndLock:
    """What stands for the lock on one end of a queue, which needs none.

    The standard library takes it around its own use of the end.  It excludes threads of one
    process; a message is received by one process as a whole with or without it.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self.acquire = self._lock.acquire
        self.release = self._lock.release
        self.locked = self._lock.locked
        _end_locks.add(self)

    def __enter__(self):
        return self._lock.__enter__()

    def __exit__(self, *exc_info):
        return self._lock.__exit__(*exc_info)

    def __reduce__(self):
        return _EndLock, ()


class _QueueEnd(Connection):
    """One end of a queue under the names of a connection, for code that reads `queue._reader`."""

    readable = None  # type: ignore[assignment]
    writable = None  # type: ignore[assignment]

    def __init__(self, queue, readable):
        self._queue = weakref.proxy(queue)
        self.readable = readable
        self.writable = not readable

    def fileno(self):
        """Return the queue's descriptor; see Queue.fileno()."""
        if self.closed:
            raise OSError("handle is closed")
        return self._queue.fileno()

    def poll(self, timeout=0.0):
        """Return whether recv() need not wait longer than `timeout` seconds (None: for ever)."""
        if self.closed:
            raise OSError("handle is closed")
        if not self._queue.empty() or self._queue.is_shutdown:
            return True
        if timeout is not None and timeout <= 0:
            return False
        return bool(wait([self], timeout))

    def recv(self):
        """Take an item; see Queue.get()."""
        return self._queue.get()

    def recv_bytes(self, maxlength=None):
        """Take an item as bytes, a pickle or what a serializer made; see Queue.get_bytes()."""
        if maxlength is not None and maxlength < 0:
            raise ValueError("negative maxlength")
        data = self._queue.get_bytes()
        if maxlength is not None and len(data) > maxlength:
            raise OSError("bad message length")
        return data

    def recv_bytes_into(self, buf, offset=0):
        """Take an item, as recv_bytes() does, into a buffer; see Queue.get_bytes_into()."""
        return self._queue.get_bytes_into(buf, offset)

    def send(self, obj):
        """Put an item; see Queue.put()."""
        self._queue.put(obj)

    def send_bytes(self, buf, offset=0, size=None):
        """Put the item whose bytes are in `buf`; see Queue.put_bytes()."""
        data = memoryview(buf).cast("B")
        # As Connection.send_bytes() does: a slice would take what is there.
        if offset < 0:
            raise ValueError("offset is negative")
        if len(data) < offset:
            raise ValueError("buffer length < offset")
        if size is None:
            size = len(data) - offset
        elif size < 0:
            raise ValueError("size is negative")
        elif len(data) < offset + size:
            raise ValueError("buffer length < offset + size")
        self._queue.put_bytes(data[offset : offset + size])

    def close(self):
        """Do nothing: the queue has one life, and Queue.close() ends it."""

    @property
    def closed(self):
        """True if the queue is closed, or gone."""
        try:
            return self._queue._closed
        except ReferenceError:
            return True

    def __reduce__(self):
        raise TypeError(f"{self!r} does not travel; send the queue")

    def __repr__(self):
        return f"<{'reading' if self.readable else 'writing'} end of a fastipc queue>"


class _Part:
    """An attribute that the standard library's code finds in its queues, made when asked for.

    Half of the time that a queue took to make went into them.  Not __getattr__(): a class with
    that has slower method calls.
    """

    def __init__(self, make):
        self._make = make

    def __set_name__(self, owner, name):
        self._name = name
        _PARTS.add(name)

    def __get__(self, queue, cls=None):
        if queue is None:
            return self
        # setdefault: one for all threads.
        return queue.__dict__.setdefault(self._name, self._make(queue))


_PARTS: set[str] = set()


class Queue(_core.QueueBase, _standard.Queue):
    """A first-in first-out queue for many processes and threads, in shared memory.

    maxsize    the most items that it holds; 0 or less: no limit, and put() never blocks
    max_bytes  the most bytes of messages that it holds; None: no limit
    label      a name that is shown by repr() and in /proc, at most 63 bytes
    copy       True: get() copies large buffers, such as NumPy arrays, in the place of
               returning objects over shared memory
    serializer an object with dumps(obj), which returns something bytes-like, and
               loads(memoryview), of a read-only one; or None: bytes-like objects only, nothing
               is ever pickled; it travels with the queue (a module by its name)
    ctx        accepted for multiprocessing's sake; a queue serves every start method

    Raises OverflowError for a maxsize above 2147483647, TypeError for one that is no integer
    and for a serializer that is none, MemoryError or OSError when there is no memory or no
    descriptor left.
    https://docs.python.org/3/library/multiprocessing.html#multiprocessing.Queue
    """

    __class_getitem__ = classmethod(GenericAlias)

    def __init__(
        self,
        maxsize=0,
        *,
        ctx=None,
        max_bytes=None,
        label=None,
        copy=False,
        serializer=_serializers.PICKLE,
    ):
        items = _limit("maxsize", maxsize, _MAXSIZE_LIMIT)
        size = 0 if max_bytes is None else _limit("max_bytes", max_bytes, 2**62)
        if max_bytes is not None and size == 0:
            raise ValueError(f"max_bytes must be positive, not {max_bytes}; None is no limit")
        serializer = _serializers.checked(serializer)
        self._create(items, size, _encoded_label(label))
        self._configure(bool(copy), serializer)
        self._set_up()

    _ignore_epipe = False
    _maxsize = _Part(lambda queue: queue._limits()[0] or _MAXSIZE_LIMIT)
    _reader = _Part(lambda queue: _QueueEnd(queue, True))
    _writer = _Part(lambda queue: _QueueEnd(queue, False))
    _rlock = _Part(lambda queue: _EndLock())
    _wlock = _Part(lambda queue: _EndLock())
    _poll = _Part(lambda queue: queue._reader.poll)

    def _set_up(self):
        _handles.register(self)

    def __reduce__(self):
        if type(self).__reduce__ is Queue.__reduce__ and self._closed:
            raise ValueError(f"Queue {self!r} is closed")
        copy, serializer = self._options()
        state = self.__getstate__(), copy, _serializers.packed(serializer)
        return _handles.reduce_handle(_rebuild_queue, self, state)

    def __getstate__(self):
        """Return what a subclass has added; the rest is in shared memory."""
        return {name: value for name, value in self.__dict__.items() if name not in _PARTS}

    def __setstate__(self, state):
        self.__dict__.update(state)

    def _pickling_failed(self, error, obj):
        # multiprocessing's feeder calls this hook; a subclass that has its own wants that.
        if type(self)._on_queue_feeder_error is _standard.Queue._on_queue_feeder_error:
            return False
        self._on_queue_feeder_error(error, obj)
        return True

    def stats(self):
        """Return what has gone through the queue and how it is now; see fastipc._stats.Stats.

        Costs about a microsecond for each process attached, and put() and get() next to nothing.
        Raises ValueError when the queue is closed.
        """
        from ._stats import make

        return make(self._stats())

    def join_thread(self):
        """Do nothing, once the queue is closed: there is no thread to wait for."""
        assert self._closed, f"Queue {self!r} not closed"

    def cancel_join_thread(self):
        """Do nothing: there is no thread, and what was put is in the queue."""

    @property
    def closed(self):
        """True if the queue was closed in this process."""
        return self._closed

    def __repr__(self):
        maxsize, max_bytes, label = self._limits()
        parts = [f"label={label!r}"] if label else []
        if maxsize:
            parts.append(f"maxsize={maxsize}")
        if max_bytes:
            parts.append(f"max_bytes={max_bytes}")
        if self.is_shutdown:
            parts.append("shut down")
        parts.append("closed" if self._closed else f"items={self.qsize()}")
        return f"<fastipc.{type(self).__name__} {' '.join(parts)} at {id(self):#x}>"


class JoinableQueue(Queue, _standard.JoinableQueue):
    """A Queue that counts what was put and not yet marked done.

    https://docs.python.org/3/library/multiprocessing.html#multiprocessing.JoinableQueue
    """

    def task_done(self):
        """Mark one item as done.

        Raises ValueError when called more often than items were put, without those that
        shutdown(immediate=True) gave up.
        """
        self._task_done()

    def join(self):
        """Block until every item that was put has been marked done, or given up by a shutdown."""
        self._join()


class _SharedReader(Connection):
    """The reading end of a SimpleQueue.

    The standard library takes the queue's _rlock, polls, and relies on it that recv() then does
    not block, as Pool does when it empties its task queue.  The lock keeps no other process out
    here, so under it poll() already takes what it reports.
    """

    _rlock = None
    _taken = None  # a tuple with the object that poll() took

    def poll(self, timeout=0.0):
        """Return whether recv() has something to return within `timeout` seconds."""
        if self._taken is not None:
            return True
        if self._rlock is None or not self._rlock.locked():
            return super().poll(timeout)
        while super().poll(timeout):
            try:
                self._taken = self._recv_now()
            except EOFError:
                return True
            if self._taken is not None or (timeout is not None and timeout <= 0):
                break
        return self._taken is not None

    def recv(self):
        """Receive the next object; blocks until there is one."""
        taken, self._taken = self._taken, None
        return super().recv() if taken is None else taken[0]


class SimpleQueue(_standard.SimpleQueue):
    """A queue with get(), put(), empty() and close(); put() blocks while its pipe is full.

    label and serializer: as for Queue.

    https://docs.python.org/3/library/multiprocessing.html#multiprocessing.SimpleQueue
    """

    __class_getitem__ = classmethod(GenericAlias)

    def __init__(self, *, ctx=None, label=None, serializer=_serializers.PICKLE):
        self._set_up(*_pipe(_SharedReader, Connection, False, label, serializer))

    def _set_up(self, reader, writer):
        self._reader = reader
        self._writer = writer
        self._rlock = _EndLock()
        self._wlock = _EndLock()
        reader._rlock = self._rlock
        _shared_readers.add(reader)
        self._poll = reader.poll
        self._recv = super(_SharedReader, reader).recv
        self._send = writer.send
        self._reading = self._rlock.locked
        self._writing = self._wlock.locked

    def get(self):
        """Take the oldest item; blocks until there is one.

        Raises EOFError when nothing is left and nobody can put any more, OSError once closed.
        """
        if self._reading() or self._reader._taken is not None:
            with self._rlock:
                return self._reader.recv()
        return self._recv()

    def put(self, item):
        """Put an item, pickled in this call; blocks while the pipe is full."""
        if self._writing():
            with self._wlock:
                return self._send(item)
        return self._send(item)

    def fileno(self):
        """Return a descriptor that is readable while there is an item, or nobody can put."""
        return self._reader.fileno()

    def stats(self):
        """Return what has gone through the queue and how it is now; see fastipc._stats.Stats.

        Raises OSError once closed.
        """
        return self._reader.stats().received

    def empty(self):
        """Return True if there is no item; OSError once closed."""
        return not self._poll()

    def close(self):
        """Give up this object's share of the queue; other processes go on."""
        self._reader.close()
        self._writer.close()

    def _attach(self):
        self._reader._attach()
        self._writer._attach()

    def _check(self):
        return self._reader._check()

    def __getstate__(self):
        return self._reader, self._writer

    def __setstate__(self, state):
        self._set_up(*state)

    def __repr__(self):
        label = self._reader._label()
        shown = f"label={label!r} " if label else ""
        closed = "closed " if self._reader.closed else ""
        return f"<fastipc.{type(self).__name__} {shown}{closed}at {id(self):#x}>"


def _rebuild_queue(cls, state, descriptors):
    queue = cls.__new__(cls)
    state, copy, serializer = state
    queue._open(*descriptors)
    queue._configure(copy, _serializers.unpacked(serializer))
    queue._set_up()
    queue.__setstate__(state)
    return queue
