"""get(copy=X) took the item before it looked whether X is true: where that raises, as it does for
an array of several numbers, the item was lost, and its block belonged to the process for good.
"""

from __future__ import annotations

from typing import Any

import pytest

import fastipc
from fastipc import _core
from tests.unit import targets


class Neither:
    """Neither true nor false, as an array of several numbers is."""

    def __bool__(self) -> bool:
        raise LookupError("on purpose")


class Same:
    """A serializer for bytes."""

    def dumps(self, obj: Any) -> Any:
        return obj

    def loads(self, data: Any) -> bytes:
        return bytes(data)


ITEMS = {
    "inline": b"small",
    "block": b"l" * 100_000,
    "buffers": targets.Buffered(bytearray(b"b" * 100_000)),
}


def content(item: Any) -> bytes:
    return bytes(getattr(item, "data", item))


def check_that_it_stays(queue: Any, way: str, sent: Any) -> None:
    """Asserts that the queue's first item, of two, is still there when copy= raises."""
    before, owned = queue.stats(), _core.debug_check(queue)["owned"]
    for _ in range(3):
        with pytest.raises(LookupError, match="on purpose"):
            getattr(queue, way)(*[1] * (way == "get_many"), block=False, copy=Neither())
    assert queue.qsize() == 2
    assert (queue.stats().gets, queue.stats().lost) == (before.gets, 0)
    assert _core.debug_check(queue)["owned"] == owned
    assert content(queue.get(block=False, copy=True)) == content(sent)
    assert queue.get(block=False) == b"next"
    counts = _core.debug_check(queue)
    assert counts["owned"] == counts["queued"] == 0


@pytest.mark.parametrize("way", ["get", "get_many"])
@pytest.mark.parametrize("item", ITEMS)
def test_the_item_stays_and_no_block_is_lost(item: str, way: str) -> None:
    queue = fastipc.JoinableQueue()
    queue.put(ITEMS[item])
    queue.put(b"next")
    check_that_it_stays(queue, way, ITEMS[item])
    queue.close()


@pytest.mark.parametrize("way", ["get", "get_many"])
@pytest.mark.parametrize("item", ["inline", "block"])
def test_nor_one_that_a_serializer_made(item: str, way: str) -> None:
    queue = fastipc.Queue(serializer=Same())
    queue.put(ITEMS[item])
    queue.put(b"next")
    check_that_it_stays(queue, way, ITEMS[item])
    queue.close()


@pytest.mark.parametrize("way", ["get", "get_many"])
@pytest.mark.parametrize("item", ITEMS)
def test_nor_one_that_a_get_many_took_before_it_raised(item: str, way: str) -> None:
    queue = fastipc.Queue()
    queue.put_many([targets.RaisesOnLoad(), ITEMS[item], b"next"])
    with pytest.raises(ValueError, match="refuses to be unpickled"):
        queue.get_many(9)
    check_that_it_stays(queue, way, ITEMS[item])
    queue.close()
