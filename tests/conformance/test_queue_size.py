"""Contract "Queue": qsize, empty and full."""

from __future__ import annotations

import pytest

from tests.conformance import targets
from tests.support import until


def test_qsize_counts_what_was_put_and_not_yet_got(impl):
    queue = impl.Queue()
    assert queue.qsize() == 0
    for number in range(5):
        queue.put(number)
        assert queue.qsize() == number + 1
    for number in range(5):
        assert queue.get() == number
        assert queue.qsize() == 4 - number


def test_qsize_counts_large_items_that_no_pipe_holds(impl):
    queue = impl.Queue()
    for _ in range(4):
        queue.put(b"x" * 2**20)
    assert queue.qsize() == 4
    for _ in range(4):
        assert len(queue.get()) == 2**20


def test_qsize_counts_what_other_processes_put_and_got(ctx, children):
    queue = ctx.Queue()
    with children(targets.put_range, queue, 4):
        pass
    assert queue.qsize() == 4
    with children(targets.get_exactly, queue, [0, 1]):
        pass
    assert queue.qsize() == 2
    assert [queue.get(), queue.get()] == [2, 3]


def test_qsize_and_full_still_work_after_close(impl):
    queue = impl.Queue(2)
    queue.put(1)
    queue.put(2)
    queue.close()
    assert queue.qsize() == 2
    assert queue.full()
    queue.cancel_join_thread()


def test_full_tells_whether_maxsize_is_reached(impl):
    queue = impl.Queue(2)
    assert not queue.full()
    queue.put(1)
    assert not queue.full()
    queue.put(2)
    assert queue.full()
    queue.get()
    assert not queue.full()
    queue.get()


def test_empty_tells_whether_nothing_is_queued(impl):
    queue = impl.Queue()
    assert queue.empty()
    queue.put(1)
    until(lambda: not queue.empty())
    assert queue.get() == 1
    assert queue.empty()


def test_empty_is_true_after_closing_a_queue_that_was_never_used(impl):
    queue = impl.Queue()
    queue.close()
    assert queue.empty() is True


def test_empty_raises_os_error_after_closing_a_queue_that_was_used(impl):
    queue = impl.Queue()
    queue.put(1)
    queue.close()
    queue.join_thread()
    with pytest.raises(OSError, match="^handle is closed$"):
        queue.empty()


@pytest.mark.multiprocessing_only("exact-counts")
def test_multiprocessings_item_is_invisible_while_its_feeder_has_it(impl):
    queue = impl.Queue()
    with queue._wlock:
        queue.put("still in the feeder")
        assert queue.qsize() == 1
        assert queue.empty()
    until(lambda: not queue.empty())
    assert queue.get() == "still in the feeder"


@pytest.mark.fastipc_only("exact-counts")
def test_fastipcs_counts_are_exact_at_each_moment(impl):
    queue = impl.Queue(3)
    for filled in (1, 2, 3):
        queue.put("x" * 5000)
        assert (queue.qsize(), queue.empty(), queue.full()) == (filled, False, filled == 3)
    for left in (2, 1, 0):
        queue.get()
        assert (queue.qsize(), queue.empty(), queue.full()) == (left, left == 0, False)
