"""Runs CPython's own tests of the running interpreter on fastipc; the other Pythons are CI's."""

from __future__ import annotations

import pytest

from tests.cpython import interpreters, report, selection
from tests.cpython.supervise import Job, run


# More than the tests of one start method take on a slow machine, all together.
@pytest.mark.timeout(400)
@pytest.mark.parametrize("method", selection.METHODS)
def test_the_interpreters_own_tests_pass_on_fastipc(method: str) -> None:
    python = interpreters.running()
    if not python.has_suite:
        pytest.skip("this Python has no test._test_multiprocessing")
    job = Job(python.path, method, first_on_path=interpreters.packages_with_fastipc(python))
    finished = run(job)
    print(report.show(finished))
    assert not report.judge([finished], every_python=False, expected=report.load_expected())
