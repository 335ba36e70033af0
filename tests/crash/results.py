"""Keeps the results of the crash tool in a file, so that a long run can be broken off and gone on
with. Knows what a row is called, not what it means.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .harness import Tally

NAME = "crash"


def row_of(tally: Tally) -> dict[str, Any]:
    """Returns a tally under plain words."""
    return {
        "operation": tally.name,
        "part": tally.part or "sample",
        "instructions inside": tally.total,
        "instructions of libc": tally.libc,
        "of both left out here": tally.left_out,
        "points": tally.points,
        "kills": tally.kills,
        "of them right behind a system call": tally.behind_system_calls,
        "of them asleep": tally.asleep,
        "state before": tally.before,
        "state after": tally.after,
        "loss counted": tally.lost,
        "never met again": tally.missed,
        "failures": len(tally.failures),
        "seconds": round(tally.seconds, 1),
    }


class Results:
    """The rows of one run, or of several runs of the same build that make one."""

    def __init__(self, path: Path | None, build: str, command: str, *, resume: bool) -> None:
        self.path = path
        self.content: dict[str, Any] = {
            "name": NAME,
            "command": command,
            "build": build,
            "seconds": 0.0,
            "rows": [],
            "failures": [],
        }
        if resume and path is not None and path.exists():
            found = json.loads(path.read_text())
            if found.get("build") == build:
                self.content = found

    def has(self, name: str, part: str) -> bool:
        """Whether that part of the operation was done, and showed no failure."""
        return any(
            row["operation"] == name and row["part"] == part and not row["failures"]
            for row in self.content["rows"]
        )

    def add(self, tally: Tally) -> None:
        """Adds a row, in the place of an older one, and writes the file."""
        row = row_of(tally)
        key = (row["operation"], row["part"])
        prefix = f"{row['operation']} ({row['part']}): "
        self.content["rows"] = [
            old for old in self.content["rows"] if (old["operation"], old["part"]) != key
        ] + [row]
        self.content["failures"] = [
            old for old in self.content["failures"] if not old.startswith(prefix)
        ] + [prefix + failure for failure in tally.failures]
        self.content["seconds"] = round(sum(row["seconds"] for row in self.content["rows"]), 1)
        self.write()

    def write(self) -> None:
        """Writes the whole file, which is never half written."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(self.content, indent=1) + "\n")
        os.replace(unfinished, self.path)


def fingerprint(paths: Iterable[str | Path]) -> str:
    """Returns what tells one build, with its operations, from another."""
    digest = hashlib.sha256()
    for path in sorted(map(str, paths)):
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()[:16]
