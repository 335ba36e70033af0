"""Contract "Queue": put, its timeouts, and what happens to objects that cannot be pickled."""

from __future__ import annotations

import pickle
import queue as threads_queue
import time

import pytest

from tests.conformance import targets
from tests.support import GLANCE_S, Background, Flag, until, until_asleep

# Longer than the watchdog: a test that waited for it would be ended.
FAR_TOO_LONG = 3600.0


def test_put_returns_none(impl):
    queue = impl.Queue()
    assert queue.put(1) is None
    assert queue.put_nowait(2) is None
    assert [queue.get(), queue.get()] == [1, 2]


def test_put_without_blocking_raises_full_at_once(impl):
    queue = impl.Queue(1)
    queue.put("first")
    with pytest.raises(threads_queue.Full):
        queue.put("second", False)
    with pytest.raises(threads_queue.Full):
        queue.put("second", block=False)
    with pytest.raises(threads_queue.Full):
        queue.put_nowait("second")
    assert queue.get() == "first"


def test_put_raises_full_when_its_timeout_is_over(impl):
    queue = impl.Queue(1)
    queue.put("first")
    before = time.monotonic()
    with pytest.raises(threads_queue.Full):
        queue.put("second", True, GLANCE_S)
    assert time.monotonic() - before >= GLANCE_S * 0.9
    assert queue.get() == "first"


def test_full_is_raised_as_exactly_the_class_of_module_queue(impl):
    queue = impl.Queue(1)
    queue.put("first")
    with pytest.raises(threads_queue.Full) as caught:
        queue.put_nowait("second")
    assert type(caught.value) is threads_queue.Full
    queue.get()


def test_put_ignores_the_timeout_when_it_does_not_block(impl):
    queue = impl.Queue(1)
    queue.put("first")
    with pytest.raises(threads_queue.Full):
        queue.put("second", block=False, timeout=FAR_TOO_LONG)
    assert queue.get() == "first"


@pytest.mark.parametrize("timeout", [0, -1, -0.001, -FAR_TOO_LONG])
def test_put_takes_a_negative_timeout_as_zero(impl, timeout):
    queue = impl.Queue(1)
    queue.put("first", timeout=timeout)
    with pytest.raises(threads_queue.Full):
        queue.put("second", timeout=timeout)
    assert queue.get() == "first"


def test_put_with_a_timeout_goes_on_when_there_is_room_in_time(impl):
    queue = impl.Queue(1)
    queue.put("first")
    call = Background(queue.put, "second", timeout=20)
    call.until_blocked()
    assert queue.get() == "first"
    assert call.result() is None
    assert queue.get() == "second"


@pytest.mark.parametrize("method", ["put", "put_nowait"])
def test_put_on_a_closed_queue_is_a_value_error_that_names_the_queue(impl, method):
    queue = impl.Queue()
    queue.close()
    with pytest.raises(ValueError, match=r"^Queue <.*> is closed$"):
        getattr(queue, method)(1)


def test_put_without_maxsize_never_blocks_whatever_the_consumer_does(impl):
    queue = impl.Queue()
    items = [str(number) * 50 for number in range(10_000)]
    for item in items:
        queue.put(item)
    assert [queue.get() for _ in items] == items


def test_put_blocks_until_another_process_has_taken_an_item(ctx, children):
    queue = ctx.Queue(1)
    before, after = Flag(), Flag()
    queue.put("first")
    with children(targets.put_announced, queue, before, after, "second") as child:
        assert before.wait()
        until_asleep(child.pid)
        assert not after.wait(GLANCE_S)
        assert queue.get() == "first"
        assert after.wait()
        assert queue.get() == "second"


@pytest.mark.multiprocessing_only("pickled-in-put")
def test_multiprocessings_put_of_an_unpicklable_object_returns_and_prints(impl, capfd):
    queue = impl.Queue(1)
    assert queue.put(targets.Unpicklable()) is None
    # The slot is given back, so that the next put finds room.
    queue.put("next", timeout=20)
    assert queue.get() == "next"
    assert queue.qsize() == 0
    assert "this object refuses to be pickled" in capfd.readouterr().err


@pytest.mark.fastipc_only("pickled-in-put")
@pytest.mark.parametrize("block", [True, False])
def test_fastipcs_put_of_an_unpicklable_object_raises_and_changes_nothing(impl, block, capfd):
    queue = impl.Queue(1)
    with pytest.raises(ValueError, match="refuses to be pickled"):
        queue.put(targets.Unpicklable(), block)
    assert queue.qsize() == 0
    queue.put("next", block=False)
    assert queue.get() == "next"
    assert capfd.readouterr().err == ""


@pytest.mark.fastipc_only("pickled-in-put")
def test_fastipcs_put_of_a_lambda_raises_what_pickle_raises(impl):
    queue = impl.Queue()
    with pytest.raises((pickle.PicklingError, AttributeError)):
        queue.put(lambda: None)
    assert queue.empty()


@pytest.mark.multiprocessing_only("pickled-in-put")
def test_multiprocessings_feeder_calls_the_error_hook(impl):
    errors = []

    class Hooked(impl.queues.Queue):
        @staticmethod
        def _on_queue_feeder_error(error, obj):
            errors.append((str(error), type(obj)))

    queue = Hooked(ctx=impl.get_context())
    queue.put(targets.Unpicklable())
    until(lambda: errors)
    assert errors == [("this object refuses to be pickled", targets.Unpicklable)]
    assert queue.qsize() == 0


@pytest.mark.fastipc_only("pickled-in-put")
def test_fastipcs_put_calls_the_error_hook_of_a_subclass_instead_of_raising(impl):
    errors = []

    class Hooked(impl.queues.Queue):
        @staticmethod
        def _on_queue_feeder_error(error, obj):
            errors.append((str(error), type(obj)))

    queue = Hooked(ctx=impl.get_context())
    queue.put(targets.Unpicklable())
    assert errors == [("this object refuses to be pickled", targets.Unpicklable)]
    assert queue.qsize() == 0
    queue.put("next")
    assert queue.get() == "next"


@pytest.mark.multiprocessing_only("pickled-in-put")
def test_multiprocessing_sends_what_an_object_became_after_put(impl):
    queue = impl.Queue()
    queue.put(b"x" * 2**20)  # the feeder waits in the middle of this one
    item = ["as put"]
    queue.put(item)
    item[0] = "changed later"
    assert len(queue.get()) == 2**20
    assert queue.get() == ["changed later"]


@pytest.mark.fastipc_only("pickled-in-put")
def test_fastipc_sends_what_an_object_was_in_put(impl):
    queue = impl.Queue()
    queue.put(b"x" * 2**20)
    item = ["as put"]
    queue.put(item)
    item[0] = "changed later"
    assert len(queue.get()) == 2**20
    assert queue.get() == ["as put"]
