"""Operations on what has a descriptor to wait for: fileno(), and what must be kept up behind it,
which is that it is readable while something is there.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from .channel_operation import ChannelOperation, GetOperation, PutOperation
from .harness import Laboratory
from .operation import BEFORE, Operation, State, Violation
from .pipe_operations import OnPipe
from .queue_operations import OnBoundedQueue, QueueShutdown


def is_readable(fd: int) -> bool:
    """Whether poll(2) says so now."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


class WithDoorbell(ChannelOperation):
    """The survivor and the fresh process look at the doorbell; it is armed before, or by them."""

    is_armed: ClassVar[bool] = True

    def fileno(self) -> int:
        raise NotImplementedError

    def prepare(self, laboratory: Laboratory) -> None:
        if self.is_armed:
            self.channel = self.open()
            self.fileno()
            for label in self.prefilled:
                self.put(label)
        else:
            super().prepare(laboratory)

    def expect_readable(self) -> None:
        fd = self.fileno()
        if self.channel.has_items() and not is_readable(fd):
            raise Violation("something is there, and the doorbell is not readable")

    def look(self) -> None:
        self.expect_readable()
        super().look()

    def survive(self) -> dict[str, Any]:
        self.expect_readable()
        report = super().survive()
        self.expect_readable()
        return report

    def arrive(self) -> dict[str, Any]:
        self.expect_readable()
        self.put("t")
        self.expect_readable()
        return super().arrive()

    def examine(self) -> dict[str, Any]:
        # Somebody has just found nothing.
        if is_readable(self.fileno()):
            raise Violation("nothing is there, and the doorbell is readable")
        report = super().examine()
        self.expect_readable()
        return report

    def compare(self, reports: Any) -> str:
        items = reports.fresh["items"]
        if items.count("t") != 1:
            raise Violation(f"lost or doubled: {items}")
        items.remove("t")
        return super().compare(reports)


class QueueDoorbell(WithDoorbell, OnBoundedQueue):
    """Of a queue."""

    def fileno(self) -> int:
        return int(self.channel.queue.fileno())


class PipeDoorbell(WithDoorbell, OnPipe):
    """Of a connection."""

    def fileno(self) -> int:
        return int(self.channel.receiver.fileno())


class QueueArm(QueueDoorbell):
    """fileno() of a queue, for the first time: with something in it, and without."""

    name = "queue-arm"
    is_armed = False
    changes_state = False
    prefilled_variants: ClassVar[tuple[tuple[str, ...], ...]] = (("p1", "p2"), ())

    @classmethod
    def variants(cls, laboratory: Laboratory) -> Sequence[Callable[[], Operation]]:
        def make(prefilled: tuple[str, ...]) -> Operation:
            operation = cls()
            operation.prefilled = prefilled  # type: ignore[misc]
            return operation

        return [lambda labels=labels: make(labels) for labels in cls.prefilled_variants]

    def act(self) -> None:
        self.fileno()

    def states(self) -> Sequence[State]:
        return [State(BEFORE, self.prefilled)]


class QueuePutArmed(QueueDoorbell, PutOperation):
    """put() into an empty queue: the byte comes before the item."""

    name = "queue-put-armed"
    prefilled: ClassVar[tuple[str, ...]] = ()


class QueueGetArmed(QueueDoorbell, GetOperation):
    """get() of the last item, which silences the doorbell."""

    name = "queue-get-armed"
    prefilled: ClassVar[tuple[str, ...]] = ("p1",)


class QueueShutdownArmed(QueueShutdown):
    """shutdown(): the doorbell is readable for good."""

    name = "queue-shutdown-armed"

    def prepare(self, laboratory: Laboratory) -> None:
        super().prepare(laboratory)
        self.channel.queue.fileno()

    def arrive(self) -> dict[str, Any]:
        report = super().arrive()
        is_shut = self.channel.queue.is_shutdown
        if is_readable(self.channel.queue.fileno()) != is_shut:
            raise Violation(f"shut: {is_shut}, and the doorbell is not of that opinion")
        return report


class PipeArm(PipeDoorbell):
    """fileno() and poll() of a connection."""

    name = "pipe-arm"
    is_armed = False
    changes_state = False

    def act(self) -> None:
        self.fileno()
        for _ in range(4):
            self.channel.receiver.poll(0)

    def states(self) -> Sequence[State]:
        return [State(BEFORE, self.prefilled)]


class PipePoll(OnPipe):
    """poll() of a connection that was not armed: there is something, and there is nothing."""

    name = "pipe-poll"
    changes_state = False

    def act(self) -> None:
        for _ in range(4):
            self.channel.receiver.poll(0)
            self.channel.sender.poll(0)
        self.channel.sender.poll(0.001)

    def states(self) -> Sequence[State]:
        return [State(BEFORE, self.prefilled)]


class PipeSendArmed(PipeDoorbell, PutOperation):
    """send() to an end whose doorbell is armed."""

    name = "pipe-send-armed"
    prefilled: ClassVar[tuple[str, ...]] = ()


class PipeRecvArmed(PipeDoorbell, GetOperation):
    """recv() of the last message, which silences the doorbell."""

    name = "pipe-recv-armed"
    prefilled: ClassVar[tuple[str, ...]] = ("p1",)
