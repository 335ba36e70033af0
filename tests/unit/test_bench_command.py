"""``python -m fastipc bench``: what it prints and keeps, and how it refuses. No speed is tested."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastipc import __main__ as command
from fastipc._bench import plot, results as kept_results
from fastipc._bench.adapters import ADAPTERS
from fastipc._bench.cases import CASES
from fastipc._bench.command import QUICK, SHORT
from fastipc._bench.results import Results, shown
from tests import support

FAST = ("--seconds", "0.001", "--peers", "mp-pipe,torch")

# In a process of its own: matplotlib keeps the files of its fonts open.
DRAW = """
import sys
from pathlib import Path
from fastipc._bench import plot
from fastipc._bench.results import Results

results = Results()
for name, value in (("fastipc", 50.0), ("multiprocessing", 1.0), ("zeroq", 5.0)):
    results.keep("queue-int", name, {"value": value})
results.keep("queue-64B", "fastipc", {"value": 1.0})  # nothing to be compared with
plot.draw(Path(sys.argv[1]), results, "fastipc", "a machine")
"""


def bench(*arguments: str) -> int:
    return command.main(["bench", *arguments])


def test_it_prints_a_line_for_each_case_and_keeps_what_it_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept.json"
    assert bench(*FAST, "--json", str(kept), "queue-int", "pipe-64B-roundtrip") == 0
    output = capsys.readouterr()
    lines = output.out.splitlines()
    for case in ("queue-int", "pipe-64B-roundtrip"):
        assert any(case in line and CASES[case].unit in line for line in lines)
    assert "mp-pipe absent: its pipe is multiprocessing's (pipe-64B-roundtrip)" in lines
    # Plain lines of progress, as there is no terminal: one a case.
    assert [line.split(" (")[0] for line in output.err.splitlines()] == [
        "queue-int",
        "pipe-64B-roundtrip",
    ]
    results, document = kept_results.read(kept)
    for name in ("fastipc", "multiprocessing", "mp-pipe"):
        number = results.number("queue-int", name)
        assert number is not None
        assert number > 0
    assert document["cases"]["queue-int"]["unit"] == "messages/s"
    assert document["environment"]["peers"]["fastipc"]


def test_who_is_not_installed_is_named_and_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Missing:
        module = "no_such_library"

    monkeypatch.setitem(ADAPTERS, "missing", Missing)
    assert bench("--seconds", "0.001", "--peers", "missing", "queue-descriptors") == 0
    assert "absent, as they are not installed: missing" in capsys.readouterr().out


def test_a_case_in_which_fastipc_fails_ends_with_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    genuine = Results.take

    def take(self: Results, case: str, peer: str, settings: Any) -> dict[str, Any]:
        if peer == "fastipc":
            return self.keep(case, peer, {"kind": "hung", "error": "no answer in 20 s"})
        return genuine(self, case, peer, settings)

    monkeypatch.setattr(Results, "take", take)
    assert bench(*FAST, "queue-descriptors") == 1
    assert "fastipc hung: no answer in 20 s (queue-descriptors)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["queue-of-dreams"], "no case 'queue-of-dreams'"),
        (["--peers", "nobody"], "no 'nobody'"),
        (["--json", "/no/such/folder/file"], "no folder /no/such/folder"),
        (["--json", "/"], "/ is a folder"),
        (["--plot", "chart.gif"], "chart.gif: a chart is an .svg or a .png file"),
        (["--rounds", "0"], "--rounds"),
        (["--rounds", "x"], "--rounds"),
        (["--seconds", "-1"], "--seconds"),
        (["--seconds", "nan"], "--seconds"),
    ],
)
def test_a_bad_argument_ends_with_status_2_before_anything_is_measured(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = bench(*arguments)
    except SystemExit as ended:  # argparse found it
        status = int(str(ended.code))
    output = capsys.readouterr()
    assert status == 2
    assert message in output.err
    assert output.out == ""


def test_without_matplotlib_a_chart_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert bench("--plot", "chart.svg") == 2
    assert "pip install matplotlib" in capsys.readouterr().err


def test_without_rich_the_table_is_plain(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rich.table", None)
    assert bench(*FAST, "queue-descriptors") == 0
    lines = capsys.readouterr().out.splitlines()
    header = next(line.split() for line in lines if line.startswith("case"))
    assert header[:4] == ["case", "unit", "fastipc", "multiprocessing"]
    assert any(line.startswith("queue-descriptors  descriptors") for line in lines)


def test_a_narrow_screen_gets_several_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = Results()
    names = ["fastipc", "multiprocessing", *ADAPTERS]
    for number, name in enumerate(names, 1):
        results.keep("queue-int", name, {"value": 1000.0 * number})
    monkeypatch.setattr(kept_results, "_screen_columns", lambda: 90)
    kept_results.print_results(results)
    output = capsys.readouterr().out
    assert output.count("queue-int") > 1
    assert max(map(len, output.splitlines())) <= 90
    assert all(output.count(shown(1000.0 * number)) for number in range(1, len(names) + 1))


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_chart_is_drawn_and_the_same_results_give_the_same_chart(
    suffix: str, tmp_path: Path
) -> None:
    files = [tmp_path / f"{number}{suffix}" for number in range(2)]
    for path in files:
        subprocess.run([sys.executable, "-c", DRAW, path], cwd=support.ROOT, check=True)
    first, second = (path.read_bytes() for path in files)
    assert first[:4] == (b"<?xm" if suffix == ".svg" else b"\x89PNG")
    assert first == second


def test_results_without_multiprocessing_give_no_chart(tmp_path: Path) -> None:
    with pytest.raises(plot.PlotError, match="nothing to draw"):
        plot.draw(tmp_path / "chart.svg", Results(), "fastipc", "")


def test_all_cases_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("--list") == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == list(CASES)
    assert {*SHORT, *QUICK} <= CASES.keys()


def test_results_of_another_version_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"schema": 1}))
    with pytest.raises(ValueError, match="schema"):
        kept_results.read(path)


@pytest.mark.parametrize("place", ["the root of the sources", "elsewhere"])
def test_the_command_runs_from(place: str, tmp_path: Path) -> None:
    """Elsewhere, Python finds the package that was installed."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "fastipc", "bench", "queue-int"),
            *(
                "--seconds",
                "0.001",
                "--peers",
                "",
                "--json",
                "kept.json" if place == "elsewhere" else str(tmp_path / "kept.json"),
            ),
        ],
        cwd=support.ROOT if place == "the root of the sources" else tmp_path,
        capture_output=True,
        text=True,
        timeout=support.PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "kept.json").exists()
    assert "queue-int" in done.stdout


def test_ctrl_c_ends_the_command_and_what_it_measures(tmp_path: Path) -> None:
    mark = f"FASTIPC_TEST_MARK={tmp_path}".encode()

    def marked() -> list[str]:
        found = []
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if mark in Path(f"/proc/{pid}/environ").read_bytes():
                    found.append(pid)
        return found

    with subprocess.Popen(
        [
            *(sys.executable, "-m", "fastipc", "bench", "queue-int", "queue-idle"),
            *("--peers", "", "--rounds", "100", "--seconds", "0.001"),
        ],
        cwd=support.ROOT,
        env={**support.script_environment(), "FASTIPC_TEST_MARK": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("queue-int")
            support.until(lambda: len(marked()) > 1, "something is measured")
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=support.PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "interrupted"
    assert "Traceback" not in err
    support.until(lambda: not marked(), "all of its processes are gone")
