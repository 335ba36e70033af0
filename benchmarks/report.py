"""How rows stand, given the results: the comparison, the table, and what is kept as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.rows import BEST, FLOOR, MIX_PARTS, NUMBER, OWN, PARTS, Row
from fastipc._bench.adapters import ADAPTERS
from fastipc._bench.results import Results, print_table, shown

# What the numbers of the floor and of the cases are measured in, in seconds, bytes/s or messages/s.
UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "us CPU": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "GB/s": 1e9,
    "MB/s": 1e6,
    "bytes/s": 1.0,
    "messages/s": 1.0,
    "records/s": 1.0,
    "items/s": 1.0,
}


def moves_arrays(peer: str) -> bool:
    """Whether ndarrays arrive as such, and not as raw memory whose type was agreed on before."""
    return not getattr(ADAPTERS.get(peer), "raw_arrays", False)


@dataclass
class Outcome:
    """One row, and the results of all rounds."""

    row: Row
    candidate: str
    results: Results

    @property
    def pairs(self) -> list[tuple[float | None, float | None]]:
        """Ours and theirs, in each round; None where there is no number."""
        ours = self.results.of(self.row.case, self.candidate)
        return [
            (taken.get(self.row.key), self._theirs(number)) for number, taken in enumerate(ours)
        ]

    @property
    def ratios(self) -> list[float]:
        """How far ahead the candidate was, in each round that has both numbers."""
        return [
            self.row.ratio(ours, theirs)
            for ours, theirs in self.pairs
            if ours is not None and theirs is not None
        ]

    @property
    def skipped(self) -> bool:
        """Whether there is nothing to compare with: the floor, or all peers, are absent."""
        against = self.row.against
        if against.startswith(FLOOR):
            rounds = self.results.of(against, "floor")
            return bool(rounds) and all(taken.get("kind") == "absent" for taken in rounds)
        return False

    @property
    def met(self) -> bool:
        """Whether the median is at the mark or above; a round without a number is a miss."""
        if self.row.least == 0 or self.skipped:
            return True
        ratios = self.ratios
        return len(ratios) == len(self.pairs) > 0 and median(ratios) >= self.row.least

    @property
    def verdict(self) -> str:
        """What the table says."""
        if self.row.least == 0:
            return "-"
        if self.skipped:
            return "skipped"
        return "yes" if self.met else "NO"

    @property
    def shortfall(self) -> float:
        """What part of the mark is missing, 0 to 1."""
        ratios = self.ratios
        return 0.0 if self.met else 1 - median(ratios) / self.row.least if ratios else 1.0

    def best(self, number: int) -> str | None:
        """Return the best peer of a round."""
        row, found = self.row, {}
        for peer, rounds in self.results.rounds.get(row.case, {}).items():
            if peer in (self.candidate, "multiprocessing") or number >= len(rounds):
                continue
            if row.case.startswith("numpy") and not moves_arrays(peer):
                continue
            if row.among and peer not in row.among:
                continue
            taken = rounds[number]
            if row.key not in taken:
                continue
            limit = row.latency_us_most
            if limit is not None and taken["latency_p50_us"] >= limit:
                continue
            found[peer] = taken[row.key]
        if not found:
            return None
        return (max if row.more_is_better else min)(found, key=lambda peer: found[peer])

    def whom(self) -> str:
        """Return whom the row was compared with, in the table's words."""
        if self.row.against != BEST:
            return self.row.against
        names = [name for number in range(len(self.pairs)) if (name := self.best(number))]
        return f"best: {max(names, key=names.count)}" if names else "best"

    def _theirs(self, number: int) -> float | None:
        row = self.row
        if row.against == NUMBER:
            return row.theirs
        if row.against == PARTS:
            rates = [self._number(case, self.candidate, number) for case in MIX_PARTS]
            # Equal shares: the times of the parts add up.
            known = [rate for rate in rates if rate is not None]
            return (
                len(known) / sum(1 / rate for rate in known) if len(known) == len(rates) else None
            )
        if row.against.startswith(FLOOR):
            return self._floor(number)
        if row.against.startswith(OWN):
            return self._number(row.against[len(OWN) :], self.candidate, number)
        peer = self.best(number) if row.against == BEST else row.against
        return None if peer is None else self._number(row.case, peer, number)

    def _number(self, case: str, peer: str, number: int) -> float | None:
        rounds = self.results.of(case, peer)
        return rounds[number].get(self.row.key) if number < len(rounds) else None

    def _floor(self, number: int) -> float | None:
        rounds = self.results.of(self.row.against, "floor")
        if number >= len(rounds) or "value" not in rounds[number]:
            return None
        taken = rounds[number]
        value: float = taken["value"] * UNITS[taken["unit"]] / UNITS[self.row.unit]
        return value


HEADINGS = ("case", "against", "unit", "theirs", "ours", "ratio", "spread", "target", "met")


def print_rows(outcomes: Sequence[Outcome], candidate: str) -> None:
    """Print all rows, the misses in red where there is colour."""
    print_table(
        HEADINGS,
        [_cells(outcome) for outcome in outcomes],
        left=3,
        title=f"{candidate}: medians of all rounds (!: not negotiable)",
        marked=[not outcome.met for outcome in outcomes],
    )


def _cells(outcome: Outcome) -> tuple[str, ...]:
    row, ratios, pairs = outcome.row, outcome.ratios, outcome.pairs
    ratio = spread = "-"
    if ratios:
        ratio = f"{median(ratios):.3g}x"
        spread = f"{min(ratios):.3g} to {max(ratios):.3g}"
    theirs = [pair[1] for pair in pairs if pair[1] is not None]
    ours = [pair[0] for pair in pairs if pair[0] is not None]
    return (
        row.case + ("" if row.negotiable else " !"),
        outcome.whom(),
        row.unit,
        shown(median(theirs)) if theirs else "-",
        shown(median(ours)) if ours else "-",
        ratio,
        spread,
        row.target,
        outcome.verdict,
    )


def summary(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the lines below the table: what was missed, and how badly."""
    missed = [outcome for outcome in outcomes if not outcome.met]
    skipped = [outcome.row.name for outcome in outcomes if outcome.skipped]
    lines = (
        [f"skipped, as there is nothing to compare with: {', '.join(skipped)}"] if skipped else []
    )
    if not missed:
        return [*lines, f"all {len(outcomes) - len(skipped)} rows met"]
    lines.append(f"missed: {', '.join(outcome.row.name for outcome in missed)}")
    hard = [outcome.row.name for outcome in missed if not outcome.row.negotiable]
    if hard:
        lines.append(f"of these, not negotiable: {', '.join(hard)}")
    far = [each.row.name for each in missed if each.row.negotiable and each.shortfall > 0.25]
    if far:
        lines.append(f"of the others, by more than a quarter: {', '.join(far)}")
    return lines


def kept(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return the rows, ready for JSON."""
    return [
        {
            "row": outcome.row.name,
            "case": outcome.row.case,
            "key": outcome.row.key,
            "candidate": outcome.candidate,
            "against": outcome.row.against,
            "compared_with": outcome.whom(),
            "among": list(outcome.row.among),
            "target": outcome.row.target,
            "least_ratio": outcome.row.least,
            "negotiable": outcome.row.negotiable,
            "ratios": outcome.ratios,
            "median_ratio": median(outcome.ratios) if outcome.ratios else None,
            "met": outcome.met,
            "verdict": outcome.verdict,
        }
        for outcome in outcomes
    ]
