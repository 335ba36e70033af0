"""Processes in two PID namespaces have equal pids: the dead one is seen dead, the living alive."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from queue import Empty, Full
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastipc
from fastipc import _core
from tests.crash.harness import Plan, Tally, Target
from tests.crash.stepper import AsleepPoint
from tests.layout import word
from tests.support import (
    PATIENCE_S,
    ROOT,
    Flag,
    start_child_watchdog,
    task_state,
    until,
    until_asleep,
)

from . import namespace_kills
from .namespaces import FIRST_PID, Namespace, why_not

pytestmark = pytest.mark.skipif(
    bool(why_not()), reason=f"no PID namespaces can be made here: {why_not()}"
)

# What is killed, inside which lock or with what in hand, is the crash tool's business.
OPERATIONS = {
    "the put lock": ["queue-put", "joinablequeue-put", "queue-put-many"],
    "the get lock": ["queue-get", "joinablequeue-get", "queue-get-many"],
    "a block": ["queue-put-large", "queue-get-large", "queue-get-views", "queue-close-views"],
    "a sleep": ["queue-get-woken", "joinablequeue-join-woken"],
    "an earlier kill": ["queue-get-many-recovery"],
    "a turn": ["pipe-send-fragmented", "pipe-recv-fragmented", "pipe-send"],
    "views of a parent": ["queue-fork-views", "queue-forked-child"],
}
LARGE = 4 << 20


@pytest.mark.watchdog(240)
@pytest.mark.parametrize("held", OPERATIONS)
def test_who_is_killed_at_an_instruction_is_dead_to_others_with_its_pid(held: str) -> None:
    command = [sys.executable, "-m", "tests.reliability.namespace_kills", "--points", "20"]
    done = subprocess.run(
        [*command, *OPERATIONS[held]], cwd=ROOT, capture_output=True, text=True, timeout=220
    )
    if done.returncode == 2:
        pytest.skip(done.stderr.strip())
    tallies = [json.loads(line) for line in done.stdout.splitlines()]
    failures = [f"{tally['name']} {failure}" for tally in tallies for failure in tally["failures"]]
    assert not failures, "\n".join(failures)
    assert done.returncode == 0, done.stderr
    assert [tally["name"] for tally in tallies] == OPERATIONS[held]
    assert all(tally["kills"] >= 12 for tally in tallies), tallies
    # Some died with a lock, and it was taken from them.
    assert sum(tally["taken_over"] for tally in tallies) > 0, tallies
    for tally in tallies:
        if tally["name"].endswith("-woken"):
            assert tally["asleep"] > 0, tally
        if tally["name"].endswith("-recovery"):
            # Each victim took over from one that was killed before it, in one of these ways.
            assert tally["variants"] > 1, tally
            assert tally["taken_over"] >= tally["kills"], tally


def judged(monkeypatch: pytest.MonkeyPatch, *found: Tally, **kind: Any) -> dict[str, Any]:
    """What the tool says of an operation whose variants were killed like that."""
    count = len(found)
    left = iter(found)
    planned = Plan(
        [lambda: pytest.fail("nothing is to be run")] * count,
        [[]] * count,
        [Target(variant, AsleepPoint(0, 0)) for variant in range(count)],
        [[]] * count,
    )
    monkeypatch.setattr(namespace_kills, "Laboratory", lambda: SimpleNamespace(taken_over=0))
    monkeypatch.setattr(namespace_kills.harness, "plan", lambda *_: planned)
    monkeypatch.setattr(namespace_kills.harness, "run_targets", lambda *_: next(left))
    usual = {"name": "x", "minimum": 150, "changes_state": True}
    usual |= {"loses": False, "falls_asleep": False}
    operation: Any = SimpleNamespace(**{**usual, **kind})
    return namespace_kills.run(operation, 10)


def test_a_sample_of_kills_in_each_variant_is_judged_as_the_crash_tools(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failures(*found: Tally, **kind: Any) -> str:
        return " ".join(judged(monkeypatch, *found, **kind)["failures"])

    good = Tally("x", kills=10, before=4, after=6, lost=1)
    tally = judged(monkeypatch, good, good)
    assert tally["failures"] == []
    assert (tally["variants"], tally["kills"], tally["before"]) == (2, 20, 8)
    assert "variant 1 went another way" in failures(good, Tally("x", missed=10))
    assert "no variant" in failures()
    assert "only 9 kills" in failures(Tally("x", kills=9, before=4, after=5))
    same = Tally("x", kills=10, before=10)
    assert "the same state" in failures(same)
    assert failures(same, changes_state=False) == ""
    assert "0 were counted" in failures(Tally("x", kills=20, before=4, after=16), loses=True)
    assert "while it slept" in failures(good, falls_asleep=True)


def array(text: bytes) -> Any:
    """An array of LARGE bytes, which is received as a view."""
    return np.frombuffer(text * (LARGE // len(text)), dtype=np.uint8)


def same(received: Any, text: bytes) -> bool:
    return bool((received == array(text)).all())


class Somebody:
    """A process in a PID namespace of its own, where it has FIRST_PID; ends with the test."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.namespace = Namespace()
        self.pid = self.namespace.fork()
        if self.pid == 0:
            self._live(function)
        self.status: int | None = None

    @staticmethod
    def _live(function: Callable[[], Any]) -> None:
        code = 1
        try:
            start_child_watchdog()
            assert os.getpid() == FIRST_PID
            function()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def stop(self) -> None:
        """Returns once it stands still."""
        os.kill(self.pid, signal.SIGSTOP)
        until(lambda: task_state(self.pid) == "T")

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        assert self.ended() == -signal.SIGKILL

    def ended(self) -> int:
        """Its exit code, once it has ended; the test's watchdog ends the wait."""
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self.status is None:
                os.kill(self.pid, signal.SIGKILL)
                self.ended()
        self.namespace.close()


