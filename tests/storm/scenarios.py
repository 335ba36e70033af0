"""The table of what is stormed: each kind of queue, each start method, alone and in batches."""

from __future__ import annotations

from typing import NamedTuple

from .kinds import KINDS


class Scenario(NamedTuple):
    """One row of the table."""

    kind: str
    start_method: str
    batches: bool

    @property
    def name(self) -> str:
        """What --scenario takes."""
        return f"{self.kind}-{self.start_method}" + ("-batches" if self.batches else "")


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        *(
            Scenario(kind, start_method, batches)
            for kind in KINDS
            for start_method in ("fork", "spawn")
            for batches in (False, True)
            if not (batches and kind in ("pipe", "duplex", "simple"))
        ),
        # Its workers get what spawned ones get, and are there as soon as forked ones.
        Scenario("queue", "forkserver", True),
        Scenario("joinable", "forkserver", False),
        Scenario("duplex", "forkserver", False),
        Scenario("simple", "forkserver", False),
    )
}
