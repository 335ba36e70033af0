"""The sdist is complete, what is built from it works: installed in an empty environment, from the
root of the source folder and from elsewhere.  Compiles the extension once, in a copy.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import ROOT

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        not (ROOT / "setup.py").exists(), reason="the tests run without the source tree around them"
    ),
]

EXTENSION = "_core" + sysconfig.get_config_var("EXT_SUFFIX")
# The settings of whoever runs the tests are not those of a user's first build.
ENVIRON = {
    key: value
    for key, value in os.environ.items()
    if not key.startswith("FASTIPC_") and key not in {"CFLAGS", "LDFLAGS", "PYTHONPATH"}
}

# Prints the folder and the compiler's flags that setup.py chooses under some settings.
SHOW_FOLDERS = """
import contextlib, io, runpy, sys
sys.argv = ["setup.py", "--name"]
with contextlib.redirect_stdout(io.StringIO()):
    values = runpy.run_path("setup.py")
print(values["build_folder"](), *values["compile_flags"]())
"""


def run(*command: object, cwd: Path, **environ: str) -> str:
    """Run a command to its end; its output, which is shown where it fails."""
    outcome = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**ENVIRON, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stdout
    return outcome.stdout


class Build(NamedTuple):
    """What a build leaves."""

    source: Path
    sdist: Path
    wheel: Path


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The sdist of this tree, unpacked, and a wheel built there as `pip install .` builds it."""
    folder = tmp_path_factory.mktemp("build")
    tree = folder / "tree"
    copy_tree(tree)
    backend = (sys.executable, "-m", "build", "--no-isolation", "--outdir", folder)
    run(*backend, "--sdist", tree, cwd=folder)
    (sdist,) = folder.glob("fastipc-*.tar.gz")
    run("tar", "-xzf", sdist, cwd=folder)
    source = folder / sdist.name.removesuffix(".tar.gz")
    run(*backend, "--wheel", source, cwd=folder)
    (wheel,) = folder.glob("fastipc-*.whl")
    return Build(source, sdist, wheel)


def copy_tree(target: Path) -> None:
    """Copy what git does not ignore, or, where there is no git, everything but build folders."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        names = [os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]
    else:
        names = [
            str(path.relative_to(ROOT))
            for path in ROOT.rglob("*")
            if not {"build", ".venv", "__pycache__"} & set(path.parts) and path.suffix != ".so"
        ]
    for name in names:
        source = ROOT / name
        if source.is_file():
            copy = target / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(source.read_bytes())
            copy.chmod(source.stat().st_mode)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small folder for the demo."""
    folder = tmp_path_factory.mktemp("sample")
    for number in range(5):
        (folder / f"file{number}.bin").write_bytes(os.urandom(100 * number))
    return folder


@pytest.fixture(scope="module")
def empty_environment(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment that holds nothing but the wheel."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    site = run(
        *(python, "-c", "import sysconfig; print(sysconfig.get_path('platlib'))"), cwd=folder
    ).strip()
    # What an installer does with a wheel that has no scripts; it needs no pip on either side.
    with zipfile.ZipFile(build.wheel) as archive:
        archive.extractall(site)
    return python


