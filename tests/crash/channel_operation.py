"""Operations on something that carries items first in, first out, and the items themselves.

Owns what puts, gets and woken sleepers have in common; the objects are other modules' business.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, ClassVar

import fastipc
from fastipc import _core

from .books import Account, Noted
from .channels import Channel, expect_records_for_blocks, wait_until
from .harness import Laboratory
from .operation import AFTER, BEFORE, Catalog, Operation, Reports, State, Violation, during, match
from .processes import Link

# More than a small block, and few lines: a copy takes 13 instructions for each line of 64 bytes.
_LARGE_BYTES = 10_000
_FRAGMENTED_BYTES = 300_000  # more than the ring of a pipe
_FRAGMENTS_BYTES = 40_000  # a few records, which find room in a ring
FILL_COUNT = 2000
# Nobody else knows yet of the bytes that a copy writes, or they are the copy's own: one instruction
# of its loop is like the next. Where it goes round thousands of times its file and that of the
# compiler's intrinsics are left out, and killed in the operations with little to copy.
COPIES = ("copy.c", "emmintrin.h")
chooser = random.Random(20261123)  # the contents only have to differ, and to be reproducible

CATALOG = Catalog(
    {
        **{f"p{i}": ("prefilled", i, "text") for i in range(1, 9)},
        "x": ("acted", 1.5, b"bytes", None),
        "x1": ("first victim", 1),
        "x2": ("second victim", 2),
        "s": "from the survivor",
        "f": "from the fresh process",
        "t": "behind the large message",
        "stop": "stop",
        "wrap": chooser.randbytes(3_000),  # two of them leave no room for a third in a new ring
        "wrap2": chooser.randbytes(3_000),
        "wrap3": chooser.randbytes(3_000),
        "block": chooser.randbytes(6_000),  # more than what travels inside a ring
        "fragments1": chooser.randbytes(_FRAGMENTS_BYTES),
        "fragments2": chooser.randbytes(_FRAGMENTS_BYTES),
        "large": chooser.randbytes(_LARGE_BYTES),
        "large2": chooser.randbytes(_LARGE_BYTES),
        "fragmented": chooser.randbytes(_FRAGMENTED_BYTES),
        **{f"fill{i}": b"%08d" % i * 25 for i in range(FILL_COUNT)},
    }
)


def value_of(label: str) -> Any:
    """Returns the item of that label."""
    return CATALOG.value(label)


class ChannelOperation(Operation):
    """An operation on something that carries items first in, first out."""

    prefilled: ClassVar[tuple[str, ...]] = ("p1", "p2")
    # How much memory the cgroup has left is read from many files, at times, and nothing shared is
    # touched there: queue-put-large alone is killed in it.
    left_out = ("os_room.c",)
    has_checker: ClassVar[bool] = False
    """Blocks may be queued, which the survivor then looks at before anything is got."""
    in_hand: ClassVar[int] = 0
    """So many messages, at most, can a victim have taken that it has not noted as got."""
    taken_before: ClassVar[int] = 0
    """So many of them it has taken before the operation begins."""
    carries: ClassVar[tuple[str, ...]] = ()
    """Labels of what is put beside what is there before: made before anybody is forked."""
    copies_past: ClassVar[bool] = False
    """Large payloads are copied past the caches."""
    channel: Any

    def settle(self) -> None:
        _core.debug_keep_choices(past=self.copies_past)
        for label in (*self.prefilled, *self.carries):
            value_of(label)

    def module_path(self) -> str:
        return str(_core.__file__)

    def open(self) -> Channel:
        raise NotImplementedError

    def states(self) -> Sequence[State]:
        raise NotImplementedError

    def prepare(self, laboratory: Laboratory) -> None:
        self.channel = self.open()
        for label in self.prefilled:
            self.put(label)

    def attach(self) -> None:
        self.channel.attach()

    def warm_victim(self) -> None:
        if self.left_out:
            queue = fastipc.get_context("fork").Queue()
            queue.put(value_of("wrap"))
            queue.put(value_of("block"))
            queue.get()
            queue.get()
            queue.close()

    def put(self, label: str) -> None:
        self.channel.put(value_of(label))

    def put_or_learn(self, label: str) -> list[str]:
        """Put it, or say instead that the queue is shut."""
        try:
            self.put(label)
        except fastipc.ShutDown:
            return ["put refused"]
        return []

    def get(self) -> str:
        return CATALOG.label(self.channel.get())

    def get_until(self, last: str) -> list[str]:
        """Gets up to the item that this process has just put: all before it is older."""
        found = [self.get()]
        while found[-1] != last:
            found.append(self.get())
        return found

    def survive(self) -> dict[str, Any]:
        with during("put"):
            self.put("s")
        with during("between put and get"):
            self.look()
        with during("get"):
            return {"items": [self.get()]}

    def look(self) -> None:
        """Survivor, between its put and its get: what must be true of what is queued."""
        if self.has_checker and not self.has_peer:  # which might put meanwhile
            expect_records_for_blocks(self.channel.queue)

    def arrive(self) -> dict[str, Any]:
        with during("put"):
            self.put("f")
        with during("get"):
            items = self.get_until("f")
        with during("when drained"):
            self.channel.expect_empty()
            report = {"items": items, **self.examine()}
            self.channel.check()
        return report

    def examine(self) -> dict[str, Any]:
        """Fresh process, with the drained object: what else must still be true."""
        return {"lost": self.channel.account().lost}

    def judge(self, reports: Reports) -> str:
        """Compares what is left with the states, and then the books: not to be overridden."""
        label = self.compare(reports)
        account = self.channel.account()
        if reports.fresh["lost"] != account.lost:
            raise Violation(
                f"stats() counted {reports.fresh['lost']} lost messages in the fresh process, and "
                f"counts {account.lost} behind it"
            )
        self.check_books(label, account, self.channel.ledger.read())
        return label

    def compare(self, reports: Reports) -> str:
        """Parent: returns the label of the state that was found, or raises Violation."""
        return match(
            [State(s.label, (*s.items, "s", "f"), s.unfinished) for s in self.states()],
            [*reports.survivor["items"], *reports.fresh["items"]],
            reports.fresh.get("unfinished"),
        )

    def victims(self) -> int:
        """So many processes were killed."""
        return 1

    def given_up(self, label: str) -> int:
        """So many messages has a shutdown given up in the state of that label."""
        return 0

    def check_books(self, label: str, account: Account, noted: Noted) -> None:
        """What was taken has reached its caller, or it is lost, and is then counted once.

        Who is killed between fipc_channel_count_given()'s store, which counts a message as
        given, and the note, which he makes as soon as his call has returned, has been given a
        message of which nobody else knows. That is inherent: the count cannot come behind the
        return. It comes right before it, which harness.py sees to: of all kills behind the take
        most have to be counted.
        """
        if not noted.ended <= account.puts <= noted.begun:
            raise Violation(
                f"stats() counts {account.puts} puts; {noted.ended} have returned, {noted.begun} "
                "had begun"
            )
        if account.gets + self.given_up(label) != account.puts:
            raise Violation(
                f"stats() counts {account.puts} puts, and {account.gets} gets in a drained object"
            )
        in_hand = self.victims() * self.in_hand
        unnoted = account.given - noted.got
        if not 0 <= unnoted <= in_hand:
            raise Violation(
                f"{account.given} messages have reached their callers by the library's count, "
                f"{noted.got} by theirs; the dead can have had {in_hand} in hand"
            )
        missing = account.gets - noted.got
        if account.lost != missing - unnoted:
            raise Violation(
                f"stats() counts {account.lost} lost messages, but {missing} are missing, of which "
                f"{unnoted} had reached their callers"
            )
        untouched = label == BEFORE and self.victims() == 1
        if missing > (self.taken_before if untouched else in_hand):
            raise Violation(f"{missing} messages are missing in the state {label}")

    def close(self) -> None:
        self.channel.close()


class PutOperation(ChannelOperation):
    """Puts one item behind what is there."""

    item: ClassVar[str] = "x"

    def settle(self) -> None:
        super().settle()
        value_of(self.item)

    def act(self) -> None:
        self.put(self.item)

    def states(self) -> Sequence[State]:
        before = self.prefilled
        return [State(BEFORE, before), State(AFTER, (*before, self.item))]


class PutManyOperation(ChannelOperation):
    """Puts a batch behind what is there: all of it or nothing."""

    batch: ClassVar[tuple[str, ...]]

    def act(self) -> None:
        self.channel.put_many([value_of(label) for label in self.batch])

    def states(self) -> Sequence[State]:
        before = self.prefilled
        return [State(BEFORE, before), State(AFTER, (*before, *self.batch))]


class PutManyInParts(PutManyOperation):
    """Puts a batch in parts: the first so many of it."""

    def states(self) -> Sequence[State]:
        counts = range(len(self.batch) + 1)
        labels = [BEFORE, *("between" for _ in counts[1:-1]), AFTER]
        return [State(labels[count], (*self.prefilled, *self.batch[:count])) for count in counts]


class GetOperation(ChannelOperation):
    """Takes the first item; what a dead process had taken is lost with it, and only that."""

    loses = True
    in_hand = 1
    prefilled: ClassVar[tuple[str, ...]] = ("p1", "p2", "p3")

    def act(self) -> None:
        self.channel.get()

    def states(self) -> Sequence[State]:
        before = self.prefilled
        return [State(BEFORE, before), State(AFTER, before[1:])]


class WakingPut(PutOperation):
    """Puts while the peer sleeps in a get; the waker may die before it has woken it.

    The sleeper must find by itself what was published. Nobody else puts before that: their
    wake would hide that the first is missing.
    """

    prefilled: ClassVar[tuple[str, ...]] = ()
    has_peer = True
    peer_sleeps = True
    peer_ends_first = True

    def assist(self, link: Link) -> list[str]:
        return [CATALOG.label(self.channel.get(None))]

    def survive(self) -> dict[str, Any]:
        with during("wake"):
            wait_until(
                lambda: not self.channel.has_items(), "the sleeper did not take what was put"
            )
        with during("put"):
            self.put("s")
        with during("wake"):
            # Before, it was woken for this one, which is not to be taken from under its hands.
            wait_until(
                lambda: self.channel.ledger.read().got > 0, "the sleeper did not get anything"
            )
        with during("put and get"):
            self.put("t")
            return {"items": self.get_until("t")}

    def compare(self, reports: Reports) -> str:
        items = [*reports.peer, *reports.survivor["items"], *reports.fresh["items"]]
        return match(
            [State(s.label, (*s.items, "s", "t", "f")) for s in self.states()], items, None
        )
