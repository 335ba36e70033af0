"""What the crash tool can kill: an operation, its preparation, and what may be left of it.

Knows neither ptrace nor fastipc: `harness.py` runs operations, `operations.py` defines them.
"""

from __future__ import annotations

import contextlib
import reprlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from .harness import Laboratory
    from .processes import Link

BEFORE = "before"
AFTER = "after"


class Violation(Exception):
    """What was found after a kill is neither the state before nor the state after."""


class OtherWay(Violation):
    """A process took another way than it was recorded on, and ended where it was to be killed."""


@contextlib.contextmanager
def during(name: str) -> Iterator[None]:
    """Names, in the message of a Violation, what was being done."""
    try:
        yield
    except Violation as violation:
        raise Violation(f"{name}: {violation}") from None
    except (AssertionError, OSError, EOFError, ValueError) as error:
        raise Violation(f"{name}: {type(error).__name__}: {error}") from error


@dataclass
class Reports:
    """What the processes that were not killed have found."""

    survivor: Any = None
    fresh: Any = None
    peer: Any = None

    @property
    def lost(self) -> int:
        """Messages that stats() counts as lost, where the operation asks."""
        return self.fresh.get("lost", 0) if isinstance(self.fresh, dict) else 0


class Operation(ABC):
    """One run of one operation on an object of its own; a new instance for every kill.

    prepare() runs in the parent, which then forks everybody else: the survivor and the peer
    (attached before the kill), the victim, and after the kill the fresh process.
    """

    name: ClassVar[str]
    minimum: ClassVar[int] = 150
    """Fewer instructions inside than this: the operation is too short to mean anything."""
    has_peer: ClassVar[bool] = False
    peer_sleeps: ClassVar[bool] = False
    """The victim acts only once the peer sleeps in the call that it made in assist()."""
    peer_ends_first: ClassVar[bool] = False
    """The peer ends behind the survivor, before the fresh process begins."""
    changes_state: ClassVar[bool] = True
    """Kills before the operation's effect and after it are both expected to be seen."""
    loses: ClassVar[bool] = False
    """What the victim took dies with it, and stats() must say so behind some of the kills."""
    falls_asleep: ClassVar[bool] = False
    """The victim sleeps in the kernel on the way: it is killed there, too."""
    left_out: ClassVar[tuple[str, ...]] = ()
    """Source files in which, and in what of libc is called there, it is not killed."""
    has_threads: ClassVar[bool] = False
    """The victim has a further thread inside: it cannot run freely while it is recorded."""

    @classmethod
    def variants(cls, laboratory: Laboratory) -> Sequence[Callable[[], Operation]]:
        """Returns what makes the instances; the points are spread over all of them."""
        return [cls]

    @abstractmethod
    def module_path(self) -> str:
        """Returns the file whose instructions count."""

    def settle(self) -> None:  # noqa: B027 - most operations choose nothing by time
        """Parent, before prepare(): what is else chosen by time is the same in every run."""

    @abstractmethod
    def prepare(self, laboratory: Laboratory) -> None:
        """Parent: makes the object and the state before."""

    def attach(self) -> None:  # noqa: B027 - nothing to attach is a legitimate default
        """Survivor, peer, victim: a first use, so that it is no part of the operation."""

    def attach_victim(self) -> None:
        """Victim: as attach(), unless attaching is the operation."""
        self.attach()

    def warm_victim(self) -> None:  # noqa: B027 - nothing to warm is a legitimate default
        """Victim, before the operation: what a process does once, and other operations show."""

    def let_go(self) -> None:  # noqa: B027 - most objects are everybody's
        """Parent, before the victim acts: gives up what only the victim shall have."""

    @abstractmethod
    def act(self) -> None:
        """Victim: the operation."""

    def assist(self, link: Link) -> Any:
        """Peer: takes part in the operation and reports when it is over."""
        raise NotImplementedError

    @abstractmethod
    def survive(self) -> Any:
        """Survivor, after the kill: puts, gets, reports."""

    @abstractmethod
    def arrive(self) -> Any:
        """Fresh process, after the survivor: puts, gets what is left, reports."""

    @abstractmethod
    def judge(self, reports: Reports) -> str:
        """Parent: returns BEFORE or AFTER, or raises Violation."""

    def close(self) -> None:  # noqa: B027 - nothing to close is a legitimate default
        """Parent: releases the object."""


@dataclass(frozen=True)
class State:
    """A queue's content that a kill may leave: labels in order, and tasks not done."""

    label: str
    items: tuple[str, ...]
    unfinished: int | None = None


@dataclass
class Catalog:
    """The values that are in play, each under a short label, so that reports stay small."""

    values: dict[str, object] = field(default_factory=dict)
    makers: dict[str, Callable[[], object]] = field(default_factory=dict)
    """Of large values, which are made for the operations that have them in play: each fork copies
    what its parent has.
    """

    def value(self, label: str) -> object:
        """Returns the value of that label, and makes it when it is first asked for."""
        if label not in self.values:
            self.values[label] = self.makers[label]()
        return self.values[label]

    def label(self, value: object) -> str:
        for label, known in self.values.items():
            if type(known) is type(value) and known == value:
                return label
        return f"corrupt:{type(value).__name__}:{reprlib.repr(value)}"


def match(states: Sequence[State], items: Sequence[str], unfinished: int | None) -> str:
    """Returns the label of the state that was found, or raises Violation."""
    for state in states:
        if tuple(items) == state.items and (
            state.unfinished is None or state.unfinished == unfinished
        ):
            return state.label
    found = list(items) if unfinished is None else f"{list(items)}, {unfinished} unfinished"
    allowed = " or ".join(
        f"{list(s.items)}" + ("" if s.unfinished is None else f", {s.unfinished} unfinished")
        for s in states
    )
    raise Violation(f"found {found}, expected {allowed}")
