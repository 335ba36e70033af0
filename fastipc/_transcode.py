"""Messages as pickles, without the objects: for who wants the bytes of what is not to be made here.
Of coded ones with instances, whose classes are not to be looked for: the code is described in
_codec_values.h, and read in _codec_decode.c; this is the cold path beside it. Of pickles whose
buffers lie beside them, which take them in.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable
from typing import Any

_DEEP, _OBJECTS = 0x80, 0x04
_UINT16, _UINT32, _UINT64 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q")
_PROTO, _STOP = b"\x80\x05", b"."
_MARK, _MEMOIZE, _STACK_GLOBAL, _NEWOBJ = b"(", b"\x94", b"\x93", b"\x81"
_CONSTANTS = {ord("N"): b"N", ord("T"): b"\x88", ord("F"): b"\x89"}
# Of a sequence: what begins it, and what takes all since the mark.
_SEQUENCES = {ord("("): (b"", b"t"), ord("["): (b"]", b"e")}
# Of a pickle with buffers.
_FRAME, _NEXT_BUFFER, _READONLY_BUFFER = 0x95, 0x97, 0x98
_BYTES8, _BYTEARRAY8 = b"\x8e", b"\x96"
# Of each opcode: how many bytes of argument it has, and how many of them count further ones; -1
# for what is none, or is followed by lines of text, as none of protocol 5 is. Filled when needed.
_arguments: list[tuple[int, int]] = []


class _Transcoder:
    """Reads one message; what it has written so far is in `out`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self.out = [_PROTO]
        self._memoized = 0
        self._seen: list[int] = []  # where each str and bytes is in the pickle's memo
        self._headers: list[tuple[int, list[bytes]]] = []  # the same of a class; its attributes

    def take(self, size: int) -> bytes:
        """Return the next bytes, and pass them."""
        taken = self._data[self._at : self._at + size]
        if len(taken) != size:
            raise ValueError("the message ends too early")
        self._at += size
        return taken

    def is_at_end(self) -> bool:
        """Return whether all has been read."""
        return self._at == len(self._data)

    def _name(self) -> bytes:
        return self.take(self.take(1)[0])

    def _memoize(self) -> int:
        self.out.append(_MEMOIZE)
        self._memoized += 1
        return self._memoized - 1

    def _get(self, index: int) -> None:
        self.out.append(b"j" + _UINT32.pack(index))

    def _text(self, name: bytes) -> None:
        self.out.append(b"\x8c" + bytes([len(name)]) + name)

    def _sized(self, opcode: bytes, head: int) -> None:
        length = self.take(head)
        self.out.append(opcode + length + self.take(int.from_bytes(length, "little")))
        self._seen.append(self._memoize())

    def _object(self, tag: int) -> None:
        count = self.take(1)[0]
        if tag == ord("@"):
            (size,) = _UINT16.unpack(self.take(2))
            end = self._at + size
            self._text(self._name())
            self._text(self._name())
            self.out.append(_STACK_GLOBAL)
            self._headers.append((self._memoize(), [self._name() for _ in range(count)]))
            if self._at != end:
                raise ValueError("the names are of another length")
            keys = self._headers[-1][1]
        else:
            index, keys = self._headers[count]
            self._get(index)
        self.out.append(b")" + _NEWOBJ)
        if keys:
            self.out.append(b"}" + _MARK)
            for key in keys:
                self._text(key)
                self.value(self.take(1)[0])
            self.out.append(b"ub")

    def _container(self, tag: int) -> None:
        count = self.take(1)[0]
        if tag == ord("{"):
            self.out.append(b"}" + _MARK)
            count *= 2
            last = b"u"
        else:
            first, last = _SEQUENCES[tag]
            self.out.append(first + _MARK)
        for _ in range(count):
            self.value(self.take(1)[0])
        self.out.append(last)

    def value(self, tag: int) -> None:
        """Write the pickle of the value that stands behind its tag."""
        if tag in _CONSTANTS:
            self.out.append(_CONSTANTS[tag])
        elif tag in b"@a":
            self._object(tag)
        elif tag in b"([{":
            self._container(tag)
        elif tag in b"sS":
            self._sized(*((b"\x8c", 1) if tag == ord("s") else (b"X", 4)))
        elif tag in b"yY":
            self._sized(*((b"C", 1) if tag == ord("y") else (b"B", 4)))
        elif tag == ord("r"):
            (number,) = _UINT16.unpack(self.take(2))
            self._get(self._seen[number])
        elif tag == ord("d"):
            self.out.append(b"G" + self.take(8)[::-1])
        elif tag in b"biq":
            size = {ord("b"): 1, ord("i"): 4, ord("q"): 8}[tag]
            self.out.append(b"\x8a" + bytes([size]) + self.take(size))
        else:
            raise ValueError(f"the unknown tag {tag}")


def pickle_of(data: bytes) -> bytes:
    """Return a pickle of what a coded message with instances stands for.

    Raises OSError (EBADMSG) if it stands for nothing.
    """
    try:
        transcoder = _Transcoder(data)
        transcoder.value(transcoder.take(1)[0] & ~(_DEEP | _OBJECTS))
        if not transcoder.is_at_end():
            raise ValueError("something stands behind the message")
    except (ValueError, IndexError, RecursionError) as error:
        raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG)) from error
    return b"".join([*transcoder.out, _STOP])


def _find_arguments() -> None:
    """Fill the table, from what pickle's own tools know."""
    import pickletools

    heads = {
        pickletools.TAKEN_FROM_ARGUMENT1: 1,
        pickletools.TAKEN_FROM_ARGUMENT4: 4,
        pickletools.TAKEN_FROM_ARGUMENT4U: 4,
        pickletools.TAKEN_FROM_ARGUMENT8U: 8,
    }
    table = [(-1, 0)] * 256
    for opcode in pickletools.opcodes:
        size = opcode.arg.n if opcode.arg else 0
        head = heads.get(size, 0)
        table[ord(opcode.code)] = head or size, head
    _arguments[:] = table


def _spliced(pickled: bytes, buffers: Iterable[Any]) -> list[Any]:
    """What a pickle with its buffers in it consists of."""
    if not _arguments:
        _find_arguments()
    table, view, left = _arguments, memoryview(pickled), iter(buffers)
    out: list[Any] = []
    at = copied = 0
    code = -1
    while code != _STOP[0]:
        begin, code = at, pickled[at]
        size, head = table[code]
        if size < 0:
            raise ValueError(f"the unknown opcode {code}")
        at += 1 + size
        if head:
            at += int.from_bytes(pickled[at - head : at], "little")
        elif code == _FRAME:
            # What it tells of would have another length. Frames only help whoever reads a file.
            out.append(view[copied:begin])
            copied = at
        elif code == _NEXT_BUFFER:
            out.append(view[copied:begin])
            # As pickle does with what stays in band, but that this is in no memo.
            is_readonly = pickled[at] == _READONLY_BUFFER
            at += is_readonly
            copied = at
            buffer = memoryview(next(left))
            out += [_BYTES8 if is_readonly else _BYTEARRAY8, _UINT64.pack(buffer.nbytes), buffer]
    if at != len(pickled):
        raise ValueError("something stands behind the pickle")
    out.append(view[copied:])
    return out


def with_buffers(pickled: bytes, buffers: Iterable[Any]) -> bytes:
    """Return a pickle that holds the buffers that were beside it; what it stands for is not made.

    Raises OSError (EBADMSG) if it stands for nothing.
    """
    try:
        parts = _spliced(pickled, buffers)
    except (ValueError, IndexError, StopIteration) as error:
        raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG)) from error
    return b"".join(parts)
