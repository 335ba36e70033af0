"""stats(): what a queue or a connection says of itself, and of those who were killed."""

from __future__ import annotations

import os
import pickle
import signal

import pytest

import fastipc
from fastipc import _core
from tests import layout
from tests.support import PATIENCE_S, Background, Flag, task_state, until
from tests.unit import targets


@pytest.fixture(params=["Queue", "JoinableQueue", "SimpleQueue", "Connection"])
def source(request):
    """Something that carries items: (object, put, get, stats of what it carries)."""
    if request.param == "Connection":
        left, right = fastipc.Pipe()
        yield left, right.send, left.recv, lambda: left.stats().received
        left.close()
        right.close()
    else:
        queue = getattr(fastipc, request.param)()
        yield queue, queue.put, queue.get, queue.stats
        queue.close()


def test_what_goes_through_is_counted(source):
    _, put, get, stats = source
    assert stats().puts == stats().gets == stats().bytes_put == stats().items == 0
    for number in range(10):
        put(number)
    put(b"x" * 100_000)
    for number in range(4):
        assert get() == number
    found = stats()
    assert (found.puts, found.gets, found.items) == (11, 4, 7)
    assert 100_000 < found.bytes_put < 110_000
    assert 0 < found.bytes_got < 200
    assert found.bytes == found.bytes_put - found.bytes_got
    assert found.items_high >= 7
    assert found.bytes_high >= found.bytes
    for _ in range(7):
        get()
    found = stats()
    assert (found.puts, found.gets, found.items, found.bytes) == (11, 11, 0, 0)
    assert found.bytes_got == found.bytes_put
    assert found.items_high >= 7
    assert (found.lost, found.last_dead_pid, found.recoveries) == (0, None, 0)


def test_the_marks_say_how_full_it_was_when_it_has_been_drained(source):
    _, put, get, stats = source
    for number in range(400):
        put(number)
    for number in range(400):
        assert get() == number
    found = stats()
    assert found.items == 0
    assert found.items_high == 400
    assert 400 * 16 <= found.bytes_high <= found.bytes_put
    for _ in range(15):
        put(b"x" * 3000)
    for _ in range(15):
        get()
    found = stats()
    assert found.items_high == 400
    assert 15 * 3000 < found.bytes_high <= found.bytes_put


@pytest.mark.parametrize("many", [False, True])
def test_the_marks_of_batches_and_of_what_lies_in_blocks_are_kept_too(many):
    queue = fastipc.Queue(500)
    items = [bytes([number]) * 50_000 for number in range(20)]
    if many:
        queue.put_many(items)
    else:
        for item in items:
            queue.put(item)
    found = []
    while len(found) < 20:
        found += queue.get_many(100) if many else [queue.get()]
    assert found == items
    stats = queue.stats()
    assert stats.items_high == 20
    assert stats.bytes_high > 20 * 50_000
    queue.close()


@pytest.mark.start_methods("fork")
@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue", "SimpleQueue", "Connection"])
def test_each_kind_of_object_is_counted_once_when_it_is_returned(ctx, children, kind):
    items = [None, 1, "a" * 300, "ä" * 5000, b"b" * 300, b"c" * 100_000, {"a": [1]}, range(3)]
    items += [list(range(20_000)), targets.RaisesOnLoad()]
    if kind == "Connection":
        left, right = ctx.Pipe()
        carrier, put, get_name, stats = right, left.send, "recv", lambda: left.stats().sent
        closing = [left, right]
    else:
        carrier = getattr(ctx, kind)()
        put, get_name, stats, closing = carrier.put, "get", carrier.stats, [carrier]
    # Whatever is counted twice hides what is lost, whatever is not counted is lost.
    with children(targets.take_and_be_killed, carrier, get_name, len(items), exitcode=-9):
        for item in items:
            put(item)
        put(targets.KillsOnLoad(10))
    assert (stats().lost, stats().gets) == (1, len(items) + 1)
    for obj in closing:
        obj.close()


@pytest.mark.start_methods("fork")
def test_bytes_are_counted_once_when_they_are_returned(ctx, children):
    left, right = ctx.Pipe()
    with children(targets.take_bytes_and_be_killed, right, exitcode=-9):
        for size in targets.BYTES_TO_TAKE:
            left.send_bytes(b"x" * size)
            left.send_bytes(b"y" * size)
            left.send("an object")
        left.send(targets.KillsOnLoad(10))
    found = left.stats().sent
    assert (found.lost, found.gets) == (1, 3 * len(targets.BYTES_TO_TAKE) + 1)
    left.close()
    right.close()


