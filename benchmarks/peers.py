"""The libraries that are compared, each behind the same small interface.

A peer makes queues and pipes; whatever it makes has the methods that multiprocessing's have. One
that lacks something raises UnsupportedError, and the case is reported as absent for that peer.
"""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import Any


class UnsupportedError(Exception):
    """This peer is not installed, or does not have what the case needs."""


class Peer:
    """What a case may ask of a library. Subclasses implement what theirs has."""

    def __init__(self, name: str) -> None:
        self.name = name

    def queue(self, maxsize: int = 0) -> Any:
        """Return a queue with put(), get() and close()."""
        raise UnsupportedError(f"{self.name} has no queue")

    def pipe(self, duplex: bool = True) -> tuple[Any, Any]:
        """Return two connected ends, as multiprocessing.Pipe() does."""
        raise UnsupportedError(f"{self.name} has no pipe")


class MultiprocessingLike(Peer):
    """A module that can be imported in the place of multiprocessing."""

    def __init__(self, name: str, start_method: str) -> None:
        super().__init__(name)
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            raise UnsupportedError(f"{name} cannot be imported: {error}") from error
        self._context = module.get_context(start_method)

    def queue(self, maxsize: int = 0) -> Any:
        return self._context.Queue(maxsize)

    def pipe(self, duplex: bool = True) -> tuple[Any, Any]:
        first, second = self._context.Pipe(duplex)
        return first, second


# Peers that are not multiprocessing under another name: their name and their class, which is
# called with the name. Every other name is that of a module like multiprocessing.
ADAPTERS: dict[str, type[Peer]] = {}


def load(name: str, start_method: str) -> Peer:
    """Return the peer with this name. Raises UnsupportedError."""
    if name in ADAPTERS:
        return ADAPTERS[name](name)
    return MultiprocessingLike(name, start_method)


def version(name: str) -> str | None:
    """Return the installed version of a peer, None if it has none of its own."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
