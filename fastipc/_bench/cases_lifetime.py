"""What it costs to make a queue or a pipe, to inherit one, and to be rid of it again."""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Callable, Sequence
from itertools import pairwise
from multiprocessing import util
from statistics import median
from time import perf_counter, perf_counter_ns, sleep
from typing import Any

from fastipc._bench.case import Case, Lap, Part
from fastipc._bench.payloads import WrongMessageError
from fastipc._bench.peers import Channel, Need, Peer, UnsupportedError

NEED = Need(item_bytes=24)


class Maker(Part):
    """Makes something, closes it and drops it, again and again."""

    def prepare(self, lap: Lap) -> None:
        super().prepare(lap)
        self._times = [0] * (lap.count + 1)

    def cycle(self) -> None:
        """Do it once."""
        raise NotImplementedError

    def run(self) -> dict[str, Any]:
        cycle, times = self.cycle, self._times
        first = perf_counter()
        times[0] = perf_counter_ns()
        for number in range(1, self.lap.count + 1):
            cycle()
            times[number] = perf_counter_ns()
        last = perf_counter()
        cycles = [after - before for before, after in pairwise(times)]
        return {"first": first, "last": last, "p50_us": median(cycles) / 1000}


class QueueMaker(Maker):
    """Makes queues."""

    def cycle(self) -> None:
        self.channel.queue(NEED).close()

    def verify(self) -> dict[str, Any]:
        # Outside the clock: what was made so quickly works.
        channel = self.channel.queue(NEED)
        receiver, sender = channel.receiver(), channel.sender()
        sender.put((channel.encode or _same)(self.lap.start))
        found = (channel.decode or _same)(receiver.get())
        channel.close()
        if found != self.lap.start:
            raise WrongMessageError(f"put {self.lap.start} into a new queue and got {found!r}")
        return {}


class PipeMaker(Maker):
    """Makes pipes."""

    def cycle(self) -> None:
        first, second = self.channel.make_pipe()
        first.close()
        second.close()

    def verify(self) -> dict[str, Any]:
        first, second = self.channel.make_pipe()
        first.send(self.lap.start)
        found = second.recv()
        first.close()
        second.close()
        if found != self.lap.start:
            raise WrongMessageError(f"sent {self.lap.start} through a pipe and received {found!r}")
        return {}


def _same(message: Any) -> Any:
    return message


