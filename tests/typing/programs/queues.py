"""Queue[T] is generic: what goes in is checked, what comes out has the type.

Each `type: ignore` is an expected error: mypy reports those that are not needed.
"""

from typing import Any

from typing_extensions import assert_type

import fastipc as mp
from fastipc.queues import JoinableQueue, Queue, SimpleQueue

numbers: mp.Queue[int] = mp.Queue()
numbers.put(1)
numbers.put(1, block=True, timeout=0.5)
numbers.put("one")  # type: ignore[arg-type]
assert_type(numbers.get(), int)
assert_type(numbers.get(timeout=1.0), int)
assert_type(numbers.get_nowait(), int)
assert_type(numbers.qsize(), int)
numbers.put_many(range(3))
numbers.put_many([1, 2], block=True, timeout=0.5)
numbers.put_many(["one"])  # type: ignore[list-item]
numbers.put_many(1)  # type: ignore[arg-type]
assert_type(numbers.get_many(10), list[int])
assert_type(numbers.get_many(10, timeout=1.0), list[int])
numbers.get_many()  # type: ignore[call-arg]
assert_type(numbers.empty(), bool)
assert_type(numbers.full(), bool)

bounded = mp.Queue[bytes](10, max_bytes=1 << 20, label="frames")
assert_type(bounded.get(), bytes)
bounded.put_bytes(b"frame")
bounded.put_bytes(memoryview(b"frame"), timeout=1)
bounded.put_bytes("text")  # type: ignore[arg-type]
assert_type(bounded.get_bytes(), bytes)
assert_type(bounded.get_bytes_into(bytearray(10), 2), int)
mp.Queue("10")  # type: ignore[arg-type]
mp.Queue(10, 20)  # type: ignore[call-arg, arg-type]

jobs: mp.JoinableQueue[tuple[str, int]] = mp.JoinableQueue(maxsize=3)
jobs.put(("a", 1))
assert_type(jobs.get(), tuple[str, int])
jobs.task_done()
jobs.join()
numbers.task_done()  # type: ignore[attr-defined]

simple: mp.SimpleQueue[str] = mp.SimpleQueue(label="names")
simple.put("name")
assert_type(simple.get(), str)
simple.get(timeout=1)  # type: ignore[call-arg]

assert_type(mp.get_context("spawn").Queue(3), Queue[Any])
assert_type(mp.get_context("fork").JoinableQueue(), JoinableQueue[Any])
assert_type(mp.get_context().SimpleQueue(), SimpleQueue[Any])


class Inbox(mp.Queue[str]):
    """A subclass with its item type fixed."""


assert_type(Inbox().get(), str)

try:
    numbers.get_nowait()
except (mp.Empty, mp.Full) as error:
    print(error)
