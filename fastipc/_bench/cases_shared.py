"""One Queue with several producers or consumers.

4:4 has more processes than small machines have CPUs; those behind it in the list are for machines
with more of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise, repeat
from time import perf_counter
from typing import Any, ClassVar

from fastipc._bench.case import Case, Lap, Part
from fastipc._bench.payloads import WrongMessageError
from fastipc._bench.peers import Channel, Need, Peer


def _even(count: int, step: int) -> int:
    """Return the largest number up to `count` that all producers and consumers can share."""
    return max(count - count % step, step)


class Producer(Part):
    """Puts every n-th number."""

    def __init__(self, channel: Channel, index: int, producers: int, consumers: int) -> None:
        super().__init__(channel)
        self._index = index
        self._producers = producers
        self._step = producers * consumers
        self._end = channel.sender(index)

    def prepare(self, lap: Lap) -> None:
        count = _even(lap.count, self._step)
        self._messages = list(range(lap.start + self._index, lap.start + count, self._producers))

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


class Consumer(Part):
    """Gets its share, whichever messages that are, and looks at them when the clock has stopped."""

    def __init__(self, channel: Channel, index: int, producers: int, consumers: int) -> None:
        super().__init__(channel)
        self._producers = producers
        self._consumers = consumers
        self._end = channel.receiver(index)

    def run(self) -> dict[str, Any]:
        get, decode = self._end.get, self.channel.decode
        share = _even(self.lap.count, self._producers * self._consumers) // self._consumers
        received = [get()]
        first = perf_counter()
        received += (
            [get() for _ in repeat(None, share - 1)]
            if decode is None
            else [decode(get()) for _ in repeat(None, share - 1)]
        )
        last = perf_counter()
        if decode is not None:
            received[0] = decode(received[0])
        self._received = received
        return {"first": first, "last": last}

    def verify(self) -> dict[str, Any]:
        """Check the order of each producer's messages; tell sums, from which all can be checked."""
        received, start = self._received, self.lap.start
        for index in range(self._producers):
            one = [number for number in received if (number - start) % self._producers == index]
            for before, after in pairwise(one):
                if after <= before:
                    raise WrongMessageError(f"{after} of producer {index} came after {before}")
        return {
            "received": len(received),
            "sum": sum(received),
            "sum_of_squares": sum(number * number for number in received),
        }


class Shared(Case):
    """Small ints, shared evenly by the consumers."""

    producers: ClassVar[int]
    consumers: ClassVar[int]

    def open(self, peer: Peer) -> Any:
        need = Need(item_bytes=24, senders=self.producers, receivers=self.consumers)
        return peer.queue(need)

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        def part(kind: type[Producer] | type[Consumer], index: int) -> Callable[[Any], Part]:
            return lambda channel: kind(channel, index, self.producers, self.consumers)

        return [
            *(part(Producer, index) for index in range(self.producers)),
            *(part(Consumer, index) for index in range(self.consumers)),
        ]

    def _numbers(self, lap: Lap) -> range:
        step = self.producers * self.consumers
        return range(lap.start, lap.start + _even(lap.count, step))

    def check(self, lap: Lap, measured: Sequence[dict[str, Any]]) -> None:
        numbers = self._numbers(lap)
        expected = {
            "received": len(numbers),
            "sum": sum(numbers),
            "sum_of_squares": sum(number * number for number in numbers),
        }
        for key, due in expected.items():
            found = sum(part.get(key, 0) for part in measured)
            if found != due:
                raise WrongMessageError(f"{key} over all consumers is {found}, not {due}")

    def combine(self, lap: Lap, measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
        first = min(part["first"] for part in measured if "first" in part)
        last = max(part["last"] for part in measured if "last" in part)
        return {"value": (len(self._numbers(lap)) - 1) / (last - first), "seconds": last - first}


NUMBERS = {1: "one", 2: "two", 4: "four", 8: "eight"}


def _parties(count: int, what: str) -> str:
    return f"{NUMBERS[count]} {what}" + ("s" if count > 1 else "")


def _shared(producers: int, consumers: int) -> type[Shared]:
    sides = f"{_parties(producers, 'producer')}, {_parties(consumers, 'consumer')}"
    members = {
        "name": f"queue-int-{producers}to{consumers}",
        "summary": f"small ints through a Queue, {sides}",
        "producers": producers,
        "consumers": consumers,
    }
    return type(f"QueueInt{producers}To{consumers}", (Shared,), members)


CASES: list[type[Case]] = [
    _shared(producers, consumers)
    for producers, consumers in ((2, 1), (1, 2), (4, 4), (2, 2), (8, 8), (8, 1), (1, 8))
]
