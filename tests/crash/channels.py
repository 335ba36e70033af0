"""One manner of speaking for everything that carries items: put, get, size, check.

Adapters for Queue, JoinableQueue, SimpleQueue (of any implementation) and the pair of a Pipe.
"""

from __future__ import annotations

import queue as queue_module
import time
from collections.abc import Callable
from typing import Any, Protocol

from .operation import Violation

# Seconds that a get or put may take after a kill. The promise is 50 ms; but a victim that is
# stepped through, on a machine that has other work, takes seconds for it.
PATIENCE = 8.0


class Channel(Protocol):
    """What operations and checks need of an object under test."""

    def attach(self) -> None: ...
    def put(self, item: object) -> None: ...
    def get(self, timeout: float | None = PATIENCE) -> object: ...
    def has_items(self) -> bool: ...
    def expect_empty(self) -> None: ...
    def check(self) -> None: ...
    def close(self) -> None: ...


def wait_until(condition: Callable[[], bool], failure: str) -> None:
    """Watches, without taking part, that the others get on by themselves."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise Violation(f"{failure} within {PATIENCE:g} s")
        time.sleep(0.002)


def check_blocks(handle: Any) -> dict[str, int]:
    """Runs the extension's own checker; raises Violation when an invariant is violated."""
    from fastipc import _core  # not at the top: the proofs run without fastipc

    try:
        result: dict[str, int] = _core.debug_check(handle)
    except (AssertionError, OSError) as error:
        raise Violation(f"debug_check: {type(error).__name__}: {error}") from error
    return result


def expect_all_returned(handle: Any) -> None:
    """A drained object that nobody holds views of: no item, and every block is free."""
    result = check_blocks(handle)
    if result.get("items", 0) != 0:
        raise Violation(f"debug_check counts {result['items']} items in a drained object")
    # Only the rings of the object itself may still occupy blocks.
    if result.get("blocks", 0) != result.get("free_blocks", 0) + result.get("rings", 0):
        raise Violation(f"a drained object has blocks that are not free: {result}")


def expect_records_for_blocks(handle: Any) -> None:
    """Every block that counts as queued is carried by one record in the queue."""
    result = check_blocks(handle)
    if result["queued"] != result["queued_records"]:
        raise Violation(f"a block counts as queued, and no record carries it: {result}")


class QueueChannel:
    """Queue and JoinableQueue."""

    def __init__(self, queue: Any, *, checked: bool = True) -> None:
        self.queue = queue
        self.checked = checked

    def attach(self) -> None:
        self.queue._attach()

    def put(self, item: object) -> None:
        try:
            self.queue.put(item, timeout=PATIENCE)
        except queue_module.Full:
            raise Violation(f"put() found no room within {PATIENCE:g} s") from None

    def get(self, timeout: float | None = PATIENCE) -> object:
        try:
            return self.queue.get(timeout=timeout)
        except queue_module.Empty:
            raise Violation(
                f"get() found nothing within {PATIENCE:g} s, qsize() {self.queue.qsize()}"
            ) from None

    def has_items(self) -> bool:
        return not self.queue.empty()

    def expect_empty(self) -> None:
        try:
            item = self.queue.get_nowait()
        except queue_module.Empty:
            pass
        else:
            raise Violation(f"one item too many: {str(item)[:60]}")
        if self.queue.qsize() != 0 or not self.queue.empty():
            raise Violation(f"a drained queue has qsize() {self.queue.qsize()}")

    def capacity(self) -> int:
        """Fills an empty bounded queue, drains it again, returns how many went in."""
        count = 0
        try:
            while count < 1000:
                self.queue.put_nowait(count)
                count += 1
        except queue_module.Full:
            pass
        for expected in range(count):
            if self.queue.get(timeout=PATIENCE) != expected:
                raise Violation("a refilled queue lost its order")
        return count

    def unfinished(self) -> int:
        """Marks everything done and returns how many tasks that were; then join() returns."""
        count = 0
        while count < 1000:
            try:
                self.queue.task_done()
            except ValueError:
                break
            count += 1
        self.queue.join()
        return count

    def check(self) -> None:
        if self.checked:
            expect_all_returned(self.queue)

    def close(self) -> None:
        self.queue.close()


class SimpleQueueChannel:
    """SimpleQueue: no timeouts; the process's own deadline ends what hangs."""

    def __init__(self, queue: Any, *, checked: bool = True) -> None:
        self.queue = queue
        self.checked = checked

    def attach(self) -> None:
        attach = getattr(self.queue, "_attach", self.queue.empty)  # multiprocessing's has none
        attach()

    def put(self, item: object) -> None:
        self.queue.put(item)

    def get(self, timeout: float | None = None) -> object:
        return self.queue.get()

    def has_items(self) -> bool:
        return not self.queue.empty()

    def expect_empty(self) -> None:
        if self.has_items():
            raise Violation("a drained queue is not empty()")

    def check(self) -> None:
        if self.checked:
            expect_all_returned(self.queue)

    def close(self) -> None:
        self.queue.close()


class PipeChannel:
    """A Pipe whose `sender` end puts and whose `receiver` end gets."""

    def __init__(self, sender: Any, receiver: Any) -> None:
        self.sender = sender
        self.receiver = receiver

    def attach(self) -> None:
        self.sender._attach()
        self.receiver._attach()

    def put(self, item: object) -> None:
        self.sender.send(item)

    def get(self, timeout: float | None = PATIENCE) -> object:
        if timeout is not None and not self.receiver.poll(timeout):
            raise Violation(f"poll() saw nothing within {PATIENCE:g} s")
        return self.receiver.recv()

    def has_items(self) -> bool:
        return bool(self.receiver.poll(0))

    def expect_empty(self) -> None:
        if self.has_items():
            raise Violation("one message too many")

    def expect_way_back(self, token: object) -> None:
        """The other direction has its own ring; it must not have suffered."""
        self.receiver.send(token)
        if not self.sender.poll(PATIENCE):
            raise Violation("the other direction of the pipe is dead")
        if self.sender.recv() != token:
            raise Violation("the other direction of the pipe is corrupt")

    def check(self) -> None:
        for end in (self.sender, self.receiver):
            expect_all_returned(end)

    def close(self) -> None:
        self.sender.close()
        self.receiver.close()
