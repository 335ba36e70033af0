"""The five programs that everyone writes first, as files in programs/, with only the import
changed: they print the same on both implementations, under each start method.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conformance import targets
from tests.support import (
    GLANCE_S,
    PATIENCE_S,
    ROOT,
    START_METHODS,
    Background,
    Flag,
    script_environment,
    until,
    until_asleep,
)

PROGRAMS = Path(__file__).parent / "programs"


class Program(NamedTuple):
    """What a program prints; pids are replaced, and lines of different processes may mix."""

    name: str
    prints: list[str]
    runs_for_ever: bool = False
    start_methods: tuple[str, ...] = START_METHODS


THREE_ITEMS = [f"item: {word} pid: PID" for word in ("one", "two", "three")]
EXPECTED = [
    Program("full_queue", ["put one", "put two", "put three", "full: True"], runs_for_ever=True),
    Program(
        "three_readers",
        [
            "the parent's statements are done",
            "ValueError: the queue is closed",
            *THREE_ITEMS,
            *["exit code: 0"] * 3,
        ],
    ),
    Program(
        "three_readers_of_a_global",
        ["the parent's statements are done", *THREE_ITEMS],
        start_methods=("fork",),
    ),
    Program(
        "joinable_queue",
        ["everything is put", "got first", "got second", "got third", "the consumer leaves"],
        runs_for_ever=True,
    ),
    Program(
        "consumer_and_producer",
        [*[f"received {number}" for number in range(5)], "the end", "exit code: 0"],
    ),
    Program("request_and_response", ["9", "smørrebrød", "no more requests", "exit code: 0"]),
]

# Only chooses the start method, which both implementations share; the program is unchanged.
RUN = """
import multiprocessing, runpy, sys
multiprocessing.set_start_method(sys.argv[1])
runpy.run_path(sys.argv[2], run_name="__main__")
"""


# In every interpreter that a run starts. Unbuffered, print() writes a line and its end in two
# calls, and a line of another process may come between them.
WHOLE_LINES = "import sys\nsys.stdout.reconfigure(line_buffering=True)\n"


def text_of(program, implementation):
    """The program with only the import changed."""
    text = (PROGRAMS / f"{program}.py").read_text("utf-8")
    plain = re.compile(r"^import multiprocessing$", re.MULTILINE)
    named = re.compile(r"^from multiprocessing import", re.MULTILINE)
    changed, count = plain.subn(f"import {implementation} as multiprocessing", text)
    changed, count_named = named.subn(f"from {implementation} import", changed)
    assert count + count_named == 1, f"{program} should import multiprocessing exactly once"
    return changed


class Run:
    """One program on one implementation under one start method; starts at once."""

    def __init__(self, folder, program, implementation, start_method):
        script = folder / f"{program.name}_{implementation}_{start_method}.py"
        script.write_text(text_of(program.name, implementation), "utf-8")
        self.output = script.with_suffix(".out")
        environment = script_environment()
        path = f"{folder}{os.pathsep}{environment['PYTHONPATH']}"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", RUN, start_method, str(script)],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={
                    **environment,
                    "PYTHONPATH": path,
                    "PYTHONUNBUFFERED": "",
                    "PYTHONIOENCODING": "utf-8",
                },
            )

    def printed(self):
        """The lines so far, with pids replaced."""
        return re.sub(r"\bpid: \d+", "pid: PID", self.output.read_text("utf-8")).splitlines()

    @property
    def ended(self):
        """Whether the program has exited."""
        return self.process.poll() is not None

    def end(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module", params=EXPECTED, ids=lambda program: program.name)
def runs(request, tmp_path_factory):
    """One program, started on everything at once, because the programs mostly sleep."""
    folder = tmp_path_factory.mktemp(request.param.name)
    (folder / "sitecustomize.py").write_text(WHOLE_LINES, "utf-8")
    started = {
        (implementation, method): Run(folder, request.param, implementation, method)
        for implementation in ("multiprocessing", "fastipc")
        for method in request.param.start_methods
    }
    yield request.param, started
    for run in started.values():
        run.end()


@pytest.mark.parametrize("implementation", ["multiprocessing", "fastipc"])
def test_the_programs_print_the_same_with_only_the_import_changed(runs, implementation):
    program, started = runs
    for method in program.start_methods:
        run = started[implementation, method]
        if program.runs_for_ever:
            until(lambda run=run: len(run.printed()) >= len(program.prints) or run.ended)
            until_asleep(run.process.pid)
            with pytest.raises(subprocess.TimeoutExpired):
                run.process.wait(GLANCE_S)
        else:
            assert run.process.wait(PATIENCE_S) == 0, run.printed()
        assert sorted(run.printed()) == sorted(program.prints), method


def test_the_full_queues_put_goes_on_after_a_get_elsewhere(ctx, children):
    queue = ctx.Queue(3)
    for word in ("one", "two", "three"):
        queue.put(word)
    before, after = Flag(), Flag()
    with children(targets.put_announced, queue, before, after, "four") as child:
        assert before.wait()
        until_asleep(child.pid)
        assert not after.wait(GLANCE_S)
        with children(targets.get_exactly, queue, ["one"]):
            assert after.wait()
    assert [queue.get() for _ in range(3)] == ["two", "three", "four"]


def test_the_joinable_queues_join_goes_on_after_the_rest_was_taken(ctx, children):
    queue = ctx.JoinableQueue()
    with children(targets.consume_until_none, queue):
        for message in ("first", "second", "third", None, "fourth", "fifth"):
            queue.put(message)
    join = Background(queue.join)
    join.until_blocked()
    assert [queue.get(), queue.get()] == ["fourth", "fifth"]
    queue.task_done()
    queue.task_done()
    join.until_blocked()  # the sentinel counts, too
    queue.task_done()
    join.result()
    with pytest.raises(ValueError, match="task_done"):
        queue.task_done()
