"""Operations that fall asleep and are woken by somebody else: killed on the way to sleep, asleep,
and on the way back.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

from .channel_operation import ChannelOperation, GetOperation, PutOperation
from .channels import PATIENCE, wait_until
from .harness import Laboratory
from .operation import AFTER, BEFORE, Reports, State, during, match
from .pipe_operations import OnPipe, PipeSendFragmented
from .processes import Board, Link, await_sleep_or_end
from .queue_operations import GetsFirst, OnBoundedQueue, OnJoinableQueue

_VICTIM, _DONE = 0, 1  # words of the board


class Woken(ChannelOperation):
    """The peer does what the victim waits for, once that sleeps or is gone."""

    has_peer = True
    falls_asleep = True

    def prepare(self, laboratory: Laboratory) -> None:
        self.board = Board()
        super().prepare(laboratory)

    def attach_victim(self) -> None:
        super().attach_victim()
        self.warm_victim()
        # As /proc numbers it, where the peer looks: in a PID namespace it has another for itself.
        self.board[_VICTIM] = int(os.readlink("/proc/self"))

    def wake(self) -> Any:
        """Peer: what the victim waits for."""
        raise NotImplementedError

    def await_victim(self) -> None:
        """Peer: returns once the victim sleeps or is gone."""
        await_sleep_or_end(self.board[_VICTIM], 2 * PATIENCE)

    def assist(self, link: Link) -> Any:
        wait_until(lambda: self.board[_VICTIM] != 0, "there is no victim")
        self.await_victim()
        found = self.wake()
        self.board[_DONE] = 1
        return found

    def await_peer(self) -> None:
        """Survivor: until the peer has done its part; only then is it clear what there is."""
        with during("wake"):
            wait_until(
                lambda: self.board[_DONE] == 1, "the peer did not do what the victim waits for"
            )

    def survive(self) -> dict[str, Any]:
        self.await_peer()
        return super().survive()

    def close(self) -> None:
        super().close()
        self.board.close()


class WokenGet(Woken, GetOperation):
    """A get that sleeps until the peer puts."""

    prefilled: ClassVar[tuple[str, ...]] = ()

    def act(self) -> None:
        self.channel.get(None)

    def wake(self) -> None:
        self.put("x")

    def states(self) -> list[State]:
        return [State(BEFORE, ("x",)), State(AFTER, ())]


class QueueGetWoken(OnBoundedQueue, WokenGet):
    """get() that sleeps."""

    name = "queue-get-woken"


class QueuePutWoken(Woken, GetsFirst, PutOperation):
    """put() into a full queue, which sleeps until there is room."""

    name = "queue-put-woken"
    maxsize = 3
    prefilled: ClassVar[tuple[str, ...]] = ("p1", "p2", "p3")

    def wake(self) -> str:
        return self.get()

    def compare(self, reports: Reports) -> str:
        items = [reports.peer, *reports.survivor["items"], *reports.fresh["items"]]
        return match([State(s.label, (*s.items, "s", "f")) for s in self.states()], items, None)


class JoinableQueueJoinWoken(OnJoinableQueue, Woken):
    """join() that sleeps until the last task is done; nobody sees that it was there."""

    name = "joinablequeue-join-woken"
    prefilled: ClassVar[tuple[str, ...]] = ("p1", "p2")
    changes_state = False

    def prepare(self, laboratory: Laboratory) -> None:
        super().prepare(laboratory)
        self.get()
        self.get()

    def act(self) -> None:
        self.channel.queue.join()

    def wake(self) -> None:
        self.channel.queue.task_done()
        self.channel.queue.task_done()

    def states(self) -> list[State]:
        return [State(BEFORE, (), 0)]


class PipeRecvWoken(OnPipe, WokenGet):
    """recv() that sleeps on the doorbell."""

    name = "pipe-recv-woken"


class PipePollWoken(OnPipe, Woken):
    """poll() that sleeps until something comes, which it does not take."""

    name = "pipe-poll-woken"
    prefilled: ClassVar[tuple[str, ...]] = ()
    changes_state = False

    def act(self) -> None:
        self.channel.receiver.poll(2 * PATIENCE)

    def wake(self) -> None:
        self.put("x")

    def states(self) -> list[State]:
        return [State(BEFORE, ("x",))]


class PipeSendWoken(Woken, PipeSendFragmented):
    """send() of a message larger than the ring, which sleeps until somebody receives."""

    name = "pipe-send-woken"

    def wake(self) -> list[str]:
        self.board[_DONE] = 1  # what comes now is behind what the victim sent
        return self.receive()
