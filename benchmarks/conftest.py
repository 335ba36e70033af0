"""What the pytest-benchmark comparisons share: a case on a peer, lap by lap.

They run the same cases as `benchmarks.check`, each with a driver of its own; but the peers are
measured one after the other, so small differences between them are worth less than the check's.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from fastipc._bench.adapters import ADAPTERS
from fastipc._bench.cases import CASES
from fastipc._bench.measure import MeasurementError, Session, Settings

# Another module in the place of fastipc; multiprocessing against itself shows the noise.
CANDIDATE = os.environ.get("FASTIPC_BENCH_CANDIDATE", "fastipc")
# Whom to compare beside these two: names of adapters, separated by commas, or "all".
OTHERS = os.environ.get("FASTIPC_BENCH_PEERS", "")
PEERS = sorted(
    {"multiprocessing", CANDIDATE}
    | set(ADAPTERS if OTHERS == "all" else filter(None, OTHERS.split(",")))
)

# With 1 one short lap each: whether all comparisons run, and no numbers worth having.
SHORT = os.environ.get("FASTIPC_BENCH_SHORT", "") not in ("", "0")

ROUNDS = 1 if SHORT else 5
# How many times the messages of a case's first lap; all peers get the same number.
LAP_FACTOR = 1 if SHORT else 5
TEST_TIMEOUT_SECONDS = 300

_measured_seconds = 0.0


def lap_clock() -> float:
    """Be pytest-benchmark's timer: the time that laps took, from first message to last.

    So the orders to the driver and its answers are not in the numbers.
    """
    return _measured_seconds


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for a peer with each of them."""
    if "peer" in metafunc.fixturenames:
        metafunc.parametrize("peer", PEERS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the comparisons their clock, and more time than a test has."""
    for item in items:
        if "compare" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.benchmark(timer=lap_clock))
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_SECONDS))


@pytest.fixture
def compare(benchmark: Any, peer: str) -> Callable[[str], None]:
    """Measure a case on the peer: a benchmark's time is that of a lap, the same for all peers."""

    def run(case_name: str) -> None:
        case = CASES[case_name]
        count = min(case.first_count * LAP_FACTOR, case.most_count)
        benchmark.group = f"{case_name}, {count:,} times: {case.summary}"
        values: list[float] = []
        with Session(case_name, peer, Settings()) as session:

            def lap() -> None:
                global _measured_seconds
                result = session.go()
                values.append(result["value"])
                _measured_seconds += result["seconds"]

            try:
                session.warm_up(0)
            except MeasurementError as error:
                if error.kind == "absent":
                    pytest.skip(f"{peer} is absent: {error.reason}")
                if error.kind == "hung" and peer != CANDIDATE:
                    pytest.skip(f"{peer} hung: {error.reason}")
                raise
            benchmark.pedantic(lap, setup=lambda: session.prepare(count), rounds=ROUNDS)
        benchmark.extra_info["peer"] = peer
        benchmark.extra_info[case.unit] = sorted(values)[len(values) // 2]

    return run
