"""Operations that are killed while they take over from a process that was killed before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from .channel_operation import ChannelOperation
from .harness import Laboratory
from .operation import AFTER, BEFORE, Operation, OtherWay, State, Violation
from .pipe_operations import OnPipe
from .queue_operations import OnBoundedQueue, OnQueue
from .stepper import Ending, Point, evenly_spaced, source_files


class Recovery(ChannelOperation):
    """An operation that first takes over from a process that was killed inside the lock.

    Where the first victim has to die for that is found by trying: there the second victim's
    operation takes more instructions than behind a victim that held nothing.
    """

    first_point: Point | None = None  # None: the first operation alone, to be recorded
    first_is_done: bool | None = None

    _CANDIDATES = 45
    _TAKE_OVER = 25  # instructions that a take-over needs at the very least

    @classmethod
    def behind(cls, point: Point, is_done: bool | None = None) -> Callable[[], Operation]:
        """Returns a maker of operations behind a first victim that was killed at the point."""

        def make() -> Operation:
            operation = cls()
            operation.first_point = point
            operation.first_is_done = is_done
            return operation

        return make

    @classmethod
    def variants(cls, laboratory: Laboratory) -> Sequence[Callable[[], Operation]]:
        _, points = laboratory.record(cls)
        lengths: list[tuple[Point, int, bool]] = []
        for point in evenly_spaced(points, cls._CANDIDATES):
            try:
                state, recording = laboratory.record(cls.behind(point))
            except OtherWay:
                continue
            lengths.append((point, cls._length(recording), state == AFTER))
        undisturbed = lengths[0][1]
        held = [entry for entry in lengths if entry[1] >= undisturbed + cls._TAKE_OVER]
        if not held:
            raise Violation(
                "wherever the first process is killed, the next one has nothing to take over"
            )
        chosen = {entry[0].index: entry for entry in (held[0], held[len(held) // 2], held[-1])}
        return [cls.behind(point, is_done) for point, _, is_done in chosen.values()]

    @classmethod
    def _length(cls, recording: Sequence[Point]) -> int:
        """How many instructions are no look at the room in memory, which comes now and then, takes
        a thousand, and is no take-over."""
        files = source_files(list({point.address for point in recording}))
        return sum(files.get(point.address) not in cls.left_out for point in recording)

    def act_first(self) -> None:
        """First victim: the operation inside which it is killed."""
        raise NotImplementedError

    def act_second(self) -> None:
        """Second victim: the operation that takes over."""
        raise NotImplementedError

    def act(self) -> None:
        if self.first_point is None:
            self.act_first()
        else:
            self.act_second()

    def first_alone(self) -> State:
        """Returns what the first operation leaves."""
        raise NotImplementedError

    def second_alone(self) -> State:
        """Returns what the second operation leaves behind a first without effect."""
        raise NotImplementedError

    def both(self) -> State:
        """Returns what both operations leave."""
        raise NotImplementedError

    def states(self) -> Sequence[State]:
        before = State(BEFORE, self.prefilled)
        if self.first_point is None:
            return [before, self.first_alone()]
        if self.first_is_done is None:  # recording: only the end is asked for
            return [self.second_alone(), self.both()]
        if self.first_is_done:
            return [State(BEFORE, self.first_alone().items), self.both()]
        return [before, State(AFTER, self.second_alone().items)]

    def victims(self) -> int:
        return 1 if self.first_point is None else 2

    def prepare(self, laboratory: Laboratory) -> None:
        super().prepare(laboratory)
        point = self.first_point
        if point is None:
            return
        outcome = laboratory.trace_victim(
            self.attach,
            self.act_first,
            lambda pid: laboratory.stepper.kill(pid, point, timeout=laboratory.deadline),
        )
        if outcome.ending is Ending.FINISHED:
            raise OtherWay(f"the first victim was not killed: {outcome}")
        if outcome.ending is not Ending.KILLED:
            raise Violation(f"the first victim was not killed: {outcome}")


class PutRecovery(Recovery):
    """put() behind a put() that was killed."""

    labels: ClassVar[tuple[str, str]] = ("x1", "x2")

    def act_first(self) -> None:
        self.put(self.labels[0])

    def act_second(self) -> None:
        self.put(self.labels[1])

    def first_alone(self) -> State:
        return State(AFTER, (*self.prefilled, self.labels[0]))

    def second_alone(self) -> State:
        return State("after, alone", (*self.prefilled, self.labels[1]))

    def both(self) -> State:
        return State(AFTER, (*self.prefilled, *self.labels))


class GetRecovery(Recovery):
    """get() behind a get() that was killed."""

    prefilled: ClassVar[tuple[str, ...]] = ("p1", "p2", "p3", "p4", "p5")
    loses = True
    in_hand = 1

    def act_first(self) -> None:
        self.channel.get()

    def act_second(self) -> None:
        self.channel.get()

    def first_alone(self) -> State:
        return State(AFTER, self.prefilled[1:])

    def second_alone(self) -> State:
        return State("after, alone", self.prefilled[1:])

    def both(self) -> State:
        return State(AFTER, self.prefilled[2:])


class QueueAttachRecovery(OnQueue, Recovery):
    """The first use of a queue behind a put() that was killed with a block in hand.

    Claims a slot and sweeps what the dead had; that changes nothing that anybody sees.
    """

    name = "queue-attach-recovery"
    changes_state = False

    @classmethod
    def variants(cls, laboratory: Laboratory) -> Sequence[Callable[[], Operation]]:
        # Wherever the first one dies, its slot is swept: before, with and after the block.
        _, points = laboratory.record(cls)
        chosen = []
        for point in evenly_spaced(points, 8)[1:]:
            try:
                state, _ = laboratory.record(cls.behind(point))
            except OtherWay:
                continue
            chosen.append(cls.behind(point, state == AFTER))
        return chosen[::3]

    def attach_victim(self) -> None:
        if self.first_point is None:
            self.attach()

    def act_first(self) -> None:
        self.put("large")

    def act_second(self) -> None:
        self.attach()

    def first_alone(self) -> State:
        return State(AFTER, (*self.prefilled, "large"))

    def second_alone(self) -> State:
        return State("after, alone", self.prefilled)

    def both(self) -> State:
        return self.first_alone()


class QueuePutRecovery(OnBoundedQueue, PutRecovery):
    """put() that takes over the producers' lock."""

    name = "queue-put-recovery"


