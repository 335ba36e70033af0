"""Contract "Pipe and Connection": close, properties, context manager, construction, wire format."""

from __future__ import annotations

import gc
import mmap
import os
import select
import socket
import struct
from multiprocessing import connection as standard

import pytest

from tests.support import Background, until


def is_open(fd, link):
    """Whether the descriptor still is what it was."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}") == link
    except FileNotFoundError:
        return False


def test_close_may_be_repeated_and_closes_the_descriptor(pipe):
    left, _ = pipe
    fd = left.fileno()
    assert isinstance(fd, int)
    link = os.readlink(f"/proc/self/fd/{fd}")
    assert left.closed is False
    assert left.close() is None
    assert left.closed is True
    assert left.close() is None
    assert not is_open(fd, link)


@pytest.mark.parametrize(
    "call",
    [
        ("send", 1),
        ("send_bytes", b"1"),
        ("recv",),
        ("recv_bytes",),
        ("recv_bytes_into", bytearray(3)),
        ("poll",),
        ("fileno",),
        ("__enter__",),
    ],
    ids=lambda call: call[0],
)
def test_a_closed_connection_raises_os_error(pipe, call):
    left, _ = pipe
    left.close()
    if call[0] == "__enter__":
        assert left.__enter__() is left  # the one method that does not look
        return
    with pytest.raises(OSError, match="^handle is closed$"):
        getattr(left, call[0])(*call[1:])


def test_a_closed_connection_still_tells_its_properties(pipe):
    left, _ = pipe
    left.close()
    assert (left.closed, left.readable, left.writable) == (True, True, True)


def test_garbage_collection_closes_a_connection(impl):
    reader, writer = impl.Pipe(False)
    fd = writer.fileno()
    link = os.readlink(f"/proc/self/fd/{fd}")
    del writer
    gc.collect()
    until(lambda: not is_open(fd, link))
    with pytest.raises(EOFError):
        reader.recv()
    reader.close()


def test_a_connection_is_a_context_manager_that_closes(pipe):
    left, right = pipe
    with left as entered:
        assert entered is left
        left.send(1)
    assert left.closed
    assert right.recv() == 1
    with pytest.raises(ZeroDivisionError):
        with right:
            raise ZeroDivisionError
    assert right.closed


@pytest.mark.parametrize("name", ["closed", "readable", "writable"])
def test_the_properties_cannot_be_set(pipe, name):
    with pytest.raises(AttributeError):
        setattr(pipe[0], name, True)


def test_a_connection_with_a_negative_handle_is_a_value_error(impl):
    with pytest.raises(ValueError, match="^invalid handle$"):
        impl.connection.Connection(-1)


def test_a_connection_of_neither_direction_is_a_value_error(impl):
    left, right = os.pipe()
    with pytest.raises(ValueError):
        impl.connection.Connection(left, readable=False, writable=False)
    os.close(left)
    os.close(right)


@pytest.fixture
def over_pipe(impl):
    """Connections over the two descriptors of a plain pipe."""
    read_fd, write_fd = os.pipe()
    reader = impl.connection.Connection(read_fd, writable=False)
    writer = impl.connection.Connection(write_fd, readable=False)
    yield reader, writer
    reader.close()
    writer.close()


def test_connections_over_a_plain_pipe_exchange_objects(over_pipe):
    reader, writer = over_pipe
    writer.send(["any", "object"])
    assert reader.poll(20)
    assert reader.recv() == ["any", "object"]
    assert not reader.poll()
    with pytest.raises(OSError, match="^connection is read-only$"):
        reader.send(1)
    writer.close()
    with pytest.raises(EOFError):
        reader.recv()


def test_a_short_message_goes_over_a_descriptor_as_length_and_body(over_pipe):
    reader, writer = over_pipe
    writer.send_bytes(b"hello")
    assert os.read(reader.fileno(), 100) == struct.pack("!i", 5) + b"hello"
    writer.send_bytes(b"")
    assert os.read(reader.fileno(), 100) == struct.pack("!i", 0)


def test_a_message_from_a_plain_writer_is_received(over_pipe):
    reader, writer = over_pipe
    os.write(writer.fileno(), struct.pack("!i", 3) + b"abc" + struct.pack("!i", 0))
    assert reader.recv_bytes() == b"abc"
    assert reader.recv_bytes() == b""


def test_header_and_body_are_one_write_up_to_16384_bytes(impl):
    # Of a socket of packets, each write arrives as one packet.
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, impl.connection.Connection(ours.detach()) as writer:
        writer.send_bytes(b"x" * 16384)
        assert theirs.recv(2**20) == struct.pack("!i", 16384) + b"x" * 16384
        writer.send_bytes(b"x" * 16385)
        assert theirs.recv(2**20) == struct.pack("!i", 16385)
        assert theirs.recv(2**20) == b"x" * 16385


def test_a_length_over_two_gigabytes_is_sent_as_minus_one_and_eight_bytes(over_pipe):
    reader, writer = over_pipe
    size = 2**31
    untouched = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    call = Background(writer.send_bytes, untouched)
    header = b""
    while len(header) < 12:
        header += os.read(reader.fileno(), 12 - len(header))
    assert header == struct.pack("!iQ", -1, size)
    reader.close()
    with pytest.raises(BrokenPipeError):
        call.result()


def test_a_length_of_eight_bytes_is_received(over_pipe):
    reader, writer = over_pipe
    os.write(writer.fileno(), struct.pack("!iQ", -1, 5) + b"hello")
    assert reader.recv_bytes() == b"hello"


def test_an_end_in_the_middle_of_a_message_is_an_os_error(over_pipe):
    reader, writer = over_pipe
    os.write(writer.fileno(), struct.pack("!i", 10) + b"only")
    writer.close()
    with pytest.raises(OSError, match="^got end of file during message$"):
        reader.recv_bytes()


def test_a_connection_speaks_with_multiprocessings_own_over_a_socket(impl):
    ours, theirs = socket.socketpair()
    with impl.connection.Connection(ours.detach()) as left:
        with standard.Connection(theirs.detach()) as right:
            left.send({"to": "the standard"})
            assert right.recv() == {"to": "the standard"}
            right.send_bytes(b"y" * 20_000)
            assert left.recv_bytes() == b"y" * 20_000
            right.close()
            with pytest.raises(EOFError):
                left.recv()


@pytest.mark.multiprocessing_only("pipe-is-shared-memory")
def test_the_descriptor_of_multiprocessings_pipe_carries_the_messages(impl):
    reader, writer = impl.Pipe(False)
    writer.send_bytes(b"hello")
    assert os.read(reader.fileno(), 100) == struct.pack("!i", 5) + b"hello"
    reader.close()
    writer.close()


@pytest.mark.fastipc_only("pipe-is-shared-memory")
def test_the_descriptor_of_fastipcs_pipe_only_tells_readiness(impl):
    reader, writer = impl.Pipe(False)
    poll = select.poll()
    poll.register(reader.fileno(), select.POLLIN)
    assert poll.poll(0) == []
    writer.send_bytes(b"hello")
    assert poll.poll(0) == [(reader.fileno(), select.POLLIN)]
    assert reader.recv_bytes() == b"hello"
    assert poll.poll(0) == []
    reader.close()
    writer.close()
