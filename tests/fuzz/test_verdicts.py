"""What a run of the fuzzers has to reach, and what it has to find where a check is left out.

The fuzzers themselves are run by `python -m tests.fuzz`, which needs clang.
"""

from __future__ import annotations

import pytest

from tests.fuzz import __main__ as command, running
from tests.fuzz.targets import NO_DECODERS, RING_BOUND, TARGETS, core_sources
from tests.support import ROOT

RECORDS = TARGETS["records"]


def test_each_file_is_a_decoder_or_it_is_said_why_it_is_none() -> None:
    decoders = {each.path for target in TARGETS.values() for each in target.decoders}
    files = {
        f"{folder}/{path.name}"
        for folder in ("csrc", "fastipc")
        for path in (ROOT / folder).glob("*.[ch]")
        if not path.with_suffix(".pyx").exists()
    }
    assert not decoders & set(NO_DECODERS)
    assert decoders | set(NO_DECODERS) == files


def ran(
    monkeypatch: pytest.MonkeyPatch, *found: str, cpu_s: float = 700, percent: int = 100
) -> None:
    """Makes each fuzzer one that has done this."""
    run = running.Run(cpu_s=cpu_s, executed=1, found=[ROOT / name for name in found])
    covered = running.Coverage(percent, ["a.c:1: missed"] * (100 - percent))
    monkeypatch.setattr(running, "fuzz", lambda *arguments, **named: run)
    monkeypatch.setattr(running, "coverage", lambda target: covered)


def wrong(seconds: float) -> list[str]:
    return command.check(RECORDS, seconds, 1e9, shows=False)[1]


def test_what_was_found_is_wrong_however_short_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    ran(monkeypatch, "timeout-1")
    assert len(wrong(1)) == 1


def test_a_minute_has_to_reach_what_it_can_and_a_full_run_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for target in TARGETS.values():
        assert 90 <= target.least_percent_of_a_minute < 100
    ran(monkeypatch, percent=94)
    assert wrong(59) == wrong(60) == []
    assert "94.0 % is less than 95.0 %" in wrong(600)[0]
    ran(monkeypatch, percent=93)
    assert wrong(59) == []
    assert "93.0 % is less than 93.5 %" in wrong(60)[0]


def test_a_run_that_ended_early_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ran(monkeypatch, cpu_s=59)
    assert "only 59 of 60 CPU seconds" in wrong(60)[0]


@pytest.mark.parametrize(
    ("found", "is_enough"),
    [
        (["slow-unit-1", "timeout-1"], True),
        (["slow-unit-1"], False),
        (["crash-1"], False),
        ([], False),
    ],
)
def test_an_endless_loop_has_to_be_reported_as_one(
    monkeypatch: pytest.MonkeyPatch, found: list[str], is_enough: bool
) -> None:
    ran(monkeypatch, *found)
    row, reasons = command.prove(RECORDS, RING_BOUND)
    assert (reasons == []) == is_enough
    assert row["has to be found as"] == "timeout"


def test_each_check_that_is_left_out_is_one_of_the_code() -> None:
    sources = [*core_sources(), *(ROOT / "fastipc").glob("_*.[ch]")]
    text = "\n".join(path.read_text() for path in sources)
    for target in TARGETS.values():
        assert target.breaks
        for one in target.breaks:
            assert f"!{one.macro}" in text, one.macro
