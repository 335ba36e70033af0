"""What the children of the unit tests run; no pytest here, so that they start quickly."""

from __future__ import annotations

import os
import pickle
import select
import signal
import threading
import time
from collections.abc import Callable
from queue import Empty, Full
from typing import Any

from tests.support import PATIENCE_S


class Tagged:
    """An object that says who sent it, through pickle."""

    def __init__(self, who: int, number: int, payload: bytes) -> None:
        self.who, self.number, self.payload = who, number, payload


class RaisesOnLoad:
    """Can be pickled, cannot be unpickled."""

    def __reduce__(self) -> Any:
        return _raise, ("this object refuses to be unpickled",)


def _raise(text: str) -> None:
    raise ValueError(text)


class KillsOnLoad:
    """Kills the process that unpickles it."""

    def __init__(self, size: int) -> None:
        self.payload = b"x" * size

    def __reduce__(self) -> Any:
        return _kill_myself, (self.payload,)


def _kill_myself(payload: bytes) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class ForksOnLoad:
    """Forks the process that unpickles it, and becomes what fork() returned."""

    def __reduce__(self) -> Any:
        return os.fork, ()


# What a ClosesOnLoad closes; tests set it.
closed_on_load: Any = None


class ClosesOnLoad:
    """Closes a queue when it is unpickled."""

    def __reduce__(self) -> Any:
        return _close, ()


def _close() -> None:
    closed_on_load.close()


