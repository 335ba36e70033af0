"""What travels in a storm. Every message, of whatever size and shape, tells who sent it, its
number among those of its sender, and a checksum of all of it.
"""

from __future__ import annotations

import os
import pickle
import random
import struct
import zlib
from collections.abc import Callable, Iterable
from typing import Any

KIB = 1024
MIB = 1024 * KIB
LARGEST = 32 * MIB

# A sender is one thread of one life of a worker. Both fit into an int that needs no pickle.
SENDER_LIMIT = 1 << 19
NUMBER_LIMIT = 1 << 28

HEAD = struct.Struct("<III")

# What a life puts: (weight, least, most) bytes of payload. Around the inline limit of 4 KiB, and at
# the sizes where blocks change their class, messages take other ways.
HASTY = ((100, 0, 64),)
SMALL = ((50, 0, 64), (30, 64, 1 * KIB), (20, 1 * KIB, 4500))
MIXED = (
    (50, 0, 64),
    (20, 64, 4 * KIB),
    (10, 4000, 4200),
    (10, 4200, 64 * KIB),
    (8, 64 * KIB, 1 * MIB),
    (2, 1 * MIB, 4 * MIB),
)
LARGE = (
    (30, 0, 4 * KIB),
    (33, 8 * KIB, 1 * MIB),
    (20, 1 * MIB, 8 * MIB),
    (7, 8 * MIB, LARGEST),
    (10, LARGEST, LARGEST),  # each takes long, and a long storm has to have some: see happened.py
)
EDGES = (0, 4095, 4096, 4097, 8192, 65536, MIB, LARGEST)
PROFILES = {"hasty": HASTY, "small": SMALL, "mixed": MIXED, "large": LARGE}

EXIT_IN_REDUCE = 77

# A prime, so that two messages of one sender rarely hold the same bytes.
_STRIDE = 7919
_PERIOD = MIB


class DamagedError(Exception):
    """A message that nobody has put."""


class Parcel:
    """An object that goes through pickle, with the payload as a buffer of its own."""

    def __init__(self, sender: int, number: int, checksum: int, payload: Any) -> None:
        self.content = (sender, number, checksum, payload)

    def __reduce__(self) -> tuple[Any, ...]:
        return Parcel, self.content


