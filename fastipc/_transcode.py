"""Coded messages as pickles, without the objects: for who wants the bytes of an instance whose
class is not to be looked for here. The code is described in _codec_values.h, and read in
_codec_decode.c; this is the cold path beside it.
"""

from __future__ import annotations

import errno
import os
import struct

_DEEP, _OBJECTS = 0x80, 0x04
_UINT16, _UINT32 = struct.Struct("<H"), struct.Struct("<I")
_PROTO, _STOP = b"\x80\x05", b"."
_MARK, _MEMOIZE, _STACK_GLOBAL, _NEWOBJ = b"(", b"\x94", b"\x93", b"\x81"
_CONSTANTS = {ord("N"): b"N", ord("T"): b"\x88", ord("F"): b"\x89"}
# Of a sequence: what begins it, and what takes all since the mark.
_SEQUENCES = {ord("("): (b"", b"t"), ord("["): (b"]", b"e")}


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
