"""The table of the contract and the list of differences, compared with the tests and the docs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests import tables
from tests.conformance.differences import DIFFERENCES
from tests.support import ROOT

FOLDER = Path(__file__).parent
# What is not about multiprocessing's contract: the interface of fastipc, and these checks.
NOT_IN_THE_TABLE = {"test_interface.py", "test_own_means.py", "test_contract_table.py"}


def marked_differences(side):
    """The ids that tests of one side name in their mark."""
    return {
        decorator.args[0].value
        for path in FOLDER.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call)
        and ast.unparse(decorator.func) == f"pytest.mark.{side}_only"
        and decorator.args
    }


def test_the_table_names_existing_tests_and_every_test_is_in_the_table():
    files = {path for path in FOLDER.glob("test_*.py") if path.name not in NOT_IN_THE_TABLE}
    tables.check(FOLDER / "contract_table.md", files)


def test_every_difference_has_a_test_of_both_sides_and_every_mark_names_a_difference():
    ids = {difference.id for difference in DIFFERENCES}
    assert len(ids) == len(DIFFERENCES)
    assert marked_differences("fastipc") == ids
    assert marked_differences("multiprocessing") == ids


def test_docs_differences_md_explains_each_difference_in_the_order_of_the_list():
    text = (ROOT / "docs" / "differences.md").read_text("utf-8")
    anchors = re.findall(r'^<a id="([\w-]+)"></a>\n## \S', text, flags=re.MULTILINE)
    assert anchors == [difference.id for difference in DIFFERENCES]
    assert text.count("\n## ") == len(anchors)


def test_every_difference_says_what_and_why():
    for difference in DIFFERENCES:
        assert difference.what.strip(), difference.id
        assert difference.reason.strip(), difference.id
