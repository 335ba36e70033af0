"""The end of a process's use of an object that the crash tool kills: of a queue, whose slot still
owns blocks, which are swept before the slot is given back, and of a pipe that somebody sends to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from .books import Account, Noted
from .channel_operation import CATALOG, ChannelOperation
from .channels import PATIENCE, check_blocks
from .harness import Laboratory
from .operation import AFTER, BEFORE, Operation, Reports, State, Violation, during, match
from .pipe_operations import OnPipe
from .processes import Link
from .queue_operations import OnQueue


def _refuse() -> None:
    raise LookupError("on purpose")


class Refused:
    """Cannot be unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _refuse, ()


CATALOG.values["refused"] = Refused()


class QueueClose(OnQueue, ChannelOperation):
    """close() of a queue whose get_many() has failed, and has kept two messages in blocks."""

    name = "queue-close"
    prefilled: ClassVar[tuple[str, ...]] = ("refused", "large", "large2", "p1", "p2")
    in_hand = 2
    taken_before = 2

    def attach_victim(self) -> None:
        super().attach_victim()
        try:
            self.channel.get_many(3)
        except LookupError:
            self.channel.ledger.note(got=1)  # which is the one that had no object
            return
        raise Violation("what cannot be unpickled was unpickled")

    def act(self) -> None:
        self.channel.queue.close()

    def compare(self, reports: Reports) -> str:
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


class PipeCloseLastReader(OnPipe):
    """close() of an end that nobody else has, while the peer's send() sleeps for want of room.

    The end is gone with its process in any case: the sender must learn it, woken or not.
    """

    name = "pipe-close-last-reader"
    prefilled: ClassVar[tuple[str, ...]] = ()
    has_peer = True
    peer_sleeps = True
    peer_ends_first = True
    changes_state = False
    sent: str = "fragmented"  # is larger than the ring; or small ones, as many as it has room for

    @classmethod
    def variants(cls, laboratory: Laboratory) -> Sequence[Callable[[], Operation]]:
        def make(sent: str) -> Operation:
            operation = cls()
            operation.sent = sent
            return operation

        return [lambda sent=sent: make(sent) for sent in ("fragmented", "wrap")]  # type: ignore[misc]

    def attach(self) -> None:
        """Survivor and peer: the other end only."""
        self.channel.receiver.close()
        self.channel.sender._attach()

    def attach_victim(self) -> None:
        self.channel.receiver._attach()
        self.channel.sender.close()

    def let_go(self) -> None:
        self.channel.receiver.close()

    def act(self) -> None:
        self.channel.receiver.close()

    def send_until_refused(self) -> int:
        """Returns how many were sent before."""
        for count in range(10_000):
            try:
                self.put(self.sent)
            except BrokenPipeError:
                return count
        raise Violation("there is no end to what can be sent to nobody")

    def assist(self, link: Link) -> int:
        return self.send_until_refused()

    def find_broken(self) -> None:
        """Survivor and fresh process: nothing comes from the other end, or goes there."""
        sender = self.channel.sender
        if (count := self.send_until_refused()) != 0:
            raise Violation(f"{count} messages were sent to nobody")
        if not sender.poll(PATIENCE):
            raise Violation("poll() does not see the end")
        try:
            sender.recv()
        except EOFError:
            return
        raise Violation("a message came from nobody")

    def survive(self) -> dict[str, Any]:
        with during("send"):
            self.find_broken()
        return {}

    def arrive(self) -> dict[str, Any]:
        with during("send"):
            self.find_broken()
        found = check_blocks(self.channel.sender)
        if found["owned"] != 0:
            raise Violation(f"blocks of nobody's are left: {found}")
        return {"lost": self.channel.account().lost}

    def check_books(self, label: str, account: Account, noted: Noted) -> None:
        # What was sent is in the ring for good: nobody has taken anything.
        if (account.gets, account.given, account.lost, noted.got) != (0, 0, 0, 0):
            raise Violation(f"nothing was received, and yet: {account}, {noted}")

    def compare(self, reports: Reports) -> str:
        # It slept in the first large message, or behind small ones.
        if (reports.peer == 0) != (self.sent == "fragmented"):
            raise Violation(f"the sender did not sleep for want of room: {reports.peer} were sent")
        return BEFORE

    def states(self) -> Sequence[State]:
        return [State(BEFORE, ())]
