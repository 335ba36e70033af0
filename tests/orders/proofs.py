"""Which test proves which pair of PROTOCOL.md's table "Barrier pairs".

A race: two threads of one of the programs beside this file, built with ThreadSanitizer. With the
orders there is no report; with the orders of one label relaxed there is one, of the payload or of
what the pair protects, and of nothing else.

A litmus test: two threads on two CPUs, without a sanitizer. With the read-modify-write there is no
round in which both missed the other; with it taken apart into a load and a store there are some.
Each has a mutant of either side: of the waker's swap, and of the sleeper's, which is W2 in all of
them. What a side loads behind its swap (W1; T2, N2, S2, D2, C2 and J2) cannot fail here: x86-64
does not move a load before a swap. But for W1 the races show these.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.support import ROOT

PROTOCOL = ROOT / "csrc" / "PROTOCOL.md"
ROW = re.compile(r"^\| ([A-Z]\d(?:, [A-Z]\d)*) \|.*\| ([a-z, ]+) \|$", re.M)

# What the payload of order.h is called in a report.
PAYLOAD = "payload"


@dataclass(frozen=True)
class Pair:
    """A row of the table: its labels, the release side first, and how it says that it is shown."""

    labels: tuple[str, ...]
    shown_by: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.labels[0][0]


@dataclass(frozen=True)
class Race:
    """Two threads under ThreadSanitizer.

    program: the C file beside this one.
    sources: the files of csrc/ in which the orders stand that are relaxed; what stands in a
        header, or in a file that the program includes, is compiled with the program.
    hidden: labels that are relaxed in every build, since they would order the payload as well.
    memory: what is reported, as the report calls it: the payload, or what the pair protects;
        behind the first what may be reported as well.
    """

    program: str
    sources: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    memory: tuple[str, ...] = (PAYLOAD,)


@dataclass(frozen=True)
class Litmus:
    """The labels whose read-modify-writes are taken apart, one a mutant, and where they stand."""

    mutants: tuple[tuple[str, tuple[str, ...]], ...]


# Files that a program includes as a whole, to call their static functions.
INCLUDED = {"process": ("conn.c",), "litmus": ("channel_shut.c",)}

RACES = {
    "L": Race("sides"),
    "R": Race("sides", hidden=("P1",)),
    "P": Race("sides", hidden=("R1",)),
    "B": Race("blocks", ("arena.c", "arena_take.c")),
    "H": Race("blocks", ("channel_get.c", "arena_sweep.c"), hidden=("R1", "P1")),
    "O": Race("blocks", ("channel.c", "arena_sweep.c"), hidden=("R1", "P1")),
    "U": Race("blocks", ("arena.c", "arena_take.c")),
    "G": Race("blocks", ("arena.c",)),
    "E": Race("blocks", ("slots.c",)),
    "Y": Race("blocks"),
    "T": Race("sides", ("conn.c",)),
    "S": Race("sides", ("conn.c",)),
    "D": Race("sides", ("channel_shut.c",)),
    "C": Race("sides", ("queue.c", "queue_put.c")),
    "J": Race("sides", ("queue.c",)),
    "N": Race("process"),
    "K": Race("process", ("conn_recv.c",), memory=(PAYLOAD, "heap block")),
    "F": Race("process", ("segment.c",), memory=("process_mutex",)),
    "V": Race("process", ("channel.c",)),
    "X": Race("process", ("segment.c",)),
    "I": Race("process", ("os_linux.c",)),
    "Q": Race("process", ("os_room.c",), memory=("cache", PAYLOAD)),
    "Z": Race("process", ("queue.c",), memory=(PAYLOAD, "freed memory", "heap block")),
}

# The sleeper's side of all of them.
MARK = ("W2", ("wait.c",))

LITMUS = {
    # The waker's barrier is its unlock.
    "W": Litmus((("L2", ()), MARK)),
    "T": Litmus((("T1", ("conn.c",)), MARK)),
    "S": Litmus((("S1", ()), MARK)),
    "D": Litmus((("D1", ()), MARK)),
    "C": Litmus((("C1", ("queue.c",)), MARK)),
    "N": Litmus((("N1", ()), MARK)),
    "J": Litmus((("J1", ("queue.c",)), MARK)),
}
# Labels that no mutant relaxes or takes apart, with the reason.
UNSHOWN = {
    "W1": "a load behind a swap: x86-64 keeps the two in order without it, and ThreadSanitizer "
    "does not model the order of a store and a later load",
}


def pairs_of(text: str) -> list[Pair]:
    """The rows of the table in the text of PROTOCOL.md."""
    found = re.search(r"^## Barrier pairs\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert found, "PROTOCOL.md has no section 'Barrier pairs'"
    return [
        Pair(tuple(labels.split(", ")), tuple(shown.split(", ")))
        for labels, shown in ROW.findall(found[1])
    ]


def all_pairs() -> list[Pair]:
    """The pairs of PROTOCOL.md."""
    return pairs_of(PROTOCOL.read_text())
