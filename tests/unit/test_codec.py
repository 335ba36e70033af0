"""The codec against pickle: what it decodes is equal in type, value and sharing to what pickle
would give, for generated objects; and damaged messages are errors.

Derandomized, so that a run tells of the code and not of its luck.
"""

from __future__ import annotations

import collections
import contextlib
import enum
import pickle
import random
import struct
import sys

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

import fastipc
from fastipc import _core
from tests.support import run_script

CODED, BYTES, ASCII = 3, 4, 5  # the tags of _codec.h that a damaged message may have here
OFTEN = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=1000,
    suppress_health_check=list(HealthCheck),
)
# Around the limits: of the empty and the cached, of one length byte, of the scratch.
LENGTHS = sorted({*range(301), *range(4096 - 24, 4096 + 3)})


@pytest.fixture(autouse=True)
def hypothesis_writes_elsewhere(tmp_path):
    """Hypothesis keeps tables of characters on disk, whatever its database is."""
    set_hypothesis_home_dir(tmp_path)
    yield
    set_hypothesis_home_dir(None)


class Str(str):
    """Not of exact type."""


class Bytes(bytes):
    """Not of exact type."""


class Int(int):
    """Not of exact type."""


class Float(float):
    """Not of exact type."""


class Tuple(tuple):
    """Not of exact type."""


class List(list):
    """Not of exact type."""


class Dict(dict):
    """Not of exact type."""


class Colour(enum.IntEnum):
    """An int by inheritance, and only one object of each."""

    RED = 1


Pair = collections.namedtuple("Pair", "left right")


class Ordinary:
    """Of its instances pickle sends the class and the __dict__; compared by assert_same()."""

    default = "of the class"

    def __init__(self, **attributes):
        self.__dict__.update(attributes)

    class Inner:
        """Found by a name with a dot."""


class Derived(Ordinary):
    """With a name of its own."""


def bits(value):
    """What tells two floats apart that == does not, or takes for different."""
    return struct.pack("<d", value)


def assert_same(actual, expected):
    """Asserts that two objects are equal in type, value and sharing, however they are nested."""
    partners = {}  # id in the one to id in the other, both ways
    stack = [(actual, expected)]
    while stack:
        a, b = stack.pop()
        known = partners.setdefault(("a", id(a)), id(b)), partners.setdefault(("b", id(b)), id(a))
        assert known == (id(b), id(a)), f"shared otherwise: {a!r}, {b!r}"
        assert type(a) is type(b)
        if getattr(a, "__dict__", None):
            stack.append((a.__dict__, b.__dict__))
        if isinstance(a, float):
            assert bits(a) == bits(b)
        elif isinstance(a, list | tuple):
            assert len(a) == len(b)
            if ("inside", id(a)) not in partners:
                partners["inside", id(a)] = 0
                stack += zip(a, b)
        elif isinstance(a, dict):
            assert len(a) == len(b)
            if ("inside", id(a)) not in partners:
                partners["inside", id(a)] = 0
                for items in zip(a.items(), b.items()):
                    stack += zip(*items)
        elif not isinstance(a, Ordinary):
            assert a == b


def check(queue, obj):
    """Sends obj through the codec alone and through a queue, and compares with pickle."""
    expected = pickle.loads(pickle.dumps(obj, 5))
    assert_same(_core.debug_decode(*_core.debug_encode(obj)), expected)
    queue.put(obj)
    assert_same(queue.get(), expected)
    queue.put(obj)
    assert_same(pickle.loads(queue.get_bytes()), expected)
    queue.put_many([obj, obj, obj])
    found = queue.get_many(2)
    assert len(found) == 2
    for one in found:
        assert_same(one, expected)
    assert_same(pickle.loads(queue.get_bytes()), expected)


@contextlib.contextmanager
def a_queue():
    """A queue that is closed afterwards."""
    queue = fastipc.Queue()
    yield queue
    assert queue.empty()
    queue.close()


