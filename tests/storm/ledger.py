"""What a worker was doing, written beside each step into a file of its own that is mapped: the
kernel keeps it when the worker is killed.

A file serves one life of one worker. Each of its threads has a page of words, which only that
thread writes, one aligned store each, and a log of what it received. A word is written before the
step it speaks of and another one behind it, so that whoever reads it after the kill knows what the
thread was inside of. Owns no meaning beyond that: see verdict.py.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

PAGE = 4096
WORD = 8

# The words of a thread, by number.
PUT_BEGUN = 0  # messages whose put has begun
PUT_ENDED = 1  # messages whose put has returned, the first so many
CALLS_BEGUN = 2  # gets that have begun
CALLS_ENDED = 3  # gets that have returned and been logged, or raised
RECEIVED = 4  # entries in the log
DONE_BEGUN = 5  # calls of task_done() that have begun
DONE_ENDED = 6  # and have returned
STEPS = 7  # grows with whatever the thread does
FINISHED = 8  # the thread has ended as it should
SAW_END = 9  # a get has raised ShutDown
LARGEST = 10  # bytes of payload of the largest message that was got whole
EMPTY = 11  # messages without a payload that were got

# Entries in a log, sender << 32 | number; a life that has filled one retires.
LOG_ENTRIES = 1 << 18


class Thread:
    """The words and the log of one thread."""

    def __init__(self, words: memoryview, log: memoryview) -> None:
        self.words = words
        self.log = log

    def note_received(self, entries: list[int]) -> None:
        """Log what a get has returned; the words say so when all of it is there."""
        words, log = self.words, self.log
        count = words[RECEIVED]
        for entry in entries:
            log[count] = entry
            count += 1
        words[RECEIVED] = count

    @property
    def is_full(self) -> bool:
        """Whether another batch might not fit."""
        return bool(self.words[RECEIVED] > LOG_ENTRIES - 4096)


class Ledger:
    """The mapped file of one life."""

    def __init__(self, path: str, threads: int) -> None:
        self.path = path
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._view = memoryview(self._map).cast("Q")
        log = threads * PAGE // WORD
        self.threads = [
            Thread(
                self._view[at * PAGE // WORD : (at + 1) * PAGE // WORD],
                self._view[log + at * LOG_ENTRIES : log + (at + 1) * LOG_ENTRIES],
            )
            for at in range(threads)
        ]

    def has_begun(self) -> bool:
        """Return whether a thread has reached its work."""
        return any(thread.words[STEPS] for thread in self.threads)

    def moved(self) -> int:
        """Return how many messages its threads have put and got, and how many began and ended."""
        return sum(
            thread.words[PUT_ENDED]
            + thread.words[RECEIVED]
            + thread.words[FINISHED]
            + (thread.words[STEPS] > 0)
            for thread in self.threads
        )

    def close(self) -> None:
        """Unmap it."""
        for thread in self.threads:
            thread.words.release()
            thread.log.release()
        self._view.release()
        self._map.close()


def create(path: Path, threads: int) -> None:
    """Make the file of a life, all zero; it takes memory as it is filled."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(descriptor, threads * (PAGE + LOG_ENTRIES * WORD))
    finally:
        os.close(descriptor)


class Flags:
    """A page that all workers of a round map: what the supervisor wants of them, and has done."""

    def __init__(self, path: str) -> None:
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), PAGE)

    def stop(self) -> None:
        """Have the producers end."""
        self._map[0] = 1

    @property
    def stopped(self) -> bool:
        """Whether they shall."""
        return self._map[0] != 0

    def ask_to_shut(self) -> None:
        """Have the producers shut the queue down, each by a call of its own."""
        self._map[1] = 1

    @property
    def to_be_shut(self) -> bool:
        """Whether they shall."""
        return self._map[1] != 0

    def note_shut(self) -> None:
        """Tell that a call of shutdown() has returned."""
        self._map[2] = 1

    @property
    def shut(self) -> bool:
        """Whether one has."""
        return self._map[2] != 0

    def close(self) -> None:
        """Unmap it."""
        self._map.close()

    @staticmethod
    def create(path: Path) -> None:
        """Make the file."""
        path.write_bytes(bytes(PAGE))


def copy_of_log(thread: Thread) -> Any:
    """Return the log's entries as a NumPy array of its own."""
    import numpy as np

    count = min(int(thread.words[RECEIVED]), LOG_ENTRIES)
    return np.frombuffer(thread.log, dtype=np.uint64, count=count).copy()
