"""Queue, one producer and one consumer, on each peer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastipc._bench import cases_queue


@pytest.mark.parametrize("case", [case.name for case in cases_queue.CASES])
def test_queue(compare: Callable[[str], None], case: str) -> None:
    compare(case)
