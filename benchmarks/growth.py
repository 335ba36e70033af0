"""``python -m benchmarks.growth``: does the cost of a message grow with what else there is?

Ratios, each the median of rounds in which both sides are measured in this process: a queue with a
million items queued beside an almost empty one, a process with a thousand queues beside one with
one, and wait() on a hundred connections beside the standard library's; and one queue beside itself,
which shows the noise. Exits with 1 if one is beyond its mark.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing.connection
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import fastipc
from fastipc._bench import environment

# Raise it when the meaning of a field of the kept file changes.
SCHEMA = 1


# Items queued in a queue that has no backlog and makes its consumer no pauses, as it does when each
# look finds but one: 0.5 us a get(), in which all else would be lost.
FEW = 100


@dataclass(frozen=True)
class Sizes:
    """How much there is of what may not matter, and how often each side is called for a number."""

    backlog: int = 1_000_000
    queues: int = 1_000
    connections: int = 100
    calls: int = 20_000


def put_and_get(queue: Any, calls: int) -> float:
    """Return the seconds of so many puts, each with a get."""
    put, get = queue.put, queue.get
    start = time.perf_counter()
    for number in range(calls):
        put(number)
        get()
    return time.perf_counter() - start


def queue_with(count: int) -> Any:
    """Return a queue with so many items in it."""
    queue = fastipc.Queue()
    for number in range(count):
        queue.put(number)
    return queue


def itself(sizes: Sizes, rounds: int) -> list[float]:
    """How much longer the same takes directly before than directly after."""
    one = queue_with(FEW)
    ratios = [put_and_get(one, sizes.calls) / put_and_get(one, sizes.calls) for _ in range(rounds)]
    one.close()
    return ratios


def backlog(sizes: Sizes, rounds: int, few: int = 0) -> list[float]:
    """How much longer it takes with a million items queued than with a few."""
    full, other = queue_with(sizes.backlog), queue_with(few)
    ratios = [
        put_and_get(full, sizes.calls) / put_and_get(other, sizes.calls) for _ in range(rounds)
    ]
    full.close()
    other.close()
    return ratios


def backlog_beside_few(sizes: Sizes, rounds: int) -> list[float]:
    """The same, without the pauses of a consumer who finds no more than one each time."""
    return backlog(sizes, rounds, FEW)


def many_queues(sizes: Sizes, rounds: int) -> list[float]:
    """How much longer it takes in a process with a thousand queues, all used before."""
    one = queue_with(FEW)
    alone = [put_and_get(one, sizes.calls) for _ in range(rounds)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * sizes.queues)), hard))
    others = [fastipc.Queue() for _ in range(sizes.queues)]
    for queue in others:
        queue.put(1)
        queue.get()
    ratios = [put_and_get(one, sizes.calls) / before for before in alone]
    for queue in [one, *others]:
        queue.close()
    return ratios


def wait_on_many(sizes: Sizes, rounds: int) -> list[float]:
    """How much longer fastipc's wait() takes than the standard library's, one end being ready."""
    sides: list[tuple[Callable[[list[Any]], list[Any]], list[tuple[Any, Any]]]] = [
        (fastipc.connection.wait, [fastipc.Pipe(duplex=False) for _ in range(sizes.connections)]),
        (
            multiprocessing.connection.wait,
            [multiprocessing.Pipe(duplex=False) for _ in range(sizes.connections)],
        ),
    ]
    ratios = []
    for _ in range(rounds):
        seconds = []
        for wait, pipes in sides:
            receivers = [receiver for receiver, _ in pipes]
            start = time.perf_counter()
            for number in range(-(-sizes.calls // 100)):
                receiver, sender = pipes[number % sizes.connections]
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


# Rounds of one comparison differ by as much, and medians by somewhat less, as the first of the
# questions shows: what is to be no slower may take so many times as long.
NOISE = 1.1


@dataclass(frozen=True)
class Question:
    """What is measured, and how many times as long it may take, if that is a mark."""

    what: str
    measure: Callable[[Sizes, int], list[float]]
    most: float | None


def questions(sizes: Sizes) -> list[Question]:
    """Return what is measured with these sizes."""
    return [
        Question("one queue, against itself", itself, None),
        Question(f"{sizes.backlog:,} items queued, against none", backlog, 2.0),
        Question(f"{sizes.backlog:,} items queued, against {FEW}", backlog_beside_few, 2.0),
        Question(f"{sizes.queues:,} queues in the process, against one", many_queues, NOISE),
        Question(
            f"`wait()` on {sizes.connections} connections, against `multiprocessing`'s",
            wait_on_many,
            1.0,
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the ratios; the result is the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="default: %(default)s")
    for name, default in asdict(Sizes()).items():
        parser.add_argument(f"--{name}", type=int, default=default, help="default: %(default)s")
    parser.add_argument("--json", metavar="FILE", type=Path, help="keep all ratios there")
    options = parser.parse_args(arguments)
    sizes = Sizes(**{name: getattr(options, name) for name in asdict(Sizes())})
    where = environment.describe(["fastipc"])
    found = []
    for question in questions(sizes):
        ratios = question.measure(sizes, options.rounds)
        ratio = statistics.median(ratios)
        met = question.most is None or ratio <= question.most
        found.append({"what": question.what, "most": question.most, "ratios": ratios, "met": met})
        print(
            f"{question.what}: {ratio:.2f}x the time ({min(ratios):.2f} to {max(ratios):.2f})"
            + ("" if question.most is None else f", at most {question.most:g}x")
        )
    if options.json is not None:
        kept = {
            "schema": SCHEMA,
            "environment": where,
            "settings": {**asdict(sizes), "rounds": options.rounds},
            "growth": found,
        }
        options.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return 0 if all(each["met"] for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
