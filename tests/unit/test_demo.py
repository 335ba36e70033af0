"""The demo: what it sends, what it reports, and that it ends, whatever happens to it.

The libraries' own behaviour is not tested here; the demo runs on either.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import multiprocessing
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastipc import __main__ as command, _demo_files, demo
from fastipc._demo_files import scan
from fastipc._demo_job import run_job
from fastipc._demo_workers import JobError
from tests import support

LIBRARIES = ("multiprocessing", "fastipc")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files of several sizes, under names that are awkward in several ways."""
    root = tmp_path / "folder"
    (root / "inner").mkdir(parents=True)
    (root / "empty").touch()
    (root / "text").write_text("one line\n")
    (root / "inner" / "large").write_bytes(os.urandom(300_000))
    (root / "inner" / "two\nlines").write_bytes(b"\0" * 4096)
    Path(os.fsdecode(os.fsencode(root) + b"/not-utf8-\xff")).write_bytes(b"\xff\xfe")
    return root


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has files travel in pieces from 64 KiB upwards."""
    monkeypatch.setattr(_demo_files, "PIECE_BYTES", 65536)


def options(folder: Path, *arguments: str) -> argparse.Namespace:
    return command.build_parser().parse_args(
        ["demo", str(folder), "--rounds", "1", "--workers", "2", *arguments]
    )


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("hashing", [True, False], ids=["hashing", "transport"])
@pytest.mark.usefixtures("small_pieces")
def test_every_file_comes_back_whole(
    library: str, start_method: str, hashing: bool, folder: Path
) -> None:
    contents = scan(str(folder))
    items = []
    result = run_job(
        importlib.import_module(library),
        contents.pieces,
        start_method=start_method,
        worker_count=2,
        hashing=hashing,
        hold_bytes=1 << 20,
        on_item=lambda: items.append(1),
    )
    size = 300_000 + 4096 + 9 + 2
    assert (contents.file_count, contents.byte_count) == (5, size)
    # Four of the files are one item each, and the large one is five.
    assert (result.item_count, result.byte_count, len(items)) == (9, size, 9)
    assert result.changed == []
    assert result.held_count == (0 if hashing else 9)
    assert result.seconds > 0
    assert result.cpu_seconds > 0


def test_a_worker_holds_no_more_than_it_may(folder: Path) -> None:
    contents = scan(str(folder))
    result = run_job(
        multiprocessing,
        contents.pieces,
        start_method="fork",
        worker_count=1,
        hashing=False,
        hold_bytes=100,
    )
    # In the order of the scan: empty, not-utf8, text; then those of the inner folder.
    assert result.held_count == 3
    assert result.byte_count == contents.byte_count


def test_what_is_no_regular_file_is_reported_and_not_opened(folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    (folder / "link").symlink_to("text")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "to-folder").symlink_to("inner")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        contents = scan(str(folder))
    skipped = {os.path.basename(path): reason for path, reason in contents.skipped}
    assert skipped == {
        "fifo": "named pipe",
        "link": "symbolic link",
        "dangling": "symbolic link",
        "to-folder": "symbolic link",
        "socket": "socket",
    }
    assert contents.file_count == 5


@pytest.fixture
def as_nobody() -> Iterator[None]:
    """Gives up root's right to read everything, where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that everybody reaches, with a file and a folder that only root can read."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        (root / "open").write_bytes(b"open")
        (root / "secret").write_bytes(b"secret")
        (root / "secret").chmod(0)
        (root / "closed").mkdir()
        (root / "closed").chmod(0)
        yield root
        (root / "closed").chmod(0o700)


def test_what_may_not_be_read_is_reported(public_folder: Path, as_nobody: None) -> None:
    contents = scan(str(public_folder))
    assert [Path(piece.path).name for piece in contents.pieces] == ["open"]
    assert sorted((Path(path).name, reason) for path, reason in contents.skipped) == [
        ("closed", "cannot be read: Permission denied"),
        ("secret", "cannot be read: Permission denied"),
    ]


@pytest.mark.parametrize("library", LIBRARIES)
def test_files_that_vanish_or_change_are_reported(library: str, folder: Path) -> None:
    contents = scan(str(folder))
    (folder / "text").unlink()
    (folder / "empty").write_text("no longer")
    (folder / "inner" / "two\nlines").write_bytes(b"\0" * 100)
    (folder / "inner" / "large").write_bytes(bytes(300_000))
    result = run_job(
        importlib.import_module(library),
        contents.pieces,
        start_method="fork",
        worker_count=2,
        hashing=True,
    )
    assert sorted((Path(path).name, reason) for path, reason in result.changed) == [
        ("large", "changed while the demo ran"),
        ("text", "cannot be read: No such file or directory"),
        ("two\nlines", "changed while the demo ran"),
    ]


