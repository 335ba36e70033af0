"""The interface of fastipc's own objects: classes, isinstance, repr, label.

The namespace and the contexts have their tests in tests/unit.
"""

from __future__ import annotations

import inspect
import multiprocessing
import multiprocessing.connection
import multiprocessing.queues
import queue as threads_queue
import re

import pytest

import fastipc

KINDS = ("Queue", "JoinableQueue", "SimpleQueue")


@pytest.fixture
def pipe():
    """Both ends of a duplex pipe."""
    ends = fastipc.Pipe()
    yield ends
    for end in ends:
        end.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_queue_is_an_instance_of_multiprocessings_class(kind, method):
    for queue in (getattr(fastipc, kind)(), getattr(fastipc.get_context(method), kind)()):
        assert isinstance(queue, getattr(multiprocessing.queues, kind))
        assert isinstance(queue, getattr(fastipc, kind))
        assert isinstance(queue, multiprocessing.queues.Queue) is (kind != "SimpleQueue")
        queue.close()


def test_multiprocessings_queues_are_no_instances_of_fastipcs_classes():
    for kind in KINDS:
        queue = getattr(multiprocessing, kind)()
        assert not isinstance(queue, getattr(fastipc, kind))
        queue.close()


def test_a_connection_is_an_instance_of_multiprocessings_class(pipe):
    for end in pipe:
        assert isinstance(end, multiprocessing.connection.Connection)
        assert isinstance(end, fastipc.connection.Connection)
    with multiprocessing.Pipe()[0] as theirs:
        assert not isinstance(theirs, fastipc.connection.Connection)


@pytest.mark.parametrize("kind", KINDS)
def test_a_queue_can_be_subclassed_and_carries_attributes(kind):
    class Mine(getattr(fastipc, kind)):
        """A user's queue."""

        def __init__(self, note):
            super().__init__()
            self.note = note

        def put(self, obj):
            super().put((self.note, obj))

    queue = Mine("mine")
    queue.put(1)
    assert queue.get() == ("mine", 1)
    queue.close()


def test_the_joinable_queue_is_a_queue_and_the_simple_queue_is_none():
    assert issubclass(fastipc.JoinableQueue, fastipc.Queue)
    assert not issubclass(fastipc.SimpleQueue, fastipc.Queue)


def test_empty_and_full_are_raised_and_exported():
    queue = fastipc.Queue(1)
    with pytest.raises(fastipc.Empty):
        queue.get_nowait()
    queue.put(1)
    with pytest.raises(fastipc.Full):
        queue.put_nowait(2)
    assert fastipc.Empty is threads_queue.Empty
    assert fastipc.Full is threads_queue.Full
    queue.close()


@pytest.mark.parametrize("kind", KINDS)
def test_the_repr_of_a_queue_names_its_class_label_and_state(kind):
    queue = getattr(fastipc, kind)(label="work to do")
    text = repr(queue)
    assert re.match(rf"<(fastipc\.)?(\w+\.)*{kind}\b.*>$", text), text
    assert "work to do" in text
    queue.close()
    assert "closed" in repr(queue)
    assert "closed" not in text


def test_the_repr_of_a_bounded_queue_tells_how_full_it_is():
    queue = fastipc.Queue(3)
    queue.put("one")
    assert "items=1" in repr(queue)
    assert "maxsize=3" in repr(queue)
    queue.close()


def test_the_repr_of_a_connection_names_its_class_and_state(pipe):
    left, _ = pipe
    assert re.match(r"<(fastipc\.)?(\w+\.)*Connection\b.*>$", repr(left)), repr(left)
    left.close()
    assert "closed" in repr(left)


def test_a_label_is_a_keyword_of_everything_that_is_made():
    for maker in (fastipc, fastipc.get_context("spawn")):
        made = [getattr(maker, kind)(label="named by its user") for kind in KINDS]
        made += maker.Pipe(label="named by its user")
        for obj in made:
            assert "named by its user" in repr(obj), obj
            obj.close()


@pytest.mark.parametrize("wrong", [b"bytes", 5, ["list"]], ids=repr)
def test_a_label_that_is_no_string_is_a_type_error(wrong):
    for make in (fastipc.Queue, fastipc.JoinableQueue, fastipc.SimpleQueue, fastipc.Pipe):
        with pytest.raises(TypeError):
            make(label=wrong)


def test_a_label_with_a_null_character_is_a_value_error():
    for make in (fastipc.Queue, fastipc.JoinableQueue, fastipc.SimpleQueue, fastipc.Pipe):
        with pytest.raises(ValueError, match="null"):
            make(label="nul\0inside")


def test_our_own_arguments_are_keywords_only():
    with pytest.raises(TypeError):
        fastipc.Queue(1, None, 2**20)
    with pytest.raises(TypeError):
        fastipc.Pipe(True, "label")
    with pytest.raises(TypeError):
        fastipc.SimpleQueue("label")
    with pytest.raises(TypeError):
        fastipc.get_context("fork").Queue(1, 2**20)


@pytest.mark.parametrize("label", ["", "ä" * 10, "x" * 1000, "a/b\nc", "\ud800"], ids=ascii)
def test_any_string_without_a_null_character_is_a_label(label):
    queue = fastipc.Queue(label=label)
    queue.put(1)
    assert queue.get() == 1
    queue.close()


def the_hot_methods(impl):
    """Bound methods of a queue and a connection, whose owners are alive as long as these."""
    queue, end = impl.Queue(), impl.Pipe()[0]
    return [queue.put, queue.get, end.send, end.recv, end.send_bytes, end.recv_bytes_into]


@pytest.mark.multiprocessing_only("c-methods")
def test_multiprocessings_hot_methods_are_python_methods(impl):
    assert all(inspect.ismethod(method) for method in the_hot_methods(impl))


@pytest.mark.fastipc_only("c-methods")
def test_fastipcs_hot_methods_are_c_methods_with_signatures(impl):
    for method in the_hot_methods(impl):
        assert inspect.isbuiltin(method)
        assert method.__doc__ and inspect.getdoc(method)
    queue = impl.Queue()
    assert str(inspect.signature(queue.put)) == "(obj, block=True, timeout=None)"
    assert str(inspect.signature(queue.get)) == "(block=True, timeout=None, *, copy=None)"
