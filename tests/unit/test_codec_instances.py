"""Instances of ordinary classes go without pickle, and all that pickle would do otherwise than
"the class and the __dict__" stays pickle's: what arrives, what is raised, and whose code runs.
"""

from __future__ import annotations

import abc
import builtins
import collections.abc
import contextlib
import copyreg
import dataclasses
import enum
import gc
import importlib
import os
import pickle
import subprocess
import sys
import threading
import types
import typing
import weakref
from multiprocessing.reduction import ForkingPickler

import pytest

import fastipc
from fastipc import _core
from tests.support import Background

PICKLE, CODED = 1, 3  # the tags of _codec.h
T = typing.TypeVar("T")


class Plain:
    """An ordinary class."""

    limit = 5

    def __init__(self, *args):
        self.first, self.rest = args[:1], list(args[1:])

    class Inner:
        """Found by a name with a dot."""

        class Innermost:
            """With two."""


class Empty:
    """Has no attributes."""


@dataclasses.dataclass
class Point:
    """A dataclass."""

    x: float
    y: float = 0.0


@dataclasses.dataclass(frozen=True)
class Frozen:
    """Whose __setattr__ refuses everything; unpickling does not ask it."""

    x: int
    name: str


class Generic(typing.Generic[T]):
    """Has an empty __slots__ in a base."""

    def __init__(self, item):
        self.item = item


class Abstract(abc.ABC):
    """Cannot be made."""

    @abc.abstractmethod
    def method(self):
        """Nothing."""


class Concrete(Abstract, collections.abc.Hashable):
    """Of another metaclass, which pickle does not care about."""

    def __init__(self):
        self.value = 1

    def method(self):
        """Nothing."""

    def __hash__(self):
        return 1


class Covered:
    """Has a property by the name of an attribute."""

    @property
    def value(self):
        """What is not in the __dict__."""
        return "property"

    @value.setter
    def value(self, value):
        raise AssertionError("nobody sets it")


class Counted:
    """Changes its class with each instance."""

    count = 0

    def __init__(self):
        type(self).count += 1
        self.number = self.count


def with_attributes(obj, **attributes):
    """The object, with these in its __dict__."""
    obj.__dict__.update(attributes)
    return obj


def many_attributes(count):
    """An instance with so many attributes."""
    return with_attributes(Empty(), **{f"attribute_{number}": number for number in range(count)})


def coded_objects():
    """Objects that take no pickle."""
    dicted = Plain(1)
    vars(dicted)  # which makes a dict of it
    deleted = Plain(1, 2)
    del deleted.first
    reordered = Empty()
    reordered.b, reordered.a = 1, 2
    weakly = Plain(3)
    weakly.reference_exists = weakref.ref(weakly) is not None
    counted = [Counted() for _ in range(3)][-1]
    return {
        "plain": Plain(1, "two", (3.0, None)),
        "empty": Empty(),
        "dataclass": Point(1.5),
        "frozen": Frozen(1, "one"),
        "generic": Generic(5),
        "of an abstract base": Concrete(),
        "inner": with_attributes(Plain.Inner(), x=1),
        "innermost": with_attributes(Plain.Inner.Innermost(), x=1),
        "with a dict": dicted,
        "with a deleted attribute": deleted,
        "in another order": reordered,
        "with a property in the way": with_attributes(Covered(), value=5),
        "referred to weakly": weakly,
        "of a class that changes": counted,
        "thirty attributes": many_attributes(29),
        "many attributes": many_attributes(64),
        "in each other": with_attributes(Empty(), one=Point(1, 2), two=[Point(3, 4), Empty()]),
        "in containers": [Point(1, 2), {"key": Frozen(1, "a"), "other": (Empty(), Point(5, 6))}],
        "private": with_attributes(Empty(), _one=1, _Empty__two=2),
        "of a class that __main__ has": with_attributes(Empty(), **{"": 1}),
    }


