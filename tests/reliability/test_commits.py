"""The page says of which commits its figures are, and whether that is the same code."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from . import commits, page

OLD, NEW = "0" * 40, "1" * 40


def figures(**of: str | None) -> dict[str, dict[str, str | None]]:
    return {tool: {"commit": commit} for tool, commit in of.items()}


@pytest.fixture
def history(tmp_path: Path) -> tuple[Path, list[str]]:
    """A repository with three commits: the second changes csrc/ and docs/model/, the third what no
    figure is about."""
    root = tmp_path / "repository"
    root.mkdir()

    def git(*words: str) -> str:
        identity = ("-c", "user.name=a test", "-c", "user.email=test@example.invalid")
        return subprocess.run(
            ["git", *identity, *words], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()

    git("init", "-q")
    names = []
    for changed in (["csrc/a.c", "fastipc/b.py"], ["csrc/a.c", "docs/model/m"], ["docs/page.md"]):
        for name in changed:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(f"{len(names)}")
        git("add", "-A")
        git("commit", "-q", "--no-gpg-sign", "-m", "a change")
        names.append(git("rev-parse", "HEAD"))
    return root, names


def test_git_says_which_commit_is_the_newest_and_where_the_others_differ(
    history: tuple[Path, list[str]],
) -> None:
    root, (first, second, third) = history
    said = commits.asked(figures(crash=first, storm=f"{third}+changes", model=second), root)
    assert said == {"newest": third, "differs": {first: ["csrc", "docs/model"], second: []}}
    assert commits.asked(figures(crash=second), root) == {"newest": second, "differs": {}}


def test_where_git_cannot_say_nothing_is_said(
    history: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, (first, second, _) = history
    assert commits.asked(figures(crash=first, storm=OLD), root) is None
    assert commits.asked(figures(crash=None), root) is None
    assert commits.asked(figures(crash=first, storm=second), tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commits.asked(figures(crash=first, storm=second), root) is None


def test_what_git_said_stays_for_the_same_commits_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"newest": NEW, "differs": {OLD: ["csrc"]}}
    monkeypatch.setattr(commits, "asked", lambda *_: said)
    commits.keep(figures(crash=NEW, storm=OLD), tmp_path)
    assert commits.kept(tmp_path) == said
    monkeypatch.setattr(commits, "asked", lambda *_: None)
    commits.keep(figures(crash=NEW, storm=OLD, model=NEW), tmp_path)
    assert commits.kept(tmp_path) == said
    commits.keep(figures(crash=NEW), tmp_path)
    assert commits.kept(tmp_path) == {}


def test_the_page_begins_with_the_commits_of_its_figures() -> None:
    assert commits.sentences({}, {}) == ""
    assert (
        commits.sentences(figures(crash=NEW, storm=NEW), {})
        == f"All figures are of commit `{NEW[:12]}`."
    )
    text = commits.sentences(figures(crash=NEW, storm=f"{OLD}+changes", model=None), {})
    assert f'Of commit `{NEW[:12]}`: "Every instruction".' in text
    assert f'Of commit `{OLD[:12]}` with changes: "Storms".' in text
    assert 'Of no known commit: "The models".' in text
    assert "differs" not in text, "git was not asked"
    made = page.made_of(figures_to_show(), {"newest": NEW, "differs": {OLD: []}})
    assert made.startswith("The figures are of different commits. ")


def figures_to_show() -> dict[str, dict[str, object]]:
    usual = {"command": "c", "seconds": 1, "rows": [], "failures": []}
    return {"crash": {**usual, "commit": NEW}, "storm": {**usual, "commit": OLD}}


def test_the_page_says_which_figures_are_of_other_code() -> None:
    found = figures(crash=NEW, storm=OLD, model=f"{OLD}+changes")
    text = commits.sentences(found, {"newest": NEW, "differs": {OLD: ["csrc", "docs/model"]}})
    assert (
        f"**Commit `{OLD[:12]}` differs from the newest of them, `{NEW[:12]}`, in `csrc/` and"
        f' `docs/model/`: "Storms" is of that other code.**'
    ) in text
    assert '"The models" is of that other code.**' in text
    text = commits.sentences(figures(crash=NEW, storm=OLD), {"newest": NEW, "differs": {OLD: []}})
    assert "other code" not in text
    assert (
        f"In `csrc/`, `fastipc/` and `docs/model/` commit `{OLD[:12]}` is the same as `{NEW[:12]}`."
    ) in text
