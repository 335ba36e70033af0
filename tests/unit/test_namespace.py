"""The namespace: whatever multiprocessing exports is in fastipc, lazily, and its submodules too."""

from __future__ import annotations

import importlib
import multiprocessing
import pickle
import pkgutil
import queue
import subprocess
import sys
import types

import pytest

import fastipc
from tests.support import ROOT

OURS = {"connection", "context", "queues"}
STANDARD = sorted(
    module.name
    for module in pkgutil.walk_packages(multiprocessing.__path__, "")
    if not module.name.endswith("_win32")
)
REPLACED = {"JoinableQueue", "Pipe", "Queue", "SimpleQueue"}
# What multiprocessing does not have.
ADDED = {"Empty", "Full", "ShutDown", "get_view_bytes", "get_view_limit", "set_view_limit"}


def run(program: str) -> str:
    outcome = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (outcome.returncode, outcome.stderr) == (0, "")
    return outcome.stdout.strip()


def test_all_that_multiprocessing_exports_is_exported() -> None:
    assert set(fastipc.__all__) == {*multiprocessing.__all__} | ADDED
    for name in [*multiprocessing.__all__, "SUBDEBUG", "SUBWARNING"]:
        assert hasattr(fastipc, name), name


def test_a_star_import_brings_every_name() -> None:
    namespace: dict[str, object] = {}
    exec("from fastipc import *", namespace)
    assert set(fastipc.__all__) <= set(namespace)


@pytest.mark.parametrize("name", ["Process", "TimeoutError", "BufferTooShort", "ProcessError"])
def test_what_is_not_replaced_is_the_same_object(name: str) -> None:
    assert getattr(fastipc, name) is getattr(multiprocessing, name)


def test_empty_and_full_are_those_of_the_module_queue() -> None:
    assert fastipc.Empty is queue.Empty
    assert fastipc.Full is queue.Full


def test_the_queues_are_classes_and_pipe_is_a_function() -> None:
    for name in ("Queue", "JoinableQueue", "SimpleQueue"):
        assert isinstance(getattr(fastipc, name), type)
        assert getattr(fastipc, name) is getattr(fastipc.queues, name)
    assert fastipc.Pipe is fastipc.connection.Pipe


def test_the_queue_classes_can_be_subscripted_and_subclassed() -> None:
    class Jobs(fastipc.Queue):  # type: ignore[type-arg]
        pass

    jobs = Jobs(3)
    try:
        assert isinstance(jobs, fastipc.Queue)
        jobs.put(1)
        assert jobs.get() == 1
    finally:
        jobs.close()
    assert isinstance(fastipc.Queue[int], types.GenericAlias) or fastipc.Queue[int] is not None


@pytest.mark.parametrize("name", STANDARD)
def test_every_submodule_can_be_imported(name: str) -> None:
    module = importlib.import_module(f"fastipc.{name}")
    assert isinstance(module, types.ModuleType)
    if name in OURS:
        assert module.__name__ == f"fastipc.{name}"
    else:
        assert module is importlib.import_module(f"multiprocessing.{name}")
        assert module.__name__ == f"multiprocessing.{name}"
        assert module.__spec__ is not None
        assert module.__spec__.name == f"multiprocessing.{name}"


@pytest.mark.parametrize("name", STANDARD)
def test_every_submodule_is_an_attribute_without_an_import(name: str) -> None:
    assert run(f"import fastipc\nprint(type(fastipc.{name}).__name__)") == "module"


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_modules_have_the_public_names_of_those_that_they_replace(name: str) -> None:
    standard = importlib.import_module(f"multiprocessing.{name}")
    ours = importlib.import_module(f"fastipc.{name}")
    public = getattr(standard, "__all__", None) or [
        key
        for key, value in vars(standard).items()
        if getattr(value, "__module__", None) == standard.__name__ and key[0] != "_"
    ]
    missing = [key for key in public if not hasattr(ours, key)]
    assert not missing


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    for name in ("no_such_name", "_no_such_name", "__wrapped__"):
        with pytest.raises(AttributeError, match=name):
            getattr(fastipc, name)
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module("fastipc.no_such_module")
    assert caught.value.name == "fastipc.no_such_module"


def test_dir_lists_names_and_submodules() -> None:
    listed = dir(fastipc)
    assert {"Queue", "Process", "pool", "managers", "connection"} <= set(listed)
    assert "popen_spawn_win32" not in listed


def test_importing_loads_neither_the_extension_nor_what_multiprocessing_loads_late() -> None:
    program = """
import sys, multiprocessing
before = set(sys.modules)
import fastipc
cheap = ("__future__", "fastipc", "importlib", "warnings")
late = [name for name in set(sys.modules) - before if not name.startswith(cheap)]
print(late, "fastipc._core" in sys.modules, "multiprocessing.pool" in sys.modules)
"""
    assert run(program) == "[] False False"


def test_a_package_of_modules_is_not_executed_twice() -> None:
    program = """
import fastipc.dummy.connection as ours
import multiprocessing.dummy.connection as standard
print(ours is standard)
"""
    assert run(program) == "True"


def test_objects_of_aliased_modules_are_pickled_by_their_own_name() -> None:
    function = fastipc.pool.mapstar
    assert pickle.loads(pickle.dumps(function)) is multiprocessing.pool.mapstar
