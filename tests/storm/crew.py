"""The workers that live, and the restart of those that died. Knows what the dead had in hand."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from . import deaths, kinds, ledger, verdict
from .kinds import Channel
from .messages import PROFILES
from .scenarios import Scenario
from .way import StormError, Way
from .workers import Job, Life, work

# On each side. More workers than there are CPUs: whoever holds a lock may have to wait for one.
# How long whoever was told to stop may go on.
STOP_PATIENCE_S = 30.0
WORKERS = max(3, (os.cpu_count() or 1) // 2 + 1)


class Worker:
    """One life and its process."""

    def __init__(self, life: Life, process: Any) -> None:
        self.life = life
        self.process = process
        self.book = ledger.Ledger(life.ledger_path, len(life.jobs))
        self.done_to_it: set[str] = set()
        self.continues_at: float | None = None  # while it is stopped
        self.ends_by: float | None = None  # after a signal that ends it as soon as it is handled

    @property
    def has_begun(self) -> bool:
        """Whether it has reached its work."""
        return self.book.has_begun()

    def unfinished(self, way: int | None = None, produces: bool = False) -> int:
        """Return how many of its threads that put (of a way: that get there) have not ended."""
        return sum(
            not thread.words[ledger.FINISHED]
            for job, thread in zip(self.life.jobs, self.book.threads)
            if job.produces is produces and way in (None, job.way)
        )

    @property
    def has_finished(self) -> bool:
        """Whether all of its threads have ended as they should: it exits soon."""
        return all(thread.words[ledger.FINISHED] for thread in self.book.threads)

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended and was waited for."""
        if self.process.exitcode is None:
            # A fork server's child is waited for by the server, which then says so.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def is_running(self) -> bool:
        """Whether its main thread has a CPU or waits for one."""
        return _state(self.process.pid, self.process.pid) == "R"

    def await_stop(self) -> bool:
        """Wait until all of it is stopped; False if it has ended."""
        if self.process.exitcode is not None:
            return False
        pid = self.process.pid
        try:
            # Its end is multiprocessing's to wait for.
            found = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            if found is None or found.si_code != os.CLD_STOPPED:
                return False
            os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG)
        except ChildProcessError:
            return self._await_stop_of_anothers()
        return True

    def _await_stop_of_anothers(self) -> bool:
        """The same of a fork server's child, which is not this process's to wait for."""
        pid = self.process.pid
        ends = time.monotonic() + STOP_PATIENCE_S
        while self.process.exitcode is None:
            try:
                states = {_state(pid, int(task)) for task in os.listdir(f"/proc/{pid}/task")}
            except OSError:
                return False
            if states <= {"T", ""}:
                return bool(states - {""})
            if _state(pid, pid) in ("Z", "X", ""):
                return False
            if time.monotonic() > ends:
                raise StormError(f"process {pid} does not stop; its threads are in {states}")
        return False


