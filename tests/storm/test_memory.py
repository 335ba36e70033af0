"""The level of memory: each page of a segment is accounted for, and one too many is noticed."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fastipc

from . import memory
from .memory import Level, level_of, too_much
from .messages import KIB, MIB

LAYOUT = (Path(__file__).resolve().parents[2] / "csrc" / "layout.h").read_text()


@pytest.fixture
def queue() -> Iterator[Any]:
    made = fastipc.Queue()
    made.put(bytes(50_000))
    made.get()
    yield made
    made.close()


def look(queue: Any) -> Level:
    return level_of(queue._handles()[0], queue._check()["group_numbers"])


def test_all_memory_of_a_queue_at_rest_is_accounted_for(queue: Any) -> None:
    level = look(queue)
    assert level.other == memory.PAGE
    assert level.rings == queue._check()["ring_bytes"] == 8 * KIB
    assert level.free == 13 * memory.PAGE
    assert level.tables == 2 * memory.PAGE
    assert too_much(level, level, MIB) == []


def test_what_is_kept_on_purpose_may_be_more_than_before(queue: Any) -> None:
    before = look(queue)
    # A backlog leaves a larger ring and a second page of descriptors, and each size its block.
    for _ in range(200):
        queue.put(bytes(5000))
        queue.put(bytes(4000))
    while not queue.empty():
        queue.get()
    for size in (20_000, 70_000, 140_000):
        queue.put(bytes(size))
        queue.get()
    fastipc._core.debug_trim(queue)
    after = look(queue)
    assert after.rings > before.rings
    assert after.tables > before.tables
    assert after.total > before.total + MIB // 2
    assert too_much(after, before, MIB) == []
    assert after.other == before.other


def test_the_memory_of_many_groups_is_accounted_for(queue: Any) -> None:
    # Of more than 32 pages of descriptors the numbers stand elsewhere, and most are given back.
    before = look(queue)
    for _ in range(5000):
        queue.put(bytes(5000))
    while not queue.empty():
        queue.get()
    assert queue._check()["groups"] > 32
    assert look(queue).other == before.other
    fastipc._core.debug_trim(queue)
    assert queue._check()["groups"] < 32
    assert look(queue).other == before.other
    assert too_much(look(queue), before, MIB) == []


def test_one_page_too_many_is_reported(queue: Any) -> None:
    before = look(queue)
    os.posix_fallocate(queue._handles()[0], 64 * MIB, 1)
    assert too_much(look(queue), before, MIB) == [
        "4096 bytes of memory more than before the storm belong to nothing that is kept on purpose"
    ]


def test_memory_that_somebody_has_in_hand_is_reported(queue: Any) -> None:
    before = look(queue)
    array = bytearray(50_000)
    queue.put(Buffer(array))
    kept = queue.get()
    assert too_much(look(queue), before, MIB) == [
        "53248 bytes of memory more than before the storm belong to nothing that is kept on purpose"
    ]
    del kept
    assert too_much(look(queue), before, MIB) == []


@pytest.mark.parametrize(
    ("part", "most"),
    [("free", memory.MOST_FREE), ("rings", MIB), ("tables", memory.MOST_IN_TABLES)],
)
def test_more_than_is_kept_at_rest_is_reported(part: str, most: int) -> None:
    before = Level(memory.PAGE, 0, 0, 0)
    level = before._replace(total=before.total + most, **{part: most})
    assert too_much(level, before, MIB) == []
    level = level._replace(total=level.total + memory.PAGE, **{part: most + memory.PAGE})
    (told,) = too_much(level, before, MIB)
    assert told.endswith(f", and {most} may be at rest")


def test_the_limits_are_those_of_the_library() -> None:
    assert re.search(r"FIPC_FREE_KEEP_BYTES \(UINT64_C\(512\) << 10\)", LAYOUT)
    assert memory.MOST_FREE == 512 << 10
    assert re.search(r"FIPC_RING_MAX_LOG2 20\n", LAYOUT)
    assert re.search(r"FIPC_RING_STREAM_LOG2 21\n", LAYOUT)


class Buffer:
    """An object whose content its receiver looks at where it lies."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def __reduce_ex__(self, protocol: int) -> Any:
        return Buffer, (pickle.PickleBuffer(self.content),)
