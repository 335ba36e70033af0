"""``python -m benchmarks.kill_matrix``: what is left of each library's queue after kills.

A round is a process of its own: two producers and two consumers run flat out through one queue
while one of them after the other is killed (SIGKILL) at a random moment and replaced. Then all are
killed, and a fresh producer and a fresh consumer must get some marked messages through, in order,
within a deadline: if they do not, the queue is unusable. So it is if anything arrives damaged.
Each library goes through rounds without a kill, too, whose four processes end by themselves: what
is unusable there has nothing to do with kills.

README's table is made of what is kept in benchmarks/results/kill-matrix.json: `--json` keeps the
rounds there, and `--from` with that file makes the table anew without any.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import mmap
import multiprocessing
import os
import random
import shlex
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.page import END, PageError, replace
from fastipc._bench import environment, peers
from fastipc._bench.driver import die_with_parent
from fastipc._bench.peers import Channel, Need, UnsupportedError

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ("multiprocessing", "faster-fifo", "hyperq", "dejaq", "zeroq", "fastipc")
SIZES = {"100 B": 100, "16 KiB": 16 * 1024, "1 MB": 1_000_000}
BEGIN = "<!-- kill matrix -->"
# What the table in README is made of; the tests compare the two.
KEPT = ROOT / "benchmarks" / "results" / "kill-matrix.json"

ROLES = ("producer", "producer", "consumer", "consumer")
KILLS = 12
PAUSE_SECONDS = (0.002, 0.04)  # between two kills
SPARED = 100  # messages of each producer, where nobody is killed
SPARED_ROUNDS = 3  # such rounds of each size
MARKED = 20
DEADLINE_SECONDS = 3.0
ROUND_SECONDS = 60.0  # beyond that the round itself is stuck
MAXSIZE = 16

# Who sent it (the marked ones: MARKER), its number, and the checksum of what follows.
HEAD = struct.Struct("<QQI")
MARKER = 2**32


class DamagedError(Exception):
    """A message that is not what anybody has put."""


def message(sender: int, number: int, size: int) -> bytes:
    """Return a message of this size that can be checked."""
    body = (b"%x-%x." % (sender, number)) * (size // 4)
    body = body[: size - HEAD.size]
    return HEAD.pack(sender, number, zlib.crc32(body)) + body


def check(data: Any, size: int) -> tuple[int, int]:
    """Return who sent it and its number. Raises DamagedError."""
    if len(data) != size:
        raise DamagedError(f"{len(data)} bytes arrived, not {size}")
    sender, number, checksum = HEAD.unpack_from(data)
    if zlib.crc32(memoryview(data)[HEAD.size :]) != checksum:
        raise DamagedError("the checksum is wrong")
    return sender, number


def produce(channel: Channel, index: int, sender: int, size: int, numbers: Iterable[int]) -> None:
    """Put messages with these numbers, or until killed."""
    put = channel.sender(index).put
    for number in numbers:
        put(message(sender, number, size))


def consume(
    channel: Channel, index: int, size: int, damaged: mmap.mmap, numbers: Iterable[int]
) -> None:
    """Get as many messages, or until killed; says if one is damaged."""
    get = channel.receiver(index).get
    for _ in numbers:
        data = get()
        try:
            check(data, size)
        except DamagedError:
            damaged[0] = 1


def finish(channel: Channel, size: int, done: mmap.mmap) -> None:
    """Get messages until all marked ones have come, in order."""
    get, due = channel.receiver(0).get, 0
    while due < MARKED:
        sender, number = check(get(), size)
        if sender == MARKER:
            if number != due:
                raise DamagedError(f"number {number} came in the place of {due}")
            due += 1
    done[0] = 1


def put_marked(channel: Channel, size: int) -> None:
    """Put the marked messages."""
    put = channel.sender(0).put
    for number in range(MARKED):
        put(message(MARKER, number, size))


def start(body: Callable[..., None], *arguments: Any) -> Any:
    """Fork a process that ends with this one."""

    def run() -> None:
        die_with_parent()
        # What a library prints of its broken queue would hide the table.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        body(*arguments)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def kill(process: Any) -> None:
    """Kill it, if it still runs, and wait for its end."""
    process.kill()
    process.join()


def one_round(library: str, size: int, seed: int, kills: int, scratch: Path) -> dict[str, Any]:
    """Make a queue, kill around it, and tell what is left of it. Raises UnsupportedError.

    With no kills, whoever uses it ends by himself, within the deadline if he can.
    """
    peer = peers.load(library, "fork", scratch)
    channel = peer.queue(Need("bytes", size, maxsize=MAXSIZE, senders=2, receivers=2))
    damaged, done = mmap.mmap(-1, 1), mmap.mmap(-1, 1)
    chance = random.Random(seed)
    lives = 0

    def life(place: int) -> Any:
        nonlocal lives
        lives += 1
        numbers = itertools.count() if kills else range(SPARED)
        if ROLES[place] == "producer":
            return start(produce, channel, place, lives, size, numbers)
        return start(consume, channel, place - 2, size, damaged, numbers)

    workers = [life(place) for place in range(len(ROLES))]
    for _ in range(kills):
        time.sleep(chance.uniform(*PAUSE_SECONDS))
        place = chance.randrange(len(ROLES))
        kill(workers[place])
        workers[place] = life(place)
    deadline = time.monotonic() + DEADLINE_SECONDS
    for worker in workers:
        if not kills:
            worker.join(max(0.0, deadline - time.monotonic()))
        kill(worker)
    # 0: each of them came to the end of his work.
    stuck = not kills and any(worker.exitcode for worker in workers)
    consumer = start(finish, channel, size, done)
    producer = start(put_marked, channel, size)
    consumer.join(DEADLINE_SECONDS)
    for process in (producer, consumer):
        kill(process)
    return {"usable": bool(done[0]) and not stuck, "damaged": bool(damaged[0]), "kills": kills}


def serve_round(arguments: Sequence[str]) -> None:
    """Be the process of a round; print what came of it."""
    library, size, seed, kills, scratch = arguments
    die_with_parent()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        found = one_round(library, int(size), int(seed), int(kills), Path(scratch))
    except UnsupportedError as error:
        found = {"absent": str(error)}
    print(json.dumps(found), flush=True)
    # Whatever a broken queue would still wait for at exit.
    os._exit(0)


def ask_round(library: str, size: int, seed: int, kills: int) -> dict[str, Any]:
    """Have a process do a round."""
    with tempfile.TemporaryDirectory(prefix="fastipc-matrix-") as folder:
        scratch = Path(folder)
        command = [sys.executable, "-m", "benchmarks.kill_matrix", "--round"]
        try:
            result = subprocess.run(
                [*command, library, str(size), str(seed), str(kills), folder],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
                timeout=ROUND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"usable": False, "damaged": False, "stuck": True}
        finally:
            peers.clean_up(scratch)
            scratch.mkdir(exist_ok=True)
    try:
        found: dict[str, Any] = json.loads(result.stdout)
    except ValueError:
        return {"usable": False, "damaged": False, "died": result.returncode}
    return found


def counted(rounds: Iterable[dict[str, Any]]) -> tuple[int, int]:
    """Return how many rounds left the queue unusable, and of how many."""
    done = [each for each in rounds if "absent" not in each]
    return sum(not each["usable"] or each["damaged"] for each in done), len(done)


def summary(rounds: Sequence[dict[str, Any]]) -> str:
    """Say how many rounds left the queue unusable, of how many."""
    bad, count = counted(rounds)
    return f"{bad} of {count}" if count else "-"


def spared_summary(kept: dict[str, Any]) -> str:
    """Say what came of the rounds without a kill."""
    bad, count = counted(
        each
        for by_size in kept["spared"].values()
        for rounds in by_size.values()
        for each in rounds
    )
    said = f"Without a kill, {count} rounds in all: "
    if not bad:
        return f"{said}each queue was usable behind each."
    found = [
        f"{library} {summary(rounds)} at {size}"
        for library, by_size in kept["spared"].items()
        for size, rounds in by_size.items()
        if counted(rounds)[0]
    ]
    return f"{said}unusable {', '.join(found)}."


def markdown(kept: dict[str, Any]) -> str:
    """Return the table for README."""
    sizes = kept["settings"]["sizes"]
    lines = [
        "| rounds that left the queue unusable | " + " | ".join(sizes) + " |",
        "| --- |" + " ---: |" * len(sizes),
    ]
    for library, by_size in kept["rounds"].items():
        cells = [summary(by_size.get(size, [])) for size in sizes]
        lines.append(f"| {library} | " + " | ".join(cells) + " |")
    where = kept["environment"]
    versions = [f"{name} {version}" for name, version in where["peers"].items() if version]
    note = (
        f"`{kept['command']}`, {where['date'].partition('T')[0]}, {environment.caption(where)}; "
        f"{', '.join(versions)}; {kept['settings']['kills']} kills a round, two producers and two "
        "consumers."
    )
    if "spared" in kept:
        note += f" {spared_summary(kept)}"
    return "\n".join([*lines, "", note])


def table_of(readme: str) -> str:
    """Return the table that stands in README's text."""
    return readme.partition(BEGIN)[2].partition(END)[0].strip()


