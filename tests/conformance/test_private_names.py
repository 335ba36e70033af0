"""Private names that the standard library itself uses on queues and connections."""

from __future__ import annotations

import concurrent.futures
import multiprocessing.connection
import multiprocessing.queues

import pytest

from tests.conformance import targets
from tests.support import PATIENCE_S, Background, Flag, until


@pytest.fixture
def simple(impl):
    """A simple queue, closed afterwards."""
    queue = impl.SimpleQueue()
    yield queue
    queue.close()


def test_a_simple_queue_is_used_as_pool_uses_it(impl, simple):
    # Pool keeps these bound methods of its task and result queues.
    put, get, poll = simple._writer.send, simple._reader.recv, simple._reader.poll
    assert not poll()
    put((1, "task"))
    assert poll(PATIENCE_S)
    assert get() == (1, "task")
    simple.put((2, "through put"))
    assert get() == (2, "through put")
    put((3, "through the writer"))
    assert simple.get() == (3, "through the writer")


def test_a_simple_queue_is_used_as_a_pools_worker_uses_it(simple):
    # worker() closes what it does not use, when the queue has it.
    assert hasattr(simple, "_writer")
    simple.put("job")
    assert simple._poll()
    assert not simple.empty()
    with simple._rlock:
        assert simple._reader.poll()
    assert simple.get() == "job"
    assert not simple._poll()


def test_the_read_lock_of_a_simple_queue_keeps_other_readers_out(simple):
    # Pool's _help_stuff_finish holds it while it empties the queue by hand.
    simple._rlock.acquire()
    try:
        simple.put("only for who holds the lock")
        call = Background(simple.get)
        call.until_blocked()
        assert simple._reader.poll()
        assert simple._reader.recv() == "only for who holds the lock"
    finally:
        simple._rlock.release()
    simple.put("for the others")
    assert call.result() == "for the others"


def test_the_write_lock_of_a_simple_queue_keeps_other_writers_out(simple):
    with simple._wlock:
        call = Background(simple.put, "late")
        call.until_blocked()
        assert not simple._poll()
    call.result()
    assert simple.get() == "late"


def test_the_standards_wait_takes_the_reader_of_a_queue(impl):
    # ProcessPoolExecutor waits for result_queue._reader, a wakeup pipe and sentinels together.
    for queue in (impl.Queue(), impl.JoinableQueue(), impl.SimpleQueue()):
        wakeup_reader, wakeup_writer = impl.Pipe(duplex=False)
        objects = [queue._reader, wakeup_reader]
        assert multiprocessing.connection.wait(objects, 0) == []
        queue.put("result")
        assert multiprocessing.connection.wait(objects, PATIENCE_S) == [queue._reader]
        assert multiprocessing.connection.wait(objects, PATIENCE_S) == [queue._reader]
        assert queue.get() == "result"
        assert multiprocessing.connection.wait(objects, 0) == []
        wakeup_writer.send_bytes(b"")
        assert multiprocessing.connection.wait(objects, PATIENCE_S) == [wakeup_reader]
        assert wakeup_reader.recv_bytes() == b""
        for end in (wakeup_reader, wakeup_writer, queue):
            end.close()


def test_the_reader_of_a_queue_receives_what_the_queue_was_given(impl):
    queue = impl.Queue()
    queue.put("result")
    assert queue._reader.poll(PATIENCE_S)
    assert queue._reader.recv() == "result"
    assert queue._reader.poll() is False


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((-1,), "offset is negative"),
        ((4,), "buffer length < offset"),
        ((0, -1), "size is negative"),
        ((1, 3), r"buffer length < offset \+ size"),
    ],
)
def test_the_writer_of_a_queue_refuses_a_part_that_is_not_there(impl, arguments, text):
    queue = impl.Queue()
    with pytest.raises(ValueError, match=f"^{text}$"):
        queue._writer.send_bytes(b"123", *arguments)
    assert not queue._reader.poll()
    queue._writer.send_bytes(b"123", 1, 2)
    queue._writer.send_bytes(b"123", 3)
    with pytest.raises(ValueError, match="^negative maxlength$"):
        queue._reader.recv_bytes(-1)
    assert [queue._reader.recv_bytes() for _ in range(2)] == [b"23", b""]
    queue.close()


