"""put_many() and get_many(): many items under one lock, in their order, and none of them lost."""

from __future__ import annotations

import dataclasses
import os
import pickle
import signal
import struct
import sys
import threading
from collections.abc import Iterator
from queue import Empty, Full

import pytest

import fastipc
from fastipc import _core
from tests.support import PATIENCE_S, Background, ended, in_fork, until_asleep
from tests.unit import targets

KINDS = [fastipc.Queue, fastipc.JoinableQueue]
MIXED = [
    1,
    "text",
    b"b" * 5000,
    None,
    {"key": [1.5, (2, 3)]},
    b"",
    targets.Tagged,
    b"c" * (1 << 20),
    "long " * 2000,
    list(range(10000)),
    (),
]


@pytest.fixture(params=KINDS, ids=["Queue", "JoinableQueue"])
def queue(request):
    """An unbounded queue of each kind."""
    made = request.param()
    yield made
    _core.debug_check(made)
    made.close()


def drained(queue, at_once=7):
    """Everything that is queued, a few at a time."""
    items = []
    while not queue.empty():
        some = queue.get_many(at_once)
        assert 1 <= len(some) <= at_once
        items += some
    return items


def test_items_arrive_in_their_order_whatever_they_are(queue):
    queue.put_many(MIXED)
    assert queue.qsize() == len(MIXED)
    assert queue.get_many(100) == MIXED
    queue.put_many(MIXED * 20)
    assert drained(queue) == MIXED * 20


class Framed:
    """A serializer of the user's: bytes in a frame."""

    def dumps(self, obj):
        return b"<" + obj + b">"

    def loads(self, data):
        framed = bytes(data)
        assert framed[:1] + framed[-1:] == b"<>"
        return framed[1:-1]


EDGES = [0, 127, 128, 256, 2**15, 2**30 - 1, 2**30, 2**31 - 1, 2**31, 2**62, 2**63 - 1, 2**64]
INTS = [sign * edge + off for edge in EDGES for sign in (1, -1) for off in (-1, 0, 1)]


class Whole(int):
    """Not an int of exact type: pickled."""


@pytest.mark.parametrize("kind", [list, tuple, iter])
@pytest.mark.parametrize("at_once", [1, 7, 10**6])
def test_ints_of_every_size_arrive_between_whatever_else_is_there(queue, kind, at_once):
    items = [*INTS, "text", True, *INTS[::-1], b"", Whole(5), False, *INTS, 1.0, *range(-300, 3000)]
    queue.put_many(kind(items))
    found = drained(queue, at_once)
    assert found == items
    assert [type(item) for item in found] == [type(item) for item in items]


def test_ints_of_a_batch_count_against_max_bytes_with_what_they_take():
    one = len(_core.debug_encode(1)[1])
    tight = fastipc.Queue(max_bytes=one)
    tight.put_many([1])
    assert tight.get_many(10) == [1]
    with pytest.raises(ValueError, match="can never fit"):
        tight.put_many([1, 1000])
    assert tight.empty()
    tight.close()
    queue = fastipc.Queue(max_bytes=3 * one)
    for _ in range(100):
        with pytest.raises(Full) as caught:
            queue.put_many([1, 2, 3, 4], False)
        assert caught.value.put_count == 3
        assert queue.get() == 1
        assert queue.get_many(10) == [2, 3]
    queue.close()


def test_single_ints_and_batches_of_them_mix(queue):
    """What the loops of batches write and read is what put() and get() do."""
    queue.put_many(INTS)
    assert [queue.get() for _ in INTS] == INTS
    for number in INTS:
        queue.put(number)
    assert drained(queue, 5) == INTS


@pytest.mark.parametrize("serializer", [Framed(), None], ids=["own", "bytes only"])
def test_a_batch_is_encoded_by_the_serializer_of_its_queue(serializer):
    queue = fastipc.Queue(serializer=serializer)
    items = [b"", b"small", b"m" * 4000, b"l" * 100_000, b"last"]
    queue.put_many(items)
    assert queue.get() == b""
    assert queue.get_many(10) == items[1:]
    with pytest.raises(TypeError) as caught:
        queue.put_many([b"fine", 5])
    assert caught.value.item_index == 1
    assert queue.empty()
    queue.close()


