"""Contract "Pipe and Connection": objects over a pipe, directions, poll, the other end's close."""

from __future__ import annotations

import pickle
import time

import pytest

from tests.conformance import targets
from tests.support import GLANCE_S, PATIENCE_S, Background, Flag, until, until_asleep


def test_both_ends_of_a_pipe_send_and_receive(pipe):
    left, right = pipe
    assert left.send("to the right") is None
    right.send("to the left")
    assert right.recv() == "to the right"
    assert left.recv() == "to the left"
    for end in pipe:
        assert (end.readable, end.writable) == (True, True)


def test_pipe_returns_connections_in_a_tuple(impl, pipe):
    assert type(pipe) is tuple
    for end in pipe:
        assert isinstance(end, impl.connection.Connection)
    with impl.connection.Pipe(False)[0] as reader:
        assert (reader.readable, reader.writable) == (True, False)


def test_the_first_end_of_a_simplex_pipe_receives_and_the_second_sends(impl):
    for reader, writer in (impl.Pipe(False), impl.Pipe(duplex=False)):
        assert (reader.readable, reader.writable) == (True, False)
        assert (writer.readable, writer.writable) == (False, True)
        writer.send("one way")
        assert reader.recv() == "one way"
        reader.close()
        writer.close()


@pytest.mark.parametrize(
    "call",
    [("send", 1), ("send_bytes", b"1")],
    ids=lambda call: call[0],
)
def test_sending_on_the_receiving_end_is_an_os_error(one_way, call):
    with pytest.raises(OSError, match="^connection is read-only$"):
        getattr(one_way[0], call[0])(*call[1:])


@pytest.mark.parametrize(
    "call",
    [("recv",), ("recv_bytes",), ("recv_bytes_into", bytearray(9)), ("poll",), ("poll", 1)],
    ids=lambda call: call[0] + str(call[1:] == (1,)),
)
def test_receiving_on_the_sending_end_is_an_os_error(one_way, call):
    with pytest.raises(OSError, match="^connection is write-only$"):
        getattr(one_way[1], call[0])(*call[1:])


def test_objects_of_every_kind_arrive_equal_and_of_the_same_type(pipe):
    left, right = pipe
    for item in targets.MANY_KINDS:
        left.send(item)
        received = right.recv()
        assert received == item
        assert type(received) is type(item)


def test_send_raises_pickling_errors_before_anything_is_written(pipe):
    left, right = pipe
    with pytest.raises(ValueError, match="refuses to be pickled"):
        left.send(targets.Unpicklable())
    with pytest.raises((pickle.PicklingError, AttributeError)):
        left.send(lambda: None)
    assert not right.poll()
    left.send("next")
    assert right.recv() == "next"


def test_a_large_object_goes_through_a_pipe(ctx, children):
    left, right = ctx.Pipe()
    item = [bytes(range(256)) * 2**14, "x" * 2**20]  # 4 MiB and 1 MiB
    with children(targets.echo_closing, right, left):
        right.close()
        left.send(item)
        assert left.recv() == item
        left.close()


def test_a_pickle_over_32_mib_goes_through_a_pipe(pipe):
    left, right = pipe
    item = [bytes(range(256)) * 2**17, "end"]
    call = Background(left.send, item)
    assert right.recv() == item
    call.result()


def test_60_000_bytes_wait_in_a_pipe_before_anybody_receives(pipe, one_way):
    # Programs of one thread rely on the 64 KiB of a pipe, or meet a deadlock.
    for sender, receiver in (pipe, (one_way[1], one_way[0])):
        sender.send_bytes(b"x" * 60_000)
        assert receiver.recv_bytes() == b"x" * 60_000
        for number in range(50):
            sender.send_bytes(bytes([number]) * 1000)
        assert [receiver.recv_bytes()[0] for _ in range(50)] == list(range(50))


