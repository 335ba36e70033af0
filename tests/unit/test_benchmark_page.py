"""The table and the chart of the documents are made of a kept result, with what is lost in it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import page, report
from benchmarks.report import Outcome
from benchmarks.rows import chosen
from fastipc._bench import environment, results as kept_results
from fastipc._bench.results import Results
from tests import support

README = f"""# title

{page.BEGIN}
an old table
{page.END}

more
"""


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A result in which fastipc wins, loses, and has nobody beside it."""
    results = Results()
    for case, numbers in {
        "queue-int": {"fastipc": 50e5, "multiprocessing": 1e5, "zeroq": 10e5, "hyperq": 5e5},
        "pipe-64B-roundtrip": {"fastipc": 20.0, "multiprocessing": 40.0, "iceoryx2": 10.0},
        "numpy-8MiB": {"fastipc": 4.0, "multiprocessing": 1.0, "iceoryx2": 8.0, "dejaq": 2.0},
        "queue-descriptors": {"fastipc": 2},
    }.items():
        for peer, number in numbers.items():
            results.keep(case, peer, {"value": number})
    results.keep("queue-int", "dejaq", {"kind": "hung", "error": "no answer"})
    (tmp_path / "missed.md").write_text(f"before\n{page.BEGIN_MISSED}\n{page.END}\nbehind\n")
    path = tmp_path / "kept.json"
    where = environment.describe(["fastipc", "multiprocessing"])
    used = {
        "seconds": 0.3,
        "seconds_of": {"queue-int": 0.6},
        "rounds": 1,
        "candidate": "fastipc",
        "chosen": ["queue-int", "queue-descriptors"],
    }
    rows = report.kept([Outcome(row, "fastipc", results) for row in chosen(used["chosen"])])
    kept_results.write(path, {**kept_results.document(results, where, used), "rows": rows})
    return path


def change(kept: Path, *keys: Any, to: Any) -> None:
    """Change what a kept result says at one place, as somebody with an editor would."""
    document = place = json.loads(kept.read_text())
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = to
    kept.write_text(json.dumps(document))


def write(kept: Path, readme: Path) -> subprocess.CompletedProcess[str]:
    # In a process of its own: matplotlib keeps the files of its fonts open.
    return subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.page", str(kept)),
            *("--readme", str(readme), "--chart", str(kept.with_name("chart.svg"))),
            *("--missed", str(kept.with_name("missed.md"))),
        ],
        cwd=support.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_table_stands_between_its_markers_and_is_made_anew(kept: Path) -> None:
    readme = kept.with_name("README.md")
    readme.write_text(README)
    assert write(kept, readme).returncode == 0
    text = readme.read_text()
    assert text.startswith(f"# title\n\n{page.BEGIN}\n| case |")
    assert text.endswith(f"{page.END}\n\nmore\n")
    assert "an old table" not in text
    assert kept.with_name("chart.svg").read_bytes().startswith(b"<?xml")
    assert write(kept, readme).returncode == 0
    assert readme.read_text() == text


def test_cases_that_are_lost_stay_in_and_raw_memory_is_called_so(kept: Path) -> None:
    results, document = kept_results.read(kept)
    lines = page.table(results, document, "fastipc").splitlines()
    cells = [[cell.strip() for cell in line.split("|")[2:-1]] for line in lines[2:6]]
    assert cells == [
        ["messages/s", "5.00M", "100k", "50x", "zeroq 1.00M", "5x"],
        ["us", "20", "40", "2x", "iceoryx2 10", "0.5x"],
        ["GB/s", "4", "1", "4x", "dejaq 2<br>raw memory: iceoryx2 8", "2x<br>0.5x"],
        ["descriptors", "2", "-", "-", "-", "-"],
    ]


def test_a_case_shows_its_slowest_messages_and_its_memory_where_it_has_them() -> None:
    results = Results()
    for peer, median, p99, most in (
        ("fastipc", 1.0, 4.0, 8.0),
        ("multiprocessing", 10.0, 20.0, 40.0),
        ("zeroq", 2.0, 12.0, 80.0),
        ("hyperq", 3.0, 6.0, 4.0),
    ):
        taken = {"value": median, "p50_us": median, "p99_us": p99, "p99.9_us": most}
        results.keep("queue-int-roundtrip", peer, taken)
        results.keep("queue-burst-million", peer, {"value": median, "memory_mib": most})
    document = kept_results.document(
        results, environment.describe([]), {"rounds": 1, "seconds": 0.3, "candidate": "fastipc"}
    )
    lines = page.table(results, document, "fastipc").splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:7]]
    assert [each[1:] for each in cells] == [
        ["us", "1", "10", "10x", "zeroq 2", "2x"],
        ["us", "4", "20", "5x", "hyperq 6", "1.5x"],
        ["us", "8", "40", "5x", "hyperq 4", "0.5x"],
        ["s", "1", "10", "10x", "zeroq 2", "2x"],
        ["MiB", "8", "40", "5x", "hyperq 4", "0.5x"],
    ]
    beside = [cells[at][0] for at in (1, 2, 4)]
    assert beside == [summary for summary, _ in page.BESIDE.values()]


