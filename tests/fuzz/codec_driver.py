"""Python's side of fuzz_codec.c: what is done with the fuzzer's messages, and which exceptions are
right.  Runs inside of the fuzzer only, whose extension is built into it.
"""

from __future__ import annotations

import importlib.machinery
import io
import os
import pickle
import struct
import sys
import types
from pathlib import Path
from queue import Empty
from typing import Any

TAGS = {"pickle": 1, "raw": 2, "coded": 3, "bytes": 4, "ascii": 5, "buffers": 6}
# What fuzz_codec.c does, by the first byte of an input.
ALONE, CHANGING, DECODE, INLINE, BLOCKS, BATCH, HANDLE = 0, 2, 3, 4, 5, 6, 7


def loads(data: bytes, *, buffers: Any = ()) -> object:
    """Stands in for pickle.loads(): looks at all that it is given, and writes to the views."""
    if data.endswith(codec_classes.LOOK_UP):
        return codec_classes.OnlyOurs(io.BytesIO(data)).load()
    sizes = [sum(data[:64])]
    for buffer in buffers or ():
        with memoryview(buffer) as view:
            sizes.append(len(view))
            if len(view):
                sizes.append(view[0] + view[-1])
                view[-1] = view[0]
    return sizes


class Builtin:
    """Finds the extension inside of this process instead of the file beside its source."""

    @staticmethod
    def find_spec(name: str, path: object, target: object = None) -> Any:
        """Answer for the extension only."""
        if name != "fastipc._core":
            return None
        return importlib.machinery.ModuleSpec(
            name, importlib.machinery.BuiltinImporter, origin="built-in"
        )


REAL_LOADS = pickle.loads
sys.meta_path.insert(0, Builtin)  # type: ignore[arg-type]
# It would miss the file of the extension, or one that fits this Python.
sys.modules["fastipc._platform"] = types.ModuleType("fastipc._platform")
sys.modules["fastipc._platform"].check = lambda: None  # type: ignore[attr-defined]
pickle.loads = loads  # type: ignore[assignment]

import fastipc  # noqa: E402
from fastipc import _core, _handles  # noqa: E402
from tests.fuzz import codec_classes  # noqa: E402

assert _core.__spec__.origin == "built-in", _core.__spec__


class Plain:
    """A serializer that keeps bytes as they are."""

    @staticmethod
    def dumps(obj: bytes) -> bytes:
        """Return obj."""
        return obj

    @staticmethod
    def loads(data: Any) -> object:
        """Look at the first and the last byte."""
        return len(data) and data[0] + data[-1]


QUEUES = [fastipc.Queue(), fastipc.Queue(serializer=None), fastipc.Queue(serializer=Plain)]
# Looking into every process of the machine takes longer than all else.
_handles._processes = lambda: [os.getpid()]  # type: ignore[assignment]
room = bytearray(1 << 16)
kept = _core.debug_encode(codec_classes.objects())
codec_classes.KEPT.append(lambda: _core.debug_decode(*kept))


def descriptors(number: int) -> tuple[int, int]:
    """Return the descriptors of a queue."""
    memory, bell = QUEUES[number]._handles()[:2]
    return memory, bell


def _expect(error: Exception) -> None:
    """Any error will do but two: with one the interpreter says that C code did not behave, with the
    other the classes do, whose code was not to run.
    """
    if isinstance(error, (SystemError, AssertionError)):
        raise error


def change(number: int, _: object) -> None:
    """Change the classes that messages name."""
    codec_classes.change(number)


def decode(tag: int, data: bytes) -> None:
    """Decode a message as recv() would."""
    try:
        repr(_core.debug_decode(tag, data))
    except Exception as error:
        _expect(error)


