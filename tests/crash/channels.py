"""One manner of speaking for everything that carries items: put, get, size, check.

Each put and get is noted in the object's ledger. Adapters for Queue, JoinableQueue, SimpleQueue (of
any implementation) and the pair of a Pipe.
"""

from __future__ import annotations

import contextlib
import queue as queue_module
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from .books import Account, Ledger
from .operation import Violation

# Seconds that a get or put may take after a kill. The promise is 50 ms; but a victim that is
# stepped through, on a machine that has other work, takes seconds for it.
PATIENCE = 8.0


class Channel(Protocol):
    """What operations and checks need of an object under test."""

    ledger: Ledger

    def attach(self) -> None: ...
    def put(self, item: object) -> None: ...
    def get(self, timeout: float | None = PATIENCE) -> object: ...
    def has_items(self) -> bool: ...
    def expect_empty(self) -> None: ...
    def account(self) -> Account: ...
    def check(self) -> None: ...
    def close(self) -> None: ...


def wait_until(condition: Callable[[], bool], failure: str, seconds: float = PATIENCE) -> None:
    """Watches, without taking part, that the others get on by themselves."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Violation(f"{failure} within {seconds:g} s")
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


@contextlib.contextmanager
def noting_puts(ledger: Ledger, count: int = 1) -> Iterator[None]:
    """Around a put of so many messages; one that raises has put none."""
    ledger.note(begun=count)
    try:
        yield
    except BaseException:
        ledger.note(begun=-count)
        raise
    ledger.note(ended=count)


class QueueChannel:
    """Queue and JoinableQueue."""

    def __init__(self, queue: Any, *, checked: bool = True) -> None:
        self.queue = queue
        self.checked = checked
        self.ledger = Ledger()

    def attach(self) -> None:
        self.queue._attach()

    def _give(self, item: object) -> None:
        self.queue.put(item, timeout=PATIENCE)

    def _take(self, timeout: float | None) -> object:
        item: object = self.queue.get(timeout=timeout)
        return item

    def put(self, item: object) -> None:
        with noting_puts(self.ledger):
            try:
                self._give(item)
            except queue_module.Full:
                raise Violation(f"put() found no room within {PATIENCE:g} s") from None

    def put_many(self, items: Sequence[object]) -> None:
        with noting_puts(self.ledger, len(items)):
            self.queue.put_many(items, timeout=PATIENCE)

    def get(self, timeout: float | None = PATIENCE) -> object:
        try:
            item = self._take(timeout)
        except queue_module.Empty:
            raise Violation(
                f"get() found nothing within {PATIENCE:g} s, qsize() {self.queue.qsize()}"
            ) from None
        self.ledger.note(got=1)
        return item

    def get_many(self, count: int) -> list[object]:
        items: list[object] = self.queue.get_many(count, timeout=PATIENCE)
        self.ledger.note(got=len(items))
        return items

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

    def capacity(self, size_bytes: int = 4) -> int:
        """Fills an empty bounded queue with messages of that size, drains it again, returns how
        many went in.
        """
        count = 0
        try:
            while count < 1000:
                with noting_puts(self.ledger):
                    self.queue.put_nowait(b"%04d" % count * (size_bytes // 4))
                count += 1
        except queue_module.Full:
            pass
        for expected in range(count):
            if self.get() != b"%04d" % expected * (size_bytes // 4):
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

    def account(self) -> Account:
        return Account.of(self.queue.stats(), self.queue._handles()[0], 0)

    def check(self) -> None:
        if self.checked:
            expect_all_returned(self.queue)

    def close(self) -> None:
        self.queue.close()
        self.ledger.close()


class SimpleQueueChannel:
    """SimpleQueue: no timeouts; the process's own deadline ends what hangs."""

    def __init__(self, queue: Any, *, checked: bool = True) -> None:
        self.queue = queue
        self.checked = checked
        self.ledger = Ledger()

    def attach(self) -> None:
        attach = getattr(self.queue, "_attach", self.queue.empty)  # multiprocessing's has none
        attach()

    def put(self, item: object) -> None:
        with noting_puts(self.ledger):
            self.queue.put(item)

    def get(self, timeout: float | None = None) -> object:
        item: object = self.queue.get()
        self.ledger.note(got=1)
        return item

    def has_items(self) -> bool:
        return not self.queue.empty()

    def expect_empty(self) -> None:
        if self.has_items():
            raise Violation("a drained queue is not empty()")

    def account(self) -> Account:
        return Account.of(self.queue.stats(), self.queue._reader._handles()[0], 0)

    def check(self) -> None:
        if self.checked:
            expect_all_returned(self.queue)

    def close(self) -> None:
        self.queue.close()
        self.ledger.close()


class PipeChannel:
    """A Pipe whose `sender` end puts and whose `receiver` end gets."""

    def __init__(self, sender: Any, receiver: Any) -> None:
        self.sender = sender
        self.receiver = receiver
        self.ledger = Ledger()

    def attach(self) -> None:
        self.sender._attach()
        self.receiver._attach()

    def _give(self, item: object) -> None:
        self.sender.send(item)

    def _take(self) -> object:
        item: object = self.receiver.recv()
        return item

    def put(self, item: object) -> None:
        with noting_puts(self.ledger):
            self._give(item)

    def get(self, timeout: float | None = PATIENCE) -> object:
        if timeout is not None and not self.receiver.poll(timeout):
            raise Violation(f"poll() saw nothing within {PATIENCE:g} s")
        item = self._take()
        self.ledger.note(got=1)
        return item

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

    def account(self) -> Account:
        return Account.of(self.sender.stats().sent, self.sender._handles()[0], 0)

    def account_of_way_back(self) -> Account:
        return Account.of(self.sender.stats().received, self.sender._handles()[0], 1)

    def check(self) -> None:
        for end in (self.sender, self.receiver):
            expect_all_returned(end)

    def close(self) -> None:
        self.sender.close()
        self.receiver.close()
        self.ledger.close()
