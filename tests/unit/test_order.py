"""Order and completeness: first in, first out for each producer; processes and threads mixed."""

from __future__ import annotations

import mmap
import threading

import pytest

import fastipc
from tests.support import PATIENCE_S, Background
from tests.unit import targets


def per_producer(received):
    """The numbers of each producer in the order of arrival."""
    numbers = {}
    for who, number in received:
        numbers.setdefault(who, []).append(number)
    return numbers


@pytest.mark.start_methods("fork")
@pytest.mark.parametrize("maxsize", [0, 1, 50])
@pytest.mark.parametrize("size", [10, 3000])
def test_each_producers_order_is_kept_with_processes_and_threads_mixed(
    ctx, children, maxsize, size
):
    queue = ctx.Queue(maxsize)
    groups = [
        children(targets.put_tagged_from_threads, queue, 10 * group, 2, 100, size)
        for group in range(2)
    ]
    own = Background(targets.put_tagged_from_threads, queue, 100, 2, 100, size)
    items = [queue.get(timeout=PATIENCE_S) for _ in range(600)]
    own.result()
    for group in groups:
        group.join()
    numbers = per_producer((item.who, item.number) for item in items)
    assert numbers == {who: list(range(100)) for who in (0, 1, 10, 11, 100, 101)}
    assert all(item.payload == b"x" * size for item in items)
    assert queue.empty()
    queue.close()


@pytest.mark.start_methods("fork", "spawn")
def test_each_item_is_taken_once_with_many_consumers(ctx, children):
    queue, results = ctx.Queue(20), ctx.Queue()
    with children(targets.take_tagged, queue, results, 2, count=2):
        with children(targets.put_tagged, queue, 1, 300, 10):
            targets.put_tagged(queue, 2, 300, 10)
        for _ in range(4):
            queue.put(None)
        taken = [results.get(timeout=PATIENCE_S) for _ in range(4)]
    for part in taken:
        for numbers in per_producer(part).values():
            assert numbers == sorted(numbers)
    everything = sorted(pair for part in taken for pair in part)
    assert everything == [(who, number) for who in (1, 2) for number in range(300)]
    for queue_ in (queue, results):
        queue_.close()


@pytest.mark.start_methods("fork")
def test_one_lock_for_producers_gives_one_order_over_all(ctx, children):
    queue, lock, counter = ctx.Queue(), ctx.Lock(), mmap.mmap(-1, 8)
    with children(targets.put_under_lock, queue, lock, counter, 200, count=3):
        received = [queue.get(timeout=PATIENCE_S) for _ in range(600)]
    assert received == list(range(600))
    counter.close()
    queue.close()


def test_one_lock_for_threads_gives_one_order_over_all():
    queue, lock = fastipc.Queue(), threading.Lock()
    counter = iter(range(4000))

    def produce():
        for _ in range(1000):
            with lock:
                queue.put(next(counter))

    producers = [Background(produce) for _ in range(4)]
    assert [queue.get(timeout=PATIENCE_S) for _ in range(4000)] == list(range(4000))
    for producer in producers:
        producer.result()
    queue.close()


def test_threads_may_send_and_receive_on_the_same_ends_of_a_pipe():
    left, right = fastipc.Pipe()
    sizes = (0, 10, 5000, 100_000)

    def send(conn, who):
        for number in range(60):
            conn.send((who, number, b"x" * sizes[number % 4]))

    def receive(conn):
        return [conn.recv() for _ in range(60)]

    for sender, receiver in ((left, right), (right, left)):
        senders = [Background(send, sender, who) for who in range(3)]
        receivers = [Background(receive, receiver) for _ in range(3)]
        parts = [call.result() for call in receivers]
        for call in senders:
            call.result()
        for part in parts:
            for numbers in per_producer((who, number) for who, number, _ in part).values():
                assert numbers == sorted(numbers)
        messages = sorted(message for part in parts for message in part)
        assert messages == [(w, n, b"x" * sizes[n % 4]) for w in range(3) for n in range(60)]
    for end in (left, right):
        end.close()
