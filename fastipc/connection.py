"""Pipes and connections: names, arguments and multiprocessing's manners.

send() and recv() of a pipe's end are the extension's (fastipc._core) and below.  Whatever else
multiprocessing.connection has is found here unchanged.
"""

from __future__ import annotations

import multiprocessing.connection as _standard
import operator
import time
from multiprocessing import reduction

from . import _core, _handles, _serializers

__all__ = ["Client", "Connection", "Listener", "Pipe", "wait"]


class Connection(_core.ConnectionBase, _standard.Connection):
    """One end of a pipe; Pipe() makes them.

    Connection(handle, readable=True, writable=True) wraps the descriptor of an ordinary pipe or
    socket instead, and speaks multiprocessing's format on it.
    https://docs.python.org/3/library/multiprocessing.html#multiprocessing.connection.Connection
    """

    def __new__(cls, *args, **kwargs):
        if cls is Connection and (args or kwargs):
            cls = StreamConnection
        return super().__new__(cls)

    def __init__(self, handle, readable=True, writable=True):
        raise TypeError("use Pipe() to make the ends of a pipe")

    def __del__(self):
        # The base class's would close a descriptor that it does not have.
        pass

    @property
    def _handle(self):
        if self.closed:
            return None
        handles = self._handles()
        return handles[1] if handles[1] >= 0 else handles[2]

    @property
    def _readable(self):
        return self.readable

    @property
    def _writable(self):
        return self.writable

    def _poll(self, timeout):
        return self.poll(timeout)

    def stats(self):
        """Return what went through the pipe in both ways; see fastipc._stats.ConnectionStats.

        Costs about a microsecond for each process attached, and send() and recv() next to nothing.
        Raises OSError once closed.
        """
        from ._stats import ConnectionStats, make

        return ConnectionStats(*map(make, self._stats()))

    def __reduce__(self):
        state = self._handles()[3], _serializers.packed(self._options())
        return _handles.reduce_handle(_rebuild_connection, self, state)

    def __repr__(self):
        ways = {(True, True): "duplex", (True, False): "receiving", (False, True): "sending"}
        way = ways.get((self.readable, self.writable), "unusable")
        label = self._label()
        shown = f"label={label!r} " if label else ""
        closed = "closed " if self.closed else ""
        return f"<fastipc.{type(self).__name__} {shown}{closed}{way} at {id(self):#x}>"


class StreamConnection(Connection):
    """A connection over an ordinary pipe or socket, in multiprocessing's format."""

    # Everything as multiprocessing does it: the shared memory of the base class is not there.
    _handle = None  # type: ignore[assignment]
    _readable = True  # type: ignore[assignment]
    _writable = True  # type: ignore[assignment]
    __del__ = _standard._ConnectionBase.__del__
    closed = _standard._ConnectionBase.closed
    readable = _standard._ConnectionBase.readable
    writable = _standard._ConnectionBase.writable
    fileno = _standard._ConnectionBase.fileno
    close = _standard._ConnectionBase.close
    send_bytes = _standard._ConnectionBase.send_bytes
    send = _standard._ConnectionBase.send
    recv_bytes = _standard._ConnectionBase.recv_bytes
    recv_bytes_into = _standard._ConnectionBase.recv_bytes_into
    recv = _standard._ConnectionBase.recv
    poll = _standard._ConnectionBase.poll
    _poll = _standard.Connection._poll
    __enter__ = _standard._ConnectionBase.__enter__
    __exit__ = _standard._ConnectionBase.__exit__

    def __init__(self, handle, readable=True, writable=True):
        _standard._ConnectionBase.__init__(self, operator.index(handle), readable, writable)

    def stats(self):
        """Raise TypeError: only the ends of a Pipe() know what went through them."""
        raise TypeError(f"{self!r} has no stats(); the ends of a Pipe() have")

    def __reduce__(self):
        return _rebuild_stream, (
            reduction.DupFd(self.fileno()),
            self.readable,
            self.writable,
        )

    def __repr__(self):
        return f"<fastipc.{type(self).__name__} handle={self._handle} at {id(self):#x}>"


