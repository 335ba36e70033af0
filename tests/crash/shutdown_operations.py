"""shutdown() while somebody sleeps who is no get(): a put() that has no room, and a join()."""

from __future__ import annotations

from typing import Any, ClassVar

import fastipc

from .channel_operation import ChannelOperation, value_of
from .channels import Channel, QueueChannel, noting_puts, wait_until
from .harness import Laboratory
from .operation import AFTER, BEFORE, Reports, State, Violation, during, match
from .processes import Board, Link
from .queue_operations import OnQueue, QueueShutdownNow

_DONE = 0  # of the board: the sleeper has come out of its call


class WakesByShutdown(ChannelOperation):
    """The peer sleeps in a call that the end of the stream ends, even if nobody wakes it."""

    has_peer = True
    peer_sleeps = True

    def prepare(self, laboratory: Laboratory) -> None:
        self.board = Board()
        super().prepare(laboratory)

    def sleep(self) -> Any:
        """Peer: the call that sleeps."""
        raise NotImplementedError

    def assist(self, link: Link) -> Any:
        found = self.sleep()
        self.board[_DONE] = 1
        return found

    def await_sleeper(self) -> None:
        """Survivor: before it does anything by which the sleeper might be woken."""
        with during("wake"):
            wait_until(lambda: self.board[_DONE] == 1, "the sleeper did not learn of the shutdown")

    def close(self) -> None:
        super().close()
        self.board.close()


class QueueShutdownWakingPutter(WakesByShutdown, OnQueue):
    """shutdown() while a put() sleeps for want of room."""

    name = "queue-shutdown-waking-putter"
    prefilled: ClassVar[tuple[str, ...]] = ("p1", "p2", "p3")
    peer_ends_first = True

    def open(self) -> Channel:
        return QueueChannel(fastipc.get_context("fork").Queue(len(self.prefilled)))

    def act(self) -> None:
        self.channel.queue.shutdown()

    def sleep(self) -> list[str]:
        try:
            with noting_puts(self.channel.ledger):
                self.channel.queue.put(value_of("t"))
        except fastipc.ShutDown:
            return ["put refused"]
        return []

    def survive(self) -> dict[str, Any]:
        queue = self.channel.queue
        is_shut = queue.is_shutdown
        if is_shut:
            self.await_sleeper()
        with during("get"):
            items = [self.get()]
        if not is_shut:  # the sleeper has room
            with during("wake"):
                wait_until(queue.full, "the sleeper did not put although there was room")
            with during("get"):
                items.append(self.get())
        with during("put"):
            return {"items": [*items, *self.put_or_learn("s")]}

    def arrive(self) -> dict[str, Any]:
        with during("get"):
            items = [self.get()]
        with during("put"):
            items += self.put_or_learn("f")
        with during("get"):
            while items[-1] not in ("f", "shut"):
                try:
                    items.append(self.get())
                except fastipc.ShutDown:
                    items.append("shut")
        with during("when drained"):
            if items[-1] == "f":
                self.channel.expect_empty()
            elif self.channel.has_items():
                raise Violation("get() says that the queue is shut, the queue does not")
            report = {"items": items, **self.examine()}
            self.channel.check()
        return report

    def compare(self, reports: Reports) -> str:
        refused = "put refused"
        return match(
            [
                State(BEFORE, ("p1", "p2", "p3", "t", "s", "f")),
                State(AFTER, (refused, "p1", refused, "p2", refused, "p3", "shut")),
            ],
            [*reports.peer, *reports.survivor["items"], *reports.fresh["items"]],
            None,
        )


class JoinableQueueShutdownNowWakingJoin(WakesByShutdown, QueueShutdownNow):
    """shutdown(immediate=True) while a join() sleeps, whose tasks are all given up."""

    name = "joinablequeue-shutdown-now-waking-join"

    def sleep(self) -> None:
        self.channel.queue.join()

    def survive(self) -> dict[str, Any]:
        if not self.channel.has_items():  # else its tasks are there, to be done or given up
            self.await_sleeper()
        return super().survive()
