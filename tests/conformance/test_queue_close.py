"""Contract "Queue": close, join_thread, cancel_join_thread, garbage collection and exit."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import weakref

import pytest

from tests.conformance import targets
from tests.support import GLANCE_S, Flag, start_script, task_state, until, until_asleep


def test_close_may_be_repeated(impl):
    queue = impl.Queue()
    queue.put(1)
    assert queue.close() is None
    assert queue.close() is None
    queue.join_thread()
    queue.close()


def test_items_put_before_close_are_still_delivered_to_others(ctx, children):
    queue = ctx.Queue()
    go = Flag()
    with children(targets.get_after, go, queue, [1, 2, 3]):
        targets.put_all(queue, 1, 2, 3)
        queue.close()
        queue.join_thread()
        go.set()


def test_other_processes_keep_working_after_one_closed_the_queue(ctx, children):
    queue = ctx.Queue()
    go = Flag()
    with children(targets.put_after, go, queue, 1, 2, 3):
        with children(targets.get_after, go, queue, [1, 2, 3]):
            queue.close()
            go.set()


@pytest.mark.multiprocessing_only("closed-before-fork")
@pytest.mark.start_methods("fork")
def test_a_child_forked_after_multiprocessings_close_has_an_open_queue(ctx, children):
    queue = ctx.Queue()
    queue.close()
    with children(targets.use_and_close, queue):
        pass
    with pytest.raises(ValueError):
        queue.put(1)


@pytest.mark.fastipc_only("closed-before-fork")
@pytest.mark.start_methods("fork")
def test_a_child_forked_after_fastipcs_close_has_a_closed_queue(ctx, children):
    queue = ctx.Queue()
    queue.close()
    with children(targets.check_closed, queue):
        pass


@pytest.mark.start_methods("fork")
def test_a_child_forked_before_close_has_an_open_queue(ctx, children):
    queue = ctx.Queue()
    go = Flag()
    with children(targets.wait_then_use_and_close, go, queue):
        queue.close()
        go.set()


@pytest.mark.start_methods("fork")
def test_a_forked_child_does_not_send_its_parents_unflushed_items_again(ctx, children):
    queue = ctx.Queue()
    for number in range(3):
        queue.put(bytes([number]) * 2**20)
    with children(targets.put_and_close, queue, "from the child"):
        received = [queue.get() for _ in range(4)]
    assert [item[:1] for item in received if item != "from the child"] == [b"\0", b"\1", b"\2"]
    assert queue.empty()
    assert queue.qsize() == 0


def test_join_thread_before_close_is_an_assertion_error(impl):
    queue = impl.Queue()
    with pytest.raises(AssertionError):
        queue.join_thread()
    queue.put(1)
    with pytest.raises(AssertionError):
        queue.join_thread()
    assert queue.get() == 1


def test_join_thread_may_be_repeated_after_close(impl):
    queue = impl.Queue()
    queue.put(1)
    queue.close()
    assert queue.join_thread() is None
    assert queue.join_thread() is None


def test_cancel_join_thread_is_allowed_before_use_and_at_any_time(impl):
    queue = impl.Queue()
    assert queue.cancel_join_thread() is None
    queue.put(1)
    assert queue.cancel_join_thread() is None
    assert queue.get() == 1
    queue.close()
    assert queue.cancel_join_thread() is None
    queue.join_thread()


def test_a_child_that_only_returns_delivers_everything_it_put(ctx, children):
    queue = ctx.Queue()
    with children(targets.put_large, queue, 3, 2**20):
        for number in range(3):
            assert queue.get() == bytes([number]) * 2**20


def test_garbage_collection_closes_a_queue(impl):
    queue = impl.Queue()
    queue.put(b"unread")
    descriptors = {os.readlink(f"/proc/self/fd/{queue._reader.fileno()}")}
    gone = weakref.ref(queue)
    del queue
    gc.collect()
    assert gone() is None
    until(lambda: not descriptors & set(_open_files()))


def _open_files():
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            yield os.readlink(f"/proc/self/fd/{name}")


@pytest.mark.multiprocessing_only("no-feeder")
def test_multiprocessings_close_ends_its_feeder_thread_once_all_is_flushed(impl):
    queue = impl.Queue()
    queue.put(1)
    assert "QueueFeederThread" in {thread.name for thread in threading.enumerate()}
    queue.close()
    queue.join_thread()
    assert "QueueFeederThread" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.fastipc_only("no-feeder")
def test_fastipcs_put_starts_no_thread(impl):
    before = os.listdir("/proc/self/task")
    queue = impl.Queue()
    for _ in range(10):
        queue.put(b"x" * 2**18)
    assert os.listdir("/proc/self/task") == before
    queue.close()
    queue.join_thread()


UNREAD = """
import importlib, sys
mp = importlib.import_module(sys.argv[1])
if __name__ == "__main__":
    queue = mp.Queue()
    if "cancel" in sys.argv:
        queue.cancel_join_thread()
    for _ in range(4):
        queue.put(b"x" * 2**20)
    print("last statement", flush=True)
