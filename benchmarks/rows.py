"""The marks to be met: a case, whom it is compared with, and by how much fastipc must be ahead."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.cases import CASES


@dataclass(frozen=True)
class Row:
    """One mark. `least` is a ratio: 12 means twelve times the rate, or a twelfth of the time."""

    case: str
    against: str
    least: float

    @property
    def name(self) -> str:
        """What the row is called on the command line."""
        return self.case

    @property
    def target(self) -> str:
        """The mark, as a reader of the table expects it."""
        case = CASES[self.case]
        if self.least == 1:
            return "no slower"
        if case.more_is_better:
            return f">= {self.least:g}x"
        return f"<= 1/{self.least:g}"

    def ratio(self, ours: float, theirs: float) -> float:
        """Return how far ahead we are: above 1, we are better."""
        return ours / theirs if CASES[self.case].more_is_better else theirs / ours


ROWS = [
    Row("queue-int", "multiprocessing", 12),
    Row("queue-tuple", "multiprocessing", 12),
    Row("pipe-64B-throughput", "multiprocessing", 12),
    Row("pipe-64B-roundtrip-p50", "multiprocessing", 10),
    Row("queue-1MiB", "multiprocessing", 3),
    Row("pipe-1MiB", "multiprocessing", 1),
    Row("pipe-1MiB-into", "multiprocessing", 1),
    Row("queue-create-close", "multiprocessing", 1),
]