# Limits of the machine's integers, of CPython's digits, and of the small ones it keeps.
POWERS = [7, 8, 15, 30, 31, 32, 60, 62, 63, 64, 120]
integers = st.integers() | st.integers(-300, 300) | st.integers(-(2**130), 2**130)
integers |= st.builds(
    lambda power, delta, sign: sign * (2**power + delta),
    st.sampled_from(POWERS),
    st.integers(-2, 2),
    st.sampled_from([-1, 1]),
)
# Every bit pattern, so also every NaN, the infinities, -0.0 and what is not normal.
floats = st.floats() | st.binary(min_size=8, max_size=8).map(lambda b: struct.unpack("<d", b)[0])
# With lone surrogates, unlike st.text() alone.
texts = st.text(st.characters(exclude_categories=())) | st.text(st.characters(codec="ascii"))
lengths = st.sampled_from(LENGTHS)
long_texts = st.builds(lambda c, n: c * n, st.sampled_from("a\x7f\x80é€\U0001f600\ud800"), lengths)
long_bytes = st.builds(lambda b, n: bytes([b]) * n, st.integers(0, 255), lengths)
exact = (
    st.none() | st.booleans() | integers | floats | texts | st.binary() | long_texts | long_bytes
)
subclasses = (
    st.builds(Str, texts)
    | st.builds(Bytes, st.binary())
    | st.builds(Int, integers)
    | st.builds(Float, floats)
    | st.just(Colour.RED)
)
scalars = exact | exact | subclasses


@st.composite
def containers(draw):
    """A flat container whose members come from a pool, so that some are one object."""
    pool = draw(st.lists(scalars, min_size=1, max_size=12))
    members = st.sampled_from(pool)
    size = draw(st.sampled_from([0, 1, 2, 3, 5, 8, 20]))
    kind = draw(st.sampled_from(["tuple", "list", "dict", "dict"]))
    if kind == "dict":
        plain = {draw(members): draw(members) for _ in range(size)}
        return draw(st.sampled_from([dict, dict, Dict]))(plain)
    plain = [draw(members) for _ in range(size)]
    kinds = [tuple, tuple, Tuple] if kind == "tuple" else [list, list, List]
    return draw(st.sampled_from(kinds))(plain)


@st.composite
def nested(draw):
    """Containers in containers, some of them twice."""
    pool = draw(st.lists(scalars | containers(), min_size=1, max_size=5))
    for _ in range(draw(st.integers(1, 3))):
        members = [draw(st.sampled_from(pool)) for _ in range(draw(st.integers(0, 5)))]
        pool.append(draw(st.sampled_from([tuple, list]))(members))
        pool.append({f"key{number}": member for number, member in enumerate(members)})
    return draw(st.sampled_from(pool[-2:]))


@st.composite
def instances(draw):
    """Instances in containers and in each other, some of them twice, or in themselves."""
    pool = draw(st.lists(exact | containers() | nested(), min_size=1, max_size=4))
    # An attribute's name may be a value, too.
    pool.append("name")
    names = st.sampled_from(
        ["name", "number", "_private", "default", "ä", "__getstate__x", "x" * 99]
    )
    for _ in range(draw(st.integers(1, 4))):
        one = draw(st.sampled_from([Ordinary, Derived, Derived]))()
        for name in draw(st.lists(names, max_size=4)):
            setattr(one, name, draw(st.sampled_from(pool)))
        pool.append(one)
        if draw(st.integers(0, 9)) == 0:
            pool.append(one.__dict__)
        if draw(st.integers(0, 9)) == 0:
            one.itself = draw(st.sampled_from(pool))
    members = [draw(st.sampled_from(pool)) for _ in range(draw(st.integers(0, 4)))]
    return draw(
        st.sampled_from([pool[-1], [pool[-1], *members], {"one": pool[-1], "all": members}])
    )


