"""shutdown(): the end of stream as queue.Queue of Python 3.13 has it, across processes.

Where the threads' queue has it, the scenarios run on both, and what they see must be the same.
"""

from __future__ import annotations

import os
import pickle
import queue as threads_queue
import select
import signal
from typing import Any

import pytest

import fastipc
from fastipc import _core
from tests.support import PATIENCE_S, Background, Flag, ended, in_fork, until, until_asleep
from tests.unit import targets

KINDS = ["fastipc", "threads"] if hasattr(threads_queue, "ShutDown") else ["fastipc"]


@pytest.fixture(params=KINDS)
def make(request):
    """Makes queues with task_done() and join(): make(maxsize=0)."""
    made: list[Any] = []

    def new(maxsize=0):
        kind = fastipc.JoinableQueue if request.param == "fastipc" else threads_queue.Queue
        made.append(kind(maxsize))
        return made[-1]

    yield new
    for queue in made:
        if request.param == "fastipc":
            queue.close()


def outcome(function, *args, **kwargs):
    """What a call returned, or the name of what it raised."""
    try:
        return function(*args, **kwargs)
    except (fastipc.ShutDown, fastipc.Empty, fastipc.Full, ValueError) as error:
        return type(error).__name__


SHUT = "ShutDown"
# Steps (method, arguments) and what each gives.
SCENARIOS: dict[str, list[tuple[str, tuple[Any, ...], Any]]] = {
    "empty": [
        ("shutdown", (), None),
        ("put", (1,), SHUT),
        ("put_nowait", (1,), SHUT),
        ("put", (1, True, 0.01), SHUT),
        ("get", (), SHUT),
        ("get_nowait", (), SHUT),
        ("get", (True, 0.01), SHUT),
        ("qsize", (), 0),
        ("empty", (), True),
        ("task_done", (), "ValueError"),
        ("join", (), None),
    ],
    "queued": [
        ("put", (1,), None),
        ("put", (2,), None),
        ("shutdown", (), None),
        ("put", (3,), SHUT),
        ("qsize", (), 2),
        ("empty", (), False),
        ("get", (), 1),
        ("get_nowait", (), 2),
        ("get_nowait", (), SHUT),
        ("task_done", (), None),
        ("task_done", (), None),
        ("task_done", (), "ValueError"),
        ("join", (), None),
    ],
    "immediate": [
        ("put", (1,), None),
        ("put", (2,), None),
        ("put", (3,), None),
        ("get", (), 1),
        ("shutdown", (True,), None),
        ("qsize", (), 0),
        ("empty", (), True),
        ("get", (), SHUT),
        ("get_nowait", (), SHUT),
        ("put", (4,), SHUT),
        ("task_done", (), None),
        ("task_done", (), "ValueError"),
        ("join", (), None),
    ],
    "immediate and nothing was taken": [
        ("put", (1,), None),
        ("shutdown", (True,), None),
        ("join", (), None),
        ("task_done", (), "ValueError"),
    ],
    "immediate and marked as done before": [
        ("put", (1,), None),
        ("put", (2,), None),
        ("task_done", (), None),
        ("task_done", (), None),
        ("shutdown", (True,), None),
        ("join", (), None),
        ("task_done", (), "ValueError"),
    ],
    "twice": [
        ("put", (1,), None),
        ("shutdown", (), None),
        ("shutdown", (), None),
        ("get", (), 1),
        ("get", (), SHUT),
        ("shutdown", (), None),
        ("get", (), SHUT),
    ],
    "immediate after not": [
        ("put", (1,), None),
        ("put", (2,), None),
        ("shutdown", (False,), None),
        ("get", (), 1),
        ("shutdown", (True,), None),
        ("get", (), SHUT),
        ("task_done", (), None),
        ("join", (), None),
    ],
    "not immediate after immediate": [
        ("put", (1,), None),
        ("shutdown", (True,), None),
        ("shutdown", (False,), None),
        ("get", (), SHUT),
        ("join", (), None),
    ],
}


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("size", [0, 2**17], ids=["small", "large"])
def test_a_shut_queue_answers_as_the_threads_queue_does(make, scenario, size):
    queue = make()
    for method, args, expected in SCENARIOS[scenario]:
        if method in ("put", "put_nowait"):
            args = ((args[0], b"x" * size), *args[1:])
        given = outcome(getattr(queue, method), *args)
        if method in ("get", "get_nowait") and isinstance(given, tuple):
            assert len(given[1]) == size
            given = given[0]
        assert given == expected, (method, args)


