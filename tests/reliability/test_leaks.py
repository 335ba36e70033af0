"""The leak check: fastipc's objects leave nothing, and whatever is left is found."""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT

from . import leaks


@pytest.mark.watchdog(240)
def test_whole_lives_of_all_objects_leave_nothing(tmp_path: Path) -> None:
    kept = tmp_path / "leaks.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.leaks", "--short", "--json", str(kept)],
        cwd=ROOT, capture_output=True, text=True, timeout=220,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(kept.read_text())
    assert found["name"] == "leaks"
    assert found["failures"] == []
    assert len(found["rows"]) == len(leaks.planned(short=True))


def test_a_descriptor_that_a_cycle_leaves_is_found() -> None:
    left: list[int] = []
    try:
        found = leaks.check(lambda: left.append(os.memfd_create("left")), 1)
        assert any("memfd:left" in failure for failure in found["failures"])
    finally:
        for fd in left:
            os.close(fd)


@pytest.mark.skipif(leaks.bytes_in_use() is None, reason="malloc cannot be asked")
def test_a_few_bytes_that_each_cycle_leaves_are_found() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    left: list[int] = [0] * (1000 * (leaks.SPANS + 1))
    count = 0

    def leave() -> None:
        nonlocal count
        left[count] = libc.malloc(24)
        count += 1

    try:
        found = leaks.check(leave, 1000)
        assert any("bytes more" in failure for failure in found["failures"])
        assert found["row"]["bytes lost each time"] >= 24
    finally:
        for address in left[:count]:
            libc.free(address)


def test_what_grows_for_a_while_only_is_no_leak() -> None:
    kept: list[bytearray] = []

    def fill() -> None:
        if len(kept) < 2200:
            kept.append(bytearray(100))

    assert leaks.check(fill, 1000)["failures"] == []


REPORT = """
=================================================================
==7==ERROR: LeakSanitizer: detected memory leaks

Direct leak of 544 byte(s) in 1 object(s) allocated from:
    #0 0x7f in malloc
    #1 0x55 in PyObject_Malloc Objects/obmalloc.c:711

Direct leak of 24 byte(s) in 3 object(s) allocated from:
    #0 0x7f in calloc
    #1 0x7f in fipc_queue_create csrc/queue.c:41
    #2 0x7f in __pyx_f fastipc/_core.c:100

Indirect leak of 8 byte(s) in 1 object(s) allocated from:
    #0 0x7f in malloc
    #1 0x7f in fipc_queue_create csrc/queue.c:42

SUMMARY: AddressSanitizer: 576 byte(s) leaked in 5 allocation(s).
"""


def test_of_a_leak_checkers_report_what_is_ours_is_kept() -> None:
    (found,) = leaks.leaks_of_ours(REPORT.replace("csrc", "/tmp/x/csrc"))
    assert found.startswith("Direct leak of 24 byte(s)")
    assert "fipc_queue_create" in found
    assert leaks.leaks_of_ours("") == []


def checked(report: str, printed: str = leaks.ROUNDS_DONE, code: int = 0) -> Any:
    """A run under AddressSanitizer that has ended like that."""
    return subprocess.CompletedProcess([], code, stdout=printed, stderr=report)


CANARY = f"""
Direct leak of {5 * leaks.CANARY_BYTES} byte(s) in 5 object(s) allocated from:
    #0 0x7f in malloc
    #1 0x7f in ffi_call_unix64

SUMMARY: """
COMPLETE = REPORT.replace("\nSUMMARY: ", CANARY)
PYTHONS_OWN = re.sub(r"Direct leak of 24.*?\n\n", "", COMPLETE, flags=re.DOTALL)


def test_a_leak_checker_that_ran_to_its_end_is_believed() -> None:
    assert leaks.judged(checked(PYTHONS_OWN)) == ([], [])
    found, wrong = leaks.judged(checked(COMPLETE))
    assert len(found) == 1
    assert wrong == []


@pytest.mark.parametrize(
    ("done", "said"),
    [
        (checked(""), "the leak checker did not run"),
        (checked("LeakSanitizer has encountered a fatal error."), "the leak checker did not run"),
        (checked(REPORT), "the leak checker did not run"),
        (checked(CANARY), "the leak checker did not run"),
        (checked(PYTHONS_OWN, code=1), "exit code 1"),
        (checked(PYTHONS_OWN, printed=""), "the cycles did not end"),
    ],
)
def test_a_leak_checker_that_did_not_run_to_its_end_is_a_failure(done: Any, said: str) -> None:
    _, wrong = leaks.judged(done)
    assert [failure for failure in wrong if failure.startswith(said)], wrong


def test_a_leak_on_purpose_that_is_not_found_is_a_failure() -> None:
    size = sys.getsizeof(b"") + leaks.PURPOSE_BYTES
    on_purpose = COMPLETE.replace("24 byte(s) in 3", f"{3 * size} byte(s) in 3")
    assert leaks.proof_failures(checked(on_purpose)) == []
    for missed in (COMPLETE, PYTHONS_OWN, on_purpose.replace("fastipc/_core", "other")):
        report = missed.replace("csrc/", "") if "other" in missed else missed
        (failure,) = leaks.proof_failures(checked(report))
        assert "a leak on purpose was not found" in failure
    assert leaks.proof_failures(checked(""))
