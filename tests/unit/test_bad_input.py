"""Bad input: the documented exception at the call, nothing leaked, and the object still usable."""

from __future__ import annotations

import errno
import os

import pytest

import fastipc
from tests.support import resources, run_script

BAD_QUEUE_CALLS = [
    ("put", (1, True, "soon"), TypeError),
    ("put", (1, True, float("nan")), ValueError),
    ("put", (), TypeError),
    ("put", (1, True, None, "more"), TypeError),
    ("get", (True, "soon"), TypeError),
    ("get", (True, float("nan")), ValueError),
    ("get", (True, None, "more"), TypeError),
    ("put_nowait", (), TypeError),
    ("get_nowait", (1,), TypeError),
    ("qsize", (1,), TypeError),
    ("close", (1,), TypeError),
]


@pytest.mark.parametrize(
    ("method", "arguments", "error"), BAD_QUEUE_CALLS, ids=lambda value: str(value)[:30]
)
def test_a_queues_method_with_bad_arguments_raises_and_changes_nothing(method, arguments, error):
    queue = fastipc.Queue(2)
    queue.put("kept")
    before = resources()
    for _ in range(20):
        with pytest.raises(error):
            getattr(queue, method)(*arguments)
    assert not resources() - before
    assert queue.qsize() == 1
    queue.put("added")
    assert [queue.get(), queue.get()] == ["kept", "added"]
    queue.close()


@pytest.mark.parametrize("timeout", [float("inf"), 1e300, 2.0**63, 10**30], ids=repr)
def test_a_timeout_beyond_all_clocks_is_for_ever_or_an_overflow_error(timeout):
    queue = fastipc.Queue()
    queue.put("there")
    try:
        assert queue.get(timeout=timeout) == "there"
    except OverflowError:
        assert queue.get() == "there"
    queue.close()


@pytest.mark.parametrize("timeout", [0.01, True, 0, -5])
def test_any_real_number_is_a_timeout(timeout):
    queue = fastipc.Queue(1)
    if timeout is not True:
        with pytest.raises(fastipc.Empty):
            queue.get(timeout=timeout)
    queue.put("there", timeout=timeout)
    assert queue.get(timeout=timeout) == "there"
    queue.close()


BAD_CONNECTION_CALLS = [
    ("poll", ("soon",), TypeError),
    ("send", (), TypeError),
    ("send_bytes", ("text",), TypeError),
    ("send_bytes", (b"123", "1"), TypeError),
    ("send_bytes", (b"123", -1), ValueError),
    ("send_bytes", (b"123", 0, 4), ValueError),
    ("send_bytes", (b"123", 2**70), (ValueError, OverflowError)),
    ("recv", (1,), TypeError),
    ("recv_bytes", (-1,), ValueError),
    ("recv_bytes", ("1",), TypeError),
    ("recv_bytes_into", (bytearray(5), -1), ValueError),
    ("recv_bytes_into", (bytearray(5), 6), ValueError),
    ("recv_bytes_into", (), TypeError),
    ("recv_bytes_into", ("text",), TypeError),
]


@pytest.mark.parametrize(
    ("method", "arguments", "error"), BAD_CONNECTION_CALLS, ids=lambda value: str(value)[:30]
)
def test_a_connections_method_with_bad_arguments_raises_and_changes_nothing(
    method, arguments, error
):
    left, right = fastipc.Pipe()
    before = resources()
    for _ in range(20):
        with pytest.raises(error):
            getattr(left, method)(*arguments)
    assert not resources() - before
    assert not right.poll()
    right.send_bytes(b"kept")
    assert left.recv_bytes() == b"kept"
    left.send("usable")
    assert right.recv() == "usable"
    for end in (left, right):
        end.close()


def test_a_buffer_that_is_not_contiguous_is_refused_or_sent_whole():
    left, right = fastipc.Pipe()
    strided = memoryview(b"0123456789")[::2]
    try:
        left.send_bytes(strided)
    except (BufferError, ValueError, TypeError):
        assert not right.poll()
    else:
        assert right.recv_bytes() == b"02468"
    with pytest.raises((BufferError, ValueError, TypeError)):
        right.send_bytes(b"x")
        left.recv_bytes_into(memoryview(bytearray(10))[::2])
    for end in (left, right):
        end.close()


NO_DESCRIPTORS = """
import errno, os, resource, sys
import fastipc

make = eval(sys.argv[1])
keep = make()
# A process takes its place among those attached with its first use, which needs a descriptor.
if isinstance(keep, tuple):
    keep[0].send("first use")
    assert keep[1].recv() == "first use"
else:
    keep.put("first use")
    assert keep.get() == "first use"
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
opened = []
try:
    while True:
        opened.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
# With each number of free descriptors, until there are enough.
free = 0
while True:
    before = len(os.listdir("/proc/self/fd")) if free else None
    try:
        made = make()
    except OSError as error:
        assert error.errno == errno.EMFILE, error
    else:
        break
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) == before, "leaked"
    os.close(opened.pop())
    free += 1
assert free > 0
made = None
put = keep[0].send if isinstance(keep, tuple) else keep.put
get = keep[1].recv if isinstance(keep, tuple) else keep.get
put("usable")
assert get() == "usable"
print("EMFILE", free)
"""


@pytest.mark.parametrize("make", ["Queue", "JoinableQueue", "SimpleQueue", "Pipe"])
def test_too_many_open_files_is_an_os_error_and_leaks_nothing(make):
    code, out, err = run_script(NO_DESCRIPTORS, f"fastipc.{make}")
    assert (code, err) == (0, ""), err
    assert out.startswith("EMFILE ")


def test_a_large_put_needs_no_new_descriptor():
    program = """
import os, resource
import fastipc
queue = fastipc.Queue()
left, right = fastipc.Pipe()
queue.put(left.send("first use"))
assert (queue.get(), right.recv()) == (None, "first use")
resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")), 256))
try:
    while True:
        os.open("/dev/null", os.O_RDONLY)
except OSError:
    pass
for size in (10, 10**5, 10**7):
    queue.put(b"x" * size)
    assert len(queue.get()) == size
left.send("x")
assert right.recv() == "x"
print("works")
"""
    assert run_script(program) == (0, "works\n", "")


def test_a_connection_over_a_bad_descriptor_raises_at_its_first_use():
    read_fd, write_fd = os.pipe()
    conn = fastipc.connection.Connection(read_fd, writable=False)
    os.close(read_fd)
    with pytest.raises(OSError) as caught:
        conn.recv()
    assert caught.value.errno == errno.EBADF
    with pytest.raises(OSError):
        conn.close()
    os.close(write_fd)


def test_a_connection_over_something_that_is_no_descriptor_is_an_error():
    for wrong in ("text", None, 1.5):
        with pytest.raises(TypeError):
            fastipc.connection.Connection(wrong)
    with pytest.raises(ValueError, match="invalid handle"):
        fastipc.connection.Connection(-1)


def test_wait_with_something_that_has_no_descriptor_is_an_error():
    for wrong in (["text"], [None], [object()]):
        with pytest.raises((TypeError, ValueError)):
            fastipc.connection.wait(wrong, 0)
    with pytest.raises(TypeError):
        fastipc.connection.wait(5, 0)
    with pytest.raises(TypeError):
        fastipc.connection.wait([], "soon")