class DeadlyParcel(Parcel):
    """A parcel whose process ends while it is pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        os._exit(EXIT_IN_REDUCE)


class Sizes:
    """Draws the payload sizes of one life."""

    def __init__(self, chance: random.Random, profile: str) -> None:
        table = PROFILES[profile]
        self._chance = chance
        self._ranges = [(least, most) for _, least, most in table]
        self._weights = [weight for weight, _, _ in table]
        largest = self.largest = max(most for _, _, most in table)
        self._edges = [size for size in EDGES if size <= largest]

    def draw(self) -> int:
        """Return the next size in bytes."""
        if self._chance.random() < 0.02:
            return self._chance.choice(self._edges)
        ((least, most),) = self._chance.choices(self._ranges, self._weights)
        return self._chance.randint(least, most)


class Maker:
    """Makes the messages of one sender."""

    def __init__(self, sender: int, chance: random.Random, profile: str, buffers: bool) -> None:
        """buffers: the library takes objects with out-of-band buffers."""
        self._sender = sender
        # How many are made at a time: who makes none between two puts is oftener met inside one.
        self.ahead = 100 if profile == "hasty" else 1
        self._chance = chance
        self._sizes = Sizes(chance, profile)
        unit = random.Random(1).randbytes(_PERIOD)
        # One period more than the largest: a payload begins anywhere in the first one.
        self._pool = memoryview(unit * (-(-self._sizes.largest // _PERIOD) + 1))
        self._shapes: list[Callable[[int, int, int, memoryview], Any]] = [
            as_tuple, as_bytes, as_nested, as_parcel,
        ]  # fmt: skip
        if buffers:
            self._shapes.append(as_buffer)

    def make(self, number: int) -> Any:
        """Return the message with this number."""
        size = self._sizes.draw()
        begin = number * _STRIDE % _PERIOD
        payload = self._pool[begin : begin + size]
        checksum = checksum_of(self._sender, number, payload)
        if size == 0 and self._chance.random() < 0.5:
            return as_int(self._sender, number, checksum)
        return self._chance.choice(self._shapes)(self._sender, number, checksum, payload)

    def make_deadly(self, number: int) -> Any:
        """Return one that ends this process while it is pickled."""
        return DeadlyParcel(self._sender, number, 0, b"")


def checksum_of(sender: int, number: int, payload: Any) -> int:
    """Return the checksum of a message."""
    return zlib.crc32(payload, zlib.crc32(HEAD.pack(sender, number, len(payload))))


def as_int(sender: int, number: int, checksum: int) -> int:
    """Return a message without a payload as an int of 64 bits at most."""
    return sender << 44 | number << 16 | checksum & 0xFFFF


def as_tuple(sender: int, number: int, checksum: int, payload: memoryview) -> Any:
    """Return a message that the codec takes."""
    return sender, number, checksum, bytes(payload)


def as_bytes(sender: int, number: int, checksum: int, payload: memoryview) -> bytes:
    """Return a message that is bytes and nothing else."""
    return HEAD.pack(sender, number, checksum) + payload


def as_nested(sender: int, number: int, checksum: int, payload: memoryview) -> Any:
    """Return a message as containers in containers."""
    return {"from": [sender, number], "check": checksum, "payload": (None, bytes(payload))}


def as_parcel(sender: int, number: int, checksum: int, payload: memoryview) -> Any:
    """Return a message that goes through pickle as one piece."""
    return Parcel(sender, number, checksum, bytes(payload))


def as_buffer(sender: int, number: int, checksum: int, payload: memoryview) -> Any:
    """Return a message whose payload travels beside its pickle."""
    return Parcel(sender, number, checksum, pickle.PickleBuffer(bytearray(payload)))


def identify(message: Any) -> tuple[int, int]:
    """Return who sent it and its number, without a look at the payload. Raises DamagedError."""
    sender, number, _, _ = _parts(message)
    if not (0 <= sender < SENDER_LIMIT and 0 <= number < NUMBER_LIMIT):
        raise DamagedError(f"there is no message {number} of sender {sender}")
    return sender, number


def check(message: Any) -> int:
    """Return the bytes of its payload. Raises DamagedError if the checksum is not the message's."""
    sender, number, checksum, payload = _parts(message)
    found = checksum_of(sender, number, payload)
    if isinstance(message, int):
        found &= 0xFFFF
    if found != checksum:
        raise DamagedError(
            f"message {number} of sender {sender}, a {type(message).__name__} with "
            f"{len(payload)} bytes of payload: its checksum is {found:#x}, not {checksum:#x}"
        )
    return len(payload)


def identify_all(messages: Iterable[Any]) -> list[int]:
    """Return the entries for a ledger of these messages."""
    return [sender << 32 | number for sender, number in map(identify, messages)]


def _parts(message: Any) -> tuple[int, int, int, Any]:
    try:
        if isinstance(message, tuple):
            sender, number, checksum, payload = message
        elif isinstance(message, bytes):
            sender, number, checksum = HEAD.unpack_from(message)
            payload = memoryview(message)[HEAD.size :]
        elif isinstance(message, int):
            sender, number, checksum = message >> 44, message >> 16 & 0xFFFFFFF, message & 0xFFFF
            payload = b""
        elif isinstance(message, Parcel):
            sender, number, checksum, payload = message.content
        else:
            (sender, number), checksum = message["from"], message["check"]
            _, payload = message["payload"]
        return sender, number, checksum, memoryview(payload).cast("B")
    except Exception as error:
        raise DamagedError(f"what arrived is no message: {message!r:.200}") from error
