"""What a benchmark consists of: a case, and the parts that do it, one in each process.

Owns the two base classes. Which cases exist is said in `cases`; how their processes are run, in
`driver`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import quantiles
from typing import Any, ClassVar

from fastipc._bench.peers import Peer


@dataclass
class Lap:
    """The messages of one lap: `count` of them, numbered from `start`.

    In the laps that warm up, `check_all` asks for every byte of every message to be compared.
    """

    start: int
    count: int
    check_all: bool = False


class Part:
    """What one process does. It is made in that process, with what the case opened."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel

    def prepare(self, lap: Lap) -> None:
        """Make ready for a lap: whatever should not be measured belongs here."""
        self.lap = lap

    def run(self) -> dict[str, Any]:
        """Do the lap and return what was measured; times are those of time.perf_counter()."""
        raise NotImplementedError

    def verify(self) -> dict[str, Any]:
        """Check what could not be checked while the clock ran. Raises WrongMessageError.

        Returns what only the case can check, with what the other parts tell.
        """
        return {}


class TimesPart(Part):
    """A part that notes when each message was done, and sums up how long they took."""

    def prepare(self, lap: Lap) -> None:
        super().prepare(lap)
        self._times = [0] * (lap.count + 1)

    def percentiles(self) -> dict[str, float]:
        """Return p50, p99 and p99.9 of the times between one message's end and the next one's."""
        return percentiles([after - before for before, after in pairwise(self._times)])


def percentiles(times_ns: Sequence[int]) -> dict[str, float]:
    """Return p50, p99 and p99.9 of times in nanoseconds, in microseconds."""
    cuts = quantiles(times_ns, n=1000, method="inclusive")
    return {
        "p50_us": cuts[499] / 1000,
        "p99_us": cuts[989] / 1000,
        "p99.9_us": cuts[998] / 1000,
    }


class Case:
    """One question, asked of one peer.

    The result of a lap has a `value`, in `unit`, and whatever else is worth keeping. Rates are
    the inverse of `seconds`, from the first message that arrived to the last.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    unit: ClassVar[str] = "messages/s"
    more_is_better: ClassVar[bool] = True

    # How many messages the first lap has, and how many a lap may have at most: they are made in
    # advance and take memory.
    first_count: ClassVar[int] = 5_000
    most_count: ClassVar[int] = 1_000_000
    # How many every measured lap has, in the cases that ask about a number.
    fixed_count: ClassVar[int | None] = None
    # For cases in which some hang for good: when a lap is given up, if earlier than others.
    lap_timeout_seconds: ClassVar[float] = math.inf

    def open(self, peer: Peer) -> Any:
        """Make the queues and pipes, before the processes are started."""
        raise NotImplementedError

    def close(self, channel: Any) -> None:
        """Close, in the driver, what only the other processes need."""

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        """Return what to run, each in a process of its own."""
        raise NotImplementedError

    def check(self, lap: Lap, measured: Sequence[dict[str, Any]]) -> None:
        """Compare what the parts have told. Raises WrongMessageError."""

    def combine(self, lap: Lap, measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the result of a lap from those of its parts."""
        first = min(part["first"] for part in measured if "first" in part)
        last = max(part["last"] for part in measured if "last" in part)
        # The first message starts the clock, so it is not among those that are timed.
        return {"value": (lap.count - 1) / (last - first), "seconds": last - first}


class Roundtrip(Case):
    """A case in which one part is a TimesPart: its median is the value."""

    unit = "us"
    more_is_better = False
    first_count = 500
    most_count = 200_000

    def combine(self, lap: Lap, measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
        asker = next(part for part in measured if "p50_us" in part)
        tails = {key: asker[key] for key in ("p50_us", "p99_us", "p99.9_us")}
        return {"value": asker["p50_us"], "seconds": asker["last"] - asker["first"], **tails}
