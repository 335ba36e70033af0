"""A scenario in this process: rounds of it, each on a queue of its own, behind which nothing may
be left in the supervisor.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import importlib
import multiprocessing
import signal
import sys
import time
from multiprocessing import forkserver, resource_tracker
from typing import Any

from tests import support

from . import deaths, happened, supervisor
from .scenarios import SCENARIOS

_PR_SET_PDEATHSIG = 1


def storm_here(options: argparse.Namespace, name: str, seed: str) -> dict[str, Any]:
    """Storm one scenario for so long; return its row and its failures."""
    began = time.monotonic()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # A call that keeps its deadline by no means, in this process: print where, and end.
    faulthandler.dump_traceback_later(options.seconds * 3 + options.deadline * 3 + 60, exit=True)
    # Spawned children are not to import what this program is.
    main = sys.modules["__main__"]
    main.__spec__ = None
    main.__dict__.pop("__file__", None)
    resource_tracker.ensure_running()
    if SCENARIOS[name].start_method == "forkserver":
        # So that its children need not import anything, and before the first count of leaks.
        multiprocessing.set_forkserver_preload(["tests.storm.workers", options.candidate])
        forkserver.ensure_running()
    importlib.import_module(options.candidate)
    failures: list[str] = []
    rounds: list[supervisor.Round] = []
    before: set[tuple[Any, ...]] | None = None
    left = options.seconds
    while left > 0.05 and not failures:
        seconds = min(left, options.round, SCENARIOS[name].round_s)
        left -= seconds
        round_seed = f"{seed}:{name}:{len(rounds)}"
        # What the first round makes once and for all, such as a module's own thread, is no leak:
        # it must not grow with the second one. Of processes and shared memory nothing may be left.
        held = support.resources()
        found = supervisor.storm(
            SCENARIOS[name],
            round_seed,
            seconds,
            options.deadline,
            options.candidate,
            options.aim,
        )
        rounds.append(found)
        failures += [f"round with seed {round_seed}: {each}" for each in found.failures]
        leaked = support.leaks_since(held if before is None else before)
        before = before or held
        if leaked and not failures:
            failures.append(f"round with seed {round_seed} left {sorted(map(str, leaked))}")
    faulthandler.cancel_dump_traceback_later()
    return {"row": _row(name, time.monotonic() - began, rounds, failures), "failures": failures}


def _row(
    name: str, seconds: float, rounds: list[supervisor.Round], failures: list[str]
) -> dict[str, Any]:
    figures = [one.figures for one in rounds]
    died = {way: sum(one.deaths[way] for one in rounds) for way in (*deaths.RANDOM, deaths.ALL)}
    # Of the round behind which there was most in comparison.
    grown = max(
        rounds, key=lambda one: one.after.total - one.before.total, default=supervisor.Round()
    )
    return {
        "scenario": name,
        "seconds": round(seconds, 1),
        "rounds": len(rounds),
        "lives": sum(one.lives for one in rounds),
        "killed": sum(died.values()),
        **happened.columns_of(
            died,
            sum(one.stops for one in rounds),
            max((one.largest for one in rounds), default=0),
            sum(one.empty for one in rounds),
        ),
        "killed holding a lock": sum(one.aimed for one in rounds),
        "messages put": sum(one.put for one in figures),
        "received": sum(one.received for one in figures),
        "left for the supervisor": sum(one.drained for one in figures),
        "missing": sum(one.missing for one in figures),
        "counted as lost": sum(one.lost for one in figures),
        "given up by a shutdown": sum(one.given_up for one in figures),
        "returned to a victim": sum(one.unnoted for one in rounds),
        "locks taken over": sum(one.recoveries for one in rounds),
        "late wakes": sum(one.late_wakes for one in rounds),
        "bytes before": grown.before.total,
        "bytes at rest": grown.after.total,
        "of these kept on purpose": grown.after.kept,
        "failures": len(failures),
    }
