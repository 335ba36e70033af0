"""Contract "Queue": what is constructed, what it has and has not."""

from __future__ import annotations

import inspect
import queue as threads_queue
import sys

import pytest


@pytest.mark.parametrize("maxsize", [0, -1, -5])
def test_a_maxsize_of_zero_or_less_means_no_limit(impl, maxsize):
    queue = impl.Queue(maxsize)
    for number in range(1000):
        queue.put(number, block=False)
    assert not queue.full()
    assert [queue.get() for _ in range(1000)] == list(range(1000))


def test_maxsize_is_a_keyword_with_default_zero(impl):
    assert inspect.signature(impl.Queue).parameters["maxsize"].default == 0
    queue = impl.Queue(maxsize=1)
    queue.put("only")
    assert queue.full()
    queue.get()


def test_the_largest_maxsize_is_the_largest_semaphore_value(impl):
    assert impl.synchronize.SEM_VALUE_MAX == 2**31 - 1
    queue = impl.Queue(2**31 - 1)
    queue.put(1)
    assert not queue.full()
    queue.get()


def test_a_maxsize_of_two_to_the_31_is_an_overflow_error(impl):
    with pytest.raises(OverflowError):
        impl.Queue(2**31)


@pytest.mark.parametrize("maxsize", ["3", 1.5, None, [1]])
def test_a_maxsize_that_is_no_integer_is_a_type_error(impl, maxsize):
    with pytest.raises(TypeError):
        impl.Queue(maxsize)


def test_the_class_is_in_queues_and_takes_a_context(impl):
    queue = impl.queues.Queue(1, ctx=impl.get_context())
    assert type(queue) is impl.queues.Queue
    assert isinstance(impl.Queue(), impl.queues.Queue)
    with pytest.raises(TypeError):
        impl.queues.Queue(1, impl.get_context())


@pytest.mark.multiprocessing_only("queue-is-a-class")
def test_multiprocessings_own_queue_is_a_bound_method(impl):
    assert inspect.ismethod(impl.Queue)
    with pytest.raises(TypeError):
        impl.queues.Queue()


@pytest.mark.fastipc_only("queue-is-a-class")
@pytest.mark.parametrize("name", ["Queue", "JoinableQueue", "SimpleQueue"])
def test_fastipcs_queues_are_classes_that_need_no_context(impl, name):
    cls = getattr(impl, name)
    assert inspect.isclass(cls)
    assert getattr(impl.queues, name) is cls
    assert type(cls()) is cls


def test_a_queue_has_no_length_no_iteration_no_context_manager_and_is_true(impl):
    queue = impl.Queue()
    for name in ("maxsize", "__len__", "__iter__", "__enter__", "__exit__"):
        assert not hasattr(queue, name), name
    assert queue
    with pytest.raises(TypeError):
        len(queue)
    with pytest.raises(TypeError):
        iter(queue)


@pytest.mark.multiprocessing_only("generic")
def test_multiprocessings_queue_is_generic_from_3_12_on(impl):
    if sys.version_info >= (3, 12):
        assert impl.queues.Queue[int].__origin__ is impl.queues.Queue
    else:
        with pytest.raises(TypeError):
            impl.queues.Queue[int]


@pytest.mark.fastipc_only("generic")
@pytest.mark.parametrize("name", ["Queue", "JoinableQueue", "SimpleQueue"])
def test_fastipcs_queues_are_generic_on_every_version(impl, name):
    cls = getattr(impl, name)
    assert cls[int].__origin__ is cls
    assert cls[int].__args__ == (int,)


def test_a_queue_has_the_methods_of_queue_queue_but_task_done_and_join(impl):
    queue = impl.Queue()
    wanted = {name for name in dir(threads_queue.Queue) if not name.startswith("_")}
    wanted -= {"task_done", "join", "shutdown"}
    for name in wanted:
        assert callable(getattr(queue, name)), name
    for name in ("task_done", "join"):
        assert not hasattr(queue, name), name


@pytest.mark.multiprocessing_only("shutdown")
def test_multiprocessings_queue_cannot_be_shut_down(impl):
    assert not hasattr(impl.Queue(), "shutdown")


@pytest.mark.fastipc_only("shutdown")
def test_fastipcs_queue_can_be_shut_down_on_every_version(impl):
    queue = impl.Queue()
    queue.put("last")
    queue.shutdown()
    assert queue.get() == "last"
    with pytest.raises(impl.ShutDown):
        queue.get()
    assert impl.ShutDown is getattr(threads_queue, "ShutDown", impl.ShutDown)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("put", {"obj": inspect.Parameter.empty, "block": True, "timeout": None}),
        ("get", {"block": True, "timeout": None}),
        ("put_nowait", {"obj": inspect.Parameter.empty}),
        ("get_nowait", {}),
        ("qsize", {}),
        ("empty", {}),
        ("full", {}),
        ("close", {}),
        ("join_thread", {}),
        ("cancel_join_thread", {}),
    ],
)
def test_the_methods_take_multiprocessings_arguments_in_its_order(impl, name, parameters):
    signature = inspect.signature(getattr(impl.Queue(), name))
    found = {key: parameter.default for key, parameter in signature.parameters.items()}
    first = dict(list(found.items())[: len(parameters)])
    assert list(first.items()) == list(parameters.items())
    for extra in list(signature.parameters.values())[len(parameters) :]:
        assert extra.kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.multiprocessing_only("empty-and-full-exported")
def test_multiprocessing_does_not_export_empty_and_full(impl):
    assert not hasattr(impl, "Empty")
    assert not hasattr(impl, "Full")


@pytest.mark.fastipc_only("empty-and-full-exported")
def test_fastipc_exports_the_exceptions_of_module_queue(impl):
    assert impl.Empty is threads_queue.Empty
    assert impl.Full is threads_queue.Full


WITHOUT_SEM_OPEN = """
    import _multiprocessing, importlib, sys
    del _multiprocessing.SemLock
    mp = importlib.import_module(sys.argv[1])
    try:
        queue = mp.Queue()
        queue.put("works")
        print(queue.get())
    except ImportError as error:
        print("ImportError")
"""


@pytest.mark.multiprocessing_only("no-semaphores")
def test_multiprocessings_queue_is_an_import_error_without_sem_open(impl, run_program):
    assert run_program(WITHOUT_SEM_OPEN, impl.__name__) == "ImportError\n"


@pytest.mark.fastipc_only("no-semaphores")
def test_fastipcs_queue_works_without_sem_open(impl, run_program):
    assert run_program(WITHOUT_SEM_OPEN, impl.__name__) == "works\n"
