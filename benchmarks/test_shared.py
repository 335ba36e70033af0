"""One Queue with several producers or consumers, on each peer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastipc._bench import cases_shared


@pytest.mark.parametrize("case", [case.name for case in cases_shared.CASES])
def test_shared(compare: Callable[[str], None], case: str) -> None:
    compare(case)
