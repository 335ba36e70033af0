"""close, garbage collection and exit never block, warn, crash or leave anything behind."""

from __future__ import annotations

import gc
import os
import re
import textwrap
from pathlib import Path

import pytest

import fastipc
from tests.support import resources, run_script

STRICT = ["-X", "dev", "-W", "error"]

EXITS = {
    "queues with unread items": """
        for queue in (fastipc.Queue(), fastipc.JoinableQueue(3), fastipc.SimpleQueue()):
            for _ in range(3):
                queue.put(b"x" * 10_000)
        unread = fastipc.Queue()
        unread.put(b"x" * 10**7)
    """,
    "open pipes with unread messages": """
        left, right = fastipc.Pipe()
        left.send("unread")
    """,
    "a thread blocked in get": """
        queue = fastipc.Queue()
        threading.Thread(target=queue.get, daemon=True).start()
        time.sleep(0.1)
    """,
    "threads blocked in everything": """
        queue, full, tasks = fastipc.Queue(), fastipc.Queue(1), fastipc.JoinableQueue()
        full.put(1)
        tasks.put(1)
        left, right = fastipc.Pipe()
        reader, writer = fastipc.Pipe(False)
        for call in (queue.get, lambda: full.put(2), tasks.join, left.recv,
                     lambda: writer.send_bytes(b"x" * 2**22)):
            threading.Thread(target=call, daemon=True).start()
        time.sleep(0.2)
    """,
    "a daemon thread that goes on and on": """
        queue = fastipc.Queue()
        def busy():
            while True:
                queue.put([1, 2, 3])
                queue.get()
        threading.Thread(target=busy, daemon=True).start()
        time.sleep(0.1)
    """,
    "a cycle of queue and holder": """
        class Holder: pass
        holder = Holder()
        holder.queue = fastipc.Queue()
        holder.queue.holder_ = None
        holder.itself = holder
        holder.queue.put(1)
    """,
    "objects used by atexit handlers": """
        import atexit
        queue = fastipc.Queue()
        left, right = fastipc.Pipe()
        def use():
            queue.put(1)
            assert queue.get() == 1
            left.send(2)
            assert right.recv() == 2
        atexit.register(use)
    """,
    "objects used by finalizers at exit": """
        class Last:
            def __init__(self, queue):
                self.queue = queue
            def __del__(self):
                self.queue.put("last")
        queue = fastipc.Queue()
        last = Last(queue)
    """,
    "received buffers that outlive their queue": """
        queue = fastipc.Queue()
        queue.put(bytearray(2**20))
        received = queue.get()
        queue.close()
        del queue
        assert received == bytearray(2**20)
    """,
    "a child that inherited everything": """
        queue = fastipc.Queue()
        queue.put("x" * 10**6)
        left, right = fastipc.Pipe()
        pid = os.fork()
        if pid:
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    """,
    "sys.exit inside a get": """
        import signal
        queue = fastipc.Queue()
        signal.signal(signal.SIGUSR1, lambda *_: sys.exit(0))
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        queue.get()
    """,
}


@pytest.mark.parametrize("name", EXITS)
def test_a_program_exits_quietly_with(name):
    program = "import os, sys, threading, time\nimport fastipc\n" + textwrap.dedent(EXITS[name])
    program += "\nprint('end')\n" if "sys.exit" not in name else ""
    code, out, err = run_script(program, options=STRICT)
    assert (code, err) == (0, ""), f"{code}\n{out}\n{err}"


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue", "SimpleQueue"])
def test_after_10_000_cycles_of_a_queue_nothing_is_left_over(kind):
    make = getattr(fastipc, kind)

    def cycle(number):
        queue = make()
        queue.put(number)
        assert queue.get() == number
        if number % 2:
            queue.close()

    check_cycles(cycle, 10_000)


def test_after_10_000_cycles_of_a_pipe_nothing_is_left_over():
    def cycle(number):
        left, right = fastipc.Pipe(number % 3 > 0)
        right.send(number)
        assert left.recv() == number
        if number % 2:
            left.close()
            right.close()

    check_cycles(cycle, 10_000)


def check_cycles(cycle, count):
    """Runs the cycles; afterwards the process has what it had after the first few."""
    for number in range(200):
        cycle(number)
    gc.collect()
    before, memory = resources(), resident_bytes()
    for number in range(count):
        cycle(number)
    gc.collect()
    assert not resources() - before
    assert resident_bytes() - memory < 8 * 2**20


def resident_bytes():
    """The resident memory of this process."""
    match = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(match[1]) * 1024


def test_large_items_are_given_back_when_a_queue_is_closed_or_forgotten():
    before = resident_bytes()
    for number in range(20):
        queue = fastipc.Queue()
        for _ in range(8):
            queue.put(b"x" * 2**20)
        if number % 2:
            queue.close()
        del queue
        gc.collect()
    assert resident_bytes() - before < 32 * 2**20


def test_close_may_be_repeated_and_called_in_any_state():
    for make in (fastipc.Queue, fastipc.JoinableQueue, fastipc.SimpleQueue):
        queue = make()
        queue.put(1)
        queue.close()
        queue.close()
    left, right = fastipc.Pipe()
    for end in (left, right, left, right):
        end.close()


def test_close_gives_the_descriptors_back_at_once():
    before = set(os.listdir("/proc/self/fd"))
    queue, ends = fastipc.Queue(), fastipc.Pipe()
    assert set(os.listdir("/proc/self/fd")) != before
    queue.put(1)
    queue.close()
    for end in ends:
        end.close()
    assert set(os.listdir("/proc/self/fd")) == before


def test_importing_fastipc_is_quiet_and_leaves_no_descriptor():
    program = """
import os
before = set(os.listdir("/proc/self/fd"))
import fastipc, fastipc.queues, fastipc.connection
assert set(os.listdir("/proc/self/fd")) == before
"""
    assert run_script(program, options=STRICT) == (0, "", "")
