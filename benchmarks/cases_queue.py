"""Queue, one producer and one consumer: how many objects a second arrive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, ClassVar

from benchmarks import payloads
from benchmarks.case import Case, Lap, Part
from benchmarks.payloads import WrongMessageError
from benchmarks.peers import Peer

Maker = Callable[[int, int], Sequence[Any]]


class SmallProducer(Part):
    """Puts messages that were made in advance."""

    def __init__(self, channel: Any, make: Maker) -> None:
        super().__init__(channel)
        self._make = make

    def prepare(self, lap: Lap) -> None:
        self._messages = self._make(lap.start, lap.count)

    def run(self) -> dict[str, Any]:
        put = self.channel.put
        start = perf_counter()
        for message in self._messages:
            put(message)
        return {"put_seconds": perf_counter() - start}


class SmallConsumer(Part):
    """Gets them and compares each with the one that is due."""

    def __init__(self, channel: Any, make: Maker) -> None:
        super().__init__(channel)
        self._make = make

    def prepare(self, lap: Lap) -> None:
        self._expected = self._make(lap.start, lap.count)

    def run(self) -> dict[str, Any]:
        get = self.channel.get
        due = iter(self._expected)
        expected = next(due)
        message = get()
        first = perf_counter()
        if message != expected:
            raise WrongMessageError(f"got {message!r} in the place of {expected!r}")
        for expected in due:
            message = get()
            if message != expected:
                raise WrongMessageError(f"got {message!r} in the place of {expected!r}")
        return {"first": first, "last": perf_counter()}


class SmallObjects(Case):
    """Small objects through an unbounded Queue."""

    @staticmethod
    def make(start: int, count: int) -> Sequence[Any]:
        """Return `count` messages, numbered from `start`."""
        raise NotImplementedError

    def open(self, peer: Peer) -> Any:
        return peer.queue()

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        return [
            lambda queue: SmallProducer(queue, self.make),
            lambda queue: SmallConsumer(queue, self.make),
        ]


class QueueInt(SmallObjects):
    name = "queue-int"
    summary = "small ints through a Queue, 1:1"
    make = staticmethod(payloads.ints)


class QueueTuple(SmallObjects):
    name = "queue-tuple"
    summary = "flat tuples (int, str, float) through a Queue, 1:1"
    make = staticmethod(payloads.tuples)


class LargeProducer(Part):
    """Puts large bytes objects, stamped just before."""

    def __init__(self, channel: Any, pool: payloads.StampedPool) -> None:
        super().__init__(channel)
        self._pool = pool

    def run(self) -> dict[str, Any]:
        put, stamped = self.channel.put, self._pool.stamped
        start = perf_counter()
        for number in range(self.lap.start, self.lap.start + self.lap.count):
            put(stamped(number))
        return {"put_seconds": perf_counter() - start}


class LargeConsumer(Part):
    """Gets them and checks their stamps, and some of them entirely."""

    def __init__(self, channel: Any, pool: payloads.StampedPool) -> None:
        super().__init__(channel)
        self._pool = pool

    def run(self) -> dict[str, Any]:
        get, check = self.channel.get, self._pool.check
        every = 1 if self.lap.check_all else payloads.FULL_CHECK_EVERY
        start = self.lap.start
        message = get()
        first = perf_counter()
        check(start, message, fully=True)
        for number in range(start + 1, start + self.lap.count):
            message = get()
            check(number, message, fully=number % every == 0)
        return {"first": first, "last": perf_counter()}


class QueueLarge(Case):
    """Large bytes objects through a Queue that is bounded, so that no backlog fills the memory."""

    size: ClassVar[int]
    bound: ClassVar[int] = 8
    first_count = 64
    most_count = 20_000

    def open(self, peer: Peer) -> Any:
        return peer.queue(self.bound)

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        def pool() -> payloads.StampedPool:
            # One is in the consumer's hands, and one in the producer's.
            return payloads.StampedPool(self.size, self.bound + 2)

        return [
            lambda queue: LargeProducer(queue, pool()),
            lambda queue: LargeConsumer(queue, pool()),
        ]


class Queue1MiB(QueueLarge):
    name = "queue-1MiB"
    summary = "bytes of 1 MiB through a Queue(8), 1:1"
    size = 1024**2


CASES: list[type[Case]] = [QueueInt, QueueTuple, Queue1MiB]
