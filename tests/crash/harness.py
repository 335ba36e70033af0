"""Runs operations: records one, kills it at chosen instructions, judges what is left.

Owns the order of events around a kill, and the counting; the operations own their meaning.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .operation import AFTER, BEFORE, Operation, OtherWay, Reports, Violation
from .processes import Child, ChildFailure, Link, flush_before_fork
from .stepper import (
    MOST_PAUSES,
    AsleepPoint,
    Ending,
    Outcome,
    Point,
    Range,
    Stepper,
    evenly_spaced,
    executable_ranges,
    libc_ranges,
    locate,
    points_of,
    source_files,
    vdso_ranges,
)

GO = "go"
READY = "ready"
_FURTHER_TRIES = 3  # for each point where the victim ended before it was killed
# Which way is taken can depend on time (has the other side fallen asleep? is it time to look after
# the dead?), and the recording is slow. So there are then so many tries with a rest where code
# begins that is left out, for stepping through long copies takes its time too, and so many at the
# speed of the recording.
_TRIES_RESTING = 3
_REST_US = 2000  # whoever spins has then fallen asleep
_TRIES_STEPPING = 2
# The shortest of so many recordings is taken, when all of its points are to be met again. What
# another process or thread now and then puts in the way is not: a second thread that had the lock
# made it a fifth longer in one of six.
_RECORDINGS = 4
_ASLEEP_KILLS = 4  # in a sample
_ASLEEP_KILLS_OF_ALL = 30
_SYSTEM_CALL_KILLS = 10  # in a sample, of those right behind a system call
ENOUGH = 100  # kills of an operation; fewer show too little
# Of all points of a part; a few are behind a branch that the clock or another process decides.
MOST_MISSED = 0.01
INSIDE, LIBC = "inside", "libc"
# Asked once: a process that has pinned itself would be told of one.
_CPUS = os.sched_getaffinity(0)


@dataclass(frozen=True, slots=True)
class Target:
    """One kill: which variant of the operation, at which instruction."""

    variant: int
    point: Point | AsleepPoint


@dataclass
class Tally:
    """The result of all kills of one operation."""

    name: str
    part: str = ""  # of the points, when it is not a sample
    total: int = 0  # instructions inside, over all variants
    libc: int = 0  # instructions of libc called from there
    left_out: int = 0  # instructions of both that are killed in other operations
    points: int = 0  # chosen
    kills: int = 0
    behind_system_calls: int = 0  # of the kills, right behind one
    asleep: int = 0  # of the kills, while the victim slept
    before: int = 0
    after: int = 0
    lost: int = 0  # kills behind which stats() counted a loss
    finished: int = 0  # runs whose victim ended before the chosen instruction
    missed: int = 0  # points that were never met again, however often it was tried
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        for name in (
            "kills", "behind_system_calls", "asleep", "before", "after", "lost", "finished",
            "missed",
        ):  # fmt: skip
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.failures += other.failures


class Laboratory:
    """Everything that one worker process needs to run cases."""

    def __init__(self, *, deadline: float = 10.0, cpu: int = 0) -> None:
        self.stepper = Stepper()
        self.deadline = deadline
        self.with_libc = False
        self._cpus = _CPUS
        self.pin(cpu)

    def pin(self, cpu: int) -> None:
        """A stop costs a quarter when tracer and victim share a CPU: pins both."""
        cpus = sorted(self._cpus)
        os.sched_setaffinity(0, {cpus[cpu % len(cpus)]})

    def unpin(self) -> None:
        """Lets this process run everywhere again, and with it what it starts from now on."""
        os.sched_setaffinity(0, self._cpus)

    def ranges(self, operation: Operation) -> tuple[list[Range], list[Range]]:
        """Returns the text inside, and the text that counts while called from inside."""
        inside = executable_ranges(operation.module_path())
        return inside, libc_ranges() if self.with_libc else []

    def record(self, make: Callable[[], Operation]) -> tuple[str, list[Point]]:
        """Runs the operation to its end; returns the state found and the kill points."""
        operation = make()
        free_outside = not operation.has_threads
        inside: list[Range] = []
        addresses: list[int] = []

        def trace(pid: int) -> Outcome:
            nonlocal addresses, inside
            inside, callees = self.ranges(operation)  # loaded by prepare() at the latest
            outcome, addresses = self.stepper.record(
                pid, inside, callees, free_outside=free_outside, timeout=6 * self.deadline
            )
            return outcome

        outcome, state = self.run(operation, trace)
        if outcome.ending is not Ending.FINISHED:
            raise Violation(f"while recording: {outcome}")
        return state, points_of(addresses, inside, vdso_ranges())

    def kill(
        self,
        make: Callable[[], Operation],
        point: Point | AsleepPoint,
        *,
        rests: Sequence[int] = (),
        is_stepping: bool = False,
    ) -> tuple[Outcome, str, int]:
        """Runs the operation, kills it at the point; returns the state and the loss found."""
        operation = make()

        def trace(pid: int) -> Outcome:
            if isinstance(point, AsleepPoint):
                return self.stepper.kill_asleep(pid, point.further_us, timeout=self.deadline)
            if is_stepping:
                return self.stepper.kill_stepping(
                    pid, point, *self.ranges(operation),
                    free_outside=not operation.has_threads, timeout=6 * self.deadline,
                )  # fmt: skip
            return self.stepper.kill(
                pid, point, pauses=rests, pause_us=_REST_US, timeout=self.deadline
            )

        reports = Reports()
        outcome, state = self.run(operation, trace, reports)
        return outcome, state, reports.lost

    def run(
        self,
        operation: Operation,
        trace: Callable[[int], Outcome],
        reports: Reports | None = None,
    ) -> tuple[Outcome, str]:
        """One case, from preparation to verdict. Raises Violation or ChildFailure."""
        reports = reports or Reports()
        flush_before_fork()
        with contextlib.ExitStack() as stack:
            operation.settle()
            operation.prepare(self)
            stack.callback(operation.close)
            survivor = self._fork(stack, "the survivor", lambda link: _survive(operation, link))
            self._await_ready(survivor)
            peer = None
            if operation.has_peer:
                peer = self._fork(stack, "the peer", lambda link: _assist(operation, link))
                self._await_ready(peer)
                if operation.peer_sleeps:
                    peer.await_asleep(self.deadline)

            def begin() -> None:
                operation.attach_victim()
                operation.warm_victim()

            def let_go_and_trace(pid: int) -> Outcome:
                operation.let_go()
                if peer is not None and operation.peer_sleeps:
                    peer.await_asleep(self.deadline)  # again: that may have woken it
                return trace(pid)

            outcome = self.trace_victim(begin, operation.act, let_go_and_trace)
            survivor.link.send(GO)
            reports.survivor = _unwrap("survivor", survivor.report(self.deadline))
            if peer is not None and operation.peer_ends_first:
                reports.peer = _unwrap("peer", peer.report(self.deadline))
            fresh = self._fork(stack, "the fresh process", lambda _: _guard(operation.arrive))
            reports.fresh = _unwrap("fresh process", fresh.report(self.deadline))
            fresh.expect_success(self.deadline)
            if peer is not None:
                if not operation.peer_ends_first:
                    reports.peer = _unwrap("peer", peer.report(self.deadline))
                peer.expect_success(self.deadline)
            survivor.link.send(GO)
            survivor.expect_success(self.deadline)
            return outcome, operation.judge(reports)

    def trace_victim(
        self,
        attach: Callable[[], None],
        act: Callable[[], None],
        trace: Callable[[int], Outcome],
    ) -> Outcome:
        """Forks a victim that attaches and acts under `trace`; raises if it fails itself."""

        def live(link: Link) -> None:
            attach()
            self.stepper.begin()
            try:
                act()
            finally:
                self.stepper.end()

        victim = Child("the victim", live)
        try:
            outcome = trace(victim.pid)
            if outcome.ending is Ending.FINISHED:
                victim.report(self.deadline)
                victim.expect_success(self.deadline)
            else:
                victim.note_reaped(outcome.wait_status)
                if outcome.ending is not Ending.KILLED:
                    raise ChildFailure(f"{outcome}{victim.last_words()}")
        finally:
            victim.close()
        return outcome

    def _fork(
        self, stack: contextlib.ExitStack, name: str, function: Callable[[Link], object]
    ) -> Child:
        def unpinned(link: Link) -> object:
            os.sched_setaffinity(0, self._cpus)
            return function(link)

        child = Child(name, unpinned)
        stack.callback(child.close)
        return child

    def _await_ready(self, child: Child) -> None:
        report = child.report(self.deadline)
        if report != READY:
            _unwrap(child.name, report)


def _guard(function: Callable[[], object]) -> object:
    """Child: a violation is a report, not a crash."""
    try:
        return function()
    except Violation as violation:
        return violation


def _unwrap(who: str, report: object) -> object:
    if isinstance(report, Violation):
        raise Violation(f"{who}: {report}")
    return report


def _survive(operation: Operation, link: Link) -> object:
    operation.attach()
    link.send(READY)
    link.receive()
    link.send(_guard(operation.survive))
    link.receive()  # stays attached while the fresh process looks
    return None


def _assist(operation: Operation, link: Link) -> object:
    operation.attach()
    link.send(READY)
    return _guard(lambda: operation.assist(link))


@dataclass
class Plan:
    """What is to be killed of an operation."""

    variants: list[Callable[[], Operation]]
    recordings: list[list[Point]]  # of each variant, every instruction inside and of libc
    targets: list[Target]
    rests: list[list[int]]  # of each variant, where code begins that is left out
    left_out: int = 0  # instructions that the recordings do not have


def plan(
    laboratory: Laboratory,
    operation: type[Operation],
    wanted: int | None,
    parts: Sequence[str] = (INSIDE,),
) -> Plan:
    """Records every variant and chooses the kills: so many, evenly spaced in each, or all."""
    gc.collect()
    gc.disable()  # a collection inside one run and not the other would shift its instructions
    laboratory.with_libc = False  # takes longer, and tells the variants nothing
    variants = list(operation.variants(laboratory))
    laboratory.with_libc = True
    recordings, rests = [], []
    left_out = 0
    for make in variants:
        # A list: below a generator the interpreter has one more place for exceptions, and whoever
        # looks for the topmost one would pass it in the recording only.
        found = [
            _record_again(laboratory, make) for _ in range(_RECORDINGS if wanted is None else 1)
        ]
        state, points = min(found, key=lambda recording: len(recording[1]))
        if operation.changes_state and state != AFTER:
            raise Violation(f"the operation ended, yet the state is the one {state}")
        kept = _leave_out(operation, points)
        recordings.append(kept)
        rests.append(_beginnings(points, kept))
        left_out += len(points) - len(kept)
    total = sum(not point.callee_address for points in recordings for point in points)
    if total < operation.minimum:
        raise Violation(f"only {total} instructions inside, {operation.minimum} needed")
    targets = []
    for index, points in enumerate(recordings):
        each = None if wanted is None else -(-wanted // len(variants))
        targets += [Target(index, point) for point in choose(points, each, parts)]
        if operation.falls_asleep and INSIDE in parts:
            count = _ASLEEP_KILLS_OF_ALL if each is None else min(each, _ASLEEP_KILLS)
            targets += [Target(index, AsleepPoint(i, 150 * i)) for i in range(count)]
    return Plan(variants, recordings, targets, rests, left_out)


def _leave_out(operation: type[Operation], points: list[Point]) -> list[Point]:
    if not operation.left_out:
        return points
    files = source_files(list({point.address for point in points}))
    return [point for point in points if files.get(point.address) not in operation.left_out]


def _beginnings(points: Sequence[Point], kept: Sequence[Point]) -> list[int]:
    """Where code that is left out is entered most often."""
    indices = {point.index for point in kept}
    entered = Counter(
        point.place
        for before, point in itertools.pairwise(points)
        if point.index not in indices and before.index in indices
    )
    return [place for place, _ in entered.most_common(MOST_PAUSES)]


def choose(points: Sequence[Point], wanted: int | None, parts: Sequence[str]) -> list[Point]:
    """Picks points of these parts, and of a sample's libc those right behind system calls."""
    inside = [point for point in points if not point.callee_address]
    in_libc = [point for point in points if point.callee_address]
    chosen = []
    if INSIDE in parts:
        chosen += evenly_spaced(inside, wanted)
    if LIBC in parts:
        chosen += evenly_spaced(in_libc, wanted)
    elif wanted is not None:
        behind = [point for point in in_libc if point.follows_system_call]
        chosen += evenly_spaced(behind, min(wanted, _SYSTEM_CALL_KILLS)) if behind else []
    return chosen