@pytest.mark.parametrize("scenario", ["queued", "immediate"])
def test_a_full_queue_that_is_shut_refuses_at_once(make, scenario):
    queue = make(2)
    queue.put(1)
    queue.put(2)
    assert queue.full()
    queue.shutdown(immediate=scenario == "immediate")
    assert outcome(queue.put, 3) == SHUT
    assert outcome(queue.put, 3, True, 0.01) == SHUT
    assert outcome(queue.put_nowait, 3) == SHUT
    assert queue.full() is (scenario == "queued")


@pytest.mark.parametrize("immediate", [False, True])
@pytest.mark.parametrize("timeout", [None, PATIENCE_S])
def test_whoever_is_blocked_learns_of_it(make, immediate, timeout):
    empty, full = make(), make(1)
    full.put("taken or given up")
    calls = [Background(outcome, empty.get, True, timeout) for _ in range(3)]
    calls += [Background(outcome, full.put, 1, True, timeout) for _ in range(3)]
    for call in calls:
        call.until_blocked()
    empty.shutdown(immediate)
    full.shutdown(immediate)
    assert [call.result() for call in calls] == [SHUT] * 6
    assert outcome(full.get) == (SHUT if immediate else "taken or given up")


def test_join_waits_for_what_was_taken_and_not_for_what_was_given_up(make):
    queue = make()
    for number in range(4):
        queue.put(number)
    assert queue.get() == 0
    call = Background(queue.join)
    call.until_blocked()
    queue.shutdown()
    call.until_blocked()
    queue.shutdown(immediate=True)
    call.until_blocked()
    queue.task_done()
    call.result()


def test_join_ends_when_everything_is_given_up(make):
    queue = make()
    queue.put(1)
    call = Background(queue.join)
    call.until_blocked()
    queue.shutdown(immediate=True)
    call.result()


def test_the_exception_is_the_threads_queues_where_it_has_one():
    assert issubclass(fastipc.ShutDown, Exception)
    assert fastipc.ShutDown.__name__ == "ShutDown"
    if hasattr(threads_queue, "ShutDown"):
        assert fastipc.ShutDown is threads_queue.ShutDown
    else:
        assert fastipc.ShutDown.__module__ == "fastipc.queues"


@pytest.mark.parametrize("immediate", [False, True])
def test_consumers_in_other_processes_end_when_the_stream_ends(ctx, children, immediate):
    queue, results, taken = ctx.Queue(), ctx.Queue(), Flag()
    with children(targets.get_until_shut_down, queue, results, taken, count=3):
        queue.put(1)
        assert taken.wait()
        for number in range(2, 11):
            queue.put(number)
        queue.shutdown(immediate)
    received = [number for _ in range(3) for number in results.get(timeout=PATIENCE_S)]
    if immediate:
        assert set(received) <= set(range(1, 11))
    else:
        assert sorted(received) == list(range(1, 11))
    assert queue.stats().lost == 0
    queue.close()
    results.close()


def test_producers_in_other_processes_learn_that_nobody_wants_more(ctx, children):
    queue, results, full = ctx.Queue(4), ctx.Queue(), Flag()
    with children(targets.put_until_shut_down, queue, results, full, count=2):
        assert full.wait()
        queue.shutdown()
    put = sorted(number for _ in range(2) for number in results.get(timeout=PATIENCE_S))
    received = []
    while (item := outcome(queue.get)) != SHUT:
        received.append(item)
    assert sorted(received) == put
    queue.close()
    results.close()


def test_a_queue_may_be_shut_down_in_another_process(ctx, children):
    queue = ctx.JoinableQueue()
    queue.put("put before")
    with children(targets.shut_down, queue, False):
        pass
    assert queue.is_shutdown
    assert outcome(queue.put, 1) == SHUT
    assert queue.get() == "put before"
    queue.task_done()
    assert outcome(queue.get) == SHUT
    queue.join()
    queue.close()


def sleepers(queue):
    """How many sleep in get and in put."""
    found = queue.stats()
    return found.getters, found.putters


