"""Contract "Queue": arrays and other objects with large buffers."""

from __future__ import annotations

import gc

import pytest

from tests.support import ended, in_fork

numpy = pytest.importorskip("numpy")

COUNT = 200_000


@pytest.mark.start_methods("fork")
@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize("count", [10, 1_000, COUNT])
def test_an_array_arrives_equal_and_writable(ctx, count, readonly):
    queue = ctx.Queue()
    sent = numpy.arange(count, dtype=float)
    sent.flags.writeable = not readonly
    queue.put(sent)
    received = queue.get()
    assert received.dtype == sent.dtype and (received == sent).all()
    received[0] = 5
    assert sent[0] == 0
    queue.close()


@pytest.mark.start_methods("fork")
def test_an_array_outlives_its_queue(ctx):
    queue = ctx.Queue()
    sent = numpy.arange(COUNT, dtype=float)
    queue.put(sent)
    received = queue.get()
    queue.close()
    del queue
    gc.collect()
    received += 1
    assert received[-1] == COUNT


@pytest.mark.multiprocessing_only("large-buffers-are-views")
@pytest.mark.start_methods("fork")
def test_multiprocessings_arrays_are_private(ctx):
    queue = ctx.Queue()
    queue.put(numpy.zeros(COUNT))
    received = queue.get()
    written_in_child(received)
    assert received[0] == 0
    queue.close()


@pytest.mark.fastipc_only("large-buffers-are-views")
@pytest.mark.start_methods("fork")
def test_fastipcs_arrays_are_shared_with_children_forked_later(ctx):
    queue = ctx.Queue()
    for copy in (False, True):
        queue.put(numpy.zeros(COUNT))
        received = queue.get(copy=copy)
        assert not received.flags.owndata
        written_in_child(received)
        assert received[0] == (0 if copy else 1)
        del received
    queue.close()


def written_in_child(array):
    """Forks a child that writes 1 into the array, and waits for it."""

    def child():
        array[0] = 1

    assert ended(in_fork(child)) == 0
