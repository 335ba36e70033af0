"""The floor of the benchmarks: its programs give numbers, say what is wrong, and leave nothing
behind. No speed is tested here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import floor
from benchmarks.floor import CASES, FloorError, __main__ as command, measure
from tests.support import ROOT, until

SHORT = 0.01


@pytest.mark.parametrize("case", CASES)
def test_each_case_gives_a_positive_number(case: str) -> None:
    result = measure(case, SHORT)
    assert result["value"] > 0
    assert result["unit"] in ("messages/s", "us", "bytes/s", "us CPU")
    details = [result[name] for name in result if name not in ("value", "unit", "late")]
    assert all(number > 0 for number in details)


def test_a_value_that_was_chosen_is_the_best_of_its_candidates() -> None:
    for case in ("ring-stream-1MiB", "copy-sum-1MiB"):
        result = measure(case, SHORT)
        candidates = [result[name] for name in result if name not in ("value", "unit")]
        assert len(candidates) > 1
        assert result["value"] == max(candidates)


def test_a_case_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(FloorError, match="'ring-of-dreams'.*memcpy-1MiB"):
        measure("ring-of-dreams", SHORT)


def test_a_missing_compiler_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    with pytest.raises(FloorError, match="no 'no-such-compiler': install a C compiler"):
        measure("memcpy-1MiB", SHORT)


def test_what_the_compiler_says_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(floor, "BUILD", tmp_path)
    monkeypatch.setattr(floor, "FLAGS", [*floor.FLAGS, "--no-such-option"])
    with pytest.raises(FloorError, match="no-such-option"):
        measure("memcpy-1MiB", SHORT)
    assert list(tmp_path.iterdir()) == []


def test_a_program_is_compiled_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(floor, "BUILD", tmp_path)
    built = floor.program("small")
    written = built.stat().st_mtime_ns
    assert floor.program("small") == built
    assert built.stat().st_mtime_ns == written
    monkeypatch.setattr(floor, "FLAGS", [*floor.FLAGS, "-g"])
    assert floor.program("small") != built
    assert len(list(tmp_path.iterdir())) == 2


def test_a_program_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []
    genuine = os.killpg
    monkeypatch.setattr(
        os, "killpg", lambda group, number: (ended.append(group), genuine(group, number))
    )
    monkeypatch.setattr(floor, "LIMIT_SECONDS", 0.2)
    monkeypatch.setattr(floor, "LIMIT_FACTOR", 0.0)
    with pytest.raises(FloorError, match="did not end in"):
        measure("ring-64B-throughput", 30)
    until(lambda: processes_of(ended[0]) == [], "the end of both processes")


def test_a_program_ends_by_itself_after_its_limit() -> None:
    done = run_program("small", "throughput", "30", "0", str(os.getpid()), "0", "0")
    assert done.returncode == -signal.SIGALRM


def test_a_program_says_what_it_was_told_wrongly() -> None:
    for arguments in (["throughput"], ["throughput", "1", "x", "1", "0", "0"]):
        done = run_program("small", *arguments)
        assert done.returncode == 1
        assert done.stderr
    done = run_program("copy", "memcpy", "1", "10", str(os.getpid()), "1000", "1")
    assert "the size must be" in done.stderr


@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_process_is_killed_the_other_ends_too(victim: int) -> None:
    with subprocess.Popen(
        [floor.program("small"), "throughput", "30", "60", str(os.getpid()), "0", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        pair = until(
            lambda: len(found := processes_of(process.pid)) == 2 and found, "the second process"
        )
        os.kill(sorted(pair, key=lambda pid: pid != process.pid)[victim], signal.SIGKILL)
        assert process.wait(timeout=30) == (-signal.SIGKILL if victim == 0 else 1)
    until(lambda: processes_of(process.pid) == [], "the end of both processes")


def test_when_the_caller_is_killed_nothing_stays() -> None:
    script = "from benchmarks.floor import measure; measure('ring-64B-throughput', 30)"
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) as caller:
        (first,) = until(lambda: children_of(caller.pid), "the measurement")
        until(lambda: len(processes_of(first)) == 2, "its second process")
        caller.kill()
    until(lambda: processes_of(first) == [], "the end of both processes")


def test_the_command_prints_the_cases_that_were_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--seconds", "0.01", "--details", "memcpy-1MiB", "copy-sum-1MiB"]) == 0
    out = capsys.readouterr().out
    assert "memcpy-1MiB" in out and "copy-sum-1MiB" in out and "blocks_2" in out
    assert "futex" not in out


def test_the_command_goes_on_after_a_case_without_a_number(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    assert command.main(["--json", "memcpy-1MiB", "pacing"]) == 1
    assert capsys.readouterr().out.count("no-such-compiler") == 2


def run_program(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [floor.program(name), *arguments], capture_output=True, text=True, timeout=30
    )


def processes_of(session: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session and fields[0] not in "ZX":
            found.append(int(name))
    return found


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