def test_a_queue_for_bytes_only_does_not_unpickle_in_batches():
    queue = fastipc.Queue(serializer=None)
    queue.put_many([pickle.dumps(targets.RaisesOnLoad())] * 3)
    assert queue.get_many(3) == [pickle.dumps(targets.RaisesOnLoad())] * 3
    queue.close()


@pytest.mark.parametrize("copy", [None, True])
def test_large_buffers_travel_in_batches_and_can_be_copied(queue, copy):
    sent = [
        targets.Buffered(bytearray([number]) * size)
        for number, size in enumerate([10, 3000, 200_000])
    ]
    queue.put_many([1, *sent, 2])
    first, *received, last = queue.get_many(10, copy=copy)
    assert (first, last) == (1, 2)
    assert [bytes(item.data) for item in received] == [bytes(item.data) for item in sent]
    del received


class Viewed:
    """A serializer for bytes that keeps the view it is given, but of what it refuses."""

    def dumps(self, obj):
        return b"refused" if isinstance(obj, targets.RaisesOnLoad) else obj.data

    def loads(self, data):
        if data == b"refused":
            raise ValueError("on purpose")
        return targets.Buffered(data)


@pytest.mark.parametrize("of_call", [None, False, True])
@pytest.mark.parametrize("of_queue", [False, True])
@pytest.mark.parametrize("options", [{}, {"serializer": Viewed()}], ids=["pickle", "own"])
@pytest.mark.parametrize("way", ["get", "get_many", "get_many, from what was kept"])
def test_large_buffers_are_copied_where_the_call_says_so_or_else_the_queue(
    way, options, of_queue, of_call
):
    queue = fastipc.Queue(copy=of_queue, **options)
    sent = [targets.Buffered(bytearray(letter * 100_000)) for letter in (b"a", b"b")]
    before = fastipc.get_view_bytes()
    if way == "get":
        for item in sent:
            queue.put(item)
        received = [queue.get(copy=of_call) for _ in sent]
    else:
        queue.put_many([targets.RaisesOnLoad(), *sent] if "kept" in way else sent)
        if "kept" in way:
            with pytest.raises(ValueError):
                queue.get_many(3)
        received = queue.get_many(3, copy=of_call)
    copies = of_queue if of_call is None else of_call
    kept = fastipc.get_view_bytes() - before
    assert kept == 0 if copies else kept >= 200_000
    assert _core.debug_check(queue)["owned"] == (0 if copies else 2)
    assert [bytes(item.data) for item in received] == [bytes(item.data) for item in sent]
    del received
    assert fastipc.get_view_bytes() == before
    assert _core.debug_check(queue)["owned"] == 0
    queue.close()


def test_single_items_and_batches_mix(queue):
    queue.put("first")
    queue.put_many(["second", "third"])
    queue.put("fourth")
    assert queue.get() == "first"
    assert queue.get_many(2) == ["second", "third"]
    assert queue.get_many(2) == ["fourth"]


def test_a_batch_of_a_hundred_thousand_passes_through_growing_rings(queue):
    numbers = list(range(100_000))
    queue.put_many(numbers)
    assert queue.get_many(sys.maxsize) == numbers
    assert queue.empty()


def test_any_iterable_is_read_to_its_end_before_anything_is_put(queue):
    def items() -> Iterator[int]:
        for number in range(3):
            assert queue.empty()
            yield number

    queue.put_many(items())
    assert queue.get_many(10) == [0, 1, 2]
    queue.put_many([])
    queue.put_many({"a": 1, "b": 2})
    assert queue.get_many(10) == ["a", "b"]

    def failing() -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    with pytest.raises(LookupError) as caught:
        queue.put_many(failing())
    assert caught.value.put_count == 0
    with pytest.raises(TypeError) as refused:
        queue.put_many(5)
    assert refused.value.put_count == 0
    assert queue.empty()