def test_send_waits_while_the_other_end_does_not_receive(ctx, children):
    reader, writer = ctx.Pipe(False)
    before, after = Flag(), Flag()
    with children(targets.send_announced, writer, before, after, b"x" * 2**21) as child:
        writer.close()
        assert before.wait()
        until_asleep(child.pid)
        assert not after.is_set()
        assert len(reader.recv()) == 2**21
        assert after.wait()
    reader.close()


def test_recv_waits_for_a_message_of_another_process(ctx, children):
    left, right = ctx.Pipe()
    with children(targets.echo_closing, right, left):
        right.close()
        call = Background(left.recv)
        call.until_blocked()
        left.send(["sent while another thread receives"])
        assert call.result() == ["sent while another thread receives"]
        left.close()


def test_send_after_the_other_end_was_closed_is_a_broken_pipe(pipe):
    left, right = pipe
    right.close()
    with pytest.raises(BrokenPipeError):
        left.send(1)
    with pytest.raises(BrokenPipeError):
        left.send_bytes(b"1")


def test_send_on_a_simplex_pipe_whose_reader_was_closed_is_a_broken_pipe(one_way):
    reader, writer = one_way
    reader.close()
    with pytest.raises(BrokenPipeError):
        writer.send(1)


def test_send_works_while_one_copy_of_the_other_end_is_open(ctx, children):
    left, right = ctx.Pipe()
    with children(targets.echo_closing, right, left):
        right.close()
        left.send("the child still has it")
        assert left.recv() == "the child still has it"
        left.close()


def test_send_after_the_only_reader_was_killed_is_a_broken_pipe(ctx, children):
    left, right = ctx.Pipe()
    with children(targets.sleep_until_killed, right) as child:
        right.close()
        left.send("nobody will read this")
        child.kill()
    with pytest.raises(BrokenPipeError):
        left.send("nobody is left")
    left.close()


def test_recv_delivers_what_was_sent_before_the_close_and_then_raises_eof_error(pipe):
    left, right = pipe
    right.send(1)
    right.send("two")
    right.close()
    assert left.recv() == 1
    assert left.recv() == "two"
    for _ in range(2):
        with pytest.raises(EOFError):
            left.recv()
        with pytest.raises(EOFError):
            left.recv_bytes()
        with pytest.raises(EOFError):
            left.recv_bytes_into(bytearray(10))


def test_recv_in_a_child_gets_all_messages_and_then_the_end(ctx, children):
    reader, writer = ctx.Pipe(False)
    with children(targets.receive_exactly_then_eof, reader, writer, [0, 1, "two"]):
        for item in (0, 1, "two"):
            writer.send(item)
        writer.close()
    reader.close()


def test_a_blocked_recv_raises_eof_error_when_the_other_end_is_closed(pipe):
    left, right = pipe
    call = Background(left.recv)
    call.until_blocked()
    right.close()
    with pytest.raises(EOFError):
        call.result()


def test_a_blocked_recv_raises_eof_error_when_the_only_sender_is_killed(ctx, children):
    reader, writer = ctx.Pipe(False)
    with children(targets.sleep_until_killed, writer) as child:
        writer.close()
        call = Background(reader.recv)
        call.until_blocked()
        child.kill()
        with pytest.raises(EOFError):
            call.result()
    reader.close()


def test_there_is_no_end_while_a_child_holds_a_copy_of_the_sending_end(ctx, children):
    reader, writer = ctx.Pipe(False)
    leave = Flag()
    with children(targets.wait_for, leave, writer):
        writer.close()
        assert not reader.poll(GLANCE_S)
        leave.set()
        assert reader.poll(PATIENCE_S)
        with pytest.raises(EOFError):
            reader.recv()
    reader.close()


def test_a_message_cut_off_by_a_killed_sender_is_an_os_error(ctx, children):
    reader, writer = ctx.Pipe(False)
    before, after = Flag(), Flag()
    with children(targets.send_announced, writer, before, after, b"x" * 2**21) as child:
        writer.close()
        assert before.wait()
        until_asleep(child.pid)
        assert not after.is_set()
        child.kill()
    with pytest.raises(OSError, match="^got end of file during message$"):
        reader.recv()
    with pytest.raises(EOFError):
        reader.recv()
    reader.close()


