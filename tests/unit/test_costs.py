"""How instructions and system calls are counted: what the tools tell is read rightly, and the
program that they look at does what it says.
"""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.costs import __main__ as command, instructions, program, syscalls
from benchmarks.costs.tools import ToolError, run_tool

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace")
needs_valgrind = pytest.mark.skipif(shutil.which("valgrind") is None, reason="there is no valgrind")

# Names stand where they are first used, also by a call; the line after calls= is not the caller's.
DUMP = """
positions: line
events: Ir
ob=(1) /usr/bin/python3.11
fl=(1) Python/ceval.c
fn=(1) eval
10 100
cob=(2) /somewhere/fastipc/_core.cpython-311-x86_64-linux-gnu.so
cfi=(2) fastipc/_core.c
cfn=(2) put
calls=5 20
+1 9999
* 3

ob=(2)
fl=(2)
fn=(2)
20 40
fi=(3) csrc/lock.h
+5 7
fe=(2)
-3 2
ob=(3) /usr/lib/x86_64-linux-gnu/libc.so.6
fl=(4) memmove.S
fn=(3) memcpy
1 11
ob=(4) /usr/lib/lib-dynload/_pickle.cpython-311-x86_64-linux-gnu.so
fl=(5) Modules/_pickle.c
fn=(4) dump
1 13
ob=(5) ???
fl=(6) ???
fn=(5) 0x1234
0 1

totals: 177
"""

LOG = """\
10 getpid()                          = 10
10 getppid()                         = 9
10 futex(0x7f00, FUTEX_WAIT_BITSET|FUTEX_CLOCK_REALTIME, 3, NULL, FUTEX_BITSET_MATCH_ANY <unfinished ...>
11 futex(0x7f00, FUTEX_WAKE, 1)      = 1
11 getppid()                         = 10
11 futex(0x7f00, FUTEX_WAKE, 1 <unfinished ...>
10 <... futex resumed>)              = 0
11 <... futex resumed>)              = 1
10 read(3, "FUTEX_WAIT", 10)         = 10
10 --- SIGCHLD {si_signo=SIGCHLD} ---
10 getppid()                         = 9
10 close(3)                          = 0
11 getppid()                         = 10
11 +++ exited with 0 +++
"""  # noqa: E501


def test_instructions_belong_to_the_code_that_they_are_of() -> None:
    assert instructions.read_dump(DUMP) == {
        "interpreter": 103,
        "extension": 42,
        "csrc": 7,
        "libc": 11,
        "pickle": 13,
        "other": 1,
    }


def test_calls_are_counted_between_the_marks_of_each_process() -> None:
    assert syscalls.read_log(LOG) == {"futex wait": 1, "futex wake": 1, "read": 1}


def test_every_kind_of_message_is_another_each_time() -> None:
    for make in program.KINDS.values():
        messages = [make(number) for number in range(program.COUNT)]
        assert all(before != after for before, after in pairwise(messages))


def test_a_missing_tool_is_said_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="there is no strace: install it"):
        syscalls.measure("paced", 1)
    assert command.main([]) == 1
    captured = capsys.readouterr()
    assert "no instructions: there is no valgrind" in captured.err
    assert json.loads(captured.out) == {}


def test_a_tool_that_fails_or_hangs_gives_no_counts(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\necho it broke >&2; exit 3\n")
    tool.chmod(0o755)
    with pytest.raises(ToolError, match="ended with 3: it broke"):
        run_tool([str(tool)], [], 30)
    tool.write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(ToolError, match="did not end in 0 s"):
        run_tool([str(tool)], [], 0.1)


def test_the_program_runs_without_a_tool() -> None:
    assert run_tool(["env"], ["instructions"], 60) == ""
    assert float(run_tool(["env"], ["unpaced", "1000"], 60)) > 0
    assert float(run_tool(["env"], ["paced", "100"], 60)) > 0


def test_a_thing_that_cannot_be_counted_is_a_usage_error() -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["dreams"])
    assert ended.value.code == 2


def test_the_tables_have_a_row_for_each_kind_and_call() -> None:
    one = dict.fromkeys(("all", *instructions.OWNERS), 1.0)
    text = command.markdown(
        {
            "instructions": {"int": {"put": one, "get": {**one, "all": 9.4}}},
            "syscalls": {
                "unpaced": {"messages": 1000, "seconds": 0.5, "read": 2},
                "paced": {"messages": 100, "seconds": 0.01, "futex wait": 100},
            },
        }
    )
    assert "| int, get | 9 | 1 |" in text
    assert "unpaced: 1,000, 2,000/s" in text
    assert "| all | 2 | 1e+03 |" in text
    assert "| futex wait | 0 | 1e+03 |" in text


@needs_strace
def test_strace_counts_calls_of_both_processes() -> None:
    found = syscalls.measure("paced", 200)
    assert found["messages"] == 200
    assert found.get("futex wake", 0) > 0
    assert syscalls.MARK not in found


@needs_valgrind
def test_valgrind_counts_instructions_of_each_kind() -> None:
    found = instructions.measure()
    assert list(found) == [*program.KINDS, instructions.PIPE]
    for operations in found.values():
        for costs in operations.values():
            assert costs["all"] == pytest.approx(sum(costs[each] for each in instructions.OWNERS))
            assert costs["csrc"] > 0 and costs["extension"] > 0 and costs["all"] < 1_000_000
    assert found["a pickled one"]["put"]["pickle"] > 0
    assert found["an object"]["put"]["pickle"] == found["int"]["put"]["pickle"] == 0
