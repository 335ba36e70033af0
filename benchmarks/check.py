"""``python -m benchmarks.check [ROW...]``: are the marks met?

Measures in rounds. A round takes, for each case, everybody whom a row of the case compares, one
directly after the other and each in fresh processes; whoever counts most stands beside the
candidate, and the order is turned round in every other round. A row's result is the median of its
ratios, each of which compares numbers of one round. Exits with 1 if a row misses its mark. Takes a
quiet machine and up to an hour for all rows, so it is no part of the tests.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from benchmarks import report
from benchmarks.check_options import ROUNDS_FOR_ALL, parse
from benchmarks.report import Outcome
from benchmarks.rows import BEST, FLOOR, MIX_PARTS, NUMBER, OWN, PARTS, SECONDS_OF, Row, chosen
from fastipc._bench import environment, results as kept_results
from fastipc._bench.cases import CASES
from fastipc._bench.measure import Settings
from fastipc._bench.results import Results, better, shown

# Whoever is this many times behind the best peer in each of the first rounds cannot become the
# best one, and is left out of the others, unless all are wanted.
HOPELESS = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check; the result is the exit status."""
    options = parse(arguments)
    rows = chosen(options.rows)
    if options.list:
        for row in rows:
            print(f"{row.name:50} {row.target}{'' if row.negotiable else '  not negotiable'}")
        return 0
    settings = Settings(options.start_method, options.seconds)
    check = Check(rows, options, settings)
    where = environment.describe(check.everybody())
    print(environment.caption(where))
    try:
        # Round by round over all cases, not case by case: a disturbance of some seconds spoils
        # one round of several rows, which the medians bear, and not several rounds of one.
        for number in range(options.rounds):
            check.round(number)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    outcomes = [Outcome(row, options.candidate, check.results) for row in rows]
    report.print_rows(outcomes, options.candidate)
    for line in [*check.results.errors(), *report.summary(outcomes)]:
        print(line)
    if options.json is not None:
        used: dict[str, Any] = {
            **asdict(settings),
            "seconds_of": check.seconds_of(),
            "rounds": options.rounds,
            "candidate": options.candidate,
            "chosen": options.rows,
        }
        document = kept_results.document(check.results, where, used)
        kept_results.write(options.json, {**document, "rows": report.kept(outcomes)})
    return 0 if all(outcome.met for outcome in outcomes) else 1


