"""What it costs to make a queue and to be rid of it again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import median
from time import perf_counter, perf_counter_ns
from typing import Any

from benchmarks.case import Case, Lap, Part
from benchmarks.payloads import WrongMessageError
from benchmarks.peers import Peer


class Maker(Part):
    """Makes a queue, closes it and drops it, again and again."""

    def prepare(self, lap: Lap) -> None:
        super().prepare(lap)
        self._times = [0] * (lap.count + 1)

    def run(self) -> dict[str, Any]:
        make, times = self.channel.queue, self._times
        first = perf_counter()
        times[0] = perf_counter_ns()
        for number in range(1, self.lap.count + 1):
            queue = make()
            queue.close()
            del queue
            times[number] = perf_counter_ns()
        last = perf_counter()
        cycles = [after - before for before, after in pairwise(times)]
        return {"first": first, "last": last, "p50_us": median(cycles) / 1000}

    def verify(self) -> None:
        # Outside the clock: what was made so quickly works.
        queue = self.channel.queue()
        queue.put(self.lap.start)
        found = queue.get()
        queue.close()
        if found != self.lap.start:
            raise WrongMessageError(f"put {self.lap.start} into a new queue and got {found!r}")


class QueueCreateClose(Case):
    name = "queue-create-close"
    summary = "Queue(), close() and the end of the object, median"
    unit = "us"
    more_is_better = False
    first_count = 200
    most_count = 20_000

    def open(self, peer: Peer) -> Any:
        return peer

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        return [Maker]

    def combine(self, lap: Lap, measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
        (maker,) = measured
        return {"value": maker["p50_us"], "seconds": maker["last"] - maker["first"]}


CASES: list[type[Case]] = [QueueCreateClose]
