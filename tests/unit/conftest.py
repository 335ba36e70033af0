"""What several files of unit tests need."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

import fastipc


@pytest.fixture
def pipe() -> Iterator[Any]:
    """Both ends of a duplex pipe."""
    ends = fastipc.Pipe()
    yield ends
    for end in ends:
        end.close()


@pytest.fixture
def eager_collector() -> Iterator[None]:
    """Runs the garbage collector at nearly every allocation."""
    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    yield
    gc.set_threshold(*before)
