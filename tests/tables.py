"""Reads the tables that map what must be true to the tests that show it.

A table is Markdown: "- ID: statement", and below it, indented, either "- test_file.py::test_name"
lines (the file may be in a folder beside the table's: "folder/test_file.py") or one
"- not testable here: reason" line.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROW = re.compile(r"^- ([A-Z][\w-]*): (.+)$")
TEST = re.compile(r"^  - ((?:\w+/)?test_\w+\.py::test_\w+)$")
REASON = re.compile(r"^  - not testable here: (.+)$")


@dataclass
class Row:
    """One statement and what shows it."""

    id: str
    statement: str
    tests: list[str] = field(default_factory=list)
    reason: str = ""


def read(path: Path) -> list[Row]:
    """The rows of a table; a list item that is no part of a row is an error."""
    rows: list[Row] = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if match := ROW.match(line):
            rows.append(Row(match[1], match[2]))
        elif match := TEST.match(line):
            rows[-1].tests.append(match[1])
        elif match := REASON.match(line):
            rows[-1].reason = match[1]
        elif line.lstrip().startswith("- "):
            raise ValueError(f"{path.name}, line {number} is neither row, test nor reason: {line}")
    return rows


def tests_in(path: Path) -> set[str]:
    """The names of the test functions that a file defines, outside of classes and inside."""
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


def check(table: Path, complete: set[Path]) -> None:
    """Asserts that each row names tests that exist, or a reason, and that each test of the
    complete files is named.
    """
    rows = read(table)
    assert rows, f"{table} has no rows"
    repeated = [row_id for row_id, count in Counter(row.id for row in rows).items() if count > 1]
    assert not repeated, f"ids used twice: {repeated}"
    unfounded = [row.id for row in rows if bool(row.tests) == bool(row.reason)]
    assert not unfounded, f"rows need either tests or a reason: {unfounded}"

    named: dict[Path, set[str]] = {path.resolve(): set() for path in complete}
    for row in rows:
        for test in row.tests:
            name, _, function = test.partition("::")
            folder = table.parent.parent if "/" in name else table.parent
            named.setdefault((folder / name).resolve(), set()).add(function)
    for path, functions in named.items():
        assert path.exists(), f"{table.name} names {path}, which does not exist"
        absent = functions - tests_in(path)
        assert not absent, f"named in {table.name}, but not in {path.name}: {sorted(absent)}"
    for path in complete:
        unnamed = tests_in(path) - named[path.resolve()]
        assert not unnamed, f"{table.name} does not name of {path.name}: {sorted(unnamed)}"
