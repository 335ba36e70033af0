"""Signals during a blocked call: handlers run, the call goes on, nothing in hand is lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from queue import Empty, Full

import pytest

import fastipc
from tests.support import GLANCE_S, PATIENCE_S, Background, until, until_asleep
from tests.unit import targets


@pytest.fixture
def caught():
    """Counts SIGUSR1 in a list while the test runs."""
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    yield seen
    signal.signal(signal.SIGUSR1, before)


def interrupted(caught, count, then):
    """In a thread: sends the signal to the main thread, asleep in a call; then ends the call."""

    def run():
        for number in range(count):
            until_asleep(threading.main_thread().native_id)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
            until(lambda number=number: len(caught) > number, "the handler's run")
        until_asleep(threading.main_thread().native_id)
        return then()

    return Background(run)


def test_a_blocked_get_runs_handlers_and_goes_on(caught):
    queue = fastipc.Queue()
    helper = interrupted(caught, 3, lambda: queue.put("late"))
    assert queue.get() == "late"
    helper.result()
    helper = interrupted(caught, 5, lambda: queue.put("later"))
    assert queue.get(timeout=PATIENCE_S) == "later"
    helper.result()
    assert len(caught) >= 5
    queue.close()


def test_a_blocked_put_runs_handlers_and_goes_on(caught):
    queue = fastipc.Queue(1)
    queue.put("first")
    helper = interrupted(caught, 3, queue.get)
    queue.put("second")
    assert helper.result() == "first"
    assert queue.get() == "second"
    assert len(caught) == 3
    queue.close()


def test_a_blocked_join_runs_handlers_and_goes_on(caught):
    queue = fastipc.JoinableQueue()
    queue.put("task")
    helper = interrupted(caught, 3, queue.task_done)
    queue.join()
    helper.result()
    assert len(caught) == 3
    queue.close()


def test_a_blocked_simple_queue_runs_handlers_and_goes_on(caught):
    queue = fastipc.SimpleQueue()
    helper = interrupted(caught, 3, lambda: queue.put("late"))
    assert queue.get() == "late"
    helper.result()
    queue.close()


@pytest.mark.parametrize("call", ["recv", "poll", "recv_bytes_into"])
def test_a_blocked_receive_runs_handlers_and_goes_on(caught, pipe, call):
    left, right = pipe
    arguments = {"recv": (), "poll": (None,), "recv_bytes_into": (bytearray(1000),)}[call]
    helper = interrupted(caught, 3, lambda: right.send("late"))
    result = getattr(left, call)(*arguments)
    helper.result()
    assert result == "late" if call == "recv" else result
    assert len(caught) == 3


def test_a_blocked_send_runs_handlers_and_goes_on(caught, pipe):
    left, right = pipe
    item = targets.pattern(1, 2**22)
    helper = interrupted(caught, 3, right.recv_bytes)
    left.send_bytes(item)
    assert helper.result() == item
    assert len(caught) == 3


def test_a_blocked_wait_runs_handlers_and_goes_on(caught, pipe):
    left, right = pipe
    helper = interrupted(caught, 3, lambda: right.send("late"))
    assert fastipc.connection.wait([left]) == [left]
    helper.result()
    assert len(caught) == 3


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda queue: queue.get(timeout=4 * GLANCE_S), Empty),
        (lambda queue: queue.put(1, timeout=4 * GLANCE_S), Full),
    ],
    ids=["get", "put"],
)
def test_a_signal_does_not_lengthen_or_shorten_a_timeout_forever(caught, call, error):
    queue = fastipc.Queue(1)
    if error is Full:
        queue.put("first")
    stop = threading.Event()

    def send_signals():
        while not stop.wait(0.01):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    helper = Background(send_signals)
    before = time.monotonic()
    with pytest.raises(error):
        call(queue)
    assert time.monotonic() - before >= 3.9 * GLANCE_S
    stop.set()
    helper.result()
    assert caught
    queue.close()


class Interruption(Exception):
    """Raised by a signal handler."""


@pytest.mark.parametrize("what", ["get", "put", "recv", "poll", "send", "join", "wait"])
def test_an_exception_of_a_handler_gets_out_of_a_blocked_call_at_once(what):
    queue, full = fastipc.JoinableQueue(), fastipc.Queue(1)
    full.put("first")
    left, right = fastipc.Pipe()
    queue_with_task = fastipc.JoinableQueue()
    queue_with_task.put("task")
    call = {
        "get": queue.get,
        "put": lambda: full.put("second"),
        "recv": left.recv,
        "poll": lambda: left.poll(None),
        "send": lambda: left.send_bytes(b"x" * 2**22),
        "join": queue_with_task.join,
        "wait": lambda: fastipc.connection.wait([left]),
    }[what]

    def interrupt():
        until_asleep(threading.main_thread().native_id)
        os.kill(os.getpid(), signal.SIGINT)

    helper = Background(interrupt)
    with pytest.raises(KeyboardInterrupt):
        call()
    helper.result()
    # Everything is as before, and usable.
    queue.put("works")
    assert queue.get() == "works"
    assert full.get() == "first"
    assert full.empty()
    if what != "send":
        right.send("works")
        assert left.recv() == "works"
        assert not left.poll()
    for obj in (queue, full, left, right, queue_with_task):
        obj.close()


@pytest.mark.start_methods("fork")
@pytest.mark.parametrize("size", [10, 50_000])
def test_no_item_is_lost_or_repeated_by_exceptions_of_handlers(ctx, children, size):
    queue = ctx.Queue()
    received: list = []
    interruptions = 0

    def interrupt(number, frame):
        raise Interruption

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with children(targets.put_slowly_and_interrupt, queue, 300, size, os.getpid()):
            while not received or received[-1] is not None:
                try:
                    # In C from one get to the next: whatever is raised, is raised in get().
                    received.extend(iter(queue.get, "never put"))
                except Interruption:
                    interruptions += 1
    finally:
        signal.signal(signal.SIGUSR1, before)
    numbers = [item[0] for item in received if item is not None]
    assert numbers == list(range(300))
    assert interruptions > 0
    queue.close()