@pytest.mark.parametrize(
    ("objects", "examples"),
    [(scalars, 1000), (containers(), 1000), (nested(), 1000), (instances(), 300)],
    ids=["scalars", "containers", "nested", "instances"],
)
def test_generated_objects_are_what_pickle_would_give(objects, examples):
    with a_queue() as queue:
        often = settings(OFTEN, max_examples=examples)
        often(given(objects)(lambda obj: check(queue, obj)))()


@pytest.mark.parametrize("make", [str, Str], ids=lambda make: make.__name__)
@pytest.mark.parametrize("letter", ["a", "\x7f", "\x80", "é", "€", "\U0001f600", "\ud800"])
def test_a_str_of_each_length_arrives_as_pickle_would_give_it(make, letter):
    with a_queue() as queue:
        for length in LENGTHS:
            check(queue, make(letter * length))
            check(queue, (make("a" * length + letter), length))
            check(queue, {make(letter + "a" * length): length})


@pytest.mark.parametrize("make", [bytes, Bytes, bytearray], ids=lambda make: make.__name__)
def test_bytes_of_each_length_arrive_as_pickle_would_give_them(make):
    with a_queue() as queue:
        for length in LENGTHS:
            data = random.Random(length).randbytes(length)
            check(queue, make(data))
            check(queue, [make(data), length])


@pytest.mark.parametrize("make", [tuple, list, Tuple, List], ids=lambda make: make.__name__)
def test_a_sequence_of_each_length_arrives_as_pickle_would_give_it(make):
    with a_queue() as queue:
        for length in range(301):
            check(queue, make(range(1000, 1000 + length)))
            check(queue, make(str(number) for number in range(length)))
            # The last is the first once more.
            members = [str(number) for number in range(10, 10 + length)]
            check(queue, make(members + members[:1]))


def test_a_dict_of_each_length_arrives_as_pickle_would_give_it():
    with a_queue() as queue:
        for length in range(301):
            check(queue, {number * 1000: number for number in range(length)})
            check(queue, {f"key {number}": str(number) for number in range(length)})
            check(queue, {b"%d" % number: None for number in range(length)})


def test_the_numbers_at_every_limit_arrive_as_pickle_would_give_them():
    with a_queue() as queue:
        for power in range(131):
            for number in (2**power + delta for delta in range(-2, 3)):
                for obj in (number, -number, (number, -number), {number: -number}):
                    check(queue, obj)
        for number in (0.0, -0.0, float("inf"), float("-inf"), 5e-324, 1.7976931348623157e308):
            check(queue, number)
            check(queue, [number, -number])


IN_PLACE = ["ab", "a key", "x" * 300, 257, -257, 2**30 - 1, 1 - 2**30]


@pytest.mark.parametrize("due", IN_PLACE, ids=lambda due: f"{type(due).__name__}-{due!s:.9}")
def test_what_is_made_in_place_is_as_the_interpreter_makes_it(due):
    """Sizes, counts and hashes too, which no comparison looks at."""
    check_made_in_place(due)


def check_made_in_place(due):
    """Checks what test_codec's process, or another one, gets for an int or a str."""
    due = int(str(due)) if isinstance(due, int) else "".join(list(due))
    (made,) = _core.debug_decode(*_core.debug_encode((due,)))
    assert made is not due
    assert made == due
    assert sys.getsizeof(made) == sys.getsizeof(due)
    assert sys.getrefcount(made) == sys.getrefcount(due)
    assert hash(made) == hash(due)
    assert {due: 1}[made] == 1
    assert repr(made) == repr(due)
    assert made * 2 == due * 2


@pytest.mark.parametrize("allocator", ["debug", "malloc"])
def test_nothing_that_memory_held_before_is_left_in_what_is_made_in_place(allocator):
    """A reference count with a part of the allocator's pattern was that of an immortal object."""
    script = (
        "from tests.unit.test_codec import IN_PLACE, check_made_in_place\n"
        "for _ in range(100):\n"
        "    for due in IN_PLACE:\n"
        "        check_made_in_place(due)\n"
    )
    code, _, err = run_script(script, prefix=["env", f"PYTHONMALLOC={allocator}"])
    assert code == 0, err


