"""The job of the demo: files through worker processes and back, by any multiprocessing.

`run_job()` is given the library as an argument and uses nothing of it that multiprocessing does
not have; so the two libraries are compared on one and the same program. Owns the traffic between
the processes and its checks; what is measured and shown is decided in `demo`.
"""

from __future__ import annotations

import hashlib
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from fastipc._demo_files import Piece, Skipped, read_piece, why
from fastipc._demo_workers import (
    LEAVE_SECONDS,
    Interruptions,
    JobError,
    end,
    how_it_ended,
    leave_with_the_parent,
    sigint_blocked,
)

# How far the paths may run ahead of the contents. It bounds the memory that contents take while
# they are under way, which `maxsize` cannot do: it counts items, and a file has any size.
AHEAD_ITEMS = 256
AHEAD_BYTES = 32 * 1024 * 1024


@dataclass
class JobResult:
    """What one run of the job measured, and what it found."""

    seconds: float
    cpu_seconds: float
    item_count: int
    byte_count: int
    held_count: int
    """Items that each worker had in memory before the clock ran."""
    changed: list[Skipped] = field(default_factory=list)
    """Files that are no longer what they were when they were scanned."""


def run_job(
    mp: Any,
    pieces: Sequence[Piece],
    *,
    start_method: str | None,
    worker_count: int,
    hashing: bool,
    hold_bytes: int = 0,
    on_item: Callable[[], None] = lambda: None,
) -> JobResult:
    """Send all pieces through workers and back, with the queues and pipes of `mp`.

    With `hashing`, a worker sends the SHA-256 of what it read, and the parent compares it with
    that of what arrived. Without, each worker reads up to `hold_bytes` before the clock runs, and
    the job is transport alone. Call it from the main thread, where a signal ends whatever blocks
    when a worker has died: a `get()` with a timeout, to look for that now and then, would cost
    more than one without, and so would change what is measured. Raises JobError.
    """
    context = mp.get_context(start_method)
    held = [] if hashing else _choose(pieces, hold_bytes)
    workers: list[Any] = []
    lines: list[Any] = []
    with Interruptions() as interruptions:
        tasks, results = context.JoinableQueue(), context.Queue()
        try:
            with sigint_blocked():
                for number in range(worker_count):
                    ours, theirs = context.Pipe()
                    lines.append(ours)
                    worker = context.Process(
                        target=_work,
                        args=(tasks, results, theirs, hashing, held),
                        name=f"demo worker {number + 1}",
                        daemon=True,
                    )
                    worker.start()
                    workers.append(worker)
                    theirs.close()
            with interruptions.let_in(workers):
                result = _drive(tasks, results, lines, pieces, hashing, on_item)
            for worker, line in zip(workers, lines, strict=True):
                with suppress(OSError):  # it has died since; its exit code tells
                    line.send("leave")
                worker.join(LEAVE_SECONDS)
                if worker.exitcode != 0:
                    raise JobError(f"{worker.name} {how_it_ended(worker)}")
        except BaseException:
            # The queues may hold items that nobody will take; leaving must not wait for them.
            tasks.cancel_join_thread()
            results.cancel_join_thread()
            raise
        finally:
            end(workers)
            for line in lines:
                line.close()
            for queue in (tasks, results):
                queue.close()
                queue.join_thread()
    result.held_count = len(held)
    return result


def _drive(
    tasks: Any,
    results: Any,
    lines: Sequence[Any],
    pieces: Sequence[Piece],
    hashing: bool,
    on_item: Callable[[], None],
) -> JobResult:
    """Do the parent's part, between the workers' "ready" and their summaries."""
    for line in lines:
        _ask(line, "are you ready?")
    cpu_start, start = time.process_time(), time.perf_counter()

    seen = bytearray(len(pieces))
    changed: list[Skipped] = []
    sent = sent_bytes = done_bytes = byte_count = 0
    for done in range(len(pieces)):
        while sent < len(pieces) and (
            sent == done or (sent - done < AHEAD_ITEMS and sent_bytes - done_bytes < AHEAD_BYTES)
        ):
            piece = pieces[sent]
            tasks.put((sent, piece.path, piece.offset, piece.length))
            sent_bytes += piece.length
            sent += 1
        number, contents, digest, problem = results.get()
        piece = pieces[number]
        if seen[number]:
            raise JobError(f"{_show(piece.path)} came back twice")
        seen[number] = True
        done_bytes += piece.length
        byte_count += len(contents)
        if hashing and hashlib.sha256(contents).digest() != digest:
            raise JobError(f"{_show(piece.path)}: its contents and its SHA-256 do not agree")
        if problem:
            changed.append(Skipped(piece.path, problem))
        elif len(contents) != piece.length or (hashing and digest != piece.digest):
            changed.append(Skipped(piece.path, "changed while the demo ran"))
        on_item()

    for _ in lines:
        tasks.put(None)
    tasks.join()
    summaries = [_ask(line, "summary") for line in lines]
    seconds = time.perf_counter() - start
    cpu_seconds = time.process_time() - cpu_start
    summary = {key: sum(each[key] for each in summaries) for key in summaries[0]}
    if (summary["items"], summary["bytes"]) != (len(pieces), byte_count):
        raise JobError(
            f"the workers say that they sent {summary['items']} items with {summary['bytes']} "
            f"bytes; {len(pieces)} with {byte_count} arrived"
        )
    return JobResult(
        seconds, cpu_seconds + summary["cpu_seconds"], len(pieces), byte_count, 0, changed
    )


def _work(tasks: Any, results: Any, line: Any, hashing: bool, held: Sequence[Piece]) -> None:
    """Do a worker's part: answer tasks until there are no more, then the parent's questions."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=leave_with_the_parent, daemon=True).start()
    memory = {(path, offset): _read(path, offset, length) for path, offset, length, _ in held}

    _answer(line, "are you ready?", {})
    cpu_start = time.process_time()
    item_count = byte_count = 0
    while (task := tasks.get()) is not None:
        number, path, offset, length = task
        contents, problem = memory.get((path, offset)) or _read(path, offset, length)
        digest = hashlib.sha256(contents).digest() if hashing else b""
        results.put((number, contents, digest, problem))
        tasks.task_done()
        item_count += 1
        byte_count += len(contents)
    tasks.task_done()
    summary = {
        "items": item_count,
        "bytes": byte_count,
        "cpu_seconds": time.process_time() - cpu_start,
    }
    _answer(line, "summary", summary)
    line.recv()  # "leave": until then, a worker that ends has died


def _ask(line: Any, question: str) -> dict[str, Any]:
    try:
        line.send(question)
        answer: dict[str, Any] = line.recv()
    except (EOFError, OSError) as error:
        raise JobError(f"a worker left without an answer to {question!r}") from error
    return answer


def _answer(line: Any, question: str, answer: dict[str, Any]) -> None:
    asked = line.recv()
    if asked != question:
        raise JobError(f"asked {asked!r} instead of {question!r}")
    line.send(answer)


def _read(path: str, offset: int, length: int) -> tuple[bytes, str]:
    try:
        return read_piece(path, offset, length), ""
    except OSError as error:
        return b"", why(error)


def _choose(pieces: Sequence[Piece], limit_bytes: int) -> list[Piece]:
    """Return as many of the first pieces as fit the limit."""
    chosen: list[Piece] = []
    for piece in pieces:
        limit_bytes -= piece.length
        if limit_bytes < 0:
            break
        chosen.append(piece)
    return chosen


def _show(path: str) -> str:
    return ascii(path)[1:-1] if not path.isprintable() else path
