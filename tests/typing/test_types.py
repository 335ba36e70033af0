"""mypy accepts the programs in programs/, for the oldest and the newest Python, and the stubs
agree with what is there at run time.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

PROGRAMS = sorted((Path(__file__).parent / "programs").glob("*.py"))

pytestmark = pytest.mark.timeout(300)


def run(*command: str, cache: Path) -> None:
    outcome = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={"MYPY_CACHE_DIR": str(cache), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stdout


@pytest.mark.parametrize("version", ["3.10", "3.13"])
def test_programs_that_use_the_package_are_typed(version: str, tmp_path: Path) -> None:
    """A missing error is reported too: strict mode warns of an ignore that nothing needs."""
    names = [str(path) for path in PROGRAMS]
    run("mypy", "--strict", "--python-version", version, *names, cache=tmp_path)


def test_the_stubs_agree_with_the_modules_at_run_time(tmp_path: Path) -> None:
    run(
        *("mypy.stubtest", "--mypy-config-file", "pyproject.toml", "--ignore-unused-allowlist"),
        *("--allowlist", "tests/typing/stubtest-allowlist.txt", "fastipc"),
        cache=tmp_path,
    )
