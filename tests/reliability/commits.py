"""Of which commits the kept results are, and whether these differ in what the figures are about.

Asks git when the page is made, and keeps what it says beside the results: a clone without the
history has to make the same page of them.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support import ROOT

from .tools import TOOLS

NAME = "commits.json"  # beside the results; no tool has that name
ABOUT = ("csrc", "fastipc", "docs/model")
_SHORT = 12
_CHANGES = "+changes"  # behind the commit of a tree that was not as committed


def asked(results: Mapping[str, Mapping[str, Any]], root: Path = ROOT) -> dict[str, Any] | None:
    """What git says of the results' commits: the newest, and the folders in which each other one
    differs from it. None where there is no git, or it does not know one of them."""
    commits = sorted({_plain(found) for found in results.values()} - {""})
    if not commits or not (root / ".git").exists():
        return None
    try:
        (newest,) = _git(root, "rev-list", "--date-order", "--max-count=1", *commits)
        differs = {
            commit: [
                folder
                for folder in ABOUT
                if _git(root, "diff", "--name-only", commit, newest, "--", folder)
            ]
            for commit in commits
            if commit != newest
        }
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"newest": newest, "differs": differs}


def keep(results: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Keeps what git says beside the results. Where it says nothing, what it has said of the same
    commits stays."""
    said = asked(results)
    if said is not None:
        (folder / NAME).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    elif _commits_of(kept(folder)) != {_plain(found) for found in results.values()} - {""}:
        (folder / NAME).unlink(missing_ok=True)


def kept(folder: Path) -> dict[str, Any]:
    """What git has said; nothing if it was not there."""
    path = folder / NAME
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def sentences(results: Mapping[str, Mapping[str, Any]], said: Mapping[str, Any]) -> str:
    """For the top of the figures: of which commits they are, and which are of other code than the
    newest of these."""
    titles: dict[str, list[str]] = {}
    for tool in TOOLS:
        if tool.name in results:
            commit = str(results[tool.name].get("commit") or "")
            titles.setdefault(commit, []).append(f'"{tool.title}"')
    if not titles:
        return ""
    newest = said.get("newest", "")
    names = sorted(titles, key=lambda name: (_base(name) != newest, name))
    if len(names) == 1:
        text = f"All figures are of {_called(names[0])}."
    else:
        text = "The figures are of different commits. " + " ".join(
            f"Of {_called(name)}: {_listed(titles[name])}." for name in names
        )
    same = []
    for name in names:
        folders = said.get("differs", {}).get(_base(name))
        if folders:
            text += (
                f" **{_called(name)[0].upper()}{_called(name)[1:]} differs from the newest of them,"
                f" `{newest[:_SHORT]}`, in {_listed([f'`{each}/`' for each in folders])}:"
                f" {_listed(titles[name])} {'is' if len(titles[name]) == 1 else 'are'} of that"
                f" other code.**"
            )
        elif folders is not None:
            same.append(_called(name))
    if same:
        text += (
            f" In {_listed([f'`{each}/`' for each in ABOUT])} {_listed(same)}"
            f" {'is' if len(same) == 1 else 'are'} the same as `{newest[:_SHORT]}`."
        )
    return text


def _git(root: Path, *words: str) -> list[str]:
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def _base(name: str) -> str:
    return name.removesuffix(_CHANGES)


def _plain(found: Mapping[str, Any]) -> str:
    return _base(str(found.get("commit") or ""))


def _commits_of(said: Mapping[str, Any]) -> set[str]:
    return {said["newest"], *said["differs"]} if said else set()


def _called(name: str) -> str:
    if not name:
        return "no known commit"
    changed = " with changes" if name.endswith(_CHANGES) else ""
    return f"commit `{_base(name)[:_SHORT]}`{changed}"


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
