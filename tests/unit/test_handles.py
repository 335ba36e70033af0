"""Queues and connections that are passed anywhere: through queues, pipes, pools, plain pickle."""

from __future__ import annotations

import concurrent.futures
import copy
import os
import pickle

import pytest

import fastipc
from fastipc import _handles
from tests.support import PATIENCE_S, Flag, ended, in_fork, resources, until
from tests.unit import targets

KINDS = ("Queue", "JoinableQueue", "SimpleQueue")


@pytest.mark.start_methods("fork", "spawn", "forkserver")
@pytest.mark.parametrize("kind", KINDS)
def test_a_queue_is_the_argument_of_a_pools_task(ctx, kind):
    queue = getattr(ctx, kind)()
    with ctx.Pool(2) as pool:
        pids = pool.starmap(targets.use_queue, [(queue, number) for number in range(4)])
        received = [queue.get() for _ in range(4)]
        pool.close()
        pool.join()
    assert sorted(item for item, _ in received) == [0, 1, 2, 3]
    assert {pid for _, pid in received} == set(pids)
    queue.close()


@pytest.mark.start_methods("fork", "spawn", "forkserver")
def test_a_queue_is_the_argument_of_an_executors_task(ctx):
    queue = ctx.Queue()
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=ctx) as executor:
        futures = [executor.submit(targets.use_queue, queue, number) for number in range(4)]
        pids = {future.result(PATIENCE_S) for future in futures}
        received = [queue.get(timeout=PATIENCE_S) for _ in range(4)]
    assert sorted(item for item, _ in received) == [0, 1, 2, 3]
    assert {pid for _, pid in received} == pids
    queue.close()


@pytest.mark.start_methods("fork", "spawn")
def test_a_connection_is_the_argument_of_a_pools_task(ctx):
    left, right = ctx.Pipe()
    with ctx.Pool(1) as pool:
        pid = pool.apply(targets.use_connection, (right, "over the pipe"))
        right.close()
        assert left.recv() == ("over the pipe", pid)
        pool.close()
        pool.join()
    with pytest.raises(EOFError):
        left.recv()
    left.close()


@pytest.mark.start_methods("fork", "spawn")
def test_queues_are_sent_through_a_queue_and_used_by_a_process_that_never_had_them(ctx, children):
    carrier, source, target = ctx.Queue(), ctx.Queue(), ctx.SimpleQueue()
    with children(targets.receive_and_answer, carrier):
        source.put("round trip")
        carrier.put((source, target))
        assert target.get() == "round trip"
    for queue in (carrier, source, target):
        queue.close()


@pytest.mark.start_methods("fork", "spawn")
def test_a_queue_is_sent_over_a_pipe(ctx, children):
    left, right = ctx.Pipe()
    queue = ctx.JoinableQueue()
    with children(targets.answer_over_received_queue, right):
        left.send(queue)
        left.send("round trip")
        assert queue.get(timeout=PATIENCE_S) == "round trip"
    for obj in (left, right, queue):
        obj.close()


@pytest.mark.start_methods("fork", "spawn")
def test_a_queue_is_reached_through_any_process_that_has_it_when_its_sender_is_dead(ctx, children):
    carrier, to_holder = ctx.Queue(), ctx.Queue()
    held, leave = Flag(), Flag()
    with children(targets.hold_received, to_holder, held, leave):
        with children(targets.make_and_share, carrier, to_holder, held) as maker:
            until(lambda: carrier.qsize() == 1)
            maker.kill()
        queue = carrier.get(timeout=PATIENCE_S)
        assert queue.get(timeout=PATIENCE_S) == "from its maker"
        leave.set()
    for obj in (carrier, to_holder, queue):
        obj.close()


@pytest.mark.start_methods("fork", "spawn")
def test_a_queue_made_in_a_child_is_received_with_what_it_holds(ctx, children):
    carrier = ctx.Queue()
    leave = Flag()
    with children(targets.put_own_queue, carrier, fastipc.Queue, leave):
        queue = carrier.get(timeout=PATIENCE_S)
        assert queue.get(timeout=PATIENCE_S) == "from its maker"
        assert carrier.get(timeout=PATIENCE_S) == "the next item"
        leave.set()
    # The maker is gone; the queue lives here.
    queue.put("still works")
    assert queue.get() == "still works"
    queue.close()
    carrier.close()