def take(how: int, _: object) -> None:
    """Get all that is in a queue, in one of the ways that there are."""
    queue = QUEUES[how // 16 % len(QUEUES)]
    for _ in range(200):
        try:
            _take_one(queue, how % 8)
        except Empty:
            return
        except Exception as error:
            _expect(error)
            last = error
    raise AssertionError("there is no end to what is got") from last


def _take_one(queue: Any, how: int) -> None:
    if how == 0:
        repr(queue.get(block=False))
    elif how == 1:
        repr(queue.get(block=False, copy=True))
    elif how == 2:
        repr(queue.get_many(5, block=False))
    elif how == 3:
        queue.get_many(1000, block=False, copy=True)
    elif how == 4:
        queue.get_bytes(block=False)
    elif how == 5:
        queue.get_bytes_into(room, block=False)
    elif how == 6:
        try:
            queue.get_bytes_into(bytearray(8), 3, block=False)
        except fastipc.BufferTooShort as error:
            len(error.args[0])
    else:
        queue.get_many(1, block=False)
        queue.get_many(3, block=False, copy=True)


def rebuild(how: int, data: bytes) -> None:
    """Make a queue of a handle with some damage; what it then is must be a queue all the same."""
    queue = QUEUES[0]
    identity: list[Any] = list(queue._identity())
    numbers: list[Any] = list(queue._handles()[:2])
    pid: Any = os.getpid()
    kept = [3, 2]
    for at in range(0, len(data) - 8, 9):
        (value,) = struct.unpack_from("<q", data, at + 1)
        place = data[at] % 8
        if place == 0:
            identity[0] = data[at : at + 16]
        elif place in (1, 2):
            identity[place] = value
        elif place in (3, 4):
            numbers[place - 3] = value % 70 - 3
        elif place == 5:
            pid = value
        elif place == 6:
            kept[1] = value % 3
        else:
            kept[0] = value % 4
    try:
        found = _handles._find(tuple(identity[: kept[0]]), pid, numbers[: kept[1]])
    except (OSError, ValueError, OverflowError, IndexError):
        return
    if found is not None:
        _handles._close(found)


# ---- seeds ----


def _objects() -> list[Any]:
    text = ["", "a", "word", "größer", "x" * 300, "\U0001f40d"]
    deep: Any = 1
    for _ in range(8):
        deep = [deep, text[2]]
    record = {"name": "a name", "size": 1, "ratio": 0.5, "tags": ("a", "bb"), "none": None}
    shared = b"once and again"
    return [
        None, True, False, 0, -1, 127, 128, -(2**31), 2**31, 2**63 - 1, -(2**63), 0.0, float("nan"),
        *text, b"", b"abc", b"y" * 300, (), [], {}, (1, 2, 3), [1.5, None, True], tuple(text),
        record, [record, record], {"a": record, "b": [record, (1, {"c": 2})]}, deep,
        [shared, shared, (shared, {"k": shared})], {1: "a", 2.5: b"b", None: (), "key": [1]},
        {f"key {i}": i for i in range(60)}, list(range(255)), ["word"] * 200, [text, text],
        {"äö": 1, "key": 2}, [{"x": i, "y": str(i)} for i in range(12)], {(1, 2): 3},
        *codec_classes.objects(),
    ]  # fmt: skip


def _coded() -> list[tuple[int, bytes]]:
    return [_core.debug_encode(obj) for obj in _objects()]


def _index(payload: bytes, entries: list[tuple[int, int, int]], inline: int) -> bytes:
    body = b"".join(struct.pack("<QQQ", *entry) for entry in entries) + payload
    return struct.pack("<IIQ", len(entries), inline, len(body)) + body


def _blocks(rooms: list[tuple[int, int]], rest: bytes, content: bytes) -> bytes:
    sizes = b"".join(struct.pack("<BH", room // 96 + 1, claimed) for room, claimed in rooms)
    head = struct.pack("<BH", len(rooms) - 1, len(rest)) + sizes
    return head.ljust(16, b"\0") + rest + content


def write_seeds(folder: str) -> None:
    """Write messages as put() makes them, and such as they arrive in blocks and batches."""
    seeds: list[bytes] = []
    for tag, data in _coded():
        seeds.append(bytes([ALONE, 0]) + data)
        seeds.append(bytes([DECODE, tag]) + data)
        for how in range(8):
            seeds.append(bytes([INLINE, how, tag]) + data)
    for data in codec_classes.messages():
        seeds.append(bytes([ALONE, 0]) + data)
    for data in codec_classes.changing():
        for state in range(16):
            seeds += [bytes([CHANGING, state]) + data, bytes([CHANGING, 16 * state]) + data]
    # One after another in a process: kinds of dicts are known after some of them.
    for queue in range(3):
        for how in range(8):
            where = 16 * queue + how
            index = _index(b"the pickle", [(100, 0, 0), (50, 128, 0)], 1)
            seeds.append(
                bytes([BLOCKS, where, 6]) + _blocks([(4096, 4096)], index, b"content" * 30)
            )
            seeds.append(
                bytes([BLOCKS, where, 6])
                + _blocks(
                    [(9000, 9000), (4096, 4000)], _index(b"p", [(64, 0, 1), (9, 9, 0)], 1), b""
                )
            )
            outside = _index(b"the pickle" * 9, [(10, 300, 0), (10, 0, 1)], 0)
            seeds.append(
                bytes([BLOCKS, where, 6])
                + _blocks([(4096, 4096), (4096, 64)], outside[:16], outside[16:])
            )
            for tag in TAGS.values():
                seeds.append(bytes([BLOCKS, where, tag]) + _blocks([(4096, 4096)], b"", b"a" * 200))
            batch = b""
            for tag, data in _coded()[:12]:
                batch += struct.pack("<BH", tag, len(data)) + data
            flat = _index(b"pickle", [(20, 64, 0)], 0) + b"content" * 20
            batch += struct.pack("<BH", 0x80 | 6, len(flat)) + flat
            batch += struct.pack("<BH", 0x80 | 1, 5) + b"hello"
            seeds.append(bytes([BATCH, where]) + batch)
    for place in range(8):
        seeds.append(bytes([HANDLE, 0, place]) + struct.pack("<q", place))
    for number, seed in enumerate(seeds):
        (Path(folder) / f"seed-{number:04}").write_bytes(seed)
