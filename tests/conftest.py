"""Fixtures that all test folders share: what is tested, the children of a test, the watchdog,
and the check that a test leaves nothing behind.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from tests import support
from tests.broken import BrokenBuilds

WATCHDOG_S = 60


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marks, and keeps the terminal's descriptor for the last watchdog."""
    for line in (
        "start_methods(*names): the start methods under which a test with ctx runs (default: all)",
        "multiprocessing_only(difference): multiprocessing's side of a deliberate difference",
        "fastipc_only(difference): fastipc's side of a deliberate difference",
        "long: takes much time or memory; only with --long",
        "watchdog(seconds): seconds after which a test is given up, instead of the default",
    ):
        config.addinivalue_line("markers", line)
    config._terminal_fd = os.dup(2)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --long."""
    parser.addoption("--long", action="store_true", help="also run the long tests, marked long")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test that asks for a start method under each of them."""
    if "start_method" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("start_methods")
        names = mark.args if mark else support.START_METHODS
        metafunc.parametrize("start_method", names, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the long tests unless asked, and gives each test its watchdog: a signal, which
    raises an exception after it has printed all stacks.
    """
    if not config.getoption("--long"):
        left_out = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        if not item.get_closest_marker("timeout"):
            mark = item.get_closest_marker("watchdog")
            seconds = mark.args[0] if mark else WATCHDOG_S
            item.add_marker(pytest.mark.timeout(seconds, method="signal"))


@pytest.fixture(autouse=True)
def watchdog(request: pytest.FixtureRequest) -> Iterator[None]:
    """The last resort against a call that no signal interrupts: print all stacks and exit."""
    mark = request.node.get_closest_marker("timeout")
    seconds = mark.args[0] if mark and mark.args else WATCHDOG_S
    faulthandler.dump_traceback_later(
        seconds + 30, exit=True, file=getattr(request.config, "_terminal_fd", sys.__stderr__)
    )
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="session", autouse=True)
def warm_processes() -> None:
    """Starts what multiprocessing starts once and keeps, before the first count of leaks.

    It also keeps children from running pytest's own script as their __main__, which would cost
    each of them the import of pytest.
    """
    import multiprocessing
    from multiprocessing import forkserver, resource_tracker

    main = sys.modules["__main__"]
    main.__spec__ = None
    main.__dict__.pop("__file__", None)
    fastipc = _fastipc()
    multiprocessing.set_forkserver_preload(["tests.support", *(["fastipc"] if fastipc else [])])
    resource_tracker.ensure_running()
    forkserver.ensure_running()
    if fastipc:
        queue = fastipc.Queue()
        queue.put(None)
        queue.get()
        queue.close()


@pytest.fixture(scope="session")
def broken_builds(tmp_path_factory: pytest.TempPathFactory) -> BrokenBuilds:
    """Builds of the extension that are broken on purpose."""
    return BrokenBuilds(tmp_path_factory.mktemp("broken"))


def _fastipc() -> ModuleType | None:
    """fastipc, if it is built; without it the tests of multiprocessing can still run."""
    try:
        module = importlib.import_module("fastipc")
        importlib.import_module("fastipc._core")
    except ImportError:
        return None
    return module if module.Queue.__module__.startswith("fastipc") else None


@pytest.fixture(autouse=True)
def no_leaks(warm_processes: None, request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves a child, a descriptor, a thread or shared memory behind."""
    before = support.resources()
    yield
    if getattr(request.node, "call_failed", False):
        return  # the traceback still holds everything
    request.node.funcargs.clear()  # pytest would keep what fixtures gave to the test
    leaked = support.leaks_since(before)
    assert not leaked, f"the test left behind: {sorted(map(str, leaked))}"


@pytest.fixture
def impl(request: pytest.FixtureRequest) -> ModuleType:
    """The module that is tested."""
    return importlib.import_module(getattr(request, "param", "fastipc"))


@pytest.fixture
def start_method(request: pytest.FixtureRequest) -> str:
    """How children are started."""
    return request.param


@pytest.fixture
def ctx(impl: ModuleType, start_method: str) -> Any:
    """The tested module's context with one start method."""
    return impl.get_context(start_method)


class Group:
    """Children that were started together; leaving the with block joins and checks them."""

    def __init__(self, processes: list[Any], exitcode: int) -> None:
        self.processes = processes
        self.exitcode = exitcode
        self.joined = False

    @property
    def process(self) -> Any:
        """The only child."""
        (process,) = self.processes
        return process

    @property
    def pid(self) -> int:
        """The pid of the only child."""
        return self.process.pid

    def join(self, timeout: float = support.PATIENCE_S) -> None:
        """Waits for the children's end and checks their exit codes."""
        self.joined = True
        for process in self.processes:
            process.join(timeout)
            assert process.exitcode is not None, f"{process} did not end within {timeout} s"
            assert process.exitcode == self.exitcode, f"{process} ended with {process.exitcode}"

    def kill(self) -> None:
        """Kills the children with SIGKILL."""
        self.exitcode = -9
        for process in self.processes:
            process.kill()
        self.join()

    def end(self) -> None:
        """Leaves no child alive, whatever happened."""
        for process in self.processes:
            if process.is_alive():
                process.kill()
            process.join()
            process.close()
        self.processes = []

    def __enter__(self) -> Group:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and not self.joined:
            self.join()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    """Lets fixtures see that the test itself failed: then nobody waits for its children."""
    report = yield
    if report.when == "call":
        item.call_failed = report.failed
    return report


@pytest.fixture
def children(ctx: Any, request: pytest.FixtureRequest) -> Iterator[Callable[..., Group]]:
    """Starts children: children(target, *args, count=1, exitcode=0, daemon=None).

    Whatever is not joined by a with block or by join() is joined at the test's end.
    """
    groups: list[Group] = []

    def start(
        target: Callable[..., Any],
        *args: Any,
        count: int = 1,
        exitcode: int = 0,
        daemon: bool | None = None,
    ) -> Group:
        group = Group([], exitcode)
        groups.append(group)
        for _ in range(count):
            process = ctx.Process(target=support.run_child, args=(target, args), daemon=daemon)
            process.start()
            group.processes.append(process)
        return group

    try:
        yield start
        if not getattr(request.node, "call_failed", True):
            for group in groups:
                if not group.joined:
                    group.join()
    finally:
        for group in groups:
            group.end()


@pytest.fixture
def run_program() -> Callable[..., str]:
    """Runs a program (text) in a fresh interpreter; returns what it printed.

    The program must end with exit code 0 and write nothing to standard error.
    """

    def run(text: str, *args: str, timeout: float = support.PATIENCE_S) -> str:
        code, out, err = support.run_script(textwrap.dedent(text), *args, timeout=timeout)
        assert (code, err) == (0, ""), f"exit code {code}\n{out}\n{err}"
        return out

    return run
