"""A sender that was killed in the middle of a large message left its beginning in the pipe. poll()
and wait() said that something could be received, and recv() then blocked until somebody else sent.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

import fastipc
from fastipc.connection import wait
from tests import support

LARGE = 4 << 20  # more than any ring holds: its sender sleeps in the middle


def send_large(writer: Any) -> None:
    writer.send_bytes(bytes(LARGE))


@pytest.fixture
def pipe_with_a_beginning() -> Any:
    """A pipe whose only sender was killed in the middle of a message."""
    reader, writer = fastipc.Pipe(False)
    with reader, writer:
        process = fastipc.get_context("fork").Process(target=send_large, args=(writer,))
        process.start()
        support.until_asleep(process.pid)
        support.until(lambda: reader.poll(0), "the message's beginning")
        support.until_asleep(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        process.close()
        yield reader, writer


def test_poll_does_not_promise_a_message_whose_sender_was_killed(
    pipe_with_a_beginning: Any,
) -> None:
    reader, _ = pipe_with_a_beginning
    assert reader.poll(0) is False
    assert reader.poll(0.01) is False


def test_wait_does_not_promise_a_message_whose_sender_was_killed(
    pipe_with_a_beginning: Any,
) -> None:
    reader, _ = pipe_with_a_beginning
    assert wait([reader], 0) == []
    assert wait([reader], 0.01) == []


def test_what_is_sent_behind_it_is_received(pipe_with_a_beginning: Any) -> None:
    reader, writer = pipe_with_a_beginning
    assert reader.poll(0) is False
    for number in range(3):
        writer.send(number)
    assert reader.poll(0) is True
    assert [reader.recv() for _ in range(3)] == [0, 1, 2]
    assert reader.poll(0) is False


def test_poll_finds_what_stands_behind_a_beginning(pipe_with_a_beginning: Any) -> None:
    reader, writer = pipe_with_a_beginning
    sender = support.Background(writer.send, "behind")
    # There may be no room before somebody has looked.
    support.until(lambda: reader.poll(0), "the message behind")
    assert reader.recv() == "behind"
    sender.result()


def test_the_end_of_file_behind_it_is_found(pipe_with_a_beginning: Any) -> None:
    reader, writer = pipe_with_a_beginning
    writer.close()
    assert reader.poll(0) is True
    with pytest.raises((EOFError, OSError)):
        reader.recv()
