"""How workers are ended, and with which exit codes they may then have ended."""

from __future__ import annotations

import random
import signal

from .messages import EXIT_IN_REDUCE
from .workers import EXIT_IN_HANDLER, EXIT_ON_TERM, EXIT_RETIRED, Life

# What is done to workers, and of what they die.
KILL = "SIGKILL"
AIMED = "SIGKILL while it holds a lock, if it is met so"
TERM = "SIGTERM"
EXIT = "os._exit in a handler"
STOP = "SIGSTOP"
NUDGE = "a signal that does nothing"
ALL = "SIGKILL of all at the end"
IN_PUT = "os._exit inside put"
# At random, one at a time.
RANDOM = (KILL, TERM, EXIT, IN_PUT)

_SIGNALS = {
    KILL: signal.SIGKILL,
    TERM: signal.SIGTERM,
    EXIT: signal.SIGUSR2,
    STOP: signal.SIGSTOP,
    NUDGE: signal.SIGURG,
}
_DIED_OF = {
    -signal.SIGTERM: TERM,
    EXIT_ON_TERM: TERM,
    -signal.SIGUSR2: EXIT,
    EXIT_IN_HANDLER: EXIT,
    EXIT_IN_REDUCE: IN_PUT,
}
_OFTEN = ((KILL, 25), (AIMED, 20), (TERM, 15), (EXIT, 15), (STOP, 15), (NUDGE, 10))
_WEIGHTS = {
    "fork": _OFTEN,
    "forkserver": _OFTEN,
    # A spawned child takes a third of a second to be there: fewer deaths, more of the rest.
    "spawn": ((KILL, 4), (AIMED, 5), (TERM, 3), (EXIT, 3), (STOP, 50), (NUDGE, 35)),
}
_PAUSE_S = {"fork": (0.0, 0.03), "forkserver": (0.0, 0.03), "spawn": (0.0, 0.08)}
STOPPED_S = (0.001, 0.1)
AIM_PAUSE_S = 0.0002


def draw(chance: random.Random, start_method: str) -> tuple[str, float]:
    """Return the next thing to do to a worker, and the pause behind it in seconds."""
    ways, weights = zip(*_WEIGHTS[start_method])
    return chance.choices(ways, weights)[0], chance.uniform(*_PAUSE_S[start_method])


def signal_of(way: str) -> signal.Signals:
    """Return the signal that does it."""
    return _SIGNALS[way]


def certain(start_method: str) -> tuple[str, ...]:
    """Return what happens to a worker in each scenario of a long run. On a crowded machine ten
    things a second are done; what is one in eleven of them or more is missing from 11 s once in
    20,000 times.
    """
    weights = dict.fromkeys((KILL, TERM, EXIT, STOP), 0)
    for way, weight in _WEIGHTS[start_method]:
        way = KILL if way == AIMED else way
        if way in weights:
            weights[way] += weight
    return tuple(way for way, weight in weights.items() if weight >= 9)


def kind_of(code: int, done_to_it: set[str]) -> str | None:
    """Return of what a worker has died that ended with this code; None: by itself."""
    if code == -signal.SIGKILL:
        return KILL if KILL in done_to_it else ALL
    return _DIED_OF.get(code)


def allowed_codes(life: Life, done_to_it: set[str], may_finish: bool) -> set[int]:
    """Return the exit codes with which a worker may have ended."""
    codes: set[int] = {0} if may_finish else set()
    if life.dies_at >= 0:
        codes.add(EXIT_IN_REDUCE)
    if not all(job.produces for job in life.jobs):
        codes.add(EXIT_RETIRED)
    if done_to_it & {KILL, ALL}:
        codes.add(-signal.SIGKILL)
    # Before its handlers are installed, a signal that kills by default does.
    if TERM in done_to_it:
        codes |= {-signal.SIGTERM, EXIT_ON_TERM}
    if EXIT in done_to_it:
        codes |= {-signal.SIGUSR2, EXIT_IN_HANDLER}
    return codes


def describe(code: int) -> str:
    """Return an exit code in words."""
    return f"died of {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
