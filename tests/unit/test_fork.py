"""fork: the child's use and the parent's use are independent, whatever threads were doing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

import fastipc
from tests.support import PATIENCE_S, Background, ended, in_fork, run_script

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def test_child_and_parent_use_a_queue_from_before_the_fork():
    queue, answers = fastipc.Queue(), fastipc.Queue()

    def child():
        for _ in range(100):
            answers.put(queue.get(timeout=PATIENCE_S) * 2)

    pid = in_fork(child)
    for number in range(100):
        queue.put(number)
    assert [answers.get(timeout=PATIENCE_S) for _ in range(100)] == [2 * n for n in range(100)]
    assert ended(pid) == 0
    queue.close()
    answers.close()


def test_close_in_the_child_or_the_parent_is_only_its_own():
    queue = fastipc.Queue()
    queue.put("before")
    assert ended(in_fork(queue.close)) == 0
    assert queue.get() == "before"
    answers = fastipc.Queue()

    def child():
        answers.put(queue.get(timeout=PATIENCE_S))
        queue.put("from the child")
        answers.put(queue.get(timeout=PATIENCE_S))

    pid = in_fork(child)
    queue.put("to the child")
    queue.close()
    assert answers.get(timeout=PATIENCE_S) == "to the child"
    assert answers.get(timeout=PATIENCE_S) == "from the child"
    assert ended(pid) == 0
    answers.close()


def test_a_fork_in_the_middle_of_other_threads_operations_leaves_both_sides_working():
    queue = fastipc.Queue(50)
    stop = threading.Event()

    def busy():
        count = 0
        while not stop.is_set():
            try:
                queue.put(b"x" * (10 if count % 2 else 5000), timeout=0.01)
                queue.get(timeout=0.01)
            except (fastipc.Empty, fastipc.Full):
                pass
            count += 1

    threads = [Background(busy) for _ in range(3)]

    def child():
        own = fastipc.Queue()
        for number in range(20):
            own.put(number)
            assert own.get(timeout=PATIENCE_S) == number
            queue.put(b"child", timeout=PATIENCE_S)
            queue.get(timeout=PATIENCE_S)
        queue.close()

    for _ in range(20):
        assert ended(in_fork(child)) == 0
    stop.set()
    for thread in threads:
        thread.result()
    while not queue.empty():
        queue.get()
    queue.put("works")
    assert queue.get() == "works"
    queue.close()


def test_a_fork_while_threads_are_blocked_leaves_both_sides_working():
    queue, full, tasks = fastipc.Queue(), fastipc.Queue(1), fastipc.JoinableQueue()
    left, right = fastipc.Pipe()
    full.put("first")
    tasks.put("task")
    blocked = [
        Background(queue.get),
        Background(full.put, "second"),
        Background(tasks.join),
        Background(left.recv),
    ]
    for call in blocked:
        call.until_blocked()

    def child():
        assert full.get(timeout=PATIENCE_S) == "first"
        tasks.task_done()
        queue.put("from the child")
        right.send("from the child")

    assert ended(in_fork(child)) == 0
    assert [call.result() for call in blocked] == ["from the child", None, None, "from the child"]
    assert full.get() == "second"
    for obj in (queue, full, tasks, left, right):
        obj.close()


def test_a_child_of_a_child_works_too():
    queue = fastipc.Queue()

    def grandchild():
        queue.put(("grandchild", queue.get(timeout=PATIENCE_S)))

    def child():
        assert ended(in_fork(grandchild)) == 0
        queue.put("child")

    queue.put("parent")
    assert ended(in_fork(child)) == 0
    assert queue.get(timeout=PATIENCE_S) == ("grandchild", "parent")
    assert queue.get(timeout=PATIENCE_S) == "child"
    queue.close()


def test_a_received_buffer_is_intact_in_parent_and_child_after_a_fork():
    queue = fastipc.Queue()
    queue.put(bytearray(b"x" * 2**20))
    received = queue.get()

    def child():
        assert received == b"x" * 2**20
        for number in range(10):
            queue.put(bytearray([number]) * 2**20)
            assert queue.get(timeout=PATIENCE_S) == bytes([number]) * 2**20
        assert received == b"x" * 2**20

    pid = in_fork(child)
    for number in range(10, 20):
        assert received == b"x" * 2**20
        assert number
    assert ended(pid) == 0
    assert received == b"x" * 2**20
    queue.close()


def test_a_fork_that_runs_no_handler_is_noticed():
    # The C function, below Python's os.fork() and its handlers.
    program = """
import ctypes, os, sys
import fastipc
queue = fastipc.Queue()
queue.put("before")
pid = ctypes.CDLL(None).syscall(57)  # fork on x86-64
if pid == 0:
    queue.put("from the child")
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
print(queue.get(timeout=20), queue.get(timeout=20))
"""
    if os.uname().machine == "x86_64":
        assert run_script(program) == (0, "before from the child\n", "")


def test_a_subprocess_does_not_keep_a_pipe_open():
    left, right = fastipc.Pipe()
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False
    ) as process:
        right.close()
        with pytest.raises(EOFError):
            left.recv()
        process.communicate(b"\n")
    assert process.returncode == 0
    left.close()
