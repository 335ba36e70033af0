"""What a program does with fastipc's objects, each from birth to end: what the leak check repeats.

After a cycle everything is as before: nothing here keeps an object.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

import fastipc
from tests.support import PATIENCE_S, Flag, ended, in_fork, start_child_watchdog, until_asleep

fork = fastipc.get_context("fork")
spawn = fastipc.get_context("spawn")
KINDS = ("Queue", "JoinableQueue", "SimpleQueue")


def small_messages() -> None:
    for kind in KINDS:
        queue = getattr(fastipc, kind)()
        for item in (None, 1, 2**70, "text", b"bytes", (1, [2.5, {"a": "b"}]), {1, 2}, range(3)):
            queue.put(item)
            assert queue.get() == item
        assert queue.empty()
        queue.close()


def large_messages() -> None:
    queue = fastipc.Queue()
    for size in (4000, 5000, 70_000, 3_000_000):
        queue.put(b"x" * size)
        queue.put([b"y" * size, "z" * size])
        assert len(queue.get()) == size
        assert len(queue.get()[1]) == size
    queue.close()


def views() -> None:
    queue = fastipc.Queue()
    for shape in ((2000,), (100, 1000), (1 << 20,)):
        queue.put(np.ones(shape))
        queue.put((np.ones(shape), np.zeros(shape)))
        array = queue.get()
        assert array.sum() == array.size
        pair = queue.get(copy=True)
        assert pair[1].sum() == 0
    queue.put(np.ones(100_000))
    kept = queue.get()
    queue.close()
    assert kept.sum() == kept.size  # behind the close, too


def batches() -> None:
    queue = fastipc.Queue(maxsize=500)
    queue.put_many(range(300))
    assert queue.get_many(200) == list(range(200))
    queue.put_many(b"x" * 20_000 for _ in range(20))
    while not queue.empty():
        queue.get_many(64)
    queue.put_bytes(b"raw" * 5000)
    assert queue.get_bytes() == b"raw" * 5000
    queue.put_bytes(b"raw")
    assert queue.get_bytes_into(bytearray(8)) == 3
    queue.close()


def backlog() -> None:
    queue = fastipc.Queue()
    for number in range(6000):
        queue.put((number, "grows the ring"))
    for number in range(6000):
        assert queue.get()[0] == number
    queue.close()


def errors() -> None:
    queue = fastipc.Queue(1)
    for wrong in (lambda: None, [1, open]):
        with contextlib.suppress(Exception):
            queue.put(wrong if callable(wrong) else [lambda: None])
    with contextlib.suppress(Exception):
        queue.put_many([1, lambda: None])
    while not queue.empty():
        queue.get()
    queue.put(1)
    with contextlib.suppress(fastipc.Full):
        queue.put_nowait(2)
    assert queue.get() == 1
    with contextlib.suppress(fastipc.Empty):
        queue.get(timeout=0.001)
    queue.put(Refuses())
    with contextlib.suppress(ValueError):
        queue.get()
    queue.shutdown()
    with contextlib.suppress(fastipc.ShutDown):
        queue.get()
    queue.close()
    with contextlib.suppress(ValueError):
        queue.put(1)
    with contextlib.suppress(TypeError):
        fastipc.Queue("many")


class Refuses:
    """An object that cannot be unpickled."""

    def __reduce__(self) -> Any:
        return int, ("not a number",)


def tasks() -> None:
    queue = fastipc.JoinableQueue()
    for _ in range(10):
        queue.put("task")
    for _ in range(10):
        queue.get()
        queue.task_done()
    queue.join()
    queue.close()


def polled() -> None:
    queue = fastipc.Queue()
    left, right = fastipc.Pipe()
    for _ in range(3):
        assert queue._reader.fileno() >= 0
        assert not fastipc.connection.wait([queue._reader, left], timeout=0)
        queue.put(1)
        right.send(1)
        ready = fastipc.connection.wait([queue._reader, left], timeout=PATIENCE_S)
        assert ready
        assert (queue.get(), left.recv()) == (1, 1)
    for each in (queue, left, right):
        each.close()


def pipes() -> None:
    for duplex in (True, False):
        reader, writer = fastipc.Pipe(duplex)
        for item in (1, "text", b"x" * 50_000, np.arange(1000)):
            writer.send(item)
            reader.recv()
        writer.send_bytes(b"abc")
        assert reader.poll(PATIENCE_S)
        assert reader.recv_bytes_into(bytearray(8)) == 3
        sender = threading.Thread(target=writer.send_bytes, args=(b"s" * 3_000_000,))
        sender.start()
        assert len(reader.recv_bytes()) == 3_000_000
        sender.join()
        writer.close()
        with contextlib.suppress(EOFError):
            reader.recv()
        reader.close()


def dropped() -> None:
    """Nothing is closed: the last reference goes, or a collector finds a circle."""
    queue = fastipc.Queue()
    queue.put(np.ones(50_000))
    queue.put("unread")
    circle: list[Any] = [queue, fastipc.Pipe()]
    circle.append(circle)
    del queue, circle
    left, right = fastipc.Pipe()
    left.send(b"x" * 10_000)
    del left, right
    gc.collect()


def handles() -> None:
    queue, carrier = fastipc.Queue(), fastipc.Queue()
    left, right = fastipc.Pipe()
    carrier.put((queue, left))
    other, end = carrier.get()
    other.put("through the copy")
    assert queue.get() == "through the copy"
    end.send(1)
    assert right.recv() == 1
    pickle.loads(pickle.dumps(queue)).close()
    for each in (queue, carrier, left, right, other, end):
        each.close()


def serializers() -> None:
    queue = fastipc.Queue(serializer=None)
    queue.put(b"as it is" * 1000)
    assert bytes(queue.get()) == b"as it is" * 1000
    queue.close()


def forked() -> None:
    queue, back = fork.Queue(), fork.SimpleQueue()
    left, right = fork.Pipe()
    queue.put(np.ones(40_000))
    kept = queue.get()

    def child() -> None:
        back.put(float(kept.sum()))
        assert right.recv() == "question"
        right.send(b"answer" * 20_000)
        queue.put("last")

    pid = in_fork(child)
    left.send("question")
    assert back.get() == kept.size
    assert len(left.recv()) == 120_000
    assert ended(pid) == 0
    assert queue.get(timeout=PATIENCE_S) == "last"
    for each in (queue, back, left, right):
        each.close()


def killed() -> None:
    """One user is killed, somewhere in its work, with views and whatever it was at."""
    queue = fork.Queue(20)
    started = Flag()

    def work() -> None:
        kept = []
        while True:
            queue.put(np.ones(5000), timeout=0.01)
            kept.append(queue.get(timeout=0.01))
            del kept[:-3]
            started.set()

    pid = in_fork(work)
    assert started.wait()
    os.kill(pid, signal.SIGKILL)
    assert ended(pid) == -signal.SIGKILL
    while not queue.empty():
        queue.get(timeout=PATIENCE_S)
    queue.put("usable")
    assert queue.get(timeout=PATIENCE_S) == "usable"
    queue.close()
    started.close()


def killed_asleep() -> None:
    """A receiver and a sender are killed while they wait."""
    queue = fork.Queue(1)
    reader, writer = fork.Pipe(False)
    queue.put(1)
    pids = [in_fork(lambda: queue.put(2)), in_fork(lambda: writer.send_bytes(b"x" * 4_000_000))]
    for pid in pids:
        until_asleep(pid)
        os.kill(pid, signal.SIGKILL)
        assert ended(pid) == -signal.SIGKILL
    assert queue.get(timeout=PATIENCE_S) == 1
    writer.close()
    with contextlib.suppress(EOFError, OSError):
        reader.recv_bytes()
    reader.close()
    queue.close()


def echo(jobs: Any, results: Any, end: Any) -> None:
    """What the spawned child runs."""
    start_child_watchdog()
    results.put(jobs.get(timeout=PATIENCE_S))
    end.send("done")


def spawned() -> None:
    jobs, results = spawn.Queue(), spawn.Queue()
    left, right = spawn.Pipe()
    process = spawn.Process(target=echo, args=(jobs, results, right))
    process.start()
    right.close()
    jobs.put(np.ones(30_000))
    assert results.get(timeout=PATIENCE_S).sum() == 30_000
    assert left.poll(PATIENCE_S)
    assert left.recv() == "done"
    process.join(PATIENCE_S)
    assert process.exitcode == 0
    process.close()
    for each in (jobs, results, left):
        each.close()


IN_ONE_PROCESS: tuple[Callable[[], None], ...] = (
    small_messages,
    large_messages,
    views,
    batches,
    backlog,
    errors,
    tasks,
    polled,
    pipes,
    dropped,
    handles,
    serializers,
)
WITH_CHILDREN: tuple[Callable[[], None], ...] = (forked, killed, killed_asleep)
WITH_INTERPRETERS: tuple[Callable[[], None], ...] = (spawned,)