@pytest.mark.start_methods("fork", "spawn")
def test_a_queue_that_no_living_process_has_raises_os_error_from_its_own_get_only(ctx, children):
    carrier = ctx.Queue()
    with children(targets.put_own_queue_and_forget_it, carrier, targets.make_labelled_queue):
        pass
    with pytest.raises(OSError, match="lost queue"):
        carrier.get(timeout=PATIENCE_S)
    assert carrier.get(timeout=PATIENCE_S) == "the next item"
    carrier.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_queue_sent_to_its_own_process_is_the_same_queue(kind):
    queue, carrier = getattr(fastipc, kind)(), fastipc.Queue()
    carrier.put(queue)
    copy = carrier.get()
    copy.put(1)
    assert queue.get() == 1
    copy.close()
    queue.put(2)
    assert queue.get() == 2
    queue.close()
    carrier.close()


def test_a_queue_can_hold_itself():
    queue = fastipc.Queue()
    queue.put(queue)
    copy = queue.get()
    copy.put("through the copy")
    assert queue.get() == "through the copy"
    copy.close()
    queue.close()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickle_of_every_protocol_gives_a_working_handle(protocol):
    queue = fastipc.Queue(2, label="pickled")
    copy = pickle.loads(pickle.dumps(queue, protocol))
    copy.put(1)
    copy.put(2)
    assert queue.full()
    assert copy.full()
    assert "pickled" in repr(copy)
    assert [queue.get(), copy.get()] == [1, 2]
    queue.close()
    copy.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_closed_queue_cannot_be_pickled(kind):
    queue = getattr(fastipc, kind)()
    queue.close()
    with pytest.raises((ValueError, OSError)):
        pickle.dumps(queue)


def test_a_closed_connection_cannot_be_pickled():
    left, right = fastipc.Pipe()
    left.close()
    with pytest.raises((ValueError, OSError)):
        pickle.dumps(left)
    right.close()


def test_a_pickle_that_outlived_its_queue_and_process_raises_os_error(run_program):
    program = """
        import fastipc, pickle
        print(pickle.dumps(fastipc.Queue(label="gone")).hex())
    """
    data = bytes.fromhex(run_program(program))
    with pytest.raises(OSError, match="gone"):
        pickle.loads(data)


@pytest.mark.parametrize("replace", [False, True], ids=["closed", "reused"])
def test_a_descriptor_that_the_program_closed_gives_a_clear_error_and_never_a_guess(
    run_program, replace
):
    # In a process of its own, because its descriptors are ruined.
    program = """
        import os, pickle, sys
        import fastipc
        from tests.support import segment_files

        queue = fastipc.Queue()
        inodes = set(segment_files())
        for name in os.listdir("/proc/self/fd"):
            fd = int(name)
            try:
                if os.fstat(fd).st_ino in inodes:
                    os.close(fd)
                    if "replace" in sys.argv:
                        assert os.open("/etc/passwd", 0) == fd
            except OSError:
                pass
        try:
            data = pickle.dumps(queue)
            pickle.loads(data)
            print("pickled")
        except OSError as error:
            print("OSError" if str(error) else "no text")
        try:
            for number in range(100):
                queue.put(b"x" * 2**20)
            for number in range(100):
                assert queue.get() == b"x" * 2**20
            print("works")
        except OSError as error:
            print("OSError" if str(error) else "no text")
        if "replace" in sys.argv:
            assert os.stat("/etc/passwd").st_size > 0
    """
    lines = run_program(program, *(["replace"] if replace else [])).splitlines()
    # The mapping may be enough for one or the other; what may not happen is anything else.
    assert len(lines) == 2
    assert lines[0] == "OSError"
    assert lines[1] in ("works", "OSError")


