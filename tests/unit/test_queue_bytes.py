"""put_bytes(), get_bytes() and get_bytes_into(): messages of who does his own encoding."""

from __future__ import annotations

import array
import errno
import mmap
import pickle
from multiprocessing import BufferTooShort
from queue import Empty, Full

import pytest

import fastipc
from fastipc import _core, _transcode
from tests.support import Background
from tests.unit import targets

SIZES = [0, 1, 4095, 4096, 4097, 65536, 1 << 20]
OBJECTS = [5, None, "text", b"bytes", b"b" * 100_000, "s" * 100_000, {"a": [1]}, targets.Tagged]


@pytest.fixture
def queue():
    """An unbounded queue."""
    made = fastipc.Queue()
    yield made
    _core.debug_check(made)
    made.close()


@pytest.mark.parametrize("size", SIZES)
def test_bytes_arrive_as_they_are(queue, size):
    data = targets.pattern(7, size)
    for sent in (data, bytearray(data), memoryview(data)):
        queue.put_bytes(sent)
        assert queue.qsize() == 1
        received = queue.get_bytes()
        assert type(received) is bytes
        assert received == data
    assert queue.empty()


def test_any_c_contiguous_buffer_can_be_put(queue):
    numbers = array.array("d", [1.5, 2.5])
    matrix = memoryview(bytes(range(12))).cast("B", (3, 4))
    with mmap.mmap(-1, 8192) as mapped:
        mapped[:5] = b"start"
        for buffer in (numbers, matrix, memoryview(b"abcdef")[2:4], mapped):
            queue.put_bytes(buffer)
            assert queue.get_bytes() == bytes(buffer)


def test_a_buffer_that_is_not_contiguous_is_refused_with_a_remedy(queue):
    with pytest.raises(BufferError, match=r"C-contiguous.*bytes\("):
        queue.put_bytes(memoryview(b"abcdef")[::2])
    assert queue.empty()


def test_an_array_that_is_not_contiguous_is_refused_with_a_remedy(queue):
    numpy = pytest.importorskip("numpy")
    matrix, dates = numpy.zeros((3, 4)), numpy.zeros(10, dtype="M8[s]")
    for wrong in (numpy.zeros(10)[::2], matrix.T, numpy.asfortranarray(matrix), dates[::2]):
        with pytest.raises(BufferError, match=r"C-contiguous.*bytes\("):
            queue.put_bytes(wrong)
    assert queue.empty()
    queue.put_bytes(matrix)
    assert queue.get_bytes() == bytes(matrix)


def test_what_has_no_buffer_any_more_is_another_error(queue):
    released, closed = memoryview(bytearray(5)), mmap.mmap(-1, 8192)
    released.release()
    closed.close()
    for buffer in (released, closed):
        for call in (queue.put_bytes, queue.get_bytes_into):
            with pytest.raises(ValueError, match="released|closed"):
                call(buffer)
    assert queue.empty()


@pytest.mark.parametrize("wrong", ["text", 5, None, [1]])
def test_what_is_not_bytes_like_is_refused(queue, wrong):
    with pytest.raises(TypeError):
        queue.put_bytes(wrong)
    assert queue.empty()


def test_the_buffer_can_be_changed_once_put_bytes_has_returned(queue):
    for size in (100, 100_000):
        data = bytearray(size)
        queue.put_bytes(data)
        data[:] = b"x" * size
        data.append(0)  # nobody holds the buffer any more
        assert queue.get_bytes() == bytes(size)


@pytest.mark.parametrize("obj", OBJECTS, ids=lambda obj: type(obj).__name__)
def test_get_bytes_of_an_object_gives_its_pickle(queue, obj):
    queue.put(obj)
    assert pickle.loads(queue.get_bytes()) == obj
    buffer = bytearray(200_000)
    queue.put(obj)
    size = queue.get_bytes_into(buffer)
    assert pickle.loads(buffer[:size]) == obj


class Parts:
    """Holds what is read-only and what is not, both beside the pickle and in it."""

    def __init__(self, *parts):
        self.parts = parts

    def __reduce_ex__(self, protocol):
        return Parts, tuple(
            pickle.PickleBuffer(part) if isinstance(part, bytes | bytearray) else part
            for part in self.parts
        )


def content(value):
    """What can be compared of a value that Parts was made with."""
    try:
        view = memoryview(value)
    except TypeError:
        return value
    return view.readonly, bytes(view)


SHARED = "shared " * 100
NUMBERS = list(range(50_000))  # in more than one frame
PARTS = {
    "writable": [bytearray(b"w" * 100_000)],
    "read-only": [b"r" * 100_000],
    "both": [bytearray(b"w" * 3000), b"r" * 3000] * 20,
    "one of its own block": [bytearray(2 << 20), bytearray(b"w" * 3000), b"r" * (1 << 20)],
    "in the pickle, too": [b"in", bytearray(b"in"), b"r" * 3000, bytearray(b"w" * 3000), b""],
    "frames": [NUMBERS, b"r" * 3000, NUMBERS[::-1], bytearray(b"w" * 3000)],
    "opcodes in strings": ["\x97\x98\x95.", bytearray(b"w" * 3000), "\x97" * 70_000, 2**5000],
    "shared": [SHARED, bytearray(b"w" * 3000), SHARED, [SHARED], b"r" * 3000, {SHARED: 1.5}],
}


