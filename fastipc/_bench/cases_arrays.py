"""NumPy arrays through a Queue, to a consumer that sums them: gigabytes a second."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, ClassVar

from fastipc._bench.case import Case, Lap, Part
from fastipc._bench.payloads import ArrayPool
from fastipc._bench.peers import Channel, Need, Peer, import_module

KIB = 1024
MIB = 1024**2


class ArrayProducer(Part):
    """Puts arrays that are stamped just before."""

    def __init__(self, channel: Channel, size: int, objects: int) -> None:
        super().__init__(channel)
        self._pool = ArrayPool(size, objects, keep=True)
        self._end = channel.sender()

    def run(self) -> dict[str, Any]:
        put, encode, stamped = self._end.put, self.channel.encode, self._pool.stamped
        start = perf_counter()
        for number in range(self.lap.start, self.lap.start + self.lap.count):
            array = stamped(number)
            put(array if encode is None else encode(array))
        return {"put_seconds": perf_counter() - start}


class ArrayConsumer(Part):
    """Gets them and sums each; the sums tell whether every byte has arrived."""

    def __init__(self, channel: Channel, size: int, objects: int, kept: int) -> None:
        super().__init__(channel)
        self._pool = ArrayPool(size, objects, keep=False)
        self._kept: deque[Any] = deque(maxlen=kept)
        self._end = channel.receiver()

    def run(self) -> dict[str, Any]:
        get, decode, check, keep = (
            self._end.get,
            self.channel.decode,
            self._pool.check,
            self._kept.append,
        )
        first = 0.0
        for number in range(self.lap.start, self.lap.start + self.lap.count):
            array = get() if decode is None else decode(get())
            check(number, array, float(array.sum()))
            keep(array)
            first = first or perf_counter()
        return {"first": first, "last": perf_counter()}

    def verify(self) -> dict[str, Any]:
        """Check those that are still held: nobody has written over them."""
        last = self.lap.start + self.lap.count - 1
        for back, array in enumerate(reversed(self._kept)):
            self._pool.check(last - back, array, float(array.sum()))
        return {}


class Arrays(Case):
    """Arrays of float64 through a bounded Queue."""

    unit = "GB/s"
    size: ClassVar[int]
    bound: ClassVar[int]
    # How many the consumer holds on to, beside the one in its hands.
    kept: ClassVar[int] = 0

    def open(self, peer: Peer) -> Any:
        import_module("numpy")
        return peer.queue(Need("arrays", self.size, self.bound, held=self.kept))

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        # One is in the consumer's hands, and one in the producer's.
        objects = self.bound + 2
        return [
            lambda queue: ArrayProducer(queue, self.size, objects),
            lambda queue: ArrayConsumer(queue, self.size, objects, self.kept),
        ]

    def combine(self, lap: Lap, measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
        result = super().combine(lap, measured)
        return {**result, "value": result["value"] * self.size / 1e9}


class Arrays64KiB(Arrays):
    name = "numpy-64KiB"
    summary = "arrays of 64 KiB through a Queue, the consumer sums"
    size = 64 * KIB
    bound = 16
    first_count = 500
    most_count = 100_000


class Arrays1MiB(Arrays):
    name = "numpy-1MiB"
    summary = "arrays of 1 MiB through a Queue, the consumer sums"
    size = MIB
    bound = 8
    first_count = 64
    most_count = 20_000


class Arrays8MiB(Arrays):
    name = "numpy-8MiB"
    summary = "arrays of 8 MiB through a Queue, the consumer sums"
    size = 8 * MIB
    bound = 4
    first_count = 10
    most_count = 4_000


class Arrays64MiB(Arrays):
    name = "numpy-64MiB"
    summary = "arrays of 64 MiB through a Queue, the consumer sums"
    size = 64 * MIB
    bound = 2
    first_count = 4
    most_count = 500


class Arrays8MiBKept(Arrays):
    name = "numpy-8MiB-keep100"
    summary = "arrays of 8 MiB through a Queue, the consumer sums and keeps the last 100"
    size = 8 * MIB
    bound = 4
    kept = 100
    first_count = 120
    most_count = 2_000


CASES: list[type[Case]] = [Arrays64KiB, Arrays1MiB, Arrays8MiB, Arrays64MiB, Arrays8MiBKept]
