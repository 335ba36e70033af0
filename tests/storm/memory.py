"""How much memory a segment occupies, what of it is kept on purpose when nothing is queued, and
whether that is all. Reads the memory file and changes nothing; csrc/layout.h tells what lies there.
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from .messages import KIB

PAGE = 4096

# FIPC_FREE_KEEP_BYTES: whatever more lies behind free blocks is given back after half a second of
# rest, or when somebody learns of a shutdown.
MOST_FREE = 512 * KIB
# What is left of the 2 MiB below which csrc/layout.h sees a drained queue, beside its free blocks
# and its ring of 1 MiB.
MOST_IN_TABLES = 512 * KIB

_SLOT_HIGH_OFFSET = 28672 + 48
_GROUP_DIR0_OFFSET = 30720
_SLOTS_OFFSET = 30976
_GROUP_DIR_OFFSET = 294912
_GROUP_INLINE = 32
_GROUP_RETIRED = 1 << 31
_GROUP_BLOCKS = 126
_GROUP_HEAD = struct.Struct("=4xI56x")
_BLOCK = struct.Struct("=Q16xQ")
_SLOT_BYTES = 64
_LOW_MASK = 4095
_KIND_RING = 1


class Level(NamedTuple):
    """The memory of a segment, in bytes, and what of it is kept on purpose."""

    total: int
    free: int  # behind free blocks, for the next large messages
    rings: int  # those in use: one for each way when nothing is queued
    tables: int  # the pages that tell of blocks and of slots, as many as were needed at one time

    @property
    def kept(self) -> int:
        """What is kept on purpose."""
        return self.free + self.rings + self.tables

    @property
    def other(self) -> int:
        """The rest: the first page. Nothing that a storm does adds to it."""
        return self.total - self.kept


def level_of(descriptor: int, groups: int) -> Level:
    """Return that of a segment at rest; groups: how many its census says were given out."""
    free = rings = pages = 0
    for number in range(groups):
        entry = _entry_of(descriptor, number)
        if entry == 0 or entry & _GROUP_RETIRED:
            continue
        pages += 1
        page = os.pread(descriptor, PAGE, entry * PAGE)
        (used,) = _GROUP_HEAD.unpack_from(page)
        for at in range(min(used, _GROUP_BLOCKS)):
            owner, populated = _BLOCK.unpack_from(page, _GROUP_HEAD.size + at * _BLOCK.size)
            if owner == 0:
                free += populated & ~_LOW_MASK
            elif populated & _KIND_RING:
                rings += populated & ~_LOW_MASK
    slots = _number_at(descriptor, _SLOT_HIGH_OFFSET)
    pages += _further_pages(_SLOTS_OFFSET, slots * _SLOT_BYTES)
    if groups > _GROUP_INLINE:
        pages += _further_pages(_GROUP_DIR_OFFSET, groups * 4)
    return Level(os.fstat(descriptor).st_blocks * 512, free, rings, pages * PAGE)


def too_much(level: Level, before: Level, most_in_rings: int) -> list[str]:
    """Return in a sentence each what is there beyond the level before.

    The level goes back to what it was before, but for what is kept on purpose. Of that there is
    as much as the next messages can use, whatever was there before, and each part has its limit.
    The rest is exact: no page more than before.
    """
    told = []
    if level.other > before.other:
        told.append(
            f"{level.other - before.other} bytes of memory more than before the storm belong to "
            "nothing that is kept on purpose"
        )
    for name, found, most in (
        ("free blocks", level.free, MOST_FREE),
        ("rings", level.rings, most_in_rings),
        ("tables", level.tables, MOST_IN_TABLES),
    ):
        if found > most:
            told.append(f"{found} bytes of memory are kept in {name}, and {most} may be at rest")
    return told


def _entry_of(descriptor: int, number: int) -> int:
    table = _GROUP_DIR0_OFFSET if number < _GROUP_INLINE else _GROUP_DIR_OFFSET
    return _number_at(descriptor, table + number * 4)


def _number_at(descriptor: int, offset: int) -> int:
    return int.from_bytes(os.pread(descriptor, 4, offset), "little")


def _further_pages(offset: int, size: int) -> int:
    """Return how many pages a table reaches into, but for one that holds something before it."""
    return max(0, -(-(offset + size) // PAGE) - -(-offset // PAGE))
