"""What get() returns of large buffers: objects over shared memory that are the receiver's own."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import struct
import subprocess
import sys
import weakref

import pytest

import fastipc
from tests.support import PATIENCE_S, Background, Flag, ended, in_fork, run_script

numpy = pytest.importorskip("numpy")

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

LARGE = 50_000  # float64: 400 kB
HUGE = 300_000  # float64: above what has a block of its own


class Buffers:
    """A user's class with out-of-band buffers that are no arrays."""

    def __init__(self, parts):
        self.parts = parts

    def __reduce_ex__(self, protocol):
        return Buffers, ([pickle.PickleBuffer(part) for part in self.parts],)


@pytest.fixture
def queue():
    queue = fastipc.Queue()
    before = fastipc.get_view_bytes()
    yield queue
    gc.collect()
    assert fastipc.get_view_bytes() == before, "a view was left over"
    queue.close()


def numbers(count, first=0.0):
    return numpy.arange(count, dtype=float) + first


def owned(queue):
    """How many blocks belong to processes, the dead ones swept."""
    return queue._check()["owned"]


def test_an_array_arrives_over_shared_memory_and_is_freed_with_its_last_view(queue):
    sent = numbers(LARGE)
    queue.put(sent)
    received = queue.get(timeout=PATIENCE_S)
    assert fastipc.get_view_bytes() >= sent.nbytes
    part = received[10:20]
    assert (received == sent).all() and received.dtype == sent.dtype
    del received
    gc.collect()
    assert owned(queue) == 1
    assert (part == sent[10:20]).all()
    del part
    gc.collect()
    assert owned(queue) == 0


def test_what_arrives_is_the_receivers_own_to_write(queue):
    sent = numbers(LARGE)
    queue.put(sent)
    queue.put(sent)
    first, second = queue.get(timeout=PATIENCE_S), queue.get(timeout=PATIENCE_S)
    first[:] = -1
    assert (second == sent).all() and sent[5] == 5


@pytest.mark.parametrize("count", [100, LARGE, HUGE])
def test_an_array_is_writable_also_if_the_senders_was_not(queue, count):
    sent = numbers(count)
    sent.flags.writeable = False
    queue.put(sent)
    received = queue.get(timeout=PATIENCE_S)
    received[0] = 7
    assert sent[0] == 0 and not sent.flags.writeable


@pytest.mark.parametrize("dtype", ["u1", "<f4", ">i8", "c16", "M8[s]", "S5", "i4,f8"])
def test_every_type_of_array_arrives_as_it_was(queue, dtype):
    sent = numpy.zeros(20_000, dtype=dtype)
    sent[3] = numpy.ones(1, dtype=dtype)[0]
    queue.put(sent)
    received = queue.get(timeout=PATIENCE_S)
    assert received.dtype == sent.dtype and (received == sent).all()


def test_order_and_strides_are_kept_as_pickle_keeps_them(queue):
    c_order = numbers(LARGE).reshape(250, 200)
    for sent in (c_order, numpy.asfortranarray(c_order), c_order[::2, ::3], c_order.T, c_order[:0]):
        queue.put(sent)
        received = queue.get(timeout=PATIENCE_S)
        expected = pickle.loads(pickle.dumps(sent, 5))
        assert (received == sent).all()
        assert received.strides == expected.strides and received.shape == expected.shape


def test_many_arrays_of_many_sizes_travel_in_one_message(queue):
    sent = [numbers(count, count) for count in range(0, 3000, 7)]
    sent += [numbers(HUGE, number) for number in range(40)]  # more than a message has blocks
    queue.put({"all": sent, "first again": sent[400]})
    received = queue.get(timeout=PATIENCE_S)
    assert received["first again"] is received["all"][400]
    for ours, theirs in zip(received["all"], sent, strict=True):
        assert (ours == theirs).all()
        assert ours.size == 0 or ours.ctypes.data % 8 == 0
    # Everything was freed but what is still referred to.
    kept = received["all"][-1]
    del received, ours, theirs
    gc.collect()
    assert (kept == sent[-1]).all()
    del kept


def test_the_buffers_of_any_class_arrive_in_their_order(queue):
    parts = [bytearray(bytes([number]) * 5000) for number in range(10)]
    queue.put(Buffers(parts))
    received = queue.get(timeout=PATIENCE_S)
    assert [bytes(part) for part in received.parts] == [bytes(part) for part in parts]
    memoryview(received.parts[0])[0] = 99
    del received


def test_buffers_are_aligned_as_vector_instructions_want_them(queue):
    queue.put([numpy.ones(3000 + number, dtype="u1") for number in range(20)])
    for array in queue.get(timeout=PATIENCE_S):
        assert array.ctypes.data % 64 == 0


def test_copies_are_private_memory(queue):
    sent = numbers(HUGE)
    queue.put([sent, sent + 1])
    received = queue.get(timeout=PATIENCE_S, copy=True)
    assert fastipc.get_view_bytes() == 0
    assert owned(queue) == 0
    assert (received[1] == sent + 1).all()
    received[0][0] = 5


