"""Tests of the runner itself: a suite that cannot fail, or loses results, would prove nothing."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import signal
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.cpython import interpreters, mends, report, rewrite, selection
from tests.cpython.supervise import ROOT, Job, Result, Run, run

# Stands in for multiprocessing, except that closing a SimpleQueue does something else.
STANDIN = """
import importlib, multiprocessing, os, signal, sys, time
from multiprocessing import *

for name in ("connection", "dummy", "heap", "managers", "pool", "queues", "reduction",
             "process", "resource_tracker", "shared_memory", "sharedctypes", "util"):
    module = importlib.import_module("multiprocessing." + name)
    globals()[name] = sys.modules[__name__ + "." + name] = module

def SimpleQueue():
    queue = multiprocessing.SimpleQueue()
    queue.close = close
    return queue

def close():
    {body}
"""


def run_with_close(
    folder: Path, body: str, pattern: str = "TestSimpleQueue", **options: Any
) -> Run:
    python = interpreters.running()
    if not python.has_suite:
        pytest.skip("this Python has no test._test_multiprocessing")
    (folder / "standin.py").write_text(STANDIN.format(body=body), encoding="utf-8")
    job = Job(python.path, "fork", "standin", str(folder), pattern, **options)
    return run(job)


def test_a_wrong_class_fails_its_own_tests_and_no_others(tmp_path: Path) -> None:
    finished = run_with_close(tmp_path, "raise OSError('wrong on purpose')")
    assert finished.results["TestSimpleQueue.test_empty"].outcome == "passed"
    assert finished.results["TestSimpleQueue.test_close"].outcome == "failed"
    assert "wrong on purpose" in finished.results["TestSimpleQueue.test_close"].detail


def test_a_crash_is_the_failure_of_one_test(tmp_path: Path) -> None:
    finished = run_with_close(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    assert finished.results["TestSimpleQueue.test_empty"].outcome == "passed"
    assert "status -9" in finished.results["TestSimpleQueue.test_close"].detail


def test_a_hang_is_named_and_shows_where_it_hangs(tmp_path: Path) -> None:
    test = "TestSimpleQueue.test_close"
    finished = run_with_close(tmp_path, "time.sleep(1000)", test, watchdog_seconds=3)
    hung = [test_id for test_id, result in finished.results.items() if result.outcome == "failed"]
    assert test in hung
    assert all("hung" in finished.results[test_id].detail for test_id in hung)
    assert "in close" in finished.results[test].detail


@pytest.mark.parametrize(
    ("source", "rewritten"),
    [
        ("import multiprocessing", "import new as multiprocessing"),
        ("import multiprocessing as mp", "import new as mp"),
        ("import multiprocessing.pool", "import new.pool\nimport new as multiprocessing"),
        ("import multiprocessing.pool as p", "import new.pool as p"),
        ("from multiprocessing import Queue", "from new import Queue"),
        ("from multiprocessing.pool import Pool", "from new.pool import Pool"),
        ("import os, multiprocessing", "import os\nimport new as multiprocessing"),
        ("import multiprocessings", "import multiprocessings"),
        ("from .multiprocessing import a", "from .multiprocessing import a"),
        ("x = 'import multiprocessing'", "x = 'import new as multiprocessing'"),
        ("x = 'from multiprocessing import a'", "x = 'from new import a'"),
        ("x = 'import multiprocessing.spawn'", "x = 'import new.spawn'"),
        ("x = 'multiprocessing.spawn'", "x = 'multiprocessing.spawn'"),
    ],
)
def test_imports_of_multiprocessing_are_read_as_the_target(source: str, rewritten: str) -> None:
    tree = rewrite.Imports("new").visit(ast.parse(source))
    assert ast.unparse(ast.fix_missing_locations(tree)) == textwrap.dedent(rewritten)


def finished_run(version: str = "3.11.7", **outcomes: str) -> Run:
    """Returns a made-up run in which every required class passed one test, save as told."""
    done = Run(Job("python", "spawn"), version)
    for module, classes in selection.REQUIRED.items():
        for base in classes:
            test_id = f"{base}.test"
            done.tests[test_id] = {"key": test_id, "base": base, "module": module}
            done.results[test_id] = Result(outcomes.get(base, "passed"))
    return done


def judged(*runs: Run, every_python: bool = True, **kept: Any) -> list[str]:
    problems = report.judge(runs, every_python=every_python, expected=kept.get("expected", {}))
    # Made-up runs hold no excluded test.
    return [problem for problem in problems if "nowhere found" not in problem]


def test_a_run_in_which_all_passed_is_accepted() -> None:
    assert judged(finished_run()) == []


def test_a_failed_test_fails_the_run() -> None:
    assert judged(finished_run(_TestPool="failed")) == [
        "CPython 3.11.7, spawn: _TestPool.test failed"
    ]


def test_a_class_that_ran_nowhere_fails_the_run() -> None:
    assert judged(finished_run(_TestPoll="skipped")) == ["spawn: _TestPoll ran nowhere"]


def test_a_class_may_be_skipped_where_another_interpreter_runs_it() -> None:
    assert judged(finished_run(_TestPoll="skipped"), finished_run("3.13.0")) == []


def test_fewer_tests_than_kept_fail_the_run() -> None:
    counts = {selection.EXECUTOR: len(selection.REQUIRED[selection.EXECUTOR]) + 1}
    expected = {"3.11": {"python": "3.11.7", "spawn": counts}}
    assert judged(finished_run(), expected=expected) == [
        "CPython 3.11.7, spawn: 8 tests of test.test_concurrent_futures ran, 9 are expected"
    ]


def test_an_older_patch_release_may_have_fewer_tests() -> None:
    expected = {"3.11": {"python": "3.11.7", "spawn": {selection.EXECUTOR: 9}}}
    assert judged(finished_run("3.11.2"), expected=expected) == []


def test_no_more_than_ten_tests_may_be_excluded(monkeypatch: pytest.MonkeyPatch) -> None:
    many = tuple(selection.Excluded(f"A.test_{i}", "why", ("fork",)) for i in range(11))
    monkeypatch.setattr(selection, "EXCLUDED", many)
    assert selection.problems() == ["fork: 11 tests are excluded, at most 10 may be"]


def test_an_exclusion_needs_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "EXCLUDED", (selection.Excluded("A.test", ""),))
    assert selection.problems() == ["A.test is excluded without a reason"]


def test_an_exclusion_of_a_test_that_is_gone_fails_the_run() -> None:
    problems = report.judge([finished_run()], every_python=True, expected={})
    stale = [f"spawn: {name} is excluded but nowhere found" for name in _excluded()]
    assert problems == stale


def _excluded() -> list[str]:
    return sorted(selection.excluded_under("spawn"))


def test_kept_counts_only_rise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "expected.json"
    counts = {"python": "3.11.9", "spawn": {selection.EXECUTOR: 99}}
    kept.write_text(json.dumps({"3.11": counts}), encoding="utf-8")
    monkeypatch.setattr(report, "EXPECTED", kept)
    report.raise_expected([finished_run("3.11.7"), finished_run("3.13.0")])
    raised = report.load_expected()
    assert raised["3.11"]["python"] == "3.11.9"
    assert raised["3.11"]["spawn"][selection.EXECUTOR] == 99
    assert raised["3.13"]["spawn"][selection.EXECUTOR] == 8


# An executor whose feeder reports an error while the manager is already joining it.
LATE_FEEDER = """
import concurrent.futures.process as process, faulthandler, pickle, threading
from tests.cpython import mends

