"""What the children of the unit tests run; no pytest here, so that they start quickly."""

from __future__ import annotations

import os
import signal
import threading
import time
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
