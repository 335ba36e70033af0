"""Runs a fuzzer, and tells what it found and which lines it reached."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.building import COUNTS, FINDS, FOLDER, LLVM, Builder, Variant
from tests.fuzz.targets import UNREACHABLE, Target, function_lines
from tests.support import ROOT

# An input takes some milliseconds, and no sleep lasts; the machine may be busy with other things.
HANG_S = 10
MEMORY_MIB = 2048
INPUT_BYTES = 4096
ENVIRONMENT = {
    # The extension's objects have an owner each, and leaks are other tests' business. What asks for
    # more than this, as a damaged pickle may, gets a MemoryError.
    "ASAN_OPTIONS": (
        "detect_leaks=0:handle_abort=1:allocator_may_return_null=1"
        f":max_allocation_size_mb={MEMORY_MIB // 2}"
        # What nobody has written is an address of nothing, and not the end of an ASCII text.
        ":malloc_fill_byte=1"
    ),
    "PYTHONMALLOC": "malloc",  # so that ASan knows each object
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONPATH": str(ROOT),
}


# Fuzzers run beside each other, but are built one after the other: they share objects, and the
# program that makes their seeds.
BUILDING = threading.Lock()
# Set once nothing more is to be begun.
GIVEN_UP = threading.Event()


@dataclass
class Run:
    """What a fuzzer did."""

    cpu_s: float = 0
    seconds: float = 0
    executed: int = 0
    kept: int = 0
    found: list[Path] = field(default_factory=list)
    log: Path = Path()


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, **ENVIRONMENT, **more}


def _cpu_s_of(process: subprocess.Popen[bytes]) -> float:
    """Waits for a program; returns its own CPU time, without that of others beside it."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def make_seeds(target: Target, variant: Variant, program: Path) -> Path:
    """Writes the seeds of a fuzzer: real messages, and pieces of real segments."""
    folder = _empty(FOLDER / "seeds" / variant.name / target.name)
    if target.embeds_python:
        subprocess.run([program], env=_environment(FUZZ_SEEDS=str(folder)), check=True)
    else:
        maker = Builder(target, FINDS).seeds()
        subprocess.run([maker, folder], env=_environment(), check=True, stdout=subprocess.DEVNULL)
    return folder


def fuzz(target: Target, variant: Variant, cpu_s: float, within_s: float, seed: int = 0) -> Run:
    """Runs a fuzzer for so many seconds of CPU time, or until it finds something."""
    with BUILDING:
        program = Builder(target, variant).fuzzer()
        seeds = make_seeds(target, variant, program)
    corpus = _empty(FOLDER / "corpus" / variant.name / target.name)
    artifacts = _empty(FOLDER / "found" / variant.name / target.name)
    run = Run(log=FOLDER / f"{variant.name}-{target.name}.log")
    began = time.monotonic()
    with run.log.open("w") as log:
        while run.cpu_s < cpu_s and run.seconds < within_s and not run.found:
            if GIVEN_UP.is_set():
                raise RuntimeError(f"{target.name} was given up")
            seconds = max(1, min(cpu_s - run.cpu_s, within_s - run.seconds))
            process = subprocess.Popen(
                [
                    program, corpus, seeds, f"-max_total_time={seconds:.0f}",
                    f"-timeout={HANG_S}", f"-rss_limit_mb={MEMORY_MIB}",
                    f"-max_len={INPUT_BYTES}", f"-artifact_prefix={artifacts}/", f"-seed={seed}",
                    "-print_final_stats=1", "-reload=0",
                ],
                env=_environment(), stdout=log, stderr=log,
            )  # fmt: skip
            run.cpu_s += _cpu_s_of(process)
            run.seconds = time.monotonic() - began
            run.found = sorted(artifacts.iterdir())
            seed = seed and seed + 1
    text = run.log.read_text(errors="replace")
    run.executed = sum(map(int, re.findall(r"number_of_executed_units: (\d+)", text)))
    run.kept = len(list(corpus.iterdir()))
    if run.executed == 0 and not run.found:
        raise RuntimeError(f"the fuzzer did not run: see {run.log}\n{text[-2000:]}")
    return run


# ---- which lines were reached ----


@dataclass
class Coverage:
    """The lines of some decoders."""

    reached: int
    missed: list[str]  # path:line: text

    @property
    def percent(self) -> float:
        """Of all lines but those that no input can reach."""
        return 100 * self.reached / max(1, self.reached + len(self.missed))


def _counts(target: Target) -> dict[str, dict[int, int]]:
    """How often each line was run with the inputs that were kept, and the seeds."""
    with BUILDING:
        program = Builder(target, COUNTS).fuzzer()
    profiles = _empty(FOLDER / "profiles" / target.name)
    folders = (
        FOLDER / "seeds" / FINDS.name / target.name,
        FOLDER / "corpus" / FINDS.name / target.name,
    )
    for number, folder in enumerate(folders):
        subprocess.run(
            [program, folder], check=True, stdout=subprocess.DEVNULL,
            env=_environment(LLVM_PROFILE_FILE=str(profiles / f"{number}.raw")),
        )  # fmt: skip
    merged = profiles / "merged"
    subprocess.run(
        [LLVM["profdata"], "merge", *sorted(profiles.glob("*.raw")), "-o", merged], check=True
    )
    exported = subprocess.run(
        [LLVM["cov"], "export", "-format=lcov", f"-instr-profile={merged}", program],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    counts: dict[str, dict[int, int]] = {}
    for line in exported.splitlines():
        if line.startswith("SF:"):
            path = line[3:]
            name = str(Path(path).resolve().relative_to(ROOT)) if str(ROOT) in path else path
            lines = counts.setdefault(name, {})
        elif line.startswith("DA:"):
            number, count = line[3:].split(",")[:2]
            lines[int(number)] = max(lines.get(int(number), 0), int(count))
    return counts


def _lines_of(path: str, names: Collection[str]) -> set[int]:
    wanted, found = set(names), set()
    for name, first, last in function_lines(ROOT / path):
        if name in names:
            wanted.discard(name)
            found.update(range(first, last + 1))
    if wanted:
        raise LookupError(f"{path} has no {', '.join(sorted(wanted))}")
    return found


def coverage(target: Target) -> Coverage:
    """Which lines of a target's decoders were reached."""
    counts = _counts(target)
    result = Coverage(0, [])
    for decoder in target.decoders:
        only = _lines_of(decoder.path, decoder.functions)
        left_out = _lines_of(decoder.path, decoder.left_out)
        text = (ROOT / decoder.path).read_text().splitlines()
        excused = UNREACHABLE.get(decoder.path, {})
        for number, count in sorted(counts[decoder.path].items()):
            if (only and number not in only) or number in left_out:
                continue
            if count:
                result.reached += 1
            elif not any(part in text[number - 1] for part in excused):
                result.missed.append(f"{decoder.path}:{number}: {text[number - 1].strip()}")
    return result
