"""What a benchmark consists of: a case, and the parts that do it, one in each process.

Owns the two base classes. Which cases exist is said in `cases`; how their processes are run, in
`driver`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from benchmarks.peers import Peer


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

    def verify(self) -> None:
        """Check what could not be checked while the clock ran. Raises WrongMessageError."""


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
    first_count: ClassVar[int] = 20_000
    most_count: ClassVar[int] = 1_000_000

    def open(self, peer: Peer) -> Any:
        """Make the queues and pipes, before the processes are started."""
        raise NotImplementedError

    def close(self, channel: Any) -> None:
        """Close, in the driver, what only the other processes need."""

    def parts(self) -> Sequence[Callable[[Any], Part]]:
        """Return what to run, each in a process of its own."""
        raise NotImplementedError

    def combine(self, lap: Lap, measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the result of a lap from those of its parts."""
        first = min(part["first"] for part in measured if "first" in part)
        last = max(part["last"] for part in measured if "last" in part)
        # The first message starts the clock, so it is not among those that are timed.
        return {"value": (lap.count - 1) / (last - first), "seconds": last - first}
