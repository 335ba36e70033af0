"""What happens to the others when a process is killed, stopped, or has sent what does not load."""

from __future__ import annotations

import os
import signal
from queue import Empty, Full

import pytest

import fastipc
from tests.support import GLANCE_S, PATIENCE_S, Background, Flag, task_state, until
from tests.unit import targets


@pytest.mark.start_methods("fork", "spawn", "forkserver")
@pytest.mark.parametrize("size", [10, 2**20])
def test_items_survive_the_sigkill_of_their_producer(ctx, children, size):
    queue = ctx.Queue()
    with children(targets.put_then_kill_myself, queue, 20, size, exitcode=-9):
        pass
    assert queue.qsize() == 20
    assert [queue.get_nowait() for _ in range(20)] == [(n, b"x" * size) for n in range(20)]
    queue.close()


@pytest.mark.start_methods("fork", "spawn")
def test_messages_survive_the_sigkill_of_their_sender(ctx, children):
    reader, writer = ctx.Pipe(False)
    with children(targets.send_then_kill_myself, writer, 20, 100, exitcode=-9):
        writer.close()
    assert [reader.recv() for _ in range(20)] == [(n, b"x" * 100) for n in range(20)]
    with pytest.raises(EOFError):
        reader.recv()
    reader.close()


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue", "SimpleQueue"])
def test_an_object_that_does_not_unpickle_raises_from_its_own_get_only(kind):
    queue = getattr(fastipc, kind)()
    queue.put("before")
    queue.put(targets.RaisesOnLoad())
    queue.put("after")
    assert queue.get() == "before"
    with pytest.raises(ValueError, match="refuses to be unpickled"):
        queue.get()
    assert queue.get() == "after"
    assert queue.empty()
    queue.close()


def test_an_object_that_does_not_unpickle_raises_from_its_own_recv_only():
    left, right = fastipc.Pipe()
    left.send(targets.RaisesOnLoad())
    left.send("after")
    with pytest.raises(ValueError, match="refuses to be unpickled"):
        right.recv()
    assert right.recv() == "after"
    left.close()
    right.close()


@pytest.mark.start_methods("fork")
@pytest.mark.parametrize("maxsize", [0, 2])
@pytest.mark.parametrize("size", [10, 100_000])
def test_a_queue_works_after_users_were_killed_at_any_moment(ctx, children, maxsize, size):
    queue = ctx.Queue(maxsize)
    for round_number in range(15):
        started = [Flag(), Flag()]
        groups = [children(targets.put_and_get_for_ever, queue, size, flag) for flag in started]
        assert all(flag.wait() for flag in started)
        for group in groups:
            group.kill()
        while not queue.empty():
            assert queue.get(timeout=PATIENCE_S) == b"x" * size
        queue.put(round_number, timeout=PATIENCE_S)
        assert queue.get(timeout=PATIENCE_S) == round_number
        assert (queue.qsize(), queue.empty(), queue.full()) == (0, True, False)
    queue.close()


@pytest.mark.start_methods("fork")
def test_timeouts_hold_while_another_process_is_stopped_inside_an_operation(ctx, children):
    queue = ctx.Queue(2)
    started = [Flag(), Flag()]
    groups = [children(targets.put_and_get_for_ever, queue, 3000, flag) for flag in started]
    assert all(flag.wait() for flag in started)
    for _ in range(10):
        for group in groups:
            os.kill(group.pid, signal.SIGSTOP)
            until(lambda group=group: task_state(group.pid) == "T")
        # A stopped process may hold a lock; whatever comes of it, the calls end.
        for call in (
            lambda: queue.put(b"mine", timeout=GLANCE_S / 4),
            lambda: queue.get(timeout=GLANCE_S / 4),
            lambda: queue.put(b"mine", block=False),
            lambda: queue.get(block=False),
        ):
            try:
                Background(call).result()
            except (Empty, Full):
                pass
        for group in groups:
            os.kill(group.pid, signal.SIGCONT)
    for group in groups:
        group.kill()
    while not queue.empty():
        queue.get(timeout=PATIENCE_S)
    queue.put("usable")
    assert queue.get(timeout=PATIENCE_S) == "usable"
    queue.close()


@pytest.mark.start_methods("fork")
def test_a_process_killed_while_stopped_inside_an_operation_is_taken_over_from(ctx, children):
    queue = ctx.Queue()
    for round_number in range(10):
        started = Flag()
        group = children(targets.put_and_get_for_ever, queue, 50, started)
        assert started.wait()
        os.kill(group.pid, signal.SIGSTOP)
        until(lambda group=group: task_state(group.pid) == "T")
        group.kill()
        while not queue.empty():
            queue.get(timeout=PATIENCE_S)
        queue.put(round_number)
        assert queue.get(timeout=PATIENCE_S) == round_number
    queue.close()


@pytest.mark.start_methods("fork")
def test_join_returns_when_the_rest_is_marked_done_after_a_worker_was_killed(ctx, children):
    queue = ctx.JoinableQueue()
    started = Flag()
    with children(targets.take_one_and_stay, queue, started) as child:
        queue.put("taken by the dead")
        queue.put("left")
        assert started.wait()
        child.kill()
    assert queue.get(timeout=PATIENCE_S) == "left"
    queue.task_done()
    queue.task_done()  # on behalf of the dead
    queue.join()
    queue.close()
