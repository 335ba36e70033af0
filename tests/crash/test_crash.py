"""Kills each operation at evenly spaced instructions; what is left must be whole.

A sample of what `python -m tests.crash --full` does, through the same command line: the
tool needs a small process of its own to fork from.
"""

from __future__ import annotations

import pytest

from . import command
from .harness import ENOUGH
from .operation import Operation
from .operations import OPERATIONS

_WANTED = 110  # a few more than are needed: a run may end before its kill


@pytest.mark.watchdog(300)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_a_kill_leaves_the_state_before_or_after(operation: type[Operation]) -> None:
    (tally,) = command.run(operation.name, "--points", str(_WANTED), timeout=280)
    assert not tally["failures"], "\n".join(tally["failures"])
    assert tally["kills"] >= ENOUGH
    assert tally["total"] >= operation.minimum


def test_no_operation_asks_for_fewer_kills_than_are_enough() -> None:
    assert all(operation.minimum >= ENOUGH for operation in OPERATIONS)