@pytest.mark.parametrize("put", ["put", "put_many"])
@pytest.mark.parametrize("kind", PARTS)
def test_get_bytes_of_buffers_gives_a_pickle_that_holds_them(queue, kind, put):
    for _ in range(3):
        getattr(queue, put)(Parts(*PARTS[kind]) if put == "put" else [Parts(*PARTS[kind])])
    expected = [content(part) for part in queue.get().parts]
    pickled, room = queue.get_bytes(), bytearray(4 << 20)
    assert pickled == room[: queue.get_bytes_into(room)]
    # The one in Python minds the frames.
    for loads in (pickle.loads, pickle._loads):
        received = loads(pickled)
        assert [content(part) for part in received.parts] == expected
        shared = [part for part in received.parts if part == SHARED]
        assert all(part is shared[0] for part in shared)
    assert _core.debug_check(queue)["owned"] == 0


def test_get_bytes_of_an_array_gives_a_pickle_of_it(queue):
    numpy = pytest.importorskip("numpy")
    matrix = numpy.arange(60_000.0).reshape(200, 300)
    constant = matrix + 1
    constant.flags.writeable = False
    sent = [matrix, matrix.T, matrix[::2], constant, matrix[:0], matrix]
    queue.put(sent)
    received = pickle.loads(queue.get_bytes())
    for ours, theirs in zip(received, sent, strict=True):
        assert (ours == theirs).all() and ours.dtype == theirs.dtype
        assert ours.strides == pickle.loads(pickle.dumps(theirs, 5)).strides
        assert ours.flags.writeable
    assert received[0] is received[-1]


class OnlyOnce:
    """Becomes something that cannot be pickled again."""

    def __reduce_ex__(self, protocol):
        return becomes_a_function, (pickle.PickleBuffer(bytearray(b"o" * 100_000)),)


def becomes_a_function(buffer):
    return lambda: bytes(buffer)


def test_get_bytes_gives_the_pickle_of_what_cannot_be_pickled_again(queue):
    for put in (queue.put, lambda item: queue.put_many([item])):
        put(OnlyOnce())
        assert pickle.loads(queue.get_bytes())() == b"o" * 100_000
    # What a get_many() has taken before it raised, too.
    queue.put_many([targets.RaisesOnLoad(), OnlyOnce(), "next"])
    with pytest.raises(ValueError, match="refuses to be unpickled"):
        queue.get_many(3)
    assert pickle.loads(queue.get_bytes())() == b"o" * 100_000
    assert queue.get() == "next"


def test_a_message_stays_when_a_signal_handler_raises_while_its_pickle_is_made(queue, monkeypatch):
    def interrupted(pickled, buffers):
        raise KeyboardInterrupt

    queue.put(Parts(bytearray(b"w" * 3000)))
    queue.put("next")
    with monkeypatch.context() as patched:
        patched.setattr(_core, "_with_buffers", interrupted)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                queue.get_bytes()
            assert queue.qsize() == 2
    assert pickle.loads(queue.get_bytes()).parts == (b"w" * 3000,)
    assert queue.get() == "next"
    assert (queue.stats().gets, queue.stats().lost) == (2, 0)
    assert _core.debug_check(queue)["owned"] == 0


def test_a_damaged_pickle_with_buffers_is_a_pickle_or_an_os_error():
    pickled, buffers = _core.debug_pickle(Parts(bytearray(b"w" * 3000), b"r" * 3000, 2**500))
    whole = _transcode.with_buffers(pickled, buffers)
    assert [content(part) for part in pickle.loads(whole).parts[:2]] == [
        (False, b"w" * 3000),
        (True, b"r" * 3000),
    ]
    refused = 0
    for place in range(len(pickled)):
        for byte in (0x00, 0x2E, 0x63, 0x8B, 0x8D, 0x95, 0x97, 0x98, 0xFF):
            damaged = bytearray(pickled)
            damaged[place] = byte
            try:
                _transcode.with_buffers(bytes(damaged), buffers)
            except OSError as error:
                assert error.errno == errno.EBADMSG
                refused += 1
    assert refused > len(pickled)
    for wrong in (*(pickled[:end] for end in range(len(pickled))), pickled + b"N"):
        with pytest.raises(OSError):
            _transcode.with_buffers(wrong, buffers)
    for few in ([], buffers[:1]):
        with pytest.raises(OSError):
            _transcode.with_buffers(pickled, few)


@pytest.mark.parametrize("obj", OBJECTS, ids=lambda obj: type(obj).__name__)
def test_get_unpickles_what_put_bytes_was_given(queue, obj):
    queue.put_bytes(pickle.dumps(obj))
    assert queue.get() == obj
    queue.put_bytes(pickle.dumps(obj))
    assert queue.get_many(1) == [obj]