def test_a_queue_can_be_made_to_copy_and_a_get_can_differ():
    queue = fastipc.Queue(copy=True)
    for _ in range(2):
        queue.put(numbers(LARGE))
    copied = queue.get(timeout=PATIENCE_S)
    assert fastipc.get_view_bytes() == 0
    viewed = queue.get(timeout=PATIENCE_S, copy=False)
    assert fastipc.get_view_bytes() > 0
    assert (copied == viewed).all()
    del viewed
    queue.close()


def copies_in_child(queue, answers):
    queue.get(timeout=PATIENCE_S)
    answers.put(fastipc.get_view_bytes())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_choice_to_copy_travels_with_the_queue(method):
    context = fastipc.get_context(method)
    queue, answers = context.Queue(copy=True), context.Queue()
    queue.put(numbers(LARGE))
    child = context.Process(target=copies_in_child, args=(queue, answers))
    child.start()
    assert answers.get(timeout=PATIENCE_S) == 0
    child.join()
    assert child.exitcode == 0
    queue.close()
    answers.close()


def test_a_view_outlives_the_closing_of_its_queue_and_the_queue_itself():
    queue = fastipc.Queue()
    queue.put(numbers(LARGE))
    received = queue.get(timeout=PATIENCE_S)
    queue.close()
    gone = weakref.ref(queue)
    del queue
    gc.collect()
    assert gone() is None
    received += 1
    assert received[-1] == LARGE
    before = len(os.listdir("/proc/self/fd"))
    del received
    gc.collect()
    # The memory file's descriptor went with the last view.
    assert len(os.listdir("/proc/self/fd")) == before - 1
    assert fastipc.get_view_bytes() == 0


def test_beyond_the_limit_messages_are_copied(queue):
    sent = numbers(LARGE)
    before = fastipc.set_view_limit(2 * sent.nbytes)
    try:
        assert fastipc.get_view_limit() == 2 * sent.nbytes
        kept = []
        for number in range(10):
            queue.put(sent + number)
            kept.append(queue.get(timeout=PATIENCE_S))
        assert fastipc.get_view_bytes() <= 4 * sent.nbytes
        for number, array in enumerate(kept):
            assert (array == sent + number).all()
            array[0] = 1
        del kept, array
        fastipc.set_view_limit(0)
        queue.put(sent)
        received = queue.get(timeout=PATIENCE_S)
        assert fastipc.get_view_bytes() == 0 and (received == sent).all()
        with pytest.raises(ValueError, match="0 keeps no views"):
            fastipc.set_view_limit(-1)
    finally:
        fastipc.set_view_limit(before)


def test_a_view_limit_is_a_whole_number():
    class Number:
        def __index__(self):
            return 123

    before = fastipc.get_view_limit()
    for wrong in (1.5, "x", None, b"1"):
        with pytest.raises(TypeError, match=f"whole number of bytes, not {type(wrong).__name__}"):
            fastipc.set_view_limit(wrong)
        assert fastipc.get_view_limit() == before
    try:
        for limit, found in ((Number(), 123), (numpy.int64(5), 5), (True, 1), (2**70, 2**62)):
            fastipc.set_view_limit(limit)
            assert fastipc.get_view_limit() == found
    finally:
        fastipc.set_view_limit(before)


def test_a_forked_child_keeps_what_its_parent_lets_go(queue):
    sent = numbers(LARGE)
    queue.put(sent)
    received = queue.get(timeout=PATIENCE_S)
    let_go, answers = Flag(), fastipc.Queue()

    def child(received=received):
        assert let_go.wait()
        answers.put(bool((received == sent).all()))

    pid = in_fork(child)
    child.__defaults__ = None
    del received
    for number in range(20):  # would take the block again if it were free
        queue.put(sent - number)
        assert queue.get(timeout=PATIENCE_S, copy=True)[0] == -number
    let_go.set()
    assert answers.get(timeout=PATIENCE_S)
    assert ended(pid) == 0
    assert owned(queue) == 0
    answers.close()


def test_a_parent_keeps_what_its_forked_child_lets_go(queue):
    sent = numbers(LARGE)
    queue.put(sent)
    received = queue.get(timeout=PATIENCE_S)

    def child():
        nonlocal received
        assert (received == sent).all()
        del received
        gc.collect()
        for number in range(20):
            queue.put(sent - number)
            assert queue.get(timeout=PATIENCE_S)[0] == -number

    assert ended(in_fork(child)) == 0
    assert (received == sent).all()
    assert owned(queue) == 1
    del received
    gc.collect()
    assert owned(queue) == 0


