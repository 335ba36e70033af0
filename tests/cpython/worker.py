"""Runs some of the suite's tests in this process and writes what happens, a JSON line an event.

`supervise` starts it as `python -m tests.cpython.worker`; children started by the tests import
it as their main module, so all that every process needs is done at import. It judges nothing.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import platform
import sys
import time
import traceback
import unittest
from typing import TextIO

from tests.cpython import mends, rewrite
from tests.cpython.protocol import DUMP_SIGNAL

rewrite.install()
_MENDED = mends.apply()
faulthandler.enable()
faulthandler.register(DUMP_SIGNAL, all_threads=True)


class _Events(unittest.TestResult):
    """Writes the start and the outcome of each test as they happen."""

    def __init__(self, file: TextIO) -> None:
        super().__init__()
        self._file = file
        self._problems: list[str] = []
        self._skipped: str | None = None
        self._started_at = 0.0

    def write(self, event: str, **fields: object) -> None:
        self._file.write(json.dumps({"event": event, **fields}) + "\n")
        self._file.flush()

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._problems, self._skipped = [], None
        self._started_at = time.monotonic()
        self.write("start", id=_id(test))

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        outcome, detail = "passed", ""
        if self._problems:
            outcome, detail = "failed", "\n".join(self._problems)
        elif self._skipped is not None:
            outcome, detail = "skipped", self._skipped
        seconds = time.monotonic() - self._started_at
        self.write("stop", id=_id(test), outcome=outcome, detail=detail, seconds=seconds)

    def addError(self, test: unittest.TestCase, err: object) -> None:
        self._problem(test, err)

    def addFailure(self, test: unittest.TestCase, err: object) -> None:
        self._problem(test, err)

    def addSubTest(self, test: unittest.TestCase, subtest: object, err: object) -> None:
        if err is not None:
            self._problem(test, err, f"in {subtest}\n")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self._problems.append("this test was expected to fail and passed")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        if isinstance(test, unittest.TestCase):
            self._skipped = reason
        else:
            # setUpClass or setUpModule skipped: no test of it starts.
            self.write("fixture", outcome="skipped", detail=reason)

    def _problem(self, test: object, err: object, where: str = "") -> None:
        text = where + "".join(traceback.format_exception(*err))  # type: ignore[misc]
        if isinstance(test, unittest.TestCase):
            self._problems.append(text)
        else:
            self.write("fixture", outcome="failed", detail=f"{test}\n{text}")


def _id(test: unittest.TestCase) -> str:
    return f"{type(test).__name__}.{test._testMethodName}"


def _list(path: str) -> None:
    """Write what this interpreter's suite holds for the start method."""
    from tests.cpython import suite

    chosen = suite.find_tests()
    tests = [{"id": t.id, "key": t.key, "base": t.base, "module": t.module} for t in chosen]
    with open(path, "w", encoding="utf-8") as file:
        content = {"python": platform.python_version(), "mended": _MENDED, "tests": tests}
        json.dump(content, file)


def _check_children_use_target() -> None:
    """Refuse to go on where a child would test something else than this process does."""
    from tests.cpython import suite

    context = importlib.import_module(rewrite.target()).get_context(suite.method())
    context.set_forkserver_preload([suite.__name__])
    child = context.Process(target=suite.exit_with_target)
    child.start()
    child.join()
    if not suite.uses_target() or child.exitcode != 0:
        raise RuntimeError(f"the suite does not run on {rewrite.target()} in every process")


def _run(plan: list[str], events: _Events) -> None:
    from tests.cpython import suite

    script_helper = importlib.import_module("test.support.script_helper")
    # Scripts of the tests import the module under test, so they need this environment.
    script_helper.__dict__["__cached_interp_requires_environment"] = True
    _check_children_use_target()
    found = {test.id: test for test in suite.selected(suite.find_tests())}
    unittest.TestSuite(found[test_id].case() for test_id in plan).run(events)


def main(arguments: list[str]) -> None:
    """Do `list FILE`, or `run PLAN EVENTS`."""
    if arguments[0] == "list":
        _list(arguments[1])
        return
    with open(arguments[1], encoding="utf-8") as file:
        plan = json.load(file)
    with open(arguments[2], "a", encoding="utf-8") as file:
        events = _Events(file)
        events.write("ready")
        _run(plan, events)
        events.write("end")


if __name__ == "__main__":
    main(sys.argv[1:])
