"""Compiles csrc/ and the programs beside this file, whole or as a mutant. Runs nothing."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tests.orders.proofs import INCLUDED
from tests.support import ROOT

CSRC = ROOT / "csrc"
HERE = Path(__file__).parent
WARNINGS = ("-Wall", "-Wextra", "-Wshadow", "-Werror")
FLAGS = ("-std=gnu11", "-g", *WARNINGS, f"-I{CSRC}", f"-I{ROOT / 'tests' / 'c'}", "-pthread")
TSAN = ("-O1", "-fno-omit-frame-pointer", "-fsanitize=thread")
NATIVE = ("-O2",)
MOST_SECONDS = 300


def bits(labels: Iterable[str]) -> str:
    """The labels as atomics.h wants them defined."""
    return "|".join(f"FIPC_ORDER_BIT({label})" for label in labels)


class Build:
    """Objects in a folder; each is made once."""

    def __init__(self, folder: Path, pool: ThreadPoolExecutor, compiler: str = "gcc") -> None:
        self.folder = folder
        self.pool = pool
        self.compiler = compiler
        self._objects: dict[tuple[str, tuple[str, ...]], Future[Path]] = {}
        self._lock = threading.Lock()
        self._count = 0

    def _call(self, *command: object) -> None:
        words = [self.compiler, *map(str, command)]
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=MOST_SECONDS, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(words)}:\n{done.stderr}")

    def _path(self, suffix: str) -> Path:
        with self._lock:
            self._count += 1
            return self.folder / f"{self._count}{suffix}"

    def _object(self, source: Path, flags: tuple[str, ...]) -> Future[Path]:
        def compile_it() -> Path:
            path = self._path(".o")
            self._call(*FLAGS, *flags, "-c", source, "-o", path)
            return path

        key = (str(source), flags)
        with self._lock:
            found = self._objects.get(key)
        if found is None:
            found = self.pool.submit(compile_it)
            with self._lock:
                self._objects[key] = found
        return found

    def program(
        self, name: str, kind: tuple[str, ...], sources: tuple[str, ...], define: str | None
    ) -> Path:
        """The program, it and these sources of csrc/ compiled with the definition."""
        changed = kind if define is None else (*kind, f"-D{define}")
        objects = [self._object(HERE / f"{name}.c", changed)]
        for source in sorted(CSRC.glob("*.c")):
            if source.name not in INCLUDED.get(name, ()):
                flags = changed if source.name in sources else kind
                objects.append(self._object(source, flags))
        path = self._path("")
        self._call(*FLAGS, *kind, *(made.result() for made in objects), "-o", path)
        return path
