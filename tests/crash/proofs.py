"""Subjects whose answer is known, on which the crash tool proves itself.

A toy in C, sound and broken on purpose, and the standard library's SimpleQueue, whose
readers wait for ever for a reader that was killed.
"""

from __future__ import annotations

import _multiprocessing  # type: ignore[import-not-found]
import ctypes
import mmap
import multiprocessing
from pathlib import Path
from typing import Any, ClassVar

from .channels import SimpleQueueChannel
from .operation import AFTER, BEFORE, Catalog, Operation, Reports, State, Violation, match
from .stepper import build_shared_object

PROOF_SOURCE = Path(__file__).with_name("proof.c")
_STEP = 7
_BYTES = 1 << 17  # more than sizeof(struct proof)


class ProofMemory:
    """The toy's library and its shared memory."""

    def __init__(self, *flags: str) -> None:
        self.path = build_shared_object(PROOF_SOURCE, *flags)
        self.library = ctypes.CDLL(str(self.path))
        self.memory = mmap.mmap(-1, _BYTES)
        self._anchor = ctypes.c_char.from_buffer(self.memory)
        self.address = ctypes.c_void_p(ctypes.addressof(self._anchor))

    def word(self, index: int) -> int:
        """Returns the index-th 64-bit word of the shared memory."""
        return int.from_bytes(self.memory[8 * index : 8 * index + 8], "little")

    def close(self) -> None:
        del self._anchor
        self.memory.close()


class ProofAdd(Operation):
    """Adds to the sum; a sound lock and two copies survive any kill."""

    name = "proof-add"
    minimum = 30
    flags: ClassVar[tuple[str, ...]] = ()
    proof: ProofMemory

    def module_path(self) -> str:
        return str(build_shared_object(PROOF_SOURCE, *self.flags))

    def prepare(self, laboratory: object) -> None:
        self.proof = ProofMemory(*self.flags)
        self._add()

    def _add(self) -> None:
        if self.proof.library.proof_add(self.proof.address, ctypes.c_uint64(_STEP)):
            raise Violation("the lock was never free")

    def _read(self) -> tuple[int, int]:
        count, total = ctypes.c_uint64(), ctypes.c_uint64()
        library = self.proof.library
        if library.proof_read(self.proof.address, ctypes.byref(count), ctypes.byref(total)):
            raise Violation("the lock was never free")
        return count.value, total.value

    def act(self) -> None:
        self._add()

    def survive(self) -> tuple[int, int]:
        found = self._read()
        self._add()
        return found

    def arrive(self) -> tuple[int, int]:
        self._add()
        return self._read()

    def judge(self, reports: Reports) -> str:
        count, total = reports.survivor
        if total != count * _STEP or count not in (1, 2):
            raise Violation(f"half a state: {count} additions, sum {total}")
        if reports.fresh != (count + 2, total + 2 * _STEP):
            raise Violation(f"{reports.fresh} after {reports.survivor} and two additions")
        return AFTER if count == 2 else BEFORE

    def close(self) -> None:
        self.proof.close()


class ProofAddOneCopy(ProofAdd):
    """Broken: a kill between two stores leaves half a state."""

    name = "proof-add-one-copy"
    flags = ("-DPROOF_ONE_COPY",)


class ProofAddNoTakeover(ProofAdd):
    """Broken: nobody takes the lock of a dead owner."""

    name = "proof-add-no-takeover"
    flags = ("-DPROOF_NO_TAKEOVER",)


class StandardSimpleQueueGet(Operation):
    """multiprocessing.SimpleQueue.get(): a reader killed with the lock locks everyone out."""

    name = "standard-simplequeue-get"
    minimum = 60
    channel: SimpleQueueChannel

    def module_path(self) -> str:
        return str(_multiprocessing.__file__)

    def prepare(self, laboratory: object) -> None:
        self.catalog = Catalog({"one": 1, "two": 2, "three": 3, "survivor": "s", "fresh": "f"})
        queue: Any = multiprocessing.get_context("fork").SimpleQueue()
        self.channel = SimpleQueueChannel(queue, checked=False)
        for label in ("one", "two", "three"):
            self.channel.put(self.catalog.values[label])

    def act(self) -> None:
        self.channel.get()

    def survive(self) -> list[str]:
        self.channel.put("s")
        return [self.catalog.label(self.channel.get())]

    def arrive(self) -> list[str]:
        self.channel.put("f")
        found = [self.catalog.label(self.channel.get())]
        while found[-1] != "fresh":
            found.append(self.catalog.label(self.channel.get()))
        return found

    def judge(self, reports: Reports) -> str:
        added = ("survivor", "fresh")
        states = [
            State(BEFORE, ("one", "two", "three", *added)),
            State(AFTER, ("two", "three", *added)),
        ]
        return match(states, reports.survivor + reports.fresh, None)

    def close(self) -> None:
        self.channel.close()


PROOFS: tuple[type[Operation], ...] = (
    ProofAdd,
    ProofAddOneCopy,
    ProofAddNoTakeover,
    StandardSimpleQueueGet,
)
