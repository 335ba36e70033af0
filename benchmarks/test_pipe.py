"""Pipe, one process at each end, on each peer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastipc._bench import cases_pipe


@pytest.mark.parametrize("case", [case.name for case in cases_pipe.CASES])
def test_pipe(compare: Callable[[str], None], case: str) -> None:
    compare(case)
