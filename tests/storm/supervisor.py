"""One round: the storm, the calm behind it, and what is looked at then. The supervisor is the only
process that is not killed; it puts and gets, too.
"""

from __future__ import annotations

import importlib
import random
import select
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import deaths, kinds, memory, messages, verdict
from .crew import Crew
from .scenarios import Scenario
from .way import StormError, Way
from .workers import SUPERVISOR

# What is passed through each way before the storm, for the level of memory to be that of one that
# was used. Few, for the storm to meet a ring that still has to grow. A pipe's ring holds each.
USED_WITH_BYTES = (0, 100, 4096, 50_000)
REST_PATIENCE_S = 15.0
CAPACITY_BYTES = 700_000
# How long, at most, the storm goes on while a queue is shut down, and as long behind that.
SHUTTING_S = 0.3
END_CALLS = (
    ("put", (None,)), ("put", (None, False)), ("put", (bytes(100_000), True, 0.01)),
    ("put_many", ([1, 2],)), ("get", ()), ("get", (False,)), ("get", (True, 0.01)),
    ("get_many", (2,)),
)  # fmt: skip

NOTHING = memory.Level(0, 0, 0, 0)


@dataclass
class Round:
    """What came of one."""

    seconds: float = 0.0
    lives: int = 0
    deaths: dict[str, int] = field(default_factory=dict)
    stops: int = 0
    largest: int = 0
    empty: int = 0
    figures: verdict.Figures = field(default_factory=verdict.Figures)
    unnoted: int = 0
    aimed: int = 0
    recoveries: int = 0
    late_wakes: int = 0
    before: memory.Level = NOTHING
    after: memory.Level = NOTHING
    failures: list[str] = field(default_factory=list)