def state(obj):
    """What there is to compare of an object, however deep."""
    if isinstance(obj, list | tuple):
        return type(obj), [state(member) for member in obj]
    if isinstance(obj, dict):
        return type(obj), [(key, state(value)) for key, value in obj.items()]
    if hasattr(obj, "__dict__") and not isinstance(obj, type | types.FunctionType):
        return type(obj), list(obj.__dict__.items()) and state(obj.__dict__)
    return type(obj), obj


@pytest.fixture
def queue():
    """Empty at the end."""
    queue = fastipc.Queue()
    yield queue
    assert queue.empty()
    queue.close()


@pytest.mark.parametrize("name", coded_objects())
def test_an_ordinary_instance_goes_without_pickle_and_arrives_as_with_it(queue, name):
    for _ in range(3):  # the second finds what the first has left in the tables
        obj = coded_objects()[name]
        tag, data = _core.debug_encode(obj)
        assert tag == CODED
        expected = pickle.loads(pickle.dumps(obj, 5))
        queue.put(obj)
        for found in (_core.debug_decode(tag, data), queue.get()):
            assert state(found) == state(expected)
            assert gc.is_tracked(found)


def test_an_instance_is_like_any_other_after_it_has_arrived(queue):
    for number in range(5):
        queue.put(Plain(number, 1))
        found = queue.get()
        found.new = found
        found.first = "other"
        del found.rest
        assert list(found.__dict__) == ["first", "new"]
        found.rest = 1
        found.__dict__ = {"first": 5}
        assert vars(found) == {"first": 5}
        gone = weakref.ref(found)
        found.itself = found
        del found
        gc.collect()
        assert gone() is None


def test_nothing_is_kept_of_an_instance_or_its_class(queue):
    module = types.ModuleType("fastipc_test_module")
    sys.modules[module.__name__] = module
    try:
        one = type("One", (), {"__module__": module.__name__})
        module.One = one
        obj, value = one(), Plain(1)
        obj.value = value
        queue.put(obj)
        found = queue.get()
        gone = [weakref.ref(each) for each in (obj, value, found, found.value, one)]
        del obj, value, found, module.One, one
        gc.collect()
        assert [reference() for reference in gone] == [None] * 5
    finally:
        del sys.modules[module.__name__]


def test_references_are_counted_right(queue):
    text, obj = "text" * 10, Point(1.5, [1.5])
    obj.text = text
    for _ in range(3):
        queue.put([obj, Point(2, 3)])
        queue.get()

    def counts(objects):
        return [sys.getrefcount(each) for each in (objects[0].y, objects[0].text, objects[0])]

    expected = counts(pickle.loads(pickle.dumps([obj, Point(2, 3)])))
    kept = text, obj, Point, obj.y
    before = [sys.getrefcount(each) for each in kept]
    for _ in range(100):
        queue.put([obj, Point(2, 3)])
        found = queue.get()
        assert counts(found) == expected
    del found
    assert [sys.getrefcount(each) for each in kept] == before


# ---- what is pickle's ----


class WithGetState(Plain):
    """Has a state of its own."""

    def __getstate__(self):
        return {"first": "other", "rest": 0}


class WithSetState(Plain):
    """Takes its state itself."""

    def __setstate__(self, state):
        self.__dict__.update(state, called=True)


class WithReduce(Plain):
    """Arrives as a list."""

    def __reduce__(self):
        return list, ()


class WithReduceEx(Plain):
    """Arrives as a list, too."""

    def __reduce_ex__(self, protocol):
        return list, ()


class WithNewArgs(Plain):
    """Gets an argument."""

    def __new__(cls, *args):
        made = super().__new__(cls)
        made.__dict__["made_with"] = args
        return made

    def __getnewargs__(self):
        return ("argument",)


class WithNew(Plain):
    """Notes that it was called."""

    def __new__(cls, *args):
        return with_attributes(super().__new__(cls), made=len(args))


class WithSlots:
    """Keeps something elsewhere."""

    __slots__ = ("__dict__", "slot")

    def __init__(self):
        self.slot = 1
        self.other = 2


class WithLateSlots:
    """Pickle takes an attribute for a slot."""


WithLateSlots.__slots__ = ("x",)


