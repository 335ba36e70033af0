"""The calls for bytes, which do without the codec and pickle: their own ways into the C core.

The items are pickled by the channels here, so that all checks are those of the calls for objects.
"""

from __future__ import annotations

import pickle
from typing import Any, ClassVar

import fastipc

from .channel_operation import GetOperation, PutOperation
from .channels import PATIENCE, Channel, PipeChannel, QueueChannel
from .pipe_operations import OnPipe
from .queue_operations import OnQueue

_BUFFER_BYTES = 16 * 1024  # more than any of the items takes


class QueueBytesChannel(QueueChannel):
    """A Queue by put_bytes() and get_bytes(), or get_bytes_into()."""

    def __init__(self, queue: Any, *, into: bool) -> None:
        super().__init__(queue)
        self._buffer = bytearray(_BUFFER_BYTES) if into else None

    def _give(self, item: object) -> None:
        self.queue.put_bytes(pickle.dumps(item), timeout=PATIENCE)

    def _take(self, timeout: float | None) -> object:
        if self._buffer is None:
            return pickle.loads(self.queue.get_bytes(timeout=timeout))
        count = self.queue.get_bytes_into(self._buffer, timeout=timeout)
        return pickle.loads(self._buffer[:count])


class PipeBytesChannel(PipeChannel):
    """A Pipe by send_bytes() and recv_bytes(), or recv_bytes_into()."""

    def __init__(self, sender: Any, receiver: Any, *, into: bool) -> None:
        super().__init__(sender, receiver)
        self._buffer = bytearray(_BUFFER_BYTES) if into else None

    def _give(self, item: object) -> None:
        self.sender.send_bytes(pickle.dumps(item))

    def _take(self) -> object:
        if self._buffer is None:
            return pickle.loads(self.receiver.recv_bytes())
        count = self.receiver.recv_bytes_into(self._buffer)
        return pickle.loads(self._buffer[:count])


class OnBytesOfQueue(OnQueue):
    """On a Queue, by its calls for bytes."""

    into: ClassVar[bool] = False

    def open(self) -> Channel:
        return QueueBytesChannel(fastipc.get_context("fork").Queue(), into=self.into)


class OnBytesOfPipe(OnPipe):
    """On a Pipe, by its calls for bytes."""

    into: ClassVar[bool] = False

    def open(self) -> Channel:
        return PipeBytesChannel(*fastipc.get_context("fork").Pipe(), into=self.into)


class QueuePutRaw(OnBytesOfQueue, PutOperation):
    """put_bytes() of a small message."""

    name = "queue-put-raw"


class QueuePutRawBlock(OnBytesOfQueue, PutOperation):
    """put_bytes() of a message in a block."""

    name = "queue-put-raw-block"
    item = "block"


class QueueGetRaw(OnBytesOfQueue, GetOperation):
    """get_bytes() of a small message."""

    name = "queue-get-raw"


class QueueGetRawBlock(OnBytesOfQueue, GetOperation):
    """get_bytes() of a message in a block."""

    name = "queue-get-raw-block"
    prefilled: ClassVar[tuple[str, ...]] = ("block", "p1")


class QueueGetRawInto(OnBytesOfQueue, GetOperation):
    """get_bytes_into() of a message in a block."""

    name = "queue-get-raw-into"
    into = True
    prefilled: ClassVar[tuple[str, ...]] = ("block", "p1")


class PipeSendRaw(OnBytesOfPipe, PutOperation):
    """send_bytes() of a small message."""

    name = "pipe-send-raw"


class PipeRecvRaw(OnBytesOfPipe, GetOperation):
    """recv_bytes() of a small message."""

    name = "pipe-recv-raw"


class PipeRecvRawInto(OnBytesOfPipe, GetOperation):
    """recv_bytes_into() of a small message."""

    name = "pipe-recv-raw-into"
    into = True