@pytest.mark.parametrize("text", ["# title\n", f"{page.END}\n{page.BEGIN}\n"])
def test_a_document_without_markers_is_left_alone(text: str, kept: Path) -> None:
    readme = kept.with_name("README.md")
    readme.write_text(text)
    done = write(kept, readme)
    assert done.returncode == 1
    assert page.BEGIN in done.stderr
    assert readme.read_text() == text


def test_a_file_that_is_no_result_is_an_error_and_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text("[1, 2")
    done = write(path, path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("place", "to", "named"),
    [
        (("results", "queue-int", "zeroq"), [{"value": 5e5}], "queue-int/best"),
        (("rows", 0, "met"), False, "queue-int/multiprocessing"),
        (("rows", 0, "least_ratio"), 1, "queue-int/multiprocessing"),
        (("rows", 0), {"row": "queue-64B/best"}, "queue-int/multiprocessing, queue-64B/best"),
        (("settings", "chosen"), [], "queue-tuple/multiprocessing"),
        (("rows",), [], "queue-int/multiprocessing"),
        (("rows",), None, "no rows"),
        (("settings", "cases_of_other_runs"), {"queue-int": "older.json"}, "cases_of_other_runs"),
    ],
)
def test_a_result_that_was_put_together_by_hand_is_refused(
    place: tuple[Any, ...], to: Any, named: str, kept: Path
) -> None:
    readme = kept.with_name("README.md")
    readme.write_text(README)
    change(kept, *place, to=to)
    done = write(kept, readme)
    assert done.returncode == 1
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert readme.read_text() == README


def test_the_line_below_the_table_says_how_long_each_was_measured(kept: Path) -> None:
    results, document = kept_results.read(kept)
    note = "medians of 1 interleaved rounds of 0.3 s (queue-int 0.6 s)."
    assert note in page.table(results, document, "fastipc")
    del document["settings"]["seconds_of"]  # `python -m fastipc bench` keeps none
    assert "rounds of 0.3 s." in page.table(results, document, "fastipc")


def test_the_line_below_the_table_says_where_only_some_peers_were_measured(kept: Path) -> None:
    results, document = kept_results.read(kept)
    assert "only the nearest" not in page.table(results, document, "fastipc")
    document["rows"][1]["among"] = ["zeroq"]
    assert "only the nearest were measured in queue-int." in page.table(
        results, document, "fastipc"
    )


def test_the_marks_that_were_missed_are_listed_and_no_others() -> None:
    def row(case: str, ratio: float | None, *, met: bool, least: float = 2.0) -> dict[str, object]:
        return {
            "case": case,
            "key": "value",
            "compared_with": "best: zeroq",
            "target": ">= 2x",
            "least_ratio": least,
            "median_ratio": ratio,
            "met": met,
        }

    rows = [
        row("queue-int", 3.0, met=True),
        row("queue-tuple", 1.5, met=False),
        row("queue-dict5", None, met=False),
        row("queue-int-armed", 0.5, met=False, least=0),
    ]
    lines = page.missed_table({"rows": rows}).splitlines()[2:]
    assert lines == [
        "| queue-tuple | best: zeroq | >= 2x | 1.5x |",
        "| queue-dict5 | best: zeroq | >= 2x | - |",
    ]
    assert page.missed_table({"rows": rows[:1]}) == "None."


def test_the_table_of_a_larger_machine_is_made_alone(kept: Path) -> None:
    document = kept.with_name("performance.md")
    document.write_text(f"before\n{page.BEGIN_SCALING}\n{page.END}\nbehind\n")
    page.write_scaling(kept, document)
    text = document.read_text()
    assert text.startswith(f"before\n{page.BEGIN_SCALING}\n| case |")
    assert text.endswith(f"{page.END}\nbehind\n")
    assert text.count("\n| ") == 2 + 4
    assert page.main(["--scaling", str(kept), "--missed", str(kept.with_name("missed.md"))]) == 1
    with pytest.raises(SystemExit):
        page.main([str(kept), "--scaling", str(kept)])
