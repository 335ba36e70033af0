"""Without a limit put() never blocks; what a burst took is given back; max_bytes is a limit."""

from __future__ import annotations

import queue as threads_queue

import pytest

import fastipc
from tests.support import GLANCE_S, Background, segment_bytes, segment_files

MIB = 2**20


def test_a_million_items_are_put_before_any_consumer_exists():
    queue = fastipc.Queue()
    for number in range(1_000_000):
        queue.put(number)
    assert queue.qsize() == 1_000_000
    for number in range(1_000_000):
        assert queue.get() == number
    assert queue.empty()
    queue.close()


def test_many_large_items_are_put_before_any_consumer_exists():
    queue = fastipc.Queue()
    for number in range(128):
        queue.put(bytes([number]) * MIB)
    for number in range(128):
        assert queue.get() == bytes([number]) * MIB
    queue.close()


@pytest.mark.long
@pytest.mark.watchdog(300)
def test_four_gibibytes_are_put_before_any_consumer_exists():
    queue = fastipc.Queue()
    for number in range(64):
        queue.put(bytes([number]) * (64 * MIB))
    for number in range(64):
        assert queue.get() == bytes([number]) * (64 * MIB)
    queue.close()


def test_what_a_burst_took_is_given_back_to_the_system():
    bursts = [(200_000, 8), (2000, 20_000), (64, MIB), (2, 40 * MIB)]
    queues = []
    for count, size in bursts:
        known = set(segment_files())
        queue = fastipc.Queue()
        (inode,) = set(segment_files()) - known
        for _ in range(count):
            queue.put(b"x" * size)
        assert segment_bytes(inode) > count * size // 2
        for _ in range(count):
            assert len(queue.get()) == size
        queues.append((queue, inode))
    for queue, _ in queues:
        queue.put("one further put")
        assert queue.get() == "one further put"
    left = {burst: segment_bytes(inode) for burst, (_, inode) in zip(bursts, queues, strict=True)}
    assert max(left.values()) <= 2 * MIB, left
    for queue, _ in queues:
        queue.close()


def test_a_queue_is_born_small():
    before = set(segment_files())
    queue = fastipc.Queue()
    (born,) = set(segment_files()) - before
    assert segment_bytes(born) <= 64 * 1024
    queue.close()


def test_max_bytes_bounds_what_is_queued():
    queue = fastipc.Queue(max_bytes=MIB)
    put = 0
    with pytest.raises(fastipc.Full):
        while put < 100:
            queue.put_nowait(b"x" * 100_000)
            put += 1
    assert 5 <= put <= 11
    with pytest.raises(fastipc.Full):
        queue.put(b"x" * 100_000, timeout=GLANCE_S)
    call = Background(queue.put, b"last" * 25_000)
    call.until_blocked()
    for _ in range(put):
        assert queue.get() == b"x" * 100_000
    call.result()
    assert queue.get() == b"last" * 25_000
    queue.close()


def test_max_bytes_and_maxsize_hold_together():
    queue = fastipc.Queue(2, max_bytes=MIB)
    queue.put(1)
    queue.put(2)
    with pytest.raises(threads_queue.Full):
        queue.put_nowait(3)
    assert [queue.get(), queue.get()] == [1, 2]
    queue.put(b"x" * (MIB - 10_000))
    with pytest.raises(threads_queue.Full):
        queue.put_nowait(b"x" * 20_000)
    assert len(queue.get()) == MIB - 10_000
    queue.close()


def test_max_bytes_does_not_count_what_was_received():
    queue = fastipc.Queue(max_bytes=MIB)
    received = []
    for _ in range(10):
        queue.put(b"x" * 500_000)
        received.append(queue.get())
    assert all(len(item) == 500_000 for item in received)
    queue.close()


def test_an_object_that_can_never_fit_raises_at_once():
    queue = fastipc.Queue(max_bytes=MIB)
    with pytest.raises(ValueError, match="max_bytes"):
        queue.put(b"x" * (2 * MIB))
    queue.put("fits")
    assert queue.get() == "fits"
    queue.close()


@pytest.mark.parametrize("wrong", ["1", 1.5, b"1"], ids=repr)
def test_a_max_bytes_that_is_no_integer_is_a_type_error(wrong):
    with pytest.raises(TypeError):
        fastipc.Queue(max_bytes=wrong)


@pytest.mark.parametrize("wrong", [0, -1])
def test_a_max_bytes_of_zero_or_less_is_a_value_error(wrong):
    with pytest.raises(ValueError, match="max_bytes"):
        fastipc.Queue(max_bytes=wrong)
