"""benchmarks.growth keeps what it prints, of which a table is made. No speed is tested."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import growth, page

SMALL = ["--rounds", "2", "--backlog", "50", "--queues", "3", "--connections", "2", "--calls", "10"]
DOCUMENT = f"before\n{page.BEGIN_GROWTH}\nan old table\n{page.END}\nbehind\n"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """What is kept of a run with little of everything, whose status depends on the machine."""
    path = tmp_path / "growth.json"
    growth.main([*SMALL, "--json", str(path)])
    return path


def test_each_question_is_printed_and_kept_with_all_its_rounds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "growth.json"
    growth.main([*SMALL, "--json", str(kept)])
    document = json.loads(kept.read_text())
    sizes = {"backlog": 50, "queues": 3, "connections": 2, "calls": 10}
    assert document["settings"] == {**sizes, "rounds": 2}
    due = growth.questions(growth.Sizes(**sizes))
    assert [(each["what"], each["most"]) for each in document["growth"]] == [
        (question.what, question.most) for question in due
    ]
    assert all(len(each["ratios"]) == 2 and min(each["ratios"]) > 0 for each in document["growth"])
    printed = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in printed] == [question.what for question in due]


@pytest.mark.parametrize(("ratios", "status"), [([1.0, 1.2, 9.0], 0), ([1.0, 1.3, 1.3], 1)])
def test_a_median_beyond_its_mark_is_a_failure_and_one_without_a_mark_is_none(
    ratios: list[float], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [
        growth.Question("noise", lambda sizes, rounds: [9.0], None),
        growth.Question("marked", lambda sizes, rounds: ratios, 1.25),
    ]
    monkeypatch.setattr(growth, "questions", lambda sizes: asked)
    assert growth.main([]) == status


def test_the_table_stands_between_its_markers_and_says_what_is_noise(kept: Path) -> None:
    document = json.loads(kept.read_text())
    document["growth"][3]["ratios"] = [0.5, 1.75, 1.25]
    kept.write_text(json.dumps(document))
    path = kept.with_name("performance.md")
    path.write_text(DOCUMENT)
    assert page.main(["--growth", str(kept), "--missed", str(path)]) == 0
    text = path.read_text()
    assert text.startswith(f"before\n{page.BEGIN_GROWTH}\n| compared |")
    assert text.endswith(f"{page.END}\nbehind\n")
    assert "| 3 queues in the process, against one | 1.25x | 0.50 to 1.75 | 1.1x |" in text
    assert "medians of 2 rounds. 1.1x is the bound of the noise" in text


@pytest.mark.parametrize("text", ["[1, 2", "[]", '{"schema": 1}', '{"schema": 0, "growth": []}'])
def test_a_file_that_is_no_result_of_it_changes_nothing(
    text: str, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = kept.with_name("performance.md")
    path.write_text(DOCUMENT)
    kept.write_text(text)
    assert page.main(["--growth", str(kept), "--missed", str(path)]) == 1
    assert "python -m benchmarks.page: " in capsys.readouterr().err
    assert path.read_text() == DOCUMENT
