"""Queue, one producer and one consumer: how many objects a second arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from time import perf_counter, perf_counter_ns
from typing import Any, ClassVar

from fastipc._bench import payloads
from fastipc._bench.case import Case, Lap, Part, Roundtrip, TimesPart
from fastipc._bench.payloads import WrongMessageError
from fastipc._bench.peers import Channel, Need, Peer, UnsupportedError

Maker = Callable[[int, int], Iterator[Any]]

KIB = 1024
MIB = 1024**2

# The first lap of a case with large messages moves about this much.
FIRST_BYTES = 128 * MIB


class SmallProducer(Part):
    """Puts messages that were made in advance."""

    def __init__(self, channel: Channel, make: Maker) -> None:
        super().__init__(channel)
        self._make = make
        self._end = channel.sender()

    def prepare(self, lap: Lap) -> None:
        self._messages = list(self._make(lap.start, lap.count))

    def run(self) -> dict[str, Any]:
        put, encode = self._end.put, self.channel.encode
        start = perf_counter()
        if encode is None:
            for message in self._messages:
                put(message)
        else:
            for message in self._messages:
                put(encode(message))
        return {"put_seconds": perf_counter() - start}


class SmallConsumer(Part):
    """Gets them and compares each with the one that is due.

    Comparing costs no more than keeping them all for later: what is dropped at once leaves its
    memory, warm, to the next message.
    """

    def __init__(self, channel: Channel, make: Maker) -> None:
        super().__init__(channel)
        self._make = make
        self._end = channel.receiver()

    def prepare(self, lap: Lap) -> None:
        self._expected = list(self._make(lap.start, lap.count))

    def run(self) -> dict[str, Any]:
        get, decode = self._end.get, self.channel.decode
        due = iter(self._expected)
        expected = next(due)
        message = get() if decode is None else decode(get())
        first = perf_counter()
        if message != expected:
            raise WrongMessageError(f"got {message!r} in the place of {expected!r}")
        if decode is None:
            for expected in due:
                message = get()
                if message != expected:
                    raise WrongMessageError(f"got {message!r} in the place of {expected!r}")
        else:
            for expected in due:
                message = decode(get())
                if message != expected:
                    raise WrongMessageError(f"got {message!r} in the place of {expected!r}")
        return {"first": first, "last": perf_counter()}


def due_of(
    messages: Iterable[Any], *, check_all: bool
) -> tuple[list[Callable[[Any], Any] | None], list[Any]]:
    """Return what to look at in each message, None for all of it, and what is due there.

    Two lists: a tuple for each message would be one more object to be fetched from far away.
    """
    every = 1 if check_all else payloads.FULL_CHECK_EVERY
    keys, due = [], []
    for at, message in enumerate(messages):
        key = None if at % every == 0 else payloads.number_of(message)
        keys.append(key)
        due.append(message if key is None else key(message))
    return keys, due


class KeyedConsumer(Part):
    """Gets messages of which some would take as long to be compared as to come here.

    Of these it looks at the number, and compares one in FULL_CHECK_EVERY whole; all of them while
    it warms up.
    """

    def __init__(self, channel: Channel, make: Maker) -> None:
        super().__init__(channel)
        self._make = make
        self._end = channel.receiver()

    def prepare(self, lap: Lap) -> None:
        self._due = due_of(self._make(lap.start, lap.count), check_all=lap.check_all)

    def run(self) -> dict[str, Any]:
        get, decode = self._end.get, self.channel.decode
        due = zip(*self._due, strict=True)
        key, expected = next(due)
        message = get() if decode is None else decode(get())
        first = perf_counter()
        if message != expected:
            raise WrongMessageError(f"got {message!r} in the place of {expected!r}")
        if decode is None:
            for key, expected in due:
                seen = get()
                if key is not None:
                    seen = key(seen)
                if seen != expected:
                    raise WrongMessageError(f"got {seen!r} in the place of {expected!r}")
        else:
            for key, expected in due:
                seen = decode(get())
                if key is not None:
                    seen = key(seen)
                if seen != expected:
                    raise WrongMessageError(f"got {seen!r} in the place of {expected!r}")
        return {"first": first, "last": perf_counter()}


class SmallObjects(Case):
    """Small objects through an unbounded Queue."""

    consumer: ClassVar[type[SmallConsumer] | type[KeyedConsumer]] = SmallConsumer

    need: ClassVar[Need] = Need()

    @staticmethod
    def make(start: int, count: int) -> Iterator[Any]:
        """Return `count` messages, numbered from `start`."""
        raise NotImplementedError

    def open(self, peer: Peer) -> Any:
        return peer.queue(self.need)

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        return [
            lambda queue: SmallProducer(queue, self.make),
            lambda queue: self.consumer(queue, self.make),
        ]


class QueueInt(SmallObjects):
    name = "queue-int"
    summary = "small ints through a Queue, 1:1"
    need = Need(item_bytes=24)
    make = staticmethod(payloads.ints)


class QueueTuple(SmallObjects):
    name = "queue-tuple"
    summary = "flat tuples (int, str, float) through a Queue, 1:1"
    make = staticmethod(payloads.tuples)


class QueueDict(SmallObjects):
    name = "queue-dict5"
    summary = "flat dicts with five keys through a Queue, 1:1"
    need = Need(item_bytes=128)
    most_count = 300_000
    make = staticmethod(payloads.dicts)


class QueueNested(SmallObjects):
    name = "queue-nested"
    summary = "nested dicts through a Queue, 1:1"
    need = Need(item_bytes=256)
    most_count = 100_000
    make = staticmethod(payloads.nested)
    consumer = KeyedConsumer


class QueueDataclass(SmallObjects):
    name = "queue-dataclass"
    summary = "instances of a dataclass through a Queue, 1:1"
    need = Need(item_bytes=256)
    most_count = 100_000
    make = staticmethod(payloads.readings)
    consumer = KeyedConsumer


class QueueMix(SmallObjects):
    name = "queue-mix"
    summary = "ints, tuples, dicts, nested, dataclasses and bytes, shuffled, through a Queue, 1:1"
    need = Need(item_bytes=256)
    most_count = 150_000
    make = staticmethod(payloads.mixed)
    consumer = KeyedConsumer


def _part_of_mix(case: type[SmallObjects]) -> type[SmallObjects]:
    """Return a case as part of the mixture: as many messages, and the same loop around them.

    The consumer of a mixture looks up, for each message, how to check it. Where messages are of one
    kind it need not, which makes 13 ns of the 34 that an int takes.
    """
    members = {
        "name": case.name.replace("queue-", "queue-mix-"),
        "summary": f"{case.summary}, checked as in a mixture",
        "most_count": QueueMix.most_count,
        "consumer": KeyedConsumer,
    }
    return type(f"{case.__name__}OfMix", (case,), members)


class SmallBytes(SmallObjects):
    """bytes objects that are made in advance."""

    size: ClassVar[int]

    def open(self, peer: Peer) -> Any:
        return peer.queue(Need("bytes", self.size))


def _small_bytes(name: str, size: int) -> type[SmallBytes]:
    members = {
        "name": f"queue-{name}",
        "summary": f"bytes of {_spaced(name)} through a Queue, 1:1",
        "size": size,
        "most_count": min(1_000_000, 100 * MIB // size),
        "make": staticmethod(payloads.blobs(size)),
    }
    return type(f"Queue{name}", (SmallBytes,), members)


def _spaced(name: str) -> str:
    digits = name.rstrip("KMiB")
    return f"{digits} {name[len(digits) :]}"


class LargeProducer(Part):
    """Puts large bytes objects, stamped just before."""

    def __init__(self, channel: Channel, pool: payloads.StampedPool) -> None:
        super().__init__(channel)
        self._pool = pool
        self._end = channel.sender()

    def run(self) -> dict[str, Any]:
        put, stamped = self._end.put, self._pool.stamped
        start = perf_counter()
        for number in range(self.lap.start, self.lap.start + self.lap.count):
            put(stamped(number))
        return {"put_seconds": perf_counter() - start}


class LargeConsumer(Part):
    """Gets them and checks their stamps, and some of them entirely."""

    def __init__(self, channel: Channel, pool: payloads.StampedPool) -> None:
        super().__init__(channel)
        self._pool = pool
        self._end = channel.receiver()

    def run(self) -> dict[str, Any]:
        get, check = self._end.get, self._pool.check
        every = 1 if self.lap.check_all else payloads.FULL_CHECK_EVERY
        start = self.lap.start
        message = get()
        first = perf_counter()
        check(start, message, fully=True)
        for number in range(start + 1, start + self.lap.count):
            message = get()
            check(number, message, fully=number % every == 0)
        return {"first": first, "last": perf_counter()}


class LargeBytes(Case):
    """Large bytes objects through a Queue that is bounded, so that no backlog fills the memory."""

    size: ClassVar[int]
    bound: ClassVar[int] = 8

    def open(self, peer: Peer) -> Any:
        return peer.queue(Need("bytes", self.size, self.bound))

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        def pool() -> payloads.StampedPool:
            # One is in the consumer's hands, and one in the producer's.
            return payloads.StampedPool(self.size, self.bound + 2)

        return [
            lambda queue: LargeProducer(queue, pool()),
            lambda queue: LargeConsumer(queue, pool()),
        ]


def _large_bytes(name: str, size: int, bound: int = 8) -> type[LargeBytes]:
    members = {
        "name": f"queue-{name}",
        "summary": f"bytes of {_spaced(name)} through a Queue({bound}), 1:1",
        "size": size,
        "bound": bound,
        "first_count": max(4, FIRST_BYTES // 2 // max(size, MIB)),
        "most_count": 20_000 if size >= MIB else 100_000,
    }
    return type(f"Queue{name}", (LargeBytes,), members)


class QueueAsker(TimesPart):
    """Puts an int, waits for its return, and notes how long that took."""

    def __init__(self, channels: Any) -> None:
        super().__init__(channels)
        there, back = channels
        self._there, self._back = there.sender(), back.receiver()

    def run(self) -> dict[str, Any]:
        put, get, times = self._there.put, self._back.get, self._times
        encode, decode = self.channel[0].encode, self.channel[1].decode
        numbers = range(self.lap.start, self.lap.start + self.lap.count)
        first = perf_counter()
        times[0] = perf_counter_ns()
        if encode is None or decode is None:
            for index, number in enumerate(numbers, 1):
                put(number)
                found = get()
                if found != number:
                    raise WrongMessageError(f"{number} came back as {found!r}")
                times[index] = perf_counter_ns()
        else:
            for index, number in enumerate(numbers, 1):
                put(encode(number))
                found = decode(get())
                if found != number:
                    raise WrongMessageError(f"{number} came back as {found!r}")
                times[index] = perf_counter_ns()
        return {"first": first, "last": perf_counter(), **self.percentiles()}


class QueueEcho(Part):
    """Puts back what it gets."""

    def __init__(self, channels: Any) -> None:
        super().__init__(channels)
        there, back = channels
        self._there, self._back = there.receiver(), back.sender()

    def run(self) -> dict[str, Any]:
        get, put = self._there.get, self._back.put
        encode, decode = self.channel[1].encode, self.channel[0].decode
        if encode is None or decode is None:
            for _ in range(self.lap.count):
                put(get())
        else:
            for _ in range(self.lap.count):
                put(encode(decode(get())))
        return {}


class QueueIntRoundtrip(Roundtrip):
    name = "queue-int-roundtrip"
    summary = "an int there and back through two Queues, both sides awake, median"

    def open(self, peer: Peer) -> Any:
        need = Need(item_bytes=24)
        return peer.queue(need), peer.queue(need)

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        return [QueueAsker, QueueEcho]


class ArmedConsumer(SmallConsumer):
    """One whose process has asked for the queue's descriptor."""

    def __init__(self, channel: Channel, make: Maker) -> None:
        super().__init__(channel, make)
        channel.queue.fileno()


