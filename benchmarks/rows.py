"""The marks to be met: a case, whom it is compared with, and by how much fastipc must be ahead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastipc._bench.cases import CASES

BEST = "best"
OWN = "own:"
FLOOR = "floor:"
PARTS = "parts"
NUMBER = "number"


@dataclass(frozen=True)
class Row:
    """One mark. `least` is a ratio: 12 means twelve times the rate, or a twelfth of the time.

    `against` is the name of a peer, or

    - "best": of all peers in the same round the best one,
    - "own:CASE": fastipc in another case,
    - "floor:CASE": what C reaches (benchmarks/floor),
    - "parts": what fastipc's rates for the parts of a mixture predict,
    - "number": `theirs`, whatever the machine.
    """

    case: str
    against: str
    # 0: the row is only reported.
    least: float
    # Which number of the results is compared, if not the case's own value.
    key: str = "value"
    # What we may have on top of theirs, in the case's unit.
    plus: float = 0.0
    theirs: float = 0.0
    # Of the best, only those with a median latency below this.
    latency_us_most: float | None = None
    # Among whom the best is looked for, if not among all.
    among: tuple[str, ...] = ()
    negotiable: bool = True

    @property
    def name(self) -> str:
        """What the row is called on the command line and in results."""
        key = "" if self.key == "value" else f"/{self.key}"
        return f"{self.case}{key}/{self.against}"

    @property
    def more_is_better(self) -> bool:
        """Whether a larger number is the better one."""
        return self.key == "value" and CASES[self.case].more_is_better

    @property
    def unit(self) -> str:
        """What is compared."""
        return {
            "value": CASES[self.case].unit,
            "cpu_us_each": "us CPU",
            "memory_mib": "MiB",
        }[self.key]

    @property
    def target(self) -> str:
        """The mark, as a reader of the table expects it."""
        if self.least == 0:
            return "-"
        if self.against == NUMBER:
            return f"<= {self.theirs:g}"
        if self.plus:
            return f"<= +{self.plus:g} {self.unit}"
        if self.more_is_better:
            return f">= {self.least:.3g}x"
        return f"<= 1/{self.least:g}" if self.least > 1 else f"<= {1 / self.least:.3g}x"

    def ratio(self, ours: float, theirs: float) -> float:
        """Return how far ahead we are: above 1, we are better."""
        theirs += self.plus
        if self.more_is_better:
            return ours / theirs if theirs else float("inf")
        return theirs / ours if ours else float("inf")


def chosen(names: Sequence[str]) -> list[Row]:
    """Return the rows with these names, or of the cases with these; all, if there are no names."""
    return [row for row in ROWS if not names or row.name in names or row.case in names]


def _rows(
    case: str,
    *,
    stdlib: float | None = None,
    best: float | None = None,
    floor: Sequence[tuple[str, float]] = (),
    own: Sequence[tuple[str, float]] = (),
    negotiable: bool = True,
) -> list[Row]:
    pairs = [("multiprocessing", stdlib), (BEST, best)]
    pairs += [(FLOOR + name, least) for name, least in floor]
    pairs += [(OWN + name, least) for name, least in own]
    return [
        Row(case, against, least, negotiable=negotiable)
        for against, least in pairs
        if least is not None
    ]


def _reported(case: str, *nearest: str) -> list[Row]:
    rows = [Row(case, "multiprocessing", 0)]
    return rows + ([Row(case, BEST, 0, among=nearest)] if nearest else [])


ROWS: list[Row] = [
    *_rows("queue-int", stdlib=25, best=4, negotiable=False),
    *_rows("queue-tuple", stdlib=25, best=4, negotiable=False),
    *_rows("queue-dict5", stdlib=15, best=3, negotiable=False),
    *_rows("queue-nested", stdlib=8, best=1.5, own=[("pickle-nested", 0.6)]),
    *_rows("queue-dataclass", stdlib=8, best=1.5, own=[("pickle-dataclass", 0.6)]),
    Row("queue-mix", PARTS, 0.7),
    *_rows("queue-64B", stdlib=20, best=2, negotiable=False),
    *_rows("queue-16KiB", stdlib=8, best=1.5),
    *_rows("queue-4MiB", stdlib=12, best=1.2),
    *_rows("queue-int-2to1", stdlib=12, best=2),
    *_rows("queue-int-1to2", stdlib=12, best=2),
    *_rows("queue-int-4to4", stdlib=15, best=4),
    Row("queue-int-4to4", OWN + "queue-int", 1 / 1.5, "cpu_us_each"),
    *_rows("queue-many-100", stdlib=1.5, own=[("queue-int", 2)]),
    Row("queue-many-100", "faster-fifo", 20),
    *_rows(
        "pipe-64B-throughput",
        stdlib=25,
        best=3,
        floor=[("ring-64B-throughput", 1 / 3)],
        negotiable=False,
    ),
    *_rows(
        "pipe-64B-roundtrip",
        stdlib=50,
        best=10,
        floor=[("ring-roundtrip-spin", 1 / 4)],
        negotiable=False,
    ),
    *_rows("queue-int-roundtrip", stdlib=100, best=8),
    *_rows("pipe-1MiB-into", stdlib=3, best=1.2, floor=[("ring-stream-1MiB", 0.6)]),
    *_rows("pipe-16MiB-into", stdlib=3, best=1.2, floor=[("ring-stream-16MiB", 0.6)]),
    *_rows("numpy-1MiB", stdlib=50, best=1, floor=[("copy-sum-1MiB", 0.6)], negotiable=False),
    *_rows("numpy-8MiB", stdlib=30, best=1, floor=[("copy-sum-8MiB", 0.8)], negotiable=False),
    *_rows(
        "numpy-64MiB",
        stdlib=30,
        best=1.2,
        floor=[("copy-sum-64MiB", 0.8), ("memcpy-64MiB", 1)],
        negotiable=False,
    ),
    *_rows("numpy-8MiB-keep100", stdlib=5, negotiable=False),
    *_rows("queue-burst-million", stdlib=8, best=1),
    Row("queue-burst-million", "multiprocessing", 1, "memory_mib"),
    *_rows("queue-paced", stdlib=2, negotiable=False),
    Row("queue-paced", BEST, 1, latency_us_most=100, negotiable=False),
    Row("queue-paced", OWN + "pacing", 1, plus=6, negotiable=False),
    Row("queue-paced", FLOOR + "pacing-wake", 0),
    *_rows("queue-idle", stdlib=1, negotiable=False),
    *_rows("queue-create-close", stdlib=3),
    *_rows("pipe-create-close", stdlib=1 / 2.5),
    *_rows("queue-first-use", stdlib=1),
    Row("queue-descriptors", NUMBER, 1, theirs=2),
    Row("pipe-descriptors-oneway", NUMBER, 1, theirs=2),
    Row("pipe-descriptors-duplex", NUMBER, 1, theirs=3),
    Row("queue-int-armed", OWN + "queue-int", 0),
    Row("queue-after-kill", "multiprocessing", 0),
    # No marks, and measured so that no case is missing from the results: beside the peers that came
    # nearest when all were tried, for the sake of time. Nobody else has task_done().
    *_reported("joinable-int"),
    *_reported("queue-16B", "hyperq", "zeroq", "zmq-pair"),
    *_reported("queue-1KiB", "hyperq", "zeroq", "zmq"),
    *_reported("queue-256KiB", "iceoryx2", "iceoryx2-blocking", "dejaq"),
    *_reported("queue-1MiB", "iceoryx2", "iceoryx2-blocking", "hyperq"),
    *_reported("pipe-1MiB", "iceoryx2", "iceoryx2-blocking", "dejaq"),
    *_reported("queue-64MiB", "iceoryx2", "iceoryx2-blocking", "faster-fifo"),
    *_reported("numpy-64KiB", "iceoryx2", "iceoryx2-blocking", "dejaq", "faster-fifo"),
]

# How long a measurement of a case lasts at least, in seconds, unless the command line says another.
#
# The burst asks about a million, and takes as many only where a measurement is no short one
# (measure.SERIOUS_SECONDS): in 0.3 s multiprocessing put 44,000 and fastipc the million, and 33 MiB
# stood beside 48, where the million takes 71.
SECONDS_OF = {"queue-burst-million": 0.6}

# Of which queue-mix is made, in equal shares, each by itself.
MIX_PARTS = (
    "queue-mix-int",
    "queue-mix-tuple",
    "queue-mix-dict5",
    "queue-nested",
    "queue-dataclass",
    "queue-mix-64B",
)
