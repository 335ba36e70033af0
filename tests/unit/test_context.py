"""The contexts: one start method for multiprocessing and fastipc, our queues everywhere."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import pickle
import subprocess
import sys
import textwrap
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import fastipc
from tests.support import ROOT, START_METHODS


def run(program: str, tmp_path: Path) -> str:
    """Run a program from a file, since spawned children import their main module."""
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(program))
    outcome = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (outcome.returncode, outcome.stderr) == (0, "")
    return outcome.stdout.strip()


@pytest.mark.parametrize("method", START_METHODS)
def test_a_context_is_a_subclass_instance_of_multiprocessings(method: str) -> None:
    ours = fastipc.get_context(method)
    standard = multiprocessing.get_context(method)
    assert isinstance(ours, type(standard))
    assert isinstance(ours, fastipc.context.BaseContext)
    assert ours.Process is standard.Process
    assert ours.get_start_method() == method
    assert ours.get_context() is ours
    assert fastipc.get_context(method) is ours


def test_from_any_context_one_gets_to_the_others() -> None:
    for first in START_METHODS:
        for second in START_METHODS:
            context = fastipc.get_context(first).get_context(second)
            assert context is fastipc.get_context(second)


@pytest.mark.parametrize("method", ["thread", "", "Fork", 3])
def test_a_start_method_that_does_not_exist_gives_multiprocessings_error(method: Any) -> None:
    with pytest.raises(ValueError) as expected:
        multiprocessing.get_context(method)
    for package in (fastipc, fastipc.get_context("fork")):
        with pytest.raises(ValueError) as caught:
            package.get_context(method)
        assert str(caught.value) == str(expected.value)


def test_a_concrete_context_does_not_set_the_start_method() -> None:
    with pytest.raises(ValueError, match="cannot set start method of concrete context"):
        fastipc.get_context("spawn").set_start_method("fork")


def test_the_start_method_is_one_for_both_packages(tmp_path: Path) -> None:
    program = """
    import multiprocessing
    import fastipc

    print(fastipc.get_start_method(allow_none=True), end=" ")
    fastipc.set_start_method("spawn")
    print(multiprocessing.get_start_method(), fastipc.get_context().get_start_method(), end=" ")
    multiprocessing.set_start_method("forkserver", force=True)
    print(fastipc.get_start_method(), fastipc.get_context().get_start_method(), end=" ")
    try:
        fastipc.set_start_method("fork")
    except RuntimeError as error:
        print(error, end=" ")
    fastipc.set_start_method(None, force=True)
    print(multiprocessing.get_start_method(allow_none=True))
    """
    expected = "None spawn spawn forkserver forkserver context has already been set None"
    assert run(program, tmp_path) == expected


def test_the_start_methods_are_listed_as_multiprocessing_lists_them() -> None:
    assert fastipc.get_all_start_methods() == multiprocessing.get_all_start_methods()


@pytest.mark.parametrize("method", START_METHODS)
def test_a_child_has_its_parents_start_method_in_both_packages(method: str, tmp_path: Path) -> None:
    program = f"""
    import multiprocessing
    import fastipc

    def report(queue):
        queue.put((multiprocessing.get_start_method(), fastipc.get_start_method(),
                   type(fastipc.get_context()).__module__, fastipc.parent_process().pid))

    if __name__ == "__main__":
        fastipc.freeze_support()
        fastipc.set_start_method({method!r})
        queue = fastipc.Queue()
        child = fastipc.Process(target=report, args=(queue,))
        child.start()
        answer = queue.get(timeout=30)
        child.join()
        print(*answer[:3], answer[3] == fastipc.current_process().pid, child.exitcode)
    """
    assert run(program, tmp_path) == f"{method} {method} fastipc.context True 0"


@pytest.mark.parametrize("method", START_METHODS)
def test_every_factory_of_a_context_gives_our_objects(method: str) -> None:
    context = fastipc.get_context(method)
    ends = context.Pipe()
    made = {
        "Queue": context.Queue(3, max_bytes=1 << 20, label="made by a context"),
        "JoinableQueue": context.JoinableQueue(3, max_bytes=1 << 20, label="made by a context"),
        "SimpleQueue": context.SimpleQueue(label="made by a context"),
    }
    try:
        for name, queue in made.items():
            assert type(queue) is getattr(fastipc, name)
        assert all(isinstance(end, fastipc.connection.Connection) for end in ends)
    finally:
        for thing in (*made.values(), *ends):
            thing.close()


@pytest.mark.parametrize("method", [*START_METHODS, None])
def test_contexts_survive_pickling_as_the_same_object(method: str | None) -> None:
    context = fastipc.get_context(method) if method else fastipc.context._default_context
    assert pickle.loads(pickle.dumps(context)) is context


def square(number: int) -> int:
    return number * number


@pytest.mark.parametrize("method", START_METHODS)
def test_a_pool_runs_on_our_simple_queues(method: str) -> None:
    with fastipc.get_context(method).Pool(2) as pool:
        assert type(pool._inqueue) is fastipc.SimpleQueue
        assert type(pool._outqueue) is fastipc.SimpleQueue
        assert pool.map(square, range(20)) == [number * number for number in range(20)]
        pool.close()
        pool.join()


@pytest.mark.parametrize("method", START_METHODS)
def test_an_executor_runs_on_our_result_queue(method: str) -> None:
    with ProcessPoolExecutor(2, mp_context=fastipc.get_context(method)) as executor:
        assert list(executor.map(square, range(20))) == [number * number for number in range(20)]


@pytest.mark.parametrize("method", START_METHODS)
def test_a_manager_and_locks_work_as_in_multiprocessing(method: str) -> None:
    context = fastipc.get_context(method)
    with context.Manager() as manager, context.Lock():
        proxy = manager.dict(key=1)
        assert proxy["key"] == 1


def test_a_context_that_another_package_registered_is_returned_as_it_is() -> None:
    class Other(multiprocessing.context.SpawnContext):
        _name = "other"

    registered = multiprocessing.context._concrete_contexts  # type: ignore[attr-defined]
    other = registered["other"] = Other()
    try:
        assert fastipc.get_context("other") is other
    finally:
        del registered["other"]


def test_what_our_module_lacks_is_looked_up_in_multiprocessings() -> None:
    assert fastipc.context._force_start_method is multiprocessing.context._force_start_method
    with pytest.raises(AttributeError):
        fastipc.context.no_such_name  # noqa: B018
