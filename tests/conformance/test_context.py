"""Contract "Context-level": start methods, contexts, exceptions, the manager's queue."""

from __future__ import annotations

import queue as threads_queue

import pytest

from tests.conformance import targets
from tests.support import PATIENCE_S


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_get_context_gives_the_context_of_a_start_method(impl, method):
    ctx = impl.get_context(method)
    assert ctx.get_start_method() == method
    assert ctx is impl.get_context(method)
    assert ctx.get_context() is ctx


def test_get_context_of_a_bad_name_is_a_value_error(impl):
    with pytest.raises(ValueError, match="cannot find context for 'nonsense'"):
        impl.get_context("nonsense")
    with pytest.raises(ValueError, match="cannot find context for 'nonsense'"):
        impl.set_start_method("nonsense", force=True)


def test_all_three_start_methods_are_named_with_the_default_first(impl):
    assert impl.get_all_start_methods() == ["fork", "spawn", "forkserver"]


DEFAULT = """
import importlib, sys
mp = importlib.import_module(sys.argv[1])
print(mp.get_start_method(allow_none=True), mp.get_context().get_start_method())
print(mp.get_start_method())
"""


def test_the_default_start_method_is_fork_through_3_13(impl, run_program):
    assert run_program(DEFAULT, impl.__name__) == "None fork\nfork\n"


TWICE = """
import importlib, sys
mp = importlib.import_module(sys.argv[1])
mp.set_start_method("spawn")
print(mp.get_start_method(), mp.get_context().get_start_method())
try:
    mp.set_start_method("fork")
except RuntimeError as error:
    print("RuntimeError:", error)
mp.set_start_method("forkserver", force=True)
print(mp.get_start_method())
try:
    mp.get_context("fork").set_start_method("spawn")
except ValueError as error:
    print("ValueError:", error)
"""


def test_set_start_method_twice_is_a_runtime_error_unless_forced(impl, run_program):
    assert run_program(TWICE, impl.__name__).splitlines() == [
        "spawn spawn",
        "RuntimeError: context has already been set",
        "forkserver",
        "ValueError: cannot set start method of concrete context",
    ]


def test_the_exceptions_derive_from_process_error(impl, ctx_fork):
    for holder in (impl, ctx_fork):
        assert issubclass(holder.ProcessError, Exception)
        for name in ("BufferTooShort", "AuthenticationError", "TimeoutError"):
            assert issubclass(getattr(holder, name), holder.ProcessError)
    assert impl.TimeoutError is not TimeoutError


@pytest.fixture
def ctx_fork(impl):
    """The fork context."""
    return impl.get_context("fork")


def test_the_queue_of_a_manager_is_a_proxy_of_queue_queue(ctx, children):
    with ctx.Manager() as manager:
        queue = manager.Queue(3)
        assert type(queue).__name__ == "AutoProxy[Queue]"
        with children(targets.put_range, queue, 3):
            pass
        assert queue.full()
        with pytest.raises(threads_queue.Full):
            queue.put(3, block=False)
        assert [queue.get(timeout=PATIENCE_S) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(threads_queue.Empty):
            queue.get_nowait()
        for _ in range(3):
            queue.task_done()
        queue.join()


def test_the_contexts_methods_make_what_the_modules_functions_make(impl, ctx):
    for name in ("Queue", "JoinableQueue", "SimpleQueue"):
        queue = getattr(ctx, name)()
        assert type(queue) is getattr(impl.queues, name)
        queue.close()
    reader, writer = ctx.Pipe(duplex=False)
    assert type(reader) is impl.connection.Connection
    reader.close()
    writer.close()
    assert ctx.Queue(1).full() is False
    assert ctx.JoinableQueue(maxsize=2).full() is False
