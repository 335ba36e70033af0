"""Many ints at once: in batches, with task_done(), and as a burst that waits to be drained."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from fastipc._bench.case import Case, Lap, Part
from fastipc._bench.cases_queue import SmallProducer
from fastipc._bench.memory import memory_bytes
from fastipc._bench.payloads import FULL_CHECK_EVERY, WrongMessageError, ints
from fastipc._bench.peers import Channel, Need, Peer

BATCH = 100


class BatchProducer(Part):
    """Puts a hundred at a time: with put_many() where there is one, else as a list."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self._end = channel.sender()

    def prepare(self, lap: Lap) -> None:
        numbers = list(ints(lap.start, lap.count - lap.count % BATCH))
        self._batches = [numbers[at : at + BATCH] for at in range(0, len(numbers), BATCH)]

    def run(self) -> dict[str, Any]:
        put = getattr(self._end, "put_many", self._end.put)
        encode = None if hasattr(self._end, "put_many") else self.channel.encode
        start = perf_counter()
        if encode is None:
            for batch in self._batches:
                put(batch)
        else:
            for batch in self._batches:
                put(encode(batch))
        return {"put_seconds": perf_counter() - start}


class BatchConsumer(Part):
    """Gets up to a hundred at a time, or the lists, and checks each batch as it comes.

    Comparing every number takes as long as making the int (14 and 15 ns). So of each batch the
    ends, the length and the sum are looked at, and one in FULL_CHECK_EVERY compared; all of them
    while it warms up. Not later: what is kept costs fresh memory for every number.
    """

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self._end = channel.receiver()

    def prepare(self, lap: Lap) -> None:
        super().prepare(lap)
        self._count = lap.count - lap.count % BATCH

    def run(self) -> dict[str, Any]:
        count, due = self._count, self.lap.start
        every = 1 if self.lap.check_all else FULL_CHECK_EVERY
        get, get_many = self._end.get, getattr(self._end, "get_many", None)
        decode = self.channel.decode
        first = 0.0
        done = before = batches = 0
        while done < count:
            if get_many is not None:
                batch = get_many(BATCH)
            else:
                batch = get() if decode is None else decode(get())
            size = len(batch)
            if size == 0:
                raise WrongMessageError(f"got an empty batch where {due} is due")
            if done == 0:
                first, before = perf_counter(), size
            last = due + size - 1
            if batch[0] != due or batch[-1] != last or sum(batch) != (due + last) * size // 2:
                raise WrongMessageError(f"got {batch!r} in the place of {due} to {last}")
            if batches % every == 0 and batch != list(range(due, due + size)):
                raise WrongMessageError(f"got {batch!r} in the place of {due} to {last}")
            batches += 1
            done += size
            due += size
        return {"first": first, "last": perf_counter(), "timed": count - before}


class QueueMany(Case):
    name = "queue-many-100"
    summary = "ints, a hundred at once: put_many and get_many, or a list through a Queue"
    unit = "items/s"

    first_count = 20_000

    def open(self, peer: Peer) -> Any:
        return peer.queue(Need(item_bytes=KIB))

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        return [BatchProducer, BatchConsumer]

    def combine(self, lap: Lap, measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
        consumer = next(part for part in measured if "timed" in part)
        seconds = consumer["last"] - consumer["first"]
        return {"value": consumer["timed"] / seconds, "seconds": seconds}


KIB = 1024


class JoinableProducer(SmallProducer):
    """Waits for all to be done, after the clock has stopped."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel, ints)

    def verify(self) -> dict[str, Any]:
        self._end.join()
        return {}


class JoinableConsumer(Part):
    """Gets each and says that it is done."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self._end = channel.receiver()

    def prepare(self, lap: Lap) -> None:
        self._expected = list(ints(lap.start, lap.count))

    def run(self) -> dict[str, Any]:
        get, task_done = self._end.get, self._end.task_done
        due = iter(self._expected)
        expected = next(due)
        message = get()
        first = perf_counter()
        task_done()
        if message != expected:
            raise WrongMessageError(f"got {message!r} in the place of {expected!r}")
        for expected in due:
            message = get()
            task_done()
            if message != expected:
                raise WrongMessageError(f"got {message!r} in the place of {expected!r}")
        return {"first": first, "last": perf_counter()}


class Joinable(Case):
    name = "joinable-int"
    summary = "small ints through a JoinableQueue, task_done() for each, 1:1"

    def open(self, peer: Peer) -> Any:
        return peer.joinable(Need(item_bytes=24))

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        return [JoinableProducer, JoinableConsumer]


class Burster(Part):
    """Puts all while nobody takes any, then looks at the memory and lets the drainer begin.

    The numbers are not made in advance: a program's burst is not, and a library that keeps the
    objects themselves until it sends them would not be charged for their memory.
    """

    def __init__(self, channels: Any) -> None:
        super().__init__(channels)
        self.channel, (self._baton, other) = channels
        other.close()
        self._end = self.channel.sender()

    def run(self) -> dict[str, Any]:
        put, encode = self._end.put, self.channel.encode
        numbers = range(self.lap.start, self.lap.start + self.lap.count)
        start = perf_counter()
        if encode is None:
            for number in numbers:
                put(number)
        else:
            for number in numbers:
                put(encode(number))
        put_seconds = perf_counter() - start
        drainer = self._baton.recv()
        memory = memory_bytes([os.getpid(), os.getppid(), drainer])
        self._baton.send(None)
        return {"put_seconds": put_seconds, "memory_bytes": memory}


class Drainer(Part):
    """Takes all, once they are there."""

    def __init__(self, channels: Any) -> None:
        super().__init__(channels)
        self.channel, (other, self._baton) = channels
        other.close()
        self._end = self.channel.receiver()

    def run(self) -> dict[str, Any]:
        get, decode = self._end.get, self.channel.decode
        self._baton.send(os.getpid())
        self._baton.recv()
        start = perf_counter()
        for number in range(self.lap.start, self.lap.start + self.lap.count):
            found = get() if decode is None else decode(get())
            if found != number:
                raise WrongMessageError(f"got {found!r} in the place of {number}")
        return {"get_seconds": perf_counter() - start}


class QueueBurst(Case):
    name = "queue-burst-million"
    summary = "a million ints put while nobody takes any, then taken; seconds in all"
    unit = "s"
    more_is_better = False
    first_count = 20_000
    fixed_count = 1_000_000

    def open(self, peer: Peer) -> Any:
        need = Need(item_bytes=24, backlog=self.fixed_count or 0)
        # The baton is multiprocessing's for every peer, and outside of what is timed.
        return peer.queue(need), multiprocessing.Pipe()

    def close(self, channel: Any) -> None:
        for end in channel[1]:
            end.close()

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        return [Burster, Drainer]

    def combine(self, lap: Lap, measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
        burster, drainer = measured
        seconds = burster["put_seconds"] + drainer["get_seconds"]
        return {
            "value": seconds / lap.count * 1e6,
            "seconds": seconds,
            "put_seconds": burster["put_seconds"],
            "get_seconds": drainer["get_seconds"],
            "memory_mib": burster["memory_bytes"] / 1024**2,
        }


CASES: list[type[Case]] = [QueueMany, Joinable, QueueBurst]
