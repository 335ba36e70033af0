"""One manner of speaking for the queues and pipes that are stormed, of fastipc or of another
library with multiprocessing's interface. Channels travel to workers as their queues do.
"""

from __future__ import annotations

import os
import random
import struct
import threading
import time
from collections.abc import Callable
from queue import Empty, Full
from typing import Any

from . import messages

# Of csrc/layout.h, and PROTOCOL.md, which tests/unit compares with it.
_SLOTS_OFFSET = 30976
_SLOT = struct.Struct("=II2Q2QI20x")
_SLOT_COUNT = 4096
_SLOT_USED = 1
# The locks of both sides of both channels and of the arena, and who sends or receives a message in
# fragments: a slot's number + 1 in the low bits, or 0.
_CONTROL_OFFSET = 29184
_CONTROL_BYTES = 772
_LOCK_PLACES = (0, 64, 384, 448, 768)
_TURN_PLACES = (192, 200, 576, 584)
_OWNER_MASK = (1 << 13) - 1

# An unbounded queue holds what its producers choose to: they look how long it is, those of large
# messages sooner.
PATIENT_ITEMS = {"hasty": 300, "small": 300, "mixed": 100, "large": 20}
MOST_IN_BATCH = 40


class Channel:
    """What producers put into and consumers get from. A base class."""

    # How many messages a kill inside one get may cost.
    in_hand = 1
    # None: the library does not count.
    stats: Callable[[], Any] | None = None
    takes_buffers = True
    # Whether what a killed process had in hand counts as lost as soon as it is dead.
    loses_at_once = True
    # How many slots of a segment this process has, at most.
    slots = 1
    # The largest ring that a way is left with: a queue's behind a backlog.
    most_in_ring = messages.MIB
    # Its storm ends by a shutdown, an immediate one or not; None: by other means.
    shuts_at_once: bool | None = None
    # What put() and get() raise behind that.
    ended: tuple[type[Exception], ...] = ()

    @property
    def ways(self) -> tuple[Channel, ...]:
        """Those in which messages go, each a channel of its own."""
        return (self,)

    def jobs(self, side: int) -> list[tuple[int, bool]]:
        """Return what each worker of a side does, at one time: the way, and whether it puts."""
        return [(0, side == 0)]

    def given(self) -> int:
        """Return how many messages have reached callers, by the library's count."""
        return sum(slots(self.descriptor())[1])

    def put(self, made: list[Any], chance: random.Random) -> int:
        """Put messages in one call, in one of its manners; return how many of the first are in."""
        raise NotImplementedError

    def get(self, chance: random.Random) -> list[Any]:
        """Get messages in one call; none if it gave up."""
        raise NotImplementedError

    def get_within(self, seconds: float) -> list[Any]:
        """Get messages, waiting only so long."""
        raise NotImplementedError

    def put_within(self, message: Any, seconds: float) -> bool:
        """Put one, waiting only so long; False if there was no room."""
        raise NotImplementedError

    def depth(self) -> int:
        """Return how many messages are queued."""
        raise NotImplementedError

    def is_long(self, patience: int) -> bool:
        """Whether more messages are queued than a producer wants to see."""
        return self.depth() > patience

    def batch_size(self, chance: random.Random) -> int:
        """Return how many messages the next put shall have."""
        return 1

    def done(self) -> None:
        """Say that a message was dealt with, where there is such a thing."""

    def shut_down(self, at_once: bool) -> None:
        """Have all puts fail from now on, and gets when nothing is left, or at once."""
        raise NotImplementedError

    def close(self) -> None:
        """Give up this process's share."""
        raise NotImplementedError

    def descriptor(self) -> int:
        """Return the memory file's."""
        raise NotImplementedError

    def check(self) -> dict[str, int]:
        """Return the library's own census; raises if the shared state contradicts itself."""
        raise NotImplementedError


