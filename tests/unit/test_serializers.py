"""serializer=: encodings of the user's own, and queues that never unpickle."""

from __future__ import annotations

import json
import pickle
import pickletools
from typing import Any, ClassVar

import pytest

import fastipc
from fastipc import _core
from tests.support import PATIENCE_S, Background
from tests.unit import targets


class Json:
    """A serializer that remembers what it was given."""

    seen: ClassVar[list[Any]] = []

    def dumps(self, obj):
        return json.dumps(obj).encode()

    def loads(self, data):
        self.seen.append(type(data))
        return json.loads(bytes(data))


class Bad:
    def dumps(self, obj):
        return 5

    def loads(self, data):
        raise LookupError("on purpose")


class MsgPack:
    """msgspec under the names that are asked for."""

    def dumps(self, obj):
        import msgspec

        return msgspec.msgpack.encode(obj)

    def loads(self, data):
        import msgspec

        return msgspec.msgpack.decode(data)


class Bomb:
    """Says so when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('unpickled')",)


class LargeBomb:
    """The same with a buffer that travels beside the pickle."""

    def __reduce_ex__(self, protocol):
        return explode, (pickle.PickleBuffer(bytearray(b"l" * 100_000)),)


def explode(buffer):
    raise SystemExit("unpickled")


@pytest.fixture(params=["Queue", "JoinableQueue"])
def make(request):
    made = []

    def make(serializer, **options):
        made.append(getattr(fastipc, request.param)(serializer=serializer, **options))
        return made[-1]

    yield make
    for queue in made:
        queue.close()


MESSAGES = [None, 1, "text", [1, 2, {"a": "b"}], "x" * 10_000, ["y" * 100_000]]


def test_a_serializer_makes_and_reads_every_message(make):
    queue = make(Json())
    Json.seen.clear()
    for message in MESSAGES:
        queue.put(message)
    assert [queue.get(timeout=PATIENCE_S) for _ in MESSAGES] == MESSAGES
    assert set(Json.seen) == {memoryview} and len(Json.seen) == len(MESSAGES)


def answer(queue, answers):
    answers.put(queue.get(timeout=PATIENCE_S))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("serializer", [Json(), MsgPack(), None], ids=["own", "msgspec", "bytes"])
def test_a_serializer_travels_with_the_handle(method, serializer):
    if isinstance(serializer, MsgPack):
        pytest.importorskip("msgspec")
    context = fastipc.get_context(method)
    queue, answers = context.Queue(serializer=serializer), context.Queue(serializer=serializer)
    message = b"plain" if serializer is None else {"a": [1, 2]}
    child = context.Process(target=answer, args=(queue, answers))
    child.start()
    queue.put(message)
    assert answers.get(timeout=PATIENCE_S) == message
    child.join()
    assert child.exitcode == 0
    queue.close()
    answers.close()


def test_a_serializer_travels_through_another_queue():
    queue, carrier = fastipc.Queue(serializer=Json()), fastipc.Queue()
    carrier.put(queue)
    copy = carrier.get(timeout=PATIENCE_S)
    copy.put({"a": 1})
    assert queue.get(timeout=PATIENCE_S) == {"a": 1}
    assert isinstance(copy._options()[1], Json)
    for each in (queue, copy, carrier):
        each.close()


def test_a_module_is_a_serializer_and_travels_by_its_name():
    cloudpickle = pytest.importorskip("cloudpickle")
    context = fastipc.get_context("spawn")
    queue, answers = context.Queue(serializer=cloudpickle), context.Queue()
    queue.put(lambda x: x + 1)
    assert queue.get(timeout=PATIENCE_S)(1) == 2
    child = context.Process(target=call_it, args=(queue, answers))
    child.start()
    queue.put(lambda x: x * 2)
    assert answers.get(timeout=PATIENCE_S) == 42
    child.join()
    assert child.exitcode == 0
    queue.close()
    answers.close()


def call_it(queue, answers):
    answers.put(queue.get(timeout=PATIENCE_S)(21))


def test_without_a_serializer_only_bytes_travel(make):
    queue = make(None)
    for message in (b"", b"abc", bytearray(b"abc"), memoryview(b"x" * 5000), b"y" * 200_000):
        queue.put(message)
        received = queue.get(timeout=PATIENCE_S)
        assert type(received) is bytes and received == bytes(message)
    for message in (1, "text", None, [b"abc"], memoryview(b"abcd")[::2]):
        with pytest.raises(TypeError, match="serializer=None"):
            queue.put(message)
    assert queue.empty()


def test_nothing_is_unpickled_without_a_serializer_whoever_sent_it(make):
    queue, carrier = make(None), fastipc.Queue()
    carrier.put(queue)
    careless = carrier.get(timeout=PATIENCE_S)
    careless._configure(False, fastipc.queues._serializers.PICKLE)
    for bomb in (Bomb(), [Bomb(), "x" * 100_000], 5):
        careless.put(bomb)
        with pytest.raises(OSError, match="without its serializer"):
            queue.get(timeout=PATIENCE_S)
    queue.put(pickle.dumps(Bomb()))
    assert queue.get(timeout=PATIENCE_S) == pickle.dumps(Bomb())
    careless.close()
    carrier.close()


def test_what_a_serializer_raises_is_raised_and_the_queue_goes_on(make):
    queue = make(Json())
    with pytest.raises(TypeError, match="not JSON serializable"):
        queue.put({1, 2})
    assert queue.empty()
    queue.put("next")
    assert queue.get(timeout=PATIENCE_S) == "next"
    bad = make(Bad())
    with pytest.raises(TypeError, match="must return a contiguous bytes-like object, not int"):
        bad.put("x")
    bad._configure(False, None)
    bad.put(b"x")
    bad.put(b"y" * 100_000)
    bad._configure(False, Bad())
    for _ in range(2):
        with pytest.raises(LookupError):
            bad.get(timeout=PATIENCE_S)
    assert bad.empty()


class AsItIs:
    """What it is given is bytes-like, or it is not."""

    def dumps(self, obj):
        return obj

    def loads(self, data):
        return bytes(data)


@pytest.mark.parametrize("serializer", [None, AsItIs()], ids=["bytes", "own"])
def test_an_array_that_is_not_contiguous_is_refused_by_name(make, serializer):
    numpy = pytest.importorskip("numpy")
    queue, (left, right) = make(serializer), fastipc.Pipe(serializer=serializer)
    matrix = numpy.zeros((3, 4))
    for wrong in (matrix.T, numpy.zeros(10)[::2]):
        for owner, put in (
            (queue, queue.put),
            (queue, lambda item: queue.put_many([b"first", item])),
            (left, left.send),
        ):
            with pytest.raises(TypeError, match="contiguous bytes-like object.*not ndarray") as why:
                put(wrong)
            assert repr(serializer or owner) in str(why.value)
    assert queue.empty() and not right.poll()
    queue.put(matrix)
    assert queue.get(timeout=PATIENCE_S) == bytes(matrix)
    for end in (left, right):
        end.close()


@pytest.mark.parametrize("serializer", [5, "pickle", object(), Json.dumps])
def test_what_is_no_serializer_is_refused_at_once(serializer):
    with pytest.raises(TypeError, match="serializer must have dumps"):
        fastipc.Queue(serializer=serializer)


def test_a_large_message_is_decoded_in_place_or_copied(make):
    class Keep:
        def dumps(self, obj):
            return obj

        def loads(self, data):
            return data

    queue = make(Keep())
    queue.put(b"x" * 100_000)
    kept = queue.get(timeout=PATIENCE_S)
    assert fastipc.get_view_bytes() > 0 and kept == b"x" * 100_000
    del kept
    assert fastipc.get_view_bytes() == 0
    queue.put(b"x" * 100_000)
    kept = queue.get(timeout=PATIENCE_S, copy=True)
    assert fastipc.get_view_bytes() == 0 and kept == b"x" * 100_000


class Views:
    """Keeps what loads() is given."""

    def dumps(self, obj):
        return obj

    def loads(self, data):
        return data


@pytest.mark.parametrize("size", [5, 5000, 500_000])
@pytest.mark.parametrize("copy", [False, True])
def test_loads_is_given_a_view_that_cannot_be_written_to(make, size, copy):
    queue, (left, right) = make(Views(), copy=copy), fastipc.Pipe(serializer=Views())
    data = targets.pattern(1, size)
    queue.put(data)
    queue.put_many([data])
    sending = Background(left.send, data)
    for view in (queue.get(timeout=PATIENCE_S), *queue.get_many(1), right.recv()):
        assert type(view) is memoryview and view.readonly and view.format == "B"
        assert view == data
    sending.result()
    for end in (left, right):
        end.close()


@pytest.mark.parametrize("kind", ["Pipe", "SimpleQueue"])
def test_pipes_and_simple_queues_take_a_serializer(kind):
    for serializer, messages in ((Json(), MESSAGES), (None, [b"", b"abc", b"x" * 500_000])):
        made = getattr(fastipc, kind)(serializer=serializer)
        ends = made if kind == "Pipe" else (made, made)
        put = ends[0].send if kind == "Pipe" else made.put
        get = ends[1].recv if kind == "Pipe" else made.get
        for message in messages:
            sending = Background(put, message)
            assert get() == message
            sending.result()
        with pytest.raises(TypeError):
            put({1, 2})
        for end in ends:
            end.close()
    with pytest.raises(TypeError, match="serializer must have dumps"):
        getattr(fastipc, kind)(serializer=5)


def test_a_pipe_without_a_serializer_never_unpickles_and_its_ends_travel():
    receiving, sending = fastipc.Pipe(duplex=False, serializer=None)
    carrier = fastipc.Queue()
    carrier.put(sending)
    careless = carrier.get(timeout=PATIENCE_S)
    assert careless._options() is None
    careless._configure(fastipc.queues._serializers.PICKLE)
    careless.send(Bomb())
    with pytest.raises(OSError, match="without its serializer"):
        receiving.recv()
    careless.send_bytes(pickle.dumps(Bomb()))
    assert receiving.recv() == pickle.dumps(Bomb())
    for end in (receiving, sending, careless, carrier):
        end.close()


def echo(end):
    end.send(end.recv())
    end.close()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_serializer_of_a_pipe_travels_with_its_end(method):
    context = fastipc.get_context(method)
    here, there = context.Pipe(serializer=Json())
    child = context.Process(target=echo, args=(there,))
    child.start()
    there.close()
    here.send({"a": [1, "x" * 100_000]})
    assert here.recv() == {"a": [1, "x" * 100_000]}
    child.join()
    assert child.exitcode == 0
    here.close()


@pytest.mark.parametrize("size", [10, 100_000])
def test_the_ends_of_a_queue_carry_what_its_serializer_made(make, size):
    queue = make(serializer=Json())
    text = "t" * size
    data = json.dumps(text).encode()
    queue.put(text)
    assert queue._reader.recv_bytes() == data
    queue._writer.send_bytes(b"##" + data, 2)
    assert queue.get() == text
    queue.put(text)
    room = bytearray(size + 10)
    assert queue._reader.recv_bytes_into(room, 4) == len(data)
    assert room[4 : 4 + len(data)] == data
    queue.put(text)
    with pytest.raises(fastipc.BufferTooShort) as caught:
        queue._reader.recv_bytes_into(bytearray(5))
    assert caught.value.args == (data,)


def test_the_ends_of_a_queue_for_bytes_carry_them_as_they_are(make):
    queue = make(serializer=None)
    queue.put(b"bytes")
    assert queue._reader.recv_bytes() == b"bytes"
    queue._writer.send_bytes(b"more bytes", 5)
    assert queue.get() == b"bytes"


def test_the_ends_of_a_queue_unpickle_nothing_for_bytes():
    queue = fastipc.Queue()
    data = pickle.dumps(Bomb(), 5)
    queue._writer.send_bytes(data)
    assert queue._reader.recv_bytes() == data
    for bomb in (Bomb(), LargeBomb()):
        expected = _core.dumps(bomb)
        room = bytearray(2 * len(expected))
        takes = {
            "recv_bytes": queue._reader.recv_bytes,
            "get_bytes": queue.get_bytes,
            "get_bytes_into": lambda room=room: bytes(room[: queue.get_bytes_into(room)]),
        }
        for take in takes.values():
            queue.put(bomb)
            queue.put_many([bomb, "next"])
            for _ in range(2):
                # Framed otherwise.
                assert opcodes(take()) == opcodes(expected)
            assert queue.get(timeout=PATIENCE_S) == "next"
    assert _core.debug_check(queue)["owned"] == 0
    queue.close()


def opcodes(pickled):
    """What a pickle does, whatever its frames."""
    return [
        (code.name, argument)
        for code, argument, _ in pickletools.genops(pickled)
        if code.name not in ("FRAME", "MEMOIZE")
    ]