@pytest.fixture
def somebody() -> Iterator[Callable[[Callable[[], Any]], Somebody]]:
    """Starts a process with FIRST_PID: somebody(function)."""
    with contextlib.ExitStack() as stack:

        def start(function: Callable[[], Any]) -> Somebody:
            process = Somebody(function)
            stack.callback(process.close)
            return process

        yield start


def dies_having_used(queue: Any, start: Callable[[Callable[[], Any]], Somebody]) -> None:
    """A process with FIRST_PID that had a slot, and a large message in hand, and was killed."""
    ready = Flag()

    def use() -> None:
        queue.put(array(b"dead"))
        kept = queue.get_nowait()  # a view: its block is this process's as long as it lives
        assert same(kept, b"dead")
        ready.set()
        signal.pause()

    user = start(use)
    assert ready.wait()
    user.kill()


def put_and_get(queue: Any, leave: Flag) -> None:
    payload = b"x" * 3500
    while not leave.is_set():
        for _ in range(100):
            queue.put(payload)
            assert queue.get() == payload


def stop_inside(process: Somebody, queue: Any, side: str) -> None:
    """Stops the only user of a queue while it owns a side's lock."""

    def inside() -> bool:
        process.stop()
        if word(queue, side):
            return True
        process.go_on()
        return False

    until(inside, f"a stop inside the {side} lock")


def use_later(queue: Any, ready: Flag, go: Flag, report: Any) -> None:
    """Once told to go, tells what comes of a put and a get that have half a second."""
    queue._attach()  # now: so that it does not claim the slot of who dies meanwhile
    ready.set()
    assert go.wait()
    outcome = []
    for call in (lambda: queue.put("mine", timeout=0.5), lambda: queue.get(timeout=0.5)):
        try:
            outcome.append(call())
        except (Full, Empty) as error:
            outcome.append(type(error).__name__)
    report.put((outcome, queue.stats().recoveries, queue.stats().lost))


