"""Making queues and being rid of them, on each peer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastipc._bench import cases_lifetime


@pytest.mark.parametrize("case", [case.name for case in cases_lifetime.CASES])
def test_lifetime(compare: Callable[[str], None], case: str) -> None:
    compare(case)
