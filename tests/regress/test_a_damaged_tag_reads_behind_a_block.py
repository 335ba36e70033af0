"""A message in several blocks whose tag was damaged was read as if all of it lay in the first."""

from __future__ import annotations

import errno
import mmap
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fastipc
from fastipc import _core

FIRST_RECORD_TAG = 8192 + 6
SIZE = 1 << 20  # so that each buffer has a block of its own


class Buffers:
    """Pickles to two buffers out of band."""

    def __reduce_ex__(self, protocol: int) -> Any:
        return list, ([pickle.PickleBuffer(bytearray(SIZE)), pickle.PickleBuffer(bytearray(SIZE))],)


@pytest.fixture
def damaged() -> Iterator[Callable[[int], Any]]:
    """Makes a queue with one message in two blocks, and with this tag."""
    queues = []

    def make(tag: int) -> Any:
        queue = fastipc.Queue()
        queues.append(queue)
        queue.put(Buffers())
        with mmap.mmap(queue._handles()[0], 1 << 15) as segment:
            assert segment[FIRST_RECORD_TAG] == 6
            segment[FIRST_RECORD_TAG] = tag
        return queue

    yield make
    for queue in queues:
        queue.close()


WAYS = {
    "get": lambda queue: queue.get(block=False),
    "get_many": lambda queue: queue.get_many(3, block=False),
    "get_bytes": lambda queue: queue.get_bytes(block=False),
    "get_bytes_into": lambda queue: queue.get_bytes_into(bytearray(3 * SIZE), block=False),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tag", [1, 2, 3, 4, 5, 99])
def test_it_is_an_error_and_the_blocks_are_given_back(
    damaged: Callable[[int], Any], way: str, tag: int
) -> None:
    queue = damaged(tag)
    with pytest.raises(OSError) as caught:
        WAYS[way](queue)
    assert caught.value.errno == errno.EBADMSG
    assert queue.empty()
    counts = _core.debug_check(queue)
    assert counts["owned"] == counts["queued"] == 0


def test_the_block_of_a_text_that_is_none_is_given_back() -> None:
    queue = fastipc.Queue()
    queue.put(b"\xff" * 10000)
    with mmap.mmap(queue._handles()[0], 1 << 15) as segment:
        assert segment[FIRST_RECORD_TAG] == 4
        segment[FIRST_RECORD_TAG] = 5
    with pytest.raises(OSError):
        queue.get(block=False)
    assert _core.debug_check(queue)["owned"] == 0
    queue.close()
