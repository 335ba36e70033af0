"""docs/reliability.md names what exists, and its figures are those of the kept results."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import tables
from tests.crash.channel_operation import COPIES
from tests.crash.harness import MOST_MISSED
from tests.crash.operations import OPERATIONS
from tests.support import ROOT, task_state

from . import __main__ as command, commits, page
from .tools import TOOLS, Tool, rows_of_c_tests

TEXT = page.PAGE.read_text(encoding="utf-8")
PROSE = TEXT.partition(page.BEGIN)[0]
# Commands that are no tools of the full run.
OTHER_COMMANDS = {
    "python -m benchmarks.kill_matrix",
    "python -m tests.reliability page FOLDER",
    "python -m tests.reliability run",
}


def cells(heading: str) -> list[list[str]]:
    """The rows of the table below a heading, without its head."""
    part = PROSE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    assert len(lines) > 2, heading
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def names() -> set[str]:
    """Every test, operation of the crash tool and C test."""
    known: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        known |= tables.tests_in(path)
    for path in (ROOT / "tests" / "crash").glob("*.py"):
        known.update(re.findall(r'^    name = "([^"]+)"', path.read_text(), re.M))
    for path in (ROOT / "tests" / "c").glob("test_*.c"):
        known.update(re.findall(r"CHECK_RUN\((\w+)\)", path.read_text()))
    return known


def is_command(name: str) -> bool:
    return name.startswith(("python ", "make "))


def test_each_sentence_names_what_shows_it_and_that_exists() -> None:
    known = names()
    shown = [row[-1] for row in cells("The promise") + cells("What is not promised")]
    empty = [cell for cell in shown if not re.search("`", cell)]
    assert len(empty) == 1, "only the crash of a machine can be shown by nothing"
    named = {name for cell in shown for name in re.findall("`([^`]+)`", cell)}
    unknown = {name for name in named if not is_command(name)} - known
    assert not unknown, f"docs/reliability.md names what is not there: {sorted(unknown)}"


def test_each_command_is_one_of_a_tool_that_exists() -> None:
    named = {name for name in re.findall("`([^`]+)`", PROSE) if is_command(name)}
    for name in sorted(named - OTHER_COMMANDS):
        assert any(tool.full.startswith(name) or name in tool.full for tool in TOOLS) or any(
            name.startswith(other) for other in OTHER_COMMANDS
        ), name
    listed = " ".join(cell for row in cells("How it is shown") for cell in row)
    for tool in TOOLS:
        assert " ".join(tool.full.split()[:4]).split(" --")[0] in listed, tool.name


def test_what_the_crash_tool_leaves_out_and_may_miss_is_named() -> None:
    (row,) = [
        cell for name, _, cell in cells("How it is shown") if name == "`python -m tests.crash`"
    ]
    (named,) = re.findall(r"Where hundreds of KiB are copied \(([^)]*)\)", row)
    left_out = {
        operation.name for operation in OPERATIONS if set(COPIES) <= set(operation.left_out)
    }
    assert set(re.findall("`([^`]+)`", named)) == left_out
    (without,) = re.findall(r"memory that is left is killed in `([^`]+)` alone", row)
    assert [
        operation.name for operation in OPERATIONS if "os_room.c" not in operation.left_out
    ] == [without]
    assert MOST_MISSED == 1 / 100
    assert "of each hundred points one may never be met again" in row


def test_a_sleeper_looks_again_as_soon_as_is_said() -> None:
    (ms,) = re.findall(
        r"RECHECK_NS \((\d+) \* FIPC_NS_PER_MS\)", (ROOT / "csrc/wait.c").read_text()
    )
    assert f"after at most {int(ms) / 1000:g} s" in PROSE


def test_the_figures_are_those_of_the_kept_results() -> None:
    made = TEXT.partition(page.BEGIN)[2].partition("<!-- end -->")[0]
    results, said = page.read(), commits.kept(page.RESULTS)
    assert made.strip() == page.made_of(results, said).strip(), (
        "run python -m tests.reliability page"
    )
    if said:
        assert commits.asked(results) in (said, None), "run python -m tests.reliability page"


def test_what_was_not_run_is_said_to_be_so() -> None:
    made = page.made_of({})
    assert made.count("**not run yet**") == len(TOOLS)


def result(**changes: object) -> dict[str, object]:
    return {
        "name": "crash", "command": "python -m tests.crash --full", "seconds": 7260.0,
        "date": "2026-01-02T03:04:05+00:00", "where": "here", "exit": 0,
        "rows": [{"operation": "a|b", "kills": 12345}, {"operation": "c", "before": 1}],
        "failures": [], **changes,
    }  # fmt: skip


def test_a_result_is_shown_with_command_date_time_rows_and_failures() -> None:
    made = page.made_of({"crash": result()})
    assert "`python -m tests.crash --full`, 2026-01-02, 121 minutes, here: no failure." in made
    assert "| operation | kills | before |\n| --- | ---: | ---: |" in made
    assert "| a\\|b | 12,345 | - |\n| c | - | 1 |" in made
    made = page.made_of({"crash": result(failures=["it hung"], exit=1)})
    assert "**1 failure**" in made
    assert "* `it hung`" in made
    assert "**ended with 2**" in page.made_of({"crash": result(exit=2)})


def test_a_seed_that_was_drawn_is_in_the_command() -> None:
    made = page.made_of({"storm": result(command="python -m tests.storm", seed="7")})
    assert "`python -m tests.storm --seed 7`" in made
    made = page.made_of({"storm": result(command="python -m tests.storm --seed 7", seed="7")})
    assert "`python -m tests.storm --seed 7`" in made


def test_results_are_kept_and_written_into_the_page(tmp_path: Path) -> None:
    run, kept = tmp_path / "run", tmp_path / "kept"
    run.mkdir()
    (run / "crash.json").write_text(json.dumps(result()))
    assert page.keep([run], kept) == ["crash"]
    copy = tmp_path / "page.md"
    copy.write_text(f"before\n{page.BEGIN}\n<!-- end -->\nafter\n")
    page.write(copy, kept)
    text = copy.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "121 minutes" in text


def test_what_the_c_tests_print_is_read() -> None:
    rows, failures = rows_of_c_tests(
        "ok    test_os (12 cases)\nok    layout_dump \n  skipped: x\n"
        "FAIL  test_wait (exit status 1)\n"
    )
    assert [row["binary"] for row in rows] == ["test_os", "layout_dump", "test_wait"]
    assert rows[0]["cases"] == 12
    assert failures == ["test_wait: exit status 1"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_tool_that_ends_without_a_result_has_failed(tmp_path: Path, fails: bool) -> None:
    program = tmp_path / "tool.py"
    keep = "import json, sys; json.dump({'rows': [], 'failures': []}, open(sys.argv[2], 'w'))"
    program.write_text("raise SystemExit(3)" if fails else keep)
    tool = Tool("crash", "A tool", f"python {program}", f"python {program}")
    found = command.run_tool(tool, True, tmp_path)
    assert bool(found["failures"]) == fails
    assert found["exit"] == (3 if fails else 0)
    assert found["command"] == f"python {program}"


KEEPS = "import json, os, sys; json.dump({'rows': [], 'failures': []}, open(sys.argv[2], 'w'))"
LEAVES_A_PROCESS = f"""
{KEEPS}
import signal
read_end, write_end = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        signal.alarm(60)
        kept = os.memfd_create("kept by a process that is left")
        os.write(write_end, b"x")
        signal.pause()
    os._exit(0)
