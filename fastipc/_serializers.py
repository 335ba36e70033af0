"""What a queue or pipe encodes with: the default, and what the user gives.

Owns the check of what is given and how it travels with the handle.  What it is called for is the
extension's (_serializers.pxi).
"""

from __future__ import annotations

import importlib
from types import ModuleType


class _Pickle:
    """The default: pickle, with a shorter way for plain values.  There is one, PICKLE."""

    def __repr__(self):
        return "fastipc's pickle"

    def __reduce__(self):
        return "PICKLE"


PICKLE = _Pickle()


def checked(serializer):
    """Return the serializer.  Raises TypeError for what is none."""
    if serializer is not None and serializer is not PICKLE:
        for name in ("dumps", "loads"):
            if not callable(getattr(serializer, name, None)):
                raise TypeError(
                    "serializer must have dumps() and loads(), or be None for bytes only; "
                    f"{serializer!r} has no {name}()"
                )
    return serializer


class _Module:
    """A module on its way to another process: modules do not pickle, but have names."""

    def __init__(self, name):
        self.name = name


def packed(serializer):
    """Return what travels in the place of the serializer."""
    return _Module(serializer.__name__) if isinstance(serializer, ModuleType) else serializer


def unpacked(travelled):
    """Return the serializer in whose place this has travelled."""
    if isinstance(travelled, _Module):
        return importlib.import_module(travelled.name)
    return travelled