class Supervisor:
    """One round on one channel."""

    def __init__(
        self, scenario: Scenario, seed: str, seconds: float, deadline: float, candidate: str,
        aim_s: float, folder: Path,
    ) -> None:  # fmt: skip
        """deadline: the seconds after which, if no message was put or got, somebody is hung."""
        self._seconds = seconds
        self._deadline = deadline
        self._scenario = scenario
        self._chance = random.Random(seed)
        module = importlib.import_module(candidate)
        context: Any = module.get_context(scenario.start_method)
        self._is_ours = kinds.is_ours(context)
        self._channel = kinds.KINDS[scenario.kind](context, scenario.batches, self._chance)
        maker = messages.Maker(
            SUPERVISOR, random.Random(seed), "small", self._channel.takes_buffers
        )
        self._ways = [Way(way, maker) for way in self._channel.ways]
        self._crew = Crew(
            scenario, context, self._channel, self._ways, seed, folder, self._chance, deadline,
            aim_s,
        )  # fmt: skip
        self._doorbell = -1
        self._puts_when_shut = 0
        self._round = Round()
        self._progress = -1
        self._progress_at = time.monotonic()

    def run(self) -> Round:
        """Storm, calm down, look."""
        began = time.monotonic()
        try:
            self._arm()
            self._use()
            capacity = self._capacity()
            for way in self._ways:
                way.close_book("the supervisor, before")
            self._crew.start()
            self._storm(self._seconds, may_finish=False)
            if self._channel.shuts_at_once is not None:
                self._end_with_a_shutdown()
            elif self._chance.random() < 0.5:
                self._end_with_pills()
            else:
                self._end_with_a_massacre()
            self._finish_tasks()
            self._judge()
            if self._channel.shuts_at_once is None:
                self._look_at_capacity(capacity)
                self._look_at_doorbell()
            else:
                self._look_at_end()
            self._look_at_rest()
        except (StormError, messages.DamagedError) as error:
            self._round.failures.append(str(error))
        except Exception:
            # Of a call of the library's that must not fail in here.
            self._round.failures.append(traceback.format_exc())
        finally:
            self._crew.close()
            self._channel.close()
        self._round.seconds = time.monotonic() - began
        self._round.lives = self._crew.lives
        self._round.deaths = self._crew.deaths
        self._round.stops = self._crew.stops
        self._round.largest = max(self._crew.largest, *(way.largest for way in self._ways))
        self._round.empty = self._crew.empty + sum(way.empty for way in self._ways)
        self._round.aimed = self._crew.aimed
        self._round.failures = self._crew.failures + self._round.failures
        if self._crew.failures:
            self._round.failures.append("standard error: " + self._crew.errors())
        return self._round

    # ---- the storm ----

    def _storm(self, seconds: float, may_finish: bool) -> None:
        method = self._scenario.start_method
        now = time.monotonic()
        ends, acts = now + seconds, now
        while now < ends:
            self._crew.let_continue(now)
            self._crew.bury(replace=True, may_finish=may_finish)
            self._look_meanwhile(now)
            if now >= acts:
                way, pause = deaths.draw(self._chance, method)
                self._crew.do(way, now)
                acts = now + pause
            time.sleep(0.001)
            now = time.monotonic()
        self._crew.continue_all()

    def _look_meanwhile(self, now: float) -> None:
        """What must hold at every moment."""
        self._look_at_progress(now)
        if self._crew.failures:
            raise StormError("the storm was ended by the failure before")
        if not self._is_ours:
            return
        limit = self._limit()
        depth = self._channel.depth()
        if limit and depth > limit:
            raise StormError(f"{depth} items are queued, and maxsize is {limit}")
        if not self._crew.any_dying:
            for way in self._ways:
                way.look_at_lost()

    def _limit(self) -> int:
        queue = getattr(self._channel, "queue", None)
        return queue._limits()[0] if queue is not None and self._is_ours else 0

    def _look_at_progress(self, now: float) -> None:
        late = self._crew.overdue(now)
        if late:
            raise StormError(
                f"{late} did not act on a signal for {self._deadline:g} s\n"
                + self._crew.dump_stacks()
            )
        moved = self._crew.moved()
        # A crowded machine takes its time to start processes.
        patience = self._deadline * (1 if self._crew.has_both_sides() else 4)
        if moved != self._progress:
            self._progress, self._progress_at = moved, now
        elif now - self._progress_at > patience:
            raise StormError(
                f"no message moved for {patience:g} s\n{self._crew.dump_stacks()}"
                f"\nstats: {[way.channel.stats and way.channel.stats() for way in self._ways]}"
            )

    # ---- the calm ----

    def _wait_for(self, what: str, condition: Any, act: Any = None) -> None:
        """Wait until it is so, as long as anybody gets on."""
        self._progress_at = time.monotonic()
        while not condition():
            if act is not None:
                act()
            self._look_at_progress(time.monotonic())
            if self._crew.failures:
                raise StormError(f"in the calm, when waiting for {what}")
            time.sleep(0.001)

    def _bury_the_last(self) -> None:
        self._crew.bury(replace=False, may_finish=True)

    def _end_with_pills(self) -> None:
        """Each worker comes to its end by itself: nobody hangs."""
        crew = self._crew
        # Those that were to die do so first.
        self._wait_for(
            "the end of those that were told to end",
            lambda: not crew.any_dying,
            self._bury_the_last,
        )
        crew.flags.stop()
        self._wait_for(
            "the end of the producers",
            lambda: not any(one.unfinished(produces=True) for one in crew.workers),
            self._bury_the_last,
        )
        self._wait_for_exits()
        for at, way in enumerate(self._ways):
            # One at a time: whoever gets a batch would get the pills of others with it.
            while (left := self._consumers_left(at)) > 0:
                message = way.make()
                self._wait_for(
                    "room for a message",
                    lambda way=way, message=message: way.put_within(message, 0.05),
                    self._bury_the_last,
                )
                self._wait_for(
                    "the end of a consumer",
                    lambda at=at, left=left: self._consumers_left(at) < left,
                    self._bury_the_last,
                )
                self._wait_for_exits()
        self._drain()

    def _consumers_left(self, way: int) -> int:
        """How many threads that get on this way have not ended."""
        return sum(worker.unfinished(way) for worker in self._crew.workers)

    def _wait_for_exits(self) -> None:
        self._wait_for(
            "the exit of workers that have come to their end",
            lambda: not any(worker.has_finished for worker in self._crew.workers),
            self._bury_the_last,
        )

    def _end_with_a_massacre(self) -> None:
        """All are killed at one time, and the supervisor takes what is left."""
        self._crew.kill_all()
        self._bury_the_last()
        self._drain()

    def _end_with_a_shutdown(self) -> None:
        """The storm goes on meanwhile, and behind it: who was killed is replaced by somebody who
        finds the queue shut. Then each worker comes to its end by itself, or all are killed.
        """
        crew, chance, (way,) = self._crew, self._chance, self._ways
        if chance.random() < 0.5:
            crew.flags.ask_to_shut()
            self._storm(chance.uniform(0, SHUTTING_S), may_finish=True)
        self._channel.shut_down(bool(self._channel.shuts_at_once))
        way.shut = True
        self._puts_when_shut = self._channel.stats().puts
        crew.flags.note_shut()
        self._storm(chance.uniform(0, SHUTTING_S), may_finish=True)
        if chance.random() < 0.2:
            crew.kill_all()
            self._bury_the_last()
        self._wait_for(
            "the end of all workers of a queue that was shut down",
            lambda: not crew.workers,
            self._bury_the_last,
        )
        self._drain()

    def _drain(self) -> None:
        for way in self._ways:
            way.drain(self._deadline + self._seconds, self._is_ours)

    def _finish_tasks(self) -> None:
        """join() waits for what was taken and not marked as done, and for no more."""
        channel = self._channel
        if not isinstance(channel, kinds.TaskChannel) or channel.stats is None:
            return
        # Which are all that were put, without those that a shutdown has given up.
        gets = channel.stats().gets
        least, most = gets - self._crew.tasks_begun, gets - self._crew.tasks_ended
        count, waited, returned = channel.finish(self._deadline)
        if not least <= count <= most:
            raise StormError(
                f"{count} tasks were left to be marked as done, of {gets}; it should be {least} to "
                f"{most}"
            )
        if not returned or (count > 0 and not waited):
            raise StormError(
                f"join() {'did not return' if not returned else 'returned early'}, {count} tasks "
                "were left"
            )

    # ---- what is looked at ----

    def _judge(self) -> None:
        for way in self._ways:
            self._judge_way(way)
        if self._channel.stats is not None:
            used, _ = kinds.slots(self._channel.descriptor())
            if used > self._channel.slots:
                self._round.failures.append(f"{used} slots are in use, and one process is left")

    def _judge_way(self, way: Way) -> None:
        books, channel = way.books, way.channel
        books.drained = np.array(way.got, np.uint64)
        books.senders[SUPERVISOR] = verdict.Sender(way.put, way.put)
        if channel.stats is not None:
            stats = channel.stats()
            books.puts, books.lost, books.given = stats.puts, stats.lost, channel.given()
            self._round.recoveries += stats.recoveries
            self._round.late_wakes += stats.late_wakes
            if channel.shuts_at_once:
                books.given_up = stats.puts - stats.gets
            elif stats.gets != stats.puts:
                self._round.failures.append(f"{stats.puts} puts and {stats.gets} gets are counted")
            if self._limit() and stats.items_high > self._limit():
                self._round.failures.append(
                    f"{stats.items_high} items were queued once, and maxsize is {self._limit()}"
                )
            received = sum(map(len, books.logs.values())) + len(books.drained)
            self._round.unnoted += books.given - received
        figures, failures = verdict.judge(books)
        self._round.figures.add(figures)
        self._round.failures += failures

    def _capacity(self) -> int | None:
        """How many messages of one size fit; they are taken out again."""
        queue = getattr(self._channel, "queue", None)
        if queue is None or not self._is_ours or not any(queue._limits()[:2]):
            return None
        payload = b"" if self._limit() else bytes(CAPACITY_BYTES)
        # Beside the books: these are put and got by nobody but the supervisor.
        (way,) = self._ways
        count = 0
        while way.put_within(way.make_of(payload), 0):
            count += 1
        self._drain()
        return count

    def _look_at_capacity(self, before: int | None) -> None:
        after = self._capacity()
        if after != before or (self._limit() and after != self._limit()):
            raise StormError(f"{after} messages fit, before the storm {before} did")

    def _arm(self) -> None:
        """In some rounds somebody has asked for the queue's descriptor."""
        queue = getattr(self._channel, "queue", None)
        if self._is_ours and queue is not None and self._chance.random() < 0.3:
            self._doorbell = queue.fileno()

    def _look_at_doorbell(self) -> None:
        """It is readable while there is something, and not otherwise."""
        if self._doorbell < 0:
            return
        poll = select.poll()
        poll.register(self._doorbell, select.POLLIN)
        # Who finds nothing takes out the byte that a killed process may have left.
        self._drain()
        if poll.poll(0):
            raise StormError("the descriptor is readable, and nothing is queued")
        (way,) = self._ways
        way.put_within(way.make_of(b""), 0)
        if not poll.poll(0):
            raise StormError("something is queued, and the descriptor is not readable")
        self._drain()

    def _look_at_end(self) -> None:
        """Of a queue that was shut down: nothing goes in, nothing comes out, whatever is called,
        and who waits for its descriptor is woken.
        """
        queue, ended = self._channel.queue, self._channel.ended  # type: ignore[attr-defined]
        if self._channel.stats().puts != self._puts_when_shut:
            raise StormError(
                f"{self._channel.stats().puts} puts are counted, and {self._puts_when_shut} when "
                "shutdown() had returned"
            )
        for name, arguments in END_CALLS:
            try:
                found = getattr(queue, name)(*arguments)
            except ended:
                continue
            raise StormError(f"{name}{arguments} of a queue that was shut down: {found!r:.100}")
        if self._doorbell >= 0:
            poll = select.poll()
            poll.register(self._doorbell, select.POLLIN)
            if not poll.poll(0):
                raise StormError("the queue was shut down, and its descriptor is not readable")

    def _use(self) -> None:
        """Pass something through, and note the level of memory that it comes to rest at."""
        if not self._is_ours:
            return
        for size in USED_WITH_BYTES:
            for way in self._ways:
                way.pass_one(bytes(size), self._deadline)
        self._round.before = self._level()
        self._round.before, told = self._come_to_rest()
        if told:
            raise StormError(f"before the storm, {', '.join(told)}")

    def _look_at_rest(self) -> None:
        """No memory is left in hand, and its level is what it was before the storm."""
        if not self._is_ours:
            return
        census = self._channel.check()
        if census["owned"] or census["queued"] or census["queued_records"]:
            self._round.failures.append(f"blocks are left: {census}")
        self._round.after, told = self._come_to_rest()
        if told:
            self._round.failures.append(
                f"{', '.join(told)}; before the storm {self._round.before}, at rest "
                f"{self._round.after}: {census}"
            )

    def _come_to_rest(self) -> tuple[memory.Level, list[str]]:
        """Wait until what is kept warm is given back, as it is when traffic rests, and all else
        is; return the level of memory then, and what of it is too much.
        """
        most_in_rings = sum(way.channel.most_in_ring for way in self._ways)
        ends = time.monotonic() + REST_PATIENCE_S
        while True:
            level = self._level()
            told = memory.too_much(level, self._round.before, most_in_rings)
            if not told or time.monotonic() > ends:
                return level, told
            for way in self._ways:
                way.stay_empty(0.2)

    def _level(self) -> memory.Level:
        groups = self._channel.check()["group_numbers"]
        return memory.level_of(self._channel.descriptor(), groups)


def storm(
    scenario: Scenario, seed: str, seconds: float, deadline: float, candidate: str, aim_s: float
) -> Round:
    """Do one round and return what came of it."""
    with tempfile.TemporaryDirectory(prefix="fastipc-storm-") as folder:
        return Supervisor(scenario, seed, seconds, deadline, candidate, aim_s, Path(folder)).run()