"""


@pytest.mark.multiprocessing_only("exit-never-hangs")
def test_multiprocessings_program_with_unread_items_does_not_exit(impl):
    with start_script(UNREAD, impl.__name__) as program:
        assert program.stdout.readline() == "last statement\n"
        until_asleep(program.pid)
        with pytest.raises(Exception, match="timed out"):
            program.wait(GLANCE_S)
        program.kill()


@pytest.mark.fastipc_only("exit-never-hangs")
def test_fastipcs_program_with_unread_items_exits(impl, run_program):
    assert run_program(UNREAD, impl.__name__) == "last statement\n"


def test_a_program_with_unread_items_exits_after_cancel_join_thread(impl, run_program):
    assert run_program(UNREAD, impl.__name__, "cancel") == "last statement\n"


@pytest.mark.multiprocessing_only("exit-never-hangs")
def test_multiprocessings_child_with_unflushed_items_ends_only_when_they_are_read(ctx, children):
    queue = ctx.Queue()
    with children(targets.put_large, queue, 2, 2**20) as child:
        until_asleep(child.pid)
        child.process.join(GLANCE_S)
        assert task_state(child.pid) == "S"
        assert [len(queue.get()) for _ in range(2)] == [2**20] * 2


@pytest.mark.fastipc_only("exit-never-hangs")
def test_fastipcs_child_ends_before_its_items_are_read(ctx, children):
    queue = ctx.Queue()
    with children(targets.put_large, queue, 2, 2**20):
        pass
    assert [len(queue.get()) for _ in range(2)] == [2**20] * 2


@pytest.mark.multiprocessing_only("no-feeder")
@pytest.mark.start_methods("fork")
def test_multiprocessings_cancel_join_thread_may_lose_items(ctx, children):
    queue = ctx.Queue()
    # Nobody may write: what the child puts stays in its feeder.
    with queue._wlock, children(targets.put_after_cancel, queue, 5):
        pass
    assert queue.qsize() == 5
    with pytest.raises(Exception, match="^$"):
        queue.get(timeout=GLANCE_S)


@pytest.mark.fastipc_only("no-feeder")
def test_fastipcs_cancel_join_thread_loses_nothing(ctx, children):
    queue = ctx.Queue()
    with children(targets.put_after_cancel, queue, 5):
        pass
    assert [queue.get_nowait() for _ in range(5)] == list(range(5))


def test_the_sequence_of_calls_of_a_data_loader(ctx, children):
    index_queue, result_queue = ctx.Queue(), ctx.Queue()
    with children(targets.load_data, index_queue, result_queue, count=2):
        for number in range(20):
            index_queue.put(number)
        results = dict(result_queue.get(timeout=20) for _ in range(20))
        for _ in range(2):
            index_queue.put(None)
    result_queue.cancel_join_thread()
    result_queue.close()
    index_queue.cancel_join_thread()
    index_queue.close()
    assert results == {number: [number] * 3 for number in range(20)}
