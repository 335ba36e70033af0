"""A blocked call: the GIL is free, threads do not disturb each other, and waiting costs nothing."""

from __future__ import annotations

import os
import pickle
import re
import threading
import time
from pathlib import Path

import pytest

import fastipc
from fastipc import _core
from tests.support import PATIENCE_S, Background, Flag, until_asleep
from tests.unit import targets

SECONDS = 5.0
MOST_CPU_MS = 5.0
MOST_SWITCHES = 20
# Copying so much takes long enough for another thread to do something meanwhile.
COPIED_BYTES = 2**26


@pytest.mark.parametrize("what", ["get", "put", "recv", "poll", "send", "join", "wait", "simple"])
def test_a_blocked_call_lets_other_threads_run(pipe, what):
    left, right = pipe
    queue, full = fastipc.JoinableQueue(), fastipc.Queue(1)
    full.put("first")
    simple = fastipc.SimpleQueue()
    tasks = fastipc.JoinableQueue()
    tasks.put("task")
    call, end = {
        "get": (queue.get, lambda: queue.put(1)),
        "put": (lambda: full.put(2), full.get),
        "recv": (left.recv, lambda: right.send(1)),
        "poll": (lambda: left.poll(None), lambda: right.send(1)),
        "send": (lambda: left.send_bytes(b"x" * 2**22), right.recv_bytes),
        "join": (tasks.join, tasks.task_done),
        "wait": (lambda: fastipc.connection.wait([left]), lambda: right.send(1)),
        "simple": (simple.get, lambda: simple.put(1)),
    }[what]
    blocked = Background(call)
    blocked.until_blocked()
    # This thread runs Python code while the other one is inside the call.
    assert sum(range(200_000)) == 19_999_900_000
    assert not blocked.done
    end()
    blocked.result()
    for obj in (queue, full, simple, tasks):
        obj.close()


def cost_so_far(pid):
    """CPU milliseconds and context switches of a process with one thread."""
    cpu_ms = int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6
    status = Path(f"/proc/{pid}/status").read_text()
    return cpu_ms, sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", status)))


def costs_while_blocked(groups):
    """What five seconds cost each child."""
    before = {name: cost_so_far(group.pid) for name, group in groups.items()}
    time.sleep(SECONDS)
    after = {name: cost_so_far(group.pid) for name, group in groups.items()}
    return {
        name: (after[name][0] - before[name][0], after[name][1] - before[name][1])
        for name in groups
    }


def expensive(cpu_ms, switches):
    """Whether waiting cost more than is promised."""
    return cpu_ms > MOST_CPU_MS or switches > MOST_SWITCHES


@pytest.mark.start_methods("fork")
def test_five_blocked_seconds_cost_at_most_5_ms_of_cpu_and_20_context_switches(ctx, children):
    queue, full, tasks, simple = ctx.Queue(), ctx.Queue(1), ctx.JoinableQueue(), ctx.SimpleQueue()
    full.put("first")
    tasks.put("task")
    left, right = ctx.Pipe()
    receiver, sender = ctx.Pipe(False)  # nobody receives
    calls = {
        "get": (queue, "get"),
        "get with timeout": (queue, "get", True, 60),
        "put": (full, "put", "second"),
        "put with timeout": (full, "put", "second", True, 60),
        "join": (tasks, "join"),
        "simple get": (simple, "get"),
        "recv": (left, "recv"),
        "poll": (left, "poll", 60),
        "send": (sender, "send_bytes", b"x" * 2**22),
    }
    # All at once, since they should only sleep.
    started = {name: Flag() for name in calls}
    groups = {
        name: children(targets.set_and_call, started[name], *call) for name, call in calls.items()
    }
    for name, group in groups.items():
        assert started[name].wait()
        until_asleep(group.pid)
    # A busy host adds to the CPU time of somebody now and then; only what costs too much in each
    # of three windows does so by itself.
    suspects, windows = dict(groups), []
    while suspects and len(windows) < 3:
        windows.append(costs_while_blocked(suspects))
        suspects = {name: groups[name] for name, cost in windows[-1].items() if expensive(*cost)}
    for group in groups.values():
        group.kill()
    assert not suspects, f"CPU milliseconds and context switches: {windows}"
    for obj in (queue, full, tasks, simple, left, right, receiver, sender):
        obj.close()


def test_many_threads_wait_for_one_queue_and_each_gets_one_item():
    queue = fastipc.Queue()
    calls = [Background(queue.get) for _ in range(20)]
    for call in calls:
        call.until_blocked()
    for number in range(20):
        queue.put(number)
    assert sorted(call.result() for call in calls) == list(range(20))
    queue.close()


def test_threads_that_put_and_get_on_one_full_queue_do_not_deadlock():
    queue = fastipc.Queue(1)

    def produce():
        for number in range(2000):
            queue.put(number)

    def consume():
        return sum(queue.get() for _ in range(2000))

    producers = [Background(produce) for _ in range(3)]
    consumers = [Background(consume) for _ in range(3)]
    assert sum(call.result() for call in consumers) == 3 * sum(range(2000))
    for call in producers:
        call.result()
    queue.close()


def test_close_wakes_the_threads_that_are_blocked_in_a_call():
    queue, full = fastipc.Queue(), fastipc.Queue(1)
    full.put("first")
    blocked = [Background(queue.get), Background(queue.get, timeout=50), Background(full.put, 2)]
    for call in blocked:
        call.until_blocked()
    queue.close()
    full.close()
    for call in blocked:
        with pytest.raises((ValueError, OSError)):
            call.result()


TAKES = {
    "get": lambda queue: queue.get(),
    "get_many": lambda queue: queue.get_many(5)[0],
    "get_bytes": lambda queue: queue.get_bytes(),
    "get_bytes_into": lambda queue: take_into(queue, bytearray(COPIED_BYTES)),
}


def take_into(queue, room):
    """The bytes that get_bytes_into() writes."""
    assert queue.get_bytes_into(room) == len(room)
    return bytes(room)


@pytest.mark.parametrize("take", TAKES)
def test_close_does_not_take_a_message_away_from_a_thread_that_copies_it(take):
    sent = os.urandom(2**20) * (COPIED_BYTES // 2**20)
    another = b"another" * (COPIED_BYTES // 7)
    queue = fastipc.Queue(**({} if take in ("get", "get_many") else {"serializer": None}))
    other = pickle.loads(pickle.dumps(queue))
    queue.put(sent)
    call = Background(TAKES[take], queue)
    # Without a pause: the GIL is free as soon as the copying begins, and that is soon over.
    deadline = time.monotonic() + PATIENCE_S
    while queue.qsize() and time.monotonic() < deadline:
        pass
    queue.close()
    # Would go where the message was, faster than that is copied into memory that is new.
    other.put(another)
    is_whole = call.result() == sent  # not in the assertion, which would show 64 MiB
    assert is_whole
    assert len(other.get()) == len(another)
    assert _core.debug_check(other)["owned"] == 0
    other.close()


def test_close_of_a_connection_wakes_its_own_blocked_threads(pipe):
    left, _ = pipe
    blocked = [Background(left.recv), Background(left.poll, None)]
    for call in blocked:
        call.until_blocked()
    left.close()
    for call in blocked:
        with pytest.raises((OSError, EOFError)):
            call.result()


def test_the_main_thread_can_be_blocked_while_others_use_the_queue():
    queue = fastipc.Queue()

    def later():
        until_asleep(threading.main_thread().native_id)
        queue.put("late")

    helper = Background(later)
    assert queue.get() == "late"
    helper.result()
    queue.close()