class QueueIntArmed(SmallObjects):
    name = "queue-int-armed"
    summary = "small ints through a Queue whose fileno() was asked for, 1:1"
    make = staticmethod(payloads.ints)

    def open(self, peer: Peer) -> Any:
        channel = peer.queue(Need(item_bytes=24))
        if not hasattr(channel.queue, "fileno"):
            raise UnsupportedError(f"a queue of {peer.name} has no fileno()")
        return channel

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        return [
            lambda queue: SmallProducer(queue, self.make),
            lambda queue: ArmedConsumer(queue, self.make),
        ]


CASES: list[type[Case]] = [
    QueueInt,
    QueueTuple,
    QueueDict,
    QueueNested,
    QueueDataclass,
    QueueMix,
    _part_of_mix(QueueInt),
    _part_of_mix(QueueTuple),
    _part_of_mix(QueueDict),
    _part_of_mix(_small_bytes("64B", 64)),
    _small_bytes("16B", 16),
    _small_bytes("64B", 64),
    _small_bytes("1KiB", KIB),
    _large_bytes("16KiB", 16 * KIB, 64),
    _large_bytes("256KiB", 256 * KIB),
    _large_bytes("1MiB", MIB),
    _large_bytes("4MiB", 4 * MIB, 4),
    _large_bytes("64MiB", 64 * MIB, 2),
    QueueIntRoundtrip,
    QueueIntArmed,
]
