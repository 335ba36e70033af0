"""What traffic costs in CPU time when there is little of it, and what pickling alone costs."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from time import perf_counter, perf_counter_ns, process_time, sleep
from typing import Any

from fastipc._bench import payloads
from fastipc._bench.case import Case, Lap, Part, percentiles
from fastipc._bench.cases_queue import due_of
from fastipc._bench.payloads import WrongMessageError
from fastipc._bench.peers import Channel, Need, Peer

# Seconds between two messages.
PACE = 1e-4
IDLE_SECONDS = 2.0
IDLE_SECONDS_WARM_UP = 0.1


class PacedProducer(Part):
    """Puts the time at each multiple of the pace, sleeping until then."""

    def __init__(self, channel: Channel | None) -> None:
        super().__init__(channel)
        self._end = None if channel is None else channel.sender()

    def run(self) -> dict[str, Any]:
        encode = None if self.channel is None else self.channel.encode
        sent = [0] * self.lap.count
        begin = perf_counter()
        for number in range(self.lap.count):
            # To absolute times: what one sleep lasts too long is not added up.
            wait = begin + (number + 1) * PACE - perf_counter()
            if wait > 0:
                sleep(wait)
            sent[number] = now = perf_counter_ns()
            if self._end is not None:
                self._end.put(now if encode is None else encode(now))
        self._sent = sent
        return {"first": begin, "last": perf_counter()}

    def verify(self) -> dict[str, Any]:
        return {"sent_sum": sum(self._sent), "sent_last": self._sent[-1]}


class PacedConsumer(Part):
    """Gets them, and notes how old each is."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self._end = channel.receiver()

    def run(self) -> dict[str, Any]:
        get, decode = self._end.get, self.channel.decode
        received = [0] * self.lap.count
        ages = [0] * self.lap.count
        for number in range(self.lap.count):
            message = get() if decode is None else decode(get())
            ages[number] = perf_counter_ns() - message
            received[number] = message
        self._received, self._ages = received, ages
        return {"last": perf_counter()}

    def verify(self) -> dict[str, Any]:
        received = self._received
        if any(after <= before for before, after in pairwise(received)):
            raise WrongMessageError("messages have overtaken each other")
        found = {"received_sum": sum(received), "received_last": received[-1]}
        return {**found, **percentiles(self._ages)}


class QueuePaced(Case):
    name = "queue-paced"
    summary = "ints at 10,000/s through a Queue: CPU time a message, all processes and the pacing"
    unit = "us CPU"
    more_is_better = False
    first_count = 1_000
    most_count = 50_000

    def open(self, peer: Peer) -> Any:
        return peer.queue(Need(item_bytes=24))

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        return [PacedProducer, PacedConsumer]

    def check(self, lap: Lap, measured: Sequence[dict[str, Any]]) -> None:
        producer, consumer = measured
        for key in ("sum", "last"):
            if producer[f"sent_{key}"] != consumer[f"received_{key}"]:
                raise WrongMessageError(f"the {key} of what arrived is not that of what was put")

    def combine(self, lap: Lap, measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
        producer, consumer = measured
        cpu_seconds = sum(part["cpu_seconds"] for part in measured)
        return {
            "value": cpu_seconds / lap.count * 1e6,
            "seconds": consumer["last"] - producer["first"],
            **{f"latency_{key}": consumer[key] for key in ("p50_us", "p99_us", "p99.9_us")},
        }


class Pacing(Case):
    name = "pacing"
    summary = "the pacing of queue-paced alone, without messages: the floor of its CPU time"
    unit = "us CPU"
    more_is_better = False
    first_count = 1_000
    most_count = 50_000

    def open(self, peer: Peer) -> Any:
        return None

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        return [PacedProducer]

    def combine(self, lap: Lap, measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
        (producer,) = measured
        return {
            "value": producer["cpu_seconds"] / lap.count * 1e6,
            "seconds": producer["last"] - producer["first"],
        }


class IdleProducer(Part):
    """Waits, then puts one message."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self._end = channel.sender()

    def run(self) -> dict[str, Any]:
        encode = self.channel.encode
        before = process_time()
        begin = perf_counter()
        sleep(IDLE_SECONDS_WARM_UP if self.lap.check_all else IDLE_SECONDS)
        idle = process_time() - before
        self._end.put(self.lap.start if encode is None else encode(self.lap.start))
        return {"first": begin, "last": perf_counter(), "idle_cpu": idle}


class IdleConsumer(Part):
    """Waits for it."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self._end = channel.receiver()

    def run(self) -> dict[str, Any]:
        decode = self.channel.decode
        before = process_time()
        message = self._end.get()
        idle = process_time() - before
        if decode is not None:
            message = decode(message)
        if message != self.lap.start:
            raise WrongMessageError(f"got {message!r} in the place of {self.lap.start}")
        return {"idle_cpu": idle}


class QueueIdle(Case):
    name = "queue-idle"
    summary = "CPU time of both processes while a consumer waits two seconds in get()"
    unit = "ms CPU"
    more_is_better = False
    first_count = 1
    most_count = 1

    def open(self, peer: Peer) -> Any:
        return peer.queue(Need(item_bytes=24))

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        return [IdleProducer, IdleConsumer]

    def combine(self, lap: Lap, measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
        producer = measured[0]
        return {
            "value": sum(part["idle_cpu"] for part in measured) * 1000,
            "seconds": producer["last"] - producer["first"],
        }


class Pickler(Part):
    """Pickles, unpickles and checks as a KeyedConsumer does, without any transport."""

    def __init__(self, make: Callable[[int, int], Iterator[Any]]) -> None:
        super().__init__(None)
        self._make = make

    def prepare(self, lap: Lap) -> None:
        super().prepare(lap)
        self._messages = list(self._make(lap.start, lap.count))
        self._due = due_of(self._make(lap.start, lap.count), check_all=lap.check_all)

    def run(self) -> dict[str, Any]:
        dumps, loads = pickle.dumps, pickle.loads
        first = perf_counter()
        pickles = [dumps(message, 5) for message in self._messages]
        between = perf_counter()
        for data, key, expected in zip(pickles, *self._due, strict=True):
            seen = loads(data)
            if key is not None:
                seen = key(seen)
            if seen != expected:
                raise WrongMessageError(f"{seen!r} was unpickled in the place of {expected!r}")
        last = perf_counter()
        return {"first": first, "last": last, "dumps": between - first, "loads": last - between}


class PickleAlone(Case):
    """What a queue can reach at most whose two sides only pickle and unpickle, side by side.

    With the check that every consumer makes: it is none of the queue's time.
    """

    most_count = 100_000

    @staticmethod
    def make(start: int, count: int) -> Iterator[Any]:
        """Return `count` messages, numbered from `start`."""
        raise NotImplementedError

    def open(self, peer: Peer) -> Any:
        return None

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        return [lambda channel: Pickler(self.make)]

    def combine(self, lap: Lap, measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
        (pickler,) = measured
        slower = max(pickler["dumps"], pickler["loads"])
        return {"value": lap.count / slower, "seconds": pickler["last"] - pickler["first"]}


class PickleNested(PickleAlone):
    name = "pickle-nested"
    summary = "nested dicts: pickle's dumps alone, or loads and the check, whichever is slower"
    make = staticmethod(payloads.nested)


class PickleDataclass(PickleAlone):
    name = "pickle-dataclass"
    summary = "a dataclass: pickle's dumps alone, or loads and the check, whichever is slower"
    make = staticmethod(payloads.readings)


CASES: list[type[Case]] = [QueuePaced, Pacing, QueueIdle, PickleNested, PickleDataclass]
