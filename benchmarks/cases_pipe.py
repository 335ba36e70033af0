"""Pipe, one process at each end: messages a second, and the time of a round trip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import quantiles
from time import perf_counter, perf_counter_ns
from typing import Any, ClassVar

from benchmarks import payloads
from benchmarks.case import Case, Lap, Part
from benchmarks.payloads import WrongMessageError
from benchmarks.peers import Peer

SMALL_BYTES = 64


class OneWay(Case):
    """A Pipe(duplex=False): the first end receives, the second sends."""

    def open(self, peer: Peer) -> Any:
        return peer.pipe(duplex=False)

    def close(self, channel: Any) -> None:
        for end in channel:
            end.close()


class SmallSender(Part):
    """Sends messages that were made in advance."""

    def __init__(self, channel: Any) -> None:
        super().__init__(channel)
        receiving, self._end = channel
        receiving.close()

    def prepare(self, lap: Lap) -> None:
        self._messages = payloads.blobs(SMALL_BYTES)(lap.start, lap.count)

    def run(self) -> dict[str, Any]:
        send_bytes = self._end.send_bytes
        start = perf_counter()
        for message in self._messages:
            send_bytes(message)
        return {"send_seconds": perf_counter() - start}


class SmallReceiver(Part):
    """Receives them one behind the other into one buffer, which is compared at the end."""

    def __init__(self, channel: Any) -> None:
        super().__init__(channel)
        self._end, sending = channel
        sending.close()

    def prepare(self, lap: Lap) -> None:
        self._expected = b"".join(payloads.blobs(SMALL_BYTES)(lap.start, lap.count))
        # Not bytearray(n): its pages would come into being while the clock runs.
        self._buffer = bytearray(b"\xff") * len(self._expected)

    def run(self) -> dict[str, Any]:
        recv_bytes_into, buffer = self._end.recv_bytes_into, self._buffer
        recv_bytes_into(buffer, 0)
        first = perf_counter()
        for offset in range(SMALL_BYTES, len(buffer), SMALL_BYTES):
            recv_bytes_into(buffer, offset)
        return {"first": first, "last": perf_counter()}

    def verify(self) -> None:
        if self._buffer == self._expected:
            return
        for offset in range(0, len(self._buffer), SMALL_BYTES):
            place = slice(offset, offset + SMALL_BYTES)
            if self._buffer[place] != self._expected[place]:
                raise WrongMessageError(
                    f"message {offset // SMALL_BYTES} of the lap is {bytes(self._buffer[place])!r}"
                )


class Pipe64BThroughput(OneWay):
    name = "pipe-64B-throughput"
    summary = "64 bytes, send_bytes to recv_bytes_into, one way"

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        return [SmallSender, SmallReceiver]


class Asker(Part):
    """Sends a message, waits for its return, and notes how long that took."""

    def __init__(self, channel: Any) -> None:
        super().__init__(channel)
        self._end, other = channel
        other.close()

    def prepare(self, lap: Lap) -> None:
        self._messages = payloads.blobs(SMALL_BYTES)(lap.start, lap.count)
        self._times = [0] * (lap.count + 1)

    def run(self) -> dict[str, Any]:
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
        last = perf_counter()
        cuts = quantiles((after - before for before, after in pairwise(times)), n=1000)
        return {
            "first": first,
            "last": last,
            "p50_us": cuts[499] / 1000,
            "p99_us": cuts[989] / 1000,
            "p99.9_us": cuts[998] / 1000,
        }


class Echo(Part):
    """Sends back what it receives."""

    def __init__(self, channel: Any) -> None:
        super().__init__(channel)
        other, self._end = channel
        other.close()

    def run(self) -> dict[str, Any]:
        send_bytes, recv_bytes_into = self._end.send_bytes, self._end.recv_bytes_into
        buffer = bytearray(SMALL_BYTES)
        for _ in range(self.lap.count):
            recv_bytes_into(buffer)
            send_bytes(buffer)
        return {}


class Pipe64BRoundtrip(Case):
    name = "pipe-64B-roundtrip-p50"
    summary = "64 bytes there and back, both sides awake, median"
    unit = "us"
    more_is_better = False
    first_count = 5_000
    most_count = 200_000

    def open(self, peer: Peer) -> Any:
        return peer.pipe()

    def close(self, channel: Any) -> None:
        for end in channel:
            end.close()

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        return [Asker, Echo]

    def combine(self, lap: Lap, measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
        asker = next(part for part in measured if "p50_us" in part)
        tails = {key: asker[key] for key in ("p50_us", "p99_us", "p99.9_us")}
        return {"value": asker["p50_us"], "seconds": asker["last"] - asker["first"], **tails}


class LargeSender(Part):
    """Sends large bytes objects, as objects or as bytes."""

    def __init__(self, channel: Any, size: int, as_object: bool) -> None:
        super().__init__(channel)
        receiving, end = channel
        receiving.close()
        self._send = end.send if as_object else end.send_bytes
        self._pool = payloads.StampedPool(size, 3)

    def run(self) -> dict[str, Any]:
        send, stamped = self._send, self._pool.stamped
        start = perf_counter()
        for number in range(self.lap.start, self.lap.start + self.lap.count):
            send(stamped(number))
        return {"send_seconds": perf_counter() - start}


class LargeReceiver(Part):
    """Receives them, as objects or into a buffer, and checks them."""

    def __init__(self, channel: Any, size: int, as_object: bool) -> None:
        super().__init__(channel)
        self._end, sending = channel
        sending.close()
        self._receive = self._end.recv if as_object else self._into_buffer
        self._buffer = bytearray(b"\xff") * size
        self._pool = payloads.StampedPool(size, 3)

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
    """Large bytes objects, each sent whole before the next."""

    size: ClassVar[int]
    as_object: ClassVar[bool]
    first_count = 64
    most_count = 20_000

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        return [
            lambda channel: LargeSender(channel, self.size, self.as_object),
            lambda channel: LargeReceiver(channel, self.size, self.as_object),
        ]


class Pipe1MiB(PipeLarge):
    name = "pipe-1MiB"
    summary = "bytes of 1 MiB, send to recv, one way"
    size = 1024**2
    as_object = True


class Pipe1MiBInto(PipeLarge):
    name = "pipe-1MiB-into"
    summary = "bytes of 1 MiB, send_bytes to recv_bytes_into, one way"
    size = 1024**2
    as_object = False


CASES: list[type[Case]] = [Pipe64BThroughput, Pipe64BRoundtrip, Pipe1MiB, Pipe1MiBInto]