@dataclasses.dataclass(slots=True, frozen=True)
class Slotted:
    """Has no __dict__."""

    x: int


class WithGetAttr(Plain):
    """Pickle asks it."""

    def __getattr__(self, name):
        raise AttributeError(name)


class WithGetAttribute(Plain):
    """Pickle asks it."""

    def __getattribute__(self, name):
        return super().__getattribute__(name)


class Meta(type):
    """Has a say in what is found in its classes."""


class OfMeta(metaclass=Meta):
    """Of a metaclass that Python code could do anything with."""


class Colour(enum.Enum):
    """There is but one object of each."""

    RED = 1


class Error(Exception):
    """Has arguments."""


class Dict(dict):
    """Has items."""


class DictOfItsOwn:
    """Shows something else as its __dict__ to those who ask; pickle fills that."""

    def __init__(self):
        self.x = 1

    @property
    def __dict__(self):
        return {}


class Disguised:
    """Says that it is of another class."""

    __class__ = property(lambda self: Plain)


def pickled_objects():
    """Objects that pickle does something else with."""
    return {
        "getstate": WithGetState(1),
        "setstate": WithSetState(1),
        "reduce": WithReduce(1),
        "reduce_ex": WithReduceEx(1),
        "getnewargs": WithNewArgs(1),
        "new": WithNew(1),
        "slots": WithSlots(),
        "slotted": Slotted(1),
        "slots later": with_attributes(WithLateSlots(), x=1),
        "getattr": WithGetAttr(1),
        "getattribute": WithGetAttribute(1),
        "metaclass": OfMeta(),
        "enum": Colour.RED,
        "exception": Error("text"),
        "dict": Dict(a=1),
        "own getstate": with_attributes(Empty(), __getstate__=lambda: {"x": 1}),
        "own reduce_ex": with_attributes(Empty(), __reduce_ex__=lambda protocol: (list, ())),
        "attribute that pickle knows": with_attributes(Empty(), value=5j),
        "attribute of no ASCII": with_attributes(Empty(), ä=1),
        "attribute that is no str": many_attributes(0),
        "too many attributes": many_attributes(65),
        "dict of its own": DictOfItsOwn(),
        "class": Plain,
        "module's": types.SimpleNamespace(x=1),
    }


@pytest.mark.parametrize("name", pickled_objects())
def test_what_pickle_does_otherwise_is_left_to_it(queue, name):
    for _ in range(3):
        obj = pickled_objects()[name]
        if name == "attribute that is no str":
            obj.__dict__[1] = 2
        assert _core.debug_encode(obj)[0] == PICKLE
        assert _core.debug_encode([obj])[0] == PICKLE
        expected = pickle.loads(pickle.dumps(obj, 5))
        queue.put([obj])
        assert state(queue.get()) == state([expected])


@pytest.mark.parametrize("name", ["__reduce_ex__", "__getstate__"])
def test_what_pickle_would_call_on_the_instance_it_calls(queue, name):
    with pytest.raises(TypeError, match="not callable"):
        queue.put(with_attributes(Empty(), **{name: 5}))


def test_what_is_there_twice_or_in_itself_is_pickles(queue):
    one, itself, mapped = Plain(1), Empty(), Empty()
    itself.itself = itself
    mapped.x = 1
    for obj in ([one, one], itself, [mapped, mapped.__dict__], [mapped.__dict__, mapped]):
        assert _core.debug_encode(obj)[0] == PICKLE
        queue.put(obj)
        found = queue.get()
        if isinstance(obj, list):
            expected = pickle.loads(pickle.dumps(obj, 5))
            assert (found[0] is found[1]) == (expected[0] is expected[1])
            assert state(found) == state(expected)
        else:
            assert found.itself is found


def test_equal_parts_are_one_object_only_if_they_were(queue):
    text, name = "".join(["te", "xt"]), Point.__name__
    for obj in (
        [Point(text, text), Point(text, "".join(["te", "xt"]))],
        with_attributes(Empty(), name="name", other="name", value=name, last=name),
        with_attributes(Empty(), key={"key": "key", "value": 1}, value={"value": "key"}),
    ):
        assert _core.debug_encode(obj)[0] == CODED
        expected = pickle.loads(pickle.dumps(obj, 5))
        queue.put(obj)
        found = queue.get()
        assert sharing(found) == sharing(expected)