def test_whatever_ends_put_many_says_how_many_were_put(queue):
    with pytest.raises(TypeError) as caught:
        queue.put_many([1], timeout="soon")
    assert caught.value.put_count == 0
    assert queue.empty()
    closed = fastipc.Queue()
    closed.close()
    with pytest.raises(ValueError, match="is closed") as refused:
        closed.put_many([1])
    assert refused.value.put_count == 0


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    """An exception that takes no attributes, as all frozen dataclasses do."""

    text: str


class StubbornError(Exception):
    """An exception that answers an attribute with an error of its own."""

    def __setattr__(self, name, value):
        raise RuntimeError(f"no {name}")


class RaisesOnPickle:
    """Cannot be pickled for the reason that it was given."""

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        raise self.error


@pytest.mark.parametrize("kind", [FrozenError, StubbornError])
def test_an_exception_that_takes_no_attributes_comes_out_of_put_many_as_it_is(queue, kind):
    error = kind("no")
    with pytest.raises(kind) as caught:
        queue.put_many([1, RaisesOnPickle(error)])
    assert caught.value is error
    assert queue.empty()
    queue.put_many([1, 2])
    assert queue.get_many(5) == [1, 2]


def test_get_many_waits_for_the_first_item_only(queue):
    with pytest.raises(Empty):
        queue.get_many(5, block=False)
    with pytest.raises(Empty):
        queue.get_many(5, timeout=0.01)
    call = Background(queue.get_many, 5)
    call.until_blocked()
    queue.put("alone")
    assert call.result() == ["alone"]


def test_get_many_with_a_timeout_gets_what_comes_meanwhile(queue):
    call = Background(queue.get_many, 5, timeout=PATIENCE_S)
    call.until_blocked()
    queue.put_many(["in", "time"])
    assert call.result() == ["in", "time"]


@pytest.mark.parametrize("wrong", [0, -1, -(2**70)])
def test_get_many_of_nothing_is_refused(queue, wrong):
    with pytest.raises(ValueError, match="max_items must be at least 1"):
        queue.get_many(wrong)


def test_get_many_takes_a_number_beyond_every_integer_of_c_for_all_there_are(queue):
    queue.put_many(range(10))
    assert queue.get_many(2**70) == list(range(10))


def test_get_many_wants_a_whole_number(queue):
    with pytest.raises(TypeError):
        queue.get_many(1.5)


def test_task_done_counts_each_item():
    queue = fastipc.JoinableQueue()
    queue.put_many(range(10))
    queue.get_many(10)
    for _ in range(10):
        queue.task_done()
    queue.join()
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()
    queue.close()


def test_a_batch_larger_than_maxsize_goes_in_parts():
    queue = fastipc.Queue(3)
    call = Background(queue.put_many, range(10))
    call.until_blocked()
    assert queue.qsize() == 3
    got = []
    while len(got) < 10:
        got += queue.get_many(2)
    call.result()
    assert got == list(range(10))
    queue.close()


def test_full_says_how_many_were_put():
    queue = fastipc.Queue(3)
    with pytest.raises(Full, match="3 of 5 items were put") as caught:
        queue.put_many("abcde", block=False)
    assert caught.value.put_count == 3
    with pytest.raises(Full) as caught:
        queue.put_many("x", timeout=0.01)
    assert caught.value.put_count == 0
    assert drained(queue) == ["a", "b", "c"]
    queue.close()


