"""Finds the Pythons of this machine and gives each of them a fastipc to import.

It runs no test; a caller without a list gets the running interpreter alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MINORS = (10, 11, 12, 13)

_DESCRIBE = """
import importlib.util, json, os, platform, sys, sysconfig
try:
    suite = importlib.util.find_spec("test._test_multiprocessing") is not None
except ModuleNotFoundError:
    suite = False
print(json.dumps({
    "path": sys.executable,
    "base": os.path.realpath(sys.executable),
    "version": platform.python_version(),
    "has_suite": suite,
    "packages": sysconfig.get_path("platlib"),
    "suffix": sysconfig.get_config_var("EXT_SUFFIX"),
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """One Python: its executable, the file behind it, and what it brings along."""

    path: str
    base: str
    version: str
    has_suite: bool
    packages: str
    suffix: str


def describe(path: str) -> Interpreter | None:
    """Return what an executable is, or None where it is no working Python."""
    try:
        done = subprocess.run(
            [path, "-c", _DESCRIBE], capture_output=True, text=True, timeout=60, check=True
        )
        return Interpreter(**json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def running() -> Interpreter:
    """Return the interpreter that runs this."""
    found = describe(sys.executable)
    if found is None:
        raise RuntimeError(f"{sys.executable} cannot say what it is")
    return found


def find_all() -> list[Interpreter]:
    """Return the running interpreter and each other Python 3.10 to 3.13, no version twice.

    They are looked for on PATH and in pyenv's folder. Of several with the same version one that
    has CPython's tests is preferred.
    """
    candidates = [sys.executable]
    candidates += [found for minor in MINORS if (found := shutil.which(f"python3.{minor}"))]
    versions = _pyenv_root() / "versions"
    candidates += [str(p) for m in MINORS for p in versions.glob(f"*/bin/python3.{m}")]
    chosen: dict[str, Interpreter] = {}
    for one in filter(None, map(describe, dict.fromkeys(candidates))):
        if one.version not in chosen or one.has_suite > chosen[one.version].has_suite:
            chosen[one.version] = one
    supported = [one for one in chosen.values() if _minor(one) in MINORS]
    return sorted(supported, key=lambda one: [int(part) for part in one.version.split(".")])


def packages_with_fastipc(interpreter: Interpreter) -> str | None:
    """Return the folder to import an interpreter's built fastipc from; None: the checkout's."""
    if (ROOT / "fastipc" / f"_core{interpreter.suffix}").exists():
        return None
    return interpreter.packages


def install_fastipc(interpreter: Interpreter, folder: Path) -> Interpreter:
    """Install the checkout in a new virtual environment of an interpreter and return that."""
    home = folder / f"python-{interpreter.version}"
    subprocess.run([interpreter.path, "-m", "venv", str(home)], check=True)
    python = str(home / "bin" / "python")
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(ROOT)]
    subprocess.run(command, check=True)
    found = describe(python)
    if found is None:
        raise RuntimeError(f"{python} does not run")
    return found


def _minor(interpreter: Interpreter) -> int:
    major, minor = interpreter.version.split(".")[:2]
    return int(minor) if major == "3" else -1


def _pyenv_root() -> Path:
    if root := os.environ.get("PYENV_ROOT"):
        return Path(root)
    if pyenv := shutil.which("pyenv"):
        done = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.strip():
            return Path(done.stdout.strip())
    return Path.home() / ".pyenv"
