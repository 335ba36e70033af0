"""What must have happened in a storm, for its silence to mean anything: from the rows of its
results, pure functions; test_happened.py feeds them with fabricated rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import deaths, messages
from .scenarios import SCENARIOS

# From here on each of all scenarios has 11 s.
LONG_S = 300.0
# In so many kills each way of dying happens: the rarest is one in 23.
MANY_KILLS = 250
NOBODY = "nobody was killed at random"

# The columns that tell.
COLUMN_OF = {
    deaths.KILL: "by SIGKILL",
    deaths.TERM: "by SIGTERM",
    deaths.EXIT: "by os._exit in a handler",
    deaths.IN_PUT: "by os._exit inside put",
    deaths.ALL: "all at the end",
    deaths.STOP: "stopped and continued",
}
LARGEST = "largest message in MiB"
EMPTY = "messages of 0 B"


def columns_of(dead: dict[str, int], stops: int, largest: int, empty: int) -> dict[str, float]:
    """Return the part of a row that tells it."""
    told = {COLUMN_OF[way]: count for way, count in dead.items()}
    return {
        **told,
        COLUMN_OF[deaths.STOP]: stops,
        LARGEST: round(largest / messages.MIB, 3),
        EMPTY: empty,
    }


def missing_from(rows: Sequence[dict[str, Any]], seconds: float) -> list[str]:
    """Return in a sentence each what has not happened in so many seconds of storm, and must have.

    Each run kills somebody at random, and whoever kills many does so in each way. A long run does
    everything: in each scenario what is drawn often enough to be certain there.
    """
    told = []
    killed = sum(row[COLUMN_OF[way]] for row in rows for way in deaths.RANDOM)
    if killed == 0:
        told.append(NOBODY)
    if seconds >= LONG_S or killed >= MANY_KILLS:
        told += [
            f"{COLUMN_OF[way]}: never"
            for way in (*deaths.RANDOM, deaths.STOP)
            if not any(row[COLUMN_OF[way]] for row in rows)
        ]
    if seconds < LONG_S:
        return told
    for row in rows:
        method = SCENARIOS[row["scenario"]].start_method
        told += [
            f"{row['scenario']}: {COLUMN_OF[way]}: never in this scenario"
            for way in deaths.certain(method)
            if row[COLUMN_OF[way]] == 0
        ]
        if row[EMPTY] == 0:
            told.append(f"{row['scenario']}: no message of 0 B came")
    largest = max((row[LARGEST] for row in rows), default=0)
    if largest * messages.MIB < messages.LARGEST:
        told.append(f"no message of 32 MiB came, the largest had {largest:g}")
    return told
