"""Contract "Pipe and Connection": send_bytes, recv_bytes, recv_bytes_into."""

from __future__ import annotations

import array

import pytest

from tests.conformance import targets
from tests.support import Background

SIZES = [0, 1, 3, 4, 100, 2**12 - 1, 2**14, 2**14 + 1, 2**16, 2**20 + 7]


@pytest.mark.parametrize("size", SIZES)
def test_bytes_of_any_size_arrive_whole(pipe, size):
    left, right = pipe
    data = bytes(number % 251 for number in range(size))
    call = Background(left.send_bytes, data)
    received = right.recv_bytes()
    assert call.result() is None
    assert received == data
    assert type(received) is bytes


@pytest.mark.parametrize(
    "buffer",
    [
        b"bytes",
        bytearray(b"bytearray"),
        memoryview(b"memoryview"),
        array.array("i", [1, 2, 3]),
        memoryview(array.array("d", [1.0, 2.0])),
    ],
    ids=["bytes", "bytearray", "memoryview", "array", "view-of-doubles"],
)
def test_send_bytes_takes_bytes_like_objects_of_any_item_size(pipe, buffer):
    left, right = pipe
    left.send_bytes(buffer)
    assert right.recv_bytes() == memoryview(buffer).tobytes()


def test_offset_and_size_of_send_bytes_count_bytes_not_items(pipe):
    left, right = pipe
    numbers = array.array("i", [1, 2, 3, 4])
    left.send_bytes(numbers, 4)
    left.send_bytes(numbers, 4, 8)
    left.send_bytes(numbers, 0, 2)
    assert right.recv_bytes() == numbers.tobytes()[4:]
    assert right.recv_bytes() == numbers.tobytes()[4:12]
    assert right.recv_bytes() == numbers.tobytes()[:2]


def test_offset_and_size_of_send_bytes_select_a_part(pipe):
    left, right = pipe
    for arguments in ((b"0123456789", 3), (b"0123456789", 3, 4), (b"0123456789", 0, 0)):
        left.send_bytes(*arguments)
    left.send_bytes(buf=b"0123456789", offset=9, size=None)
    assert [right.recv_bytes() for _ in range(4)] == [b"3456789", b"3456", b"", b"9"]


def test_an_offset_equal_to_the_length_sends_an_empty_message(pipe):
    left, right = pipe
    left.send_bytes(b"123", 3)
    left.send_bytes(b"", 0, 0)
    assert right.recv_bytes() == b""
    assert right.recv_bytes() == b""


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((-1,), "offset is negative"),
        ((4,), "buffer length < offset"),
        ((0, -1), "size is negative"),
        ((0, 4), r"buffer length < offset \+ size"),
        ((2, 2), r"buffer length < offset \+ size"),
        ((3, 1), r"buffer length < offset \+ size"),
    ],
)
def test_a_wrong_offset_or_size_of_send_bytes_is_a_value_error(pipe, arguments, text):
    left, right = pipe
    with pytest.raises(ValueError, match=f"^{text}$"):
        left.send_bytes(b"123", *arguments)
    assert not right.poll()
    left.send_bytes(b"still usable")
    assert right.recv_bytes() == b"still usable"


@pytest.mark.parametrize("wrong", ["text", 5, None, [1]], ids=repr)
def test_send_bytes_of_something_without_a_buffer_is_a_type_error(pipe, wrong):
    left, right = pipe
    with pytest.raises(TypeError):
        left.send_bytes(wrong)
    assert not right.poll()


def test_send_bytes_of_a_buffer_that_is_not_contiguous_is_a_type_error(pipe):
    left, right = pipe
    for wrong in (memoryview(b"0123456789")[::2], memoryview(array.array("i", [1, 2, 3]))[::2]):
        with pytest.raises(TypeError):
            left.send_bytes(wrong)
    assert not right.poll()


def test_send_bytes_of_an_array_that_is_not_contiguous_is_a_type_error(pipe):
    numpy = pytest.importorskip("numpy")
    left, right = pipe
    for wrong in (numpy.zeros((3, 4)).T, numpy.zeros(10)[::2], numpy.zeros(10, dtype="u1")[::2]):
        with pytest.raises(TypeError):
            left.send_bytes(wrong)
    assert not right.poll()


def test_a_negative_maxlength_of_recv_bytes_is_a_value_error(pipe):
    left, right = pipe
    right.send_bytes(b"message")
    with pytest.raises(ValueError, match="^negative maxlength$"):
        left.recv_bytes(-1)
    assert left.recv_bytes() == b"message"


def test_a_message_of_exactly_maxlength_is_received(pipe):
    left, right = pipe
    right.send_bytes(b"12345")
    right.send_bytes(b"")
    right.send_bytes(b"1")
    assert left.recv_bytes(5) == b"12345"
    assert left.recv_bytes(0) == b""
    assert left.recv_bytes(maxlength=9) == b"1"


def test_a_message_over_maxlength_makes_a_duplex_end_write_only(pipe):
    left, right = pipe
    right.send_bytes(b"123456")
    with pytest.raises(OSError, match="^bad message length$"):
        left.recv_bytes(5)
    assert (left.readable, left.writable, left.closed) == (False, True, False)
    for call in (left.recv, left.recv_bytes, left.poll):
        with pytest.raises(OSError, match="^connection is write-only$"):
            call()
    left.send("the other direction still works")
    assert right.recv() == "the other direction still works"


