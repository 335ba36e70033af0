"""What was put and got: by the account of the processes themselves, and by the library's.

Each process notes for itself, before a put and behind it, and behind a get: also the one that is
killed. The library's numbers are those of stats(), and of the slots in shared memory. Judges
nothing: `channel_operation.py` compares the two.
"""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass
from typing import Any, NamedTuple

# Of csrc/layout.h, and PROTOCOL.md, which tests/unit compares with it.
_SLOT_HIGH_OFFSET = 28672 + 48
_MARKS_OFFSET = 29184 + 144
_MARKS = struct.Struct("=2Q")
_SLOTS_OFFSET = 30976
_SLOT = struct.Struct("=II2Q2QI20x")
_SLOT_COUNT = 4096
# A write that crosses into the next page can be killed between the two, and leaves a part of a
# note behind, so the pages hold whole notes only.
_NOTE = struct.Struct("=iii4x")


class Noted(NamedTuple):
    """The sums of all notes: messages."""

    begun: int  # puts, those that were refused left out
    ended: int  # puts that have returned
    got: int  # messages that gets have returned


class Ledger:
    """A file to whose end every process of a case writes what it does."""

    def __init__(self) -> None:
        self._fd = os.memfd_create("crash-ledger")
        # Each write goes behind all others, whoever makes it.
        fcntl.fcntl(self._fd, fcntl.F_SETFL, os.O_RDWR | os.O_APPEND)

    def note(self, *, begun: int = 0, ended: int = 0, got: int = 0) -> None:
        os.write(self._fd, _NOTE.pack(begun, ended, got))

    def read(self) -> Noted:
        notes = os.pread(self._fd, os.fstat(self._fd).st_size, 0)
        begun = ended = got = 0
        for note in _NOTE.iter_unpack(notes):
            begun, ended, got = begun + note[0], ended + note[1], got + note[2]
        return Noted(begun, ended, got)

    def close(self) -> None:
        os.close(self._fd)


@dataclass(frozen=True)
class Account:
    """The library's own numbers, of an object at rest."""

    puts: int
    gets: int  # without what a shutdown has given up
    lost: int
    given: int  # messages that have reached their callers, the dead ones, too

    @classmethod
    def of(cls, stats: Any, descriptor: int, way: int) -> Account:
        return cls(stats.puts, stats.gets, stats.lost, _given(descriptor, way))


def _given(descriptor: int, way: int) -> int:
    """What all slots of a segment say that has reached callers, those of the dead, too."""
    (high,) = struct.unpack("=I", os.pread(descriptor, 4, _SLOT_HIGH_OFFSET))
    table = os.pread(descriptor, min(high, _SLOT_COUNT) * _SLOT.size, _SLOTS_OFFSET)
    return sum(int(slot[4 + way]) for slot in _SLOT.iter_unpack(table))


def marks_of(descriptor: int) -> tuple[int, int]:
    """The highest items and bytes that a queue's memory tells of: stats() would raise them."""
    items, bytes_ = _MARKS.unpack(os.pread(descriptor, _MARKS.size, _MARKS_OFFSET))
    return items, bytes_
