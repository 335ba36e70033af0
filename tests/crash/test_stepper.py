"""The stepper itself: what it records, and that it kills right before the chosen instruction."""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from .harness import Laboratory
from .processes import Child, Link
from .proofs import ProofMemory
from .stepper import (
    Ending,
    Outcome,
    Point,
    Range,
    Stepper,
    UnsupportedError,
    evenly_spaced,
    executable_ranges,
    libc_ranges,
    locate,
    points_of,
)

_MARCH_STEPS = 200
_COPY_COUNT, _COPY_SUM = 1, 2  # 64-bit words of struct proof: copies[0].count and .sum
_TIMEOUT = 20.0


@pytest.fixture(scope="module")
def stepper() -> Stepper:
    try:
        return Stepper()
    except UnsupportedError as error:
        pytest.skip(f"the crash tool is unsupported here: {error}")


@pytest.fixture
def proof() -> Iterator[ProofMemory]:
    memory = ProofMemory()
    yield memory
    memory.close()


def trace(stepper: Stepper, act: Callable[[], object], run: Callable[[int], Outcome]) -> Outcome:
    """Runs a victim under the tracer; checks that its end is the one that was reported."""

    def live(link: Link) -> None:
        stepper.begin()
        act()
        stepper.end()

    victim = Child("the victim", live)
    try:
        outcome = run(victim.pid)
        if outcome.ending is Ending.FINISHED:
            victim.report(_TIMEOUT)
            victim.expect_success(_TIMEOUT)
        else:
            victim.note_reaped(outcome.wait_status)
        return outcome
    finally:
        victim.close()


def record(
    stepper: Stepper,
    proof: ProofMemory,
    act: Callable[[], object],
    callees: list[Range] | None = None,
    *,
    free_outside: bool = True,
) -> list[Point]:
    inside = executable_ranges(str(proof.path))
    addresses: list[int] = []

    def run(pid: int) -> Outcome:
        outcome, found = stepper.record(
            pid, inside, callees or [], free_outside=free_outside, timeout=_TIMEOUT
        )
        addresses.extend(found)
        return outcome

    assert trace(stepper, act, run).ending is Ending.FINISHED
    return points_of(addresses, inside)


def kill(stepper: Stepper, act: Callable[[], object], point: Point) -> Ending:
    return trace(stepper, act, lambda pid: stepper.kill(pid, point, timeout=_TIMEOUT)).ending


def test_a_kill_comes_right_before_the_chosen_instruction(
    stepper: Stepper, proof: ProofMemory
) -> None:
    def act() -> None:
        proof.library.proof_march(proof.address)

    points = record(stepper, proof, act)
    assert proof.word(0) == _MARCH_STEPS
    assert _MARCH_STEPS < len(points) < _MARCH_STEPS + 20
    entry = len(points) - _MARCH_STEPS - 1  # what stands before the march; behind it is a ret
    for point in evenly_spaced(points, 40):
        ctypes.memset(proof.address, 0, 8)
        assert kill(stepper, act, point) is Ending.KILLED
        assert proof.word(0) == min(max(point.index - entry, 0), _MARCH_STEPS)


def test_a_victim_is_held_where_it_was_asked_to_be(stepper: Stepper, proof: ProofMemory) -> None:
    pause_us = 30_000

    def act() -> None:
        began = time.monotonic()
        proof.library.proof_march(proof.address)
        taken_us = ctypes.c_uint64.from_address(int(proof.address.value or 0) + 8)
        taken_us.value = int((time.monotonic() - began) * 1e6)

    points = record(stepper, proof, act)
    beyond = Point(len(points), points[0].address, 2)

    def run(pid: int) -> Outcome:
        pauses = [points[0].address, points[50].address]
        return stepper.kill(pid, beyond, pauses=pauses, pause_us=pause_us, timeout=_TIMEOUT)

    assert trace(stepper, act, run).ending is Ending.FINISHED
    assert proof.word(1) >= 2 * pause_us


def test_an_instruction_is_found_by_its_occurrence(stepper: Stepper, proof: ProofMemory) -> None:
    def act() -> None:
        for _ in range(3):
            proof.library.proof_march(proof.address)

    points = record(stepper, proof, act)
    third = [point for point in points if point.occurrence == 3]
    assert 3 * len(third) == len(points)
    ctypes.memset(proof.address, 0, 8)
    assert kill(stepper, act, third[0]) is Ending.KILLED
    assert proof.word(0) == 2 * _MARCH_STEPS


def test_a_victim_that_ends_earlier_is_not_killed(stepper: Stepper, proof: ProofMemory) -> None:
    def act() -> None:
        proof.library.proof_march(proof.address)

    last = record(stepper, proof, act)[-1]
    beyond = Point(last.index + 1, last.address, last.occurrence + 1)
    assert kill(stepper, act, beyond) is Ending.FINISHED


def test_running_freely_outside_records_the_same_as_stepping_everywhere(
    stepper: Stepper, proof: ProofMemory
) -> None:
    def act() -> None:
        proof.library.proof_add(proof.address, ctypes.c_uint64(7))
        proof.library.proof_march(proof.address)

    act()  # resolves what is bound lazily
    assert record(stepper, proof, act) == record(stepper, proof, act, free_outside=False)


