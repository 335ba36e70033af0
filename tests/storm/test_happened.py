"""What a storm must have done, on fabricated rows: each thing that did not happen is reported."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import pytest

import fastipc

from . import deaths, happened, kinds, ledger, messages, workers
from .happened import COLUMN_OF, EMPTY, LARGEST, MANY_KILLS, NOBODY, missing_from
from .scenarios import SCENARIOS
from .workers import Job, Life


def row(scenario: str, **changes: float) -> dict[str, Any]:
    """One of a scenario in which everything has happened."""
    dead = dict.fromkeys((*deaths.RANDOM, deaths.ALL), 1)
    columns = happened.columns_of(dead, 1, messages.LARGEST, 1)
    assert set(changes) <= set(columns), changes
    return {"scenario": scenario, **columns, **changes}


def rows(**changes: float) -> list[dict[str, Any]]:
    """One of each scenario."""
    return [row(name, **changes) for name in SCENARIOS]


def test_a_storm_in_which_all_has_happened_is_accepted() -> None:
    assert missing_from(rows(), 1.0) == missing_from(rows(), 600.0) == []


def test_what_is_drawn_rarely_need_not_happen_in_a_short_storm() -> None:
    nothing = dict.fromkeys([*COLUMN_OF.values(), EMPTY, LARGEST], 0)
    one = row("queue-fork", **nothing)
    for way in deaths.RANDOM:
        assert missing_from([row("queue-spawn", **nothing), one | {COLUMN_OF[way]: 1}], 299.0) == []


@pytest.mark.parametrize("way", [*deaths.RANDOM, deaths.STOP])
def test_a_way_of_dying_that_many_kills_do_not_show_is_reported(way: str) -> None:
    others = [other for other in deaths.RANDOM if other != way]
    for killed, told in ((MANY_KILLS, [f"{COLUMN_OF[way]}: never"]), (MANY_KILLS - 1, [])):
        found = dict.fromkeys(COLUMN_OF.values(), 1) | {COLUMN_OF[way]: 0}
        found[COLUMN_OF[others[0]]] = killed - (len(others) - 1)
        assert missing_from([row("queue-fork", **found)], 30.0) == told


@pytest.mark.parametrize("seconds", [1.0, 600.0])
def test_a_storm_without_a_kill_is_reported(seconds: float) -> None:
    quiet = dict.fromkeys((COLUMN_OF[way] for way in deaths.RANDOM), 0)
    # Neither those that are killed when all is over, nor those that are stopped, count.
    assert missing_from(rows(**quiet), seconds)[0] == NOBODY
    assert missing_from([], seconds)[0] == NOBODY


@pytest.mark.parametrize("way", [*deaths.RANDOM, deaths.STOP])
def test_a_kind_of_death_that_never_happened_is_reported(way: str) -> None:
    told = missing_from(rows(**{COLUMN_OF[way]: 0}), 300.0)
    assert f"{COLUMN_OF[way]}: never" in told


@pytest.mark.parametrize(
    ("way", "scenario"),
    [
        *((way, "queue-fork") for way in (deaths.KILL, deaths.TERM, deaths.EXIT, deaths.STOP)),
        *((way, "duplex-forkserver") for way in (deaths.KILL, deaths.TERM, deaths.EXIT)),
        *((way, "pipe-spawn") for way in (deaths.KILL, deaths.STOP)),
    ],
)
def test_what_is_certain_in_a_scenario_has_to_happen_there(way: str, scenario: str) -> None:
    column = COLUMN_OF[way]
    told = missing_from([*rows(), row(scenario, **{column: 0})], 300.0)
    assert told == [f"{scenario}: {column}: never in this scenario"]


@pytest.mark.parametrize("column", ["by SIGTERM", "by os._exit inside put", LARGEST])
def test_what_is_rare_in_a_scenario_may_have_happened_in_another(column: str) -> None:
    assert missing_from([row("queue-fork"), row("queue-spawn", **{column: 0})], 300.0) == []


def test_a_size_that_never_came_is_reported() -> None:
    told = missing_from(rows(**{LARGEST: 31.999}), 300.0)
    assert told == ["no message of 32 MiB came, the largest had 31.999"]
    told = missing_from([*rows(), row("queue-fork", **{EMPTY: 0})], 300.0)
    assert told == ["queue-fork: no message of 0 B came"]


def test_all_that_is_done_to_workers_has_a_column() -> None:
    assert {deaths.KILL, deaths.TERM, deaths.EXIT, deaths.STOP, deaths.IN_PUT} <= set(COLUMN_OF)
    assert set(COLUMN_OF) == {*deaths.RANDOM, deaths.ALL, deaths.STOP}


@pytest.mark.parametrize(
    ("done", "ends"),
    [
        (deaths.KILL, {deaths.KILL}),
        (deaths.ALL, {deaths.ALL}),
        (deaths.TERM, {deaths.TERM}),
        (deaths.EXIT, {deaths.EXIT}),
        (deaths.STOP, set()),
        (deaths.NUDGE, set()),
    ],
)
def test_each_end_counts_as_what_was_done(done: str, ends: set[str]) -> None:
    life = Life(1, 0, (Job(1, 0, True),), "", "small", True, -1, "", "", "")
    codes = deaths.allowed_codes(life, {done}, may_finish=False)
    assert {deaths.kind_of(code, {done}) for code in codes} == ends
    deadly = deaths.allowed_codes(life._replace(dies_at=5), {done}, may_finish=False) - codes
    assert {deaths.kind_of(code, {done}) for code in deadly} == {deaths.IN_PUT}


def test_who_ends_by_itself_or_was_killed_before_is_not_of_those_killed_at_the_end() -> None:
    assert deaths.kind_of(0, {deaths.ALL}) is None
    assert deaths.kind_of(workers.EXIT_RETIRED, {deaths.KILL}) is None
    assert deaths.kind_of(-signal.SIGKILL, {deaths.KILL, deaths.ALL}) == deaths.KILL


def test_a_consumer_notes_the_largest_message_and_those_without_a_payload(tmp_path: Path) -> None:
    path, flags_path = tmp_path / "life", tmp_path / "flags"
    ledger.create(path, 1)
    ledger.Flags.create(flags_path)
    book, flags = ledger.Ledger(str(path), 1), ledger.Flags(str(flags_path))
    queue = fastipc.Queue()
    sizes = (0, 70_000, 0, 9000)
    for number, size in enumerate(sizes):
        payload = memoryview(bytes(size))
        queue.put(messages.as_bytes(7, number, messages.checksum_of(7, number, payload), payload))
    number = messages.checksum_of(workers.SUPERVISOR, 0, b"x")
    queue.put(messages.as_tuple(workers.SUPERVISOR, 0, number, memoryview(b"x")))
    channel = kinds.QueueChannel(queue, False, True)
    workers.consume(channel, book.threads[0], flags, random.Random(1))
    words = book.threads[0].words
    assert (words[ledger.LARGEST], words[ledger.EMPTY]) == (70_000, 2)
    del words
    queue.close()
    flags.close()
    book.close()
