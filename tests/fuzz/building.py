"""Builds the fuzzers, in build/fuzz/: with ASan, to count lines, and broken on purpose."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.targets import WRAPPED, Break, Target, core_sources, extension_sources
from tests.support import ROOT

FOLDER = ROOT / "build" / "fuzz"
CLANG = "clang-14"
LLVM = {"profdata": "llvm-profdata-14", "cov": "llvm-cov-14"}
FLAGS = ["-std=gnu11", "-g", "-O1", "-pthread", "-fno-omit-frame-pointer", "-Wall", "-Wextra",
         "-Wno-unused-parameter", "-Wno-missing-field-initializers", "-Wno-unused-function",
         "-Wno-cast-function-type", "-DFIPC_DEBUG=1", "-UNDEBUG", "-U_FORTIFY_SOURCE"]  # fmt: skip
ASAN = ["-fsanitize=address"]
LINES = ["-fprofile-instr-generate", "-fcoverage-mapping"]


@dataclass(frozen=True)
class Variant:
    """How a fuzzer is built."""

    name: str
    finds: bool  # with ASan and libFuzzer; else to count lines
    broken_by: str = ""


FINDS = Variant("finds", True)
COUNTS = Variant("counts", False)


def broken(check: Break) -> Variant:
    """The build that leaves a check out."""
    name = check.macro.removeprefix("FASTIPC_BREAK_").lower().replace("_", "-")
    return Variant(f"without-{name}", True, check.macro)


def _python_flags() -> tuple[list[str], list[str]]:
    """What to compile and link with to have this very Python inside of the program."""
    config = sysconfig.get_config_vars()
    compiling = [f"-I{sysconfig.get_path('include')}"]
    name = f"python{config['LDVERSION']}"
    if config["Py_ENABLE_SHARED"]:
        folder = config["LIBDIR"]
        linking = [f"-L{folder}", f"-l{name}", f"-Wl,-rpath,{folder}"]
    else:
        library = Path(config["LIBPL"]) / f"lib{name}.a"
        linking = [str(library), "-Wl,--export-dynamic"]
        linking += f"{config['LIBS']} {config['SYSLIBS']}".split()
    return compiling, linking


def _translated() -> Path:
    """The C that Cython makes of the extension, in the build folder; makes it if need be."""
    import Cython

    folder = f"build/cython-{Cython.__version__}"
    code = (
        "from Cython.Build import cythonize; from setuptools import Extension; "
        "cythonize([Extension('fastipc._core', ['fastipc/_core.pyx'])], "
        f"build_dir={folder!r}, language_level=3, quiet=True)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    return ROOT / folder / "fastipc" / "_core.c"


def _headers() -> bytes:
    names = sorted(
        path for folder in ("csrc", "fastipc", "tests/fuzz") for path in (ROOT / folder).glob("*.h")
    )
    return b"".join(path.read_bytes() for path in names)


def _uses(source: Path, macro: str) -> bool:
    """Whether a file, or a header of ours that it includes, does something else with a macro than
    to define it.
    """
    wanted, seen = [source], set()
    while wanted:
        path = wanted.pop()
        if path in seen or not path.exists():
            continue
        seen.add(path)
        for line in path.read_text().splitlines():
            if line.startswith('#include "'):
                name = line.split('"')[1]
                wanted += [ROOT / folder / name for folder in ("csrc", "fastipc")]
            elif macro in line and not line.startswith("#"):
                return True
    return False


class Builder:
    """Compiles what changed, and links."""

    def __init__(self, target: Target, variant: Variant) -> None:
        self.target = target
        self.variant = variant
        # With and without a break most objects are the same.
        kind = "finds" if variant.finds else variant.name
        self.folder = FOLDER / kind / ("python" if target.embeds_python else "core")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.headers = _headers()
        self.includes = [f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'fastipc'}", f"-I{ROOT / 'tests/fuzz'}"]
        self.linking: list[str] = [f"-Wl,--wrap=fipc_os_{name}" for name in WRAPPED]
        if target.embeds_python:
            compiling, self.linking = _python_flags()
            self.includes += compiling

    def _object(self, source: Path) -> str:
        is_ours = "cython-" not in str(source)
        text = source.read_bytes()
        command = [CLANG, *FLAGS, *self.includes]
        if self.variant.broken_by and _uses(source, self.variant.broken_by):
            command.append(f"-D{self.variant.broken_by}=1")
        if not self.variant.finds:
            command += LINES if is_ours else []
        else:
            command += ASAN
            # What reads /proc, or is the fuzzer's own, would only lead it astray.
            if source.parent.name != "fuzz" and not source.name.startswith("os_"):
                command += ["-fsanitize=fuzzer-no-link"]
        if not is_ours:
            command += ["-w"]
        state = repr(command).encode() + text + self.headers
        name = f"{source.stem}-{hashlib.sha256(state).hexdigest()[:16]}.o"
        if not (self.folder / name).exists():
            fresh = self.folder / f"{name}.{os.getpid()}.tmp"
            subprocess.run([*command, "-c", str(source), "-o", str(fresh)], check=True)
            fresh.replace(self.folder / name)
        return str(self.folder / name)

    def _link(self, name: str, sources: list[Path], flags: list[str]) -> Path:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(self._object, sources))
        program = self.folder / name
        subprocess.run(
            [CLANG, *flags, "-pthread", *objects, *self.linking, "-o", str(program)], check=True
        )
        return program

    def _sources(self) -> list[Path]:
        own = [ROOT / name for name in self.target.sources]
        if self.target.embeds_python:
            return [*core_sources(), *extension_sources(), _translated(), *own]
        return [*core_sources(), *own]

    def fuzzer(self) -> Path:
        """The program that looks for inputs, or the one that counts the lines of those found."""
        sources = self._sources()
        if self.variant.finds:
            ending = f"_{self.variant.name}" if self.variant.broken_by else ""
            name = f"fuzz_{self.target.name}{ending}"
            return self._link(name, sources, [*ASAN, "-fsanitize=fuzzer"])
        sources.append(ROOT / "tests/fuzz/replay.c")
        return self._link(f"replay_{self.target.name}", sources, LINES)

    def seeds(self) -> Path:
        """The program that writes the seeds of the fuzzers of csrc/."""
        own = [ROOT / name for name in self.target.sources[:-1]]
        return self._link("seeds", [*core_sources(), *own, ROOT / "tests/fuzz/seeds.c"], ASAN)
