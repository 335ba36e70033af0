"""What little traffic costs, on each peer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastipc._bench import cases_cpu


@pytest.mark.parametrize("case", [case.name for case in cases_cpu.CASES])
def test_cpu(compare: Callable[[str], None], case: str) -> None:
    compare(case)