def write_table(kept: dict[str, Any], readme: Path) -> None:
    """Put the table between its markers. Raises OSError or PageError."""
    text = readme.read_text(encoding="utf-8")
    readme.write_text(replace(text, BEGIN, markdown(kept), readme), encoding="utf-8")


def shown(jobs: Sequence[Any]) -> Iterable[Any]:
    """Go through the jobs and show how far it is."""
    # Here, because all else needs no rich: the tests run it without the extra `bench`.
    from rich.console import Console
    from rich.progress import track

    return track(jobs, "killing", console=Console(stderr=True), transient=True)


def do_rounds(
    libraries: Sequence[str], sizes: Sequence[str], count: int, arguments: Sequence[str]
) -> dict[str, Any]:
    """Do all rounds; returns what is kept of them."""
    # Before the rounds: these load the machine, and the commit is the one that they begin with.
    where = environment.describe(libraries)
    rounds: dict[str, dict[str, list[dict[str, Any]]]] = {
        library: {size: [] for size in sizes} for library in libraries
    }
    spared = copy.deepcopy(rounds)
    # Interleaved: whatever else the machine does meets all of them.
    jobs = [
        (seed, size, library, kills)
        for seed in range(count)
        for size in sizes
        for library in libraries
        for kills in ((KILLS, 0) if seed < SPARED_ROUNDS else (KILLS,))
    ]
    for seed, size, library, kills in shown(jobs):
        into = rounds if kills else spared
        into[library][size].append(ask_round(library, SIZES[size], seed, kills))
    return {
        "command": shlex.join(["python", "-m", "benchmarks.kill_matrix", *arguments]),
        "settings": {
            "rounds": count,
            "sizes": list(sizes),
            "kills": KILLS,
            "marked": MARKED,
            "deadline_seconds": DEADLINE_SECONDS,
        },
        "environment": where,
        "rounds": rounds,
        "spared": spared,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Do all rounds and print the table; 1 if fastipc's queue was unusable after one."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["--round"]:
        serve_round(arguments[1:])
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kill_matrix", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="of each size (default: 15)")
    parser.add_argument("--libraries", default=",".join(LIBRARIES), metavar="NAME,...")
    parser.add_argument("--sizes", default=",".join(SIZES), metavar="SIZE,...")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep all rounds there")
    parser.add_argument(
        "--from", dest="kept", type=Path, metavar="FILE", help="do no round: take those kept there"
    )
    parser.add_argument("--readme", type=Path, metavar="FILE", help="write the table into it")
    options = parser.parse_args(arguments)
    libraries, sizes = options.libraries.split(","), options.sizes.split(",")
    for size in sizes:
        if size not in SIZES:
            parser.error(f"there is no size {size!r}; there are: {', '.join(SIZES)}")
    try:
        if options.kept:
            kept = json.loads(options.kept.read_text(encoding="utf-8"))
        else:
            kept = do_rounds(libraries, sizes, options.rounds, arguments)
        if options.json:
            options.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        if options.readme:
            write_table(kept, options.readme)
    except (OSError, ValueError, PageError) as error:
        print(f"python -m benchmarks.kill_matrix: {error}", file=sys.stderr)
        return 1
    print(markdown(kept))
    ours = [
        found
        for kind in ("rounds", "spared")
        for rounds in kept.get(kind, {}).get("fastipc", {}).values()
        for found in rounds
    ]
    return int(any(not each.get("usable") or each.get("damaged") for each in ours))


if __name__ == "__main__":
    sys.exit(main())