@pytest.mark.start_methods("fork")
@pytest.mark.parametrize("way", ["get_many", "get_bytes", "get_bytes_into"])
def test_what_is_taken_in_other_ways_is_counted_once_too(ctx, children, way):
    queue = ctx.Queue()
    items = [1, "a" * 300, b"c" * 100_000, {"a": [1]}, range(3), bytearray(200_000), 2, 3]
    queue.put_many(items)
    queue.put(targets.KillsOnLoad(10))
    with children(targets.take_in_a_way_and_be_killed, queue, way, len(items), exitcode=-9):
        pass
    assert (queue.stats().lost, queue.stats().gets) == (1, len(items) + 1)
    assert queue.stats().bytes_got == queue.stats().bytes_put > 300_000
    queue.close()


@pytest.mark.start_methods("fork")
def test_a_batch_is_lost_when_one_of_its_objects_kills(ctx, children):
    queue = ctx.Queue()
    queue.put_many([1, 2, targets.KillsOnLoad(10), 3])
    with children(targets.get_many_once, queue, exitcode=-9):
        pass
    # None of them was returned.
    assert (queue.stats().lost, queue.stats().gets) == (4, 4)
    queue.close()


def test_stats_are_a_named_tuple_that_travels(source):
    found = source[3]()
    assert pickle.loads(pickle.dumps(found)) == found
    assert found._asdict()["puts"] == 0
    with pytest.raises(AttributeError):
        found.puts = 1


def test_stats_of_a_closed_object_raise():
    queue = fastipc.Queue()
    queue.close()
    with pytest.raises(ValueError, match="closed"):
        queue.stats()
    left, right = fastipc.Pipe()
    left.close()
    with pytest.raises(OSError, match="closed"):
        left.stats()
    right.close()


def test_a_connection_tells_of_the_ways_that_its_end_goes():
    reader, writer = fastipc.Pipe(False)
    writer.send_bytes(b"abc")
    assert reader.stats().sent is None
    assert writer.stats().received is None
    assert reader.stats().received.puts == writer.stats().sent.puts == 1
    assert reader.recv_bytes() == b"abc"
    assert reader.stats().received == writer.stats().sent
    reader.close()
    writer.close()


def test_a_connection_over_a_plain_descriptor_has_none():
    read_end, write_end = os.pipe()
    with fastipc.connection.Connection(read_end, writable=False) as plain:
        with pytest.raises(TypeError, match="stats"):
            plain.stats()
    os.close(write_end)


def test_producers_note_how_full_a_bounded_queue_was():
    queue = fastipc.Queue(5)
    for number in range(5):
        queue.put(number)
    with pytest.raises(fastipc.Full):
        queue.put_nowait(5)
    while not queue.empty():
        queue.get()
    assert queue.stats().items_high == 5
    queue.close()


def test_threads_that_sleep_are_counted_while_they_do(source):
    _, put, get, stats = source
    call = Background(get)
    until(lambda: stats().getters == 1, "a sleeping getter")
    put("late")
    assert call.result() == "late"
    assert stats().getters == 0
    assert stats().putters == 0


def test_threads_that_wait_for_room_are_counted_while_they_do():
    queue = fastipc.Queue(1)
    queue.put(1)
    calls = [Background(queue.put, number) for number in range(3)]
    until(lambda: queue.stats().putters == 3, "three sleeping putters")
    for _ in range(4):
        queue.get()
    for call in calls:
        call.result()
    assert queue.stats().putters == 0
    queue.close()


@pytest.mark.start_methods("fork", "spawn")
@pytest.mark.parametrize("size", [10, 100_000])
def test_a_message_taken_by_who_is_killed_before_returning_it_is_lost(ctx, children, size):
    queue = ctx.Queue()
    queue.put(targets.KillsOnLoad(size))
    queue.put("left")
    with children(targets.get_all, queue, exitcode=-9) as child:
        pid = child.pid
    for _ in range(3):
        found = queue.stats()
        assert (found.lost, found.last_dead_pid, found.gets) == (1, pid, 1)
    assert queue.get(timeout=PATIENCE_S) == "left"
    assert queue.stats().lost == 1
    queue.close()


@pytest.mark.start_methods("fork")
@pytest.mark.parametrize("size", [10, 100_000])
def test_a_message_sent_to_who_is_killed_before_returning_it_is_lost(ctx, children, size):
    reader, writer = ctx.Pipe(False)
    writer.send(targets.KillsOnLoad(size))
    with children(targets.receive_all, reader, exitcode=-9) as child:
        pid = child.pid
    found = writer.stats().sent
    assert (found.lost, found.last_dead_pid, found.gets) == (1, pid, 1)
    reader.close()
    writer.close()