@pytest.mark.parametrize("kind", ["queue", "pipe"])
def test_a_segment_with_the_inodes_and_another_id_is_not_taken_for_the_one(kind):
    # Inodes repeat in the long run, as pids do.
    handles = [fastipc.Queue()] if kind == "queue" else list(fastipc.Pipe())
    handle = handles[0]
    identity = handle._identity()
    descriptors = list(handle._handles()[:3])
    other = (bytes(16), *identity[1:])
    assert _handles._find(other, os.getpid(), descriptors) is None
    found = _handles._open_from(os.getpid(), descriptors, identity)
    assert found is not None
    _handles._close(found)
    pickle.loads(pickle.dumps(handle)).close()
    for each in handles:
        each.close()


def test_a_received_handle_does_not_leak():
    queue, carrier = fastipc.Queue(), fastipc.Queue()

    def pass_once():
        carrier.put(queue)
        copy = carrier.get()
        copy.put(1)
        assert queue.get() == 1
        copy.close()

    for _ in range(3):
        pass_once()
    before = resources()
    for _ in range(100):
        pass_once()
    assert len(resources()) <= len(before)
    queue.close()
    carrier.close()


class Unpicklable:
    """A serializer that refuses to travel."""

    def dumps(self, obj):
        return bytes(obj)

    loads = dumps

    def __reduce__(self):
        raise TypeError("stays here")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_handle_whose_serializer_cannot_be_pickled_is_not_under_way(protocol):
    queue = fastipc.Queue(serializer=Unpicklable())
    left, right = fastipc.Pipe(serializer=Unpicklable())
    carrier = fastipc.Queue()
    assert not queue._has_claims_open()
    assert not left._has_claims_open()  # and it is mapped from now on
    before = resources()
    for handle in (queue, left):
        with pytest.raises(TypeError, match="stays here"):
            pickle.dumps(handle, protocol)
        with pytest.raises(TypeError, match="stays here"):
            carrier.put(handle)
        assert not handle._has_claims_open()
        # A shallow copy is made of what pickle would get, but pickles nothing.
        again = copy.copy(handle)
        assert not handle._has_claims_open()
        again.close()
    assert resources() <= before
    for handle in (queue, left, right, carrier):
        handle.close()


def test_copies_of_a_handle_are_handles_and_leave_nothing_under_way():
    queue = fastipc.Queue()
    for made in (copy.copy(queue), copy.deepcopy(queue)):
        made.put("through the copy")
        assert queue.get() == "through the copy"
        assert not queue._has_claims_open()
        made.close()
    data = pickle.dumps(queue)
    assert queue._has_claims_open()
    pickle.loads(data).close()
    assert not queue._has_claims_open()
    queue.close()


def test_a_forked_child_keeps_no_end_of_a_pipe_that_its_parent_sent_away():
    left, right = fastipc.Pipe()
    queue = fastipc.Queue()
    queue.put(right)
    release_read, release_write = os.pipe()

    def child():  # holds what fork copied, except what the parent keeps for the pickle under way
        right.close()
        os.close(release_write)
        os.read(release_read, 1)

    pid = in_fork(child)
    os.close(release_read)
    copy = queue.get()
    right.close()
    copy.send("last")
    copy.close()
    assert left.recv() == "last"
    with pytest.raises(EOFError):
        left.recv()
    os.close(release_write)
    assert ended(pid) == 0
    for handle in (left, queue):
        handle.close()


def take_and_close(queue, taken):
    end = queue.get()
    end.close()
    taken.set()


@pytest.mark.watchdog(30)
def test_wait_sees_the_end_of_file_behind_an_end_that_was_sent_away():
    ctx = fastipc.get_context("fork")
    queue, taken = ctx.Queue(), ctx.Event()
    child = ctx.Process(target=take_and_close, args=(queue, taken))
    child.start()
    ours, theirs = ctx.Pipe()
    queue.put(theirs)
    theirs.close()
    # Without a limit: nobody else of this process looks whether the end has arrived.
    assert fastipc.connection.wait([ours]) == [ours]
    with pytest.raises(EOFError):
        ours.recv()
    assert taken.wait(PATIENCE_S)
    child.join(PATIENCE_S)
    assert child.exitcode == 0
    ours.close()
    queue.close()