class Check:
    """All measurements that some rows need, each of them once a round."""

    def __init__(
        self, rows: Sequence[Row], options: argparse.Namespace, settings: Settings
    ) -> None:
        self.results = Results()
        self._options = options
        self._settings = settings
        self._seconds_of = dict(options.seconds_of)
        self._candidate: str = options.candidate
        # For each case whom to measure: first those that are always needed, then who may be best.
        self._named: dict[str, list[str]] = {}
        self._rivals: dict[str, list[str]] = {}
        self._floors: dict[str, list[str]] = {}
        for row in rows:
            self._need(row)

    def _need(self, row: Row) -> None:
        named = self._named.setdefault(row.case, [self._candidate])
        rivals = self._rivals.setdefault(row.case, [])
        if row.against == BEST:
            among = row.among or self._options.peers
            wanted = [peer for peer in self._options.peers if peer in among]
            rivals += [peer for peer in wanted if peer not in rivals]
        elif row.against == PARTS:
            for case in MIX_PARTS:
                self._need_own(case)
        elif row.against.startswith(OWN):
            self._need_own(row.against[len(OWN) :])
        elif row.against.startswith(FLOOR):
            self._floors.setdefault(row.case, []).append(row.against)
        elif row.against != NUMBER and row.against not in named:
            named.append(row.against)

    def _need_own(self, case: str) -> None:
        self._named.setdefault(case, [self._candidate])
        self._rivals.setdefault(case, [])

    def everybody(self) -> list[str]:
        """Return all whom it measures."""
        lists = [*self._named.values(), *self._rivals.values()]
        return list(dict.fromkeys(peer for peers in lists for peer in peers))

    def seconds_of(self) -> dict[str, float]:
        """Return how long a measurement lasts, of those cases of which it is another time."""
        times = {case: self._settings_of(case).seconds for case in self._named}
        return {case: time for case, time in times.items() if time != self._settings.seconds}

    def _settings_of(self, case: str) -> Settings:
        least = max(self._settings.seconds, SECONDS_OF.get(case, 0.0))
        return replace(self._settings, seconds=self._seconds_of.get(case, least))

    def round(self, number: int) -> None:
        """Measure everything once."""
        for case in self._named:
            settings = self._settings_of(case)
            order = self._order(case, number)
            for peer in reversed(order) if number % 2 else order:
                if peer.startswith(FLOOR):
                    taken = self.results.keep(peer, "floor", _measure_floor(peer, settings))
                elif reason := self._reason_to_drop(case, peer, number):
                    taken = self.results.keep(case, peer, reason)
                    continue
                else:
                    taken = self.results.take(case, peer, settings)
                self._show(number, case, peer, taken)

    def _order(self, case: str, number: int) -> list[str]:
        """Return whom to measure: the candidate between those that matter most."""
        named = [peer for peer in self._named[case] if peer != self._candidate]
        rivals = [peer for peer in self._rivals[case] if peer not in self._named[case]]
        more = CASES[case].more_is_better
        if number:
            worst = float("-inf") if more else float("inf")

            def rank(peer: str) -> float:
                found = self.results.number(case, peer)
                return worst if found is None else found

            rivals.sort(key=rank, reverse=more)
        floors = self._floors.get(case, [])
        return [*reversed(named), self._candidate, *floors, *rivals]

    def _reason_to_drop(self, case: str, peer: str, number: int) -> dict[str, Any] | None:
        """Return what to keep in the place of a measurement, if it is not worth its time."""
        before = self.results.of(case, peer)
        for taken in before:
            if taken.get("kind") in ("absent", "hung"):
                return taken
        if peer in self._named[case] or self._options.all_peers or number < ROUNDS_FOR_ALL:
            return None
        behind = all(self._is_hopeless(case, peer, each) for each in range(ROUNDS_FOR_ALL))
        return {"kind": "dropped"} if behind else None

    def _is_hopeless(self, case: str, peer: str, number: int) -> bool:
        value = self.results.of(case, peer)[number].get("value")
        rivals = [
            rounds[number]["value"]
            for rival in self._rivals[case]
            if report.moves_arrays(rival)
            and len(rounds := self.results.of(case, rival)) > number
            and "value" in rounds[number]
            # A best one by another measure, such as latency, may be far behind by this one.
            and rounds[number].get("latency_p50_us", 0) < 100
        ]
        if value is None or not rivals:
            return False
        best = max(rivals) if CASES[case].more_is_better else min(rivals)
        return better(CASES[case], best, value) > HOPELESS

    def _show(self, number: int, case: str, peer: str, taken: dict[str, Any]) -> None:
        text = f"{taken['kind']}: {taken['error']}" if "error" in taken else shown(taken["value"])
        print(
            f"round {number + 1}/{self._options.rounds}  {case:24} {peer:20} {text}",
            file=sys.stderr,
            flush=True,
        )


def _measure_floor(name: str, settings: Settings) -> dict[str, Any]:
    """Measure what C reaches; where that part is missing, say so."""
    try:
        floor: Any = importlib.import_module("benchmarks.floor")
        measure = floor.measure
    except (ImportError, AttributeError) as error:
        return {"kind": "absent", "error": str(error)}
    try:
        taken: dict[str, Any] = measure(name[len(FLOOR) :], settings.seconds)
        return taken
    except Exception as error:
        return {"kind": "failed", "error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    sys.exit(main())