def sharing(obj):
    """For each pair of an object's parts, whether it is one object."""
    parts = []

    def walk(one):
        parts.append(one)
        if isinstance(one, dict):
            for item in one.items():
                walk(item[0]), walk(item[1])
        elif isinstance(one, list | tuple):
            for member in one:
                walk(member)
        elif hasattr(one, "__dict__"):
            walk(one.__dict__)

    walk(obj)
    return [[a is b for b in parts] for a in parts]


@pytest.fixture(params=["copyreg", "ForkingPickler"])
def register(request):
    """Registers a reducer with the one or the other; undone afterwards."""
    tables = copyreg.dispatch_table, ForkingPickler._extra_reducers
    before = [dict(table) for table in tables]
    yield {"copyreg": copyreg.pickle, "ForkingPickler": ForkingPickler.register}[request.param]
    for table, items in zip(tables, before):
        table.clear()
        table.update(items)


def as_text(obj):
    """A reducer."""
    return str, ("reduced",)


def test_a_reducer_counts_from_when_it_is_registered_until_it_is_not(queue, register):
    for _ in range(2):
        queue.put(Plain(1))
        assert type(queue.get()) is Plain
        register(Plain, as_text)
        for obj in (Plain(1), [Plain(1)]):
            queue.put(obj)
            assert queue.get() in ("reduced", ["reduced"])
        copyreg.dispatch_table.pop(Plain, None)
        ForkingPickler._extra_reducers.pop(Plain, None)


def test_a_reducer_for_the_metaclass_counts(queue, register):
    queue.put(Concrete())
    assert type(queue.get()) is Concrete
    register(abc.ABCMeta, lambda cls: as_text(cls))
    assert _core.debug_encode(Concrete())[0] == PICKLE
    queue.put([Plain(1)])
    assert type(queue.get()[0]) is Plain


def test_another_dict_of_reducers_counts(queue, monkeypatch):
    queue.put(Plain(1))
    queue.get()
    monkeypatch.setattr(ForkingPickler, "_extra_reducers", {Plain: as_text})
    queue.put(Plain(1))
    assert queue.get() == "reduced"


def test_a_method_that_the_class_or_a_base_gets_later_counts(queue, monkeypatch):
    class_and_base = type("Derived", (Plain,), {"__module__": __name__}), Plain
    monkeypatch.setattr(sys.modules[__name__], "Derived", class_and_base[0], raising=False)
    class_and_base[0].__qualname__ = "Derived"
    obj, called = class_and_base[0](1), []
    for changed in class_and_base:
        queue.put(obj)
        assert type(queue.get()) is class_and_base[0]
        with monkeypatch.context() as patch:
            patch.setattr(changed, "__reduce_ex__", lambda self, protocol: (str, ("own",)))
            queue.put(obj)
            assert queue.get() == "own"
        with monkeypatch.context() as patch:
            tag, data = _core.debug_encode(obj)
            patch.setattr(
                changed, "__setstate__", lambda self, state: called.append(state), raising=False
            )
            # The receiver's class decides.
            assert _core.debug_decode(tag, data).__dict__ == {}
            assert called.pop() == obj.__dict__


def test_a_class_that_is_not_found_under_its_name_is_pickles_error(queue, monkeypatch):
    class Local:
        """Not in the module."""

    for obj in (Local(), [Local()], with_attributes(Empty(), local=Local())):
        with pytest.raises(AttributeError):
            queue.put(obj)
    obj = Plain(1)
    queue.put(obj)
    queue.get()
    monkeypatch.setattr(sys.modules[__name__], "Plain", type("Plain", (), {}))
    with pytest.raises(pickle.PicklingError):
        queue.put(obj)
    monkeypatch.undo()
    for attribute in ("__qualname__", "__module__"):
        before = getattr(Plain, attribute)
        setattr(Plain, attribute, "other")
        try:
            with pytest.raises(pickle.PicklingError):
                queue.put(obj)
        finally:
            setattr(Plain, attribute, before)
        queue.put(obj)
        assert type(queue.get()) is Plain
    # Pickle imports it once more, and then finds another class there.
    monkeypatch.delitem(sys.modules, __name__)
    with pytest.raises(pickle.PicklingError):
        queue.put(obj)


