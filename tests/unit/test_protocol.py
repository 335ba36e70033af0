"""csrc/PROTOCOL.md against the compiled structs, the comments of csrc and the tests it names."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROTOCOL = (ROOT / "csrc" / "PROTOCOL.md").read_text()
SOURCES = "\n".join(path.read_text() for path in sorted((ROOT / "csrc").glob("*.[ch]")))
CELL = re.compile(r"`([^`]+)`")


def section(title: str) -> str:
    """What stands below the heading `## title`."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PROTOCOL, re.M | re.S)
    assert found, f"PROTOCOL.md has no section {title!r}"
    return found.group(1)


def rows(text: str) -> Iterator[list[str]]:
    """The cells of each table row whose first cell is a name in backquotes."""
    for line in text.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def name_of(cell: str) -> str:
    found = CELL.fullmatch(cell.strip("| "))
    assert found, f"{cell!r} is not a name in backquotes"
    return found.group(1)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """The words of each line that the compiled layout dump prints."""
    build = tmp_path_factory.mktemp("layout")
    compiler = os.environ.get("CC", "cc")
    command = ["make", "-s", "-C", str(ROOT / "tests" / "c"), f"build={build}", f"CC={compiler}"]
    done = subprocess.run([*command, "layout"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


def test_the_tables_of_fields_are_those_of_the_compiled_structs(layout: list[list[str]]) -> None:
    written = []
    for part in section("Structs").split("### ")[1:]:
        title = re.match(r"`(\w+)`, (\d+) bytes\n", part)
        assert title, part.splitlines()[0]
        for cells in rows(part):
            assert len(cells) == 6, cells
            assert all(cells), f"an empty cell: {cells}"
            written.append([f"{title[1]}.{name_of(cells[0])}", cells[1], cells[2]])
        written.append([title[1], "size", title[2]])
    assert written == [words for words in layout if len(words) == 3]


def test_the_tables_of_constants_are_those_of_the_compiled_header(layout: list[list[str]]) -> None:
    text = section("Constants") + section("The file")
    written = [(name_of(cells[0]), cells[1]) for cells in rows(text)]
    compiled = [(words[0], words[1]) for words in layout if len(words) == 2]
    assert sorted(written) == sorted(compiled)


def test_the_crash_table_has_each_step_that_the_code_names_and_no_other() -> None:
    named = set(re.findall(r"\bstep ([a-z]+(?:-[a-z]+)+)", SOURCES))
    assert {name_of(cells[0]) for cells in rows(section("Crash table"))} == named


# What changes shared memory, or what the kernel keeps for all: by atomics.h's names, and these.
ORDERS = "relaxed|release|acquire|seqcst"
ACCESS = rf"\bfipc_(?:store|exchange32|fetch_(?:add|or|and)|cas(?:32|64))_(?:{ORDERS})\("
DOES_A_STEP = {
    "fipc_side_publish": "stores the generation of a side",
    "set_shut": "swaps the flags of a side",
    "fipc_os_lock_byte": "takes a file lock",
    "fipc_os_unmap": "drops a file lock with the mapping that kept it",
    "fipc_os_fill": "writes the first pages, in one system call",
}
OF_THE_SYSTEM = {name for name in DOES_A_STEP if name.startswith("fipc_os_")}


def blank(text: str) -> str:
    """The text of a C file without its comments; each character stays where it was."""
    return re.sub(r"/\*.*?\*/", lambda found: re.sub(r"[^\n]", " ", found[0]), text, flags=re.S)


def statements_of_the_steps(text: str) -> Iterator[tuple[str, str]]:
    """Each step that a comment names, with the statement at which that comment stands: the one that
    ends before it on its line or, if there is none, the one that begins behind it.
    """
    code = blank(text)
    for comment in re.finditer(r"/\*.*?\*/", text, re.S):
        before = code[: comment.start()]
        if before.rpartition("\n")[2].strip():
            statement = re.split(r"[;{}]", before.rstrip(" ;{}"))[-1]
        else:
            statement = re.split(r"[;{}]", code[comment.end() :].lstrip(" \n}"))[0]
        for step in re.findall(r"\bstep ([a-z]+(?:-[a-z]+)+)", comment[0]):
            yield step, statement


def test_each_step_stands_at_the_store_or_the_call_that_does_it() -> None:
    does = re.compile(rf"{ACCESS}|\b(?:{'|'.join(DOES_A_STEP)})\(")
    for path in sorted((ROOT / "csrc").glob("*.[ch]")):
        for step, statement in statements_of_the_steps(path.read_text()):
            assert does.search(statement), (
                f"{path.name}: step {step} stands at {statement.strip()!r}"
            )


def test_what_does_a_step_in_the_place_of_a_store_makes_one() -> None:
    for name in sorted(set(DOES_A_STEP) - OF_THE_SYSTEM):
        body = re.search(rf"^[^\n;]*\b{name}\([^;]*?\) \{{\n(.*?)^\}}", blank(SOURCES), re.M | re.S)
        assert body, f"there is no {name}()"
        assert re.search(ACCESS, body[1]), name


def test_a_comment_belongs_to_the_statement_before_it_on_its_line_or_else_to_the_next() -> None:
    text = """
    if (!fipc_cas32_seqcst(W1, word, 1, 2)) /* step a-a */
        continue;
    /* step b-b: why,
     * at length. */
    x = 1; /* step c-c */
    do {
        f(x);
        /* step d-d */
    } while (!g(x));
    fipc_store_release(D1, &flags,
                       y); /* step e-e */
"""
    found = {step: " ".join(code.split()) for step, code in statements_of_the_steps(text)}
    assert found == {
        "a-a": "if (!fipc_cas32_seqcst(W1, word, 1, 2))",
        "b-b": "x = 1",
        "c-c": "x = 1",
        "d-d": "while (!g(x))",
        "e-e": "fipc_store_release(D1, &flags, y)",
    }


def test_the_operations_mention_each_step_that_the_code_names() -> None:
    named = set(re.findall(r"\bstep ([a-z]+(?:-[a-z]+)+)", SOURCES))
    told = CELL.findall(section("Operations") + section("Sleeping and waking"))
    assert named - set(told) == set()


LABEL = r"\b[A-Z][12]\b"


def labels_of_the_table() -> set[str]:
    table = re.findall(r"^\| ([A-Z]\d[^|]*)\|", section("Barrier pairs"), re.M)
    return set(re.findall(LABEL, " ".join(table)))


def test_the_table_of_barriers_has_each_label_of_the_code_and_no_other() -> None:
    comments = "\n".join(re.findall(r"/\*.*?\*/", SOURCES, re.S))
    used = set(re.findall(r"\bfipc_\w+_(?:acquire|release|seqcst)\(([A-Z]\d),", SOURCES))
    listed = set(re.findall(r"\bFIPC_ORDER_([A-Z]\d),", SOURCES))
    assert labels_of_the_table() == used == listed
    assert set(re.findall(LABEL, comments)) <= used


def test_no_order_stands_outside_of_atomics_h_or_has_no_label_of_its_own() -> None:
    for path in sorted((ROOT / "csrc").glob("*.[ch]")):
        text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
        if path.name == "atomics.h":
            continue
        assert not re.search(r"__atomic|__sync|__ATOMIC|stdatomic", text), path.name
        assert "TEST," not in text, path.name
        access = r"\b(fipc_(?:load|store|cas|exch|fetch)\w*_(?:acquire|release|seqcst))\(([^,()]*)"
        for name, first in re.findall(access, text):
            assert re.fullmatch(LABEL, first), f"{path.name}: {name}({first}"


def test_the_crash_table_names_only_tests_that_exist() -> None:
    known: set[str] = set()
    for path in sorted((ROOT / "tests" / "crash").glob("*.py")):
        known.update(re.findall(r'^    name = "([^"]+)"', path.read_text(), re.M))
    for path in sorted((ROOT / "tests" / "c").glob("test_*.c")):
        known.update(re.findall(r"CHECK_RUN\((\w+)\)", path.read_text()))
    for cells in rows(section("Crash table")):
        assert len(cells) == 4, cells
        tests = CELL.findall(cells[3])
        assert tests, f"nothing shows what happens after {cells[0]}"
        assert set(tests) <= known, f"{cells[0]}: no such tests: {set(tests) - known}"


# Python's and the system's, which a text may name without our code using them.
NAMED_ELSEWHERE = {"create_autospec", "ismethod", "resize", "sem_open", "signature"}


def test_comments_and_documents_name_functions_that_exist():
    comments = re.compile(r"/\*.*?\*/", re.S)
    code = [
        path.read_text()
        for folder in ("fastipc", "tests/c")
        for ending in ("*.py", "*.p[yx][xdi]", "*.[ch]")
        for path in (ROOT / folder).glob(ending)
    ]
    words = set(re.findall(r"\w+", comments.sub("", "\n".join([SOURCES, *code]))))
    documents = [PROTOCOL, *(path.read_text() for path in (ROOT / "docs").glob("*.md"))]
    prose = "\n".join([*comments.findall(SOURCES), *documents])
    called = set(re.findall(r"\b(\w+)\(\)", prose))
    prefixed = set(re.findall(r"\b(?:fipc|FIPC)_(?:\w*[^\W_])\b", prose))
    assert called
    assert prefixed
    assert sorted((called | prefixed) - words - NAMED_ELSEWHERE) == []
