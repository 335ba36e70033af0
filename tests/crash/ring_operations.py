"""Operations at the edges of a ring and of a queue: full, empty, wrapping, growing."""

from __future__ import annotations

import functools
import queue as queue_module
from collections.abc import Sequence
from typing import Any, ClassVar

import fastipc

from .channel_operation import FILL_COUNT, ChannelOperation, GetOperation, PutOperation, value_of
from .channels import check_blocks
from .harness import Laboratory
from .operation import AFTER, BEFORE, State, Violation
from .pipe_operations import OnPipe
from .queue_operations import GetsFirst, OnBoundedQueue, OnQueue, fills_before_growth


@functools.cache
def sends_before_growth() -> int:
    """Returns how many fill items a new pipe takes before one more makes its ring grow."""
    sender, receiver = fastipc.get_context("fork").Pipe()
    try:
        sender.send(None)
        receiver.recv()
        at_birth = check_blocks(sender)["ring_bytes"]
        for count in range(FILL_COUNT):
            sender.send(value_of(f"fill{count}"))
            if check_blocks(sender)["ring_bytes"] != at_birth:
                return count
    finally:
        sender.close()
        receiver.close()
    raise Violation(f"{FILL_COUNT} items of 200 bytes do not make the ring grow")


class Filled(ChannelOperation):
    """On a ring that was filled with so many items."""

    def fill_count(self) -> int:
        raise NotImplementedError

    def prepare(self, laboratory: Laboratory) -> None:
        self.channel = self.open()
        self.prefilled = tuple(f"fill{i}" for i in range(self.fill_count()))  # type: ignore[misc]
        for label in self.prefilled:
            self.put(label)


class QueuePutFilling(Filled, OnQueue, PutOperation):
    """put() of the item that fills the ring."""

    name = "queue-put-filling"
    item = "fill0"

    def fill_count(self) -> int:
        return fills_before_growth() - 1


class QueueGetFilled(Filled, OnQueue, GetOperation):
    """get() from a full ring."""

    name = "queue-get-filled"

    def fill_count(self) -> int:
        return fills_before_growth()


class PipeSendGrowing(Filled, OnPipe, PutOperation):
    """send() on a full ring: a larger ring is made and linked."""

    name = "pipe-send-growing"
    item = "fill0"

    def fill_count(self) -> int:
        return sends_before_growth()


class PipeRecvNextRing(OnPipe):
    """Two recv()s across the link from a drained ring to its larger successor."""

    name = "pipe-recv-next-ring"
    loses = True
    in_hand = 1

    def prepare(self, laboratory: Laboratory) -> None:
        self.channel = self.open()
        count = sends_before_growth() + 3
        for i in range(count):
            self.put(f"fill{i}")
        for i in range(count - 4):
            if self.get() != f"fill{i}":
                raise Violation("the pipe lost its order while it was prepared")
        self.left = tuple(f"fill{i}" for i in range(count - 4, count))

    def act(self) -> None:
        self.channel.get()
        self.channel.get()

    def states(self) -> Sequence[State]:
        left = self.left
        return [State(BEFORE, left), State("between", left[1:]), State(AFTER, left[2:])]


class Wrapping(ChannelOperation):
    """At the end of a ring that has room at its beginning: a pad, and then the record."""

    prefilled: ClassVar[tuple[str, ...]] = ("p1",)
    handle: Any

    def prepare(self, laboratory: Laboratory) -> None:
        self.channel = self.open()
        for label in ("wrap", "wrap2", *self.prefilled[:1]):
            self.put(label)
        if [self.get(), self.get()] != ["wrap", "wrap2"]:
            raise Violation("the order was lost while the ring was prepared")
        for label in self.prefilled[1:]:
            self.put(label)


class QueuePutWrapping(Wrapping, OnBoundedQueue, PutOperation):
    """put() of an item that goes to the beginning of the ring."""

    name = "queue-put-wrapping"
    item = "wrap3"


class QueueGetWrapping(Wrapping, OnBoundedQueue):
    """Two get()s, one on each side of the pad."""

    name = "queue-get-wrapping"
    prefilled: ClassVar[tuple[str, ...]] = ("p1", "wrap3", "p2")
    loses = True
    in_hand = 1

    def act(self) -> None:
        self.channel.get()
        self.channel.get()

    def states(self) -> Sequence[State]:
        items = self.prefilled
        return [State(BEFORE, items), State("between", items[1:]), State(AFTER, items[2:])]


class PipeSendWrapping(Wrapping, OnPipe, PutOperation):
    """send() of a message that goes to the beginning of the ring."""

    name = "pipe-send-wrapping"
    item = "wrap3"


class PipeRecvWrapping(Wrapping, OnPipe, GetOperation):
    """recv() of a message behind a pad."""

    name = "pipe-recv-wrapping"
    prefilled: ClassVar[tuple[str, ...]] = ("p1", "wrap3", "p2")

    def prepare(self, laboratory: Laboratory) -> None:
        super().prepare(laboratory)
        if self.get() != "p1":
            raise Violation("the order was lost while the ring was prepared")

    def states(self) -> Sequence[State]:
        return [State(BEFORE, ("wrap3", "p2")), State(AFTER, ("p2",))]


class PipeSendFragments(OnPipe, PutOperation):
    """send() in fragments that find room: nobody has to receive meanwhile."""

    name = "pipe-send-fragments"
    item = "fragments1"


class PipeRecvFragments(OnPipe, GetOperation):
    """recv() of fragments that are all there; whoever dies in the middle takes them along."""

    name = "pipe-recv-fragments"
    prefilled: ClassVar[tuple[str, ...]] = ("fragments1", "p1", "p2")


class QueuePutFull(GetsFirst):
    """put() into a full queue, which is refused at once, or after a while."""

    name = "queue-put-full"
    maxsize = 3
    prefilled: ClassVar[tuple[str, ...]] = ("p1", "p2", "p3")
    changes_state = False

    def act(self) -> None:
        for timeout in (0, 0, 0.001):
            try:
                self.channel.queue.put(value_of("x"), timeout=timeout)
            except queue_module.Full:
                continue
            raise Violation("a full queue took an item")

    def states(self) -> Sequence[State]:
        return [State(BEFORE, self.prefilled)]


class QueueGetEmpty(OnBoundedQueue):
    """get() from an empty queue, which finds nothing at once, or after a while."""

    name = "queue-get-empty"
    prefilled: ClassVar[tuple[str, ...]] = ()
    changes_state = False

    def act(self) -> None:
        for timeout in (0, 0, 0.001):
            try:
                self.channel.queue.get(timeout=timeout)
            except queue_module.Empty:
                continue
            raise Violation("an empty queue had an item")

    def states(self) -> Sequence[State]:
        return [State(BEFORE, ())]