@pytest.mark.parametrize("pattern", [0x7FF8000000000000, 0xFFF8000000000001, 0x7FF0000000000001])
def test_every_kind_of_nan_keeps_its_bits(pattern):
    nan = struct.unpack("<d", struct.pack("<Q", pattern))[0]
    with a_queue() as queue:
        for obj in (nan, (nan, nan), [1, nan], {nan: nan}, {"nan": nan}):
            check(queue, obj)


def shared_objects():
    """Objects some of whose parts are one object, or only equal."""
    # Made at run time: the compiler would make one object of equal constants.
    text, data, number, real = "".join("text"), bytes(range(9)), 10**9 + len("x"), 1 / 3
    same_text, same_data = "".join("text"), bytes(range(9))
    flat, key = (text, 1), "".join("key")
    itself, in_dict, in_tuple = [], {}, ([],)
    itself.append(itself)
    in_dict["itself"] = in_dict
    in_tuple[0].append(in_tuple)
    return {
        "str twice": (text, text),
        "equal str": (text, same_text),
        "bytes twice": [data, 1, data],
        "equal bytes": [data, 1, same_data],
        "number twice": (number, number, real, real, None, None, True, True),
        "key is value": {key: key},
        "key is a later value": {key: 1, "other": key},
        "key was a value": {"other": key, key: 1},
        "key equals a value": {"other": "".join("key"), key: 1},
        "bytes key is value": {data: data},
        "cached": ("", "", b"", b"", "a", "a", "é", "é", b"a", b"a", (), ()),
        "tuple twice": (flat, flat),
        "equal tuples": ((text, 1), (text, 1)),
        "list twice": [[text], [same_text]] * 2,
        "dicts with one key": [{key: 1}, {key: 2}],
        "dicts with equal keys": [{key: 1}, {"".join("key"): 2}],
        "list in itself": itself,
        "dict in itself": in_dict,
        "tuple in itself": in_tuple,
        "named tuple": Pair(text, text),
    }


@pytest.mark.parametrize("name", shared_objects())
def test_what_is_one_object_or_two_is_so_where_it_arrives(name):
    with a_queue() as queue:
        check(queue, shared_objects()[name])


def test_the_keys_that_the_decoder_keeps_are_no_values_and_stay_what_they_are():
    with a_queue() as queue:
        for number in range(2000):
            # Keys of which many fall on the same place, and that differ in one byte only.
            key = "x" * (number % 40) + f"{number}"
            check(queue, {key: "".join(key), "ä" + key: number})
            check(queue, {"other": "".join(key), key: number})


KEYS = st.sampled_from(
    ["a", "b", "id", "name", "ä", "a much longer key, of 39 characters", 1, b"a"]
)
SCALARS = st.none() | st.integers(-3, 1000) | st.floats(allow_nan=False) | st.text(max_size=3)


@OFTEN
@given(st.lists(st.dictionaries(KEYS, SCALARS, max_size=5), min_size=1, max_size=40))
def test_dicts_of_all_kinds_in_any_order_are_what_was_put(dicts):
    """The decoder keeps templates: kinds with the same first key and size take turns here."""
    for obj in dicts:
        tag, data = _core.debug_encode(obj)
        for _ in range(10):  # more often than a kind is missed before it takes the place
            found = _core.debug_decode(tag, data)
            assert list(found.items()) == list(obj.items())
            # It is a dict like any other.
            found["new"] = found
            assert found.pop("new") is found
            for key in obj:
                del found[key]
            assert found == {}