class Crew:
    """All workers of a round, over their many lives."""

    def __init__(
        self,
        scenario: Scenario,
        context: Any,
        channel: Channel,
        ways: list[Way],
        seed: str,
        folder: Path,
        chance: random.Random,
        patience: float,
        aim_s: float,
    ) -> None:
        """patience: the seconds within which a signal has to be acted upon; aim_s: those for which
        workers are stopped and looked at, before one is killed wherever it is.
        """
        self._scenario = scenario
        self._context = context
        self._channel = channel
        self._ways = ways
        self._seed = seed
        self._folder = folder
        self._chance = chance
        self._patience = patience
        self._aim_s = aim_s
        self._senders = 0
        self.lives = 0
        self.moved_by_the_dead = 0
        self.tasks_begun = self.tasks_ended = 0
        self.aimed = 0  # of those killed, how many were met holding a lock
        self.deaths = dict.fromkeys((*deaths.RANDOM, deaths.ALL), 0)
        self.stops = 0  # how often one that was stopped went on
        self.largest = self.empty = 0  # of what was got: bytes, and messages without any
        self.failures: list[str] = []
        self.flags_path = folder / "flags"
        self.errors_path = folder / "errors"
        ledger.Flags.create(self.flags_path)
        self.errors_path.touch()
        self.flags = ledger.Flags(str(self.flags_path))
        self.workers: list[Worker] = []

    def start(self) -> None:
        """Start the first ones."""
        for side in (0, 1):
            self.workers += [self._new_worker(side) for _ in range(WORKERS)]

    def _new_worker(self, side: int) -> Worker:
        self.lives += 1
        chance = self._chance
        jobs = self._channel.jobs(side)
        if chance.random() < 0.3:
            jobs.append(chance.choice(jobs))
        chance.shuffle(jobs)  # signals interrupt the first one
        path = self._folder / f"life-{self.lives}"
        ledger.create(path, len(jobs))
        life = Life(
            number=self.lives,
            side=side,
            jobs=tuple(Job(self._senders + at, *job) for at, job in enumerate(jobs, 1)),
            seed=f"{self._seed}:{self.lives}",
            profile=chance.choices(tuple(PROFILES), (30, 35, 25, 10))[0],
            # What an exception finds taken goes to whichever thread of the process asks next, so
            # that of several none could be held to an order.
            term_raises=chance.random() < 0.7 and sum(not puts for _, puts in jobs) < 2,
            dies_at=chance.randrange(3000) if jobs[0][1] and chance.random() < 0.2 else -1,
            ledger_path=str(path),
            flags_path=str(self.flags_path),
            errors_path=str(self.errors_path),
        )
        self._senders += len(jobs)
        process = self._context.Process(
            target=work, args=(life, self._channel), name=f"life-{self.lives}", daemon=True
        )
        process.start()
        return Worker(life, process)

    # ---- what is done to them ----

    def do(self, way: str, now: float) -> None:
        """Do it to one of them."""
        chance = self._chance
        candidates = [worker for worker in self.workers if worker.has_begun]
        if not candidates or chance.random() < 0.03:
            candidates = self.workers
        worker = chance.choice(candidates)
        if way == deaths.STOP:
            worker.continues_at = now + chance.uniform(*deaths.STOPPED_S)
        elif way in (deaths.TERM, deaths.EXIT):
            worker.ends_by = worker.ends_by or now + self._patience
        if way == deaths.AIMED:
            worker = self._aim() or worker
            way = deaths.KILL
        worker.done_to_it.add(way)
        # Before its handlers are there, it would end by a signal that is to do nothing.
        if way != deaths.NUDGE or worker.has_begun:
            worker.send(deaths.signal_of(way))
        if way == deaths.KILL:
            worker.process.join()

    def _aim(self) -> Worker | None:
        """Stop one after the other, until one is met that holds a lock; the others go on.

        A kill at a random moment meets one in a thousand so: it is held for some nanoseconds.
        """
        if self._channel.stats is None:
            return None
        descriptor = self._channel.descriptor()
        ends = time.monotonic() + self._aim_s
        while time.monotonic() < ends:
            running = [
                worker
                for worker in self.workers
                if worker.continues_at is None and worker.is_running()
            ]
            if running:
                worker = self._chance.choice(running)
                worker.send(signal.SIGSTOP)
                if worker.await_stop() and worker.process.pid in kinds.holders(descriptor):
                    self.aimed += 1
                    return worker
                worker.send(signal.SIGCONT)
            time.sleep(self._chance.uniform(0, deaths.AIM_PAUSE_S))
        return None

    def let_continue(self, now: float) -> None:
        """Continue those that were stopped long enough."""
        for worker in self.workers:
            if worker.continues_at is not None and worker.continues_at <= now:
                worker.continues_at = None
                self.stops += worker.process.exitcode is None
                worker.send(signal.SIGCONT)

    def continue_all(self) -> None:
        """Continue whoever is stopped."""
        self.let_continue(float("inf"))

    def overdue(self, now: float) -> str:
        """Return who does not act on a signal that ends it, or nothing."""
        late = [
            f"life {worker.life.number}"
            for worker in self.workers
            if worker.ends_by is not None and worker.ends_by <= now
        ]
        return ", ".join(late)

    def kill_all(self) -> None:
        """Kill all at one time."""
        for worker in self.workers:
            worker.done_to_it.add(deaths.ALL)
            worker.send(signal.SIGKILL)
        for worker in self.workers:
            worker.process.join()

    @property
    def any_dying(self) -> bool:
        """Whether somebody may be dead by now of whom it is not known yet."""
        return any(worker.ends_by is not None for worker in self.workers)

    def has_both_sides(self) -> bool:
        """Whether a producer and a consumer have begun to work, or none is left."""
        sides = {worker.life.side for worker in self.workers}
        return sides == {one.life.side for one in self.workers if one.has_begun}

    def moved(self) -> int:
        """Return what grows as long as nobody hangs: messages put and got, threads begun, ended."""
        return self.moved_by_the_dead + sum(worker.book.moved() for worker in self.workers)

    # ---- the dead ----

    def bury(self, replace: bool, may_finish: bool) -> None:
        """Close the books of those that have ended. replace: each is followed by another."""
        for at, worker in enumerate(self.workers):
            if worker.process.exitcode is None:
                continue
            self._close_books(worker, may_finish)
            if replace:
                self.workers[at] = self._new_worker(worker.life.side)
        if not replace:
            self.workers = [one for one in self.workers if one.process._popen is not None]
        else:
            assert all(worker.process._popen is not None for worker in self.workers)

    def _close_books(self, worker: Worker, may_finish: bool) -> None:
        life, code = worker.life, worker.process.exitcode
        how = deaths.kind_of(code, worker.done_to_it)
        if how is not None:
            self.deaths[how] += 1
        if code not in deaths.allowed_codes(life, worker.done_to_it, may_finish):
            self.failures.append(
                f"life {life.number}, of side {life.side}, {deaths.describe(code)}, and what was "
                f"done to it is {sorted(worker.done_to_it)}"
            )
        for job, thread in zip(life.jobs, worker.book.threads):
            words, way = thread.words, self._ways[job.way]
            if job.produces:
                way.books.senders[job.sender] = verdict.Sender(
                    max(words[ledger.PUT_BEGUN], words[ledger.PUT_ENDED]), words[ledger.PUT_ENDED]
                )
                continue
            log = ledger.copy_of_log(thread)
            if len(log):
                way.books.logs[f"life {life.number}, thread of log {job.sender}"] = log
            if words[ledger.CALLS_BEGUN] != words[ledger.CALLS_ENDED]:
                way.books.in_hand += way.channel.in_hand
                way.allowed += way.channel.in_hand
            way.books.ends_seen += words[ledger.SAW_END]
            self.largest = max(self.largest, words[ledger.LARGEST])
            self.empty += words[ledger.EMPTY]
            self.tasks_begun += words[ledger.DONE_BEGUN]
            self.tasks_ended += words[ledger.DONE_ENDED]
        self.moved_by_the_dead += worker.book.moved()
        worker.book.close()
        os.unlink(life.ledger_path)
        worker.process.close()

    # ---- when something is wrong ----

    def dump_stacks(self) -> str:
        """Return where every worker is, in Python and in the kernel."""
        self.continue_all()
        told = []
        for worker in self.workers:
            words = [list(thread.words[: ledger.FINISHED + 1]) for thread in worker.book.threads]
            told.append(
                f"life {worker.life.number} (pid {worker.process.pid}, in the kernel: "
                f"{_where(worker.process.pid)}), its threads are {worker.life.jobs}, their words "
                f"{words}"
            )
            if worker.has_begun:
                worker.send(signal.SIGUSR1)
                time.sleep(0.2)  # or they would write into each other's lines
        return "\n".join(told) + "\n" + self.errors()

    def errors(self) -> str:
        """Return what workers have written to standard error, the end of it."""
        return self.errors_path.read_text(errors="replace")[-20000:]

    def close(self) -> None:
        """End and forget all."""
        for worker in self.workers:
            worker.process.kill()
            worker.process.join()
            worker.book.close()
            worker.process.close()
        self.workers = []
        self.flags.close()


def _state(pid: int, task: int) -> str:
    """Return the letter for what a thread does, "" if there is none."""
    try:
        with open(f"/proc/{pid}/task/{task}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(") ")[2][:1]
    except OSError:
        return ""


def _where(pid: int) -> str:
    told = []
    for name in ("wchan", "syscall"):
        try:
            told.append(Path(f"/proc/{pid}/{name}").read_text().strip())
        except OSError:
            continue
    return ", ".join(told)
