"""The table of what fastipc promises beyond multiprocessing's contract, compared with the tests."""

from __future__ import annotations

from pathlib import Path

from tests import tables

FOLDER = Path(__file__).parent
# Complete in the table; the other files of this folder are named where they show something.
FILES = (
    "test_bad_input.py",
    "test_blocking.py",
    "test_codec.py",
    "test_fork.py",
    "test_handles.py",
    "test_lifecycle.py",
    "test_message_sizes.py",
    "test_no_dev_shm.py",
    "test_no_room.py",
    "test_no_room_for_get.py",
    "test_order.py",
    "test_pickler_reentrancy.py",
    "test_readiness.py",
    "test_reentrancy.py",
    "test_shutdown.py",
    "test_signals.py",
    "test_stats.py",
    "test_survival.py",
    "test_unbounded.py",
)


def test_the_table_names_existing_tests_and_every_test_is_in_the_table():
    tables.check(FOLDER / "promises_table.md", {FOLDER / name for name in FILES})