def test_the_sdist_holds_the_sources_the_tests_and_the_documents(build: Build) -> None:
    with tarfile.open(build.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for path in ("setup.py", "README.md", "LICENSE", "fastipc/py.typed", "fastipc/_core.pyx"):
        assert path in names
    for folder, pattern in (("csrc", "*.[ch]"), ("csrc", "*.md"), ("fastipc", "*.p*")):
        sources = {str(path.relative_to(ROOT)) for path in (ROOT / folder).glob(pattern)}
        assert sources <= names
    assert "tests/packaging/test_build.py" in names
    assert not [name for name in names if name.endswith((".so", ".o", ".pyc"))]


def test_the_wheel_holds_the_package_and_nothing_else(build: Build) -> None:
    with zipfile.ZipFile(build.wheel) as archive:
        names = set(archive.namelist())
    assert {name.partition("/")[0] for name in names} == {
        "fastipc",
        build.wheel.name.split("-cp")[0] + ".dist-info",
    }
    assert f"fastipc/{EXTENSION}" in names
    assert "fastipc/py.typed" in names
    stubs = {str(path.relative_to(ROOT)) for path in (ROOT / "fastipc").rglob("*.pyi")}
    assert stubs <= names
    assert not [name for name in names if name.endswith((".c", ".pyx", ".pxi", ".pxd"))]


def test_the_wheel_needs_nothing_at_run_time(build: Build) -> None:
    with zipfile.ZipFile(build.wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:")]
    assert [line for line in required if "extra ==" not in line] == []


def test_the_build_leaves_the_extension_beside_its_source(build: Build) -> None:
    assert [path.name for path in (build.source / "fastipc").glob("*.so")] == [EXTENSION]


def test_the_demo_runs_in_an_empty_environment(
    empty_environment: Path, sample: Path, tmp_path: Path
) -> None:
    where = run(empty_environment, "-c", "import fastipc; print(fastipc.__file__)", cwd=tmp_path)
    assert where.startswith(str(empty_environment.parent.parent))
    run(empty_environment, "-m", "fastipc", "demo", sample, cwd=tmp_path)


def test_the_benchmarks_run_in_an_empty_environment(
    empty_environment: Path, tmp_path: Path
) -> None:
    quick = ("bench", "queue-int", "numpy-64KiB", "--seconds", "0.001", "--json", "kept.json")
    out = run(empty_environment, "-m", "fastipc", *quick, cwd=tmp_path)
    assert "absent, as they are not installed: faster-fifo" in out
    assert "fastipc absent: numpy cannot be imported" in out
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert kept["environment"]["commit"] is None
    assert kept["results"]["queue-int"]["fastipc"][0]["value"] > 0


def test_the_demo_runs_in_the_source_folder_after_the_build(
    empty_environment: Path, build: Build, sample: Path
) -> None:
    where = run(
        empty_environment, "-c", "import fastipc; print(fastipc.__file__)", cwd=build.source
    )
    assert where.startswith(str(build.source))
    run(empty_environment, "-m", "fastipc", "demo", sample, cwd=build.source)


@pytest.mark.parametrize("where", ["the root", "elsewhere"])
def test_the_demo_runs_in_the_environment_of_the_tests(
    where: str, sample: Path, tmp_path: Path
) -> None:
    """As it stands here: in the root the source folder is found, elsewhere what is installed."""
    cwd = ROOT if where == "the root" else tmp_path
    if where == "elsewhere":
        search = "import importlib.util as u, sys; sys.exit(u.find_spec('fastipc') is None)"
        found = subprocess.run([sys.executable, "-c", search], cwd=cwd, check=False).returncode == 0
        if not found:
            pytest.skip("fastipc is not installed in the environment that runs the tests")
    run(sys.executable, "-m", "fastipc", "demo", sample, cwd=cwd)


def test_each_combination_of_settings_builds_in_a_folder_of_its_own(build: Build) -> None:
    """So that objects that were compiled differently never meet."""
    command = (sys.executable, "-c", SHOW_FOLDERS)
    plain = run(*command, cwd=build.source).split()
    debug = run(*command, cwd=build.source, FASTIPC_DEBUG="1").split()
    sanitized = run(*command, cwd=build.source, FASTIPC_SANITIZE="undefined,address").split()
    flags = run(*command, cwd=build.source, CFLAGS="-O0").split()
    assert len({plain[0], debug[0], sanitized[0], flags[0]}) == 4
    assert "-fsanitize=address,undefined" in sanitized
    assert "-UNDEBUG" in debug
    assert "-DFIPC_DEBUG=1" in debug


def test_a_second_build_compiles_nothing_and_drops_modules_that_are_gone(build: Build) -> None:
    (library,) = (build.source / "build").rglob("lib.*")
    gone = library / "fastipc" / "module_of_yesterday.py"
    gone.write_text("")
    extension = library / "fastipc" / EXTENSION
    before = extension.stat().st_mtime_ns
    run(sys.executable, "setup.py", "build", cwd=build.source)
    assert not gone.exists()
    assert extension.stat().st_mtime_ns == before
