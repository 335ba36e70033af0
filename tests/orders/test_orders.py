"""Each pair of PROTOCOL.md has the tests that its row names, and their verdicts are strict.

That the pairs are the labels of csrc is a test of tests/unit/test_protocol.py. The tests of the
pairs are run by `python -m tests.orders`, which needs ThreadSanitizer.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.orders.build import CSRC, HERE, bits
from tests.orders.proofs import INCLUDED, LITMUS, RACES, UNSHOWN, all_pairs, pairs_of
from tests.orders.runs import judge_litmus, judge_race, reported, run_litmus


def test_each_pair_has_the_tests_that_its_row_names() -> None:
    pairs = all_pairs()
    names = [pair.name for pair in pairs]
    assert len(names) == len(set(names))
    assert {p.name for p in pairs if "race" in p.shown_by} == set(RACES)
    assert {p.name for p in pairs if "litmus" in p.shown_by} == set(LITMUS)
    assert {word for pair in pairs for word in pair.shown_by} == {"race", "litmus"}


def test_a_row_that_says_nothing_of_its_test_is_none() -> None:
    text = "## Barrier pairs\n\n| L2, L1 | `a` | why | race, litmus |\n| X1, X2 | `a` | Why |\n"
    assert [(p.labels, p.shown_by) for p in pairs_of(text)] == [(("L2", "L1"), ("race", "litmus"))]


def test_each_order_that_is_relaxed_stands_in_what_is_compiled_anew() -> None:
    headers = "\n".join(path.read_text() for path in CSRC.glob("*.h"))
    for pair in all_pairs():
        if pair.name in RACES:
            race = RACES[pair.name]
            names = (*race.sources, *INCLUDED.get(race.program, ()))
            text = "\n".join((CSRC / name).read_text() for name in names)
            text += headers + (HERE / f"{race.program}.c").read_text()
            for label in (*pair.labels, *race.hidden):
                assert re.search(rf"\({label},", text), f"{pair.name}: {label}"
    program = (HERE / "litmus.c").read_text()
    for name, litmus in LITMUS.items():
        for label, sources in litmus.mutants:
            names = (*sources, *INCLUDED["litmus"])
            text = "\n".join((CSRC / source).read_text() for source in names)
            assert re.search(rf"seqcst\({label},", text + headers + program), f"{name}: {label}"


def test_each_program_has_the_pairs_that_are_to_be_run_in_it() -> None:
    for program in {race.program for race in RACES.values()}:
        listed = re.findall(r'^    \{"([A-Z])", ', (HERE / f"{program}.c").read_text(), re.M)
        assert set(listed) == {name for name, race in RACES.items() if race.program == program}
    assert set(re.findall(r'^    \{"([A-Z])", ', (HERE / "litmus.c").read_text(), re.M)) == set(
        LITMUS
    )


def test_each_side_of_a_pair_has_a_mutant_that_lacks_its_order() -> None:
    split = {label for litmus in LITMUS.values() for label, _ in litmus.mutants}
    relaxed = {label for pair in all_pairs() if pair.name in RACES for label in pair.labels}
    labels = {label for pair in all_pairs() for label in pair.labels}
    assert labels - split - relaxed == set(UNSHOWN)
    for name, litmus in LITMUS.items():
        # Both store before they load, so both have something to be taken apart.
        assert [label for label, _ in litmus.mutants] == ["L2" if name == "W" else f"{name}1", "W2"]


def test_a_litmus_test_that_lacks_a_cpu_is_a_failure_unless_that_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {3})
    for split in (None, "T1"):
        failed = run_litmus(Path("never-run"), "T", split, may_miss_a_cpu=False)
        known = run_litmus(Path("never-run"), "T", split, may_miss_a_cpu=True)
        assert failed.wrong == failed.showed == known.showed == "not run: there is only one CPU"
        assert known.wrong is None


def test_labels_are_handed_over_as_atomics_h_wants_them() -> None:
    assert bits(["R1", "P1"]) == "FIPC_ORDER_BIT(R1)|FIPC_ORDER_BIT(P1)"


REPORT = """==================
WARNING: ThreadSanitizer: {kind} (pid=7)
  Read of size 4 at 0x1 by thread T2:
    #0 {function} order.h:37 (sides+0x1)

{location}
SUMMARY: ThreadSanitizer: {kind} order.h:37 in acquire_side
==================
"""


def report(memory: str, kind: str = "data race", function: str = "acquire_side") -> str:
    location = f"  Location is {memory} of size 4 at 0x1 (sides+0x1)\n" if memory else ""
    return REPORT.format(kind=kind, location=location, function=function)


def test_a_report_names_the_memory_that_it_is_about() -> None:
    text = report("global 'payload'") + report("global 'cache.0'") + report("", function="free")
    assert reported(text) == [
        ("data race", "payload"),
        ("data race", "cache"),
        ("data race", "freed memory"),
    ]


def test_a_mutant_must_be_reported_and_for_nothing_but_its_pair() -> None:
    race = RACES["L"]
    assert judge_race(race, True, 66, report("global 'payload'")) == ("data race on payload", None)
    for status, text in [
        (0, ""),
        (66, report("global 'payload'") + report("global 'side'")),
        (66, report("global 'payload'") + report("global 'payload'", "thread leak")),
        (66, ""),
        (0, report("global 'payload'")),
        (1, "order.h:37: payload is 0, expected 42"),
        (-6, ""),
    ]:
        assert judge_race(race, True, status, text)[1] is not None


def test_a_true_build_must_not_be_reported_at_all() -> None:
    race = RACES["K"]
    assert judge_race(race, False, 0, "") == ("no report", None)
    assert judge_race(race, False, 66, report("heap block"))[1] is not None
    assert judge_race(race, False, 124, "watchdog")[1] is not None


def test_a_miss_is_an_error_of_a_true_build_and_its_absence_one_of_a_mutant() -> None:
    assert judge_litmus(False, 1_000_000, 0) is None
    assert judge_litmus(False, 1_000_000, 1) is not None
    assert judge_litmus(False, 1000, 0) is not None
    assert judge_litmus(True, 1000, 1) is None
    assert judge_litmus(True, 1000, 0) is not None
