"""The check at import: what it refuses, and that it says how to mend it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fastipc import _platform
from tests.support import ROOT

GOOD = {
    "system": "linux",
    "kernel": "6.1.0-28-amd64",
    "libc": "glibc 2.36",
    "has_proc": True,
    "has_extension": True,
}


def test_this_machine_passes() -> None:
    _platform.check()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kernel", "4.14.336"),
        ("kernel", "10.0-rc1"),
        ("kernel", "6.18.44-fc-v669"),
        ("kernel", "a kernel with a name of its own"),
        ("libc", "glibc 2.28"),
        ("libc", ""),
    ],
)
def test_versions_from_the_oldest_on_pass(name: str, value: str) -> None:
    assert _platform.find_obstacle(**{**GOOD, name: value}) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "cause", "remedy"),
    [
        ("system", "darwin", "darwin", "use a Linux machine"),
        ("kernel", "4.13.99-generic", "4.13.99-generic", "4.14 or newer"),
        ("kernel", "3.10.0-1160.el7", "3.10.0-1160.el7", "4.14 or newer"),
        ("libc", "glibc 2.27", "2.27", "2.28 or newer"),
        ("has_proc", False, "/proc", "mount -t proc proc /proc"),
        ("has_extension", False, "_core", "pip install ."),
    ],
)
def test_each_obstacle_is_one_line_with_its_remedy(
    name: str, value: object, cause: str, remedy: str
) -> None:
    line = _platform.find_obstacle(**{**GOOD, name: value})  # type: ignore[arg-type]
    assert line is not None
    assert cause in line
    assert remedy in line
    assert "\n" not in line


def test_importing_on_a_kernel_that_is_too_old_raises_import_error_with_the_remedy() -> None:
    program = """
import os
class Uname:
    release = "4.4.0"
os.uname = Uname
try:
    import fastipc
except ImportError as error:
    print(error.name, error, sep="|")
"""
    outcome = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    name, message = outcome.stdout.strip().split("|")
    assert name == "fastipc"
    assert message.startswith("fastipc cannot run here: the kernel calls itself Linux 4.4.0")


def test_importing_a_source_folder_without_an_extension_says_how_to_build_it(
    tmp_path: Path,
) -> None:
    package = tmp_path / "fastipc"
    package.mkdir()
    for source in (ROOT / "fastipc").glob("*.py"):
        (package / source.name).write_text(source.read_text())
    outcome = subprocess.run(
        [sys.executable, "-c", "import fastipc"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 1
    last = outcome.stderr.splitlines()[-1]
    assert last.startswith("ImportError: fastipc cannot run here: there is no fastipc/_core.")
    assert last.endswith(f"run 'pip install .' in {tmp_path}")
