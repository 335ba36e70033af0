"""fileno(): queues and connections in select, poll, epoll, selectors, asyncio and both waits."""

from __future__ import annotations

import asyncio
import multiprocessing.connection
import os
import select
import selectors

import pytest

import fastipc
from tests.support import PATIENCE_S, Background, Flag
from tests.unit import targets


@pytest.fixture(params=["Queue", "JoinableQueue", "SimpleQueue", "Connection"])
def source(request):
    """Something to wait for: (object, put, get)."""
    if request.param == "Connection":
        left, right = fastipc.Pipe()
        yield left, right.send, left.recv
        left.close()
        right.close()
    else:
        queue = getattr(fastipc, request.param)()
        yield queue, queue.put, queue.get
        queue.close()


def by_select(obj, timeout):
    return bool(select.select([obj], [], [], timeout)[0])


def by_poll(obj, timeout):
    poll = select.poll()
    poll.register(obj, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def by_epoll(obj, timeout):
    with select.epoll() as epoll:
        epoll.register(obj.fileno(), select.EPOLLIN)
        return bool(epoll.poll(timeout))


def by_selectors(obj, timeout):
    with selectors.DefaultSelector() as selector:
        selector.register(obj, selectors.EVENT_READ)
        return bool(selector.select(timeout))


def by_standard_wait(obj, timeout):
    return multiprocessing.connection.wait([obj.fileno()], timeout) == [obj.fileno()]


def by_our_wait(obj, timeout):
    return fastipc.connection.wait([obj], timeout) == [obj]


WAYS = [by_select, by_poll, by_epoll, by_selectors, by_standard_wait, by_our_wait]


@pytest.mark.parametrize("ready", WAYS, ids=lambda way: way.__name__)
def test_the_descriptor_is_readable_exactly_while_something_is_there(source, ready):
    obj, put, get = source
    assert not ready(obj, 0)
    for number in range(50):
        put(number)
        put(b"x" * 20_000)
        assert ready(obj, 0)
        assert ready(obj, 0)
        assert get() == number
        assert ready(obj, 0)
        assert get() == b"x" * 20_000
        assert not ready(obj, 0)


def test_what_was_put_before_fileno_was_asked_is_seen(source):
    obj, put, get = source
    put("early")
    assert by_poll(obj, 0)
    assert get() == "early"
    assert not by_poll(obj, 0)


def test_the_descriptor_stays_the_same_and_is_not_inherited_by_exec(source):
    obj, put, get = source
    fd = obj.fileno()
    assert fd == obj.fileno()
    assert not os.get_inheritable(fd)
    put(1)
    assert obj.fileno() == fd
    assert get() == 1


@pytest.mark.parametrize("ready", WAYS, ids=lambda way: way.__name__)
def test_a_waiting_thread_wakes_when_something_is_put(source, ready):
    obj, put, get = source
    call = Background(ready, obj, PATIENCE_S)
    call.until_blocked()
    put("late")
    assert call.result()
    assert get() == "late"


@pytest.mark.start_methods("fork", "spawn")
def test_the_descriptor_tells_of_items_of_other_processes(ctx, children):
    queue = ctx.Queue()
    go = Flag()
    with children(targets.put_after, go, queue, "late"):
        poll = select.poll()
        poll.register(queue.fileno(), select.POLLIN)
        assert not poll.poll(0)
        go.set()
        assert poll.poll(PATIENCE_S * 1000)
        assert queue.get() == "late"
        assert not poll.poll(0)
    queue.close()


@pytest.mark.start_methods("fork")
def test_the_descriptor_in_one_process_follows_what_consumers_in_another_take(ctx, children):
    queue = ctx.Queue()
    poll = select.poll()
    poll.register(queue.fileno(), select.POLLIN)
    for number in range(5):
        queue.put(number)
    assert poll.poll(0)
    with children(targets.get_numbers, queue, 5):
        pass
    assert not poll.poll(0)
    queue.put("again")
    assert poll.poll(0)
    assert queue.get() == "again"
    queue.close()


def test_an_event_loops_reader_is_called_for_each_item(source):
    obj, put, get = source

    async def main():
        loop = asyncio.get_running_loop()
        received, done = [], loop.create_future()

        def on_readable():
            received.append(get())
            if len(received) == 20:
                done.set_result(received)

        loop.add_reader(obj.fileno(), on_readable)
        try:
            producer = loop.run_in_executor(None, lambda: [put(number) for number in range(20)])
            result = await asyncio.wait_for(done, PATIENCE_S)
            await producer
        finally:
            loop.remove_reader(obj.fileno())
        return result

    assert asyncio.run(main()) == list(range(20))


def test_the_descriptor_of_a_connection_is_readable_at_the_end():
    left, right = fastipc.Pipe()
    assert not by_poll(left, 0)
    right.send("last")
    right.close()
    assert by_poll(left, 0)
    assert left.recv() == "last"
    assert by_poll(left, 0)
    with pytest.raises(EOFError):
        left.recv()
    left.close()


def test_a_closed_queue_has_no_descriptor():
    for kind in ("Queue", "JoinableQueue", "SimpleQueue"):
        queue = getattr(fastipc, kind)()
        queue.fileno()
        queue.close()
        with pytest.raises((ValueError, OSError)):
            queue.fileno()
