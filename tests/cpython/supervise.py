"""Starts workers for one interpreter and start method, watches over them, collects results.

A test that hangs is named, every process of it writes its stack, and all are killed; a worker
that dies takes one test with it, and another worker does the rest. Judging is `report`'s.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from tests.cpython import protocol, selection

ROOT = Path(__file__).resolve().parents[2]

# No test may take longer. The longest that CPython allows itself is shorter on a slow machine.
WATCHDOG_SECONDS = 120
_POLL_SECONDS = 0.1
# Time for the processes of a hanging test to write their stacks before they are killed.
_DUMP_SECONDS = 2.0
# A worker runs about this many tests, so that two of them finish together.
_BATCH = 24


@dataclass(frozen=True)
class Job:
    """What to run: the interpreter, where its fastipc lies, the module under test, the method."""

    python: str
    method: str
    target: str = "fastipc"
    first_on_path: str | None = None
    pattern: str = ""
    watchdog_seconds: float = WATCHDOG_SECONDS


@dataclass
class Result:
    """What became of one test: passed, failed or skipped (by the suite itself), with its reason."""

    outcome: str
    detail: str = ""
    seconds: float = 0.0


@dataclass
class Run:
    """Everything that one job found; `tests` maps each id to its key, class and module."""

    job: Job
    version: str = ""
    tests: dict[str, dict[str, str]] = field(default_factory=dict)
    excluded: dict[str, str] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)
    # What went wrong outside any test, such as a worker that hangs at its exit.
    trouble: list[str] = field(default_factory=list)
    # Faults of the standard library that `mends` took out of the processes that ran the tests.
    mended: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def ran(self, module: str) -> list[str]:
        """Return the ids of a module's tests that were carried out, whatever came of it."""
        return [
            test_id
            for test_id, result in self.results.items()
            if self.tests[test_id]["module"] == module and result.outcome != "skipped"
        ]

    def trouble_lines(self) -> list[str]:
        """Return the first line of each trouble, which says what happened."""
        return [text.splitlines()[0] for text in self.trouble]

    def with_outcome(self, outcome: str) -> dict[str, Result]:
        return {key: value for key, value in self.results.items() if value.outcome == outcome}


def run(job: Job, workers: int = 2) -> Run:
    """Run all that is selected for a job and return what happened. Blocks until it is over.

    An exception meanwhile, such as KeyboardInterrupt, ends the workers and all their children.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="own-suite-") as folder:
        outcome = _plan(job, Path(folder))
        wanted = [test_id for test_id in outcome.tests if test_id not in outcome.excluded]
        wanted = [test_id for test_id in wanted if job.pattern in test_id]
        batches = _batches(wanted, outcome.tests)
        runner = _Batches(job, outcome, folder)
        with ThreadPoolExecutor(workers) as pool:
            try:
                list(pool.map(runner.run, batches))
            finally:
                runner.stop.set()
    outcome.results = {test_id: outcome.results[test_id] for test_id in wanted}
    outcome.seconds = time.monotonic() - started
    return outcome


def _plan(job: Job, folder: Path) -> Run:
    listed = folder / "tests.json"
    command = [job.python, "-m", protocol.WORKER, "list", str(listed)]
    done = subprocess.run(
        command,
        env=_environment(job, folder),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=job.watchdog_seconds,
        check=False,
    )
    if done.returncode != 0:
        trouble = f"{job.python} cannot list its tests\n{done.stdout}{done.stderr}"
        return Run(job, "of unknown version", trouble=[trouble])
    content = json.loads(listed.read_text(encoding="utf-8"))
    tests = {test.pop("id"): test for test in content["tests"]}
    reasons = selection.excluded_under(job.method)
    excluded = {key: reasons[test["key"]] for key, test in tests.items() if test["key"] in reasons}
    return Run(job, content["python"], tests, excluded, mended=content["mended"])


def _environment(job: Job, folder: Path | str) -> dict[str, str]:
    """Return an environment in which only our own settings change how Python behaves."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    path = [entry for entry in (job.first_on_path, str(ROOT)) if entry]
    return {
        **clean,
        "PYTHONPATH": os.pathsep.join(path),
        protocol.TARGET_VARIABLE: job.target,
        protocol.CACHE_VARIABLE: str(folder),
        protocol.METHOD_VARIABLE: job.method,
    }


