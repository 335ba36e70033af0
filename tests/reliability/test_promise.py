"""Sentences of docs/reliability.md that no other test shows."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest

import fastipc
from tests.support import PATIENCE_S, Background, ended, in_fork, until

fork = fastipc.get_context("fork")
arrivals: list[int] = []  # the write end of a pipe, in the child that is killed


class StaysOnLoad:
    """An object whose unpickling never ends: whoever gets it stays inside the call."""

    def __reduce__(self) -> Any:
        return _stay, ()


def _stay() -> None:
    os.write(arrivals[0], b"x")
    threading.Event().wait()


@pytest.fixture
def arrival() -> Any:
    """A function that waits until so many threads of children are inside their calls."""
    read_end, write_end = os.pipe()
    arrivals[:] = [write_end]

    def wait(count: int) -> None:
        while count:
            count -= len(os.read(read_end, count))

    yield wait
    arrivals.clear()
    os.close(read_end)
    os.close(write_end)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    assert ended(pid) == -signal.SIGKILL


@pytest.mark.parametrize("threads", [1, 3])
def test_each_thread_inside_a_call_costs_its_message_and_no_other(
    arrival: Any, threads: int
) -> None:
    queue = fork.Queue()
    for number in range(2):
        queue.put(number)
    for _ in range(threads):
        queue.put(StaysOnLoad())
    for number in range(2, 5):
        queue.put(number)

    def take() -> None:
        assert [queue.get(), queue.get()] == [0, 1]  # returned, so not lost
        for _ in range(threads - 1):
            threading.Thread(target=queue.get).start()
        queue.get()

    pid = in_fork(take)
    arrival(threads)
    kill(pid)
    assert [queue.get(timeout=PATIENCE_S) for _ in range(3)] == [2, 3, 4]
    assert queue.empty()
    found = queue.stats()
    assert (found.lost, found.last_dead_pid) == (threads, pid)
    queue.close()


def test_a_thread_inside_get_many_costs_its_batch_and_no_more(arrival: Any) -> None:
    queue = fork.Queue()
    queue.put_many([1, StaysOnLoad(), 2])
    queue.put_many([3, 4])
    pid = in_fork(lambda: queue.get_many(3))
    arrival(1)
    kill(pid)
    assert queue.get_many(10) == [3, 4]
    assert queue.stats().lost == 3
    queue.close()


def test_of_a_batch_whose_producer_is_killed_the_first_so_many_are_there() -> None:
    queue = fork.Queue(maxsize=10)
    pid = in_fork(lambda: queue.put_many(range(30)))
    until(lambda: queue.stats().putters == 1, "a producer that waits for room")
    kill(pid)
    assert queue.get_many(30) == list(range(10))
    assert queue.empty()
    assert queue.stats().lost == 0
    queue.close()


def test_join_waits_for_what_the_dead_had_taken_and_not_marked_done(arrival: Any) -> None:
    queue = fork.JoinableQueue()
    queue.put("work")
    queue.put(StaysOnLoad())

    def take() -> None:
        queue.get()
        queue.get()

    pid = in_fork(take)
    arrival(1)
    kill(pid)
    join = Background(queue.join)
    join.until_blocked()
    queue.task_done()  # for what was returned and not marked
    join.until_blocked()
    queue.task_done()  # for what was lost
    join.result()
    with pytest.raises(ValueError):
        queue.task_done()
    queue.close()