def _record_again(laboratory: Laboratory, make: Callable[[], Operation]) -> tuple[str, list[Point]]:
    for _ in range(_FURTHER_TRIES):
        try:
            return laboratory.record(make)
        except OtherWay:
            continue
    return laboratory.record(make)


def run_targets(
    laboratory: Laboratory,
    operation: type[Operation],
    planned: Plan,
    targets: Sequence[Target],
    stop_after: int,
    *,
    is_sample: bool = True,
) -> Tally:
    """Kills at each target; stops early once `stop_after` failures are known."""
    tally = Tally(operation.name)
    open_before = 0
    for number, target in enumerate(targets):
        if number == 1:  # the first run has opened what stays open for good
            open_before = _count_descriptors()
        _run_target(laboratory, operation, planned, target, tally, is_sample)
        if len(tally.failures) >= stop_after:
            break
    else:
        left_over = _count_descriptors() - open_before
        if len(targets) > 1 and left_over > 0:
            tally.failures.append(f"{len(targets)} runs left {left_over} descriptors open")
    return tally


def _run_target(
    laboratory: Laboratory,
    operation: type[Operation],
    planned: Plan,
    target: Target,
    tally: Tally,
    is_sample: bool,
) -> None:
    """One kill, tried again where the victim took another way than the recording."""
    chooser = random.Random(target.point.index)
    point = target.point
    rests = planned.rests[target.variant]
    ways: list[dict[str, Any]] = [{}] * (1 + _FURTHER_TRIES)
    if not is_sample:
        ways += [{"rests": rests}] * (_TRIES_RESTING if rests else 0)
        ways += [{"is_stepping": True}] * _TRIES_STEPPING
    for way in ways:
        try:
            outcome, state, lost = laboratory.kill(planned.variants[target.variant], point, **way)
        except OtherWay:
            tally.finished += 1
            continue
        except (Violation, ChildFailure) as failure:
            tally.kills += 1
            tally.failures.append(f"killed {describe(point, target.variant)}: {failure}")
            return
        if outcome.ending is Ending.KILLED:
            tally.kills += 1
            tally.before += state == BEFORE
            tally.after += state == AFTER
            tally.lost += lost > 0
            tally.asleep += isinstance(point, AsleepPoint)
            tally.behind_system_calls += isinstance(point, Point) and point.follows_system_call
            return
        # Took another way than the recording, for example met no contention.
        tally.finished += 1
        if operation.changes_state and state != AFTER:
            tally.failures.append(f"the operation ended, yet the state is the one {state}")
            return
        if is_sample:  # any other is as good
            point = chooser.choice(planned.recordings[target.variant])
    tally.missed += 1