# ---- the receiver's side ----


def test_a_class_that_was_replaced_is_made_anew_as_by_pickle(queue, monkeypatch):
    tag, data = _core.debug_encode(Plain(1, 2))
    assert type(_core.debug_decode(tag, data)) is Plain
    other = type("Plain", (), {"__module__": __name__})
    monkeypatch.setattr(sys.modules[__name__], "Plain", other)
    for _ in range(3):
        found = _core.debug_decode(tag, data)
        assert type(found) is other
        assert vars(found) == {"first": (1,), "rest": [2]}
    monkeypatch.undo()
    assert type(_core.debug_decode(tag, data)) is Plain


def test_a_name_that_stands_for_no_class_raises_what_pickle_would(queue, monkeypatch):
    obj = Plain(1)
    message, pickled = _core.debug_encode(obj), pickle.dumps(obj, 5)
    slotted = type("Plain", (), {"__module__": __name__, "__slots__": ("first",)})
    for other in (5, len, int, None, "text", slotted, Abstract, Colour, Meta, bool):
        monkeypatch.setattr(sys.modules[__name__], "Plain", other)
        for _ in range(2):
            with pytest.raises(BaseException) as expected:
                pickle.loads(pickled)
            with pytest.raises(expected.type) as found:
                _core.debug_decode(*message)
            if expected.type is not AttributeError:
                assert str(found.value) == str(expected.value)
        # The next message is intact.
        queue.put(Point(1, 2))
        assert queue.get() == Point(1, 2)
    monkeypatch.delattr(sys.modules[__name__], "Plain")
    with pytest.raises(AttributeError, match="Plain"):
        _core.debug_decode(*message)
    monkeypatch.setitem(sys.modules, __name__, None)
    with pytest.raises(ModuleNotFoundError):
        _core.debug_decode(*message)
    monkeypatch.undo()
    assert type(_core.debug_decode(*message)) is Plain


def test_an_item_whose_class_is_missing_costs_that_item_only(monkeypatch):
    receiving, sending = fastipc.Pipe(duplex=False)
    queue = fastipc.Queue()
    for put in (queue.put, sending.send):
        for obj in (1, Plain(1), [Plain(2)], 2):
            put(obj)
    with monkeypatch.context() as patch:
        patch.delattr(sys.modules[__name__], "Plain")
        for get in (queue.get, receiving.recv):
            assert get() == 1
            for _ in range(2):
                with pytest.raises(AttributeError):
                    get()
            assert get() == 2
    for number in range(3):
        queue.put_many([number, Plain(number)])
    queue.put(3)
    with monkeypatch.context() as patch:
        patch.delattr(sys.modules[__name__], "Plain")
        found = []
        for _ in range(4):
            with contextlib.suppress(AttributeError):
                found += queue.get_many(10)
        assert found == [0, 1, 2, 3]
    queue.close()
    receiving.close()
    sending.close()