@pytest.mark.start_methods("fork", "spawn")
@pytest.mark.parametrize("immediate", [False, True])
def test_whoever_is_blocked_in_another_process_learns_of_it(ctx, children, immediate):
    empty, full = ctx.JoinableQueue(), ctx.JoinableQueue(2)
    heavy, results = ctx.JoinableQueue(max_bytes=300_000), ctx.Queue()
    full.put_many([1, 2])
    heavy.put(b"h" * 200_000)
    blocked = [
        *((empty, way) for way in ("get", "get_many", "get_bytes", "get_bytes_into", "wait")),
        *((full, way) for way in ("put", "put with a timeout", "put_many", "put_bytes")),
        *((full, way) for way in ("put of a block", "put of buffers", "join")),
        *((heavy, way) for way in ("put of a block", "put of buffers", "join")),
    ]
    names = {id(empty): "empty", id(full): "full", id(heavy): "heavy"}
    expected = {}
    groups = []
    for queue, way in blocked:
        name, begins = f"{way}, {names[id(queue)]}", Flag()
        expected[name] = {"wait": True, "join": None}.get(way, SHUT)
        groups.append(children(targets.tell_what_ends_it, queue, way, begins, name, results))
        assert begins.wait()
        until_asleep(groups[-1].pid)
    for queue, getters, putters in ((empty, 4, 0), (full, 0, 6), (heavy, 0, 2)):
        # Who sleeps is not counted while it looks whether there is something.
        until(lambda q=queue, n=(getters, putters): sleepers(q) == n, "that all sleep")
    for queue in (empty, full, heavy):
        queue.shutdown(immediate)
    joins = [] if immediate else ["join, full", "join, heavy"]
    found = dict(results.get(timeout=PATIENCE_S) for _ in range(len(expected) - len(joins)))
    if not immediate:  # what is there is still to be done
        assert not set(joins) & set(found)
        for _ in range(2):
            assert full.get() in (1, 2)
            full.task_done()
        assert heavy.get() == b"h" * 200_000
        heavy.task_done()
        found |= dict(results.get(timeout=PATIENCE_S) for _ in joins)
    assert found == expected
    for group in groups:
        group.join()
    for queue in (empty, full, heavy):
        assert outcome(queue.get) == outcome(queue.put, 1) == SHUT
        assert queue.stats().lost == 0
        assert _core.debug_check(queue)["owned"] == 0
        queue.close()
    results.close()


def test_batches_meet_the_end_of_the_stream_too():
    queue = fastipc.Queue(4)
    call = Background(queue.put_many, range(6))
    call.until_blocked()
    queue.shutdown()
    with pytest.raises(fastipc.ShutDown) as caught:
        call.result()
    assert caught.value.put_count == 4
    with pytest.raises(fastipc.ShutDown):
        queue.put_many([1, b"x" * 100_000])
    with pytest.raises(fastipc.ShutDown):
        queue.put_bytes(b"x")
    assert queue.get_many(3) == [0, 1, 2]
    assert queue.get_many(100) == [3]
    for method in (queue.get_bytes, lambda: queue.get_many(1), lambda: queue.get_many(1, False)):
        with pytest.raises(fastipc.ShutDown):
            method()
    queue.close()


def test_a_batch_of_nothing_meets_the_end_of_the_stream_too():
    queue = fastipc.Queue()
    queue.put_many([])
    queue.shutdown()
    with pytest.raises(fastipc.ShutDown) as caught:
        queue.put_many([])
    assert caught.value.put_count == 0
    queue.close()
    with pytest.raises(ValueError, match="closed") as refused:
        queue.put_many([])
    assert refused.value.put_count == 0


def keep_some(queue):
    """Four items that a get_many() which failed has kept: one is ready, the others are not."""
    kept = ["kept", 2, b"in a block" * 10_000, targets.Buffered(bytearray(100_000))]
    queue.put_many([kept[0], targets.RaisesOnLoad(), *kept[1:]])
    with pytest.raises(ValueError, match="refuses"):
        queue.get_many(10)
    assert queue.qsize() == 4


GETS = {
    "get": lambda queue: queue.get(timeout=PATIENCE_S),
    "get_many": lambda queue: queue.get_many(10, timeout=PATIENCE_S),
    "get_bytes": lambda queue: queue.get_bytes(timeout=PATIENCE_S),
    "get_bytes_into": lambda queue: queue.get_bytes_into(bytearray(10), timeout=PATIENCE_S),
}