def test_the_report_counts_what_agreed_and_names_what_did_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def scan_and_remove(*args: Any, **keywords: Any) -> Any:
        contents = scan(*args, **keywords)
        (folder / "text").unlink()
        return contents

    monkeypatch.setattr(demo, "scan", scan_and_remove)
    assert demo.run(options(folder)) == 0
    out = capsys.readouterr().out
    assert "digests agree: 4 of 5 files" in out
    assert "skipped: 1 (cannot be read: No such file or directory: 1)" in out
    assert f"{folder}/text: cannot be read" in out


class Damaging:
    """multiprocessing with queues in which one message of the demo goes wrong."""

    def __init__(self, damage: str) -> None:
        self._damage = damage
        self._context: Any = multiprocessing.get_context("fork")

    def get_context(self, method: str | None) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def Queue(self) -> Any:
        queue = self._context.Queue()
        genuine, damage, seen = queue.get, self._damage, []

        def get() -> tuple[int, bytes, bytes, str]:
            number, contents, digest, problem = genuine()
            seen.append(number)
            if damage == "repeats" and len(seen) == 2:
                number = seen[0]
            if damage == "flips a bit" and contents:
                contents = bytes([contents[0] ^ 1]) + contents[1:]
            if damage == "loses a byte":
                contents = contents[:-1]
            return number, contents, digest, problem

        queue.get = get
        return queue


@pytest.mark.parametrize(
    ("damage", "extra", "message"),
    [
        ("flips a bit", (), "do not agree"),
        ("loses a byte", (), "do not agree"),
        ("repeats", (), "came back twice"),
    ],
)
def test_damage_on_the_way_ends_with_status_1(
    damage: str,
    extra: tuple[str, ...],
    message: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    libraries = [("multiprocessing", multiprocessing), ("damaging", Damaging(damage))]
    assert demo.run(options(folder, "--workers", "1", *extra), libraries) == 1
    error = capsys.readouterr().err
    assert "with hashing, round 1 of 1: damaging" in error
    assert message in error


def test_a_byte_lost_in_pure_transport_is_noticed_too(folder: Path) -> None:
    with pytest.raises(JobError, match="the workers say that they sent"):
        run_job(
            Damaging("loses a byte"),
            scan(str(folder)).pieces,
            start_method="fork",
            worker_count=1,
            hashing=False,
        )


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_worker_that_is_killed_ends_the_job_and_not_in_a_hang(
    library: str, start_method: str, folder: Path
) -> None:
    killed = []

    def kill_one() -> None:
        if not killed:
            victim = multiprocessing.active_children()[0]
            killed.append(victim.name)
            victim.kill()

    # More than may be under way at once, so that the job cannot be over before the worker is.
    pieces = scan(str(folder)).pieces * 1000
    with pytest.raises(JobError, match=r"demo worker \d \(pid \d+\) was killed by SIGKILL"):
        run_job(
            importlib.import_module(library),
            pieces,
            start_method=start_method,
            worker_count=2,
            hashing=True,
            on_item=kill_one,
        )
    assert killed
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "cannot list"),
        (lambda path: path.write_text("a file"), "cannot list"),
        (lambda path: path.mkdir(), "no regular file can be read under"),
    ],
    ids=["missing", "a file", "empty"],
)
def test_a_folder_that_gives_nothing_ends_with_status_2(
    make: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "folder")
    assert demo.run(options(tmp_path / "folder")) == 2
    error = capsys.readouterr().err
    assert message in error
    assert str(tmp_path / "folder") in error


@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_a_bad_number_is_a_usage_error(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["demo", "--rounds", number])
    assert ended.value.code == 2
    assert "--rounds" in capsys.readouterr().err


def test_the_default_folder_is_the_standard_library_without_installed_packages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "package.py").touch()
    (tmp_path / "module.py").write_text("import this\n")
    monkeypatch.setattr(demo.sysconfig, "get_path", {"stdlib": str(tmp_path)}.get)
    assert command.main(["demo", "--rounds", "1", "--workers", "1"]) == 0
    output = capsys.readouterr()
    assert f"1 files, 0.0 MB under {tmp_path}" in output.err
    assert f"{tmp_path}/site-packages: installed packages" in output.out