def pattern(number: int, size: int) -> bytes:
    """Bytes that differ in every message and can be checked."""
    return (number.to_bytes(8, "little") * (size // 8 + 1))[:size]


def put_patterns(queue: Any, sizes: list[int]) -> None:
    """Puts one checkable byte string of each size."""
    for number, size in enumerate(sizes):
        queue.put(pattern(number, size))


def send_patterns(conn: Any, sizes: list[int]) -> None:
    """Sends one checkable byte string of each size and closes."""
    for number, size in enumerate(sizes):
        conn.send_bytes(pattern(number, size))
    conn.close()


def put_tagged(queue: Any, who: int, count: int, size: int) -> None:
    """Puts numbered objects."""
    for number in range(count):
        queue.put(Tagged(who, number, b"x" * size))


def put_tagged_from_threads(queue: Any, first: int, threads: int, count: int, size: int) -> None:
    """Puts numbered objects from several threads, each a producer of its own."""
    workers = [
        threading.Thread(target=put_tagged, args=(queue, first + index, count, size))
        for index in range(threads)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def put_batches(queue: Any, who: int, count: int) -> None:
    """Puts numbered items in batches that grow."""
    at, size = 0, 1
    while at < count:
        queue.put_many([(who, number) for number in range(at, min(at + size, count))])
        at, size = at + size, size % 90 + 1


def take_batches(queue: Any, results: Any) -> None:
    """Takes items until it meets None, puts that back, and reports how many there were."""
    last: dict[int, int] = {}
    count = 0
    while True:
        items = queue.get_many(50)
        for item in items:
            if item is None:
                assert item is items[-1]
                queue.put_many([None])
                results.put(count)
                return
            who, number = item
            assert number > last.get(who, -1), f"{number} after {last[who]} of {who}"
            last[who] = number
            count += 1


def echo_bytes(queue: Any, back: Any, count: int) -> None:
    """Sends so many messages back, alternately through a new object and through a buffer."""
    buffer = bytearray(2 << 20)
    for number in range(count):
        if number % 2:
            size = queue.get_bytes_into(buffer)
            back.put_bytes(memoryview(buffer)[:size])
        else:
            back.put_bytes(queue.get_bytes())
        queue.task_done()


def put_under_lock(queue: Any, lock: Any, counter: Any, count: int) -> None:
    """Puts the next number of all producers, kept in shared memory, under their one lock."""
    for _ in range(count):
        with lock:
            number = int.from_bytes(counter[:8], "little")
            queue.put(number)
            counter[:8] = (number + 1).to_bytes(8, "little")


def take_tagged(queue: Any, results: Any, threads: int) -> None:
    """Takes objects in several threads until each has met None; reports what each took."""

    def take() -> None:
        taken = []
        while (item := queue.get(timeout=PATIENCE_S)) is not None:
            taken.append((item.who, item.number))
        results.put(taken)

    workers = [threading.Thread(target=take) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def put_then_kill_myself(queue: Any, count: int, size: int) -> None:
    """Puts and dies by SIGKILL as the very next thing."""
    for number in range(count):
        queue.put((number, b"x" * size))
    os.kill(os.getpid(), signal.SIGKILL)


def send_then_kill_myself(conn: Any, count: int, size: int) -> None:
    """Sends and dies by SIGKILL as the very next thing."""
    for number in range(count):
        conn.send((number, b"x" * size))
    os.kill(os.getpid(), signal.SIGKILL)


def put_and_get_for_ever(queue: Any, size: int, started: Any) -> None:
    """Uses a queue in both directions until killed."""
    payload = b"x" * size
    rounds = 0
    while True:
        try:
            queue.put(payload, timeout=0.01)
            queue.get(timeout=0.01)
        except (Empty, Full):
            pass
        rounds += 1
        if rounds == 3:
            started.set()


def set_and_call(flag: Any, obj: Any, method: str, *args: Any) -> None:
    """Sets the flag and makes one call."""
    flag.set()
    getattr(obj, method)(*args)


def use_queue(queue: Any, item: Any) -> int:
    """A pool's task: puts into the queue that is its argument."""
    queue.put((item, os.getpid()))
    return os.getpid()


def use_connection(conn: Any, item: Any) -> int:
    """A pool's task: sends over the connection that is its argument."""
    conn.send((item, os.getpid()))
    conn.close()
    return os.getpid()


def put_own_queue(carrier: Any, make: Any, leave: Any) -> None:
    """Puts a queue that only this process has, with something in it, and waits."""
    queue = make()
    queue.put("from its maker")
    carrier.put(queue)
    carrier.put("the next item")
    assert leave.wait()


def put_own_queue_and_forget_it(carrier: Any, make: Any) -> None:
    """Puts a queue that only this process has, and ends."""
    carrier.put(make())
    carrier.put("the next item")


def receive_and_answer(carrier: Any) -> None:
    """Receives a pair of handles and passes one item from the one to the other."""
    source, target = carrier.get(timeout=PATIENCE_S)
    target.put(source.get(timeout=PATIENCE_S))
    source.close()
    target.close()


def slow_nothing(seconds: float) -> None:
    """Only takes time."""
    time.sleep(seconds)


def get_all(queue: Any) -> None:
    """Takes items until there is none; some may end this process."""
    while True:
        queue.get(timeout=PATIENCE_S)


def take_and_be_killed(carrier: Any, method: str, count: int) -> None:
    """Takes that many items, whatever they raise, and then one that kills this process."""
    for _ in range(count):
        try:
            getattr(carrier, method)()
        except ValueError:
            pass
    getattr(carrier, method)()


def take_in_a_way_and_be_killed(queue: Any, way: str, count: int) -> None:
    """Takes that many items with the method, and then one that kills this process."""
    room = bytearray(300_000)
    taken = 0
    while taken < count:
        if way == "get_many":
            taken += len(queue.get_many(min(3, count - taken)))
        else:
            getattr(queue, way)(*([room] if way == "get_bytes_into" else []))
            taken += 1
    queue.get()


def get_many_once(queue: Any) -> None:
    """Takes what is there."""
    queue.get_many(100)


BYTES_TO_TAKE = (0, 1, 4096, 5000, 200_000)


def take_bytes_and_be_killed(conn: Any) -> None:
    """Takes bytes of these sizes in each way, and then an object that kills this process."""
    room = bytearray(max(BYTES_TO_TAKE))
    for size in BYTES_TO_TAKE:
        assert len(conn.recv_bytes()) == size
        assert conn.recv_bytes_into(room) == size
        assert conn.recv_bytes_into(room) > 0
    conn.recv()


def receive_all(conn: Any) -> None:
    """Receives until the end; some may end this process."""
    while True:
        conn.recv()


def take_one_and_stay(queue: Any, started: Any) -> None:
    """Takes one item and never marks it as done."""
    queue.get(timeout=PATIENCE_S)
    started.set()
    time.sleep(PATIENCE_S)


def put_slowly_and_interrupt(queue: Any, count: int, size: int, pid: int) -> None:
    """Puts numbered items, with a signal to the consumer between some of them; None at the end."""
    for number in range(count):
        queue.put((number, b"x" * size))
        if number % 3 == 0:
            time.sleep(0.001)
            os.kill(pid, signal.SIGUSR1)
    # The consumer looks at what it has only when it is interrupted.
    time.sleep(0.05)
    queue.put(None)
    time.sleep(0.05)
    os.kill(pid, signal.SIGUSR1)


def put_after(flag: Any, queue: Any, *items: Any) -> None:
    """Waits for the flag, then puts each argument."""
    assert flag.wait()
    for item in items:
        queue.put(item)


def get_numbers(queue: Any, count: int) -> None:
    """Gets 0, 1, 2, ..."""
    for number in range(count):
        assert queue.get(timeout=PATIENCE_S) == number


def make_labelled_queue() -> Any:
    """A queue with a name that an error message can tell."""
    import fastipc

    return fastipc.Queue(label="lost queue")


def answer_over_received_queue(conn: Any) -> None:
    """Receives a queue and an item over a connection; puts the item into the queue."""
    queue = conn.recv()
    queue.put(conn.recv())
    queue.close()
    conn.close()


def hold_received(carrier: Any, held: Any, leave: Any) -> None:
    """Receives a handle and only keeps it."""
    queue = carrier.get(timeout=PATIENCE_S)
    held.set()
    assert leave.wait()
    queue.close()


def make_and_share(carrier: Any, to_holder: Any, held: Any) -> None:
    """Makes a queue, gives it to another process, sends it, and waits to be killed."""
    import fastipc

    queue = fastipc.Queue()
    queue.put("from its maker")
    to_holder.put(queue)
    assert held.wait()
    carrier.put(queue)
    time.sleep(PATIENCE_S)


def get_until_shut_down(queue: Any, results: Any, taken: Any) -> None:
    """Takes items until the queue is shut down; reports them."""
    import fastipc

    received = []
    try:
        while True:
            received.append(queue.get())
            taken.set()
    except fastipc.ShutDown:
        results.put(received)


def put_until_shut_down(queue: Any, results: Any, full: Any) -> None:
    """Puts numbers until the queue is shut down; reports those that it has put."""
    import fastipc

    put: list[int] = []
    try:
        while True:
            queue.put(len(put))
            put.append(len(put))
            if queue.full():
                full.set()
    except fastipc.ShutDown:
        results.put(put)


BLOCKED: dict[str, Callable[[Any], Any]] = {
    "get": lambda queue: queue.get(),
    "get_many": lambda queue: queue.get_many(3),
    "get_bytes": lambda queue: queue.get_bytes(),
    "get_bytes_into": lambda queue: queue.get_bytes_into(bytearray(3)),
    "wait": lambda queue: select.select([queue], [], [], PATIENCE_S)[0] == [queue],
    "put": lambda queue: queue.put(1),
    "put with a timeout": lambda queue: queue.put(1, timeout=PATIENCE_S),
    "put_many": lambda queue: queue.put_many([1, b"x" * 10_000, 3]),
    "put_bytes": lambda queue: queue.put_bytes(b""),
    "put of a block": lambda queue: queue.put(b"x" * 200_000),
    "put of buffers": lambda queue: queue.put(Buffered(bytearray(200_000))),
    "join": lambda queue: queue.join(),
}


def tell_what_ends_it(queue: Any, way: str, begins: Any, name: str, results: Any) -> None:
    """Makes a call that blocks; reports what it returned, or that it was told of the shutdown."""
    import fastipc

    begins.set()
    try:
        outcome = BLOCKED[way](queue)
    except fastipc.ShutDown:
        outcome = "ShutDown"
    results.put((name, outcome))


def shut_down(queue: Any, immediate: bool) -> None:
    """Shuts the queue down."""
    queue.shutdown(immediate)


class Buffered:
    """Holds bytes that pickle sends beside its stream."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Buffered, (pickle.PickleBuffer(self.data),)
