"""The comparison of the processes' notes with the library's numbers reports each that is off."""

from __future__ import annotations

import mmap
import os

import pytest

from .books import Account, Ledger, Noted
from .operation import AFTER, BEFORE, Violation
from .queue_operations import QueueGet, QueuePut, QueueShutdownNow
from .recovery_operations import QueueGetRecovery
from .stepper import Point

PUTS = 5  # of which all that is not said to be missing has been got
SOUND = {  # gets, lost, given to callers, noted by them
    "nothing is gone": (BEFORE, 5, 0, 5, 5),
    "the victim has noted what it got": (AFTER, 5, 0, 5, 5),
    "it had been given, and not noted": (AFTER, 5, 0, 5, 4),
    "it was lost": (AFTER, 5, 1, 4, 4),
}
WRONG = {
    "what was lost is not counted": (AFTER, 5, 0, 4, 4),
    "what was lost is counted twice": (AFTER, 5, 2, 4, 4),
    "it was given and counts as lost": (AFTER, 5, 1, 5, 4),
    "it came, and counts as lost": (AFTER, 5, 1, 5, 5),
    "what came is not counted as given": (AFTER, 5, 0, 4, 5),
    "more were given than one can have had in hand": (AFTER, 5, 0, 5, 3),
    "it is missing in the state before": (BEFORE, 5, 1, 4, 4),
    "it was given in the state before": (BEFORE, 5, 0, 5, 4),
    "one is left in a drained queue": (AFTER, 4, 0, 4, 4),
}


def check(label: str, gets: int, lost: int, given: int, got: int, puts: int = PUTS) -> None:
    QueueGet().check_books(label, Account(puts, gets, lost, given), Noted(PUTS, PUTS, got))


@pytest.mark.parametrize("case", SOUND)
def test_sound_books_pass(case: str) -> None:
    check(*SOUND[case])


@pytest.mark.parametrize("case", WRONG)
def test_books_that_are_off_are_reported(case: str) -> None:
    with pytest.raises(Violation):
        check(*WRONG[case])


@pytest.mark.parametrize("puts", [PUTS - 1, PUTS + 1])
def test_a_count_of_puts_that_is_off_is_reported(puts: int) -> None:
    with pytest.raises(Violation, match="puts"):
        check(AFTER, puts, 0, puts, puts, puts)


def test_a_put_costs_nothing() -> None:
    QueuePut().check_books(AFTER, Account(5, 5, 0, 5), Noted(5, 4, 5))
    with pytest.raises(Violation):
        QueuePut().check_books(AFTER, Account(5, 5, 1, 4), Noted(5, 4, 4))


def test_each_of_two_victims_may_have_had_one_in_hand() -> None:
    operation = QueueGetRecovery()
    operation.first_point = Point(0, 0, 1)
    operation.check_books(AFTER, Account(5, 5, 2, 3), Noted(5, 5, 3))
    with pytest.raises(Violation):
        operation.check_books(AFTER, Account(5, 5, 3, 2), Noted(5, 5, 2))


def test_what_a_shutdown_gives_up_is_not_lost() -> None:
    QueueShutdownNow().check_books(AFTER, Account(3, 0, 0, 0), Noted(3, 3, 0))
    with pytest.raises(Violation):
        QueueShutdownNow().check_books("between", Account(3, 0, 0, 0), Noted(3, 3, 0))


def test_notes_are_summed_up() -> None:
    ledger = Ledger()
    try:
        ledger.note(begun=2)
        ledger.note(ended=1, got=3)
        ledger.note(begun=-1)
        assert ledger.read() == (1, 1, 3)
    finally:
        ledger.close()


def test_who_is_killed_while_it_notes_leaves_a_note_or_none() -> None:
    ledger = Ledger()
    try:
        ledger.note(begun=1)
        # No note crosses into another page: in between a kill would leave a part of it.
        assert mmap.PAGESIZE % os.fstat(ledger._fd).st_size == 0
    finally:
        ledger.close()