class LateLock:
    def __init__(self, lock):
        self.lock = lock
    def __enter__(self):
        reports.set()
        joins.wait()
        self.lock.__enter__()
    def __exit__(self, *exception):
        return self.lock.__exit__(*exception)

class NotPicklable:
    def __reduce__(self):
        raise pickle.PicklingError

def make_queue(self, *args, shutdown_lock, **options):
    inner_make_queue(self, *args, shutdown_lock=LateLock(shutdown_lock), **options)

def join_thread(self):
    joins.set()
    inner_join_thread(self)

if __name__ == "__main__":
    faulthandler.dump_traceback_later(30, exit=True)
    reports, joins = threading.Event(), threading.Event()
    queue = process._SafeQueue
    inner_make_queue, queue.__init__ = queue.__init__, make_queue
    inner_join_thread, queue.join_thread = queue.join_thread, join_thread
    print(mends.apply())
    with process.ProcessPoolExecutor(2) as executor:
        executor.submit(id, 42).result()
        future = executor.submit(id, NotPicklable())
        reports.wait()
        executor.shutdown(wait=False)
        assert isinstance(future.exception(), pickle.PicklingError)
"""


def test_the_standard_executors_own_deadlock_is_mended(tmp_path: Path) -> None:
    """Without mends.apply() this hangs, on the standard library alone."""
    affected = [one for one in interpreters.find_all() if one.version in ("3.12.1", "3.13.0")]
    if not affected:
        pytest.skip("no Python with the fault is here")
    script = tmp_path / "late_feeder.py"
    script.write_text(LATE_FEEDER, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for python in affected:
        output = (tmp_path / python.version).open("w+", encoding="utf-8")
        process = subprocess.Popen(
            [python.base, str(script)],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(60)
            output.seek(0)
            said = output.read()
            assert (process.returncode, said) == (0, f"{[mends.FEEDER_DEADLOCK]}\n")
        finally:
            # Where the executor hung, its workers wait for ever.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            output.close()
