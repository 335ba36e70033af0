"""Contract "JoinableQueue": task_done and join."""

from __future__ import annotations

import inspect

import pytest

from tests.conformance import targets
from tests.support import Background, Flag

TOO_OFTEN = r"^task_done\(\) called too many times$"


def test_a_joinable_queue_is_a_queue(impl):
    queue = impl.JoinableQueue(1)
    assert isinstance(queue, impl.queues.Queue)
    assert type(queue) is impl.queues.JoinableQueue
    queue.put(1)
    assert queue.full()
    assert queue.get() == 1
    queue.task_done()


def test_task_done_more_often_than_items_were_put_is_a_value_error(impl):
    queue = impl.JoinableQueue()
    with pytest.raises(ValueError, match=TOO_OFTEN):
        queue.task_done()
    queue.put(1)
    queue.get()
    queue.task_done()
    with pytest.raises(ValueError, match=TOO_OFTEN):
        queue.task_done()


def test_task_done_counts_puts_and_may_come_before_get(impl):
    queue = impl.JoinableQueue()
    queue.put("not yet taken")
    assert queue.task_done() is None
    queue.join()
    assert queue.get() == "not yet taken"
    with pytest.raises(ValueError, match=TOO_OFTEN):
        queue.task_done()


def test_task_done_and_join_work_after_close(impl):
    queue = impl.JoinableQueue()
    queue.put(1)
    queue.get()
    queue.close()
    queue.task_done()
    queue.join()


def test_join_returns_at_once_on_an_untouched_queue(impl):
    assert impl.JoinableQueue().join() is None


def test_join_has_no_timeout(impl):
    assert not inspect.signature(impl.JoinableQueue().join).parameters
    with pytest.raises(TypeError):
        impl.JoinableQueue().join(timeout=1)


def test_join_blocks_until_each_item_is_marked_done(impl):
    queue = impl.JoinableQueue()
    for number in range(3):
        queue.put(number)
    call = Background(queue.join)
    for _ in range(3):
        call.until_blocked()
        queue.get()
        queue.task_done()
    call.result()


def test_join_waits_for_the_work_of_other_processes(ctx, children):
    queue = ctx.JoinableQueue()
    go = Flag()
    with children(targets.get_and_mark_done, queue, 3, go, count=2):
        for number in range(6):
            queue.put(number)
        call = Background(queue.join)
        call.until_blocked()
        go.set()
        call.result()
    assert queue.empty()


def test_join_in_several_processes_returns_in_each(ctx, children):
    queue = ctx.JoinableQueue()
    queue.put("task")
    joined = [Flag(), Flag()]
    groups = [children(targets.join_then_set, queue, flag) for flag in joined]
    assert queue.get(timeout=20) == "task"
    assert not any(flag.wait(0.05) for flag in joined)
    queue.task_done()
    for group, flag in zip(groups, joined, strict=True):
        assert flag.wait()
        group.join()


@pytest.mark.multiprocessing_only("pickled-in-put")
def test_multiprocessings_failed_put_still_counts_as_a_task(impl, capfd):
    queue = impl.JoinableQueue()
    queue.put(targets.Unpicklable())
    queue.task_done()
    queue.join()
    queue.close()
    queue.join_thread()
    assert "refuses to be pickled" in capfd.readouterr().err


@pytest.mark.fastipc_only("pickled-in-put")
def test_fastipcs_failed_put_is_no_task(impl):
    queue = impl.JoinableQueue()
    with pytest.raises(ValueError, match="refuses to be pickled"):
        queue.put(targets.Unpicklable())
    queue.join()
    with pytest.raises(ValueError, match=TOO_OFTEN):
        queue.task_done()