@pytest.mark.parametrize("side", ["put", "get"])
@pytest.mark.parametrize("killed", [False, True], ids=["alive", "killed"])
def test_the_owner_of_a_lock_is_not_mistaken_for_another_with_its_pid(
    somebody: Any, side: str, killed: bool
) -> None:
    ctx = fastipc.get_context("fork")
    queue, report = ctx.Queue(), ctx.Queue()
    leave, ready, go = Flag(), Flag(), Flag()
    # Who died before has the same pid too.
    dies_having_used(queue, somebody)
    other = somebody(lambda: use_later(queue, ready, go, report))
    assert ready.wait()
    owner = somebody(lambda: put_and_get(queue, leave))
    stop_inside(owner, queue, side)
    if killed:
        owner.kill()
    go.set()
    assert other.ended() == 0
    outcome, recoveries, lost = report.get(timeout=PATIENCE_S)
    if killed:
        # What the dead had put was there before; the rest of the test is the crash tool's.
        assert outcome[0] is None
        assert outcome[1] in ("mine", b"x" * 3500)
        assert recoveries >= 1
    else:
        # Nobody had anything of the living one's: neither its lock nor what it had taken.
        assert outcome[1 if side == "get" else 0] == ("Empty" if side == "get" else "Full")
        assert (recoveries, lost) == (0, 0)
        owner.go_on()
        leave.set()
        # It meets what the other one has put, at most.
        assert owner.ended() in (0, 1)
        assert queue.stats().recoveries == 0
    while not queue.empty():
        queue.get(timeout=PATIENCE_S)
    queue.put("usable")
    assert queue.get(timeout=PATIENCE_S) == "usable"
    for each in (queue, report, leave, ready, go):
        each.close()


@pytest.mark.parametrize("killed", [False, True], ids=["alive", "killed"])
def test_the_owner_of_a_turn_is_not_mistaken_for_another_with_its_pid(
    somebody: Any, killed: bool
) -> None:
    reader, writer = fastipc.get_context("fork").Pipe(duplex=False)
    ready, go = Flag(), Flag()
    first = somebody(lambda: writer.send_bytes(b"1" * LARGE))
    until(lambda: word(writer, "send_turn"), "a turn that is taken")
    until_asleep(first.pid)

    def have_it() -> None:
        writer._attach()
        ready.set()
        signal.pause()

    dead = somebody(have_it)
    assert ready.wait()
    dead.kill()
    second = somebody(lambda: writer.send_bytes(b"2" * LARGE))
    until_asleep(second.pid)

    def receive() -> None:
        writer.close()
        reader._attach()
        ready.set()
        assert go.wait()
        if not killed:
            assert reader.recv_bytes() == b"1" * LARGE
        assert reader.recv_bytes() == b"2" * LARGE
        with pytest.raises(EOFError):
            reader.recv_bytes()

    ready.close()
    ready = Flag()
    receiver = somebody(receive)
    assert ready.wait()
    if killed:
        first.kill()
    writer.close()
    go.set()
    assert receiver.ended() == 0
    assert second.ended() == 0
    if not killed:
        assert first.ended() == 0
    for each in (reader, ready, go):
        each.close()


def test_the_owner_of_a_block_is_not_mistaken_for_another_with_its_pid(somebody: Any) -> None:
    queue = fastipc.get_context("fork").Queue()
    ready, look = Flag(), Flag()

    def keep() -> None:
        view = queue.get(timeout=PATIENCE_S)
        assert same(view, b"kept")
        ready.set()
        assert look.wait()
        assert same(view, b"kept")

    owner = somebody(keep)
    queue.put(array(b"kept"))
    assert ready.wait()
    dies_having_used(queue, somebody)
    # Whoever comes now claims the dead one's slot and sweeps it; its block is used again.
    for _ in range(3):
        taker = somebody(lambda: queue.put(array(b"next")))
        assert taker.ended() == 0
    found = _core.debug_check(queue)
    # One that the living one looks at, three that are queued, those of rings, no other.
    assert found["blocks"] - found["free_blocks"] - found["rings"] == 4, found
    for _ in range(3):
        assert same(queue.get(timeout=PATIENCE_S), b"next")
    look.set()
    assert owner.ended() == 0
    queue.put("usable")
    assert queue.get(timeout=PATIENCE_S) == "usable"
    queue.close()
    for flag in (ready, look):
        flag.close()


