"""Many ints at once, on each peer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastipc._bench import cases_many


@pytest.mark.parametrize("case", [case.name for case in cases_many.CASES])
def test_many(compare: Callable[[str], None], case: str) -> None:
    compare(case)