def test_the_reader_and_writer_are_connections(impl):
    for queue in (impl.Queue(), impl.SimpleQueue()):
        for end in (queue._reader, queue._writer):
            assert isinstance(end, multiprocessing.connection.Connection)
            assert isinstance(end.fileno(), int)
            assert not end.closed
        queue.close()


def test_a_queue_has_the_names_that_an_executor_sets_or_reads(impl):
    queue = impl.Queue(3)
    assert queue._maxsize == 3
    assert queue._closed is False
    assert queue._ignore_epipe is False
    queue._ignore_epipe = True  # as ProcessPoolExecutor does with its call queue
    assert callable(queue._poll)
    assert queue._poll() is False
    with queue._rlock, queue._wlock:
        pass
    queue.close()
    assert queue._closed is True


def test_a_pool_of_the_context_works(ctx):
    with ctx.Pool(2) as pool:
        assert pool.map(abs, range(-20, 20)) == [abs(number) for number in range(-20, 20)]
        assert pool.apply_async(max, (3, 5)).get(PATIENCE_S) == 5
        with pytest.raises(ZeroDivisionError):
            pool.apply(divmod, (1, 0))
        pool.close()
        pool.join()


def test_a_pool_ends_although_work_is_left(ctx):
    started = Flag()
    pool = ctx.Pool(2, initializer=targets.set_flag, initargs=(started,))
    results = [pool.apply_async(abs, (-1,)) for _ in range(50)]
    assert started.wait()
    pool.terminate()
    pool.join()
    assert all(result.get(0) == 1 for result in results if result.ready())


def test_a_process_pool_executor_with_the_context_works(ctx):
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=ctx) as executor:
        assert list(executor.map(abs, [-1, 2, -3])) == [1, 2, 3]
        assert isinstance(executor.submit(divmod, 1, 0).exception(PATIENCE_S), ZeroDivisionError)
        unpicklable = executor.submit(lambda: None)
        assert unpicklable.exception(PATIENCE_S) is not None
        assert executor.submit(max, 4, 7).result(PATIENCE_S) == 7


def test_a_subclass_as_the_executors_safe_queue_reports_errors_through_its_hook(impl):
    seen = []

    class SafeQueue(impl.queues.Queue):
        def __init__(self, max_size=0, *, ctx):
            self.added = "before the base"
            super().__init__(max_size, ctx=ctx)

        def _on_queue_feeder_error(self, error, obj):
            seen.append((self.added, type(error), obj[0]))

    queue = SafeQueue(2, ctx=impl.get_context())
    queue._ignore_epipe = True
    queue.put(("work item", lambda: None))
    until(lambda: seen)
    assert seen[0][0] == "before the base"
    assert seen[0][2] == "work item"
    queue.put("picklable")
    assert queue.get() == "picklable"
    queue.close()
    queue.join_thread()


def test_standard_classes_are_the_bases(impl):
    assert isinstance(impl.Queue(), multiprocessing.queues.Queue)
    assert isinstance(impl.JoinableQueue(), multiprocessing.queues.JoinableQueue)
    simple = impl.SimpleQueue()
    assert isinstance(simple, multiprocessing.queues.SimpleQueue)
    simple.close()


def test_what_poll_reports_under_the_read_lock_is_not_taken_by_another_process(ctx, children):
    # Pool's _help_stuff_finish polls and then receives, while its workers take what they can.
    queue = ctx.SimpleQueue()
    with queue._rlock:
        queue.put("for who holds the lock")
        assert queue._reader.poll(PATIENCE_S)
        with children(targets.take_one_if_it_gets_the_lock, queue):
            pass
        assert queue._reader.recv() == "for who holds the lock"
    queue.put("for all")
    assert queue.get() == "for all"
    queue.close()
