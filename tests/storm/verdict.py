"""The promise, as arithmetic: from what producers, consumers and the library's own counts say,
which messages came how often and in which order, and whether what is missing may be missing.

Pure functions on NumPy arrays of ledger entries (sender << 32 | number); test_verdict.py feeds
them with fabricated ledgers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Entries = Any  # np.ndarray of uint64


@dataclass
class Sender:
    """What a producer's thread has noted: puts of messages 0 to `begun` - 1 had begun, and those
    of 0 to `ended` - 1 had returned.
    """

    begun: int
    ended: int


@dataclass
class Books:
    """All that is known at the end of a round."""

    senders: dict[int, Sender] = field(default_factory=dict)
    # What each consumer's thread has got, in its order.
    logs: dict[str, Entries] = field(default_factory=dict)
    # What was left and the supervisor has taken out, after all consumers had ended.
    drained: Entries = field(default_factory=lambda: np.zeros(0, np.uint64))
    # How many messages the dead may have had in hand: for each thread that was inside a get, one,
    # or a batch.
    in_hand: int = 0
    # How many gets have said that nothing is left and nothing more comes.
    ends_seen: int = 0
    # How many messages an immediate shutdown has given up; None: there was none.
    given_up: int | None = None
    # The library's counts, or None.
    puts: int | None = None
    lost: int | None = None
    given: int | None = None


@dataclass
class Figures:
    """What came of it, in numbers."""

    put: int = 0
    received: int = 0
    drained: int = 0
    missing: int = 0
    lost: int = 0
    given_up: int = 0

    def add(self, other: Figures) -> None:
        """Add those of another way or round."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


def judge(books: Books) -> tuple[Figures, list[str]]:
    """Return the figures, and each breach of the promise in a sentence."""
    failures: list[str] = []
    parts = [*books.logs.values(), books.drained]
    everything = np.concatenate(parts) if parts else np.zeros(0, np.uint64)
    seen, counts = np.unique(everything, return_counts=True)
    for entry, count in zip(seen[counts > 1][:5], counts[counts > 1][:5]):
        failures.append(f"{_name(entry)} came {count} times")
    for who, log in [*books.logs.items(), ("the supervisor", books.drained)]:
        failures += _out_of_order(who, log)
    failures += _overtaken(books)
    figures = Figures(received=len(everything) - len(books.drained), drained=len(books.drained))
    returned = in_flight_seen = least_puts = most_puts = holes = 0
    unknown = set((seen >> np.uint64(32)).tolist()) - set(books.senders)
    if unknown:
        failures.append(f"messages came of senders that do not exist: {sorted(unknown)[:5]}")
    for number, sender in books.senders.items():
        begin, middle, end = np.searchsorted(
            seen,
            np.array([number << 32, number << 32 | sender.ended, (number + 1) << 32], np.uint64),
        )
        last = int(seen[end - 1]) & 0xFFFFFFFF if end > begin else -1
        if last >= sender.begun:
            failures.append(
                f"message {last} of sender {number} came, who had begun only {sender.begun}"
            )
        returned += int(middle - begin)
        in_flight_seen += int(end - middle)
        # A batch goes in from its beginning on: what is before the last one seen was put.
        least_puts += max(sender.ended, last + 1)
        holes += last + 1 - int(end - begin)
        most_puts += sender.begun
    ended = sum(sender.ended for sender in books.senders.values())
    missing = ended - returned
    if books.puts is not None:
        if not least_puts <= books.puts <= most_puts:
            failures.append(
                f"{books.puts} puts are counted; {least_puts} have happened, {most_puts} had begun"
            )
        missing = books.puts - len(seen)
    figures.put = ended + in_flight_seen if books.puts is None else books.puts
    figures.missing = missing
    figures.given_up = books.given_up or 0
    failures += _behind_the_end(books, holes)
    if max(missing, ended - returned) > books.in_hand + figures.given_up:
        failures.append(
            f"{missing} messages are missing ({ended - returned} of puts that had returned), and "
            f"those killed inside a get can have had {books.in_hand} in hand at most"
            + (f", and {books.given_up} were given up" if books.given_up is not None else "")
            + _some_missing(books, seen)
        )
    if books.lost is not None:
        figures.lost = books.lost
        failures += _wrong_count(books, missing - figures.given_up, len(everything))
    return figures, failures


