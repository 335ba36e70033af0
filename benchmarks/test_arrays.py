"""NumPy arrays through a Queue, on each peer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastipc._bench import cases_arrays


@pytest.mark.parametrize("case", [case.name for case in cases_arrays.CASES])
def test_arrays(compare: Callable[[str], None], case: str) -> None:
    compare(case)
