"""put_many() and get_many() where somebody sleeps: the caller itself, between the parts of a batch,
or those whom a batch is to wake.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from .channel_operation import (
    CATALOG,
    ChannelOperation,
    PutManyInParts,
    PutManyOperation,
    value_of,
)
from .channels import PATIENCE, noting_puts, wait_until
from .operation import AFTER, BEFORE, Reports, State, during, match
from .processes import Link, start_sleeper
from .queue_operations import GetsFirst, OnJoinableQueue, OnQueue
from .sleep_operations import Woken


class JoinableQueuePutMany(OnJoinableQueue, PutManyOperation):
    """put_many() that also counts its tasks: as many as there are items, whoever dies."""

    name = "joinablequeue-put-many"
    batch = ("x", "large", "x1", "block", "x2")

    def states(self) -> Sequence[State]:
        return [State(s.label, s.items, len(s.items)) for s in super().states()]


class QueuePutManyParts(Woken, GetsFirst, PutManyInParts):
    """put_many() of more than the maxsize of a queue: it sleeps until there is room, and again."""

    name = "queue-put-many-parts"
    maxsize = 3
    batch = ("x", "block", "x1", "large")

    def wake(self) -> list[str]:
        found = [self.get()]
        for _ in range(2):  # the other one that was there before, and the first of the batch
            self.await_victim()
            if self.channel.has_items():  # else the victim was killed before it had put any
                found.append(self.get())
        return found

    def survive(self) -> dict[str, Any]:
        self.await_peer()
        with during("get"):
            items = [self.get()] if self.channel.has_items() else []
        with during("put"):
            self.put("s")
        return {"items": items}

    def compare(self, reports: Reports) -> str:
        items = [*reports.peer, *reports.survivor["items"], *reports.fresh["items"]]
        return match([State(s.label, (*s.items, "s", "f")) for s in self.states()], items, None)


class TwoSleepers(ChannelOperation):
    """The peer has two threads, both of which sleep in a call, and are to be woken."""

    has_peer = True
    peer_sleeps = True

    def sleep_in(self, call: Callable[[], None], beside: Callable[[], None]) -> None:
        """Peer: makes both calls; returns when both have."""
        thread = start_sleeper(beside, PATIENCE)
        call()
        thread.join()


class QueuePutManyWaking(OnQueue, TwoSleepers, PutManyOperation):
    """put_many() while two get()s sleep, which must find what was put even if nobody wakes them."""

    name = "queue-put-many-waking"
    prefilled: ClassVar[tuple[str, ...]] = ()
    batch = ("x", "x1")
    peer_ends_first = True

    def assist(self, link: Link) -> list[str]:
        found: list[str] = []

        def get() -> None:
            found.append(CATALOG.label(self.channel.get(None)))

        self.sleep_in(get, get)
        return sorted(found)

    def survive(self) -> dict[str, Any]:
        with during("wake"):
            # Nobody else puts before that: their wake would hide that the first is missing.
            wait_until(
                lambda: not self.channel.has_items(), "the sleepers did not take what was put"
            )
        for count, label in enumerate(("s", "t"), start=1):
            with during("put"):
                self.put(label)
            with during("wake"):  # before, a sleeper was woken for this one, which is his
                wait_until(
                    lambda count=count: self.channel.ledger.read().got >= count,  # type: ignore[misc]
                    "a sleeper did not get anything",
                )
        with during("put and get"):
            self.put("stop")
            return {"items": self.get_until("stop")}

    def compare(self, reports: Reports) -> str:
        items = [*reports.peer, *reports.survivor["items"], *reports.fresh["items"]]
        return match(
            [State(s.label, (*s.items, "s", "t", "stop", "f")) for s in self.states()], items, None
        )


class QueueGetManyWaking(TwoSleepers, GetsFirst):
    """get_many() from a full queue while two put()s sleep, each of which must find its room."""

    name = "queue-get-many-waking"
    maxsize = 3
    loses = True
    in_hand = 2
    prefilled: ClassVar[tuple[str, ...]] = ("p1", "p2", "p3")
    _SLEEPERS: ClassVar[tuple[str, str]] = ("t", "stop")

    def act(self) -> None:
        self.channel.get_many(2)

    def assist(self, link: Link) -> None:
        def putting(label: str) -> Callable[[], None]:
            def put() -> None:
                with noting_puts(self.channel.ledger):
                    self.channel.queue.put(value_of(label))

            return put

        self.sleep_in(*map(putting, self._SLEEPERS))

    def survive(self) -> dict[str, Any]:
        items: list[str] = []
        while not items or items[-1] != "p3":  # the state before: they have room one by one
            with during("wake"):
                wait_until(self.channel.queue.full, "a sleeper did not put although there was room")
            with during("get"):
                items.append(self.get())
        with during("put"):
            self.put("s")
        return {"items": items}

    def states(self) -> Sequence[State]:
        """Which of the two puts first is nobody's to say."""
        before = self.prefilled
        return [
            State(label, (*left, *pair))
            for label, left in ((BEFORE, before), (AFTER, before[2:]))
            for pair in itertools.permutations(self._SLEEPERS)
        ]
