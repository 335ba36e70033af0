"""All cases, by name. A new one is added to the list at the end of its own module."""

from __future__ import annotations

from fastipc._bench import (
    cases_arrays,
    cases_cpu,
    cases_lifetime,
    cases_many,
    cases_pipe,
    cases_queue,
    cases_shared,
)
from fastipc._bench.case import Case

MODULES = (
    cases_queue,
    cases_shared,
    cases_many,
    cases_arrays,
    cases_pipe,
    cases_cpu,
    cases_lifetime,
)

CASES: dict[str, type[Case]] = {case.name: case for module in MODULES for case in module.CASES}