def test_join_and_what_was_lost_do_not_depend_on_pids(somebody: Any) -> None:
    queue = fastipc.get_context("fork").JoinableQueue()
    ready = Flag()

    def take() -> None:
        assert queue.get(timeout=PATIENCE_S) == 1
        ready.set()
        signal.pause()

    for number in (1, 2):
        queue.put(number)
    taker = somebody(take)
    assert ready.wait()
    taker.kill()

    def finish() -> None:
        assert queue.get(timeout=PATIENCE_S) == 2
        queue.task_done()
        queue.task_done()

    assert somebody(finish).ended() == 0
    queue.join()
    found = queue.stats()
    # Returned before the kill, so not lost; shown is the pid in the dead one's own namespace.
    assert (found.lost, found.last_dead_pid) == (0, FIRST_PID)
    queue.close()


# ---- handles that travel ----


def see_only_ones_own_processes() -> None:
    """Mounts a /proc of this namespace's, as a container has it."""
    libc = ctypes.CDLL(None, use_errno=True)
    new_mounts, recursive_private = 0x20000, 0x44000
    if (
        libc.unshare(new_mounts) < 0
        or libc.mount(None, b"/", None, ctypes.c_ulong(recursive_private), None) < 0
        or libc.mount(b"proc", b"/proc", b"proc", ctypes.c_ulong(0), None) < 0
    ):
        raise OSError(ctypes.get_errno(), "no /proc of its own")
    assert os.readlink("/proc/self") == str(FIRST_PID)


def may_mount(start: Callable[[Callable[[], Any]], Somebody]) -> bool:
    return start(see_only_ones_own_processes).ended() == 0


def test_a_handle_reaches_another_namespace_whose_processes_can_be_seen(somebody: Any) -> None:
    ctx = fastipc.get_context("fork")
    carrier, leave = ctx.Queue(), Flag()

    def make() -> None:
        made = ctx.Queue()
        carrier.put(made)
        assert made.get(timeout=PATIENCE_S) == "found"
        leave.set()

    def find() -> None:
        carrier.get(timeout=PATIENCE_S).put("found")
        assert leave.wait()

    # Both name the process 2 of their namespace; /proc shows others under that number.
    maker, finder = somebody(make), somebody(find)
    assert (maker.ended(), finder.ended()) == (0, 0)
    carrier.close()
    leave.close()


def test_a_handle_never_opens_the_descriptors_of_another_process_with_the_pid(
    somebody: Any,
) -> None:
    if not may_mount(somebody):
        pytest.skip("no /proc can be mounted in a PID namespace here")
    ctx = fastipc.get_context("fork")
    carrier, met = ctx.Queue(), Flag()

    def make() -> None:
        made = [ctx.Queue(label="far away") for _ in range(3)]
        carrier.put_many([*made, made[0]._handles()[0], "the next item"])
        assert met.wait()
        assert all(queue.empty() for queue in made)

    def find() -> None:
        see_only_ones_own_processes()
        # Under each number that the maker may have named, this process has a queue of its own.
        decoys = [ctx.Queue(label="decoy") for _ in range(60)]
        for decoy in decoys:
            decoy.put("untouched")
        for _ in range(3):
            with pytest.raises(OSError, match="far away.*no process that has it"):
                carrier.get(timeout=PATIENCE_S)
        number = carrier.get(timeout=PATIENCE_S)
        assert ":decoy " in os.readlink(f"/proc/{FIRST_PID}/fd/{number}")
        assert carrier.get(timeout=PATIENCE_S) == "the next item"
        for decoy in decoys:
            assert (decoy.get_nowait(), decoy.empty()) == ("untouched", True)
        met.set()

    maker, finder = somebody(make), somebody(find)
    assert finder.ended() == 0
    assert maker.ended() == 0
    carrier.close()
    met.close()