def test_a_message_over_maxlength_closes_a_receive_only_end(one_way):
    reader, writer = one_way
    writer.send_bytes(b"123456")
    with pytest.raises(OSError, match="^bad message length$"):
        reader.recv_bytes(5)
    assert reader.closed
    with pytest.raises(OSError, match="^handle is closed$"):
        reader.recv_bytes()


def test_recv_bytes_into_returns_the_count_and_fills_the_buffer(pipe):
    left, right = pipe
    buffer = bytearray(b"..........")
    right.send_bytes(b"abc")
    assert left.recv_bytes_into(buffer) == 3
    assert buffer == b"abc......."
    right.send_bytes(b"xy")
    assert left.recv_bytes_into(buffer, 8) == 2
    assert buffer == b"abc.....xy"
    right.send_bytes(b"")
    assert left.recv_bytes_into(buffer, offset=1) == 0
    assert buffer == b"abc.....xy"


def test_recv_bytes_into_counts_bytes_whatever_the_item_size(pipe):
    left, right = pipe
    numbers = array.array("i", [0, 0, 0])
    right.send_bytes(array.array("i", [7, 8]))
    assert left.recv_bytes_into(numbers, 4) == 8
    assert list(numbers) == [0, 7, 8]


def test_recv_bytes_into_a_large_buffer(ctx, children):
    reader, writer = ctx.Pipe(False)
    buffer = bytearray(2**20)
    with children(targets.send_range_of_bytes, writer, 5, 2**20):
        writer.close()
        for number in range(5):
            assert reader.recv_bytes_into(buffer) == 2**20
            assert buffer == bytes([number]) * 2**20
        with pytest.raises(EOFError):
            reader.recv_bytes_into(buffer)
    reader.close()


@pytest.mark.parametrize("size", [6, 2**16])
def test_a_buffer_too_short_has_the_whole_message_and_leaves_the_connection_usable(
    impl, pipe, size
):
    left, right = pipe
    call = Background(right.send_bytes, b"m" * size)
    buffer = bytearray(b".....")
    with pytest.raises(impl.BufferTooShort) as caught:
        left.recv_bytes_into(buffer)
    call.result()
    assert caught.value.args[0] == b"m" * size
    assert buffer == b"....."
    right.send_bytes(b"next")
    assert left.recv_bytes_into(buffer, 1) == 4
    assert buffer == b".next"


def test_an_offset_leaves_less_room_in_the_buffer(impl, pipe):
    left, right = pipe
    right.send_bytes(b"123")
    with pytest.raises(impl.BufferTooShort) as caught:
        left.recv_bytes_into(bytearray(5), 3)
    assert caught.value.args[0] == b"123"


def test_buffer_too_short_is_a_process_error_and_no_os_error(impl):
    assert issubclass(impl.BufferTooShort, impl.ProcessError)
    assert not issubclass(impl.BufferTooShort, OSError)


@pytest.mark.parametrize(("offset", "text"), [(-1, "negative offset"), (6, "offset too large")])
def test_a_wrong_offset_of_recv_bytes_into_is_a_value_error(pipe, offset, text):
    left, right = pipe
    right.send_bytes(b"kept")
    with pytest.raises(ValueError, match=f"^{text}$"):
        left.recv_bytes_into(bytearray(5), offset)
    assert left.recv_bytes() == b"kept"


def test_an_offset_at_the_end_of_the_buffer_takes_an_empty_message(pipe):
    left, right = pipe
    right.send_bytes(b"")
    assert left.recv_bytes_into(bytearray(5), 5) == 0


@pytest.mark.multiprocessing_only("bad-buffer-loses-nothing")
def test_a_read_only_buffer_is_a_type_error_and_loses_multiprocessings_message(pipe):
    left, right = pipe
    right.send_bytes(b"lost")
    right.send_bytes(b"next")
    with pytest.raises(TypeError):
        left.recv_bytes_into(b"read-only buffer")
    assert left.recv_bytes() == b"next"


@pytest.mark.fastipc_only("bad-buffer-loses-nothing")
def test_a_read_only_buffer_is_a_type_error_and_keeps_fastipcs_message(pipe):
    left, right = pipe
    right.send_bytes(b"kept")
    with pytest.raises(TypeError):
        left.recv_bytes_into(b"read-only buffer")
    assert left.recv_bytes() == b"kept"


@pytest.mark.fastipc_only("bad-buffer-loses-nothing")
def test_an_array_that_cannot_be_written_as_one_piece_keeps_fastipcs_message(pipe):
    numpy = pytest.importorskip("numpy")
    left, right = pipe
    constant = numpy.zeros(20)
    constant.flags.writeable = False
    right.send_bytes(b"kept")
    for wrong in (constant, numpy.zeros(20)[::2], numpy.zeros((4, 5)).T):
        with pytest.raises(TypeError):
            left.recv_bytes_into(wrong)
    assert left.recv_bytes() == b"kept"


def test_send_and_send_bytes_share_one_stream_of_messages(impl, pipe):
    left, right = pipe
    left.send({"an": "object"})
    left.send_bytes(b"bytes")
    left.send_bytes(impl.reduction.ForkingPickler.dumps(["pickled by hand"]))
    data = right.recv_bytes()
    assert impl.reduction.ForkingPickler.loads(data) == {"an": "object"}
    assert right.recv_bytes() == b"bytes"
    assert right.recv() == ["pickled by hand"]