class CreateClose(Case):
    """Makes them one after the other."""

    unit = "us"
    more_is_better = False
    first_count = 200
    most_count = 20_000

    def combine(self, lap: Lap, measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
        (maker,) = measured
        return {"value": maker["p50_us"], "seconds": maker["last"] - maker["first"]}


class QueueCreateClose(CreateClose):
    name = "queue-create-close"
    summary = "Queue(), close() and the end of the object, median"

    def open(self, peer: Peer) -> Any:
        if not peer.queue(NEED).inherited:
            raise UnsupportedError(f"{peer.name} makes its ends in the processes that use them")
        return peer

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        return [QueueMaker]


class PipeCreateClose(CreateClose):
    name = "pipe-create-close"
    summary = "Pipe(), both close() and the end of the objects, median"

    def open(self, peer: Peer) -> Any:
        for end in peer.make_pipe():
            end.close()
        return peer

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        return [PipeMaker]


FIRST_USE = struct.Struct("<QQ")


class Forker(Part):
    """Forks children that use the queue for the first time, one after the other."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self._sender, self._receiver = channel.sender(), channel.receiver()
        self._encode = channel.encode or _same
        self._decode = channel.decode or _same

    def run(self) -> dict[str, Any]:
        gets, puts = [], []
        first = perf_counter()
        for number in range(self.lap.start, self.lap.start + self.lap.count):
            self._sender.put(self._encode(number))
            # A library with a thread that sends has sent by then, so that no child waits for it.
            sleep(0.001)
            get_ns, put_ns = self._child()
            gets.append(get_ns)
            puts.append(put_ns)
            found = self._decode(self._receiver.get())
            if found != -number:
                raise WrongMessageError(f"the child put {-number}, and {found!r} arrived")
        last = perf_counter()
        return {
            "first": first,
            "last": last,
            "get_us": median(gets) / 1000,
            "put_us": median(puts) / 1000,
        }

    def _child(self) -> tuple[int, int]:
        """Have a child get a number and put its negative; returns the nanoseconds of both."""
        report, reply = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                # As multiprocessing.Process does in the child, for the sake of its own queues.
                util._run_after_forkers()  # type: ignore[attr-defined]
                begin = perf_counter_ns()
                number = self._decode(self._receiver.get())
                between = perf_counter_ns()
                self._sender.put(self._encode(-number))
                end = perf_counter_ns()
                os.write(reply, FIRST_USE.pack(between - begin, end - between))
                if hasattr(self._sender, "join_thread"):
                    self._sender.close()
                    self._sender.join_thread()
                status = 0
            finally:
                os._exit(status)
        os.close(reply)
        data = os.read(report, FIRST_USE.size)
        os.close(report)
        _, status = os.waitpid(pid, 0)
        if status != 0 or len(data) != FIRST_USE.size:
            raise RuntimeError(f"a child that used the queue ended with {status}")
        get_ns, put_ns = FIRST_USE.unpack(data)
        return get_ns, put_ns


class QueueFirstUse(Case):
    name = "queue-first-use"
    summary = "a forked child's first get() and first put() of a queue that its parent uses"
    unit = "us"
    more_is_better = False
    first_count = 10
    most_count = 200

    def open(self, peer: Peer) -> Any:
        channel = peer.queue(NEED)
        if not channel.inherited:
            raise UnsupportedError(f"{peer.name} makes its ends in the processes that use them")
        return channel

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        return [Forker]

    def combine(self, lap: Lap, measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
        (forker,) = measured
        return {
            "value": forker["get_us"] + forker["put_us"],
            "seconds": forker["last"] - forker["first"],
            "get_us": forker["get_us"],
            "put_us": forker["put_us"],
        }


def _open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class Counter(Part):
    """Counts the descriptors that something new has."""

    def __init__(self, peer: Peer, count: Callable[[Peer], int]) -> None:
        super().__init__(peer)
        self._count = count

    def run(self) -> dict[str, Any]:
        first = perf_counter()
        count = self._count(self.channel)
        return {"first": first, "last": perf_counter(), "descriptors": count}


class Descriptors(Case):
    """How many descriptors one thing has in one process; does not change with the machine."""

    unit = "descriptors"
    more_is_better = False
    first_count = 1
    most_count = 1

    @staticmethod
    def count(peer: Peer) -> int:
        """Return how many more are open."""
        raise NotImplementedError

    def open(self, peer: Peer) -> Any:
        return peer

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        return [lambda peer: Counter(peer, self.count)]

    def combine(self, lap: Lap, measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
        (counter,) = measured
        # A count needs no repetition: it stands for a whole measurement.
        return {"value": counter["descriptors"], "seconds": 1.0}


def _of_a_queue(peer: Peer) -> int:
    before = _open_descriptors()
    channel = peer.queue(NEED)
    sender, receiver = channel.sender(), channel.receiver()
    after = _open_descriptors()
    del sender, receiver
    channel.close()
    return after - before


def _of_an_end(peer: Peer, duplex: bool) -> int:
    counts = []
    for closed in (0, 1):
        before = _open_descriptors()
        ends = peer.make_pipe(duplex)
        ends[closed].close()
        counts.append(_open_descriptors() - before)
        ends[1 - closed].close()
    return max(counts)


class QueueDescriptors(Descriptors):
    name = "queue-descriptors"
    summary = "open descriptors of a new Queue, in one process"
    count = staticmethod(_of_a_queue)


class PipeOneWayDescriptors(Descriptors):
    name = "pipe-descriptors-oneway"
    summary = "open descriptors of an end of a Pipe(duplex=False)"
    count = staticmethod(lambda peer: _of_an_end(peer, False))


class PipeDuplexDescriptors(Descriptors):
    name = "pipe-descriptors-duplex"
    summary = "open descriptors of an end of a Pipe()"
    count = staticmethod(lambda peer: _of_an_end(peer, True))


class Killer(Part):
    """Kills a child that does nothing but put, again and again, and puts and gets after it."""

    def run(self) -> dict[str, Any]:
        put, get = self.channel.sender().put, self.channel.receiver().get
        blob = bytes(4096)
        times = []
        first = perf_counter()
        for number in range(self.lap.count):
            ready, begun = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.write(begun, b"!")
                while True:
                    put(blob)
                    get()
            os.read(ready, 1)
            os.close(ready)
            os.close(begun)
            sleep(0.002 + number % 16 * 1e-5)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            begin = perf_counter_ns()
            put(number)
            while get() != number:
                pass
            times.append(perf_counter_ns() - begin)
        return {
            "first": first,
            "last": perf_counter(),
            "p50_us": median(times) / 1000,
            "max_us": max(times) / 1000,
        }


class QueueAfterKill(Case):
    name = "queue-after-kill"
    summary = "put() and get() after another user was killed, which may leave a lock; the longest"
    unit = "us"
    lap_timeout_seconds = 10.0
    more_is_better = False
    first_count = 20
    most_count = 300

    def open(self, peer: Peer) -> Any:
        return peer.queue(Need(item_bytes=5000))

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        return [Killer]

    def combine(self, lap: Lap, measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
        (killer,) = measured
        return {
            "value": killer["max_us"],
            "seconds": killer["last"] - killer["first"],
            "p50_us": killer["p50_us"],
        }


CASES: list[type[Case]] = [
    QueueCreateClose,
    PipeCreateClose,
    QueueFirstUse,
    QueueDescriptors,
    PipeOneWayDescriptors,
    PipeDuplexDescriptors,
    QueueAfterKill,
]
