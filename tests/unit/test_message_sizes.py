"""Messages of every size arrive whole: around each power of two, and the very large ones."""

from __future__ import annotations

import ctypes
import mmap
import pickle
from pathlib import Path

import pytest

import fastipc
from tests.support import Background
from tests.unit import targets

# Around every power of two and every multiple of the first pages; the limits of the implementation
# (inline, ring, block, chunk) are among them or next to them.
AROUND = (-17, -9, -8, -1, 0, 1, 8, 9)
SMALL = sorted({size for power in range(17) for d in AROUND if (size := 2**power + d) >= 0})
LARGE = [2**power + delta for power in range(17, 24) for delta in (-1, 0, 1)]


def test_byte_strings_of_every_size_go_through_a_queue_of_one_process():
    queue = fastipc.Queue()
    for number, size in enumerate(SMALL + LARGE):
        queue.put(targets.pattern(number, size))
        assert queue.get() == targets.pattern(number, size), size
    queue.close()


@pytest.mark.start_methods("fork", "spawn")
def test_byte_strings_of_every_size_go_through_a_queue_between_processes(ctx, children):
    queue = ctx.Queue()
    sizes = SMALL + LARGE
    with children(targets.put_patterns, queue, sizes):
        for number, size in enumerate(sizes):
            assert queue.get(timeout=30) == targets.pattern(number, size), size
    queue.close()


@pytest.mark.start_methods("fork", "spawn")
def test_byte_strings_of_every_size_go_through_a_pipe(ctx, children):
    reader, writer = ctx.Pipe(False)
    sizes = SMALL + LARGE
    buffer = bytearray(max(sizes))
    with children(targets.send_patterns, writer, sizes):
        writer.close()
        for number, size in enumerate(sizes):
            if number % 2:
                assert reader.recv_bytes() == targets.pattern(number, size), size
            else:
                assert reader.recv_bytes_into(buffer) == size
                assert buffer[:size] == targets.pattern(number, size), size
        with pytest.raises(EOFError):
            reader.recv_bytes()
    reader.close()


@pytest.mark.parametrize("make", [str, bytearray, list], ids=lambda make: make.__name__)
def test_objects_of_many_sizes_go_through_queue_and_pipe(make):
    queue = fastipc.Queue()
    left, right = fastipc.Pipe()
    for size in (0, 1, 50, 500, 5000, 50_000, 500_000):
        item = make("ä" * size) if make is str else make(bytes([7]) * size)
        queue.put(item)
        assert queue.get() == item
        call = Background(left.send, item)
        assert right.recv() == item
        call.result()
    for obj in (queue, left, right):
        obj.close()


@pytest.mark.long
@pytest.mark.watchdog(300)
@pytest.mark.parametrize("size", [2**30 + 1, 2**31 + 5])
def test_more_than_a_gibibyte_goes_through_a_queue(size):
    queue = fastipc.Queue()
    item = bytes(size - 1) + b"!"
    queue.put(item)
    assert queue.get() == item
    queue.close()


@pytest.mark.long
@pytest.mark.watchdog(300)
@pytest.mark.parametrize("size", [2**30 + 1, 2**31 + 5])
def test_more_than_a_gibibyte_streams_through_a_pipe(size):
    reader, writer = fastipc.Pipe(False)
    item = mmap.mmap(-1, size)
    item[size - 1] = 33
    call = Background(writer.send_bytes, item)
    received = reader.recv_bytes()
    call.result()
    assert len(received) == size
    assert received[-1] == 33
    assert received.count(0) == size - 1
    for end in (reader, writer):
        end.close()


HUGE = 32 * 2**20  # from here on memory of malloc()'s is a mapping of its own


def wants_huge_pages(address):
    """Whether huge pages were asked for behind an address of this process."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split(maxsplit=1)[0]
        if "-" in first and not first.endswith(":"):
            start, end = (int(part, 16) for part in first.split("-"))
            inside = start <= address < end
        elif inside and first == "VmFlags:":
            return "hg" in line.split()
    raise AssertionError(f"nothing is mapped at {address:#x}")


def address_of(received):
    """Return an address in the middle of what was received."""
    if isinstance(received, bytearray):
        start = ctypes.addressof(ctypes.c_char.from_buffer(received))
    else:
        start = id(received)
    return start + len(received) // 2


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="a kernel without huge pages"
)
@pytest.mark.parametrize("size", [HUGE, HUGE + 12345, HUGE - 1])
@pytest.mark.parametrize("way", ["queue", "str", "copy", "pipe"])
def test_huge_pages_are_asked_for_behind_what_is_received_in_one_piece(way, size):
    """64 MiB took 29 ms in pages of 4 KiB, and take 6."""
    queue = fastipc.Queue()
    reader, writer = fastipc.Pipe(False)
    text = targets.pattern(1, 251) * (size // 251 + 1)
    due = text[:size]
    if way == "pipe":
        sender = Background(lambda: writer.send_bytes(due))
        received = reader.recv_bytes()
        sender.result()
    elif way == "str":
        due = "".join(map(chr, range(128))) * (size // 128) + "x" * (size % 128)
        queue.put(due)
        received = queue.get()
    elif way == "copy":
        queue.put(pickle.PickleBuffer(bytearray(due)))
        received = queue.get(copy=True)
    else:
        queue.put(due)
        received = queue.get()
    assert received == due
    assert wants_huge_pages(address_of(received)) == (size >= HUGE)
    for end in (queue, reader, writer):
        end.close()
