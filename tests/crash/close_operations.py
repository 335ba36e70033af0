"""The end of a process's use of a queue that the crash tool kills: its slot still owns blocks,
which are swept before the slot is given back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from .channel_operation import CATALOG, ChannelOperation
from .operation import AFTER, BEFORE, Reports, State, Violation, match
from .queue_operations import OnQueue


def _refuse() -> None:
    raise LookupError("on purpose")


class Refused:
    """Cannot be unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _refuse, ()


CATALOG.values = {**CATALOG.values, "refused": Refused()}


class QueueClose(OnQueue, ChannelOperation):
    """close() of a queue whose get_many() has failed, and has kept two messages in blocks."""

    name = "queue-close"
    prefilled: ClassVar[tuple[str, ...]] = ("refused", "large", "large2", "p1", "p2")

    def attach_victim(self) -> None:
        super().attach_victim()
        try:
            self.channel.queue.get_many(3)
        except LookupError:
            return
        raise Violation("what cannot be unpickled was unpickled")

    def act(self) -> None:
        self.channel.queue.close()

    def judge(self, reports: Reports) -> str:
        match(
            [State(s.label, (*s.items, "s", "f")) for s in self.states()],
            [*reports.survivor["items"], *reports.fresh["items"]],
            None,
        )
        # What was kept dies with the process, unless it has begun to give its slot back.
        lost = reports.fresh["lost"]
        if lost not in (0, 2):
            raise Violation(f"stats() counts {lost} lost messages of two that were kept")
        return AFTER if lost == 0 else BEFORE

    def states(self) -> Sequence[State]:
        return [State(BEFORE, self.prefilled[3:])]


class QueueCloseViews(OnQueue, ChannelOperation):
    """close() under live views, and the end of the last one, which gives the slot back."""

    name = "queue-close-views"
    prefilled: ClassVar[tuple[str, ...]] = ("views", "views2", "p1", "p2")
    changes_state = False

    def attach_victim(self) -> None:
        super().attach_victim()
        self.held = [self.channel.get(), self.channel.get()]

    def act(self) -> None:
        self.channel.queue.close()
        self.held.clear()

    def states(self) -> Sequence[State]:
        return [State(BEFORE, self.prefilled[2:])]