def test_a_subprocess_beside_a_view_changes_nothing(queue):
    queue.put(numbers(LARGE))
    received = queue.get(timeout=PATIENCE_S)
    for arguments in ({}, {"preexec_fn": os.getpid}):
        done = subprocess.run([sys.executable, "-c", "pass"], check=False, **arguments)
        assert done.returncode == 0
    assert (received == numbers(LARGE)).all()
    del received
    gc.collect()
    assert owned(queue) == 0


def test_what_a_killed_process_viewed_is_freed(queue):
    sent = numbers(LARGE)
    queue.put(sent)
    holds = Flag()

    def child():
        received = queue.get(timeout=PATIENCE_S)
        assert received[1] == 1
        holds.set()
        signal.pause()

    pid = in_fork(child)
    assert holds.wait()
    assert owned(queue) == 1
    os.kill(pid, signal.SIGKILL)
    assert ended(pid) == -signal.SIGKILL
    assert owned(queue) == 0
    queue.put(sent)
    assert (queue.get(timeout=PATIENCE_S) == sent).all()


def test_threads_take_and_drop_views_while_others_fork(queue):
    sent = numbers(LARGE)

    def exchange():
        for number in range(200):
            queue.put(sent + number)
            assert queue.get(timeout=PATIENCE_S).size == LARGE

    threads = [Background(exchange) for _ in range(2)]
    for _ in range(10):
        assert ended(in_fork(lambda: None)) == 0
    for thread in threads:
        thread.result()
    gc.collect()
    assert owned(queue) == 0


def test_an_object_that_cannot_be_rebuilt_gives_its_memory_back(queue):
    queue.put(Unloadable(numbers(LARGE)))
    queue.put("next")
    with pytest.raises(LookupError):
        queue.get(timeout=PATIENCE_S)
    assert queue.get(timeout=PATIENCE_S) == "next"
    gc.collect()
    assert owned(queue) == 0


class Unloadable:
    def __init__(self, array):
        self.array = array

    def __reduce_ex__(self, protocol):
        return refuse, (self.array,)


def refuse(array):
    raise LookupError("on purpose")


def test_a_bounded_queue_counts_the_bytes_in_blocks():
    queue = fastipc.Queue(max_bytes=1_000_000)
    queue.put(numbers(LARGE))
    queue.put(numbers(LARGE))
    with pytest.raises(fastipc.Full):
        queue.put(numbers(LARGE), block=False)
    with pytest.raises(ValueError, match="can never fit"):
        queue.put(numbers(HUGE))
    assert queue.get(timeout=PATIENCE_S).size == LARGE
    queue.put(numbers(LARGE), block=False)
    for _ in range(2):
        assert queue.get(timeout=PATIENCE_S).size == LARGE
    queue.close()


def test_when_there_is_no_memory_for_a_copy_the_message_stays():
    program = """
import resource, numpy, fastipc
queue = fastipc.Queue(copy=True)
sent = numpy.arange(30_000_000.0)
queue.put(sent)
queue.put("next")
queue._check()
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
soft, hard = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (size + 100_000_000, hard))
for _ in range(2):
    try:
        queue.get(timeout=10)
    except MemoryError:
        continue
    raise SystemExit("there was memory")
assert queue.qsize() == 2
resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
assert (queue.get(timeout=10) == sent).all()
assert queue.get(timeout=10) == "next"
"""
    assert run_script(program) == (0, "", "")


def test_what_was_taken_and_not_returned_is_freed_when_its_queue_is_closed():
    queue, carrier = fastipc.Queue(), fastipc.Queue()
    carrier.put(queue)
    other = carrier.get(timeout=PATIENCE_S)
    queue.put_many([1, Unloadable(numbers(LARGE)), numbers(LARGE), b"x" * 100_000])
    with pytest.raises(LookupError):
        other.get_many(10)
    assert other.qsize() > 0
    other.close()
    gc.collect()
    assert owned(queue) == 0
    queue.close()
    carrier.close()


def test_the_sender_may_go_on_with_its_array_at_once(queue):
    sent = numbers(HUGE)
    queue.put(sent)
    sent[:] = -1
    assert (queue.get(timeout=PATIENCE_S) == numbers(HUGE)).all()


@pytest.mark.parametrize("place", [0, 8, 16])
def test_a_damaged_index_is_an_error_and_nothing_is_read_outside(queue, place):
    # Whoever has the queue can write there, by mistake or not.
    sent = [numbers(1000 + number) for number in range(300)]
    queue.put(sent)
    fd = queue._handles()[0]
    entry = struct.pack("<QQQ", 8 * 1001, 0, 0)[:8]
    content = os.pread(fd, os.fstat(fd).st_size, 0)
    found = content.index(entry)
    os.pwrite(fd, struct.pack("<Q", 1 << 60), found + place)
    with pytest.raises(OSError, match="refers to"):
        queue.get(timeout=PATIENCE_S)
    queue.put("next")
    assert queue.get(timeout=PATIENCE_S) == "next"
    gc.collect()
    assert owned(queue) == 0