@pytest.mark.parametrize("place", ["the root of the sources", "elsewhere"])
def test_the_demo_runs_from(place: str, folder: Path, tmp_path: Path) -> None:
    """Elsewhere, Python finds the package that was installed."""
    done = subprocess.run(
        [sys.executable, "-m", "fastipc", "demo", folder, "--rounds", "2"],
        cwd=support.ROOT if place == "the root of the sources" else tmp_path,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=support.PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    assert "digests agree: 5 of 5 files, in every round" in done.stdout
    assert "skipped: nothing" in done.stdout
    # Plain lines, as there is no terminal: that of the scan, and one a run, in alternating order.
    lines = done.stderr.splitlines()
    order = ["multiprocessing", "fastipc", "fastipc", "multiprocessing"] * 2
    assert [line.split(": ")[1] for line in lines[1:]] == order


class LongDemo:
    """A demo that goes on for ever, with workers at work when the with block begins.

    All its processes inherit the end of a pipe (the workers because they are forked), and only
    they have it; so the pipe ends when the last of them is gone.
    """

    def __init__(self, folder: Path) -> None:
        self._life, inherited = os.pipe()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "fastipc", "demo", folder),
                *("--rounds", "1000000", "--start-method", "fork"),
            ],
            cwd=support.ROOT,
            env=support.script_environment(),
            pass_fds=[inherited],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        os.close(inherited)

    def __enter__(self) -> LongDemo:
        assert self.process.stderr is not None
        for _ in range(4):  # the scan, and some runs
            assert self.process.stderr.readline()
        return self

    def all_are_gone(self) -> bool:
        """Wait until no process of the demo is left; False if one stays."""
        poll = select.poll()
        poll.register(self._life, select.POLLHUP)
        return bool(poll.poll(support.PATIENCE_S * 1000))

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stderr.close()
        os.close(self._life)


def test_ctrl_c_ends_the_demo_and_its_workers(folder: Path) -> None:
    with LongDemo(folder) as long_demo:
        # As a terminal does it: to all of its processes.
        os.killpg(long_demo.process.pid, signal.SIGINT)
        _, err = long_demo.process.communicate(timeout=support.PATIENCE_S)
        assert long_demo.process.returncode == 130, err
        assert err.splitlines()[-1] == "interrupted"
        assert "Traceback" not in err
        assert long_demo.all_are_gone()


def test_workers_leave_when_the_demo_is_killed(folder: Path) -> None:
    with LongDemo(folder) as long_demo:
        long_demo.process.kill()
        assert long_demo.all_are_gone()


@pytest.mark.parametrize("plain", [False, True], ids=["bar", "plain"])
def test_a_terminal_gets_a_bar_unless_it_is_not_wanted(folder: Path, plain: bool) -> None:
    master, slave = pty.openpty()
    written = b""
    with os.fdopen(master, "rb", buffering=0) as terminal:
        with subprocess.Popen(
            [
                *(sys.executable, "-m", "fastipc", "demo", folder, "--rounds", "1"),
                *(["--plain"] if plain else []),
            ],
            cwd=support.ROOT,
            env={**support.script_environment(), "TERM": "xterm", "COLUMNS": "80"},
            stdout=subprocess.DEVNULL,
            stderr=slave,
        ) as process:
            os.close(slave)
            with contextlib.suppress(OSError):  # EIO: nobody has the other side any more
                while data := terminal.read(4096):
                    written += data
            assert process.wait(support.PATIENCE_S) == 0
    # Without rich, a terminal gets plain lines too.
    has_bar = not plain and importlib.util.find_spec("rich") is not None
    assert (b"\x1b[" in written) == has_bar
    assert b"pure transport, round 1 of 1: fastipc: " in written


def test_help_names_the_demo_and_its_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, text in ((["--help"], "demo"), (["demo", "--help"], "exit status")):
        with pytest.raises(SystemExit) as ended:
            command.main(arguments)
        assert ended.value.code == 0
        assert text in capsys.readouterr().out


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main([])
    assert ended.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


def test_a_reader_who_leaves_early_is_no_traceback(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "fastipc", "demo", folder, "--rounds", "1"],
        cwd=support.ROOT,
        env=support.script_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(support.PATIENCE_S) == 1
    assert "Traceback" not in err
    assert "Exception" not in err
