"""The operations on the ends of a Pipe that the crash tool kills."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import fastipc

from .books import Account, Noted
from .channel_operation import (
    CATALOG,
    COPIES,
    ChannelOperation,
    GetOperation,
    PutOperation,
    WakingPut,
)
from .channels import Channel, PipeChannel, wait_until
from .harness import Laboratory
from .operation import AFTER, BEFORE, Reports, State, Violation, during, match
from .processes import Board, Link


class OnPipe(ChannelOperation):
    """On a duplex Pipe, one end sending and the other receiving."""

    def open(self) -> Channel:
        return PipeChannel(*fastipc.get_context("fork").Pipe())

    def survive(self) -> dict[str, Any]:
        report = super().survive()
        with during("other direction"):
            self.channel.expect_way_back(("back", 1))
        return report

    def examine(self) -> dict[str, Any]:
        self.channel.expect_way_back(("back", 2))
        return super().examine()

    def check_books(self, label: str, account: Account, noted: Noted) -> None:
        super().check_books(label, account, noted)
        back = self.channel.account_of_way_back()
        if back != Account(puts=2, gets=2, lost=0, given=2):
            raise Violation(f"of the two messages of the other direction: {back}")


class PipeSend(OnPipe, PutOperation):
    """send() of a small message."""

    name = "pipe-send"


class PipeRecv(OnPipe, GetOperation):
    """recv() of a small message."""

    name = "pipe-recv"


class PipeSendFragmented(OnPipe, PutOperation):
    """send() of a message larger than the ring, while the peer receives it."""

    name = "pipe-send-fragmented"
    left_out = (*ChannelOperation.left_out, *COPIES)
    item = "fragmented"
    prefilled: ClassVar[tuple[str, ...]] = ()
    has_peer = True
    peer_ends_first = True

    def prepare(self, laboratory: Laboratory) -> None:
        self.received = Board()
        super().prepare(laboratory)

    def close(self) -> None:
        super().close()
        self.received.close()

    def receive(self) -> list[str]:
        """Peer: receives up to the survivor's first message."""
        found: list[str] = []
        while "s" not in found:
            found.append(CATALOG.label(self.channel.get(None)))
        self.received[0] = 1
        return found

    def assist(self, link: Link) -> list[str]:
        return self.receive()

    def survive(self) -> dict[str, Any]:
        with during("put"):
            self.put("s")
            # Not poll(), which sees nothing while the peer is in the middle of a message.
            wait_until(lambda: self.received[0] == 1, "the peer does not receive")
        with during("put and get"):
            self.put("t")
            items = [self.get()]
        with during("other direction"):
            self.channel.expect_way_back(("back", 1))
        return {"items": items}

    def compare(self, reports: Reports) -> str:
        return match(
            [State(s.label, (*s.items, "s", "t", "f")) for s in self.states()],
            [*reports.peer, *reports.survivor["items"], *reports.fresh["items"]],
            None,
        )


class PipeRecvFragmented(OnPipe, GetOperation):
    """recv() of a message larger than the ring, while the peer sends it."""

    name = "pipe-recv-fragmented"
    left_out = (*ChannelOperation.left_out, *COPIES)
    prefilled: ClassVar[tuple[str, ...]] = ()
    has_peer = True
    # Once the survivor has got a message, nothing keeps it; the fresh process might come first.
    peer_ends_first = True

    def assist(self, link: Link) -> None:
        self.put("fragmented")
        self.put("t")

    def survive(self) -> dict[str, Any]:
        # First a get: the peer may still wait, inside its send, for room.
        with during("get"):
            items = [self.get()]
        with during("put"):
            self.put("s")
        with during("other direction"):
            self.channel.expect_way_back(("back", 1))
        return {"items": items}

    def states(self) -> Sequence[State]:
        return [State(BEFORE, ("fragmented",)), State(AFTER, ())]

    def compare(self, reports: Reports) -> str:
        # The peer's second message and the survivor's may come in either order.
        items = [*reports.survivor["items"], *reports.fresh["items"]]
        if items.count("t") != 1 or ("fragmented" in items[items.index("t") :]):
            raise Violation(f"the peer's messages are lost, doubled or out of order: {items}")
        items.remove("t")
        return match([State(s.label, (*s.items, "s", "f")) for s in self.states()], items, None)


class PipeSendWaking(OnPipe, WakingPut):
    """send() while a recv() sleeps."""

    name = "pipe-send-waking"

    def survive(self) -> dict[str, Any]:
        report = WakingPut.survive(self)
        with during("other direction"):
            self.channel.expect_way_back(("back", 1))
        return report
