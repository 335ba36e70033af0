"""The one pickler that a process keeps, entered again in the middle of its own dump: from a
__reduce__, a finalizer, a signal handler, another thread; and what an exception or a fork there
leaves behind.
"""

from __future__ import annotations

import copyreg
import functools
import gc
import io
import itertools
import os
import pickle
import signal
import sys
import threading
import weakref
from multiprocessing.reduction import ForkingPickler

import pytest

import fastipc
from fastipc import _core
from tests.support import Background


class Item:
    """Goes through pickle; compared by what it holds."""

    def __init__(self, *content):
        self.content = list(content)

    def __getstate__(self):
        return self.__dict__

    def __eq__(self, other):
        return type(other) is Item and other.content == self.content

    __hash__ = None


class WhilePickled:
    """Calls something in the middle of being pickled, and arrives as the string 'itself'."""

    def __init__(self, call):
        self.call = call

    def __reduce__(self):
        self.call()
        return str, ("itself",)


class WhileFinalized:
    """Calls something when the collector finds it; only the collector can free it."""

    def __init__(self, call):
        self.call = call
        self.itself = self

    def __del__(self):
        self.call()


class WhileForgotten:
    """A part of its pickle is held by the pickler's memo only; that part's finalizer calls."""

    def __init__(self, call):
        self.call = call

    def __reduce__(self):
        return Item, (Part(self.call),)


class Part:
    """Calls something when it is freed."""

    def __init__(self, call):
        self.call = call

    def __reduce__(self):
        return str, ("part",)

    def __del__(self):
        self.call()


