"""Runs each conformance test on both implementations, except the two sides of a difference."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

IMPLEMENTATIONS = ("multiprocessing", "fastipc")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Gives a test that asks for impl one run on each implementation that it is for."""
    if "impl" in metafunc.fixturenames:
        names = [
            name
            for name in IMPLEMENTATIONS
            if not any(
                metafunc.definition.get_closest_marker(f"{other}_only")
                for other in IMPLEMENTATIONS
                if other != name
            )
        ]
        metafunc.parametrize("impl", names, indirect=True)


@pytest.fixture
def pipe(impl: ModuleType) -> Iterator[Any]:
    """Both ends of a duplex pipe."""
    ends = impl.Pipe()
    yield ends
    for end in ends:
        end.close()


@pytest.fixture
def one_way(impl: ModuleType) -> Iterator[Any]:
    """The receiving and the sending end of a pipe with one direction."""
    ends = impl.Pipe(duplex=False)
    yield ends
    for end in ends:
        end.close()