def describe(point: Point | AsleepPoint, variant: int) -> str:
    """Says where a kill came."""
    if isinstance(point, AsleepPoint):
        return f"in variant {variant} while {point}"
    return (
        f"before instruction {point.index + 1} of variant {variant}, {locate(point.place)}"
        + (f" called from {locate(point.address)}" if point.callee_address else "")
        + (", right behind a system call" if point.follows_system_call else "")
    )


def _count_descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def run_operation(
    operation: type[Operation],
    *,
    wanted: int | None,
    workers: int,
    deadline: float,
    stop_after: int,
    parts: Sequence[str] = (INSIDE,),
) -> Tally:
    """Runs all kills of an operation in `workers` processes."""
    started = time.monotonic()
    laboratory = Laboratory(deadline=deadline)
    tally = Tally(operation.name, "" if wanted is not None else "+".join(parts))
    try:
        planned = plan(laboratory, operation, wanted, parts)
    except (Violation, ChildFailure) as failure:
        tally.failures.append(f"without any kill: {failure}")
        tally.seconds = time.monotonic() - started
        return tally
    finally:
        laboratory.unpin()
    count_instructions(tally, planned)

    def work(index: int) -> Tally:
        laboratory.pin(index)
        return run_targets(
            laboratory, operation, planned, planned.targets[index::workers], stop_after,
            is_sample=wanted is not None,
        )  # fmt: skip

    flush_before_fork()
    children = []
    for index in range(workers):
        job = functools.partial(work, index)
        children.append(Child(f"worker {index}", lambda _, job=job: job()))  # type: ignore[misc]
    try:
        for child in children:
            # Each case is bounded by its own deadlines; this one only ends a broken worker.
            tally.add(child.report(60 + len(planned.targets) * 8 * deadline))
            child.expect_success(deadline)
    except ChildFailure as failure:
        tally.failures.append(str(failure))
    finally:
        for child in children:
            child.close()
    _judge_tally(tally, operation, wanted)
    tally.seconds = time.monotonic() - started
    return tally


