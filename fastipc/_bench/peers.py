"""The libraries that are compared, each behind the same small interface.

A peer makes channels (queues, or pipes); a part of a case asks a channel for its end, in the
process that will use it. One that lacks something raises UnsupportedError, and the case is
reported as absent for that peer. Owns the interface, and the modules that can be imported in the
place of multiprocessing; all others are in `adapters`.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar


class UnsupportedError(Exception):
    """This peer is not installed, or does not have what the case needs."""


@dataclass(frozen=True)
class Need:
    """What a case needs of a channel; peers with a fixed size or a limit are sized by it.

    `content` is "objects" (of any kind), "bytes" (all of exactly `item_bytes`) or "arrays" (NumPy
    float64 arrays of `item_bytes`). For objects, `item_bytes` is what their pickles take at most.
    `backlog` is how many items must fit while nobody takes any; 0: it does not matter.
    """

    content: str = "objects"
    item_bytes: int = 64
    maxsize: int = 0
    backlog: int = 0
    senders: int = 1
    receivers: int = 1
    # How many received arrays are kept by each receiver.
    held: int = 0


class Channel:
    """A queue between processes, before it is known who uses which end.

    `encode` and `decode` are what the user of a library that moves only bytes has to call himself
    for each message: the benchmarks call them in their loops, without a function around them.
    """

    encode: Callable[[Any], Any] | None = None
    decode: Callable[[Any], Any] | None = None
    # Whether a forked child can go on with what its parent used.
    inherited: ClassVar[bool] = True

    def __init__(self, queue: Any = None) -> None:
        self.queue = queue

    def sender(self, index: int = 0) -> Any:
        """Return what has put(), for the sender with this number; called in its process."""
        return self.queue

    def receiver(self, index: int = 0) -> Any:
        """Return what has get(), for the receiver with this number; called in its process."""
        return self.queue

    def close(self) -> None:
        """Close it where it was made."""
        close = getattr(self.queue, "close", None)
        if close is not None:
            close()


class PipeOfQueues:
    """Two channels of bytes as a Pipe, for libraries that have queues and no pipes."""

    def __init__(self, there: Channel, back: Channel | None) -> None:
        self._channels = (there, back)

    def end(self, number: int) -> Any:
        """Return an end; the second one sends, and if it is duplex, the first one too.

        Called in the process that will use it.
        """
        there, back = self._channels
        outward, inward = (there, back) if number == 1 else (back, there)
        end = _End()
        # The receiving side first: with some libraries it has to be there when the other sends.
        if inward is not None:
            end.recv_bytes = inward.receiver().get
        if outward is not None:
            end.send_bytes = outward.sender().put
        return end

    def close(self) -> None:
        """Close what is no longer needed where it was made: nothing, as everybody shares it."""


class _End:
    send_bytes: Callable[[Any], Any]
    recv_bytes: Callable[[], Any]


class Pipe:
    """A pipe with two ends that are inherited; each process closes the one that it does not use."""

    def __init__(self, ends: tuple[Any, Any]) -> None:
        self._ends = ends

    def end(self, number: int) -> Any:
        """Return an end, having closed the other."""
        self._ends[1 - number].close()
        return self._ends[number]

    def close(self) -> None:
        """Close both ends, where they were made."""
        for end in self._ends:
            end.close()


class Peer:
    """What a case may ask of a library. Subclasses implement what theirs has."""

    # What is imported, if that is not the peer's name, and the distribution that has it.
    module: ClassVar[str] = ""
    distribution: ClassVar[str] = ""
    # Whether channels can only be inherited, and not be pickled.
    fork_only: ClassVar[bool] = True
    # Whether arrays arrive as plain memory of a type and size that was agreed on before.
    raw_arrays: ClassVar[bool] = False

    def __init__(self, name: str, start_method: str, scratch: Path) -> None:
        self.name = name
        self.scratch = scratch
        self._start_method = start_method
        if self.fork_only and start_method != "fork":
            raise UnsupportedError(f"what {name} makes can only be inherited, by a fork")
        self.library: Any = import_module(self.module or name)

    def __reduce__(self) -> tuple[Any, ...]:
        return load, (self.name, self._start_method, self.scratch)

    def queue(self, need: Need) -> Channel:
        """Return a channel for what is needed."""
        raise UnsupportedError(f"{self.name} has no queue")

    def joinable(self, need: Need) -> Channel:
        """Return one whose receivers have task_done()."""
        raise UnsupportedError(f"{self.name} has no task_done()")

    def pipe(self, duplex: bool = True, need: Need | None = None) -> Any:
        """Return what has end(0), that receives, and end(1), that sends; or both do both."""
        need = need or Need(content="bytes")
        return PipeOfQueues(self.queue(need), self.queue(need) if duplex else None)

    def make_pipe(self, duplex: bool = True) -> tuple[Any, Any]:
        """Return two connected ends, as multiprocessing.Pipe() does."""
        raise UnsupportedError(f"{self.name} has no pipe")

    def unique_name(self) -> str:
        """Return a name for something outside this process; clean_up() removes what has it."""
        self._made = getattr(self, "_made", 0) + 1
        return f"{self.scratch.name}{self._made:x}"


class MultiprocessingLike(Peer):
    """A module that can be imported in the place of multiprocessing."""

    fork_only = False

    def __init__(self, name: str, start_method: str, scratch: Path) -> None:
        super().__init__(name, start_method, scratch)
        self.context = self.library.get_context(start_method)

    def queue(self, need: Need) -> Channel:
        return Channel(self.context.Queue(need.maxsize))

    def joinable(self, need: Need) -> Channel:
        return Channel(self.context.JoinableQueue(need.maxsize))

    def pipe(self, duplex: bool = True, need: Need | None = None) -> Any:
        first, second = self.context.Pipe(duplex)
        return Pipe((first, second))

    def make_pipe(self, duplex: bool = True) -> tuple[Any, Any]:
        first, second = self.context.Pipe(duplex)
        return first, second


def import_module(name: str) -> Any:
    """Import a library. Raises UnsupportedError."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UnsupportedError(f"{name} cannot be imported: {error}") from error


def load(name: str, start_method: str, scratch: Path) -> Peer:
    """Return the peer with this name; what it leaves outside of processes is named by `scratch`.

    Every name that is not an adapter's is that of a module like multiprocessing. Raises
    UnsupportedError.
    """
    from fastipc._bench.adapters import ADAPTERS

    kind: type[Peer] = ADAPTERS.get(name, MultiprocessingLike)
    return kind(name, start_method, scratch)


def version(name: str) -> str | None:
    """Return the installed version of a peer, None if it has none of its own."""
    from fastipc._bench.adapters import ADAPTERS

    if name == "fastipc":
        return str(import_module(name).__version__)
    peer = ADAPTERS.get(name)
    distribution = peer.distribution if peer is not None else name
    try:
        return metadata.version(distribution) if distribution else None
    except metadata.PackageNotFoundError:
        return None


def clean_up(scratch: Path) -> None:
    """Remove whatever a peer left: libraries that were killed do not do so themselves."""
    shutil.rmtree(scratch, ignore_errors=True)
    for folder in ("/dev/shm", "/dev/mqueue"):
        for name in _listed(folder):
            if scratch.name in name:
                try:
                    os.unlink(os.path.join(folder, name))
                except OSError:
                    pass


def _listed(folder: str) -> Sequence[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return ()
