"""What the supervisor knows of one way of a channel: what it has put and got there itself, what
the library counts as lost, and the books that are judged at the end. A queue has one way, a pipe
whose two sides both send has two.
"""

from __future__ import annotations

import time

import numpy as np

from . import messages, verdict
from .kinds import Channel
from .workers import SUPERVISOR

STATS_READINGS = 8


class StormError(Exception):
    """A breach of the promise behind which it makes no sense to go on."""


class Way:
    """One way of the channel of a round."""

    def __init__(self, channel: Channel, maker: messages.Maker) -> None:
        self.channel = channel
        self.books = verdict.Books()
        self.put = 0
        self.got: list[int] = []
        self.shut = False
        self.largest = self.empty = 0  # of what was drained: bytes, and messages without any
        self.allowed = 0  # how many may be lost more than at the last look
        self._maker = maker
        self._lost = self._excesses = 0

    def make(self) -> object:
        """Return the supervisor's next message."""
        return self._maker.make(self.put)

    def make_of(self, payload: bytes) -> object:
        """Return it with this payload."""
        checksum = messages.checksum_of(SUPERVISOR, self.put, payload)
        return messages.as_tuple(SUPERVISOR, self.put, checksum, memoryview(payload))

    def put_within(self, message: object, seconds: float) -> bool:
        """Put it, waiting only so long; False if there was no room."""
        done = self.channel.put_within(message, seconds)
        self.put += done
        return done

    def pass_one(self, payload: bytes, patience: float) -> None:
        """Put a message with this payload and take it out, where nobody else puts or gets."""
        self.put_within(self.make_of(payload), 0)
        taken = self.channel.get_within(patience)
        self.got += messages.identify_all(taken)
        if len(taken) != 1:
            raise StormError(f"{len(taken)} messages came, and one was put")
        messages.check(*taken)

    def drain(self, patience: float, counts: bool) -> None:
        """Take out all that is left, until twice nothing came, or the library says that nothing
        more comes; once it was shut down it has to.
        """
        began, empty = time.monotonic(), 0
        while empty < 2 or self.shut:
            try:
                taken = self.channel.get_within(0.05)
            except self.channel.ended:
                break
            self.got += messages.identify_all(taken)
            for message in taken:
                size = messages.check(message)
                self.largest = max(self.largest, size)
                self.empty += size == 0
            empty = 0 if taken else empty + 1
            if time.monotonic() - began > patience:
                raise StormError(
                    f"{self.channel.depth()} messages are left and do not come out"
                    + ("; or get() does not say that it was shut down" if self.shut else "")
                )
        depth = self.channel.depth()
        if depth and counts:
            raise StormError(f"nothing comes any more, and {depth} messages are counted")

    def stay_empty(self, seconds: float) -> None:
        """Wait for so long for a message that nobody has put."""
        try:
            taken = self.channel.get_within(seconds)
        except self.channel.ended:
            time.sleep(seconds)  # the pace of who looks again and again is the same
            return
        if taken:
            raise StormError(f"{len(taken)} messages came behind the last one")

    def close_book(self, name: str) -> None:
        """Make a log of its own of what was got until now."""
        self.books.logs[name] = np.array(self.got, np.uint64)
        self.got = []

    def look_at_lost(self) -> None:
        """Since the last look, no more may be lost than the dead had in hand.

        While others hold the lock for long, `lost` reads too low, never too high. Who has died
        since those were buried makes it too high for a moment: so an excess has to last.
        """
        assert self.channel.stats is not None
        lost = self.channel.stats().lost
        if lost - self._lost <= self.allowed:
            self._excesses = 0
            if self.channel.loses_at_once:
                self._lost = max(self._lost, lost)
                self.allowed = 0
            return
        self._excesses += 1
        if self._excesses >= STATS_READINGS:
            raise StormError(
                f"{lost} messages are counted as lost, before it were {self._lost}; those that "
                f"died meanwhile had {self.allowed} in hand at most"
            )