@pytest.mark.parametrize("size", [10, 10_000])
def test_the_timeout_of_put_many_is_that_of_the_call_and_not_of_each_part(size):
    queue = fastipc.Queue(1)
    items = [number.to_bytes(2, "little") * (size // 2) for number in range(500)]
    taken, ends = [], threading.Event()

    def take_now_and_then():
        # There is room long before a timeout ends, again and again; for all items after 10 s.
        while not ends.wait(0.02):
            if not queue.empty():
                taken.append(queue.get())

    call = Background(take_now_and_then)
    try:
        with pytest.raises(Full, match="of 500 items were put") as caught:
            queue.put_many(items, timeout=0.5)
    finally:
        ends.set()
        call.result()
    assert caught.value.put_count == len(taken) + queue.qsize() < 500
    assert [*taken, *drained(queue)] == items[: caught.value.put_count]
    queue.close()


def test_max_bytes_holds_for_batches():
    queue = fastipc.Queue(max_bytes=10_000)
    with pytest.raises(Full) as caught:
        queue.put_many([b"a" * 4000] * 5, block=False)
    assert caught.value.put_count == 2
    with pytest.raises(ValueError, match="can never fit") as refused:
        queue.put_many([b"b", b"c" * 10_001])
    assert refused.value.put_count == 0
    assert drained(queue) == [b"a" * 4000] * 2
    queue.close()


def unpicklable():
    """An object that pickle refuses."""
    return threading.Lock()


def test_an_unpicklable_item_puts_nothing_and_says_which_it_was(queue):
    with pytest.raises(TypeError, match="pickle") as caught:
        queue.put_many([0, b"large" * 5000, unpicklable(), 3])
    assert queue.empty()
    assert caught.value.item_index == 2
    assert caught.value.put_count == 0
    notes = getattr(caught.value, "__notes__", caught.value.args)
    assert "item 2 of those given to put_many()" in notes[0]
    queue.put_many([1, 2])
    assert queue.get_many(5) == [1, 2]


class Hooked(fastipc.queues.Queue):
    """Deals with what cannot be pickled, as a subclass of multiprocessing's may."""

    def _on_queue_feeder_error(self, error, item):
        self.refused = item


def test_a_subclass_that_deals_with_unpicklable_items_has_the_others_put():
    queue = Hooked(2)
    lock = unpicklable()
    queue.put_many([lock, "a", "b"])
    assert queue.refused is lock
    assert queue.get_many(5) == ["a", "b"]
    with pytest.raises(Full) as caught:
        queue.put_many(["a", lock, "b", lock, "c"], block=False)
    assert caught.value.put_count == 4
    queue.close()


def test_what_cannot_be_unpickled_is_gone_and_its_neighbours_are_kept(queue):
    large = b"l" * 100_000
    queue.put_many([1, large, targets.RaisesOnLoad(), 4, large, 6])
    with pytest.raises(ValueError, match="refuses to be unpickled"):
        queue.get_many(100)
    assert queue.qsize() == 5
    assert not queue.empty()
    queue.put(7)
    assert queue.get() == 1
    assert queue.get_many(2) == [large, 4]
    assert queue.get_bytes() == pickle.dumps(large, 5)
    assert queue.get_many(9) == [6]
    assert queue.get_many(9) == [7]
    assert queue.qsize() == 0


def test_one_bad_item_after_another_is_reported_and_the_rest_kept(queue):
    queue.put_many([1, targets.RaisesOnLoad(), targets.RaisesOnLoad(), 4])
    for _ in range(2):
        with pytest.raises(ValueError, match="refuses to be unpickled"):
            queue.get_many(100)
    assert queue.get_many(100) == [1, 4]


def test_a_forked_child_does_not_have_what_its_parent_has_kept():
    queue = fastipc.Queue()
    queue.put_many([1, targets.RaisesOnLoad(), 3])
    with pytest.raises(ValueError, match="refuses"):
        queue.get_many(10)

    def child():
        assert queue.empty()
        assert queue.qsize() == 0

    assert ended(in_fork(child)) == 0
    assert queue.get_many(10) == [1, 3]
    queue.close()


class Interrupt(Exception):
    """What the handler raises."""


@pytest.fixture
def raising():
    """SIGUSR1 raises Interrupt in the main thread."""

    def handler(number, frame):
        raise Interrupt

    before = signal.signal(signal.SIGUSR1, handler)
    yield
    signal.signal(signal.SIGUSR1, before)


def signal_main_thread_in_its_call():
    until_asleep(threading.main_thread().native_id)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)


def test_an_exception_from_a_handler_ends_put_many_and_says_how_many_were_put(raising):
    queue = fastipc.Queue(2)
    helper = Background(signal_main_thread_in_its_call)
    with pytest.raises(Interrupt) as caught:
        queue.put_many([b"large" * 10_000] * 5, timeout=PATIENCE_S)
    helper.result()
    assert caught.value.put_count == 2
    assert drained(queue) == [b"large" * 10_000] * 2
    _core.debug_check(queue)
    queue.close()


def test_an_exception_from_a_handler_ends_get_many_and_loses_nothing(raising):
    queue = fastipc.Queue()
    helper = Background(signal_main_thread_in_its_call)
    with pytest.raises(Interrupt):
        queue.get_many(5, timeout=PATIENCE_S)
    helper.result()
    queue.put_many([1, 2])
    assert queue.get_many(5) == [1, 2]
    queue.close()


class SignalsOnLoad:
    """Its unpickling is met by a signal."""

    def __reduce__(self):
        return meet_signal, ()


def meet_signal():
    """Has the handler run in here; up to Python 3.11 raise_signal() may leave that for later."""
    signal.raise_signal(signal.SIGUSR1)
    for _ in range(1000):
        pass


def test_a_handler_that_raises_while_objects_are_made_leaves_the_others_for_the_next_call(raising):
    queue = fastipc.Queue()
    queue.put_many([1, 2, SignalsOnLoad(), 4, b"l" * 10_000])
    with pytest.raises(Interrupt):
        queue.get_many(5)
    found = drained(queue)
    assert [item for item in found if item is not None] == [1, 2, 4, b"l" * 10_000]
    queue.close()


class PutsOnPickle:
    """Uses the queue while it is being pickled and unpickled."""

    queue: fastipc.queues.Queue | None = None

    def __reduce__(self):
        self.queue.put_many(["from within", 1])
        return put_and_get, ()


def put_and_get():
    """What unpickling the above does."""
    PutsOnPickle.queue.put_many(["from loading"])
    return PutsOnPickle.queue.get_many(1)[0]


def test_items_may_use_the_queue_while_they_are_pickled_and_unpickled(queue, monkeypatch):
    monkeypatch.setattr(PutsOnPickle, "queue", queue)
    queue.put_many([0, PutsOnPickle(), 9])
    assert queue.get_many(2) == ["from within", 1]
    assert queue.get_many(3) == [0, "from loading", 9]


class ClosesOnPickle:
    """Closes the queue while it is being pickled."""

    def __init__(self, queue):
        self.queue = queue

    def __reduce__(self):
        self.queue.close()
        return str, ()


def test_a_closed_queue_is_refused():
    queue = fastipc.Queue()
    with pytest.raises(ValueError, match="is closed"):
        queue.put_many([1, ClosesOnPickle(queue), 2])
    with pytest.raises(ValueError, match="is closed"):
        queue.put_many([1])
    with pytest.raises(ValueError, match="is closed"):
        queue.get_many(1)


def test_close_gives_what_a_failed_get_many_has_kept_back_at_once():
    queue = fastipc.Queue()
    fd = queue._handles()[0]
    # The first is ready when the second fails, and lies over the queue's memory.
    queue.put_many([targets.Buffered(bytearray(100_000)), targets.RaisesOnLoad()])
    with pytest.raises(ValueError, match="refuses"):
        queue.get_many(5)
    assert queue.qsize() == 1
    queue.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_closing_ends_a_blocked_call():
    queue = fastipc.Queue(1)
    call = Background(queue.put_many, [b"x" * 10_000] * 3)
    call.until_blocked()
    queue.close()
    with pytest.raises(ValueError, match="is closed"):
        call.result()
    queue = fastipc.Queue()
    call = Background(queue.get_many, 3)
    call.until_blocked()
    queue.close()
    with pytest.raises(ValueError, match="is closed"):
        call.result()


@pytest.mark.parametrize("maxsize", [0, 20])
def test_batches_of_several_processes_arrive_once_and_in_the_order_of_each(ctx, children, maxsize):
    queue, results = ctx.Queue(maxsize), ctx.Queue()
    producers = [children(targets.put_batches, queue, who, 3000) for who in range(2)]
    consumers = children(targets.take_batches, queue, results, count=2)
    for group in producers:
        group.join()
    queue.put(None)
    consumers.join()
    assert results.get() + results.get() == 6000
    assert queue.get_many(5) == [None]
    for one in (queue, results):
        one.close()


def test_without_memory_the_rest_of_a_batch_is_not_put_and_the_error_says_how_many_were(
    run_program,
):
    run_program(
        """
        import resource
        import fastipc
        from fastipc import _core

        resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 2**20, 16 * 2**20))
        queue = fastipc.Queue()
        items = [number.to_bytes(8, "little") * 2**16 for number in range(100)]
        for _ in range(2):
            try:
                queue.put_many(items)
            except MemoryError as error:
                count = error.put_count
                assert "RLIMIT_FSIZE" in str(error), error
            assert 5 < count < 32, count
            assert queue.qsize() == count
            got = []
            while not queue.empty():
                got += queue.get_many(7)
            assert got == items[:count]
            assert _core.debug_check(queue)["owned"] == 0
        queue.put_many(["usable"])
        assert queue.get_many(5) == ["usable"]
        """
    )


class Number:
    """A serializer that refuses 2."""

    def dumps(self, obj):
        return str(obj).encode()

    def loads(self, data):
        if bytes(data) == b"2":
            raise LookupError("on purpose")
        return int(bytes(data))


def test_bytes_of_what_a_failed_get_many_left_are_the_serializers():
    queue = fastipc.Queue(serializer=Number())
    queue.put_many([1, 2, 3])
    with pytest.raises(LookupError):
        queue.get_many(3)
    assert [queue.get_bytes(), queue.get_bytes()] == [b"1", b"3"]
    assert queue.empty() and queue.qsize() == 0
    queue.close()


def damage(fd, place, value):
    """What unpickling the below does to the queue's memory, as whoever has the queue can."""
    os.pwrite(fd, value, place)
    return "did damage"


class Damages:
    """Damages the queue's memory when it is unpickled."""

    def __init__(self, *what):
        self.what = what

    def __reduce__(self):
        return damage, self.what


def test_a_damaged_block_costs_its_own_item_of_a_batch_only():
    queue = fastipc.Queue()
    fd = queue._handles()[0]
    large = [bytes([65 + number]) * 100_000 for number in range(3)]
    # The same blocks are used again, so that the descriptor of the second is known.
    for _ in range(2):
        queue.put_many(["in the place of the damage", *large])
        content = os.pread(fd, os.fstat(fd).st_size, 0)
        assert queue.get_many(10)[1:] == large
    at = content.index(large[1])
    place = content.index(struct.pack("<Q", at + 17)) + 8  # 2^17 bytes; behind it populated
    (populated,) = struct.unpack_from("<Q", content, place)
    queue.put_many([Damages(fd, place, struct.pack("<Q", populated | 1)), *large, "last"])
    with pytest.raises(OSError, match="damaged"):
        queue.get_many(10)
    assert queue.get_many(10) == ["did damage", large[0], large[2], "last"]
    os.pwrite(fd, struct.pack("<Q", populated), place)
    # What is damaged is lost rather than given out again.
    assert _core.debug_check(queue)["owned"] == 1
    queue.close()


def refuse(*_):
    raise LookupError("on purpose")


class Refused:
    """Cannot be rebuilt; with a size, its buffer travels in a block."""

    def __init__(self, size=0):
        self.size = size

    def __reduce_ex__(self, protocol):
        return refuse, (pickle.PickleBuffer(bytearray(self.size)),)


def test_nothing_is_left_behind_the_last_item_that_cannot_be_rebuilt():
    queue = fastipc.Queue()
    for take in (queue.get, lambda: pickle.loads(queue.get_bytes())):
        queue.put_many([Refused(), Refused(1 << 20)])
        for each in (lambda: queue.get_many(2), take):
            with pytest.raises(LookupError):
                each()
        assert queue.empty() and queue.qsize() == 0
    with pytest.raises(fastipc.Empty):
        queue.get_nowait()
    queue.close()


def test_get_bytes_never_unpickles_without_a_serializer():
    queue = fastipc.Queue()
    queue.put(Refused(1 << 20))
    queue._configure(False, None)
    with pytest.raises(OSError, match="without its serializer"):
        queue.get_bytes()
    assert queue._check()["owned"] == 0
    queue.close()