def Pipe(duplex=True, *, label=None, serializer=_serializers.PICKLE):
    """Return the two ends of a new pipe.

    duplex=True: both send and receive; False: the first only receives, the second only sends.
    label: a name that is shown by repr() and in /proc, at most 63 bytes.
    serializer: what send() and recv() encode with; see fastipc.queues.Queue.
    Raises TypeError for a serializer that is none, OSError when there are no descriptors left,
    MemoryError when there is no memory.
    https://docs.python.org/3/library/multiprocessing.html#multiprocessing.Pipe
    """
    return _pipe(Connection, Connection, duplex, label, serializer)


def _encoded_label(label: str | None) -> bytes | None:
    if label is None:
        return None
    if not isinstance(label, str):
        raise TypeError(f"label must be a str, not {type(label).__name__}")
    if "\0" in label:
        raise ValueError("label must not contain a null character")
    return label.encode("utf-8", "replace")[:63].decode("utf-8", "ignore").encode()


def _pipe(first_class, second_class, duplex, label, serializer):
    """The two ends of a new pipe, as objects of these classes."""
    _serializers.checked(serializer)
    first = _core.ConnectionBase.__new__(first_class)
    second = _core.ConnectionBase.__new__(second_class)
    _core.make_pipe(first, second, bool(duplex), _encoded_label(label))
    if serializer is not _serializers.PICKLE:
        first._configure(serializer)
        second._configure(serializer)
    _handles.register(first)
    _handles.register(second)
    return first, second


class Listener(_standard.Listener):
    """multiprocessing's Listener, whose connections are fastipc's.

    https://docs.python.org/3/library/multiprocessing.html#multiprocessing.connection.Listener
    """

    def accept(self):
        """Accept a connection, authenticated if there is an authkey; blocks until one comes."""
        return _adopt(super().accept())


def Client(address, family=None, authkey=None):
    """Connect to a Listener and return the connection.

    https://docs.python.org/3/library/multiprocessing.html#multiprocessing.connection.Client
    """
    return _adopt(_standard.Client(address, family, authkey))


def _adopt(connection):
    """One of ours with the descriptor of one of multiprocessing's."""
    if type(connection) is not _standard.Connection:
        return connection
    handle, connection._handle = connection._handle, None
    return Connection(handle, connection._readable, connection._writable)


def wait(object_list, timeout=None):
    """Return those of object_list that are ready, within `timeout` seconds (None: no limit).

    Takes connections, sockets, process sentinels, queues, and whatever has a fileno(); a
    connection is ready when something can be received, or at end of file.
    https://docs.python.org/3/library/multiprocessing.html#multiprocessing.connection.wait
    """
    object_list = list(object_list)
    if all(type(item) is Connection for item in object_list) and len(set(object_list)) == len(
        object_list
    ):
        # Without descriptors as long as something is there.
        ready = [item for item in object_list if item.poll(0)]
        if ready:
            return ready
    deadline = None if timeout is None else time.monotonic() + timeout
    pause = 0.02
    # Ends that are kept open until a pickle of them has arrived would hide an end of file.
    while _handles.settle():
        left = pause if deadline is None else min(pause, deadline - time.monotonic())
        ready = _standard.wait(object_list, left)
        if ready or (deadline is not None and time.monotonic() >= deadline):
            return ready
        pause = 0.5
    return _standard.wait(
        object_list, None if deadline is None else max(0.0, deadline - time.monotonic())
    )


def _rebuild_connection(cls, state, descriptors):
    end, serializer = state
    connection = _core.ConnectionBase.__new__(cls)
    connection._open(*descriptors, end)
    connection._configure(_serializers.unpacked(serializer))
    _handles.register(connection)
    return connection


def _rebuild_stream(duplicate, readable, writable):
    return Connection(duplicate.detach(), readable, writable)


def __getattr__(name):
    # Whatever else the standard module has: answer_challenge, SocketListener, address_type...
    return getattr(_standard, name)
