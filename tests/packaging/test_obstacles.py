"""setup.py looks at the machine first: each obstacle ends the build with one line that names what
mends it.  The machine is faked around setup.py; setup.py knows nothing of these tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

SETUP = ROOT / "setup.py"

pytestmark = pytest.mark.skipif(
    not SETUP.exists(), reason="the tests run without the source tree around them"
)


def run_setup(prelude: str = "", command: str = "--name", **environ: str) -> tuple[int, list[str]]:
    """Run setup.py after statements that fake the machine; the exit code and stderr's lines."""
    program = f"""
import runpy, sys
sys.argv = ["setup.py", {command!r}]
{prelude}
runpy.run_path({str(SETUP)!r}, run_name="__main__")
"""
    outcome = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    return outcome.returncode, outcome.stderr.splitlines()


def assert_obstacle(outcome: tuple[int, list[str]], *words: str) -> None:
    code, lines = outcome
    assert code == 1
    assert len(lines) == 1, lines
    assert lines[0].startswith("fastipc cannot be built: ")
    for word in words:
        assert word in lines[0]


def test_a_machine_with_all_that_is_needed_is_not_an_obstacle() -> None:
    code, lines = run_setup()
    assert code == 0, lines


def test_a_missing_compiler_is_named_with_the_package_that_has_one(tmp_path: Path) -> None:
    outcome = run_setup(PATH=str(tmp_path), CC="")
    assert_obstacle(outcome, "no C compiler", "sudo apt install gcc", "variable CC")


def test_a_compiler_named_in_cc_that_does_not_exist_is_named(tmp_path: Path) -> None:
    outcome = run_setup(CC=f"{tmp_path}/no-such-cc -pthread")
    assert_obstacle(outcome, f"no C compiler ({tmp_path}/no-such-cc)")


def test_a_compiler_that_fails_is_quoted(tmp_path: Path) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho 'x.c:1: error: the disk is on fire' >&2\nexit 1\n")
    compiler.chmod(0o755)
    outcome = run_setup(CC=str(compiler))
    assert_obstacle(outcome, "the disk is on fire", "build-essential")


def test_missing_python_headers_are_named_with_their_package(tmp_path: Path) -> None:
    prelude = f"import sysconfig; sysconfig.get_path = lambda name: {str(tmp_path)!r}"
    assert_obstacle(run_setup(prelude), f"{tmp_path}/Python.h", "python3-dev")


def test_another_system_than_linux_is_refused() -> None:
    prelude = "import sysconfig, subprocess, shlex; sys.platform = 'darwin'"
    assert_obstacle(run_setup(prelude), "Linux only", "darwin", "WSL 2")


def test_a_python_that_is_too_old_is_refused_before_anything_else(tmp_path: Path) -> None:
    prelude = "sys.version_info = (3, 9, 18, 'final', 0)"
    outcome = run_setup(prelude, PATH=str(tmp_path), CC="")
    assert_obstacle(outcome, "Python 3.9 is too old", "3.10")


def test_another_interpreter_than_cpython_is_refused() -> None:
    prelude = "sys.implementation.name = 'pypy'"
    assert_obstacle(run_setup(prelude), "64-bit CPython")


def test_a_setuptools_that_is_too_old_is_refused() -> None:
    prelude = "import setuptools; setuptools.__version__ = '65.5.0'"
    assert_obstacle(run_setup(prelude), "setuptools 65.5.0 is too old", "pip install .")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FASTIPC_DEBUG", "yes"),
        ("FASTIPC_SANITIZE", "valgrind"),
        ("FASTIPC_SANITIZE", "thread,address"),
    ],
)
def test_a_setting_that_does_not_exist_is_refused(name: str, value: str) -> None:
    assert_obstacle(run_setup(**{name: value}), f"{name}={value}", "give")


def old_interpreters() -> list[Path]:
    """Pythons on this machine that are too old, where pyenv or the system has some."""
    found = [*Path("~/.pyenv/versions").expanduser().glob("[23].*/bin/python")]
    found += [Path(f"/usr/bin/python{version}") for version in ("2.7", "3.6", "3.7", "3.8", "3.9")]
    return [path for path in found if path.exists() and is_too_old(path)]


def is_too_old(python: Path) -> bool:
    code = "import sys; sys.exit(sys.version_info[:2] >= (3, 10))"
    return subprocess.run([python, "-c", code], check=False, capture_output=True).returncode == 0


def test_setup_py_can_be_read_by_pythons_that_are_too_old() -> None:
    """Without one of them here, the grammar of 3.10 is all that can be checked."""
    compile(SETUP.read_text(), str(SETUP), "exec")
    for python in old_interpreters():
        process = subprocess.run(
            [python, "setup.py", "--name"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert_obstacle((process.returncode, process.stderr.splitlines()), "is too old")
