"""Fails if a test was skipped, or expected to fail, that tests/skips.txt does not allow.

    python -m tests.check_skips tests/skips.txt REPORT.xml...

Reads pytest's JUnit reports; it runs no test.
"""

from __future__ import annotations

import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree


class Skip(NamedTuple):
    """A test that did not run, and the reason that it gave."""

    test: str
    reason: str


def read_allowed(text: str) -> list[Skip]:
    """The entries of skips.txt: a pattern of ids and a pattern of reasons in each line."""
    entries = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        test, bar, reason = (part.strip() for part in line.partition("|"))
        if not (test and bar and reason):
            raise SystemExit(f"skips.txt, line {number}: expected 'test id | reason': {line}")
        entries.append(Skip(test, reason))
    return entries


def read_report(path: Path) -> tuple[int, list[Skip]]:
    """The number of tests in a JUnit report, and those that were skipped."""
    count = 0
    skipped = []
    for case in ElementTree.parse(path).iter("testcase"):
        count += 1
        test = "::".join(filter(None, (case.get("classname"), case.get("name"))))
        for element in case.iter("skipped"):
            skipped.append(Skip(test, element.get("message") or ""))
    return count, skipped


def is_allowed(skip: Skip, allowed: list[Skip]) -> bool:
    """Whether an entry matches both the test and its reason."""
    return any(
        matches(skip.test, entry.test) and matches(skip.reason, entry.reason) for entry in allowed
    )


def matches(text: str, pattern: str) -> bool:
    """fnmatch, but with [ as itself: ids have it before each parameter."""
    return fnmatchcase(text, pattern.replace("[", "[[]"))


def main(arguments: list[str]) -> int:
    """Print each skip that is not allowed; return the exit status."""
    allowed = read_allowed(Path(arguments[0]).read_text())
    total = 0
    skips: list[Skip] = []
    for name in arguments[1:]:
        count, skipped = read_report(Path(name))
        total += count
        skips += skipped
    surprises = [skip for skip in skips if not is_allowed(skip, allowed)]
    for skip in surprises:
        print(f"not in skips.txt: {skip.test} | {skip.reason}")
    for entry in allowed:
        if not any(is_allowed(skip, [entry]) for skip in skips):
            print(f"note: nothing was skipped by: {entry.test} | {entry.reason}")
    print(f"{total} tests, {len(skips)} skipped, {len(surprises)} of them unexpectedly")
    if not total:
        print("the report has no test")
    return 1 if surprises or not total else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
