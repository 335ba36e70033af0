"""The messages of the benchmarks: each one different, and checked where it arrives.

A check must be cheap beside the transport, or it would be what is measured. Small messages are
made before the clock runs, on both sides, and compared one by one (or, where they arrive in one
buffer, all at once after the clock has stopped). Of those that take long to compare the number is
looked at, of batches the ends and the sum, and one in FULL_CHECK_EVERY compared. Large ones are
stamped as they are sent.

Messages are made one by one, so that whoever needs only some of them holds these and no others,
and in memory, too, one follows the other: what is to be compared is then fetched in order, not from
somewhere else each time.
"""

from __future__ import annotations

import ctypes
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import Any

# Of the large messages, every so many are compared byte for byte; the others by their length,
# their stamps at both ends, and a byte from every SAMPLE_STEP.
FULL_CHECK_EVERY = 16
SAMPLE_STEP = 65_521  # a prime: the samples wander over the pages

STAMP = struct.Struct("<Q")


class WrongMessageError(Exception):
    """What arrived is not what was due: lost, repeated, out of order, or damaged."""


def ints(start: int, count: int) -> Iterator[int]:
    """Return consecutive small integers."""
    return iter(range(start, start + count))


def tuples(start: int, count: int) -> Iterator[tuple[int, str, float]]:
    """Return flat tuples such as a program would send: a number, a short name, a measurement."""
    names = [f"sensor-{number}" for number in range(10)]
    for number in range(start, start + count):
        yield number, names[number % 10], number * 0.5


def dicts(start: int, count: int) -> Iterator[dict[str, Any]]:
    """Return flat dicts with five keys, as a service would log a request."""
    paths = [f"/articles/{number}" for number in range(10)]
    for number in range(start, start + count):
        yield {
            "id": number,
            "path": paths[number % 10],
            "status": 200,
            "seconds": number * 0.5,
            "cached": number % 2 == 0,
        }


def nested(start: int, count: int) -> Iterator[dict[str, Any]]:
    """Return dicts with dicts and lists in them, such as a JSON document."""
    for number in range(start, start + count):
        yield {
            "id": number,
            "customer": {"name": f"customer {number % 1000}", "tags": ["new", "paid"]},
            "items": [{"sku": number + each, "price": each * 1.5} for each in range(3)],
        }


@dataclass
class Reading:
    """An instance of a class of the program's own."""

    sensor: str
    number: int
    value: float
    flags: tuple[int, ...]


def readings(start: int, count: int) -> Iterator[Reading]:
    """Return instances of a dataclass."""
    for number in range(start, start + count):
        yield Reading(f"sensor-{number % 10}", number, number * 0.5, (1, 2, number % 7))


def mixed(start: int, count: int) -> Iterator[Any]:
    """Return equal shares of all the others and of bytes of 64, shuffled."""
    makers: list[Callable[[int, int], Iterator[Any]]] = [
        ints,
        tuples,
        dicts,
        nested,
        readings,
        blobs(64),
    ]
    share = -(-count // len(makers))
    kinds = [kind for kind in range(len(makers)) for _ in range(share)]
    # The same on both sides, and another order in each lap.
    random.Random(start).shuffle(kinds)
    each = [make(start, share) for make in makers]
    for kind in kinds[:count]:
        yield next(each[kind])


_KEYS: dict[type, Callable[[Any], Any]] = {Reading: attrgetter("number"), dict: itemgetter("id")}


def number_of(message: Any) -> Callable[[Any], Any] | None:
    """Return what tells the number of such messages; None for those that are quickly compared."""
    if isinstance(message, dict) and "customer" not in message:
        return None
    return _KEYS.get(type(message))


def blobs(size: int) -> Callable[[int, int], Iterator[bytes]]:
    """Return a maker of bytes objects of one size (at least 8), each with its number in front."""
    rest = random.Random(size).randbytes(size - STAMP.size)

    def make(start: int, count: int) -> Iterator[bytes]:
        return (STAMP.pack(number) + rest for number in range(start, start + count))

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
        last = size - STAMP.size
        # Names for the places: to go there by ctypes.memmove() took 0.4 us, each time.
        self._stamps = [
            tuple(ctypes.c_uint64.from_address(id(each) + data + offset) for offset in (0, last))
            for each in self._objects
        ]
        self._read_stamps = struct.Struct(f"=Q{last - STAMP.size}xQ").unpack
        self._samples = slice(STAMP.size, last, SAMPLE_STEP)

    def stamped(self, number: int) -> bytes:
        """Return the message with this number."""
        turn = number % len(self._objects)
        first, last = self._stamps[turn]
        first.value = last.value = number
        return self._objects[turn]

    def check(self, number: int, message: Any, *, fully: bool) -> None:
        """Raise WrongMessageError unless `message` has this number, and the contents to it."""
        try:
            first, last = self._read_stamps(message)
        except struct.error:
            raise WrongMessageError(
                f"message {number} has {len(message)} bytes, not {self.size}"
            ) from None
        if first != number or last != number:
            raise WrongMessageError(
                f"message {number} begins with the stamp {first}, and ends with {last}"
            )
        if fully:
            same = message == self.stamped(number)
        else:
            expected = self._objects[number % len(self._objects)]
            same = message[self._samples] == expected[self._samples]
        if not same:
            raise WrongMessageError(f"message {number} has been damaged on its way")


class ArrayPool:
    """NumPy arrays of float64, used in turn like StampedPool's objects; each has its own sum.

    All values are whole numbers, so that the sum is exact in whichever order it is made.
    """

    def __init__(self, size: int, objects: int, *, keep: bool) -> None:
        """Make `objects` arrays of `size` bytes; without `keep`, only their sums stay."""
        import numpy

        self._arrays = []
        self._sums = []
        for number in range(objects):
            generator = numpy.random.default_rng(number)
            array = generator.integers(0, 1 << 20, size // 8).astype(numpy.float64)
            array[0] = array[-1] = 0
            self._sums.append(float(array.sum()))
            if keep:
                self._arrays.append(array)

    def stamped(self, number: int) -> Any:
        """Return the array with this number."""
        array = self._arrays[number % len(self._arrays)]
        array[0] = array[-1] = number
        return array

    def check(self, number: int, array: Any, total: float) -> None:
        """Raise WrongMessageError unless `array`, whose sum is `total`, has this number."""
        expected = self._sums[number % len(self._sums)] + 2 * number
        if total != expected or array[0] != number or array[-1] != number:
            raise WrongMessageError(
                f"array {number} begins with {array[0]}, ends with {array[-1]}, and its sum is "
                f"{total} where {expected} is due"
            )
