"""Pipe, one process at each end: messages a second, and the time of a round trip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from time import perf_counter, perf_counter_ns
from typing import Any, ClassVar

from fastipc._bench import payloads
from fastipc._bench.case import Case, Lap, Part, Roundtrip, TimesPart
from fastipc._bench.payloads import WrongMessageError
from fastipc._bench.peers import Need, Peer

SMALL_BYTES = 64
MIB = 1024**2

# The ends of a one-way pipe.
RECEIVING, SENDING = 0, 1


class OneWay(Case):
    """A Pipe(duplex=False): the first end receives, the second sends."""

    need: ClassVar[Need]

    def open(self, peer: Peer) -> Any:
        return peer.pipe(False, self.need)

    def close(self, channel: Any) -> None:
        channel.close()


class SmallSender(Part):
    """Sends messages that were made in advance."""

    def __init__(self, channel: Any) -> None:
        super().__init__(channel)
        self._end = channel.end(SENDING)

    def prepare(self, lap: Lap) -> None:
        self._messages = list(payloads.blobs(SMALL_BYTES)(lap.start, lap.count))

    def run(self) -> dict[str, Any]:
        send_bytes = self._end.send_bytes
        start = perf_counter()
        for message in self._messages:
            send_bytes(message)
        return {"send_seconds": perf_counter() - start}


class SmallReceiver(Part):
    """Receives them one behind the other into one buffer, which is compared at the end.

    From a library that only hands out bytes objects, they are kept and compared as well.
    """

    def __init__(self, channel: Any) -> None:
        super().__init__(channel)
        self._end = channel.end(RECEIVING)

    def prepare(self, lap: Lap) -> None:
        self._count = lap.count
        self._expected = b"".join(payloads.blobs(SMALL_BYTES)(lap.start, lap.count))
        # Not bytearray(n): its pages would come into being while the clock runs.
        self._buffer = bytearray(b"\xff") * len(self._expected)

    def run(self) -> dict[str, Any]:
        if not hasattr(self._end, "recv_bytes_into"):
            return self._run_with_objects()
        recv_bytes_into, buffer = self._end.recv_bytes_into, self._buffer
        recv_bytes_into(buffer, 0)
        first = perf_counter()
        for offset in range(SMALL_BYTES, len(buffer), SMALL_BYTES):
            recv_bytes_into(buffer, offset)
        return {"first": first, "last": perf_counter()}

    def _run_with_objects(self) -> dict[str, Any]:
        recv_bytes = self._end.recv_bytes
        messages = [recv_bytes()]
        first = perf_counter()
        messages += [recv_bytes() for _ in repeat(None, self._count - 1)]
        last = perf_counter()
        self._buffer = bytearray().join(messages)
        return {"first": first, "last": last}

    def verify(self) -> dict[str, Any]:
        if self._buffer == self._expected:
            return {}
        for offset in range(0, len(self._expected), SMALL_BYTES):
            place = slice(offset, offset + SMALL_BYTES)
            if self._buffer[place] != self._expected[place]:
                raise WrongMessageError(
                    f"message {offset // SMALL_BYTES} of the lap is {bytes(self._buffer[place])!r}"
                )
        raise WrongMessageError("there is more than was sent")


class Pipe64BThroughput(OneWay):
    name = "pipe-64B-throughput"
    summary = "64 bytes, send_bytes to recv_bytes_into, one way"
    need = Need("bytes", SMALL_BYTES)

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        return [SmallSender, SmallReceiver]


class Asker(TimesPart):
    """Sends a message, waits for its return, and notes how long that took."""

    def __init__(self, channel: Any) -> None:
        super().__init__(channel)
        self._end = channel.end(0)

    def prepare(self, lap: Lap) -> None:
        super().prepare(lap)
        self._messages = list(payloads.blobs(SMALL_BYTES)(lap.start, lap.count))

    def run(self) -> dict[str, Any]:
        if not hasattr(self._end, "recv_bytes_into"):
            return self._run_with_objects()
        send_bytes, recv_bytes_into = self._end.send_bytes, self._end.recv_bytes_into
        buffer, times = bytearray(SMALL_BYTES), self._times
        first = perf_counter()
        times[0] = perf_counter_ns()
        for number, message in enumerate(self._messages, 1):
            send_bytes(message)
            recv_bytes_into(buffer)
            if buffer != message:
                raise WrongMessageError(f"{message!r} came back as {bytes(buffer)!r}")
            times[number] = perf_counter_ns()
        return {"first": first, "last": perf_counter(), **self.percentiles()}

    def _run_with_objects(self) -> dict[str, Any]:
        send_bytes, recv_bytes, times = self._end.send_bytes, self._end.recv_bytes, self._times
        first = perf_counter()
        times[0] = perf_counter_ns()
        for number, message in enumerate(self._messages, 1):
            send_bytes(message)
            found = recv_bytes()
            if found != message:
                raise WrongMessageError(f"{message!r} came back as {bytes(found)!r}")
            times[number] = perf_counter_ns()
        return {"first": first, "last": perf_counter(), **self.percentiles()}


class Echo(Part):
    """Sends back what it receives."""

    def __init__(self, channel: Any) -> None:
        super().__init__(channel)
        self._end = channel.end(1)

    def run(self) -> dict[str, Any]:
        send_bytes = self._end.send_bytes
        if hasattr(self._end, "recv_bytes_into"):
            recv_bytes_into, buffer = self._end.recv_bytes_into, bytearray(SMALL_BYTES)
            for _ in range(self.lap.count):
                recv_bytes_into(buffer)
                send_bytes(buffer)
        else:
            recv_bytes = self._end.recv_bytes
            for _ in range(self.lap.count):
                send_bytes(recv_bytes())
        return {}


class Pipe64BRoundtrip(Roundtrip):
    name = "pipe-64B-roundtrip"
    summary = "64 bytes there and back, both sides awake, median"

    def open(self, peer: Peer) -> Any:
        return peer.pipe(True, Need("bytes", SMALL_BYTES))

    def close(self, channel: Any) -> None:
        channel.close()

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        return [Asker, Echo]


class LargeSender(Part):
    """Sends large bytes objects, as objects or as bytes."""

    def __init__(self, channel: Any, size: int, objects: int, as_object: bool) -> None:
        super().__init__(channel)
        end = channel.end(SENDING)
        self._send = end.send if as_object and hasattr(end, "send") else end.send_bytes
        self._pool = payloads.StampedPool(size, objects)

    def run(self) -> dict[str, Any]:
        send, stamped = self._send, self._pool.stamped
        start = perf_counter()
        for number in range(self.lap.start, self.lap.start + self.lap.count):
            send(stamped(number))
        return {"send_seconds": perf_counter() - start}


class LargeReceiver(Part):
    """Receives them, as objects or into a buffer, and checks them."""

    def __init__(self, channel: Any, size: int, objects: int, as_object: bool) -> None:
        super().__init__(channel)
        self._end = channel.end(RECEIVING)
        if as_object and hasattr(self._end, "recv"):
            self._receive = self._end.recv
        elif hasattr(self._end, "recv_bytes_into"):
            self._receive = self._into_buffer
        else:
            self._receive = self._end.recv_bytes
        self._buffer = bytearray(b"\xff") * size
        self._pool = payloads.StampedPool(size, objects)

    def _into_buffer(self) -> bytearray:
        self._end.recv_bytes_into(self._buffer)
        return self._buffer

    def run(self) -> dict[str, Any]:
        receive, check = self._receive, self._pool.check
        every = 1 if self.lap.check_all else payloads.FULL_CHECK_EVERY
        start = self.lap.start
        message = receive()
        first = perf_counter()
        check(start, message, fully=True)
        for number in range(start + 1, start + self.lap.count):
            message = receive()
            check(number, message, fully=number % every == 0)
        return {"first": first, "last": perf_counter()}


class PipeLarge(OneWay):
    """Large bytes objects, each sent whole before the next.

    A library whose queues stand in for pipes may have `bound` of them on the way.
    """

    unit = "GB/s"
    size: ClassVar[int]
    bound: ClassVar[int] = 4
    as_object: ClassVar[bool] = False
    most_count = 20_000

    def open(self, peer: Peer) -> Any:
        return peer.pipe(False, Need("bytes", self.size, self.bound))

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        objects = self.bound + 4
        return [
            lambda channel: LargeSender(channel, self.size, objects, self.as_object),
            lambda channel: LargeReceiver(channel, self.size, objects, self.as_object),
        ]

    def combine(self, lap: Lap, measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
        result = super().combine(lap, measured)
        return {**result, "value": result["value"] * self.size / 1e9}


class Pipe1MiB(PipeLarge):
    name = "pipe-1MiB"
    summary = "bytes of 1 MiB, send to recv, one way"
    size = MIB
    first_count = 64
    as_object = True


class Pipe1MiBInto(PipeLarge):
    name = "pipe-1MiB-into"
    summary = "bytes of 1 MiB, send_bytes to recv_bytes_into, one way"
    size = MIB
    first_count = 64


class Pipe16MiBInto(PipeLarge):
    name = "pipe-16MiB-into"
    summary = "bytes of 16 MiB, send_bytes to recv_bytes_into, one way"
    size = 16 * MIB
    first_count = 8


CASES: list[type[Case]] = [
    Pipe64BThroughput,
    Pipe64BRoundtrip,
    Pipe1MiB,
    Pipe1MiBInto,
    Pipe16MiBInto,
]
