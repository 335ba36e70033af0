"""What a producer and a consumer do until they are killed. Each step is noted in the ledger.

Imported by spawned children, so it needs little.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections import deque
from typing import Any, NamedTuple

from . import ledger, messages
from .kinds import PATIENT_ITEMS, Channel

_PR_SET_PDEATHSIG = 1

EXIT_DAMAGED = 70  # a message was not what anybody had put, or a call raised what it must not
EXIT_ON_TERM = 75  # SystemExit, raised by a signal handler inside a call
EXIT_IN_HANDLER = 76  # os._exit() in a signal handler inside a call
EXIT_RETIRED = 78  # the log is full

# The supervisor's own messages: each ends the consumer thread that gets it.
SUPERVISOR = 0


class Job(NamedTuple):
    """What one thread of a worker does."""

    sender: int  # of a consumer it only names its log
    way: int
    produces: bool


class Life(NamedTuple):
    """One life of one worker."""

    number: int
    side: int
    jobs: tuple[Job, ...]  # one for each thread
    seed: str
    profile: str
    term_raises: bool
    dies_at: int  # the message in whose pickling it ends, if its first thread puts, or -1
    ledger_path: str
    flags_path: str
    errors_path: str


def work(life: Life, channel: Channel) -> None:
    """Be a worker; in a process of its own."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    errors = os.open(life.errors_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(errors, 2)
    os.close(errors)
    faulthandler.enable(2)
    faulthandler.register(signal.SIGUSR1, 2, all_threads=True)
    handlers = Handlers()
    signal.signal(signal.SIGUSR2, handlers.leave_at_once)
    signal.signal(signal.SIGURG, handlers.do_nothing)
    if life.term_raises:
        signal.signal(signal.SIGTERM, handlers.leave_by_raising)
    book = ledger.Ledger(life.ledger_path, len(life.jobs))
    flags = ledger.Flags(life.flags_path)
    others = [
        threading.Thread(target=run, args=(life, channel, book, flags, at), daemon=True)
        for at in range(1, len(life.jobs))
    ]
    # Kills are what a storm is short of on a crowded machine: the supervisor goes first.
    os.nice(3)
    handlers.armed = True
    try:
        for other in others:
            other.start()
        run(life, channel, book, flags, 0)
        for other in others:
            other.join()
    finally:
        handlers.armed = False


class Handlers:
    """The signal handlers of a worker, which run inside its calls."""

    def __init__(self) -> None:
        self.armed = False  # what is raised comes out of the worker's own code

    def leave_at_once(self, *_: object) -> None:
        """End without a clean-up."""
        os._exit(EXIT_IN_HANDLER)

    def leave_by_raising(self, *_: object) -> None:
        """Raise SystemExit inside whatever call is under way."""
        if not self.armed:
            os._exit(EXIT_ON_TERM)
        self.armed = False
        sys.exit(EXIT_ON_TERM)

    def do_nothing(self, *_: object) -> None:
        """Interrupt a system call."""


def run(life: Life, channel: Channel, book: ledger.Ledger, flags: ledger.Flags, at: int) -> None:
    """Be one thread of a worker. Whatever a call raises ends the process."""
    chance = random.Random(f"{life.seed}:{at}")
    thread, job = book.threads[at], life.jobs[at]
    channel = channel.ways[job.way]
    try:
        if job.produces:
            maker = messages.Maker(job.sender, chance, life.profile, channel.takes_buffers)
            dies_at = life.dies_at if at == 0 else -1
            patience = PATIENT_ITEMS[life.profile]
            produce(channel, thread, maker, flags, chance, dies_at, patience)
        else:
            consume(channel, thread, flags, chance)
        thread.words[ledger.FINISHED] = 1
    except Exception:
        print(f"life {life.number}, thread {at}:", file=sys.stderr)
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(EXIT_DAMAGED)


def produce(
    channel: Channel,
    thread: ledger.Thread,
    maker: messages.Maker,
    flags: ledger.Flags,
    chance: random.Random,
    dies_at: int,
    patience: int,
) -> None:
    """Put messages until told to end, or the queue is shut down; waits while more than `patience`
    are queued.
    """
    words, number, steps = thread.words, 0, 0
    ahead: list[Any] = []  # made, and not put yet
    while not flags.stopped:
        steps += 1
        words[ledger.STEPS] = steps
        if flags.to_be_shut:
            channel.shut_down(bool(channel.shuts_at_once) and chance.random() < 0.5)
        shut, ended = flags.shut, False
        if not shut and number % 4 == 0 and channel.is_long(patience):
            time.sleep(0.002)
            continue
        count = channel.batch_size(chance)
        while len(ahead) < count:
            ahead += make_some(maker, number + len(ahead), dies_at)
        words[ledger.PUT_BEGUN] = number + count
        try:
            put = channel.put(ahead[:count], chance)
        except channel.ended as error:
            put, ended = getattr(error, "put_count", 0), True
        if put and shut:
            raise messages.DamagedError(f"{put} messages were put behind a shutdown")
        number += put
        words[ledger.PUT_ENDED] = number
        words[ledger.PUT_BEGUN] = number
        if ended:
            return
        del ahead[:put]


def make_some(maker: messages.Maker, number: int, dies_at: int) -> list[Any]:
    """Make messages from this number on, the deadly one among them."""
    return [
        maker.make_deadly(at) if at == dies_at else maker.make(at)
        for at in range(number, number + maker.ahead)
    ]


def consume(
    channel: Channel, thread: ledger.Thread, flags: ledger.Flags, chance: random.Random
) -> None:
    """Get messages until the supervisor's comes, or the queue is shut down and nothing is left."""
    words, calls = thread.words, 0
    # Large ones lie over shared memory, which is this process's until they are gone.
    kept: deque[Any] = deque(maxlen=3)
    while True:
        calls += 1
        words[ledger.STEPS] = words[ledger.CALLS_BEGUN] = calls
        given_up = channel.shuts_at_once and flags.shut
        try:
            taken = channel.get(chance)
        except channel.ended:
            words[ledger.SAW_END] = 1
            words[ledger.CALLS_ENDED] = calls
            if channel.depth():
                raise messages.DamagedError(
                    f"a get has said that nothing is left, and {channel.depth()} messages are"
                ) from None
            return
        if taken and given_up:
            raise messages.DamagedError(f"{len(taken)} messages came that were given up")
        entries = messages.identify_all(taken)
        thread.note_received(entries)
        words[ledger.CALLS_ENDED] = calls
        for message in taken:
            size = messages.check(message)
            words[ledger.LARGEST] = max(words[ledger.LARGEST], size)
            words[ledger.EMPTY] += size == 0
            words[ledger.DONE_BEGUN] += 1
            channel.done()
            words[ledger.DONE_ENDED] += 1
            kept.append(message)
        if any(entry >> 32 == SUPERVISOR for entry in entries):
            return
        if thread.is_full:
            os._exit(EXIT_RETIRED)
