"""The operations on Queue, JoinableQueue and SimpleQueue that the crash tool kills."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import fastipc

from .channel_operation import (
    CATALOG,
    FILL_COUNT,
    ChannelOperation,
    GetOperation,
    PutManyInParts,
    PutManyOperation,
    PutOperation,
    WakingPut,
    value_of,
)
from .channels import (
    PATIENCE,
    Channel,
    QueueChannel,
    SimpleQueueChannel,
    check_blocks,
    noting_puts,
    wait_until,
)
from .harness import Laboratory
from .operation import AFTER, BEFORE, Reports, State, Violation, during, match
from .processes import Link


class OnBoundedQueue(ChannelOperation):
    """On a Queue(8), which must hold 8 items afterwards, no more and no fewer."""

    has_checker = True
    maxsize: ClassVar[int] = 8

    def open(self) -> Channel:
        return QueueChannel(fastipc.get_context("fork").Queue(self.maxsize))

    def examine(self) -> dict[str, Any]:
        report = super().examine()
        capacity = self.channel.capacity()
        if capacity != self.maxsize:
            raise Violation(f"a Queue({self.maxsize}) holds {capacity} items")
        return report


class OnQueue(ChannelOperation):
    """On a queue without bounds."""

    has_checker = True

    def open(self) -> Channel:
        return QueueChannel(fastipc.get_context("fork").Queue())


class OnByteQueue(ChannelOperation):
    """On a queue with so many bytes of room, which must hold afterwards what it held before."""

    has_checker = True
    max_bytes: ClassVar[int] = 50_000
    sizes: ClassVar[tuple[int, ...]] = (100, 6_000)
    """Of messages that travel inside the ring, and in a block."""

    def open(self) -> Channel:
        return QueueChannel(fastipc.get_context("fork").Queue(max_bytes=self.max_bytes))

    def prepare(self, laboratory: Laboratory) -> None:
        self.channel = self.open()
        self.held_before = [self.channel.capacity(size) for size in self.sizes]
        # All of the room was used, and no more; beside its own bytes a message takes some.
        for size, held in zip(self.sizes, self.held_before, strict=True):
            if not self.max_bytes // (size + 64) <= held <= self.max_bytes // size:
                raise Violation(f"{held} messages of {size} bytes fit into {self.max_bytes}")
        for label in self.prefilled:
            self.put(label)

    def examine(self) -> dict[str, Any]:
        report = super().examine()
        held = [self.channel.capacity(size) for size in self.sizes]
        if held != self.held_before:
            raise Violation(
                f"of messages of {self.sizes} bytes {held} fit, before it was {self.held_before}"
            )
        return report


class OnSimpleQueue(ChannelOperation):
    """On a SimpleQueue."""

    def open(self) -> Channel:
        return SimpleQueueChannel(fastipc.get_context("fork").SimpleQueue())


class OnJoinableQueue(ChannelOperation):
    """On a JoinableQueue, whose unfinished tasks must agree with its items."""

    def open(self) -> Channel:
        return QueueChannel(fastipc.get_context("fork").JoinableQueue())

    def examine(self) -> dict[str, Any]:
        return {**super().examine(), "unfinished": self.channel.unfinished()}

    def compare(self, reports: Reports) -> str:
        return match(
            [State(s.label, (*s.items, "s", "f"), (s.unfinished or 0) + 2) for s in self.states()],
            [*reports.survivor["items"], *reports.fresh["items"]],
            reports.fresh["unfinished"],
        )


class OnBoundedJoinableQueue(OnJoinableQueue):
    """On a JoinableQueue(8), which must hold 8 items afterwards, all of whose tasks get done."""

    maxsize: ClassVar[int] = 8

    def open(self) -> Channel:
        return QueueChannel(fastipc.get_context("fork").JoinableQueue(self.maxsize))

    def examine(self) -> dict[str, Any]:
        report = super().examine()
        capacity, tasks = self.channel.capacity(), self.channel.unfinished()
        if (capacity, tasks) != (self.maxsize, self.maxsize):
            raise Violation(f"a JoinableQueue({self.maxsize}) holds {capacity}, of {tasks} tasks")
        return report


class QueuePut(OnBoundedQueue, PutOperation):
    """put() of a small item."""

    name = "queue-put"


class QueuePutLarge(OnBoundedQueue, PutOperation):
    """put() of an item that travels in a block of the arena."""

    name = "queue-put-large"
    item = "large"
    left_out = ()


class QueuePutBlock(OnBoundedQueue, PutOperation):
    """put() of an item in a small block."""

    name = "queue-put-block"
    item = "block"


class QueuePutPast(QueuePutBlock):
    """put() of an item that is copied past the caches."""

    name = "queue-put-past"
    copies_past = True


class QueuePutWarm(OnBoundedQueue, PutOperation):
    """put() of an item for which a block is free that has memory: without giving the GIL up."""

    name = "queue-put-warm"
    item = "block"

    def prepare(self, laboratory: Laboratory) -> None:
        self.channel = self.open()
        self.put(self.item)
        if self.get() != self.item:
            raise Violation("the item did not come back while the queue was prepared")
        for label in self.prefilled:
            self.put(label)


@functools.cache
def fills_before_growth() -> int:
    """Returns how many fill items a new queue takes before one more makes the ring grow."""
    queue = fastipc.get_context("fork").Queue()
    try:
        at_birth = check_blocks(queue)["ring_bytes"]
        for count in range(FILL_COUNT):
            queue.put(value_of(f"fill{count}"))
            if check_blocks(queue)["ring_bytes"] != at_birth:
                return count
    finally:
        queue.close()
    raise Violation(f"{FILL_COUNT} items of 200 bytes do not make the ring grow")


class QueuePutGrowing(OnQueue, PutOperation):
    """put() on a full ring: a larger ring is made and linked."""

    name = "queue-put-growing"

    def prepare(self, laboratory: Laboratory) -> None:
        self.channel = self.open()
        self.fills = tuple(f"fill{i}" for i in range(fills_before_growth()))
        for label in self.fills:
            self.put(label)

    def act(self) -> None:
        self.put("fill0")

    def states(self) -> Sequence[State]:
        return [State(BEFORE, self.fills), State(AFTER, (*self.fills, "fill0"))]


class QueuePutMany(OnBoundedQueue, PutManyOperation):
    """put_many() of what goes together: all of it, small items and blocks, or nothing."""

    name = "queue-put-many"
    batch = ("x", "large", "x1", "large2", "x2")


class QueuePutManyGrowing(OnQueue, PutManyInParts):
    """put_many() of more than a ring and a lock take: whole items, from the first on."""

    name = "queue-put-many-growing"
    batch = tuple(f"fill{i}" for i in range(120))


class QueueGet(OnBoundedQueue, GetOperation):
    """get() of a small item; what is gone is lost, unless it had just reached the caller."""

    name = "queue-get"


class QueueGetLarge(OnBoundedQueue, GetOperation):
    """get() of an item in a block, up to the release of the block."""

    name = "queue-get-large"
    prefilled: ClassVar[tuple[str, ...]] = ("large", "large2", "p1")


class QueueGetMany(OnBoundedQueue, ChannelOperation):
    """get_many() of small items and blocks; what a dead process had taken is lost with it."""

    name = "queue-get-many"
    loses = True
    in_hand = 4
    prefilled: ClassVar[tuple[str, ...]] = ("p1", "large", "p2", "large2", "p3", "p4")

    def act(self) -> None:
        self.channel.get_many(4)

    def states(self) -> Sequence[State]:
        before = self.prefilled
        return [State(BEFORE, before), State(AFTER, before[4:])]


class QueueGetNextRing(OnQueue, ChannelOperation):
    """Two get()s across the link from a drained ring to its larger successor."""

    name = "queue-get-next-ring"
    loses = True
    in_hand = 1

    def prepare(self, laboratory: Laboratory) -> None:
        self.channel = self.open()
        count = fills_before_growth() + 3
        for i in range(count):
            self.put(f"fill{i}")
        for i in range(count - 4):
            if self.get() != f"fill{i}":
                raise Violation("the queue lost its order while it was prepared")
        self.left = tuple(f"fill{i}" for i in range(count - 4, count))

    def act(self) -> None:
        self.channel.get()
        self.channel.get()

    def states(self) -> Sequence[State]:
        left = self.left
        return [State(BEFORE, left), State("between", left[1:]), State(AFTER, left[2:])]


class JoinableQueuePut(OnJoinableQueue, PutOperation):
    """put() that also counts a task."""

    name = "joinablequeue-put"

    def states(self) -> Sequence[State]:
        before, after = super().states()
        return [State(BEFORE, before.items, 2), State(AFTER, after.items, 3)]


class QueuePutBytes(OnByteQueue, PutOperation):
    """put() into a queue whose bytes are bounded, of an item in a block."""

    name = "queue-put-bytes"
    item = "block"


class QueueGetBytes(OnByteQueue, ChannelOperation):
    """Two get()s from a queue whose bytes are bounded: of an item in a block and of a small one."""

    name = "queue-get-bytes"
    loses = True
    in_hand = 1
    prefilled: ClassVar[tuple[str, ...]] = ("block", "p1", "p2")

    def act(self) -> None:
        self.channel.get()
        self.channel.get()

    def states(self) -> Sequence[State]:
        items = self.prefilled
        return [State(BEFORE, items), State("between", items[1:]), State(AFTER, items[2:])]


class JoinableQueuePutBounded(OnBoundedJoinableQueue, JoinableQueuePut):
    """put() into a JoinableQueue with a maxsize."""

    name = "joinablequeue-put-bounded"


class JoinableQueueGet(OnJoinableQueue, GetOperation):
    """get(), which leaves its task unfinished, whoever dies."""

    name = "joinablequeue-get"

    def states(self) -> Sequence[State]:
        before, after = super().states()
        return [State(BEFORE, before.items, 3), State(AFTER, after.items, 3)]


class JoinableQueueTaskDone(OnJoinableQueue, ChannelOperation):
    """task_done(), three times: one takes too few instructions to choose from."""

    name = "joinablequeue-task-done"
    prefilled: ClassVar[tuple[str, ...]] = ("p1", "p2", "p3")

    def act(self) -> None:
        for _ in self.prefilled:
            self.channel.queue.task_done()

    def states(self) -> Sequence[State]:
        labels = (BEFORE, AFTER, AFTER, AFTER)
        return [State(label, self.prefilled, 3 - done) for done, label in enumerate(labels)]


class Shutdown(OnJoinableQueue):
    """shutdown() of a queue that holds small and large items; each call after it tells whether
    the queue was shut by a word in the place of an item.
    """

    prefilled: ClassVar[tuple[str, ...]] = ("p1", "large", "p2")
    immediate: ClassVar[bool]

    def act(self) -> None:
        self.channel.queue.shutdown(self.immediate)

    def get_or_learn(self) -> str:
        try:
            return self.get()
        except fastipc.ShutDown:
            return "shut"

    def survive(self) -> dict[str, Any]:
        with during("put"):
            items = self.put_or_learn("s")
        with during("get"):
            return {"items": [*items, self.get_or_learn()]}

    def arrive(self) -> dict[str, Any]:
        with during("put"):
            items = self.put_or_learn("f")
        with during("get"):
            while not items or items[-1] not in ("f", "shut"):
                items.append(self.get_or_learn())
        with during("when drained"):
            if items[-1] == "shut":
                if not self.channel.queue.is_shutdown or self.channel.has_items():
                    raise Violation("get() says that the queue is shut, the queue does not")
            else:
                self.channel.expect_empty()
            report = {"items": items, **self.examine()}
            self.channel.check()
        return report

    def given_up(self, label: str) -> int:
        return len(self.prefilled) if self.immediate and label == AFTER else 0

    def compare(self, reports: Reports) -> str:
        return match(
            self.states(),
            [*reports.survivor["items"], *reports.fresh["items"]],
            reports.fresh["unfinished"],
        )

    def states(self) -> Sequence[State]:
        refused, items = "put refused", self.prefilled
        return [
            State(BEFORE, (*items, "s", "f"), 5),
            State(
                AFTER if not self.immediate else "between",
                (refused, items[0], refused, *items[1:], "shut"),
                3,
            ),
            *([State(AFTER, (refused, "shut", refused, "shut"), 0)] if self.immediate else []),
        ]


class QueueShutdown(Shutdown):
    """shutdown(): what is queued is still there for everybody."""

    name = "queue-shutdown"
    immediate = False


class QueueShutdownNow(Shutdown):
    """shutdown(immediate=True), up to the freeing of what was given up."""

    name = "queue-shutdown-now"
    immediate = True


class QueueShutdownWaking(OnQueue, ChannelOperation):
    """shutdown() while a get() sleeps, which must find out even if nobody wakes it."""

    name = "queue-shutdown-waking"
    prefilled: ClassVar[tuple[str, ...]] = ()
    has_peer = True
    peer_sleeps = True
    peer_ends_first = True

    def act(self) -> None:
        self.channel.queue.shutdown()

    def get_or_learn(self, timeout: float | None = PATIENCE) -> str:
        try:
            return CATALOG.label(self.channel.get(timeout))
        except fastipc.ShutDown:
            return "shut"

    def assist(self, link: Link) -> str:
        return self.get_or_learn(None)

    def survive(self) -> dict[str, Any]:
        with during("put"):
            items = self.put_or_learn("s")
            if not items:  # the sleeper's, whom it wakes
                wait_until(
                    lambda: self.channel.ledger.read().got > 0, "the sleeper did not get anything"
                )
                items = self.put_or_learn("t")
        with during("get"):
            return {"items": [*items, self.get_or_learn()]}

    def arrive(self) -> dict[str, Any]:
        with during("put"):
            items = self.put_or_learn("f")
        with during("get"):
            items.append(self.get_or_learn())
        with during("when drained"):
            if items[-1] != "shut":
                self.channel.expect_empty()
            report = {"items": items, **self.examine()}
            self.channel.check()
        return report

    def compare(self, reports: Reports) -> str:
        refused = ("put refused", "shut")
        return match(
            [State(BEFORE, ("s", "t", "f")), State(AFTER, ("shut", *refused, *refused))],
            [reports.peer, *reports.survivor["items"], *reports.fresh["items"]],
            None,
        )


class SimpleQueuePut(OnSimpleQueue, PutOperation):
    """SimpleQueue.put()."""

    name = "simplequeue-put"


class SimpleQueueGet(OnSimpleQueue, GetOperation):
    """SimpleQueue.get()."""

    name = "simplequeue-get"


class QueuePutWaking(OnQueue, WakingPut):
    """put() while a get() sleeps."""

    name = "queue-put-waking"


class GetsFirst(OnBoundedQueue):
    """On a queue that may be full: who comes gets before it puts."""

    def survive(self) -> dict[str, Any]:
        with during("get"):
            items = [self.get()]
        with during("put"):
            self.put("s")
        return {"items": items}

    def arrive(self) -> dict[str, Any]:
        with during("get"):
            first = self.get()
        report = super().arrive()
        return {**report, "items": [first, *report["items"]]}


class QueueGetWaking(GetsFirst, GetOperation):
    """get() from a full queue while a put() sleeps."""

    name = "queue-get-waking"
    maxsize = 3
    has_peer = True
    peer_sleeps = True

    def assist(self, link: Link) -> None:
        with noting_puts(self.channel.ledger):
            self.channel.queue.put(value_of("t"))

    def survive(self) -> dict[str, Any]:
        def is_full() -> bool:
            return bool(self.channel.queue.full())

        with during("wake"):
            wait_until(is_full, "the sleeper did not put although there was room")
        with during("get"):
            items = [self.get()]
            if items == ["p1"]:  # the state before: the sleeper had no room until now
                wait_until(is_full, "the sleeper did not put although there was room")
                items.append(self.get())
        with during("put"):
            self.put("s")
        return {"items": items}

    def states(self) -> Sequence[State]:
        return [State(s.label, (*s.items, "t")) for s in super().states()]
