"""The table of what is stormed: each kind of queue and pipe, each start method, alone and in
batches.
"""

from __future__ import annotations

from typing import NamedTuple

from .kinds import SHUT_KINDS


class Scenario(NamedTuple):
    """One row of the table."""

    kind: str
    start_method: str
    batches: bool

    @property
    def name(self) -> str:
        """What --scenario takes."""
        return f"{self.kind}-{self.start_method}" + ("-batches" if self.batches else "")

    @property
    def round_s(self) -> float:
        """How long a round's storm is at most: a queue is shut down once in each."""
        return 2.0 if self.kind in SHUT_KINDS else float("inf")


_QUEUES = ("queue", "bounded", "max-bytes", "joinable")

# Each costs seconds beside its storm, so not all that can be combined is. Children of a fork server
# get what spawned ones get, and are there as soon as forked ones. How a queue is shut down does not
# depend on how workers were started, and of forked ones more are killed.
SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        *(
            Scenario(kind, start_method, batches)
            for kind in _QUEUES
            for start_method in ("fork", "spawn")
            for batches in (False, True)
        ),
        Scenario("queue", "forkserver", True),
        Scenario("joinable", "forkserver", False),
        Scenario("pipe", "fork", False),
        Scenario("pipe", "spawn", False),
        Scenario("duplex", "fork", False),
        Scenario("duplex", "spawn", False),
        Scenario("duplex", "forkserver", False),
        Scenario("simple", "fork", False),
        Scenario("simple", "forkserver", False),
        Scenario("shutdown", "fork", False),
        Scenario("shutdown-now", "fork", False),
    )
}
