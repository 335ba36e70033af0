"""The operations on large buffers that the crash tool kills: several blocks in a message, views
of them at the receiver, and a fork with live views.
"""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Sequence
from typing import Any, ClassVar

from .channel_operation import (
    CATALOG,
    COPIES,
    ChannelOperation,
    GetOperation,
    PutOperation,
    chooser,
)
from .channels import check_blocks, wait_until
from .harness import Laboratory
from .operation import AFTER, BEFORE, State, Violation
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
CATALOG.values = {
    **CATALOG.values,
    **{name: Parts([chooser.randbytes(n) for n in _SIZES]) for name in ("views", "views2")},
}


class QueuePutViews(OnQueue, PutOperation):
    """put() of an object with buffers in several blocks."""

    name = "queue-put-views"
    item = "views"
    left_out = (*PutOperation.left_out, *COPIES)


class QueueGetViews(OnQueue, GetOperation):
    """get() of such an object, up to the end of its last view."""

    name = "queue-get-views"
    loses = True
    may_lose = 1
    prefilled: ClassVar[tuple[str, ...]] = ("views", "views2", "p1")


class QueueForkViews(OnQueue, GetOperation):
    """fork() of a process that has views, and the end of the views in parent and child."""

    name = "queue-fork-views"
    prefilled: ClassVar[tuple[str, ...]] = ("views", "p1", "p2")
    changes_state = False

    def attach_victim(self) -> None:
        super().attach_victim()
        self.held = self.channel.get()
        if self.held != CATALOG.values["views"]:
            raise Violation("what the victim views is not what was put")

    def act(self) -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        # Before the views end: so the number of instructions is the same each time.
        os.waitpid(pid, 0)
        self.held = None

    def survive(self) -> dict[str, Any]:
        # The victim's child may end a moment after it, even in the middle of a check.
        wait_until(self.nobody_holds, "blocks that a dead process and its child viewed stay")
        return super().survive()

    def nobody_holds(self) -> bool:
        try:
            return check_blocks(self.channel.queue)["owned"] == 0
        except Violation:
            return False

    def states(self) -> Sequence[State]:
        return [State(BEFORE, self.prefilled[1:])]


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


class QueuePutReaping(OnQueue, PutOperation):
    """put() of an object whose blocks are those that a dead process viewed: it is reaped."""

    name = "queue-put-reaping"
    left_out = (*PutOperation.left_out, *COPIES)
    prefilled: ClassVar[tuple[str, ...]] = ("views", "p1")
    item = "views2"

    def prepare(self, laboratory: Laboratory) -> None:
        super().prepare(laboratory)
        pid = os.fork()
        if pid == 0:
            try:
                self.held = self.channel.get()
                os.kill(os.getpid(), signal.SIGKILL)
            finally:
                os._exit(1)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != -signal.SIGKILL:
            raise Violation("the process that is to be reaped could not get")

    def check_loss(self, label: str, lost: int) -> None:
        if lost:  # the dead process had got its message
            raise Violation(f"stats() counts {lost} lost messages")

    def states(self) -> Sequence[State]:
        return [State(BEFORE, ("p1",)), State(AFTER, ("p1", "views2"))]
