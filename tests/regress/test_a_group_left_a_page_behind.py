"""The page for a new group of descriptors was reserved before the arena's lock was taken. When
another process gave out a block behind that place meanwhile, the page lay in no group and in no
block, and kept its memory until the queue ended.
"""

from __future__ import annotations

import os

import fastipc
from tests.storm.memory import Level, level_of

PROCESSES = 6
CLASSES = range(13, 22)  # each process begins with a group of each size class
ROUNDS = 80  # seen in one of twenty


def level(queue: fastipc.Queue) -> Level:
    return level_of(queue._handles()[0], queue._check()["group_numbers"])


def other_bytes_of_a_round() -> int:
    """How much memory, beside what is kept on purpose, is more after a race for groups."""
    queue = fastipc.get_context("fork").Queue()
    queue.put(1)
    queue.get()
    before = level(queue).other
    gate, opener = os.pipe()
    children = []
    for _ in range(PROCESSES):
        pid = os.fork()
        if pid == 0:
            try:
                os.close(opener)
                queue._attach()
                os.read(gate, 1)
                for size_class in CLASSES:
                    queue.put(bytes((1 << size_class) - 3000))
                os._exit(0)
            finally:
                os._exit(1)
        children.append(pid)
    os.close(opener)
    os.close(gate)
    for _ in range(PROCESSES * len(CLASSES)):
        queue.get(timeout=30)
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    more = level(queue).other - before
    queue.close()
    return more


def test_a_race_for_new_groups_leaves_no_page() -> None:
    assert [other_bytes_of_a_round() for _ in range(ROUNDS)] == [0] * ROUNDS
