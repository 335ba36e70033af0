"""What is looked at by callgrind and strace: messages through a Queue or a Pipe of fastipc.

Run as ``python -m benchmarks.costs.program PART ...``. Before and after whatever is to be counted
stands a call of mark().
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fastipc

mark = os.getppid

# So many messages at a time: with any of the kinds they fit into a small ring.
COUNT = 100
# Rounds before the one that is counted: rings find their size, the interpreter specialises.
WARM_ROUNDS = 12


@dataclass
class Reading:
    """An instance of an ordinary class."""

    sensor: str
    number: int
    value: float


class Pickled(Reading):
    """What needs pickle: it has a say in its state."""

    def __getstate__(self) -> object:
        return self.__dict__


KINDS: dict[str, Callable[[int], Any]] = {
    "int": lambda number: 1_000_000 + number,
    "tuple": lambda number: (number, f"sensor-{number % 10}", number * 0.5),
    "dict of 5": lambda number: {
        "id": number,
        "name": f"sensor-{number % 10}",
        "value": number * 0.5,
        "valid": True,
        "unit": None,
    },
    "bytes of 64": lambda number: number.to_bytes(8, "little") * 8,
    "nested dict": lambda number: {
        "id": number,
        "position": {"x": number * 0.5, "y": number * 0.25},
        "tags": ["a", "b", {"depth": number}],
    },
    "an object": lambda number: Reading(f"sensor-{number % 10}", number, number * 0.5),
    "a pickled one": lambda number: Pickled(f"sensor-{number % 10}", number, number * 0.5),
}

PACE_SECONDS = 1e-4


def each(call: Callable[[Any], Any], messages: list[Any]) -> None:
    """Call it with each message."""
    for message in messages:
        call(message)


def as_many(call: Callable[[], Any], messages: list[Any]) -> None:
    """Call it as many times as there are messages."""
    for _ in messages:
        call()


def loop_alone(messages: list[Any]) -> None:
    """What the loops of the others cost."""
    for _ in messages:
        pass


def counted(put: Callable[[Any], Any], get: Callable[[], Any], messages: list[Any]) -> None:
    """Leave four marks: around the loop alone, the puts and the gets."""
    for _ in range(WARM_ROUNDS):
        loop_alone(messages)
        each(put, messages)
        as_many(get, messages)
    mark()
    loop_alone(messages)
    mark()
    each(put, messages)
    mark()
    as_many(get, messages)
    mark()


def instructions() -> None:
    """Leave four marks for each kind of message, and then for bytes through a Pipe."""
    gc.disable()
    for make in KINDS.values():
        queue = fastipc.Queue()
        counted(queue.put, queue.get, [make(number) for number in range(COUNT)])
    receiving, sending = fastipc.Pipe(duplex=False)
    buffer = bytearray(64)
    receive = receiving.recv_bytes_into

    def get() -> None:
        receive(buffer)

    make = KINDS["bytes of 64"]
    counted(sending.send_bytes, get, [make(number) for number in range(COUNT)])


def produce(queue: Any, count: int, pace: float) -> None:
    """Put numbers, at a pace if there is one; two marks around all but the first of them.

    Prints how many seconds passed between the marks.
    """
    put = queue.put
    for number in range(COUNT):
        put(number)
    mark()
    begin = time.perf_counter()
    for number in range(COUNT, COUNT + count):
        if pace:
            wait = begin + (number - COUNT + 1) * pace - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
        put(number)
    took = time.perf_counter() - begin
    mark()
    print(took)


def consume(queue: Any, count: int) -> None:
    """Get them, with two marks likewise. Exits with 1 if one is not what was due."""
    get = queue.get
    for number in range(COUNT):
        if get() != number:
            sys.exit(1)
    mark()
    for number in range(COUNT, COUNT + count):
        if get() != number:
            sys.exit(1)
    mark()


def syscalls(count: int, pace: float) -> None:
    """Send so many numbers from this process to another one."""
    queue = fastipc.Queue()
    context: Any = fastipc.get_context("fork")
    consumer = context.Process(target=consume, args=(queue, count), daemon=True)
    consumer.start()
    produce(queue, count, pace)
    consumer.join()
    if consumer.exitcode != 0:
        sys.exit(f"the consumer ended with {consumer.exitcode}: a message was lost or repeated")


if __name__ == "__main__":
    if sys.argv[1] == "instructions":
        instructions()
    else:
        syscalls(int(sys.argv[2]), PACE_SECONDS if sys.argv[1] == "paced" else 0.0)