class QueueGetRecovery(OnBoundedQueue, GetRecovery):
    """get() that takes over the consumers' lock."""

    name = "queue-get-recovery"


class QueuePutLargeRecovery(OnBoundedQueue, PutRecovery):
    """put() with a block that takes over from one, and takes its ordinal back."""

    name = "queue-put-large-recovery"
    _CANDIDATES = 30
    labels = ("block", "large")


class QueueGetManyRecovery(OnBoundedQueue, Recovery):
    """get_many() that takes the consumers' lock over from one, blocks in hand."""

    name = "queue-get-many-recovery"
    _CANDIDATES = 30
    prefilled: ClassVar[tuple[str, ...]] = ("p1", "block", "p2", "block", "p3", "p4", "p5")
    loses = True
    in_hand = 2

    def act_first(self) -> None:
        self.channel.get_many(2)

    def act_second(self) -> None:
        self.channel.get_many(2)

    def first_alone(self) -> State:
        return State(AFTER, self.prefilled[2:])

    def second_alone(self) -> State:
        return State("after, alone", self.prefilled[2:])

    def both(self) -> State:
        return State(AFTER, self.prefilled[4:])


class PipeSendRecovery(OnPipe, PutRecovery):
    """send() that takes over from a dead sender."""

    name = "pipe-send-recovery"


class PipeRecvRecovery(OnPipe, GetRecovery):
    """recv() that takes over from a dead receiver."""

    name = "pipe-recv-recovery"


class PipeSendFragmentsRecovery(OnPipe, PutRecovery):
    """send() in fragments that finds the turn of a dead sender."""

    name = "pipe-send-fragments-recovery"
    _CANDIDATES = 30
    labels = ("fragments1", "fragments2")


class PipeRecvFragmentsRecovery(OnPipe, GetRecovery):
    """recv() in fragments that finds the turn of a dead receiver."""

    name = "pipe-recv-fragments-recovery"
    _CANDIDATES = 30
    prefilled: ClassVar[tuple[str, ...]] = ("fragments1", "fragments2", "p1")
