"""fastipc uses no queue, pipe or semaphore of multiprocessing: the suite passes without them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ban
from tests.support import ROOT, script_environment

FILES = (
    "test_queue_construction.py",
    "test_queue_put.py",
    "test_queue_get.py",
    "test_queue_size.py",
    "test_queue_close.py",
    "test_joinable_queue.py",
    "test_simple_queue.py",
    "test_pipe.py",
    "test_connection_bytes.py",
)


@pytest.mark.watchdog(240)
def test_the_suite_passes_when_multiprocessings_constructors_raise():
    folder = Path(__file__).parent.relative_to(ROOT)
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "tests.ban", "-p", "no:cacheprovider"),
            *("-k", "fastipc and not multiprocessing"),
            *(str(folder / name) for name in FILES),
        ],
        cwd=ROOT,
        env=script_environment(),
        capture_output=True,
        text=True,
        timeout=230,
    )
    assert run.returncode == 0, run.stdout[-10_000:] + run.stderr[-2000:]
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed and int(passed[1]) > 100, run.stdout


def test_the_ban_catches_each_constructor(run_program):
    program = """
        import multiprocessing, multiprocessing.connection
        from tests import ban
        ban.install()
        for make in (
            multiprocessing.Queue,
            multiprocessing.JoinableQueue,
            multiprocessing.SimpleQueue,
            multiprocessing.Pipe,
            multiprocessing.Lock,
            multiprocessing.Semaphore,
            multiprocessing.Event,
            lambda: multiprocessing.connection.Connection(0),
        ):
            try:
                make()
            except ban.BannedError as error:
                print(error)
    """
    assert run_program(program).splitlines() == [
        f"multiprocessing's {name} was used"
        for name in (
            *("Queue", "JoinableQueue", "SimpleQueue", "Pipe"),
            *("SemLock", "SemLock", "SemLock", "Connection"),
        )
    ]
    assert ban.VARIABLE == "FASTIPC_TEST_BAN"