def test_the_audit_event_of_pickle_is_raised_for_each_class(tmp_path):
    program = f"""
import sys, pickle
sys.path.insert(0, {os.fspath(tmp_path)!r})
from fastipc import _core
import audited
heard, refuse = [], []
def hook(event, args):
    if event == "pickle.find_class":
        heard.append(args)
        if args[1] in refuse:
            raise PermissionError(args[1])
sys.addaudithook(hook)
obj = [audited.One(), audited.Two(), audited.One()]
message = _core.debug_encode(obj)
assert message[0] == {CODED}
pickle.loads(pickle.dumps(obj, 5))
expected = heard[:]
for _ in range(3):
    del heard[:]
    _core.debug_decode(*message)
    assert heard == expected, heard
refuse.append("Two")
for _ in range(2):
    try:
        _core.debug_decode(*message)
    except PermissionError:
        pass
    else:
        raise AssertionError("was not refused")
"""
    (tmp_path / "audited.py").write_text("class One: pass\nclass Two: pass\n")
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_module_is_imported_where_it_is_needed(queue, tmp_path, monkeypatch):
    (tmp_path / "fastipc_imported.py").write_text("class One:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("fastipc_imported")
    obj = with_attributes(module.One(), x=1)
    queue.put(obj)
    queue.put(obj)
    monkeypatch.delitem(sys.modules, "fastipc_imported")
    found = queue.get()
    again = sys.modules["fastipc_imported"]
    assert again is not module
    assert type(found) is again.One
    reloaded = importlib.reload(again)
    assert type(queue.get()) is reloaded.One


def test_an_import_in_the_middle_of_a_get_may_use_the_queue(tmp_path, monkeypatch):
    (tmp_path / "fastipc_reentering.py").write_text(
        "import fastipc_hook\nfastipc_hook.call()\nclass One:\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    hook = types.ModuleType("fastipc_hook")
    hook.call = lambda: None
    monkeypatch.setitem(sys.modules, "fastipc_hook", hook)

    def make():
        module = importlib.import_module("fastipc_reentering")
        return [with_attributes(module.One(), x="text", y="text"), "x" * 100]

    queue, inside = fastipc.Queue(), []
    for _ in range(3):
        queue.put_many([make(), Plain(1), 5, [Plain(2)]])
        del sys.modules["fastipc_reentering"]
        inside.clear()
        hook.call = lambda: inside.extend([gc.collect(), type(queue.get()), queue.get()])
        found = queue.get()
        assert inside[1:] == [Plain, 5]
        assert found[0].x == found[0].y == "text"
        assert found[1] == "x" * 100
        assert queue.get()[0].first == (2,)
        queue.put_many([1, make(), Plain(1), 5])
        del sys.modules["fastipc_reentering"]
        hook.call = lambda: inside.append(queue.empty())
        assert queue.get_many(9)[1][0].x == "text"
        hook.call = lambda: None
    queue.put(make())
    del sys.modules["fastipc_reentering"]
    hook.call = queue.close
    assert queue.get()[1] == "x" * 100
    hook.call = None  # which keeps the queue, and this its memory


def test_what_a_setstate_throws_away_may_be_referred_to_later(queue, monkeypatch):
    text = "".join(["thrown", "away"])
    obj = [Plain(text), text, {text: 1}, Plain(text)]
    message = _core.debug_encode(obj)
    assert message[0] == CODED
    monkeypatch.setattr(Plain, "__setstate__", lambda self, state: state.clear(), raising=False)
    for _ in range(10):
        found = _core.debug_decode(*message)
        junk = ["".join(["other", "text", str(number)]) for number in range(100)]
        assert found[1:3] == [text, {text: 1}]
        assert vars(found[0]) == vars(found[3]) == {}
        assert len(junk) == 100


def test_half_made_containers_are_seen_by_nobody(monkeypatch):
    message = _core.debug_encode([[1, (2, Plain(5)), 3], {"a": Plain(1)}])
    seen = []

    def setstate(self, state):
        for obj in gc.get_objects():
            if type(obj) in (list, tuple):
                assert len(obj) != 3 or "<NULL>" not in repr(obj)
        seen.append(state)

    monkeypatch.setattr(Plain, "__setstate__", setstate, raising=False)
    found = _core.debug_decode(*message)
    assert len(seen) == 2
    assert found[0][0] == 1
    assert all(gc.is_tracked(each) for each in (found, found[0], found[0][1], found[1]))


def test_bytes_of_an_instance_are_a_pickle_without_looking_for_its_class(monkeypatch):
    text = "".join(["te", "xt"])
    objects = [
        Plain(1, 1000, -(2**40), True, None, 1.5, b"b", "ä" * 300, b"c" * 300),
        [Point(text, text), Point((), text), {text: Empty(), "k": [()]}, Frozen(1, "x")],
        Plain.Inner(),
    ]
    receiving, sending = fastipc.Pipe(duplex=False)
    queue = fastipc.Queue()
    for obj in objects:
        queue.put(obj)
        sending.send(obj)
        queue.put_many([obj])
    with monkeypatch.context() as patch:
        patch.delattr(sys.modules[__name__], "Plain")
        patch.delattr(sys.modules[__name__], "Point")
        found = [[queue.get_bytes(), receiving.recv_bytes(), queue.get_bytes()] for _ in objects]
    for obj, pickles in zip(objects, found):
        for data in pickles:
            loaded = pickle.loads(data)
            assert state(loaded) == state(obj)
            assert sharing(loaded) == sharing(pickle.loads(pickle.dumps(obj, 5)))
    queue.close()
    receiving.close()
    sending.close()


def test_nothing_is_looked_for_without_a_serializer(monkeypatch):
    sender, looked = fastipc.Queue(), []
    plain = fastipc.Queue(serializer=None)
    with pytest.raises(TypeError):
        plain.put(Plain(1))
    # What the code of an instance would look like to it.
    plain.put(_core.debug_encode(Plain(1))[1])
    monkeypatch.setattr(builtins, "__import__", lambda *args: looked.append(args))
    found = plain.get()
    monkeypatch.undo()
    assert type(found) is bytes
    assert looked == []
    sender.close()
    plain.close()


def child_of_main(queue, answers):
    """A child: sends instances back."""
    for _ in range(3):
        answers.put(queue.get())


def test_instances_pass_between_processes_of_each_start_method(ctx, children):
    queue, answers = ctx.Queue(), ctx.Queue()
    with children(child_of_main, queue, answers):
        for obj in (Point(1, 2), [Frozen(1, "x")], with_attributes(Empty(), p=Point(3, 4))):
            queue.put(obj)
            assert state(answers.get(timeout=30)) == state(obj)
    queue.close()
    answers.close()


MAIN = """
import sys
import fastipc

class OfMain:
    def __init__(self, x):
        self.x = x

def child(queue, answers):
    got = queue.get(timeout=30)
    assert type(got) is OfMain, type(got)
    answers.put([got, OfMain(got.x + 1)])

if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        ctx = fastipc.get_context(method)
        queue, answers = ctx.Queue(), ctx.Queue()
        process = ctx.Process(target=child, args=(queue, answers))
        process.start()
        queue.put(OfMain(5))
        one, other = answers.get(timeout=30)
        assert type(one) is type(other) is OfMain and (one.x, other.x) == (5, 6)
        process.join(30)
        assert process.exitcode == 0
"""


def test_classes_of_the_main_module_are_found_by_each_start_method(tmp_path):
    script = tmp_path / "main_script.py"
    script.write_text(MAIN)
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    subprocess.run([sys.executable, os.fspath(script)], check=True, timeout=120, env=environment)


class Changing(Plain):
    """From some number of changes on, 1,000 in 3.13, the interpreter gives it no version."""


def test_threads_put_and_get_instances_while_classes_change():
    queue = fastipc.Queue()
    stop = threading.Event()

    def change():
        while not stop.is_set():
            Changing.limit += 1

    def produce():
        for number in range(2000):
            queue.put([Changing(number), Point(number, "x")])

    calls = [Background(change), Background(produce)]
    try:
        for number in range(2000):
            plain, point = queue.get(timeout=30)
            assert type(plain) is Changing
            assert plain.first == (number,)
            assert point == Point(number, "x")
    finally:
        stop.set()
    for call in calls:
        call.result()
    queue.close()


def test_many_classes_and_shapes_take_turns(queue):
    module = types.ModuleType("fastipc_many_classes")
    sys.modules[module.__name__] = module
    try:
        classes = []
        for number in range(300):
            classes.append(type(f"C{number}", (), {"__module__": module.__name__}))
            setattr(module, f"C{number}", classes[-1])
        for turn in range(3):
            for number, cls in enumerate(classes):
                obj = cls()
                for each in range((number + turn) % 5):
                    setattr(obj, f"attribute_{(each * 7 + turn) % 9}", each)
                queue.put([obj, Plain(number)])
                found = queue.get()[0]
                assert type(found) is cls
                assert list(found.__dict__.items()) == list(obj.__dict__.items())
    finally:
        del sys.modules[module.__name__]


def test_more_instances_than_a_message_has_room_for_are_pickles(queue):
    for count in (1, 16, 17, 40, 300):
        objects = [
            with_attributes(Empty(), **{f"name_{number}": number}) for number in range(count)
        ]
        queue.put(objects)
        assert state(queue.get()) == state(objects)
        same = [Point(number, number) for number in range(count)]
        queue.put(same)
        assert queue.get() == same


# ---- damaged messages ----


def damaged_messages():
    """Codes of instances that stand for nothing."""
    name = __name__.encode()
    names = bytes([len(name)]) + name + b"\x05Point\x01x\x01y"
    head = b"@\x02" + len(names).to_bytes(2, "little") + names
    good = b"\xc4" + head[1:] + b"b\x01b\x02"
    again = b"\xdf\x02" + head + b"b\x01b\x02a"  # a list of two
    return (
        {
            "without the mark": b"\xc0" + good[1:],
            "flat": b"@" + good[1:],
            "in what has no instances": b"\xdb\x01" + head + b"b\x01b\x02",
            "no such header": again + b"\x01b\x01b\x02",
            "like what comes later": b"\xdf\x01a\x00b\x01b\x02",
            "too few values": good[:-2],
            "too many values": good + b"b\x01",
            "a name twice": good.replace(b"\x01x\x01y", b"\x01x\x01x"),
            "a name of no ASCII": good.replace(b"\x01x\x01y", b"\x01\xff\x01y"),
            "a long name": good.replace(b"\x01x\x01y", b"\x01x\xffy"),
            "another count": b"\xc4\x03" + good[2:] + b"N",
            "a smaller count": b"\xc4\x01" + good[2:-2],
            "a count past all limits": b"\xc4\xff" + good[2:],
            "no module": b"\xc4\x00\x02\x00\x00\x00",
            "no names": b"\xc4\x00\x00\x00",
            "names past the end": b"\xc4\x00\xff\xff" + names,
            "as a key": b"\xff\x01" + head + b"b\x01b\x02N",
            "cut in the header": good[:3],
        },
        good,
        again + b"\x00b\x03b\x04",
    )


@pytest.mark.parametrize("name", damaged_messages()[0])
def test_codes_of_instances_that_stand_for_nothing_are_an_os_error(name):
    bad, good, again = damaged_messages()
    for _ in range(2):
        with pytest.raises(OSError):
            _core.debug_decode(CODED, bad[name])
        assert _core.debug_decode(CODED, good) == Point(1, 2)
        assert _core.debug_decode(CODED, again) == [Point(1, 2), Point(3, 4)]


def test_a_message_with_instances_that_is_cut_or_changed_anywhere_is_an_error_or_an_object():
    obj = [Point(1, "text"), {"key": Plain(1, 2)}, Point(2, "text"), Empty()]
    tag, data = _core.debug_encode(obj)
    assert tag == CODED
    for length in range(len(data)):
        with pytest.raises(OSError):
            _core.debug_decode(tag, data[:length])
    with pytest.raises(OSError):
        _core.debug_decode(tag, data + b"N")
    for at in range(len(data)):
        for byte in (
            0,
            1,
            2,
            3,
            64,
            127,
            128,
            255,
            data[at] ^ 1,
            data[at] ^ 128,
            ord("a"),
            ord("@"),
        ):
            changed = data[:at] + bytes([byte]) + data[at + 1 :]
            # Another name may be that of nothing, or of another class.
            with contextlib.suppress(OSError, AttributeError, ImportError, TypeError, ValueError):
                _core.debug_decode(tag, changed)
            with contextlib.suppress(OSError):
                _core._pickle_of(changed)
    assert state(_core.debug_decode(tag, data)) == state(obj)
