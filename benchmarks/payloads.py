"""The messages of the benchmarks: each one different, and checked where it arrives.

A check must be cheap beside the transport, or it would be what is measured. Small messages are
made before the clock runs, on both sides, and compared one by one (or, where they arrive in one
buffer, all at once after the clock has stopped). Large ones are stamped as they are sent.
"""

from __future__ import annotations

import ctypes
import random
import struct
from collections.abc import Callable
from typing import Any

# Of the large messages, every so many are compared byte for byte; the others by their length,
# their stamps at both ends, and a byte from every SAMPLE_STEP.
FULL_CHECK_EVERY = 16
SAMPLE_STEP = 65_521  # a prime: the samples wander over the pages

STAMP = struct.Struct("<Q")


class WrongMessageError(Exception):
    """What arrived is not what was due: lost, repeated, out of order, or damaged."""


def ints(start: int, count: int) -> list[int]:
    """Return consecutive small integers."""
    return list(range(start, start + count))


def tuples(start: int, count: int) -> list[tuple[int, str, float]]:
    """Return flat tuples such as a program would send: a number, a short name, a measurement."""
    names = [f"sensor-{number}" for number in range(10)]
    return [(number, names[number % 10], number * 0.5) for number in range(start, start + count)]


def blobs(size: int) -> Callable[[int, int], list[bytes]]:
    """Return a maker of bytes objects of one size (at least 8), each with its number in front."""
    rest = random.Random(size).randbytes(size - STAMP.size)

    def make(start: int, count: int) -> list[bytes]:
        return [STAMP.pack(number) + rest for number in range(start, start + count)]

    return make


class StampedPool:
    """Large bytes objects, used in turn; each carries its number at both ends.

    Making a new object for every message would cost about as much as sending it, so the objects
    are few, and the next one is stamped in place just before it is sent. That is sound as long as
    nobody still needs its former contents: whoever sends through a queue must bound the queue to
    fewer items than the pool has objects, since a library may look at an object as long as it is
    queued. The bodies differ too, so that a block used again is not mistaken for a new one.
    """

    def __init__(self, size: int, objects: int) -> None:
        generator = random.Random(size)
        self.size = size
        self._objects = [generator.randbytes(size) for _ in range(objects)]
        # Nothing but this pool knows these objects before they are stamped, and nothing hashes
        # them: writing into them is visible to nobody.
        data = bytes.__basicsize__ - 1  # where the contents of a bytes object begin
        self._addresses = [id(each) + data for each in self._objects]

    def stamped(self, number: int) -> bytes:
        """Return the message with this number."""
        turn = number % len(self._objects)
        stamp = STAMP.pack(number)
        address = self._addresses[turn]
        ctypes.memmove(address, stamp, STAMP.size)
        ctypes.memmove(address + self.size - STAMP.size, stamp, STAMP.size)
        return self._objects[turn]

    def check(self, number: int, message: Any, *, fully: bool) -> None:
        """Raise WrongMessageError unless `message` has this number, and the contents to it."""
        expected = self._objects[number % len(self._objects)]
        if len(message) != self.size:
            raise WrongMessageError(f"message {number} has {len(message)} bytes, not {self.size}")
        last = self.size - STAMP.size
        for offset in (0, last):
            (found,) = STAMP.unpack_from(message, offset)
            if found != number:
                raise WrongMessageError(
                    f"at message {number}, the stamp at byte {offset} is {found}"
                )
        middle = slice(STAMP.size, last, SAMPLE_STEP)
        same = message == self.stamped(number) if fully else message[middle] == expected[middle]
        if not same:
            raise WrongMessageError(f"message {number} has been damaged on its way")