@pytest.mark.parametrize("by", ["the same object", "another"])
@pytest.mark.parametrize("get", GETS)
@pytest.mark.parametrize("first", ["get", "qsize", "empty", "join"])
def test_what_a_failed_get_many_has_kept_is_given_up_by_an_immediate_shutdown(by, get, first):
    queue = fastipc.JoinableQueue()
    keep_some(queue)
    other = pickle.loads(pickle.dumps(queue)) if by == "another" else queue
    other.shutdown(immediate=True)
    # The item whose unpickling failed was taken, and whoever took it marks it as done.
    queue.task_done()
    if first == "qsize":
        assert queue.qsize() == 0
    elif first == "empty":
        assert queue.empty()
    elif first == "join":
        queue.join()
    with pytest.raises(fastipc.ShutDown):
        GETS[get](queue)
    call = Background(other.join)
    call.result()
    with pytest.raises(ValueError, match="too many"):
        queue.task_done()
    assert _core.debug_check(queue)["owned"] == 0
    for one in {queue, other}:
        one.close()


@pytest.mark.parametrize("by", ["the same object", "another"])
def test_a_blocked_join_ends_when_what_was_kept_is_given_up(by):
    queue = fastipc.JoinableQueue()
    keep_some(queue)
    queue.task_done()
    other = pickle.loads(pickle.dumps(queue)) if by == "another" else queue
    call = Background(queue.join)
    call.until_blocked()
    other.shutdown(immediate=True)
    call.result()
    for one in {queue, other}:
        one.close()


def test_what_is_kept_outlives_a_shutdown_that_is_not_immediate():
    queue = fastipc.JoinableQueue()
    keep_some(queue)
    queue.shutdown()
    assert queue.get() == "kept"
    assert queue.get_many(2) == [2, b"in a block" * 10_000]
    assert bytes(queue.get().data) == bytes(100_000)
    with pytest.raises(fastipc.ShutDown):
        queue.get()
    for _ in range(5):
        queue.task_done()
    queue.join()
    queue.close()


def test_what_was_put_aside_for_want_of_memory_is_given_up_too(run_program):
    run_program(
        """
        import resource
        import fastipc
        from fastipc import _core
        from tests.unit.targets import Buffered

        for large in (b"l" * 2**25, Buffered(bytearray(2**25))):
            queue = fastipc.JoinableQueue(copy=True)
            queue.put_many(["made", large, large, 4])
            with open("/proc/self/statm") as file:
                used = int(file.read().split()[0]) * resource.getpagesize()
            before = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (used + 2**24, before[1]))
            try:
                queue.get_many(10)
            except MemoryError:
                assert queue.qsize() == 4
            else:
                raise AssertionError("there was enough memory")
            finally:
                resource.setrlimit(resource.RLIMIT_AS, before)
            queue.shutdown(immediate=True)
            try:
                queue.get()
            except fastipc.ShutDown:
                pass
            else:
                raise AssertionError("what was given up was returned")
            queue.join()
            assert _core.debug_check(queue)["owned"] == 0
            queue.close()
        """
    )


def test_what_was_given_up_is_not_lost_with_a_process_that_is_killed_after_it():
    queue = fastipc.JoinableQueue()

    def child():
        keep_some(queue)
        queue.shutdown(immediate=True)
        os.kill(os.getpid(), signal.SIGKILL)

    assert ended(in_fork(child)) == -signal.SIGKILL
    assert queue.stats().lost == 0
    queue.task_done()
    queue.join()
    queue.close()


@pytest.mark.parametrize("immediate", [False, True])
def test_a_selector_learns_of_it(immediate):
    queue = fastipc.Queue()
    poll = select.poll()
    poll.register(queue.fileno(), select.POLLIN)
    call = Background(poll.poll, PATIENCE_S * 1000)
    waiting = Background(fastipc.connection.wait, [queue], PATIENCE_S)
    waiting.until_blocked()
    queue.shutdown(immediate)
    assert call.result()
    assert waiting.result() == [queue]
    for _ in range(3):
        assert poll.poll(0)
        assert queue._reader.poll(0)
        assert outcome(queue.get_nowait) == SHUT
    queue.close()


def test_a_queue_that_is_shut_down_says_so():
    queue = fastipc.Queue()
    assert not queue.is_shutdown
    assert "shut down" not in repr(queue)
    queue.shutdown()
    assert queue.is_shutdown
    assert "shut down" in repr(queue)
    queue.close()
    assert queue.is_shutdown
    with pytest.raises(ValueError, match="closed"):
        queue.shutdown()


def test_shutdown_is_not_close():
    queue = fastipc.Queue()
    queue.shutdown(immediate=True)
    assert not queue.closed
    assert queue.fileno() >= 0
    assert queue.stats().puts == 0
    queue.close()
    with pytest.raises(ValueError, match="closed"):
        queue.put(1)
    with pytest.raises(ValueError, match="closed"):
        queue.get()
