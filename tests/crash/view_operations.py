"""The operations on large buffers that the crash tool kills: several blocks in a message, views
of them at the receiver, and a fork with live views.
"""

from __future__ import annotations

import functools
import os
import pickle
import random
import select
import signal
from collections.abc import Sequence
from typing import Any, ClassVar

import fastipc

from .books import marks_of
from .channel_operation import (
    CATALOG,
    COPIES,
    ChannelOperation,
    GetOperation,
    PutOperation,
    value_of,
)
from .channels import (
    PATIENCE,
    Channel,
    QueueChannel,
    check_blocks,
    expect_all_returned,
    wait_until,
)
from .harness import Laboratory
from .operation import AFTER, BEFORE, Reports, State, Violation, during
from .processes import Board
from .queue_operations import OnQueue


class Parts:
    """An object whose parts travel out of band."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = list(parts)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return Parts, ([pickle.PickleBuffer(part) for part in self.parts],)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Parts) and all(
            bytes(ours) == bytes(theirs)
            for ours, theirs in zip(self.parts, other.parts, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]


# Two that share a block, one that has its own.
_SIZES = (3_000, 9_000, 1_200_000)


def _made(label: str) -> Parts:
    chooser = random.Random(label)
    return Parts([bytearray(chooser.randbytes(size)) for size in _SIZES])


CATALOG.makers.update({label: functools.partial(_made, label) for label in ("views", "views2")})

_FORKED, _LIVES, _GO, _INTACT, _ENDED = range(5)  # words of the board of a fork


class QueuePutViews(OnQueue, PutOperation):
    """put() of an object with buffers in several blocks."""

    name = "queue-put-views"
    item = "views"
    left_out = (*PutOperation.left_out, *COPIES)


class QueueGetViews(OnQueue, GetOperation):
    """get() of such an object, up to the end of its last view."""

    name = "queue-get-views"
    prefilled: ClassVar[tuple[str, ...]] = ("views", "views2", "p1")


class QueueForkViews(OnQueue, ChannelOperation):
    """fork() of a process that has views, and their end in the parent, which is killed. A child
    that has come to life keeps its own until the survivor has put, and writes over them.
    """

    name = "queue-fork-views"
    prefilled: ClassVar[tuple[str, ...]] = ("views", "p1", "p2")
    carries = ("views2",)
    changes_state = False

    def prepare(self, laboratory: Laboratory) -> None:
        self.board = Board()
        # Of the first nobody but the victim and its child has the end to write to.
        self.lives, self.ready = os.pipe(), os.pipe()
        self.has_let_go = False
        super().prepare(laboratory)

    def attach(self) -> None:
        os.close(self.lives[1])
        super().attach()

    def attach_victim(self) -> None:
        self.channel.attach()
        self.held = self.channel.get()
        if self.held != value_of("views"):
            raise Violation("what the victim views is not what was put")

    def let_go(self) -> None:
        os.close(self.lives[1])
        self.has_let_go = True

    def act(self) -> None:
        pid = os.fork()
        if pid == 0:
            self.live_on()
        self.board[_FORKED] = 1
        # Before the views end: so the number of instructions is the same each time.
        os.read(self.ready[0], 1)
        self.held = None

    def live_on(self) -> None:
        """The victim's child. Never returns."""
        try:
            self.board[_LIVES] = 1
            os.write(self.ready[1], b"r")
            wait_until(lambda: self.board[_GO] == 1, "the survivor did not put", 10 * PATIENCE)
            if self.held == value_of("views"):
                self.board[_INTACT] = 1
            for part in self.held.parts:
                memoryview(part).cast("B")[:] = bytes(len(part))
            self.held = None
            self.board[_ENDED] = 1
        finally:
            os._exit(0)

    def survive(self) -> dict[str, Any]:
        with during("put"):
            self.put("views2")
        with during("the victim's child"):
            self.board[_GO] = 1
            wait_until(self.all_are_gone, "it does not end")
            self.expect_intact()
            wait_until(self.nobody_holds, "blocks that a dead process and its child viewed stay")
        return super().survive()

    def all_are_gone(self) -> bool:
        return bool(select.select([self.lives[0]], [], [], 0)[0])  # the end: nobody can write

    def expect_intact(self) -> None:
        board = self.board
        if board[_FORKED] and not board[_LIVES]:
            raise Violation("it did not come to life")
        if board[_LIVES] and not board[_INTACT]:
            raise Violation("what it viewed has changed")
        if board[_LIVES] and not board[_ENDED]:
            raise Violation("it did not come to the end of its views")

    def nobody_holds(self) -> bool:
        try:
            return check_blocks(self.channel.queue)["owned"] == 0
        except Violation:
            return False

    def states(self) -> Sequence[State]:
        return [State(BEFORE, (*self.prefilled[1:], "views2"))]

    def close(self) -> None:
        super().close()
        self.board[_GO] = 1  # should a child still wait for a survivor that has failed
        self.board.close()
        for fd in (self.lives[0], *self.ready):
            os.close(fd)
        if not self.has_let_go:
            os.close(self.lives[1])


