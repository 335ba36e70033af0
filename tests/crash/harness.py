"""Runs operations: records one, kills it at chosen instructions, judges what is left.

Owns the order of events around a kill, and the counting; the operations own their meaning.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .operation import AFTER, BEFORE, Operation, OtherWay, Reports, Violation
from .processes import Child, ChildFailure, Link, flush_before_fork
from .stepper import (
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
)

GO = "go"
READY = "ready"
_FURTHER_TRIES = 3  # other points, for each where the victim ended before it was killed


@dataclass(frozen=True)
class Target:
    """One kill: which variant of the operation, at which instruction."""

    variant: int
    point: Point


@dataclass
class Tally:
    """The result of all kills of one operation."""

    name: str
    total: int = 0  # instructions inside, over all variants
    points: int = 0  # chosen
    kills: int = 0
    before: int = 0
    after: int = 0
    finished: int = 0  # runs whose victim ended before the chosen instruction
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.kills += other.kills
        self.before += other.before
        self.after += other.after
        self.finished += other.finished
        self.failures += other.failures


class Laboratory:
    """Everything that one worker process needs to run cases."""

    def __init__(self, *, deadline: float = 10.0, with_libc: bool = False, cpu: int = 0) -> None:
        self.stepper = Stepper()
        self.deadline = deadline
        self.with_libc = with_libc
        self._cpus = os.sched_getaffinity(0)
        self.pin(cpu)

    def pin(self, cpu: int) -> None:
        """A stop costs a quarter when tracer and victim share a CPU: pins both."""
        cpus = sorted(self._cpus)
        os.sched_setaffinity(0, {cpus[cpu % len(cpus)]})

    def ranges(self, operation: Operation) -> tuple[list[Range], list[Range]]:
        """Returns the text inside, and the text that counts while called from inside."""
        inside = executable_ranges(operation.module_path())
        return inside, libc_ranges() if self.with_libc else []

    def record(
        self, make: Callable[[], Operation], *, free_outside: bool = True
    ) -> tuple[str, list[Point]]:
        """Runs the operation to its end; returns the state found and the kill points."""
        operation = make()
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
        return state, points_of(addresses, inside)

    def kill(self, make: Callable[[], Operation], point: Point) -> tuple[Outcome, str]:
        """Runs the operation, kills it at the point; returns the state found."""

        def trace(pid: int) -> Outcome:
            return self.stepper.kill(pid, point, timeout=self.deadline)

        return self.run(make(), trace)

    def run(self, operation: Operation, trace: Callable[[int], Outcome]) -> tuple[Outcome, str]:
        """One case, from preparation to verdict. Raises Violation or ChildFailure."""
        flush_before_fork()
        with contextlib.ExitStack() as stack:
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
            outcome = self.trace_victim(operation.attach_victim, operation.act, trace)
            reports = Reports()
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


def plan(
    laboratory: Laboratory, operation: type[Operation], wanted: int | None
) -> tuple[list[Callable[[], Operation]], list[list[Point]], list[Target]]:
    """Records every variant and chooses the kills, evenly spaced in each."""
    gc.collect()
    gc.disable()  # a collection inside one run and not the other would shift its instructions
    variants = list(operation.variants(laboratory))
    recordings = []
    for make in variants:
        state, points = _record_again(laboratory, make)
        if operation.changes_state and state != AFTER:
            raise Violation(f"the operation ended, yet the state is the one {state}")
        recordings.append(points)
    total = sum(map(len, recordings))
    if total < operation.minimum:
        raise Violation(f"only {total} instructions inside, {operation.minimum} needed")
    targets = [
        Target(index, point)
        for index, points in enumerate(recordings)
        for point in evenly_spaced(points, None if wanted is None else -(-wanted // len(variants)))
    ]
    return variants, recordings, targets


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
    variants: Sequence[Callable[[], Operation]],
    recordings: Sequence[Sequence[Point]],
    targets: Sequence[Target],
    stop_after: int,
) -> Tally:
    """Kills at each target; stops early once `stop_after` failures are known."""
    tally = Tally(operation.name)
    open_before = 0
    for number, target in enumerate(targets):
        if number == 1:  # the first run has opened what stays open for good
            open_before = _count_descriptors()
        chooser = random.Random(target.point.index)
        point = target.point
        for _ in range(1 + _FURTHER_TRIES):
            try:
                outcome, state = laboratory.kill(variants[target.variant], point)
            except OtherWay:
                tally.finished += 1
                continue
            except (Violation, ChildFailure) as failure:
                tally.kills += 1
                tally.failures.append(
                    f"killed before instruction {point.index + 1} of variant {target.variant}, "
                    f"{locate(point.address)}: {failure}"
                )
                break
            if outcome.ending is Ending.KILLED:
                tally.kills += 1
                tally.before += state == BEFORE
                tally.after += state == AFTER
                break
            # Took another way than the recording, for example met no contention.
            tally.finished += 1
            if operation.changes_state and state != AFTER:
                tally.failures.append(f"the operation ended, yet the state is the one {state}")
                break
            point = chooser.choice(recordings[target.variant])
        if len(tally.failures) >= stop_after:
            break
    else:
        left_over = _count_descriptors() - open_before
        if len(targets) > 1 and left_over > 0:
            tally.failures.append(f"{len(targets)} runs left {left_over} descriptors open")
    return tally


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
    with_libc: bool = False,
) -> Tally:
    """Runs all kills of an operation in `workers` processes."""
    started = time.monotonic()
    laboratory = Laboratory(deadline=deadline, with_libc=with_libc)
    tally = Tally(operation.name)
    try:
        variants, recordings, targets = plan(laboratory, operation, wanted)
    except (Violation, ChildFailure) as failure:
        tally.failures.append(f"without any kill: {failure}")
        tally.seconds = time.monotonic() - started
        return tally
    tally.total = sum(map(len, recordings))
    tally.points = len(targets)

    def work(index: int) -> Tally:
        laboratory.pin(index)
        return run_targets(
            laboratory, operation, variants, recordings, targets[index::workers], stop_after
        )

    flush_before_fork()
    children = []
    for index in range(workers):
        job = functools.partial(work, index)
        children.append(Child(f"worker {index}", lambda _, job=job: job()))  # type: ignore[misc]
    try:
        for child in children:
            # Each case is bounded by its own deadlines; this one only ends a broken worker.
            tally.add(child.report(60 + len(targets) * 8 * deadline))
            child.expect_success(deadline)
    except ChildFailure as failure:
        tally.failures.append(str(failure))
    finally:
        for child in children:
            child.close()
    _judge_tally(tally, operation)
    tally.seconds = time.monotonic() - started
    return tally


def _judge_tally(tally: Tally, operation: type[Operation]) -> None:
    """What only all kills together can show."""
    if tally.failures:
        return
    needed = min(tally.points, operation.minimum)
    if tally.kills < needed:
        tally.failures.append(f"only {tally.kills} kills, {needed} needed")
    if operation.changes_state and not (tally.before and tally.after):
        tally.failures.append(
            "all kills left the same state: the points miss the moment at which it changes"
        )