class QueueChannel(Channel):
    """A queue, with or without limits, tasks and batches."""

    def __init__(self, queue: Any, batches: bool, counts: bool) -> None:
        self.queue = queue
        self.batches = batches
        self.takes_buffers = counts
        self._counts = counts
        self.in_hand = MOST_IN_BATCH if batches else 1

    @property
    def stats(self) -> Callable[[], Any] | None:  # type: ignore[override]
        return self.queue.stats if self._counts else None

    def put(self, made: list[Any], chance: random.Random) -> int:
        way = chance.random()
        arguments = (True, None) if way < 0.7 else (True, 0.02) if way < 0.9 else (False, None)
        try:
            if self.batches:
                self.queue.put_many(made, *arguments)
            else:
                self.queue.put(made[0], *arguments)
        except Full as error:
            return error.put_count if self.batches else 0  # type: ignore[attr-defined]
        return len(made)

    def get(self, chance: random.Random) -> list[Any]:
        way = chance.random()
        if way < 0.6:
            return self._get(True, None)
        if way < 0.9:
            return self._get(True, 0.05)
        taken = self._get(False, None)
        if not taken:
            time.sleep(0.0005)
        return taken

    def _get(self, block: bool, timeout: float | None) -> list[Any]:
        try:
            if self.batches:
                return self.queue.get_many(self.in_hand, block, timeout)  # type: ignore[no-any-return]
            return [self.queue.get(block, timeout)]
        except Empty:
            return []

    def get_within(self, seconds: float) -> list[Any]:
        return self._get(True, seconds)

    def put_within(self, message: Any, seconds: float) -> bool:
        try:
            self.queue.put(message, seconds > 0, seconds)
        except Full:
            return False
        return True

    def depth(self) -> int:
        return self.queue.qsize()  # type: ignore[no-any-return]

    def batch_size(self, chance: random.Random) -> int:
        return chance.randint(1, MOST_IN_BATCH) if self.batches else 1

    def shut_down(self, at_once: bool) -> None:
        self.queue.shutdown(at_once)

    def close(self) -> None:
        self.queue.close()
        if not self._counts:
            self.queue.cancel_join_thread()

    def descriptor(self) -> int:
        return self.queue._handles()[0]  # type: ignore[no-any-return]

    def check(self) -> dict[str, int]:
        return self.queue._check()  # type: ignore[no-any-return]


class TaskChannel(QueueChannel):
    """A JoinableQueue."""

    def done(self) -> None:
        self.queue.task_done()

    def finish(self, patience: float) -> tuple[int, bool, bool]:
        """Mark as done what is not yet.

        Returns how many that were, whether join() waited for them, and whether it returned then.
        """
        joiner = threading.Thread(target=self.queue.join, daemon=True)
        joiner.start()
        joiner.join(0.05)
        waited, count = joiner.is_alive(), 0
        while True:
            try:
                self.queue.task_done()
            except ValueError:
                break
            count += 1
        joiner.join(patience)
        return count, waited, not joiner.is_alive()


class PipeChannel(Channel):
    """A pipe with one way, whose ends all workers share."""

    slots = 2  # each end that was used has one
    # Of a message in fragments, when its last one comes and there is nobody who has the others.
    loses_at_once = False
    most_in_ring = 2 * messages.MIB  # once large messages went through it

    def __init__(self, reader: Any, writer: Any, counts: bool, number: int | None = None) -> None:
        """number: of the ways of a pipe that has two."""
        self._number = number
        self.reader = reader
        self.writer = writer
        self.takes_buffers = counts
        self._counts = counts

    @property
    def stats(self) -> Callable[[], Any] | None:  # type: ignore[override]
        return self._stats if self._counts else None

    def _stats(self) -> Any:
        return self.reader.stats().received

    def put(self, made: list[Any], chance: random.Random) -> int:
        self.writer.send(made[0])
        return 1

    def get(self, chance: random.Random) -> list[Any]:
        if chance.random() < 0.3 and not self.reader.poll(0.05):
            return []
        return [self.reader.recv()]

    def get_within(self, seconds: float) -> list[Any]:
        return [self.reader.recv()] if self.reader.poll(seconds) else []

    def put_within(self, message: Any, seconds: float) -> bool:
        self.writer.send(message)
        return True

    def given(self) -> int:
        given = slots(self.descriptor())[1]
        return sum(given) if self._number is None else given[self._number]

    def depth(self) -> int:
        return self._stats().items if self._counts else 0  # type: ignore[no-any-return]

    def is_long(self, patience: int) -> bool:
        return False  # send() waits for room

    def close(self) -> None:
        self.reader.close()
        self.writer.close()

    def descriptor(self) -> int:
        return self.reader._handles()[0]  # type: ignore[no-any-return]

    def check(self) -> dict[str, int]:
        return self.reader._check()  # type: ignore[no-any-return]


class DuplexChannel(PipeChannel):
    """A pipe with two ways. Workers of a side have one end, and send and receive at one time."""

    def __init__(self, one: Any, other: Any, counts: bool) -> None:
        super().__init__(other, one, counts, 0)
        self._back = PipeChannel(one, other, counts, 1)

    @property
    def ways(self) -> tuple[Channel, ...]:
        return self, self._back

    def jobs(self, side: int) -> list[tuple[int, bool]]:
        return [(side, True), (1 - side, False)]


