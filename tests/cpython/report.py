"""Prints what ran, and judges it: failures, classes that never ran, counts that fell.

The counts are kept in `expected.json`: for each Python and start method, how many tests of each
module ran, and the Python that this was counted on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.cpython import selection
from tests.cpython.supervise import Run

EXPECTED = Path(__file__).with_name("expected.json")


def show(run: Run) -> str:
    """Return the counts of a run, with names and reasons, as text."""
    absent = absent_classes(run)
    skipped = run.with_outcome("skipped")
    failed = run.with_outcome("failed")
    ran = len(run.results) - len(skipped)
    lines = [
        f"CPython {run.version}, {run.job.method}, {run.job.target}: ran {ran} "
        f"(failed {len(failed)}), excluded {len(run.excluded)}, absent {len(absent)} classes, "
        f"skipped by the suite itself {len(skipped)}; {run.seconds:.0f} s"
    ]
    lines += [f"  mended   in this Python's own library: {fault}" for fault in run.mended]
    lines += [f"  excluded {test_id}: {why}" for test_id, why in run.excluded.items()]
    lines += [f"  skipped  {test_id}: {result.detail}" for test_id, result in skipped.items()]
    lines += [f"  absent   {name}: {why}" for name, why in absent.items()]
    known = {name for names in selection.REQUIRED.values() for name in names}
    unknown = sorted({test["base"] for test in run.tests.values()} - known)
    lines += [f"  new      {name}: not listed in selection.py, so it ran" for name in unknown]
    for test_id, result in failed.items():
        lines += [f"  FAILED   {test_id}", _indented(result.detail)]
    lines += [f"  TROUBLE\n{_indented(text)}" for text in run.trouble]
    return "\n".join(lines)


def absent_classes(run: Run) -> dict[str, str]:
    """Return the required classes that a run's interpreter does not have, with the reason."""
    modules = {test["module"] for test in run.tests.values()}
    classes = {test["base"] for test in run.tests.values()}
    absent = {}
    for module, names in selection.REQUIRED.items():
        reason = f"{module} has no such class" if module in modules else f"there is no {module}"
        absent.update({name: reason for name in names if name not in classes})
    return {n: why for n, why in absent.items() if not selection.is_exempt(n, run.job.method)}


def judge(runs: Sequence[Run], *, every_python: bool, expected: dict[str, Any]) -> list[str]:
    """Return every reason to fail, one sentence each; none: all is well.

    `every_python` says that the runs are all that this machine can do, so that a class which ran
    in none of them is missing for good.
    """
    problems = selection.problems()
    for run in runs:
        where = f"CPython {run.version}, {run.job.method}"
        problems += [f"{where}: {test_id} failed" for test_id in run.with_outcome("failed")]
        problems += [f"{where}: {text}" for text in run.trouble_lines()]
        problems += [f"{where}: {text}" for text in _fallen(run, expected)]
    for method in dict.fromkeys(run.job.method for run in runs):
        same = [run for run in runs if run.job.method == method]
        problems += [f"{method}: {name} ran nowhere" for name in _unused(same, every_python)]
        if every_python:
            problems += [f"{method}: {name} is excluded but nowhere found" for name in _stale(same)]
    return problems


def _unused(runs: Sequence[Run], every_python: bool) -> list[str]:
    """Return the required classes of which no test ran in runs of one start method."""
    used = {run.tests[i]["base"] for run in runs for m in selection.REQUIRED for i in run.ran(m)}
    required = {name for names in selection.REQUIRED.values() for name in names}
    if not every_python:
        required = {test["base"] for run in runs for test in run.tests.values()} & required
    missing = required - used
    return sorted(name for name in missing if not selection.is_exempt(name, runs[0].job.method))


def _stale(runs: Sequence[Run]) -> list[str]:
    found = {test["key"] for run in runs for test in run.tests.values()}
    return sorted(set(selection.excluded_under(runs[0].job.method)) - found)


def _fallen(run: Run, expected: dict[str, Any]) -> list[str]:
    """Return where a run did less than the kept counts say."""
    kept = expected.get(_minor(run.version), {})
    if not kept or _parts(run.version) < _parts(kept["python"]):
        # An older patch release has fewer tests; its count says nothing.
        return []
    present = {test["module"] for test in run.tests.values()}
    return [
        f"{len(run.ran(module))} tests of {module} ran, {count} are expected"
        for module, count in kept.get(run.job.method, {}).items()
        if module in present and len(run.ran(module)) < count
    ]


def load_expected() -> dict[str, Any]:
    """Read the kept counts."""
    content = json.loads(EXPECTED.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def raise_expected(runs: Sequence[Run]) -> None:
    """Raise the kept counts to what has just been reached; they never fall."""
    expected = load_expected()
    for run in runs:
        kept = expected.setdefault(_minor(run.version), {"python": run.version})
        kept["python"] = max(kept["python"], run.version, key=_parts)
        counts = kept.setdefault(run.job.method, {})
        for module in selection.REQUIRED:
            if ran := len(run.ran(module)):
                counts[module] = max(ran, counts.get(module, 0))
    text = json.dumps(dict(sorted(expected.items())), indent=2) + "\n"
    EXPECTED.write_text(text, encoding="utf-8")


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _parts(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


def _indented(text: str) -> str:
    return "\n".join(f"    | {line}" for line in text.rstrip().splitlines())
