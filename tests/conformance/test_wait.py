"""Contract "wait": multiprocessing.connection.wait."""

from __future__ import annotations

import inspect
import os
import select
import selectors
import socket
import time

import pytest

from tests.conformance import targets
from tests.support import GLANCE_S, PATIENCE_S, Background, Flag, until


@pytest.fixture
def pipes(impl):
    """Three one-way pipes."""
    ends = [impl.Pipe(False) for _ in range(3)]
    yield ends
    for reader, writer in ends:
        reader.close()
        writer.close()


def test_wait_returns_the_list_of_ready_connections(impl, pipes):
    readers = [reader for reader, _ in pipes]
    assert impl.connection.wait(readers, 0) == []
    pipes[1][1].send("ready")
    assert impl.connection.wait(readers) == [readers[1]]
    pipes[0][1].send("ready, too")
    assert set(until_ready(impl, readers, 2)) == {readers[0], readers[1]}
    assert readers[1].recv() == "ready"
    assert impl.connection.wait(readers, 0) == [readers[0]]


def until_ready(impl, objects, count):
    """The result of wait() once it names that many objects."""
    return until(lambda: len(r := impl.connection.wait(objects, 0)) >= count and r)


def test_wait_takes_its_timeout_by_position_or_name_with_none_as_default(impl):
    parameters = inspect.signature(impl.connection.wait).parameters
    assert list(parameters)[:2] == ["object_list", "timeout"]
    assert parameters["timeout"].default is None
    assert impl.connection.wait(object_list=[], timeout=0) == []


def test_wait_returns_an_empty_list_when_the_timeout_is_over(impl, pipes):
    before = time.monotonic()
    assert impl.connection.wait([pipes[0][0]], GLANCE_S) == []
    assert time.monotonic() - before >= GLANCE_S * 0.9


@pytest.mark.parametrize("timeout", [-1, -0.001, -3600])
def test_wait_takes_a_negative_timeout_as_zero(impl, pipes, timeout):
    assert impl.connection.wait([pipes[0][0]], timeout) == []


def test_wait_of_an_empty_list_with_a_timeout_returns_an_empty_list(impl):
    assert impl.connection.wait([], 0.01) == []


def test_wait_without_timeout_waits_for_a_message(ctx, impl, children):
    quiet, ready = ctx.Pipe(False), ctx.Pipe(False)
    go = Flag()
    with children(targets.send_after, go, ready[1], "message"):
        call = Background(impl.connection.wait, [quiet[0], ready[0]])
        call.until_blocked()
        go.set()
        assert call.result() == [ready[0]]
        assert ready[0].recv() == "message"
    for end in (*quiet, *ready):
        end.close()


def test_wait_takes_a_closed_other_end_as_ready(impl, pipes):
    reader, writer = pipes[0]
    call = Background(impl.connection.wait, [reader], PATIENCE_S)
    call.until_blocked()
    writer.close()
    assert call.result() == [reader]
    with pytest.raises(EOFError):
        reader.recv()


def test_wait_takes_a_process_sentinel(impl, ctx, children, one_pipe):
    leave = Flag()
    with children(targets.wait_for, leave) as child:
        sentinel = child.process.sentinel
        assert impl.connection.wait([one_pipe[0], sentinel], 0) == []
        leave.set()
        assert impl.connection.wait([one_pipe[0], sentinel], PATIENCE_S) == [sentinel]


@pytest.fixture
def one_pipe(impl):
    """A one-way pipe that stays quiet."""
    ends = impl.Pipe(False)
    yield ends
    for end in ends:
        end.close()


def test_wait_takes_sockets_and_anything_with_fileno_and_plain_descriptors(impl, one_pipe):
    left, right = socket.socketpair()
    read_fd, write_fd = os.pipe()
    with left, right, open(os.dup(read_fd), "rb", buffering=0) as file:
        objects = [one_pipe[0], left, read_fd, file]
        assert impl.connection.wait(objects, 0) == []
        right.send(b"x")
        assert impl.connection.wait(objects, PATIENCE_S) == [left]
        os.write(write_fd, b"x")
        one_pipe[1].send(1)
        assert set(until_ready(impl, objects, 4)) == set(objects)
    os.close(read_fd)
    os.close(write_fd)


def test_wait_with_the_same_object_twice_is_a_key_error(impl, one_pipe):
    with pytest.raises(KeyError):
        impl.connection.wait([one_pipe[0], one_pipe[0]], 0)


def test_wait_with_a_closed_connection_is_an_os_error(impl, one_pipe):
    one_pipe[0].close()
    with pytest.raises(OSError, match="^handle is closed$"):
        impl.connection.wait([one_pipe[0]], 0)


@pytest.mark.multiprocessing_only("queue-has-fileno")
@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue"])
def test_wait_with_multiprocessings_queue_is_a_value_error(impl, kind):
    queue = getattr(impl, kind)()
    with pytest.raises(ValueError, match="^Invalid file object: "):
        impl.connection.wait([queue], 0)
    queue.close()


@pytest.mark.fastipc_only("queue-has-fileno")
@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue", "SimpleQueue"])
def test_wait_takes_fastipcs_queue(impl, kind):
    queue = getattr(impl, kind)()
    assert impl.connection.wait([queue], 0) == []
    queue.put(1)
    assert impl.connection.wait([queue], 0) == [queue]
    assert queue.get() == 1
    assert impl.connection.wait([queue], 0) == []
    queue.close()


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue", "SimpleQueue"])
def test_wait_takes_the_reader_of_a_queue(impl, kind):
    queue = getattr(impl, kind)()
    assert impl.connection.wait([queue._reader], 0) == []
    queue.put(1)
    assert impl.connection.wait([queue._reader], PATIENCE_S) == [queue._reader]
    assert queue.get() == 1
    assert impl.connection.wait([queue._reader], 0) == []
    queue.close()


@pytest.mark.parametrize("waiter", ["select", "poll", "epoll", "selectors"])
def test_a_connection_works_in_the_operating_systems_waits(one_pipe, waiter):
    reader, writer = one_pipe
    ready = {
        "select": lambda: bool(select.select([reader], [], [], 0)[0]),
        "poll": lambda: _with_poll(select.poll, select.POLLIN, reader),
        "epoll": lambda: _with_poll(select.epoll, select.EPOLLIN, reader),
        "selectors": lambda: _with_selector(reader),
    }[waiter]
    assert not ready()
    writer.send("one")
    writer.send("two")
    assert ready()
    assert ready()  # level-triggered
    assert reader.recv() == "one"
    assert ready()
    assert reader.recv() == "two"
    assert not ready()
    writer.close()
    assert ready()


def _with_poll(kind, event, obj):
    poller = kind()
    poller.register(obj.fileno(), event)
    try:
        return bool(poller.poll(0))
    finally:
        if hasattr(poller, "close"):
            poller.close()


def _with_selector(obj):
    with selectors.DefaultSelector() as selector:
        selector.register(obj, selectors.EVENT_READ)
        return bool(selector.select(0))
