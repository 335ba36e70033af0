"""Makes the test classes of one start method, in the test process and in each of its children.

Children import this module by name, because the classes that `install_tests_in_module_dict`
makes say that they live here. It knows nothing of running or reporting.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import sys
import types
import unittest
from dataclasses import dataclass
from typing import Any

from tests.cpython import rewrite
from tests.cpython.protocol import METHOD_VARIABLE
from tests.cpython.selection import EXECUTOR, LEFT_OUT, MULTIPROCESSING, excluded_under


@dataclass(frozen=True)
class Test:
    """One test of CPython's: the class it is written in, and the class that runs it."""

    module: str
    base: str
    runner: type[unittest.TestCase]
    name: str

    @property
    def id(self) -> str:
        return f"{self.runner.__name__}.{self.name}"

    @property
    def key(self) -> str:
        """The name that does not depend on the start method, as `selection` writes it."""
        return f"{self.base}.{self.name}"

    def case(self) -> unittest.TestCase:
        return self.runner(self.name)


def method() -> str:
    """Return the start method that the environment names."""
    return os.environ[METHOD_VARIABLE]


def find_tests() -> list[Test]:
    """Return every test to be judged on this interpreter, the excluded ones included."""
    return _multiprocessing_tests() + _executor_tests()


def selected(tests: list[Test]) -> list[Test]:
    """Return the tests that are not excluded."""
    excluded = excluded_under(method())
    return [test for test in tests if test.key not in excluded]


def _multiprocessing_tests() -> list[Test]:
    prefix = "WithProcesses"
    tests = []
    for name, runner in sorted(globals().items()):
        if not _is_case(runner) or name.startswith(("WithThreads", "WithManager")):
            # Threads run on multiprocessing.dummy, managers on proxies: neither is fastipc's.
            continue
        base = "_" + name[len(prefix) :] if name.startswith(prefix) else name
        if base not in LEFT_OUT:
            tests += _tests_of(MULTIPROCESSING, base, runner)
    return tests


def _executor_tests() -> list[Test]:
    prefix = f"ProcessPool{method().capitalize()}"
    tests = []
    for module in _executor_modules():
        for name, runner in sorted(vars(module).items()):
            if not _is_case(runner) or runner.__module__ != module.__name__:
                continue
            if name.startswith(prefix) and getattr(runner, "ctx", None) == method():
                tests += _tests_of(EXECUTOR, name[len(prefix) :], runner)
            elif name == "FailingInitializerResourcesTest":
                # The one class that names the start method in the test instead.
                found = _tests_of(EXECUTOR, name, runner)
                tests += [test for test in found if test.name == f"test_{method()}"]
    return tests


def _executor_modules() -> list[types.ModuleType]:
    """Import the executor's tests: one module up to 3.11, a package of modules later."""
    if not _is_there(EXECUTOR):
        return []
    top = importlib.import_module(EXECUTOR)
    names = [info.name for info in pkgutil.iter_modules(getattr(top, "__path__", ()))]
    return [top] + [
        importlib.import_module(f"{EXECUTOR}.{name}") for name in names if name.startswith("test_")
    ]


def _is_there(module: str) -> bool:
    """Return whether this interpreter has a module of the test package; many have none."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _is_case(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, unittest.TestCase)


def _tests_of(module: str, base: str, runner: type[unittest.TestCase]) -> list[Test]:
    names = unittest.defaultTestLoader.getTestCaseNames(runner)
    return [Test(module, base, runner, name) for name in names]


def uses_target() -> bool:
    """Return whether this process's copy of the suite stands on the module under test."""
    loaded = sys.modules.get(MULTIPROCESSING)
    target = sys.modules[rewrite.target()]
    return loaded is None or loaded.multiprocessing is target


def exit_with_target() -> None:
    """Run in a child: exit 0 if the child, too, has the suite on the module under test."""
    sys.exit(0 if MULTIPROCESSING in sys.modules and uses_target() else 1)


def _install() -> None:
    rewrite.install()
    if not _is_there(MULTIPROCESSING):
        return
    source: Any = importlib.import_module(MULTIPROCESSING)
    # The forkserver imports this module before it forks, so that its children need not.
    source.PRELOAD = [__name__]
    source.install_tests_in_module_dict(globals(), method())


_install()