os.read(read_end, 1)
os.wait()
"""
LEFT_NAME = f"left-on-purpose-{os.getpid()}"


def run_toy(folder: Path, program: str) -> dict[str, Any]:
    path = folder / "tool.py"
    path.write_text(program)
    return command.run_tool(Tool("crash", "", f"python {path}", f"python {path}"), True, folder)


def test_a_process_that_a_tool_leaves_is_a_failure_and_ended(tmp_path: Path) -> None:
    found = run_toy(tmp_path, LEAVES_A_PROCESS)
    (failure,) = found["failures"]
    assert re.fullmatch(r"it left a process: (\d+), .*/tool\.py .*\(.*descriptors, .*\)", failure)
    assert task_state(int(re.findall(r"\d+", failure)[0])) == ""
    assert found["left"] == [failure]
    assert found["exit"] == 0


def test_a_name_in_dev_shm_that_a_tool_leaves_is_a_failure(tmp_path: Path) -> None:
    try:
        found = run_toy(tmp_path, f"{KEEPS}\nopen('/dev/shm/{LEFT_NAME}', 'w')")
    finally:
        Path("/dev/shm", LEFT_NAME).unlink(missing_ok=True)  # it is there where nothing is mounted
    assert found["failures"] == [f"it left /dev/shm/{LEFT_NAME}"]


def test_a_tool_that_leaves_nothing_is_said_to(tmp_path: Path) -> None:
    slow_to_go = KEEPS + "\nimport time\nif os.fork() == 0: time.sleep(0.5)"
    found = run_toy(tmp_path, slow_to_go)
    assert found["failures"] == []
    assert "nothing" not in page.made_of({"crash": result()})
    assert "no process and no name in `/dev/shm` was left" in page.made_of({"crash": found})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "crash.json",
        "crash.log",
        "tool.py",
    ]


def test_a_tool_around_which_nobody_could_look_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "sys", SimpleNamespace(executable="/bin/false"))
    found = run_toy(tmp_path, KEEPS)
    assert found["exit"] == 1
    assert any("nobody could look" in failure for failure in found["failures"])


def test_an_unknown_tool_is_an_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability", "run", "--only", "nothing"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no such tool: nothing" in done.stderr
