"""The classes whose instances the fuzzer's messages may name: ordinary ones, such as pickle alone
knows how to make, such as refuse, and one that changes between two messages and in the middle of
one. Of codec_driver.py, which says what is done with a message; runs inside of the fuzzer only.
"""

from __future__ import annotations

import abc
import gc
import pickle
import struct
import sys
import types
from collections.abc import Callable
from typing import Any

# The end of a pickle that is only a name, with which a codec may look a class up.
LOOK_UP = pickle.STACK_GLOBAL + pickle.STOP
MODULE = sys.modules[__name__]


def show(self: object) -> str:
    """Stand in for __repr__: looks at every attribute."""
    try:
        return repr(object.__getattribute__(self, "__dict__"))
    except AttributeError:
        return "no attributes"


def fill(self: Any, state: dict[str, Any]) -> None:
    """Stand in for __setstate__."""
    vars(self).update(state)


class Shown:
    """Has the __repr__ of all of them."""

    __repr__ = show


# ---- plain ----


class Point(Shown):
    """An object of an ordinary class."""

    def __init__(self, *values: object, **more: object) -> None:
        self.__dict__.update({"xyzuvw"[at]: value for at, value in enumerate(values)}, **more)


class Outer(Shown):
    """A class that has another one."""

    class Inner(Shown):
        """Found in two steps."""

    number = 5


class Abstract(Shown, abc.ABC):
    """The one other metaclass that is known."""


class Guarded(Shown):
    """Code stands in the way of an attribute: it must not run."""

    @property
    def x(self) -> object:
        """Refuse: what is read from here was written by somebody else."""
        raise AssertionError("code of a plain class was run")

    @x.setter
    def x(self, value: object) -> None:
        raise AssertionError("code of a plain class was run")


class Empty(Shown):
    """Has no slots, and says so."""

    __slots__ = ()
    __slotnames__: list[str] = []  # noqa: RUF012 - what copyreg would note


# ---- for pickle ----


class Slotted:
    """Has no __dict__."""

    __slots__ = ("x", "y")
    __repr__ = show


class Dicted:
    """Has nothing but a __dict__, which is a slot."""

    __slots__ = ("__dict__",)
    __repr__ = show


class Noted(Shown):
    """Has slots, so copyreg has noted."""

    __slotnames__: list[str] = ["x"]  # noqa: RUF012 - what copyreg would note


class Stateful(Shown):
    """Takes its state itself."""

    __setstate__ = fill


class Refusing(Shown):
    """Does not take it."""

    def __setstate__(self, state: object) -> None:
        raise ValueError("on purpose")


class Hidden(Shown):
    """Does not even say whether it takes one."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError("on purpose")


class Constructed(Shown):
    """Cannot be made without arguments."""

    def __new__(cls, argument: object) -> Constructed:
        """Refuse to be called without one."""
        return super().__new__(cls)


class Faking(Shown):
    """Has something else for a __dict__."""

    __dict__ = property(lambda self: [])  # type: ignore[assignment]


class Reduced(Shown):
    """Says how it is pickled."""

    def __reduce__(self) -> Any:
        """Say nothing in particular."""
        return Reduced, ()


class Number(int):
    """An int with attributes."""


class Meta(type):
    """A metaclass that nobody knows."""


class Metal(Shown, metaclass=Meta):
    """A class of that."""


class Meddling(Shown):
    """Does what it can in the middle of a message."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        # What is half made would have members that are none.
        for each in gc.get_objects(0):
            if isinstance(each, (tuple, list)):
                for member in each:
                    type(member)
        change(len(state))
        decode_kept()
        gc.collect(0)
        change(len(state) + 32)
        decode_kept()
        change(0)
        fill(self, state)


Iterator = type(iter([]))  # has no tp_new
Changing: Any = None

PLAIN = (Point, Abstract, Guarded, Empty)
FOR_PICKLE = (
    "Slotted", "Dicted", "Noted", "Stateful", "Refusing", "Hidden", "Constructed", "Faking",
    "Reduced", "Number", "Metal", "Meddling", "Iterator", "show", "LOOK_UP", "missing",
    "Outer.missing", "Outer.number", "Outer.number.real", "Outer.Inner", "Outer.Inner.Deeper",
)  # fmt: skip
NAMES = {*(kind.__name__ for kind in PLAIN), *FOR_PICKLE, "Changing"} - {"LOOK_UP"}


class OnlyOurs(pickle.Unpickler):
    """Finds the classes of this file, and runs nothing else's code."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse all other names, as pickle refuses one that is not there."""
        if module != __name__ or name not in NAMES:
            raise AttributeError(f"{module}.{name}")
        found: Any = MODULE
        for part in name.split("."):
            found = getattr(found, part)
        return found


# ---- what changes ----

KEPT: list[Callable[[], object]] = []  # decodes a message with instances


def decode_kept() -> None:
    """Decode another message, whatever comes of it."""
    try:
        repr(KEPT[0]())
    except (SystemError, AssertionError):
        raise
    except Exception:
        return


def _fresh(**attributes: object) -> type:
    names = {"__module__": __name__, "__qualname__": "Changing", "__repr__": show}
    return type("Changing", (), {**names, **attributes})


def _in_place(name: str, value: object, *, remains: bool = True) -> None:
    setattr(Changing, name, value)
    if not remains:
        delattr(Changing, name)


def _replace(value: object) -> None:
    global Changing
    Changing = value


