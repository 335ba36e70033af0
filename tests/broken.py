"""Builds of the extension that are broken on purpose, for the tools that have to notice it.

csrc/base.h lists the switches. Each build is a copy of the tree in a folder of its own, from which
the tools run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_SOURCES = ("csrc", "fastipc", "tests", "setup.py", "pyproject.toml", "README.md", "LICENSE")


class BrokenBuilds:
    """Makes each build when it is first asked for; a build takes about a minute."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._roots: dict[tuple[str, ...], Path] = {}

    def root(self, *switches: str) -> Path:
        """Return the root of a tree whose extension has these mistakes switched on."""
        if switches not in self._roots:
            root = self._folder / "-".join(switches).lower()
            _copy_sources(root)
            _build(root, switches)
            self._roots[switches] = root
        return self._roots[switches]


def _copy_sources(root: Path) -> None:
    """Copies what a build needs, and the tools, without anything that was built."""
    root.mkdir()
    for name in _SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(
                source,
                root / name,
                ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.o", "_core.c"),
            )
        elif source.exists():
            shutil.copy(source, root / name)


def _build(root: Path, switches: tuple[str, ...]) -> None:
    flags = [os.environ.get("CFLAGS", ""), *(f"-D{switch}=1" for switch in switches)]
    environment = {**os.environ, "CFLAGS": " ".join(flags).strip()}
    result = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace", "--build-temp", "build/broken"],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
