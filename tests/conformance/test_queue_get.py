"""Contract "Queue": get, its timeouts, the order of items."""

from __future__ import annotations

import queue as threads_queue
import time

import pytest

from tests.conformance import targets
from tests.support import GLANCE_S, PATIENCE_S, Background, Flag, until, until_asleep

FAR_TOO_LONG = 3600.0


def test_get_without_blocking_raises_empty_at_once(impl):
    queue = impl.Queue()
    with pytest.raises(threads_queue.Empty):
        queue.get(False)
    with pytest.raises(threads_queue.Empty):
        queue.get(block=False)
    with pytest.raises(threads_queue.Empty):
        queue.get_nowait()


def test_get_raises_empty_when_its_timeout_is_over(impl):
    queue = impl.Queue()
    before = time.monotonic()
    with pytest.raises(threads_queue.Empty):
        queue.get(True, GLANCE_S)
    assert time.monotonic() - before >= GLANCE_S * 0.9


def test_empty_is_raised_as_exactly_the_class_of_module_queue(impl):
    with pytest.raises(threads_queue.Empty) as caught:
        impl.Queue().get_nowait()
    assert type(caught.value) is threads_queue.Empty


def test_get_ignores_the_timeout_when_it_does_not_block(impl):
    with pytest.raises(threads_queue.Empty):
        impl.Queue().get(block=False, timeout=FAR_TOO_LONG)


@pytest.mark.parametrize("timeout", [0, -1, -0.001, -FAR_TOO_LONG])
def test_get_with_a_negative_timeout_takes_what_is_there_or_raises_empty(impl, timeout):
    queue = impl.Queue()
    with pytest.raises(threads_queue.Empty):
        queue.get(timeout=timeout)
    queue.put("there")
    until(lambda: not queue.empty())
    assert queue.get(timeout=timeout) == "there"
    with pytest.raises(threads_queue.Empty):
        queue.get(timeout=timeout)


def test_get_nowait_takes_what_is_there(impl):
    queue = impl.Queue()
    queue.put("first")
    queue.put("second")
    until(lambda: not queue.empty())
    assert queue.get_nowait() == "first"
    until(lambda: not queue.empty())
    assert queue.get(False) == "second"


@pytest.mark.parametrize("call", [("get",), ("get", False), ("get", True, 1), ("get_nowait",)])
def test_get_on_a_closed_queue_is_a_value_error_that_names_the_queue(impl, call):
    queue = impl.Queue()
    queue.close()
    with pytest.raises(ValueError, match=r"^Queue <.*> is closed$"):
        getattr(queue, call[0])(*call[1:])


@pytest.mark.parametrize("timeout", [None, 20])
def test_get_blocks_until_something_is_put(impl, timeout):
    queue = impl.Queue()
    call = Background(queue.get, timeout=timeout)
    call.until_blocked()
    queue.put("late")
    assert call.result() == "late"


def test_get_blocks_until_another_process_puts(ctx, children):
    queue = ctx.Queue()
    go = Flag()
    with children(targets.put_after, go, queue, "late"):
        call = Background(queue.get)
        call.until_blocked()
        go.set()
        assert call.result() == "late"


def test_a_blocked_get_in_a_child_receives_what_the_parent_puts(ctx, children):
    queue, answers = ctx.Queue(), ctx.Queue()
    asking = Flag()
    with children(targets.get_blocked, queue, asking) as child:
        assert asking.wait()
        until_asleep(child.pid)
        assert answers.empty()
        queue.put("late")


def test_get_keeps_the_order_of_one_producer(ctx, children):
    queue = ctx.Queue()
    with children(targets.put_range, queue, 500):
        received = [queue.get(timeout=PATIENCE_S) for _ in range(500)]
    assert received == list(range(500))


def test_get_keeps_the_order_of_each_of_several_producers(ctx, children):
    queue = ctx.Queue(7)
    groups = [children(targets.put_numbered, queue, producer, 200) for producer in range(3)]
    received = [queue.get(timeout=PATIENCE_S) for _ in range(600)]
    for group in groups:
        group.join()
    for producer in range(3):
        assert [number for who, number in received if who == producer] == list(range(200))


def test_every_item_reaches_exactly_one_of_several_consumers(ctx, children):
    queue, results = ctx.Queue(), ctx.Queue()
    with children(targets.take_until_none, queue, results, count=3):
        for number in range(300):
            queue.put(number)
        for _ in range(3):
            queue.put(None)
        taken = [results.get(timeout=PATIENCE_S) for _ in range(3)]
    assert sorted(number for part in taken for number in part) == list(range(300))
    for part in taken:
        assert part == sorted(part)


def test_an_item_becomes_visible_after_its_put(impl):
    queue = impl.Queue()
    for number in range(50):
        queue.put(number)
        until(lambda: not queue.empty())
        assert queue.get_nowait() == number


@pytest.mark.fastipc_only("exact-counts")
def test_fastipcs_item_is_visible_when_put_returns(impl):
    queue = impl.Queue()
    for number in range(200):
        queue.put(number)
        assert not queue.empty()
        assert queue.qsize() == 1
        assert queue.get_nowait() == number
        assert queue.empty()


def test_objects_of_every_kind_arrive_equal_and_of_the_same_type(impl):
    queue = impl.Queue()
    for item in targets.MANY_KINDS:
        queue.put(item)
        received = queue.get()
        assert received == item
        assert type(received) is type(item)
