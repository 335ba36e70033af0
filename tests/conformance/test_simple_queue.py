"""Contract "SimpleQueue"."""

from __future__ import annotations

import inspect

import pytest

from tests.conformance import targets
from tests.support import Background, Flag, until_asleep


def test_a_simple_queue_has_get_put_empty_and_close_only(impl):
    queue = impl.SimpleQueue()
    assert type(queue) is impl.queues.SimpleQueue
    assert not isinstance(queue, impl.queues.Queue)
    public = {name for name in dir(queue) if not name.startswith("_")}
    assert {"get", "put", "empty", "close"} <= public
    for name in ("qsize", "full", "get_nowait", "put_nowait", "join_thread", "task_done", "join"):
        assert not hasattr(queue, name), name
    queue.close()


def test_neither_get_nor_put_takes_block_or_timeout(impl):
    queue = impl.SimpleQueue()
    assert not inspect.signature(queue.get).parameters
    assert len(inspect.signature(queue.put).parameters) == 1
    for call in (
        lambda: queue.get(timeout=1),
        lambda: queue.get(False),
        lambda: queue.get(block=False),
        lambda: queue.put(1, False),
        lambda: queue.put(1, timeout=1),
    ):
        with pytest.raises(TypeError):
            call()
    assert queue.empty()
    queue.close()


def test_items_come_in_order_and_empty_tells_whether_there_are_any(impl):
    queue = impl.SimpleQueue()
    assert queue.empty() is True
    for item in targets.MANY_KINDS:
        assert queue.put(item) is None
    assert queue.empty() is False
    for item in targets.MANY_KINDS:
        received = queue.get()
        assert received == item
        assert type(received) is type(item)
    assert queue.empty()
    queue.close()


def test_get_blocks_until_something_is_put(ctx, children):
    queue = ctx.SimpleQueue()
    go = Flag()
    with children(targets.put_after, go, queue, "late"):
        call = Background(queue.get)
        call.until_blocked()
        go.set()
        assert call.result() == "late"
    queue.close()


def test_put_pickles_in_the_caller_and_raises_there(impl):
    queue = impl.SimpleQueue()
    with pytest.raises(ValueError, match="refuses to be pickled"):
        queue.put(targets.Unpicklable())
    assert queue.empty()
    queue.put("next")
    assert queue.get() == "next"
    queue.close()


def test_put_blocks_when_the_pipe_is_full(ctx, children):
    queue = ctx.SimpleQueue()
    before, after = Flag(), Flag()
    with children(targets.put_announced, queue, before, after, b"x" * 2**21) as child:
        assert before.wait()
        until_asleep(child.pid)
        assert not after.is_set()
        assert queue.get() == b"x" * 2**21
        assert after.wait()
    queue.close()


def test_a_closed_simple_queue_raises_os_error(impl):
    queue = impl.SimpleQueue()
    queue.put(1)
    assert queue.close() is None
    assert queue.close() is None
    for call in (queue.empty, queue.get, lambda: queue.put(2)):
        with pytest.raises(OSError, match="^handle is closed$"):
            call()


def test_several_processes_share_a_simple_queue(ctx, children):
    queue, results = ctx.SimpleQueue(), ctx.SimpleQueue()
    with children(targets.take_from_simple_queue, queue, results, count=2):
        for number in range(100):
            queue.put(number)
        queue.put(None)
        queue.put(None)
        taken = results.get() + results.get()
    assert sorted(taken) == list(range(100))
    queue.close()
    results.close()