def test_a_repeated_string_instruction_counts_once(stepper: Stepper, proof: ProofMemory) -> None:
    def act() -> None:
        proof.library.proof_repeat(proof.address)

    points = record(stepper, proof, act)
    assert len(points) < 40
    assert proof.word(_COPY_SUM) == 7
    found = set()
    for point in points:
        ctypes.memset(proof.address, 0, 1024)
        assert kill(stepper, act, point) is Ending.KILLED
        found.add((proof.word(_COPY_COUNT), proof.word(_COPY_SUM)))
    assert found == {(0, 0), (1, 0), (1, 7)}


def test_libc_counts_only_while_called_from_inside(stepper: Stepper, proof: ProofMemory) -> None:
    def act() -> None:
        proof.library.proof_call(proof.address)

    act()  # resolves memset
    alone = record(stepper, proof, act)
    points = record(stepper, proof, act, libc_ranges())
    assert [p for p in points if p.callee_address == 0] == [
        Point(q.index, p.address, p.occurrence)
        for p, q in zip(alone, [q for q in points if q.callee_address == 0], strict=True)
    ]
    in_libc = [point for point in points if point.callee_address != 0]
    assert len(in_libc) >= 10
    for point in evenly_spaced(in_libc, 10):
        ctypes.memset(proof.address, 0, 1024)
        assert kill(stepper, act, point) is Ending.KILLED
        assert (proof.word(_COPY_COUNT), proof.word(_COPY_SUM)) == (1, 0)


def test_a_victim_is_killed_while_it_sleeps(stepper: Stepper) -> None:
    def end_of(act: Callable[[], object]) -> Ending:
        return trace(stepper, act, lambda pid: stepper.kill_asleep(pid, 0, timeout=_TIMEOUT)).ending

    assert end_of(signal.pause) is Ending.KILLED
    assert end_of(lambda: None) is Ending.FINISHED


def test_the_instruction_right_behind_a_system_call_is_known(
    stepper: Stepper, proof: ProofMemory
) -> None:
    def act() -> None:
        proof.library.proof_add(proof.address, ctypes.c_uint64(7))

    act()  # resolves getpid
    points = record(stepper, proof, act, libc_ranges())
    behind = [point for point in points if point.follows_system_call]
    assert len(behind) == 1
    assert kill(stepper, act, behind[0]) is Ending.KILLED


def test_a_victim_that_crashes_or_hangs_is_told_apart(stepper: Stepper, proof: ProofMemory) -> None:
    inside = executable_ranges(str(proof.path))

    def end_of(act: Callable[[], object], timeout: float) -> Outcome:
        return trace(stepper, act, lambda pid: stepper.record(pid, inside, timeout=timeout)[0])

    crashed = end_of(lambda: proof.library.proof_march(None), _TIMEOUT)
    assert crashed.ending is Ending.DIED
    assert str(crashed) == "the victim died of signal 11"
    hung = end_of(signal.pause, 0.3)
    assert hung.ending is Ending.HUNG


def test_an_address_is_named_by_its_file_and_offset(proof: ProofMemory) -> None:
    address = ctypes.cast(proof.library.proof_march, ctypes.c_void_p).value
    assert address is not None
    assert locate(address).startswith(f"{proof.path.name}+0x")


@pytest.mark.parametrize("wanted", [1, 2, 7, 99, 100, 1000, None])
def test_points_are_spread_evenly_from_the_first_to_the_last(wanted: int | None) -> None:
    points = [Point(index, index, 1) for index in range(100)]
    chosen = evenly_spaced(points, wanted)
    assert len(chosen) == min(wanted or 100, 100)
    assert chosen[0] == points[0]
    if len(chosen) > 1:
        assert chosen[-1] == points[-1]
        gaps = [b.index - a.index for a, b in itertools.pairwise(chosen)]
        assert max(gaps) - min(gaps) <= 1


def test_the_clock_of_the_kernel_reads_again_as_often_as_it_likes_and_counts_once() -> None:
    text = ctypes.create_string_buffer(40)  # what stands there is looked at
    start = ctypes.addressof(text)
    inside = Range(start, start + 10, "inside")
    clock = Range(start + 20, start + 30, "[vdso]")

    def points(*places: int) -> list[Point]:
        return points_of([start + place for place in places], [inside], [clock])

    once = points(1, 11, 20, 21, 12, 2)
    assert [point.place - start for point in once] == [1, 11, 20, 21, 12, 2]
    again = points(1, 11, 20, 21, 20, 21, 12, 2)
    assert [point.place - start for point in again] == [1, 11, 20, 21, 12, 2]
    assert {point.callee_occurrence for point in again if point.callee_address} == {1}
    # Only there: a loop of libc's is one of the operation's.
    assert len(points(1, 11, 11, 2)) == 4
    # A call of the clock from another instruction inside is another point.
    assert len(points(1, 20, 2, 20)) == 4


def test_who_has_pinned_itself_still_knows_all_cpus() -> None:
    before = os.sched_getaffinity(0)
    try:
        Laboratory(cpu=0)
        second = Laboratory(cpu=1)
        assert len(os.sched_getaffinity(0)) == 1
        second.unpin()
        assert os.sched_getaffinity(0) == before
    finally:
        os.sched_setaffinity(0, before)
