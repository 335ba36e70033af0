"""The verdict of a storm, on fabricated ledgers: each breach of the promise is reported."""

from __future__ import annotations

import numpy as np
import pytest

from .verdict import Books, Sender, judge


def log(*entries: tuple[int, int]) -> np.ndarray:
    """The log of somebody who got these messages: (sender, number)."""
    return np.array([sender << 32 | number for sender, number in entries], np.uint64)


def sound_books() -> Books:
    """Two producers of five messages each, two consumers, two messages left; one put under way,
    one message lost with a consumer and one that had reached it.
    """
    return Books(
        senders={1: Sender(5, 5), 2: Sender(6, 5)},
        logs={
            "a": log((1, 0), (2, 0), (2, 1), (1, 3)),
            "b": log((1, 1), (2, 2)),
        },
        drained=log((1, 4), (2, 4)),
        in_hand=2,
        puts=10,
        lost=1,
        given=9,
    )


def failures_of(books: Books) -> str:
    """What is reported, in one text."""
    return "\n".join(judge(books)[1])


def test_sound_books_are_accepted() -> None:
    figures, failures = judge(sound_books())
    assert failures == []
    assert (figures.put, figures.received, figures.drained) == (10, 6, 2)
    assert (figures.missing, figures.lost) == (2, 1)


def test_an_empty_round_is_accepted() -> None:
    assert judge(Books(puts=0, lost=0, given=0))[1] == []


def test_a_put_under_way_may_have_happened() -> None:
    books = sound_books()
    books.puts, books.given = 11, 10
    books.drained = log((1, 4), (2, 4), (2, 5))
    assert judge(books)[1] == []


def test_a_put_under_way_may_have_happened_and_its_message_be_lost() -> None:
    books = sound_books()
    books.puts, books.lost, books.in_hand = 11, 2, 3
    assert judge(books)[1] == []


@pytest.mark.parametrize("where", ["in one log", "in two logs", "at the end"])
def test_a_doubled_message_is_reported(where: str) -> None:
    books = sound_books()
    if where == "in one log":
        books.logs["a"] = log((1, 0), (2, 0), (2, 1), (1, 3), (1, 3))
    elif where == "in two logs":
        books.logs["b"] = log((1, 0), (1, 1), (2, 2))
    else:
        books.drained = log((1, 3), (1, 4), (2, 4))
    assert "of sender 1 came 2 times" in failures_of(books)


def test_a_lost_message_that_nobody_had_in_hand_is_reported() -> None:
    books = sound_books()
    books.logs["b"] = log((1, 1))
    books.lost, books.given = 2, 8
    told = failures_of(books)
    assert "3 messages are missing" in told
    assert "sender 2 of 5: [2, 3]" in told


def test_a_lost_message_is_reported_where_the_library_does_not_count() -> None:
    books = sound_books()
    books.puts = books.lost = books.given = None
    assert judge(books)[1] == []
    books.in_hand = 1
    assert "2 messages are missing" in failures_of(books)


def test_a_hole_in_a_batch_that_was_under_way_is_missing() -> None:
    books = Books({1: Sender(4, 0)}, {"a": log((1, 0), (1, 3))}, puts=4, lost=2, given=2)
    assert "2 messages are missing" in failures_of(books)
    books.in_hand = 2
    assert judge(books)[1] == []
    # What was put of a batch is its beginning: 3 cannot be there without 1 and 2.
    books.puts = 2
    assert "2 puts are counted; 4 have happened" in failures_of(books)


def test_a_wrong_order_in_a_log_is_reported() -> None:
    books = sound_books()
    books.logs["a"] = log((1, 3), (2, 0), (2, 1), (1, 0))
    assert "a got message 0 of sender 1 after message 3 of sender 1" in failures_of(books)


def test_a_wrong_order_at_the_end_is_reported() -> None:
    books = sound_books()
    books.drained = log((2, 4), (1, 4), (1, 2))
    assert "the supervisor got message 2 of sender 1 after message 4" in failures_of(books)