def _wrong_count(books: Books, missing: int, received: int) -> list[str]:
    """What the library says to be lost must be what is missing and was not given up, less what had
    reached its caller, who was killed before he could note it.
    """
    assert books.lost is not None
    failures = []
    unnoted = missing - books.lost
    if unnoted < 0:
        failures.append(f"{books.lost} are counted as lost, and only {missing} are missing")
    if books.given is not None:
        unnoted = books.given - received
        if not 0 <= unnoted <= books.in_hand:
            failures.append(
                f"{books.given} messages reached their callers by the library's count, "
                f"{received} by theirs; those killed can have had {books.in_hand} in hand"
            )
        if books.lost != missing - unnoted:
            failures.append(
                f"{books.lost} are counted as lost, but {missing} are missing, of which "
                f"{unnoted} had reached their callers"
            )
    return failures


def _behind_the_end(books: Books, holes: int) -> list[str]:
    """A get says that it is the end when nothing is left. What an immediate shutdown gives up is
    the end of what was put: of what stood before a message that came, only the killed can have had
    the missing ones.
    """
    failures = []
    if len(books.drained) and (books.ends_seen or books.given_up is not None):
        failures.append(
            f"{len(books.drained)} messages were left at the end, when {books.ends_seen} gets had "
            "said that nothing is left"
            + (", and all was given up" if books.given_up is not None else "")
        )
    if books.given_up is not None and holes > books.in_hand:
        failures.append(
            f"{holes} messages are missing before others of their senders, and those killed "
            f"inside a get can have had {books.in_hand} in hand at most"
        )
    return failures


def _out_of_order(who: str, log: Entries) -> list[str]:
    """One thread gets the messages of one sender in the order in which they were put."""
    order = np.argsort(log >> np.uint64(32), kind="stable")
    grouped = log[order]
    same = (grouped[1:] >> np.uint64(32)) == (grouped[:-1] >> np.uint64(32))
    bad = np.flatnonzero(same & (grouped[1:] <= grouped[:-1]))
    return [
        f"{who} got {_name(grouped[at + 1])} after {_name(grouped[at])}" for at in bad[:5].tolist()
    ]


def _overtaken(books: Books) -> list[str]:
    """What is left at the end was put after all that others got of the same sender."""
    if not len(books.drained) or not books.logs:
        return []
    got = np.concatenate(list(books.logs.values()))
    last: dict[int, int] = {}
    senders = got >> np.uint64(32)
    order = np.argsort(senders, kind="stable")
    found, begins = np.unique(senders[order], return_index=True)
    if len(found):
        highest = np.maximum.reduceat(got[order], begins)
        last = dict(zip(found.tolist(), highest.tolist()))
    failures = []
    for entry in books.drained.tolist():
        if last.get(entry >> 32, -1) > entry:
            failures.append(
                f"{_name(entry)} was left at the end, when {_name(last[entry >> 32])} had come"
            )
    return failures[:5]


def _some_missing(books: Books, seen: Entries) -> str:
    """Examples, for who has to find out."""
    examples = []
    for number, sender in books.senders.items():
        begin, end = np.searchsorted(
            seen, np.array([number << 32, number << 32 | sender.ended], np.uint64)
        )
        if end - begin < sender.ended:
            came = (seen[begin:end] & np.uint64(0xFFFFFFFF)).tolist()
            gone = sorted(set(range(sender.ended)) - set(came))
            examples.append(f"sender {number} of {sender.ended}: {gone[:8]}")
    return "; missing " + ", ".join(examples[:6]) if examples else ""


def _name(entry: Any) -> str:
    return f"message {int(entry) & 0xFFFFFFFF} of sender {int(entry) >> 32}"
