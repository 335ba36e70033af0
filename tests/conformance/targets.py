"""What the children of the conformance tests run; no pytest here, so that they start quickly."""

from __future__ import annotations

import os
import time
from typing import Any

from tests.support import GLANCE_S, PATIENCE_S


class Plain:
    """An ordinary object that goes through pickle."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and self.value == other.value


class Unpicklable:
    """Cannot be pickled; the error is recognisable."""

    def __reduce__(self) -> Any:
        raise ValueError("this object refuses to be pickled")


MANY_KINDS: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**31,
    2**63 - 1,
    -(2**63),
    2**63,
    2**200,
    1.5,
    float("inf"),
    complex(1, -2),
    "",
    "text",
    "\u00e4\u20ac\U0001f600",
    "\ud800",
    b"",
    b"bytes\x00",
    bytearray(b"mutable"),
    (),
    (1, "two", 3.0, None, b"four"),
    [],
    [1, [2, [3, []]]],
    {},
    {"key": {"nested": (1, 2)}, 1: None},
    {1, 2, 3},
    frozenset("abc"),
    range(3),
    Plain([1, 2]),
    Plain,
    len,
    ValueError,
]


def nothing(*_: object) -> None:
    """Only starts and ends; the arguments were passed."""


def call(obj: Any, method: str, *args: Any) -> None:
    """Calls one method."""
    getattr(obj, method)(*args)


def put_range(queue: Any, count: int) -> None:
    """Puts 0, 1, 2, ..."""
    for number in range(count):
        queue.put(number)


def put_all(queue: Any, *items: Any) -> None:
    """Puts each argument."""
    for item in items:
        queue.put(item)


def put_numbered(queue: Any, producer: int, count: int) -> None:
    """Puts (producer, 0), (producer, 1), ..."""
    for number in range(count):
        queue.put((producer, number))


def put_after(flag: Any, queue: Any, *items: Any) -> None:
    """Waits for the flag, then puts each argument."""
    assert flag.wait()
    put_all(queue, *items)


def put_large(queue: Any, count: int, size: int) -> None:
    """Puts count distinct byte strings."""
    for number in range(count):
        queue.put(bytes([number]) * size)


def put_announced(queue: Any, before: Any, after: Any, item: Any) -> None:
    """Sets one flag before the put and another after it."""
    before.set()
    queue.put(item)
    after.set()


def put_and_exit_hard(queue: Any, count: int) -> None:
    """Puts a range and leaves without any clean-up."""
    put_range(queue, count)
    os._exit(0)


def put_for_ever(queue: Any, started: Any, size: int) -> None:
    """Puts numbered large messages until killed."""
    number = 0
    while True:
        queue.put((number, b"x" * size))
        number += 1
        if number == 3:
            started.set()


def get_exactly(queue: Any, expected: list[Any]) -> None:
    """Gets the expected items, in order, and finds nothing more."""
    received = [queue.get(timeout=PATIENCE_S) for _ in expected]
    assert received == expected, received


def get_after(flag: Any, queue: Any, expected: list[Any]) -> None:
    """Waits for the flag, then gets the expected items."""
    assert flag.wait()
    get_exactly(queue, expected)


def get_blocked(queue: Any, flag: Any) -> None:
    """Sets the flag and blocks in get()."""
    flag.set()
    queue.get()


def take_until_none(queue: Any, results: Any) -> None:
    """Takes items until None and reports them."""
    taken = []
    while (item := queue.get(timeout=PATIENCE_S)) is not None:
        taken.append(item)
    results.put(taken)


def get_and_mark_done(queue: Any, count: int, flag: Any) -> None:
    """Takes count items, waits for the flag, then marks each as done."""
    for _ in range(count):
        queue.get(timeout=PATIENCE_S)
    assert flag.wait()
    for _ in range(count):
        queue.task_done()


def use_and_close(queue: Any) -> None:
    """In a forked child: the queue is open, whatever the parent did, and works."""
    queue.put("child")
    assert queue.get(timeout=PATIENCE_S) == "child"
    queue.close()
    queue.join_thread()


def wait_then_use_and_close(flag: Any, queue: Any) -> None:
    """Waits for the flag, then uses the queue."""
    assert flag.wait()
    use_and_close(queue)


def check_closed(queue: Any) -> None:
    """The queue is closed here."""
    for call in (queue.get, lambda: queue.put(1)):
        try:
            call()
        except ValueError:
            continue
        raise AssertionError("the queue is open")


def echo(conn: Any) -> None:
    """Sends each object back until the other end is closed."""
    with conn:
        while True:
            try:
                message = conn.recv()
            except EOFError:
                return
            conn.send(message)


def echo_closing(conn: Any, other: Any) -> None:
    """Like echo(), after closing the copy of the end that belongs to the parent."""
    other.close()
    echo(conn)


def send_all(conn: Any, *items: Any) -> None:
    """Sends each argument and closes."""
    for item in items:
        conn.send(item)
    conn.close()


def send_range_of_bytes(conn: Any, count: int, size: int) -> None:
    """Sends count distinct byte strings with send_bytes and closes."""
    for number in range(count):
        conn.send_bytes(bytes([number % 256]) * size)
    conn.close()


def receive_exactly_then_eof(conn: Any, other: Any, expected: list[Any]) -> None:
    """Closes the unused copy, receives the expected objects, then meets the end."""
    other.close()
    received = [conn.recv() for _ in expected]
    assert received == expected, received
    assert conn.poll(PATIENCE_S)
    try:
        conn.recv()
    except EOFError:
        return
    raise AssertionError("no EOFError after the last message")


def use_received_connection(conn: Any) -> None:
    """Receives a connection over a connection and answers over it."""
    received = conn.recv()
    received.send(("over the received connection", os.getpid()))
    received.close()
    conn.close()


def sleep_until_killed(*_: object) -> None:
    """Lives until somebody kills it."""
    time.sleep(PATIENCE_S * 2)


def wait_for(flag: Any, *_: object) -> None:
    """Holds its arguments until the flag is set."""
    assert flag.wait()


def put_and_close(queue: Any, item: Any) -> None:
    """Puts one item and waits for its delivery."""
    queue.put(item)
    queue.close()
    queue.join_thread()


def put_after_cancel(queue: Any, count: int) -> None:
    """Puts a range on a queue whose feeder nobody waits for."""
    queue.cancel_join_thread()
    put_range(queue, count)


def load_data(index_queue: Any, result_queue: Any) -> None:
    """The loop of a data loader's worker."""
    result_queue.cancel_join_thread()
    while (index := index_queue.get(timeout=PATIENCE_S)) is not None:
        result_queue.put((index, [index] * 3))
    result_queue.close()
    result_queue.join_thread()


