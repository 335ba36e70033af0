"""The calls for bytes, which do without the codec and pickle: their own ways into the C core.

The items are pickled by the channels here, so that all checks are those of the calls for objects.
"""

from __future__ import annotations

import pickle
import queue as queue_module
from typing import Any, ClassVar

import fastipc

from .channel_operation import GetOperation, PutOperation
from .channels import PATIENCE, Channel, PipeChannel, QueueChannel, noting_puts
from .operation import Violation
from .pipe_operations import OnPipe
from .queue_operations import OnQueue

_BUFFER_BYTES = 16 * 1024  # more than any of the items takes


class QueueBytesChannel(QueueChannel):
    """A Queue by put_bytes() and get_bytes(), or get_bytes_into()."""

    def __init__(self, queue: Any, *, into: bool) -> None:
        super().__init__(queue)
        self._buffer = bytearray(_BUFFER_BYTES) if into else None

    def put(self, item: object) -> None:
        data = pickle.dumps(item)
        with noting_puts(self.ledger):
            try:
                self.queue.put_bytes(data, timeout=PATIENCE)
            except queue_module.Full:
                raise Violation(f"put_bytes() found no room within {PATIENCE:g} s") from None

    def get(self, timeout: float | None = PATIENCE) -> object:
        try:
            if self._buffer is None:
                data = self.queue.get_bytes(timeout=timeout)
            else:
                count = self.queue.get_bytes_into(self._buffer, timeout=timeout)
                data = self._buffer[:count]
        except queue_module.Empty:
            raise Violation(f"nothing came within {PATIENCE:g} s") from None
        self.ledger.note(got=1)
        return pickle.loads(data)


class PipeBytesChannel(PipeChannel):
    """A Pipe by send_bytes() and recv_bytes(), or recv_bytes_into()."""

    def __init__(self, sender: Any, receiver: Any, *, into: bool) -> None:
        super().__init__(sender, receiver)
        self._buffer = bytearray(_BUFFER_BYTES) if into else None

    def put(self, item: object) -> None:
        data = pickle.dumps(item)
        with noting_puts(self.ledger):
            self.sender.send_bytes(data)

    def get(self, timeout: float | None = PATIENCE) -> object:
        if timeout is not None and not self.receiver.poll(timeout):
            raise Violation(f"poll() saw nothing within {PATIENCE:g} s")
        if self._buffer is None:
            data = self.receiver.recv_bytes()
        else:
            count = self.receiver.recv_bytes_into(self._buffer)
            data = self._buffer[:count]
        self.ledger.note(got=1)
        return pickle.loads(data)


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