class QueueForkedChild(OnQueue, GetOperation):
    """What a forked child does with what it has inherited: the end of views, and its first get(),
    which claims a slot. What its parent and its siblings view stays as it is.

    The handler that runs in the child inside fork() itself comes before anybody can step it: it
    writes to the process's own memory alone.
    """

    name = "queue-forked-child"
    prefilled: ClassVar[tuple[str, ...]] = ("views", "p1", "p2")
    carries = ("views2",)

    def open(self) -> Channel:
        return QueueChannel(fastipc.get_context("fork").Queue(), checked=False)

    def prepare(self, laboratory: Laboratory) -> None:
        super().prepare(laboratory)
        self.held: Any = self.channel.get()

    def attach_victim(self) -> None:
        """Attaching is the operation."""

    def act(self) -> None:
        self.held = None
        self.channel.get()

    def expect_intact(self, whose: str) -> None:
        if self.held != value_of("views"):
            raise Violation(f"what {whose} views has changed")

    def survive(self) -> dict[str, Any]:
        with during("put"):
            self.put("views2")
        report = super().survive()
        self.expect_intact("the survivor")
        return report

    def compare(self, reports: Reports) -> str:
        self.expect_intact("the parent")
        self.held = None
        expect_all_returned(self.channel.queue)  # nobody else is left
        return super().compare(reports)

    def states(self) -> Sequence[State]:
        return [State(BEFORE, ("p1", "p2", "views2")), State(AFTER, ("p2", "views2"))]


class QueueViewRelease(OnQueue, ChannelOperation):
    """The end of the last view of each block of a message."""

    name = "queue-view-release"
    prefilled: ClassVar[tuple[str, ...]] = ("views", "p1", "p2")
    changes_state = False

    def attach_victim(self) -> None:
        super().attach_victim()
        self.held = self.channel.get()

    def act(self) -> None:
        self.held = None

    def states(self) -> Sequence[State]:
        return [State(BEFORE, self.prefilled[1:])]


def _kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Deadly:
    """Kills whoever gets it, before it is returned."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _kill_myself, ()


class ToBeReaped(OnQueue, ChannelOperation):
    """On a queue of which a process was killed that viewed the first item."""

    takes_along: ClassVar[bool] = False
    """It had taken a further message, behind the first, that it had not returned."""

    def prepare(self, laboratory: Laboratory) -> None:
        self.channel = self.open()
        for label in self.prefilled[:1]:
            self.put(label)
        if self.takes_along:
            self.channel.put(Deadly())
        for label in self.prefilled[1:]:
            self.put(label)
        pid = os.fork()
        if pid == 0:
            try:
                self.held = self.channel.get()
                if self.takes_along:
                    self.channel.get()
                _kill_myself()
            finally:
                os._exit(1)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != -signal.SIGKILL:
            raise Violation("the process that is to be reaped could not get")


class QueuePutReaping(ToBeReaped, PutOperation):
    """put() of an object whose blocks are those that a dead process viewed: it is reaped."""

    name = "queue-put-reaping"
    left_out = (*PutOperation.left_out, *COPIES)
    prefilled: ClassVar[tuple[str, ...]] = ("views", "p1")
    item = "views2"

    def states(self) -> Sequence[State]:
        return [State(BEFORE, ("p1",)), State(AFTER, ("p1", "views2"))]


class QueueStats(ToBeReaped):
    """stats() of a queue of whose users one was killed: it is reaped, and the marks are raised."""

    name = "queue-stats"
    prefilled: ClassVar[tuple[str, ...]] = ("views",)
    # More than there was when the marks were raised by who is reaped, when he got the first.
    later: ClassVar[tuple[str, ...]] = ("views2", "p1", "block", "p2")
    takes_along = True
    in_hand = taken_before = 1  # of who is reaped; the victim takes nothing

    def prepare(self, laboratory: Laboratory) -> None:
        super().prepare(laboratory)
        for label in self.later:
            self.put(label)

    def act(self) -> None:
        self.channel.queue.stats()

    def survive(self) -> dict[str, Any]:
        queue = self.channel.queue
        marks = marks_of(queue._handles()[0])
        with during("stats"):
            found = queue.stats()
        there = len(self.later)
        counts = (found.puts, found.gets, found.items, found.items_high, found.lost)
        if counts != (there + 2, 2, there, there, 1):
            raise Violation(f"the counts of {there} items behind two that are gone: {found}")
        if not found.bytes == found.bytes_high == found.bytes_put - found.bytes_got > 0:
            raise Violation(f"the bytes of {there} items: {found}")
        if found.last_dead_pid is None or found.recoveries > 1:
            raise Violation(f"one was killed, or two: {found}")
        low = 0 < marks[0] < there, 0 < marks[1] < found.bytes
        full = marks[0] == there, marks[1] == found.bytes
        raised = [all(low), full[0] and low[1], all(full)]
        if True not in raised:
            raise Violation(f"the marks were {marks}, of {found}")
        label = (BEFORE, "between", AFTER)[raised.index(True)]
        return {**super().survive(), "label": label}

    def compare(self, reports: Reports) -> str:
        super().compare(reports)
        label: str = reports.survivor["label"]
        return label

    def states(self) -> Sequence[State]:
        return [State(BEFORE, self.later)]
