"""Runs one build of a pair's test and says what came of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.orders.build import NATIVE, TSAN, Build, bits
from tests.orders.proofs import LITMUS, RACES, Race

MOST_SECONDS = 120
# A race that ThreadSanitizer finds ends the program with this status.
FOUND = 66
OPTIONS = f"halt_on_error=0:exitcode={FOUND}:io_sync=0:report_thread_leaks=0"
REPORT = re.compile(r"WARNING: ThreadSanitizer: (.*?) \(pid=\d+\)\n(.*?)^={18}$", re.M | re.S)
# A static of a function has a number behind its name.
LOCATION = re.compile(r"^  Location is (?:global '([^'.]+)[^']*'|(heap block|stack|TLS))", re.M)
FREED = re.compile(r"^    #0 (?:free|operator delete)", re.M)

# Of a mutant's rounds, one in 50 to 350 is a miss (on two CPUs of an AMD EPYC; 2 us a round).
# So the true build's would have shown thousands; a mutant may take a thousand times as many.
TRUE_ROUNDS = 1_000_000
TRUE_SECONDS = 20
LEAST_ROUNDS = 10_000
MUTANT_ROUNDS = 10_000_000
MUTANT_SECONDS = 60
ENOUGH_MISSES = 10
COUNTS = re.compile(r"^(\d+) rounds, (\d+) misses$", re.M)


@dataclass(frozen=True)
class Outcome:
    """A run: what it showed in words, and what is wrong with that; None if nothing is."""

    pair: str
    test: str
    build: str
    showed: str
    wrong: str | None


def reported(stderr: str) -> list[tuple[str, str]]:
    """Each report's kind and the memory that it is about."""
    found = []
    for kind, text in REPORT.findall(stderr):
        place = LOCATION.search(text)
        elsewhere = "freed memory" if FREED.search(text) else "somewhere"
        found.append((kind, (place[1] or place[2]) if place else elsewhere))
    return found


def judge_race(race: Race, mutant: bool, status: int, stderr: str) -> tuple[str, str | None]:
    """What a run under ThreadSanitizer showed, and what is wrong with it."""
    reports = reported(stderr)
    if status not in (0, FOUND) or (status == FOUND) != bool(reports):
        return f"ended with {status}", f"ended with {status}:\n{stderr[-2000:]}"
    showed = ", ".join(sorted({f"{kind} on {memory}" for kind, memory in reports})) or "no report"
    if not mutant:
        return showed, f"reported although nothing was relaxed:\n{stderr}" if reports else None
    for kind, memory in reports:
        if kind != "data race" or memory not in race.memory:
            return showed, f"reported something else:\n{stderr}"
    if not any(memory == race.memory[0] for _, memory in reports):
        return showed, f"relaxed, and no race on {race.memory[0]} was reported"
    return showed, None


def run_race(build: Build, pair: str, relaxed: str | None) -> Outcome:
    """The two threads of a pair, with one label relaxed or none."""
    race = RACES[pair]
    labels = (*race.hidden, *([relaxed] if relaxed else []))
    define = f"FASTIPC_RELAX={bits(labels)}" if labels else None
    program = build.program(race.program, TSAN, race.sources, define)
    launcher = ["setarch", "-R"] if shutil.which("setarch") else []
    done = subprocess.run(
        [*launcher, str(program), pair],
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS,
        env={**os.environ, "TSAN_OPTIONS": OPTIONS},
        check=False,
    )
    showed, wrong = judge_race(race, relaxed is not None, done.returncode, done.stderr)
    return Outcome(pair, "race", f"{relaxed} relaxed" if relaxed else "as it is", showed, wrong)


def judge_litmus(mutant: bool, rounds: int, misses: int) -> str | None:
    """What is wrong with so many misses in so many rounds."""
    if mutant:
        return None if misses else f"taken apart, and no miss in {rounds} rounds"
    if rounds < LEAST_ROUNDS:
        return f"only {rounds} rounds in {TRUE_SECONDS} s: these show nothing"
    return f"{misses} misses in {rounds} rounds" if misses else None


def run_litmus(program: Path, pair: str, split: str | None, may_miss_a_cpu: bool) -> Outcome:
    """The two CPUs of a pair, with one read-modify-write taken apart or none."""
    build = f"{split} taken apart" if split else "as it is"
    if len(os.sched_getaffinity(0)) < 2:
        # On one CPU nobody sees a store late.
        showed = "not run: there is only one CPU"
        return Outcome(pair, "litmus", build, showed, None if may_miss_a_cpu else showed)
    limits = (
        (MUTANT_ROUNDS, ENOUGH_MISSES, MUTANT_SECONDS) if split else (TRUE_ROUNDS, 1, TRUE_SECONDS)
    )
    done = subprocess.run(
        [str(program), pair, *map(str, limits)],
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS,
        check=False,
    )
    counts = COUNTS.search(done.stdout)
    if done.returncode != 0 or counts is None:
        ended = f"ended with {done.returncode}"
        return Outcome(pair, "litmus", build, ended, f"{ended}:\n{done.stderr}")
    rounds, misses = int(counts[1]), int(counts[2])
    wrong = judge_litmus(split is not None, rounds, misses)
    return Outcome(pair, "litmus", build, f"{misses} misses in {rounds} rounds", wrong)


def build_litmus(build: Build, pair: str, split: str | None) -> Path:
    """The program for run_litmus()."""
    sources = dict(LITMUS[pair].mutants)[split] if split else ()
    define = f"FASTIPC_SPLIT={bits([split])}" if split else None
    return build.program("litmus", NATIVE, sources, define)
