"""The crash tool reports failures where there are some: on toys, on the standard library's
SimpleQueue, and on builds of fastipc that are broken on purpose.
"""

from __future__ import annotations

import pytest

from tests.broken import BrokenBuilds

from . import command


def test_a_sound_lock_and_two_copies_pass_at_every_instruction() -> None:
    (tally,) = command.run("proof-add", "--points", "all", timeout=50)
    assert tally["failures"] == []
    assert tally["kills"] == tally["points"] == tally["total"]
    assert tally["before"] + tally["after"] == tally["kills"]


def test_one_copy_of_the_state_is_reported_as_half_a_state() -> None:
    (tally,) = command.run("proof-add-one-copy", "--points", "all", timeout=50)
    assert any("half a state" in failure for failure in tally["failures"])


def test_a_lock_that_nobody_takes_over_is_reported() -> None:
    (tally,) = command.run(
        "proof-add-no-takeover", "--points", "all", "--stop-after", "1", "--deadline", "3",
        timeout=50,
    )  # fmt: skip
    assert any("hung" in failure for failure in tally["failures"])


def test_a_deadlock_is_reported_on_the_standard_simple_queue() -> None:
    (tally,) = command.run(
        "standard-simplequeue-get", "--points", "all", "--stop-after", "1", "--deadline", "3",
        timeout=50,
    )  # fmt: skip
    assert tally["kills"] > 0
    assert any("the survivor hung" in failure for failure in tally["failures"])


@pytest.mark.watchdog(420)
@pytest.mark.parametrize(
    ("switch", "points", "operations"),
    [
        ("FASTIPC_BREAK_NO_TAKEOVER", "300", ("queue-put", "queue-get", "pipe-send")),
        ("FASTIPC_BREAK_PUBLISH_FIRST", "300", ("queue-put", "pipe-send")),
        # Between two stores there may be no other instruction: a sample would miss it.
        ("FASTIPC_BREAK_ONE_COPY", "all", ("queue-put", "queue-get")),
    ],
)
def test_a_build_that_is_broken_on_purpose_is_reported(
    switch: str, points: str, operations: tuple[str, ...], broken_builds: BrokenBuilds
) -> None:
    root = broken_builds.root(switch)
    tallies = command.run(
        *operations, "--points", points, "--stop-after", "1", "--deadline", "6",
        timeout=300, root=root,
    )  # fmt: skip
    # The unkilled operation works: what is reported comes from the kills.
    assert all(tally["kills"] > 0 for tally in tallies), tallies
    assert all(tally["failures"] for tally in tallies), tallies


@pytest.mark.watchdog(420)
def test_each_of_four_mistakes_in_one_build_is_reported(broken_builds: BrokenBuilds) -> None:
    """In one build, since a build takes longer than the kills: none is met by what the others'
    operations do.
    """
    root = broken_builds.root(
        "FASTIPC_BREAK_NO_RECHECK", "FASTIPC_BREAK_NO_REPAIR", "FASTIPC_BREAK_TOKEN_FIRST",
        "FASTIPC_BREAK_NO_LOSS",
    )  # fmt: skip
    tallies = command.run(
        "queue-put-waking", "pipe-send-waking", "queue-put-block", "queue-put-armed",
        "queue-get", "--points", "700", "--stop-after", "1", "--deadline", "6",
        timeout=390, root=root,
    )  # fmt: skip
    waking, sending, block, armed, getting = tallies
    assert waking["failures"] and sending["failures"], tallies
    assert any("no record carries it" in failure for failure in block["failures"]), block
    assert any("doorbell is not readable" in failure for failure in armed["failures"]), armed
    assert any("lost" in failure for failure in getting["failures"]), getting