def test_a_dict_that_is_damaged_leaves_those_behind_it_alone():
    obj = {"id": 1000, "no": "another", "value": 0.5}
    tag, data = _core.debug_encode(obj)
    for _ in range(20):
        for end in range(len(data)):
            with pytest.raises(OSError):
                _core.debug_decode(tag, data[:end])
        with pytest.raises(OSError):
            _core.debug_decode(tag, data.replace(b"\x02no", b"\x02id"))
        assert _core.debug_decode(tag, data) == obj


def test_messages_share_nothing_that_can_change():
    with a_queue() as queue:
        for obj in ([], {}, [1], {"key": 1}, [[]], [{}]):
            queue.put(obj)
            queue.put(obj)
            assert queue.get() is not queue.get()


def decode_or_refuse(tag, data):
    """Decodes; the only error may be OSError."""
    try:
        _core.debug_decode(tag, data)
    except OSError:
        return False
    return True


@st.composite
def damaged(draw):
    """A coded message, then some bytes changed, removed or added."""
    tag, data = _core.debug_encode(draw(exact | containers()))
    if tag not in (CODED, BYTES, ASCII):
        tag, data = CODED, draw(st.binary(max_size=100))
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        action = draw(st.sampled_from(["change", "cut", "insert", "remove"]))
        if action == "change" and at < len(data):
            data[at] = draw(st.integers(0, 255) | st.sampled_from(b"NTFbiqdsSyY([{"))
        elif action == "cut":
            del data[at:]
        elif action == "insert":
            data[at:at] = draw(st.binary(max_size=9))
        else:
            del data[at : at + draw(st.integers(1, 9))]
    return draw(st.sampled_from([tag, CODED, BYTES, ASCII])), bytes(data)


@OFTEN
@given(damaged())
def test_a_damaged_message_is_an_object_or_an_os_error(message):
    decode_or_refuse(*message)


@OFTEN
@given(st.binary(max_size=60))
def test_random_bytes_are_an_object_or_an_os_error(data):
    decode_or_refuse(CODED, data)


@pytest.mark.parametrize(
    "obj",
    [1, 1000, 2**40, 1.5, "text", "ä", "x" * 300, (b"x" * 99, 1), (1, "a"), [2.5, None], {"k": 1}],
    ids=lambda obj: repr(obj)[:20],
)
def test_a_message_that_is_cut_or_continued_anywhere_is_an_os_error(obj):
    tag, data = _core.debug_encode(obj)
    assert tag == CODED
    for length in range(len(data)):
        assert not decode_or_refuse(tag, data[:length]), length
    assert not decode_or_refuse(tag, data + b"N")


@pytest.mark.parametrize(
    ("tag", "data"),
    [
        (CODED, b"s\x02\xff\xff"),
        (CODED, b"S\xff\xff\xff\xff" + b"x" * 100),
        (CODED, b"{\x01s\x03\xff\xff\xffN"),
        (CODED, b"{\x02s\x03keyNs\x03keyN"),
        (CODED, b"(\x01(\x00"),  # which does not say that it is deep
        (CODED, b"\xa8\x01" + b"(\x01" * 8 + b"(\x00"),  # too deep
        (CODED, b"\xa8\x01r\x00\x00"),  # seen nothing yet
        (CODED, b"\xa8\x02s\x02abr\x01\x00"),
        (CODED, b"(\x02s\x02abr\x00\x00"),
        (CODED, b"\xfb\x01(\x00N"),  # a container for a key
        (CODED, b"\xfb\x02s\x02abs\x02yys\x02abr\x01\x00"),  # a key twice
        (CODED, b"\xfb\x02s\x02abs\x02yyr\x00\x00s\x02zz"),
        (CODED, b"\x00"),
        (ASCII, b"x" * 5000 + b"\x80"),
        (0, b"N"),
        (999, b"N"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_bytes_that_stand_for_nothing_are_an_os_error(tag, data):
    with pytest.raises(OSError):
        _core.debug_decode(tag, data)
