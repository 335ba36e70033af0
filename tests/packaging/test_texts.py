"""The project's texts: the set-up commands are there, links inside the repository lead somewhere.

That the commands work is shown elsewhere: CI runs them in a fresh clone.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT

README = ROOT / "README.md"
TEXTS = sorted(
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("csrc/*.md")]
    if path.is_file()
)

pytestmark = pytest.mark.skipif(
    not README.exists(), reason="the tests run without the source tree around them"
)


def test_the_readme_sets_up_in_two_commands_below_what_a_bare_system_needs() -> None:
    text = README.read_text()
    bare = (
        "sudo apt install gcc python3-dev python3-venv && "
        "python3 -m venv .venv && . .venv/bin/activate"
    )
    commands = [bare, "pip install . && python -m fastipc demo", 'pip install ".[test]" && pytest']
    places = [text.index(command) for command in commands]
    assert places == sorted(places)


def test_no_text_installs_a_package_of_that_name_from_an_index() -> None:
    """On PyPI the name belongs to somebody else: installs are from a path or a wheel file."""
    forbidden = re.compile(r"(pip3?|uv|pipx)\s+(install|add)\s+(-\S+\s+)*['\"]?fast" + "ipc")
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in source_files()
        for match in forbidden.finditer(path.read_text(errors="replace"))
    ]
    assert not found


def source_files() -> list[Path]:
    kinds = {".md", ".py", ".pyi", ".pyx", ".pxi", ".toml", ".txt", ".c", ".h", ""}
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    names = listed.stdout.splitlines() if listed.returncode == 0 else [str(path) for path in TEXTS]
    paths = [ROOT / name for name in names]
    return [path for path in paths if path.suffix in kinds and path.is_file()]


@pytest.mark.parametrize("text", TEXTS, ids=[str(path.relative_to(ROOT)) for path in TEXTS])
def test_links_into_the_repository_lead_to_a_file(text: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text.read_text())
    local = [target for target in targets if "://" not in target and ":" not in target]
    missing = [target for target in local if not (text.parent / target).exists()]
    assert not missing
