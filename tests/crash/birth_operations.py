"""The beginning and the end of a process's use of an object: creating, attaching, closing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import fastipc

from .channel_operation import ChannelOperation
from .operation import BEFORE, State
from .pipe_operations import OnPipe
from .queue_operations import OnBoundedQueue


class QueueCreate(OnBoundedQueue):
    """Creating a queue and a pipe: nobody else has them, and nobody else's suffer."""

    name = "queue-create"
    changes_state = False

    def act(self) -> None:
        context = fastipc.get_context("fork")
        context.Queue(4)
        context.Pipe()

    def states(self) -> Sequence[State]:
        return [State(BEFORE, self.prefilled)]


class FirstUse(ChannelOperation):
    """The very first claim of a slot, which reserves the memory of the ring."""

    prefilled: ClassVar[tuple[str, ...]] = ()
    changes_state = False

    def attach(self) -> None:
        """The survivor comes after the victim."""

    def act(self) -> None:
        self.channel.attach()

    def states(self) -> Sequence[State]:
        return [State(BEFORE, ())]


class QueueAttach(FirstUse, OnBoundedQueue):
    """The first use of a new queue."""

    name = "queue-attach"


class PipeAttach(FirstUse, OnPipe):
    """The first use of a new pipe."""

    name = "pipe-attach"


class PipeClose(OnPipe):
    """close() of both ends of a pipe that others have, too."""

    name = "pipe-close"
    changes_state = False

    def act(self) -> None:
        self.channel.receiver.close()
        self.channel.sender.close()

    def states(self) -> Sequence[State]:
        return [State(BEFORE, self.prefilled)]
