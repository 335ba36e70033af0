"""All cases, by name. A new one is added to the list at the end of its own module."""

from __future__ import annotations

from benchmarks import cases_lifetime, cases_pipe, cases_queue
from benchmarks.case import Case

CASES: dict[str, type[Case]] = {
    case.name: case for module in (cases_queue, cases_pipe, cases_lifetime) for case in module.CASES
}
