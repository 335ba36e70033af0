"""The same queue or connection used again from inside one of its own operations: finalizers,
__reduce__, __index__, unpickling, signal handlers.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import threading

import pytest

import fastipc
from fastipc import _core
from tests.support import Background, until_asleep
from tests.unit import targets


class Finalized:
    """Uses a queue when the garbage collector finds it."""

    def __init__(self, use):
        self.use = use
        self.itself = self  # only the collector can free it

    def __del__(self):
        self.use()


class Item:
    """Goes through pickle, which allocates much."""

    def __init__(self, number):
        self.number = [number]


def test_a_finalizer_may_put_and_get_on_the_queue_that_is_just_used(eager_collector):
    queue = fastipc.Queue()
    finalized = []

    def use():
        queue.put("from the finalizer")
        finalized.append(True)

    items = []
    for number in range(150):
        Finalized(use)
        queue.put(Item(number))
        queue.put([number] * 10)
        items.append(queue.get())
    while not queue.empty():
        items.append(queue.get())
    gc.collect()
    while not queue.empty():
        items.append(queue.get())
    assert [item.number[0] for item in items if isinstance(item, Item)] == list(range(150))
    assert [item[0] for item in items if isinstance(item, list)] == list(range(150))
    assert items.count("from the finalizer") == len(finalized) == 150
    queue.close()


def test_a_finalizer_may_take_from_the_queue_that_is_just_used(eager_collector):
    queue, taken = fastipc.Queue(), []

    def use():
        try:
            taken.append(queue.get_nowait())
        except fastipc.Empty:
            taken.append("nothing")

    for number in range(150):
        Finalized(use)
        queue.put(Item(number))
    gc.collect()
    while not queue.empty():
        taken.append(queue.get())
    numbers = [item.number[0] for item in taken if isinstance(item, Item)]
    assert sorted(numbers) == list(range(150))
    queue.close()


def test_a_finalizer_may_use_the_connection_that_is_just_used(eager_collector):
    left, right = fastipc.Pipe()
    for number in range(100):
        Finalized(lambda: left.send("from the finalizer"))
        left.send(Item(number))
    gc.collect()
    left.close()
    received = []
    with pytest.raises(EOFError):
        while True:
            received.append(right.recv())
    numbers = [item.number[0] for item in received if isinstance(item, Item)]
    assert numbers == list(range(100))
    assert received.count("from the finalizer") == 100
    right.close()


class PutsWhilePickled:
    """Its __reduce__ uses the queue that it is put into."""

    def __init__(self, queue):
        self.queue = queue

    def __reduce__(self):
        self.queue.put({"from": "__reduce__"})
        self.queue.put(Item("object from __reduce__"))
        return str, ("itself",)


def test_a_reduce_method_may_put_into_the_same_queue():
    queue = fastipc.Queue()
    queue.put([PutsWhilePickled(queue), PutsWhilePickled(queue)])
    received = [queue.get() for _ in range(5)]
    assert received[0] == received[2] == {"from": "__reduce__"}
    assert received[1].number == received[3].number == ["object from __reduce__"]
    assert received[4] == ["itself", "itself"]
    assert queue.empty()
    queue.close()


THE_QUEUE = []


def put_while_unpickled():
    """Called by an unpickler."""
    THE_QUEUE[0].put(Item("from unpickling"))
    return "itself"


class PutsWhileUnpickled:
    def __reduce__(self):
        return put_while_unpickled, ()


def test_unpickling_may_use_the_same_queue():
    queue = fastipc.Queue()
    THE_QUEUE[:] = [queue]
    queue.put(PutsWhileUnpickled())
    assert queue.get() == "itself"
    assert queue.get().number == ["from unpickling"]
    THE_QUEUE.clear()
    queue.close()


def test_threads_pickle_at_the_same_time():
    queue = fastipc.Queue()

    def produce(who):
        for number in range(200):
            queue.put((who, [Item(number), {"who": who}]))

    producers = [Background(produce, who) for who in range(4)]
    received = [queue.get() for _ in range(800)]
    for call in producers:
        call.result()
    for who in range(4):
        assert [r[1][0].number[0] for r in received if r[0] == who] == list(range(200))
        assert all(r[1][1] == {"who": who} for r in received if r[0] == who)
    queue.close()


def test_a_signal_handler_may_put_into_the_queue_that_is_just_used():
    queue = fastipc.Queue()
    handled = []

    def handler(number, frame):
        queue.put(Item("from the handler"))
        handled.append(number)

    before = signal.signal(signal.SIGUSR1, handler)
    stop = threading.Event()

    def send_signals():
        while not stop.wait(0.0005):
            os.kill(os.getpid(), signal.SIGUSR1)

    helper = Background(send_signals)
    try:
        received = []
        for number in range(3000):
            queue.put([Item(number)])
            received.append(queue.get())
    finally:
        stop.set()
        helper.result()
        signal.signal(signal.SIGUSR1, before)
    while not queue.empty():
        received.append(queue.get())
    numbers = [item[0].number[0] for item in received if isinstance(item, list)]
    assert numbers == list(range(3000))
    assert len(received) == 3000 + len(handled)
    assert handled
    queue.close()


def test_a_signal_handler_may_put_while_get_is_blocked_on_the_same_queue():
    queue = fastipc.Queue()
    before = signal.signal(signal.SIGUSR1, lambda *_: queue.put("from the handler"))

    def interrupt():
        until_asleep(threading.main_thread().native_id)
        os.kill(os.getpid(), signal.SIGUSR1)

    helper = Background(interrupt)
    try:
        assert queue.get() == "from the handler"
    finally:
        helper.result()
        signal.signal(signal.SIGUSR1, before)
    queue.close()


class Closing:
    """Closes a connection when it is pickled, or asked for its number."""

    def __init__(self, connection):
        self.connection = connection

    def __reduce__(self):
        self.connection.close()
        return int, ()

    def __index__(self):
        self.connection.close()
        return 0


@pytest.mark.parametrize(
    "use",
    [
        lambda receiver, sender: sender.send(Closing(sender)),
        lambda receiver, sender: sender.send_bytes(b"bytes", Closing(sender)),
        lambda receiver, sender: sender.send_bytes(b"bytes", 0, Closing(sender)),
        lambda receiver, sender: receiver.recv_bytes_into(bytearray(8), Closing(receiver)),
    ],
    ids=["send", "send_bytes offset", "send_bytes size", "recv_bytes_into"],
)
def test_an_argument_that_closes_the_connection_makes_the_call_fail(use):
    receiver, sender = fastipc.Pipe(duplex=False)
    sender.send_bytes(b"a message")
    with receiver, sender, pytest.raises(OSError, match="handle is closed"):
        use(receiver, sender)


class ClosingNumber:
    """A timeout or an offset that closes the queue when its value is asked for."""

    def __init__(self, queue):
        self.queue = queue

    def __float__(self):
        self.queue.close()
        return 5.0

    def __index__(self):
        self.queue.close()
        return 0


class ClosingSerializer:
    """Closes the queue when it encodes."""

    queue = None

    def dumps(self, obj):
        self.queue.close()
        return obj

    loads = bytes


class ClosingBuffers:
    """Closes the queue when it is pickled, and has a large buffer."""

    def __init__(self, queue):
        self.queue = queue

    def __reduce_ex__(self, protocol):
        self.queue.close()
        return bytes, (pickle.PickleBuffer(bytearray(100_000)),)


def close_in_dumps(queue):
    """put() with a serializer that closes."""
    queue._options()[1].queue = queue
    queue.put(b"bytes")


PUTS = {
    "put": lambda queue: queue.put(Closing(queue)),
    "put of much": lambda queue: queue.put([Closing(queue), b"much" * 10_000]),
    "put of buffers": lambda queue: queue.put(ClosingBuffers(queue)),
    "put_many": lambda queue: queue.put_many([1, Closing(queue), 2]),
    "timeout of put": lambda queue: queue.put(1, True, ClosingNumber(queue)),
    "timeout of put_bytes": lambda queue: queue.put_bytes(b"1", True, ClosingNumber(queue)),
    "timeout of put_many": lambda queue: queue.put_many([1], True, ClosingNumber(queue)),
}
GETS = {
    "get": lambda queue: queue.get(True, ClosingNumber(queue)),
    "get_many": lambda queue: queue.get_many(ClosingNumber(queue)),
    "timeout of get_many": lambda queue: queue.get_many(5, True, ClosingNumber(queue)),
    "get_bytes": lambda queue: queue.get_bytes(True, ClosingNumber(queue)),
    "get_bytes_into": lambda queue: queue.get_bytes_into(bytearray(9), ClosingNumber(queue)),
}


@pytest.mark.parametrize("put", [*PUTS, "serializer"])
def test_an_argument_that_closes_the_queue_makes_put_fail_and_puts_nothing(put):
    options = {"serializer": ClosingSerializer()} if put == "serializer" else {}
    queue = fastipc.Queue(**options)
    other = pickle.loads(pickle.dumps(queue))
    queue._attach()
    with pytest.raises(ValueError, match="is closed"):
        PUTS.get(put, close_in_dumps)(queue)
    assert other.empty()
    assert other.stats().puts == 0
    _core.debug_check(other)
    other.close()


@pytest.mark.parametrize("kept", [False, True], ids=["queued", "kept"])
@pytest.mark.parametrize("get", GETS)
def test_an_argument_that_closes_the_queue_makes_get_fail(get, kept):
    queue = fastipc.Queue()
    other = pickle.loads(pickle.dumps(queue))
    if kept:
        queue.put_many([targets.RaisesOnLoad(), b"much" * 10_000])
        with pytest.raises(ValueError, match="refuses"):
            queue.get_many(5)
    else:
        queue.put(b"much" * 10_000)
    if get == "get_many":
        # The number is asked for before anything else.
        with pytest.raises(ValueError, match="at least 1"):
            GETS[get](queue)
    else:
        with pytest.raises(ValueError, match="is closed"):
            GETS[get](queue)
    assert other.qsize() == (0 if kept else 1)
    assert _core.debug_check(other)["owned"] == 0
    other.close()