def test_poll_without_argument_tells_at_once_whether_a_message_waits(pipe):
    left, right = pipe
    assert left.poll() is False
    right.send(None)
    assert until(left.poll) is True
    assert left.poll() is True
    assert left.recv() is None
    assert left.poll() is False


def test_poll_waits_at_most_its_timeout(pipe):
    left, _ = pipe
    before = time.monotonic()
    assert left.poll(GLANCE_S) is False
    assert left.poll(timeout=0.0) is False
    assert time.monotonic() - before >= GLANCE_S * 0.9


@pytest.mark.parametrize("timeout", [-1, -0.001, -3600])
def test_poll_takes_a_negative_timeout_as_zero(pipe, timeout):
    left, right = pipe
    assert left.poll(timeout) is False
    right.send(1)
    assert until(lambda: left.poll(timeout)) is True


@pytest.mark.parametrize("timeout", [None, 20])
def test_poll_returns_when_a_message_comes(pipe, timeout):
    left, right = pipe
    call = Background(left.poll, timeout)
    call.until_blocked()
    right.send("now")
    assert call.result() is True
    assert left.recv() == "now"


def test_poll_is_true_at_the_end_of_file(pipe):
    left, right = pipe
    call = Background(left.poll, None)
    call.until_blocked()
    right.close()
    assert call.result() is True
    assert left.poll() is True
    assert left.poll(-1) is True


def test_poll_is_true_for_a_waiting_empty_message(pipe):
    left, right = pipe
    right.send_bytes(b"")
    assert left.poll(20) is True
    assert left.recv_bytes() == b""
    assert left.poll() is False


def test_a_connection_sent_over_a_connection_works_in_the_receiver(ctx, children):
    left, right = ctx.Pipe()
    answers, sent = ctx.Pipe(False)
    with children(targets.use_received_connection, right) as child:
        left.send(sent)
        sent.close()
        right.close()
        assert answers.recv() == ("over the received connection", child.pid)
        assert answers.poll(PATIENCE_S)
        with pytest.raises(EOFError):
            answers.recv()
    for end in (left, answers):
        end.close()


def test_a_connection_sent_to_itself_is_another_connection_to_the_same_pipe(impl, pipe):
    left, right = pipe
    left.send(left)
    copy = right.recv()
    assert copy is not left
    copy.send("through the copy")
    assert right.recv() == "through the copy"
    copy.close()
    left.send("the original is still open")
    assert right.recv() == "the original is still open"


def test_forking_pickler_duplicates_the_descriptor_of_a_connection(impl, one_way):
    reader, writer = one_way
    data = impl.reduction.ForkingPickler.dumps(writer)
    copy = impl.reduction.ForkingPickler.loads(data)
    assert copy.fileno() != writer.fileno()
    writer.close()
    copy.send("through the copy")
    assert reader.recv() == "through the copy"
    copy.close()
    with pytest.raises(EOFError):
        reader.recv()


@pytest.mark.multiprocessing_only("connection-picklable")
def test_plain_pickle_copies_multiprocessings_descriptor_number_uselessly(impl, one_way):
    _, writer = one_way
    copy = pickle.loads(pickle.dumps(writer))
    try:
        assert copy.fileno() == writer.fileno()
    finally:
        copy._handle = None  # else both would close one descriptor


@pytest.mark.fastipc_only("connection-picklable")
def test_plain_pickle_makes_a_working_copy_of_fastipcs_connection(impl, one_way):
    reader, writer = one_way
    copy = pickle.loads(pickle.dumps(writer))
    copy.send("through the copy")
    assert reader.recv() == "through the copy"
    copy.close()
    writer.send("the original is still open")
    assert reader.recv() == "the original is still open"


def test_a_child_can_be_given_both_ends(ctx, children):
    left, right = ctx.Pipe()
    with children(targets.use_both_ends, left, right):
        pass
    left.close()
    right.close()
