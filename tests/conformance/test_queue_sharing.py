"""Contract "Queue": how a queue gets to another process, and what happens when one dies."""

from __future__ import annotations

import pickle
import queue as threads_queue

import pytest

from tests.conformance import targets
from tests.support import GLANCE_S, Background, Flag, until, until_asleep

INHERITANCE = "^{} objects should only be shared between processes through inheritance$"


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue", "SimpleQueue"])
def test_a_queue_is_shared_as_an_argument_of_a_process(ctx, children, kind):
    queue = getattr(ctx, kind)()
    with children(targets.put_range, queue, 3):
        assert [queue.get() for _ in range(3)] == [0, 1, 2]
    queue.close()


@pytest.mark.multiprocessing_only("picklable-anywhere")
@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue", "SimpleQueue"])
@pytest.mark.start_methods("fork", "spawn")
def test_multiprocessings_queue_can_only_be_pickled_while_spawning(ctx, kind):
    queue = getattr(ctx, kind)()
    with pytest.raises(RuntimeError, match=INHERITANCE.format(kind)):
        pickle.dumps(queue)
    with pytest.raises(RuntimeError, match=INHERITANCE.format(kind)):
        ctx.reducer.ForkingPickler.dumps(queue)
    queue.close()


@pytest.mark.fastipc_only("picklable-anywhere")
@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue", "SimpleQueue"])
def test_fastipcs_queue_can_be_pickled_at_any_time(ctx, children, kind):
    queue, carrier = getattr(ctx, kind)(), ctx.Queue()
    same = pickle.loads(pickle.dumps(queue))
    assert type(same) is type(queue)
    same.put("through the copy")
    assert queue.get() == "through the copy"
    with children(targets.get_from_received_queue, carrier, "through a queue"):
        carrier.put(queue)
        queue.put("through a queue")
    same.close()
    queue.put("still open")
    assert queue.get() == "still open"
    queue.close()


@pytest.mark.multiprocessing_only("contexts-mix")
@pytest.mark.start_methods("spawn", "forkserver")
def test_multiprocessings_fork_queue_cannot_be_given_to_a_spawned_child(impl, ctx):
    # Before cpython#107275 the child failed instead; then only the lock's own mark tells.
    lock = impl.get_context("fork").Lock()
    if hasattr(lock, "_is_fork_ctx"):
        for obj in (lock, impl.get_context("fork").Queue()):
            process = ctx.Process(target=targets.nothing, args=(obj,))
            with pytest.raises(RuntimeError, match="A SemLock created in a fork context"):
                process.start()


@pytest.mark.fastipc_only("contexts-mix")
@pytest.mark.start_methods("spawn", "forkserver")
def test_fastipcs_fork_queue_can_be_given_to_a_spawned_child(impl, ctx, children):
    queue = impl.get_context("fork").Queue()
    with children(targets.put_range, queue, 2):
        assert [queue.get(), queue.get()] == [0, 1]


@pytest.mark.start_methods("spawn", "forkserver")
def test_a_fork_contexts_lock_is_a_runtime_error_for_a_spawned_child(impl, ctx):
    lock = impl.get_context("fork").Lock()
    if hasattr(lock, "_is_fork_ctx"):
        process = ctx.Process(target=targets.nothing, args=(lock,))
        with pytest.raises(RuntimeError, match="A SemLock created in a fork context"):
            process.start()


@pytest.mark.multiprocessing_only("survives-its-producer")
@pytest.mark.start_methods("fork")
def test_multiprocessings_items_are_lost_by_a_hard_exit_of_their_producer(ctx, children):
    queue = ctx.Queue()
    # Holding the lock makes sure of what else only happens nearly always.
    with queue._wlock, children(targets.put_and_exit_hard, queue, 100):
        pass
    with pytest.raises(threads_queue.Empty):
        queue.get(timeout=GLANCE_S)


@pytest.mark.fastipc_only("survives-its-producer")
def test_fastipcs_items_survive_a_hard_exit_of_their_producer(ctx, children):
    queue = ctx.Queue()
    with children(targets.put_and_exit_hard, queue, 100):
        pass
    assert [queue.get_nowait() for _ in range(100)] == list(range(100))


@pytest.mark.multiprocessing_only("survives-a-kill")
def test_multiprocessings_consumer_killed_inside_get_locks_everyone_out(ctx, children):
    queue = ctx.Queue()
    inside = Flag()
    with children(targets.get_blocked, queue, inside) as child:
        assert inside.wait()
        until(lambda: not _can_be_acquired(queue._rlock))
        until_asleep(child.pid)
        child.kill()
    queue.put("unreachable")
    assert queue._reader.poll(20)
    with pytest.raises(threads_queue.Empty):
        queue.get(timeout=GLANCE_S)
    assert queue.qsize() == 1


def _can_be_acquired(lock):
    if lock.acquire(block=False):
        lock.release()
        return True
    return False


@pytest.mark.fastipc_only("survives-a-kill")
def test_fastipcs_consumer_killed_inside_get_harms_nobody(ctx, children):
    queue = ctx.Queue()
    inside = Flag()
    with children(targets.get_blocked, queue, inside) as child:
        assert inside.wait()
        until_asleep(child.pid)
        child.kill()
    queue.put("reachable")
    assert queue.qsize() == 1
    assert queue.get(timeout=20) == "reachable"


@pytest.mark.multiprocessing_only("survives-a-kill")
def test_multiprocessings_producer_killed_in_mid_message_blocks_get_despite_its_timeout(
    ctx, children
):
    queue = ctx.Queue()
    with children(targets.put_large, queue, 1, 2**20) as child:
        assert queue._reader.poll(20)
        until_asleep(child.pid)
        child.kill()
    call = Background(queue.get, timeout=GLANCE_S)
    call.until_blocked()
    queue._writer.close()  # now the reader meets the end of the pipe
    with pytest.raises(OSError, match="got end of file during message"):
        call.result()


@pytest.mark.fastipc_only("survives-a-kill")
@pytest.mark.parametrize("size", [100, 2**20])
def test_fastipcs_producer_killed_in_mid_message_leaves_whole_messages_and_a_usable_queue(
    ctx, children, size
):
    queue = ctx.Queue(8)
    started = Flag()
    with children(targets.put_for_ever, queue, started, size) as child:
        assert started.wait()
        received = [queue.get(timeout=20) for _ in range(20)]
        child.kill()
    while not queue.empty():
        received.append(queue.get(timeout=20))
    assert [number for number, _ in received] == list(range(len(received)))
    assert {payload for _, payload in received} == {b"x" * size}
    queue.put("usable")
    assert queue.get(timeout=20) == "usable"