@pytest.fixture
def eager_switches():
    """Lets threads interrupt each other as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def queue():
    """The queue whose put() is interrupted."""
    queue = fastipc.Queue()
    yield queue
    queue.close()


@pytest.fixture
def other():
    """Another queue, used in the middle."""
    queue = fastipc.Queue()
    yield queue
    queue.close()


def content(queue):
    """Everything that is in a queue."""
    items = []
    while not queue.empty():
        items.append(queue.get())
    return items


@pytest.mark.parametrize("which", ["the same queue", "another queue"])
def test_a_reduce_method_may_put_objects(queue, other, which):
    target = queue if which == "the same queue" else other
    message = [Item("before"), WhilePickled(lambda: target.put(Item("inside"))), Item("after")]
    for _ in range(3):
        queue.put([message, message])
    outer = [item for item in content(queue) if isinstance(item, list)]
    expected = [Item("before"), "itself", Item("after")]
    assert outer == [[expected, expected]] * 3
    assert all(one is another for one, another in outer)
    queue.put(message)
    target.put(Item("last"))
    inside = [item for item in content(target) if not isinstance(item, list)]
    assert inside[-2:] == [Item("inside"), Item("last")]


def test_puts_may_be_nested_deeply(queue):
    def put(depth):
        queue.put([Item(depth), WhilePickled(lambda: put(depth - 1) if depth else None)])

    put(30)
    assert content(queue) == [[Item(depth), "itself"] for depth in range(31)]


def test_a_reduce_method_may_put_a_large_and_a_broken_object(queue, other):
    def use():
        other.put([Item(number) for number in range(10_000)])
        with pytest.raises(ZeroDivisionError):
            other.put([Item(1), WhilePickled(lambda: 1 // 0)])

    shared = Item("shared")
    queue.put([shared, WhilePickled(use), shared])
    first, itself, second = queue.get()
    assert first is second
    assert (first, itself) == (Item("shared"), "itself")
    assert content(other) == [[Item(number) for number in range(10_000)]]


def test_finalizers_may_put_objects_under_pressure_of_the_collector(queue, eager_collector):
    called = []

    def use():
        queue.put({"inside": [Item("inside")]})
        called.append(True)

    for number in range(300):
        WhileFinalized(use)
        queue.put([Item(number), {"key": Item(number)}])
    gc.collect()
    items = content(queue)
    assert [item[0] for item in items if isinstance(item, list)] == list(map(Item, range(300)))
    assert items.count({"inside": [Item("inside")]}) == len(called) == 300


@pytest.mark.parametrize("collect", [gc.collect, lambda: None], ids=["collecting", "quiet"])
def test_what_only_the_pickler_held_may_put_objects_when_it_is_freed(queue, collect):
    called = []

    def use():
        collect()
        queue.put([Item("inside"), "x" * len(called)])
        called.append(True)

    for number in range(20):
        queue.put([WhileForgotten(use) for _ in range(number % 7)])
    items = content(queue)
    assert called
    inside = [item for item in items if item and item[0] == Item("inside")]
    assert [len(item[1]) for item in inside] == list(range(len(called)))
    outer = [item for item in items if not (item and item[0] == Item("inside"))]
    assert outer == [[Item("part")] * (number % 7) for number in range(20)]


def test_a_storm_of_signals_whose_handler_puts_objects_harms_no_message(queue, other):
    numbers, handled = itertools.count(), []

    def handler(number, frame):
        # May itself be interrupted by the next signal.
        own = Item(next(numbers))
        other.put([own, own])
        handled.append(True)

    # Handlers run in the middle of a dump where a reduce method is Python code.
    message = [WhilePickled(lambda: None) for _ in range(10)]
    before = signal.signal(signal.SIGVTALRM, handler)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.0002, 0.0002)
    try:
        number = 0
        while len(handled) < 100 or number < 1000:
            queue.put([Item(number), message])
            assert queue.get() == [Item(number), ["itself"] * 10]
            number += 1
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    items = content(other)
    assert sorted(one.content[0] for one, _ in items) == list(range(len(handled)))
    assert all(one is another for one, another in items)


def test_exceptions_of_handlers_in_the_middle_of_a_dump_harm_no_later_message(queue):
    class Interruption(Exception):
        pass

    def handler(number, frame):
        raise Interruption

    message = [WhilePickled(lambda: None) for _ in range(10)]
    before = signal.signal(signal.SIGUSR1, handler)
    interrupted = 0
    try:
        for number in range(500):
            at = number % 10
            message[at] = WhilePickled(lambda: os.kill(os.getpid(), signal.SIGUSR1))
            with pytest.raises(Interruption):
                queue.put([Item(number), message])
            interrupted += 1
            message[at] = WhilePickled(lambda: None)
            queue.put([Item(number), message])
            assert queue.get() == [Item(number), ["itself"] * 10]
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert interrupted == 500
    assert queue.empty()


def test_threads_interrupt_each_other_in_the_middle_of_a_dump(queue, eager_switches):
    def produce(who):
        own = Item(who)
        for number in range(300):
            # A reduce method in Python: another thread may run there.
            queue.put([who, number, own, WhilePickled(lambda: None), own])

    producers = [Background(produce, who) for who in range(4)]
    received = [queue.get() for _ in range(1200)]
    for call in producers:
        call.result()
    for who in range(4):
        mine = [message for message in received if message[0] == who]
        assert [message[1] for message in mine] == list(range(300))
        assert all(message[2:] == [Item(who), "itself", Item(who)] for message in mine)
        assert all(message[2] is message[4] for message in mine)


def test_a_thread_that_stays_in_the_middle_of_a_dump_holds_nobody_up(queue):
    entered, leave = threading.Event(), threading.Event()

    def stay():
        entered.set()
        assert leave.wait(30)

    call = Background(queue.put, [Item("slow"), WhilePickled(stay)])
    assert entered.wait(30)
    for number in range(10):
        queue.put([Item(number)])
    leave.set()
    call.result()
    assert content(queue) == [[Item(number)] for number in range(10)] + [[Item("slow"), "itself"]]


@pytest.mark.start_methods("fork")
def test_a_child_forked_by_a_thread_in_the_middle_of_anothers_dump_can_pickle(ctx, children):
    queue, forked = ctx.Queue(), threading.Event()
    entered = threading.Event()

    def stay():
        entered.set()
        assert forked.wait(30)

    call = Background(queue.put, [Item("of the parent"), WhilePickled(stay)])
    assert entered.wait(30)
    with children(put_items, queue, 5):
        pass
    forked.set()
    call.result()
    assert content(queue) == [[Item(number)] for number in range(5)] + [
        [Item("of the parent"), "itself"]
    ]
    queue.close()


@pytest.mark.start_methods("fork")
def test_a_child_forked_inside_a_reduce_method_can_pickle(ctx, children):
    queue = ctx.Queue()
    queue.put([Item("of the parent"), WhilePickled(lambda: children(put_items, queue, 5).join())])
    assert content(queue) == [[Item(number)] for number in range(5)] + [
        [Item("of the parent"), "itself"]
    ]
    queue.close()


def put_items(queue, count):
    """A child: puts objects."""
    for number in range(count):
        queue.put([Item(number)])


# ---- what an error leaves behind ----


def test_after_an_exception_in_the_middle_the_next_pickle_is_the_standards(queue):
    message = [Item("x" * 100), {"key": (1, 2.5, None)}]
    expected = pickle.dumps(message, 5)
    for number in range(50):
        # In the first frame, and in a later one.
        with pytest.raises(ZeroDivisionError):
            queue.put([Item("x" * number * 5000), WhilePickled(lambda: 1 // 0)])
        assert _core.dumps(message) == expected
    assert queue.empty()


def test_the_pickler_keeps_no_object_of_a_message(queue):
    for end in (lambda: None, lambda: 1 // 0):
        items = [Item(number) for number in range(1000)]
        gone = [weakref.ref(item) for item in items]
        try:
            queue.put([*items, WhilePickled(end)])
        except ZeroDivisionError:
            pass
        del items
        assert not any(reference() for reference in gone)
    small = Item("small")
    gone = weakref.ref(small)
    queue.put([small, small])
    del small
    assert gone() is None


def test_the_pickler_keeps_no_buffer_of_a_message():
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(10_000)
    array.flags.writeable = False
    gone = weakref.ref(array)
    assert len(_core.debug_pickle([array, Item(1)])[1]) == 1
    _core.dumps(array)
    with pytest.raises(ZeroDivisionError):
        _core.debug_pickle([array, WhilePickled(lambda: 1 // 0)])
    del array
    assert gone() is None


# ---- buffers ----


class Kept:
    """Arrives as what its buffer arrives as."""

    def __init__(self, buffer):
        self.buffer = buffer

    def __reduce_ex__(self, protocol):
        return echo, (self.buffer,)


def echo(obj):
    """Unpickles to its argument."""
    return obj


def restored(obj):
    """The object after a pickle with buffers out of band, each copied."""
    pickled, buffers = _core.debug_pickle(obj)
    return _core.loads(pickled, [bytearray(buffer.raw()) for buffer in buffers])


@pytest.mark.parametrize("count", [1, 100, 10_000, 1_000_000])
@pytest.mark.parametrize("order", ["C", "F", "strided"])
@pytest.mark.parametrize("writeable", [True, False], ids=["writeable", "read-only"])
def test_an_array_arrives_writeable_in_band_and_out_of_band(count, order, writeable):
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(count * 2.0).reshape(count, 2)
    array = {"C": array, "F": array.T, "strided": array[::2, ::2]}[order]
    array.flags.writeable = writeable
    for copy in (restored(array), _core.loads(_core.dumps(array))):
        assert numpy.array_equal(copy, array)
        assert copy.flags.writeable
        assert copy.dtype == array.dtype
    assert array.flags.writeable == writeable


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_buffer_that_only_looked_writeable_is_read_only_again_after_the_dump(size):
    numpy = pytest.importorskip("numpy")
    array = numpy.zeros(size)
    array.flags.writeable = False
    buffer = pickle.PickleBuffer(array)

    def is_read_only():
        # The standard's pickle makes bytes of it then, and else a bytearray.
        return type(pickle.loads(pickle.dumps(Kept(buffer), 5))) is bytes

    assert is_read_only()
    _core.debug_pickle([Kept(buffer), Kept(buffer)])
    assert is_read_only()
    with pytest.raises(ZeroDivisionError):
        _core.dumps([Kept(buffer), WhilePickled(lambda: 1 // 0)])
    assert is_read_only()
    _core.dumps([Kept(buffer), WhilePickled(lambda: _core.dumps(Kept(buffer)))])
    assert is_read_only()


def test_a_buffer_may_be_released_in_the_middle_of_the_dump():
    numpy = pytest.importorskip("numpy")
    array = numpy.zeros(10)
    array.flags.writeable = False
    buffer = pickle.PickleBuffer(array)
    _core.dumps([Kept(buffer), WhilePickled(buffer.release)])
    with pytest.raises(ValueError):
        buffer.raw()


@pytest.mark.parametrize("size", [0, 10, 1023, 100_000])
def test_other_buffers_in_band_are_what_pickle_makes_of_them(size):
    for source in (bytes(size), bytearray(size), memoryview(bytes(size))):
        message = Kept(pickle.PickleBuffer(source))
        expected = pickle.loads(pickle.dumps(message, 5))
        received = _core.loads(_core.dumps(message))
        assert type(received) is type(expected)
        assert received == expected


def test_a_buffer_in_the_order_of_columns_keeps_the_order_of_its_memory():
    numpy = pytest.importorskip("numpy")
    # Longer than a frame: the pickler hands over the buffer itself, not a copy.
    array = numpy.asfortranarray(numpy.arange(40_000.0).reshape(200, 200))
    message = Kept(pickle.PickleBuffer(array))
    assert _core.loads(_core.dumps(message)) == array.tobytes("A")


def test_a_buffer_that_is_not_contiguous_is_pickles_error_and_harms_nothing(queue):
    numpy = pytest.importorskip("numpy")
    with pytest.raises(pickle.PicklingError):
        queue.put(Kept(pickle.PickleBuffer(numpy.zeros((100, 100))[::2, ::2])))
    queue.put([Item(1)])
    assert content(queue) == [[Item(1)]]


def test_what_was_handed_over_may_change_once_put_has_returned(queue):
    data = bytearray(b"before" * 50_000)
    queue.put([data, Item(1)])
    data[:] = bytes(len(data))
    assert queue.get() == [b"before" * 50_000, Item(1)]


# ---- reducers ----


class Reduced:
    """Has whatever reducer is registered at the moment."""

    def __init__(self, value=0):
        self.value = value


def as_first(obj):
    """A reducer."""
    return str, ("first",)


def as_second(obj):
    """Another reducer."""
    return str, ("second",)


@pytest.fixture(params=["copyreg", "ForkingPickler"])
def register(request):
    """Registers a reducer with the one or the other; undone afterwards."""
    tables = copyreg.dispatch_table, ForkingPickler._extra_reducers
    before = [dict(table) for table in tables]
    yield {"copyreg": copyreg.pickle, "ForkingPickler": ForkingPickler.register}[request.param]
    for table, items in zip(tables, before):
        table.clear()
        table.update(items)


def test_a_reducer_registered_replaced_or_removed_later_counts(queue, register):
    queue.put([Reduced()])
    assert type(queue.get()[0]) is Reduced
    register(Reduced, as_first)
    queue.put([Reduced()])
    assert queue.get() == ["first"]
    register(Reduced, as_second)
    queue.put([Reduced()])
    assert queue.get() == ["second"]
    copyreg.dispatch_table.pop(Reduced, None)
    ForkingPickler._extra_reducers.pop(Reduced, None)
    queue.put([Reduced()])
    assert type(queue.get()[0]) is Reduced


def test_a_reducer_registered_inside_a_reduce_method_counts_from_then_on(queue, register):
    register(Reduced, as_first)
    change = WhilePickled(lambda: register(Reduced, as_second))
    queue.put([Reduced(), change, Reduced()])
    assert queue.get() == ["first", "itself", "second"]


def test_multiprocessings_reducer_goes_before_copyregs(queue, register):
    copyreg.pickle(Reduced, as_first)
    ForkingPickler.register(Reduced, as_second)
    queue.put([Reduced()])
    assert queue.get() == ["second"]


def test_another_dict_of_multiprocessings_reducers_counts(queue, register, monkeypatch):
    monkeypatch.setattr(ForkingPickler, "_extra_reducers", {Reduced: as_first})
    queue.put([Reduced()])
    assert queue.get() == ["first"]


def test_the_error_of_a_table_of_reducers_comes_out_of_put(queue, register, monkeypatch):
    class Broken(dict):
        def __getitem__(self, key):
            raise ZeroDivisionError

    monkeypatch.setattr(ForkingPickler, "_extra_reducers", Broken())
    with pytest.raises(ZeroDivisionError):
        queue.put([Reduced()])
    monkeypatch.undo()
    queue.put([Reduced(5)])
    assert queue.get()[0].value == 5


def test_pickles_are_those_of_multiprocessings_pickler():
    samples = [
        [Item(1), Reduced, Reduced(2), {"key": {"inner": (1, 2)}}],
        [Item("one").content.append, functools.partial(int, base=2), str.upper, "text".upper],
        ["x" * 100_000, b"y" * 100_000, bytearray(100_000), list(range(50_000))],
        [None, {1, 2}, frozenset((3,)), 1 + 2j, 2**100, ..., ValueError("text"), type],
    ]
    for sample in samples * 2:
        file = io.BytesIO()
        ForkingPickler(file, 5).dump(sample)
        assert _core.dumps(sample) == file.getvalue()


def test_pickles_do_not_depend_on_those_before_them():
    # What is memoized decides whether the pickler is kept, at once or after some more.
    counts = [0, 1, 80, 90, 340, 345, 3000]
    for count in [*counts, *[90, *[1] * 20] * 3, *reversed(counts), 345, *[2] * 20]:
        message = [[f"item {number}" for number in range(count)]] * 2
        assert _core.dumps(message) == pickle.dumps(message, 5), count