def get_from_received_queue(carrier: Any, expected: Any) -> None:
    """Receives a queue through a queue, and the expected item through that one."""
    queue = carrier.get(timeout=PATIENCE_S)
    assert queue.get() == expected
    queue.close()


def join_then_set(queue: Any, flag: Any) -> None:
    """Joins a joinable queue and tells so."""
    queue.join()
    flag.set()


def take_from_simple_queue(queue: Any, results: Any) -> None:
    """Takes items until None and reports them."""
    taken = []
    while (item := queue.get()) is not None:
        taken.append(item)
    results.put(taken)


def take_one_if_it_gets_the_lock(queue: Any) -> None:
    """Looks for an item that somebody else has seen under the read lock."""
    if queue._rlock.acquire(True, GLANCE_S):
        assert not queue._reader.poll(0)
        queue._rlock.release()


def send_announced(conn: Any, before: Any, after: Any, item: Any) -> None:
    """Sets one flag before the send and another after it."""
    before.set()
    conn.send(item)
    after.set()
    conn.close()


def use_both_ends(left: Any, right: Any) -> None:
    """Uses both ends of a pipe in one process."""
    left.send("to the right")
    right.send("to the left")
    assert (left.recv(), right.recv()) == ("to the left", "to the right")
    left.close()
    right.close()


def send_after(flag: Any, conn: Any, item: Any) -> None:
    """Waits for the flag, then sends one object."""
    assert flag.wait()
    conn.send(item)
    conn.close()


def set_flag(flag: Any) -> None:
    """A pool's initializer that tells that a worker runs."""
    flag.set()


def consume_until_none(queue: Any) -> None:
    """Takes messages and marks them as done; leaves the sentinel unmarked."""
    while queue.get(timeout=PATIENCE_S) is not None:
        queue.task_done()
