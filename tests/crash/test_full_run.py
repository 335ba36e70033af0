"""The full run: what it covers, what it keeps, and that it goes on where it was broken off."""

from __future__ import annotations

import ctypes
import inspect
import json
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from . import command, harness
from .harness import (
    ENOUGH,
    INSIDE,
    LIBC,
    Laboratory,
    Tally,
    _beginnings,
    _judge_tally,
    plan,
    run_targets,
)
from .processes import Child
from .proofs import ProofAdd
from .stepper import Point, UnsupportedError


class Long(ProofAdd):
    """As an operation on fastipc's objects, which are longer than the toy."""

    name = "long"
    minimum = 150


def run_fully(path: Path) -> tuple[str, dict[str, Any]]:
    result = subprocess.run(
        [sys.executable, "-m", "tests.crash", "--operation", "proof-add", "--full"]
        + ["--workers", "1", "--json", str(path)],
        cwd=command.ROOT,
        capture_output=True,
        text=True,
        timeout=50,
    )
    if result.returncode == 2:
        pytest.skip(result.stderr.strip())
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout, json.loads(path.read_text())


def test_a_full_run_kills_inside_and_in_libc_and_is_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    printed, kept = run_fully(path)
    assert [row["part"] for row in kept["rows"]] == ["inside", "libc"]
    inside, libc = kept["rows"]
    assert inside["kills"] == inside["instructions inside"] > 0
    assert libc["kills"] == libc["instructions of libc"] > 0
    assert libc["of them right behind a system call"] > 0
    assert kept["failures"] == []
    assert len(printed.splitlines()) == 3

    path.write_text(json.dumps({**kept, "rows": kept["rows"][:1]}))
    printed, kept_again = run_fully(path)
    assert len(printed.splitlines()) == 2
    assert [row["part"] for row in kept_again["rows"]] == ["inside", "libc"]


class Hurried(ProofAdd):
    """Takes a further step where the first ones took their time, as stepping does."""

    name = "hurried"

    def act(self) -> None:
        began = time.monotonic()
        for _ in range(40):
            self._read()
        if time.monotonic() - began > 0.004:
            self.proof.library.proof_march(self.scratch)
        self._add()

    def prepare(self, laboratory: object) -> None:
        super().prepare(laboratory)
        self.scratch = ctypes.create_string_buffer(64)


def run_hurried() -> tuple[int, Tally]:
    """Kills at all points of the further step, and at a few others."""
    try:
        laboratory = Laboratory()
    except UnsupportedError as error:
        pytest.skip(f"the crash tool is unsupported here: {error}")
    try:
        planned = plan(laboratory, Hurried, None)
        targets = planned.targets[:: max(len(planned.targets) // 50, 1)]
        return len(targets), run_targets(
            laboratory, Hurried, planned, targets, stop_after=5, is_sample=False
        )
    finally:
        laboratory.unpin()


def test_what_is_only_met_at_the_speed_of_the_recording_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count, tally = run_hurried()
    assert tally.failures == []
    assert (tally.kills, tally.missed) == (count, 0)
    monkeypatch.setattr(harness, "_TRIES_STEPPING", 0)
    monkeypatch.setattr(harness, "_TRIES_RESTING", 0)
    count, tally = run_hurried()
    assert tally.failures == []
    assert tally.missed > 0
    assert tally.kills + tally.missed == count


def test_no_recording_is_made_below_a_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    # Its frame is one more for whoever looks through them for an exception: put_many() was longer
    # by 3 % then, which no kill met.
    def record(laboratory: object, make: object) -> tuple[str, list[Point]]:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code is not plan.__code__:
            assert not frame.f_code.co_flags & inspect.CO_GENERATOR, frame
            frame = frame.f_back
        assert frame is not None
        return harness.AFTER, [Point(index, 1, 1) for index in range(Long.minimum)]

    monkeypatch.setattr(harness, "_record_again", record)
    laboratory: Any = SimpleNamespace(with_libc=True)
    for wanted in (None, 100):
        assert plan(laboratory, Long, wanted).targets


def test_a_slow_victim_rests_where_code_begins_that_is_left_out() -> None:
    addresses = [1, 2, 90, 91, 90, 91, 3, 90, 91, 4, 80, 81, 5, 90]
    points = [Point(index, address, 1) for index, address in enumerate(addresses)]
    kept = [point for point in points if point.address < 80]
    assert _beginnings(points, kept) == [90, 80]
    assert _beginnings(points, points) == []


def test_results_of_another_build_are_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"build": "another", "rows": [], "failures": [], "seconds": 0}))
    printed, kept = run_fully(path)
    assert len(printed.splitlines()) == 3
    assert kept["build"] != "another"


@pytest.mark.parametrize(("kills", "wanted", "fails"), [
    (ENOUGH, None, False), (ENOUGH - 1, None, True), (ENOUGH - 1, 160, True), (20, 20, False),
])  # fmt: skip
def test_too_few_kills_are_an_error(kills: int, wanted: int | None, fails: bool) -> None:
    tally = Tally("long", INSIDE, total=500, points=500, kills=kills, before=kills - 1, after=1)
    _judge_tally(tally, Long, wanted)
    assert bool(tally.failures) is fails


@pytest.mark.parametrize(("missed", "wanted", "fails"), [
    (10, None, False), (11, None, True), (11, 1000, False),
])  # fmt: skip
@pytest.mark.parametrize("part", [INSIDE, LIBC])
def test_too_many_points_that_are_never_met_again_are_an_error(
    part: str, missed: int, wanted: int | None, fails: bool
) -> None:
    tally = Tally("long", part, points=1000, kills=1000 - missed, before=980, after=9)
    tally.missed = missed
    _judge_tally(tally, Long, wanted)
    assert bool(tally.failures) is fails


def test_a_part_without_any_kill_is_an_error() -> None:
    for kills, fails in ((0, True), (3, False)):
        tally = Tally("long", LIBC, libc=3, points=3, kills=kills)
        _judge_tally(tally, Long, None)
        assert bool(tally.failures) is fails


def test_a_sleeper_that_is_never_killed_asleep_is_an_error() -> None:
    class Sleeping(Long):
        falls_asleep = True

    for asleep, fails in ((0, True), (1, False)):
        tally = Tally("long", INSIDE, kills=ENOUGH, before=ENOUGH // 2, after=ENOUGH // 2)
        tally.asleep = asleep
        _judge_tally(tally, Sleeping, None)
        assert bool(tally.failures) is fails


def test_losses_that_are_seldom_counted_are_an_error() -> None:
    class Losing(Long):
        loses = True

    for lost, fails in ((16, True), (17, False)):
        tally = Tally("long", INSIDE, kills=ENOUGH, before=ENOUGH // 2, after=ENOUGH // 2)
        tally.lost = lost
        _judge_tally(tally, Losing, None)
        assert bool(tally.failures) is fails


def test_a_worker_may_take_longer_than_poll_can_wait() -> None:
    """Some 39,000 points were given more milliseconds than fit in an int."""
    child = Child("the worker", lambda _: "done")
    try:
        assert child.report(timeout=39_000 * 80.0) == "done"
        child.expect_success(timeout=10)
    finally:
        child.close()