@pytest.mark.start_methods("fork")
def test_a_message_returned_by_who_is_killed_later_is_not_lost(ctx, children):
    queue, started = ctx.Queue(), Flag()
    with children(targets.take_one_and_stay, queue, started) as child:
        queue.put([1] * 1000)
        assert started.wait()
        pid = child.pid
        child.kill()
    found = queue.stats()
    assert (found.lost, found.last_dead_pid, found.gets) == (0, pid, 1)
    queue.close()


@pytest.mark.start_methods("fork")
def test_many_killed_consumers_are_counted_each(ctx, children):
    queue = ctx.Queue()
    for count in range(1, 6):
        queue.put(targets.KillsOnLoad(10))
        with children(targets.get_all, queue, exitcode=-9):
            pass
        assert queue.stats().lost == count
    queue.close()


def stop_inside(group, queue, side):
    """Stops the only user of a queue while it owns a side's lock."""

    def inside():
        os.kill(group.pid, signal.SIGSTOP)
        until(lambda: task_state(group.pid) == "T")
        if layout.word(queue, side):
            return True
        os.kill(group.pid, signal.SIGCONT)
        return False

    until(inside, f"a stop inside the {side} lock")


@pytest.mark.start_methods("fork")
@pytest.mark.parametrize("side", ["put", "get"])
def test_a_lock_taken_over_from_who_was_killed_is_counted_once(ctx, children, side):
    queue, started = ctx.Queue(), Flag()
    with children(targets.put_and_get_for_ever, queue, 3000, started) as child:
        assert started.wait()
        stop_inside(child, queue, side)
        child.kill()
    # Nothing was taken over yet, except by stats() itself, which looks under the get lock.
    assert queue.stats().recoveries == (1 if side == "get" else 0)
    for _ in range(3):
        queue.put("mine", timeout=PATIENCE_S)
        queue.get(timeout=PATIENCE_S)
        assert queue.stats().recoveries == 1
    queue.close()


SLEEPERS_MASK, SLEEPERS_MORE, SLEEPERS_CLEARED = 3, 2, 4  # FIPC_SLEEPERS_... of csrc/wait.h


def test_a_sleeper_that_nobody_woke_is_counted_when_it_has_looked_for_itself():
    queue = fastipc.Queue()

    def is_counted():
        call = Background(queue.get)
        # The mark of one that has gone to sleep again: it would have been left by the first look.
        mark = until(
            lambda: (
                layout.word(queue, "put", "sleepers") & SLEEPERS_MASK == SLEEPERS_MORE
                and layout.word(queue, "put", "sleepers")
            ),
            "a second sleep",
        )
        # As a waker leaves it that is killed before it has woken whom it has seen.
        cleared = (mark & ~SLEEPERS_MASK) + SLEEPERS_CLEARED
        layout.set_word(queue, cleared & 0xFFFFFFFF, "put", "sleepers")
        queue.put("found")
        assert call.result() == "found"
        # Not if it has looked, and gone to sleep once more, just before the put: then it was woken.
        return queue.stats().late_wakes

    _core.set_lent(1, lambda: None)  # who has handles under way looks after half a second
    try:
        assert until(is_counted, "a late wake") == 1
    finally:
        _core.set_lent(0, None)
    queue.close()


@pytest.mark.start_methods("fork")
def test_a_child_forked_while_an_item_is_unpickled_counts_nothing(ctx):
    queue = ctx.Queue()
    queue.put(targets.ForksOnLoad())
    pid = queue.get(timeout=PATIENCE_S)
    if pid == 0:  # the child, in which the same get() has returned
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    queue.put(targets.ForksOnLoad())
    pid = queue.get(timeout=PATIENCE_S)
    if pid == 0:
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert queue.stats().lost == 0
    queue.put(1)
    assert queue.get() == 1
    # Counted once each: one that is lost now is seen as one.
    queue.put(targets.KillsOnLoad(10))
    pid = os.fork()
    if pid == 0:
        queue.get()
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == 9
    assert queue.stats().lost == 1
    queue.close()


def test_a_queue_closed_while_its_item_is_unpickled_loses_nothing():
    queue = fastipc.Queue()
    other = pickle.loads(pickle.dumps(queue))
    targets.closed_on_load = other
    queue.put(targets.ClosesOnLoad())
    assert other.get(timeout=PATIENCE_S) is None
    assert other.closed
    assert queue.stats().lost == 0
    targets.closed_on_load = None
    queue.close()


def test_what_a_shutdown_gave_up_was_neither_got_nor_lost():
    queue = fastipc.Queue()
    for number in range(5):
        queue.put(number)
    assert queue.get() == 0
    queue.shutdown(immediate=True)
    found = queue.stats()
    assert (found.puts, found.gets, found.items, found.bytes, found.lost) == (5, 1, 0, 0, 0)
    queue.close()
