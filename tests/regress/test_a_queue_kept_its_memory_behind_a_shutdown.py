"""Free blocks were kept warm in a queue that was shut down until all had closed it: they are given
back by who waits for a message, and nobody waits there any more.
"""

from __future__ import annotations

import os

import pytest

import fastipc

MIB = 1 << 20


def memory_bytes(queue: fastipc.Queue) -> int:
    return os.fstat(queue._handles()[0]).st_blocks * 512


def warm_up(queue: fastipc.Queue) -> None:
    """Have memory wanted back that was given away, so that it is kept."""
    for _ in range(5):
        for _ in range(8):
            queue.put(bytes(MIB))
        for _ in range(8):
            queue.get()


@pytest.mark.parametrize("left", [0, 8])
@pytest.mark.parametrize("immediate", [False, True])
def test_who_learns_of_the_end_gives_memory_back(immediate: bool, left: int) -> None:
    queue = fastipc.Queue()
    warm_up(queue)
    for _ in range(left):
        queue.put(bytes(MIB))
    assert memory_bytes(queue) > 4 * MIB
    queue.shutdown(immediate)
    if immediate and left:
        # Who gives up what is queued gives its memory back as well.
        assert memory_bytes(queue) < 2 * MIB
    with pytest.raises(fastipc.ShutDown):
        while True:
            queue.get()
    assert memory_bytes(queue) < 2 * MIB
    queue.close()