class SimpleChannel(PipeChannel):
    """A SimpleQueue: a pipe with one way, below a face of its own."""

    def __init__(self, queue: Any, counts: bool) -> None:
        super().__init__(queue._reader, queue._writer, counts)
        self._simple = queue

    def _stats(self) -> Any:
        return self._simple.stats()

    def put(self, made: list[Any], chance: random.Random) -> int:
        self._simple.put(made[0])
        return 1

    def get(self, chance: random.Random) -> list[Any]:
        if chance.random() < 0.3 and self._simple.empty():
            time.sleep(0.0005)
            return []
        return [self._simple.get()]

    def get_within(self, seconds: float) -> list[Any]:
        return [self._simple.get()] if self._simple._poll(seconds) else []

    def put_within(self, message: Any, seconds: float) -> bool:
        self._simple.put(message)
        return True

    def close(self) -> None:
        self._simple.close()

    def check(self) -> dict[str, int]:
        return self._simple._check()  # type: ignore[no-any-return]


def slots(descriptor: int) -> tuple[int, tuple[int, int]]:
    """Return how many slots of a segment are in use, and how many messages have reached callers on
    the first and the second way.
    """
    table = os.pread(descriptor, _SLOT_COUNT * _SLOT.size, _SLOTS_OFFSET)
    used = given = back = 0
    for _, state, _, _, first, second, _ in _SLOT.iter_unpack(table):
        used += state == _SLOT_USED
        given += first
        back += second
    return used, (given, back)


def holders(descriptor: int) -> set[int]:
    """Return the pids of the processes that hold a lock or a turn of a segment."""
    control = os.pread(descriptor, _CONTROL_BYTES, _CONTROL_OFFSET)
    pids = set()
    for place in _LOCK_PLACES + _TURN_PLACES:
        slot = (int.from_bytes(control[place : place + 4], "little") & _OWNER_MASK) - 1
        if 0 <= slot < _SLOT_COUNT:
            words = os.pread(descriptor, _SLOT.size, _SLOTS_OFFSET + slot * _SLOT.size)
            pids.add(_SLOT.unpack(words)[6])
    return pids


def is_ours(context: Any) -> bool:
    """Whether a context is fastipc's, with what that adds."""
    return type(context).__module__.partition(".")[0] == "fastipc"


def make_queue(context: Any, batches: bool, chance: random.Random) -> Channel:
    return QueueChannel(context.Queue(), batches, is_ours(context))


def make_bounded(context: Any, batches: bool, chance: random.Random) -> Channel:
    return QueueChannel(context.Queue(chance.choice((1, 2, 7, 30, 100))), batches, is_ours(context))


def make_max_bytes(context: Any, batches: bool, chance: random.Random) -> Channel:
    size = messages.LARGEST + chance.choice((1, 16)) * messages.MIB
    return QueueChannel(context.Queue(max_bytes=size), batches, is_ours(context))


def make_joinable(context: Any, batches: bool, chance: random.Random) -> Channel:
    return TaskChannel(context.JoinableQueue(chance.choice((0, 0, 20))), batches, is_ours(context))


def make_shutdown(context: Any, batches: bool, chance: random.Random) -> Channel:
    return _to_be_shut(context, batches, chance, at_once=False)


def make_shutdown_now(context: Any, batches: bool, chance: random.Random) -> Channel:
    return _to_be_shut(context, batches, chance, at_once=True)


def _to_be_shut(context: Any, batches: bool, chance: random.Random, at_once: bool) -> Channel:
    from fastipc import ShutDown  # not for other libraries, which have no shutdown()

    make = chance.choice((make_queue, make_bounded, make_joinable))
    channel = make(context, batches or chance.random() < 0.5, chance)
    channel.shuts_at_once, channel.ended = at_once, (ShutDown,)
    return channel


def make_pipe(context: Any, batches: bool, chance: random.Random) -> Channel:
    return PipeChannel(*context.Pipe(False), is_ours(context))


def make_duplex(context: Any, batches: bool, chance: random.Random) -> Channel:
    return DuplexChannel(*context.Pipe(), is_ours(context))


def make_simple(context: Any, batches: bool, chance: random.Random) -> Channel:
    return SimpleChannel(context.SimpleQueue(), is_ours(context))


KINDS: dict[str, Callable[[Any, bool, random.Random], Channel]] = {
    "queue": make_queue,
    "bounded": make_bounded,
    "max-bytes": make_max_bytes,
    "joinable": make_joinable,
    "shutdown": make_shutdown,
    "shutdown-now": make_shutdown_now,
    "pipe": make_pipe,
    "duplex": make_duplex,
    "simple": make_simple,
}

SHUT_KINDS = ("shutdown", "shutdown-now")
