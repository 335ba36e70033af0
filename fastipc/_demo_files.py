"""The files of the demo: which there are, what they hold, and what had to be left out.

Owns everything that touches the file system. How contents travel is `_demo_job`'s business.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

# A file travels whole up to this size and in pieces above it, so that a folder of disk images
# needs no more memory than one of text files.
PIECE_BYTES = 8 * 1024 * 1024


class Piece(NamedTuple):
    """What one message carries: a whole file, or a part of a large one."""

    path: str
    offset: int
    length: int
    digest: bytes


class Skipped(NamedTuple):
    """Something under the folder that was not sent, and why."""

    path: str
    reason: str


@dataclass
class Contents:
    """All that was found under one folder."""

    folder: str
    pieces: list[Piece] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    file_count: int = 0
    byte_count: int = 0


def scan(
    folder: str,
    *,
    leave_out: frozenset[str] = frozenset(),
    on_file: Callable[[], None] = lambda: None,
) -> Contents:
    """Read every regular file under `folder` once, and note its digests.

    Directly, without any transport between: these digests are the truth that both libraries are
    held against, and no library profits from finding the disk's cache warm. Directories named in
    `leave_out` are skipped. Raises OSError if `folder` itself cannot be listed.
    """
    contents = Contents(os.path.abspath(folder))
    os.scandir(contents.folder).close()  # os.walk() would keep this error to itself
    for entry in _entries(contents, leave_out):
        reason = _reason_to_skip(entry)
        if reason is None:
            try:
                pieces = list(_read_pieces(entry))
            except OSError as error:
                reason = why(error)
            else:
                contents.pieces += pieces
                contents.file_count += 1
                contents.byte_count += sum(piece.length for piece in pieces)
        if reason is not None:
            contents.skipped.append(Skipped(entry, reason))
        on_file()
    return contents


def read_piece(path: str, offset: int, length: int) -> bytes:
    """Return up to `length` bytes of the file, fewer where it ends earlier."""
    descriptor = _open(path)
    try:
        return _read(descriptor, offset, length)
    finally:
        os.close(descriptor)


def why(error: OSError) -> str:
    """Return the reason of a failed read, in a form in which equal reasons are equal."""
    return f"cannot be read: {error.strerror or type(error).__name__}"


def _entries(contents: Contents, leave_out: frozenset[str]) -> Iterator[str]:
    def note(error: OSError) -> None:
        contents.skipped.append(Skipped(error.filename or contents.folder, why(error)))

    for parent, folders, names in os.walk(contents.folder, onerror=note):
        for name in sorted(folders):
            path = os.path.join(parent, name)
            if name in leave_out:
                folders.remove(name)
                contents.skipped.append(Skipped(path, "installed packages"))
            elif os.path.islink(path):  # os.walk() does not enter it
                contents.skipped.append(Skipped(path, "symbolic link"))
        folders.sort()
        for name in sorted(names):
            yield os.path.join(parent, name)


def _reason_to_skip(path: str) -> str | None:
    try:
        mode = os.lstat(path).st_mode
    except OSError as error:
        return why(error)
    if stat.S_ISREG(mode):
        return None
    for is_kind, reason in (
        (stat.S_ISLNK, "symbolic link"),
        (stat.S_ISFIFO, "named pipe"),
        (stat.S_ISSOCK, "socket"),
    ):
        if is_kind(mode):
            return reason
    return "device"


def _read_pieces(path: str) -> Iterator[Piece]:
    descriptor = _open(path)
    try:
        size = os.fstat(descriptor).st_size
        offset = 0
        while True:
            data = _read(descriptor, offset, min(PIECE_BYTES, size - offset))
            yield Piece(path, offset, len(data), hashlib.sha256(data).digest())
            offset += len(data)
            # The files of /sys claim a page and hold a line; those of /proc claim nothing.
            if offset >= size or len(data) < PIECE_BYTES:
                return
    finally:
        os.close(descriptor)


def _open(path: str) -> int:
    # Not blocking, not following: the path may have become a named pipe or a link since we looked.
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)


def _read(descriptor: int, offset: int, length: int) -> bytes:
    data = os.pread(descriptor, length, offset)
    if len(data) in (0, length):
        return data
    parts = [data]
    missing = length - len(data)
    while missing and (data := os.pread(descriptor, missing, offset + length - missing)):
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)
