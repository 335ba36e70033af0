"""``python -m benchmarks.growth``: does the cost of a message grow with what else there is?

Three ratios, each the median of rounds in which both sides are measured one directly after the
other in this process: a queue with a million items queued beside an almost empty one, a process
with a thousand queues beside one with one, and wait() on a hundred connections beside the standard
library's. Exits with 1 if one is beyond its mark.
"""

from __future__ import annotations

import argparse
import multiprocessing.connection
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import fastipc

BACKLOG = 1_000_000
QUEUES = 1_000
CONNECTIONS = 100
CALLS = 20_000


def put_and_get(queue: Any) -> float:
    """Return the seconds of so many puts, each with a get."""
    put, get = queue.put, queue.get
    start = time.perf_counter()
    for number in range(CALLS):
        put(number)
        get()
    return time.perf_counter() - start


def backlog(rounds: int) -> list[float]:
    """How much longer it takes with a million items queued."""
    full, empty = fastipc.Queue(), fastipc.Queue()
    for number in range(BACKLOG):
        full.put(number)
    ratios = [put_and_get(full) / put_and_get(empty) for _ in range(rounds)]
    full.close()
    empty.close()
    return ratios


def many_queues(rounds: int) -> list[float]:
    """How much longer it takes in a process with a thousand queues, all used before."""
    one = fastipc.Queue()
    alone = [put_and_get(one) for _ in range(rounds)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * QUEUES)), hard))
    others = [fastipc.Queue() for _ in range(QUEUES)]
    for queue in others:
        queue.put(1)
        queue.get()
    ratios = [put_and_get(one) / before for before in alone]
    for queue in [one, *others]:
        queue.close()
    return ratios


def wait_on_many(rounds: int) -> list[float]:
    """How much longer fastipc's wait() takes than the standard library's, one end being ready."""
    sides: list[tuple[Callable[[list[Any]], list[Any]], list[tuple[Any, Any]]]] = [
        (fastipc.connection.wait, [fastipc.Pipe(duplex=False) for _ in range(CONNECTIONS)]),
        (
            multiprocessing.connection.wait,
            [multiprocessing.Pipe(duplex=False) for _ in range(CONNECTIONS)],
        ),
    ]
    ratios = []
    for _ in range(rounds):
        seconds = []
        for wait, pipes in sides:
            receivers = [receiver for receiver, _ in pipes]
            start = time.perf_counter()
            for number in range(CALLS // 100):
                receiver, sender = pipes[number % CONNECTIONS]
                sender.send_bytes(b"x")
                (ready,) = wait(receivers)
                if ready is not receiver:
                    raise RuntimeError("another connection is ready than the one that was sent to")
                ready.recv_bytes()
            seconds.append(time.perf_counter() - start)
        ratios.append(seconds[0] / seconds[1])
    for _, pipes in sides:
        for pair in pipes:
            for end in pair:
                end.close()
    return ratios


# What is measured, and how many times as long it may take.
QUESTIONS: list[tuple[str, Callable[[int], list[float]], float]] = [
    (f"{BACKLOG:,} items queued, against none", backlog, 2.0),
    # A tenth is noise: two measurements of the same differ by as much.
    (f"{QUEUES:,} queues in the process, against one", many_queues, 1.1),
    (f"wait() on {CONNECTIONS} connections, against multiprocessing", wait_on_many, 1.0),
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the ratios; the result is the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="default: %(default)s")
    options = parser.parse_args(arguments)
    met = True
    for what, measure, most in QUESTIONS:
        ratios = measure(options.rounds)
        ratio = statistics.median(ratios)
        met = met and ratio <= most
        print(
            f"{what}: {ratio:.2f}x the time ({min(ratios):.2f} to {max(ratios):.2f}), "
            f"at most {most:g}x"
        )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