def count_instructions(tally: Tally, planned: Plan) -> None:
    """Fills in what the recordings say."""
    everything = [point for points in planned.recordings for point in points]
    tally.libc = sum(point.callee_address != 0 for point in everything)
    tally.total = len(everything) - tally.libc
    tally.left_out = planned.left_out
    tally.points = len(planned.targets)


def _judge_tally(tally: Tally, operation: type[Operation], wanted: int | None) -> None:
    """What only all kills together can show."""
    if tally.failures:
        return
    has_inside = tally.part in ("", INSIDE, f"{INSIDE}+{LIBC}")
    if tally.points and not tally.kills:
        tally.failures.append(f"none of {tally.points} points was met again")
    if has_inside:
        _judge_inside(tally, operation, wanted)
    if wanted is None and tally.missed > max(MOST_MISSED * tally.points, 1):
        tally.failures.append(f"{tally.missed} of {tally.points} points were never met again")


def _judge_inside(tally: Tally, operation: type[Operation], wanted: int | None) -> None:
    needed = min(ENOUGH, operation.minimum)
    if wanted is not None:
        needed = min(needed, wanted)
    if tally.kills < needed:
        tally.failures.append(f"only {tally.kills} kills, {needed} needed")
    if operation.falls_asleep and not tally.asleep:
        tally.failures.append("it was never killed while it slept")
    if operation.changes_state and not (tally.before and tally.after):
        tally.failures.append(
            "all kills left the same state: the points miss the moment at which it changes"
        )
    # What had just reached its caller is not lost, but that is the end of the way.
    if operation.loses and tally.after >= ENOUGH // 10 and 3 * tally.lost < tally.after:
        tally.failures.append(
            f"of {tally.after} times that a message died with the victim, "
            f"{tally.lost} were counted in stats().lost"
        )
