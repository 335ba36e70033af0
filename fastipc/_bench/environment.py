"""Where numbers were taken: machine, kernel, versions and commit.

Nothing that names a person's machine or folders: results are kept in the repository.
"""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fastipc._bench import peers


def describe(peer_names: Iterable[str]) -> dict[str, Any]:
    """Return what a reader needs to judge the numbers, ready for JSON."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": platform.machine(),
        "cpu": _cpu_model(),
        "cpus_available": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_average": os.getloadavg()[0],
        "system": _system_name(),
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "peers": {name: peers.version(name) for name in peer_names},
        "commit": _commit(),
    }


def caption(described: dict[str, Any]) -> str:
    """Return a line that says where numbers come from."""
    text = (
        f"{described['python']}, kernel {described['kernel']}, {described['cpus_available']} CPUs "
        f"({described['cpu']}), load {described['load_average']:.1f}"
    )
    return text + (f", commit {described['commit'][:12]}" if described["commit"] else "")


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor()


def _system_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _commit() -> str | None:
    """Return the commit, with "+changes" if the tree is not as committed; None outside git.

    An installed package may lie in a folder of somebody else's repository.
    """
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()