def _batches(wanted: Iterable[str], tests: dict[str, dict[str, str]]) -> list[list[str]]:
    """Split the tests into lists for one worker each, without splitting a class."""
    classes: dict[str, list[str]] = {}
    for test_id in wanted:
        classes.setdefault(tests[test_id]["base"], []).append(test_id)
    batches: list[list[str]] = []
    for ids in sorted(classes.values(), key=len, reverse=True):
        if batches and len(batches[-1]) + len(ids) <= _BATCH:
            batches[-1] += ids
        else:
            batches.append(ids)
    return batches


class _Batches:
    """Runs lists of tests to their end, each with as many workers as it takes."""

    def __init__(self, job: Job, outcome: Run, folder: str) -> None:
        self._job = job
        self._run = outcome
        self._folder = folder
        self.stop = threading.Event()

    def run(self, ids: list[str]) -> None:
        left = list(ids)
        while left and not self.stop.is_set():
            attempt = _Attempt(self._job, self._folder, left)
            attempt.watch(self.stop)
            self._run.trouble += attempt.trouble
            self._run.results.update(attempt.results)
            remaining = [test_id for test_id in left if test_id not in attempt.results]
            if len(remaining) == len(left):
                detail = "the worker ended before its first test\n" + attempt.output()
                self._run.results.update({key: Result("failed", detail) for key in left})
                return
            left = remaining


class _Attempt:
    """One worker process: started, watched, and certainly gone afterwards."""

    def __init__(self, job: Job, folder: str, ids: list[str]) -> None:
        self.results: dict[str, Result] = {}
        self.trouble: list[str] = []
        self._job = job
        self._ids = ids
        self._current: str | None = None
        self._ended = False
        self._fixture: Result | None = None
        self._home = Path(tempfile.mkdtemp(dir=folder))
        self._events = self._home / "events"
        self._events.touch()

    def watch(self, stop: threading.Event) -> None:
        """Start the worker and follow its events until it is gone, or it is to stop."""
        plan = self._home / "plan.json"
        plan.write_text(json.dumps(self._ids), encoding="utf-8")
        work = self._home / "cwd"
        work.mkdir()
        with open(self._home / "output", "wb") as output, open(self._events, encoding="utf-8") as f:
            process = subprocess.Popen(
                [self._job.python, "-m", protocol.WORKER, "run", str(plan), str(self._events)],
                env=_environment(self._job, self._home.parent),
                cwd=work,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                hung = self._follow(process, f, stop)
            finally:
                _kill_session(process)
        self._conclude(process.returncode, hung)

    def output(self) -> str:
        """Return the end of what the worker and its children printed."""
        return (self._home / "output").read_text(encoding="utf-8", errors="replace")[-20_000:]

    def _follow(
        self, process: subprocess.Popen[bytes], events: TextIO, stop: threading.Event
    ) -> bool:
        """Read events until the worker is gone; return True if it had to be stopped."""
        last_event = time.monotonic()
        while True:
            gone = process.poll() is not None
            for line in events:
                self._take(json.loads(line))
                last_event = time.monotonic()
            if gone:
                return False
            if time.monotonic() - last_event > self._job.watchdog_seconds:
                os.killpg(process.pid, protocol.DUMP_SIGNAL)
                time.sleep(_DUMP_SECONDS)
                return True
            if stop.wait(_POLL_SECONDS):
                return False

    def _take(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "start":
            self._current = event["id"]
        elif kind == "stop":
            result = Result(event["outcome"], event["detail"], event["seconds"])
            self.results[event["id"]] = result
            self._current = None
        elif kind == "fixture":
            self._fixture = Result(event["outcome"], event["detail"])
            if event["outcome"] == "failed":
                self.trouble.append(event["detail"])
        elif kind == "end":
            self._ended = True

    def _conclude(self, status: int, hung: bool) -> None:
        """Give every test that this worker answers for its result."""
        seconds = self._job.watchdog_seconds
        how = f"hung for {seconds:.0f} s" if hung else f"ended its process with status {status}"
        if self._current is not None:
            self.results[self._current] = Result("failed", f"{how}\n{self.output()}", seconds)
        elif self._ended:
            if hung or status != 0:
                self.trouble.append(f"a worker {how} after its last test\n{self.output()}")
            for test_id in self._ids:
                # Its class or module fixture kept it from starting.
                self.results.setdefault(test_id, self._fixture or Result("failed", "never ran"))
        elif self.results:
            self.trouble.append(f"a worker {how} between two tests\n{self.output()}")


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    """End the worker and all that it started and left behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