def test_a_message_that_was_overtaken_and_left_is_reported() -> None:
    books = sound_books()
    books.logs["a"] = log((1, 0), (2, 0), (2, 1), (1, 4))
    books.drained = log((1, 3), (2, 4))
    told = failures_of(books)
    assert "message 3 of sender 1 was left at the end, when message 4 of sender 1 had come" in told


@pytest.mark.parametrize("off_by", [-1, 1])
def test_a_count_of_the_lost_that_is_off_by_one_is_reported(off_by: int) -> None:
    books = sound_books()
    assert books.lost is not None
    books.lost += off_by
    assert f"{books.lost} are counted as lost, but 2 are missing" in failures_of(books)


def test_more_lost_than_missing_is_reported_without_a_look_into_shared_memory() -> None:
    books = sound_books()
    books.lost, books.given = 3, None
    assert "3 are counted as lost, and only 2 are missing" in failures_of(books)


@pytest.mark.parametrize("given", [7, 11])
def test_a_count_of_what_reached_its_callers_that_is_off_is_reported(given: int) -> None:
    books = sound_books()
    books.given = given
    assert "reached their callers by the library's count" in failures_of(books)


@pytest.mark.parametrize("puts", [9, 12])
def test_a_count_of_puts_that_is_off_is_reported(puts: int) -> None:
    books = sound_books()
    books.puts = puts
    assert f"{puts} puts are counted" in failures_of(books)


def test_messages_that_nobody_has_put_are_reported() -> None:
    books = sound_books()
    books.logs["b"] = log((1, 1), (2, 2), (3, 0))
    assert "senders that do not exist: [3]" in failures_of(books)
    books = sound_books()
    books.drained = log((1, 4), (1, 5), (2, 4))
    assert "message 5 of sender 1 came, who had begun only 5" in failures_of(books)


def shut_books() -> Books:
    """Those of a queue that was shut down at once, with two messages in it that are given up."""
    books = sound_books()
    books.drained = log()
    books.given, books.given_up, books.ends_seen = 7, 2, 3
    books.logs["a"] = log((1, 0), (2, 0), (2, 1), (1, 3))
    books.logs["b"] = log((1, 1), (2, 2))
    return books


def test_what_an_immediate_shutdown_gives_up_may_be_missing() -> None:
    figures, failures = judge(shut_books())
    assert failures == []
    assert (figures.missing, figures.lost, figures.given_up) == (4, 1, 2)


def test_more_missing_than_was_given_up_and_had_in_hand_is_reported() -> None:
    books = shut_books()
    books.logs["b"] = log((1, 1))
    books.lost, books.given = 2, 6
    assert "5 messages are missing" in failures_of(books)


def test_what_was_given_up_before_a_message_that_came_is_reported() -> None:
    books = shut_books()
    # Message 2 of sender 1 is missing, and 0, too: nobody can have had both in hand.
    books.in_hand, books.lost, books.given_up = 1, 0, 4
    books.logs["a"] = log((2, 0), (2, 1), (1, 3))
    books.given = 6
    assert failures_of(books) == (
        "2 messages are missing before others of their senders, and those killed inside a get can "
        "have had 1 in hand at most"
    )


def test_what_was_given_up_and_counts_as_lost_is_reported() -> None:
    books = shut_books()
    books.lost = 3
    assert "3 are counted as lost, but 2 are missing" in failures_of(books)


def test_a_message_left_behind_an_immediate_shutdown_is_reported() -> None:
    books = shut_books()
    books.drained = log((2, 4))
    books.given, books.given_up, books.ends_seen = 8, 1, 0
    assert failures_of(books) == (
        "1 messages were left at the end, when 0 gets had said that nothing is left, and all was "
        "given up"
    )


def test_a_message_left_when_a_get_had_seen_the_end_is_reported() -> None:
    books = sound_books()
    books.ends_seen = 1
    assert failures_of(books) == (
        "2 messages were left at the end, when 1 gets had said that nothing is left"
    )


def test_figures_add_up() -> None:
    figures, _ = judge(sound_books())
    figures.add(judge(shut_books())[0])
    assert (figures.put, figures.received, figures.missing) == (20, 12, 6)
    assert (figures.lost, figures.given_up) == (2, 2)