def _put_module(value: object) -> None:
    if value is None:
        del sys.modules[__name__]
    else:
        sys.modules[__name__] = value  # type: ignore[assignment]


def _refuse_names(event: str, arguments: object) -> None:
    if event == "pickle.find_class" and refuses[0]:
        raise RuntimeError("on purpose")


refuses = [False]
sys.addaudithook(_refuse_names)
INNER = Outer.Inner

CHANGES: tuple[Callable[[], object], ...] = (
    lambda: None,
    lambda: _replace(_fresh()),
    lambda: _replace(_fresh(__setstate__=fill)),
    lambda: _replace(_fresh(__slots__=("x", "y"))),
    lambda: _replace(5),
    lambda: MODULE.__delattr__("Changing"),
    lambda: _in_place("__setstate__", fill),
    lambda: _in_place("x", property()),
    lambda: _in_place("y", 5, remains=False),
    lambda: _in_place("__reduce_ex__", Reduced.__reduce__),
    lambda: setattr(Changing, "__module__", "elsewhere"),
    lambda: refuses.__setitem__(0, True),
    lambda: _put_module(None),
    lambda: _put_module(types.SimpleNamespace(Changing=Changing, Point=Point)),
    lambda: setattr(Outer, "Inner", Meta("Inner", (), {"Deeper": Point})),
    lambda: delattr(Outer, "Inner"),
)


def change(number: int) -> None:
    """Bring all classes into one of 16 states, the first of which is a new one for `Changing`;
    those from 32 on begin with the class that is there.
    """
    _put_module(MODULE)
    refuses[0] = False
    if Outer.__dict__.get("Inner") is not INNER:
        Outer.Inner = INNER  # type: ignore[misc]
    if number < 32 or not isinstance(globals().get("Changing"), type):
        _replace(_fresh())
    CHANGES[number % 16]()


change(0)

# ---- messages ----


def header(module: str, name: str, keys: tuple[str, ...]) -> bytes:
    """Return what an instance's code begins with, which nobody has checked."""
    texts = [text.encode() for text in (module, name, *keys)]
    names = b"".join(bytes([len(text)]) + text for text in texts)
    return b"@" + struct.pack("<BH", len(keys), len(names)) + names


def _deep(code: bytes) -> bytes:
    return bytes([code[0] | 0x84]) + code[1:]


def objects() -> list[Any]:
    """Return what the codec makes messages of."""
    many = Point(**{f"attribute{at}": at for at in range(28)})
    more = Point(**{f"attribute{at}": at for at in range(40)})
    inner = Outer.Inner()
    inner.x = inner.y = "shared"  # type: ignore[attr-defined]
    made: list[Any] = [kind() for kind in (Abstract, Changing)]
    for at, each in enumerate(made):
        each.x, each.y = at, [each.__class__.__name__]
    return [
        Point(1, "two"), [Point(i, {"x": i}) for i in range(4)], {"p": Point(None, ())}, Point(),
        Point(Point(Point(1, 2), [Point(3)]), "s"), inner, [inner, Point("shared", inner)], many,
        more, *made, (made, Point(*made)),
    ]  # fmt: skip


def messages() -> list[bytes]:
    """Return coded messages such as no encoder of ours would write."""
    none, pair = b"N", b"b\x01s\x03two"
    found = []
    for name in sorted({*NAMES, "LOOK_UP"}):
        for keys, values in (((), b""), (("x",), none), (("x", "y"), pair)):
            code = header(__name__, name, keys) + values
            found.append(_deep(code))
            # Behind another one of the same class, and in a list with a kept one.
            found.append(_deep(b"[\x03") + 2 * code + b"a\x00" + values)
    for keys in (("__dict__",), ("__class__",), ("__weakref__",), ("x", "x"), ("",), ("",) * 2,
                 tuple(f"k{at}" for at in range(64)), tuple(f"k{at}" for at in range(65)),
                 tuple(f"{at:040}" for at in range(30))):  # fmt: skip
        found.append(_deep(header(__name__, "Point", keys) + none * len(keys)))
    names = ["", "Pöint", ".Point", "Outer..Inner"]
    for module, name in (("", "Point"), ("nowhere", "Point"), ("builtins", "int"),
                         *((__name__, name) for name in names)):  # fmt: skip
        found.append(_deep(header(module, name, ("x",)) + none))
    whole = _deep(header(__name__, "Point", ("x",)) + none)
    found += [whole[:end] for end in range(1, len(whole))] + [whole + none]
    found.append(_deep(b"[\x02" + whole.replace(b"\xc4", b"@")) + b"a\x01" + none)
    # Lengths of names that are too short, and too long.
    found += [whole.replace(b"\x01x", bytes([size]) + b"x") for size in (0, 2, 3, 200)]
    return found


def changing() -> list[bytes]:
    """Return messages of which each is to be decoded before a change and after it."""
    pair = b"b\x01s\x03two"
    codes = [header(__name__, "Changing", ("x", "y")) + pair, header(__name__, "Changing", ()),
             header(__name__, "Outer.Inner", ("x", "y")) + pair,
             header(__name__, "Outer.Inner.Deeper", ()),
             header(__name__, "Meddling", tuple("abcdefgh")) + 4 * pair]  # fmt: skip
    first, *_, last = codes
    return [
        *(_deep(code) for code in codes),
        _deep(b"[\x03") + first + last + b"a\x00" + pair,
        _deep(b"(\x03") + last + b"{\x01s\x01a" + last + first,
    ]