def test_get_of_bytes_that_are_no_pickle_raises_and_leaves_the_next(queue):
    queue.put_bytes(b"no pickle")
    queue.put("next")
    with pytest.raises(pickle.UnpicklingError):
        queue.get()
    assert queue.get() == "next"


@pytest.mark.parametrize("size", SIZES)
def test_get_bytes_into_writes_from_the_offset_on_and_nothing_else(queue, size):
    data = targets.pattern(3, size)
    buffer = bytearray(b"." * (size + 20))
    queue.put_bytes(data)
    assert queue.get_bytes_into(buffer, 10) == size
    assert buffer == b"." * 10 + data + b"." * 10
    queue.put_bytes(data)
    exact = bytearray(size)
    assert queue.get_bytes_into(exact) == size
    assert exact == data
    numbers = array.array("q", [0] * (size // 8 + 1))
    queue.put_bytes(data)
    assert queue.get_bytes_into(numbers) == size
    assert numbers.tobytes()[:size] == data


@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize("put", ["put_bytes", "put"])
def test_a_buffer_too_short_gets_the_whole_message_in_the_exception(queue, size, put):
    data = targets.pattern(1, size)
    getattr(queue, put)(data)
    queue.put_bytes(b"next")
    buffer = bytearray(b"." * 8)
    with pytest.raises(BufferTooShort) as caught:
        queue.get_bytes_into(buffer, 4)
    assert caught.value.args[0] == (data if put == "put_bytes" else pickle.dumps(data, 5))
    assert buffer == b"." * 8
    assert queue.get_bytes_into(buffer, 4) == 4
    assert buffer == b"....next"


def test_a_wrong_buffer_or_offset_leaves_the_message(queue):
    queue.put_bytes(b"message")
    with pytest.raises(TypeError, match="writable C-contiguous"):
        queue.get_bytes_into(b"constant")
    with pytest.raises(TypeError, match="writable C-contiguous"):
        queue.get_bytes_into(memoryview(bytearray(20))[::2])
    with pytest.raises(TypeError):
        queue.get_bytes_into("text")
    with pytest.raises(ValueError, match="negative offset"):
        queue.get_bytes_into(bytearray(20), -1)
    with pytest.raises(ValueError, match="offset too large"):
        queue.get_bytes_into(bytearray(20), 21)
    assert queue.get_bytes() == b"message"


def test_an_array_that_cannot_be_written_as_one_piece_leaves_the_message(queue):
    numpy = pytest.importorskip("numpy")
    constant = numpy.zeros(20)
    constant.flags.writeable = False
    queue.put_bytes(b"message")
    for wrong in (constant, constant[::2], numpy.zeros(20)[::2], numpy.zeros((4, 5)).T):
        with pytest.raises(TypeError, match="writable C-contiguous"):
            queue.get_bytes_into(wrong)
    room = numpy.zeros(20, dtype="u1")
    assert queue.get_bytes_into(room) == 7
    assert bytes(room[:7]) == b"message"


def test_the_calls_wait_as_put_and_get_do():
    queue = fastipc.Queue(1)
    for get in (queue.get_bytes, lambda **how: queue.get_bytes_into(bytearray(9), **how)):
        with pytest.raises(Empty):
            get(block=False)
        with pytest.raises(Empty):
            get(timeout=0.01)
    queue.put_bytes(b"first")
    with pytest.raises(Full):
        queue.put_bytes(b"second", block=False)
    with pytest.raises(Full):
        queue.put_bytes(b"second", timeout=0.01)
    call = Background(queue.put_bytes, b"second")
    call.until_blocked()
    assert queue.get_bytes() == b"first"
    call.result()
    assert queue.get_bytes() == b"second"
    call = Background(queue.get_bytes)
    call.until_blocked()
    queue.put_bytes(b"third")
    assert call.result() == b"third"
    buffer = bytearray(9)
    call = Background(queue.get_bytes_into, buffer)
    call.until_blocked()
    queue.put_bytes(b"fourth")
    assert call.result() == 6
    assert buffer == b"fourth\0\0\0"
    queue.close()


def test_max_bytes_holds_for_bytes():
    queue = fastipc.Queue(max_bytes=100)
    with pytest.raises(ValueError, match="can never fit"):
        queue.put_bytes(b"x" * 101)
    queue.put_bytes(b"x" * 100)
    with pytest.raises(Full):
        queue.put_bytes(b"x", block=False)
    queue.close()


def test_a_closed_queue_is_refused():
    queue = fastipc.JoinableQueue()
    queue.put_bytes(b"x")
    queue.close()
    for call in (
        lambda: queue.put_bytes(b"y"),
        queue.get_bytes,
        lambda: queue.get_bytes_into(bytearray(5)),
    ):
        with pytest.raises(ValueError, match="is closed"):
            call()


def test_bytes_reach_other_processes(ctx, children):
    queue, back = ctx.JoinableQueue(), ctx.Queue()
    with children(targets.echo_bytes, queue, back, len(SIZES)):
        for number, size in enumerate(SIZES):
            queue.put_bytes(targets.pattern(number, size))
        for number, size in enumerate(SIZES):
            assert back.get_bytes() == targets.pattern(number, size)
        queue.join()
    for one in (queue, back):
        one.close()
