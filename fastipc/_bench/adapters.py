"""The libraries that are not multiprocessing under another name, each in its best fair setting.

Each class says in a comment which setting that is. All are free to be absent. Where a library
moves only bytes, objects are pickled by the benchmark (see peers.Channel), with pickle.dumps and
pickle.loads themselves and nothing around them.
"""

from __future__ import annotations

import ctypes
import os
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from fastipc._bench.peers import (
    Channel,
    MultiprocessingLike,
    Need,
    Peer,
    UnsupportedError,
    import_module,
)

KIB = 1024
MIB = 1024**2

# Rings of small messages get this much memory: more does not make any of them faster here (it
# leaves the caches), less makes the producer wait for the consumer's turn on a busy CPU.
SMALL_RING_BYTES = MIB
# How many large messages a ring holds, where a case does not say.
LARGE_ITEMS = 4
# What a record takes in a ring beside its contents, at most.
RECORD_BYTES = 64


def ring_bytes(need: Need) -> int:
    """Return how large a ring of bytes should be."""
    record = need.item_bytes + RECORD_BYTES
    items = need.backlog or need.maxsize or LARGE_ITEMS
    return max(SMALL_RING_BYTES, items * record)


def dumps_array(array: Any) -> bytes:
    """Pickle an array for a library that moves only bytes: protocol 5 has the fewest copies."""
    return pickle.dumps(array, 5)


class BytesChannel(Channel):
    """One whose library moves only bytes."""

    def __init__(self, queue: Any, need: Need) -> None:
        super().__init__(queue)
        if need.content != "bytes":
            self.encode = pickle.dumps if need.content == "objects" else dumps_array
            self.decode = pickle.loads


class SimpleQueue(MultiprocessingLike):
    """multiprocessing.SimpleQueue: no feeder thread, no timeouts, one lock at each end."""

    module = "multiprocessing"

    def queue(self, need: Need) -> Channel:
        if need.backlog * need.item_bytes > 64 * KIB:
            raise UnsupportedError("a SimpleQueue holds what fits into a pipe of 64 KiB")
        return Channel(self.context.SimpleQueue())

    def joinable(self, need: Need) -> Channel:
        raise UnsupportedError("SimpleQueue has no task_done()")

    def pipe(self, duplex: bool = True, need: Need | None = None) -> Any:
        raise UnsupportedError("its pipe is multiprocessing's")

    def make_pipe(self, duplex: bool = True) -> tuple[Any, Any]:
        raise UnsupportedError("its pipe is multiprocessing's")


class PipeChannel(Channel):
    """A one-way Pipe in the place of a queue."""

    def sender(self, index: int = 0) -> Any:
        return SimpleNamespace(put=self.queue[1].send)

    def receiver(self, index: int = 0) -> Any:
        return SimpleNamespace(get=self.queue[0].recv)

    def close(self) -> None:
        for end in self.queue:
            end.close()


class PipeAsQueue(SimpleQueue):
    """multiprocessing.Pipe, where one process at each end is enough."""

    def queue(self, need: Need) -> Channel:
        if need.senders > 1 or need.receivers > 1:
            raise UnsupportedError("a Pipe is for one process at each end")
        if need.backlog * need.item_bytes > 64 * KIB:
            raise UnsupportedError("a Pipe holds 64 KiB")
        return PipeChannel(self.context.Pipe(duplex=False))


class FasterFifo(Peer):
    """faster-fifo. For bytes it is told to move them as they are (loads=bytes, dumps=bytes), for
    arrays to pickle with protocol 5. Its calls wait 10 s, unless told otherwise: longer than
    anybody waits here. It is the only peer with put_many and get_many.
    """

    module = "faster_fifo"
    distribution = "faster-fifo"

    def queue(self, need: Need) -> Channel:
        codec: dict[str, Any]
        if need.content == "bytes":
            codec = {"loads": bytes, "dumps": bytes}
        elif need.content == "arrays":
            codec = {"loads": pickle.loads, "dumps": dumps_array}
        else:
            # Its own default is ForkingPickler, whose dumps() is slower.
            codec = {"loads": pickle.loads, "dumps": pickle.dumps}
        size = ring_bytes(need)
        return FasterFifoChannel(self.library.Queue(size, need.maxsize or 10**9, **codec))


class FasterFifoChannel(Channel):
    """Its queue, with room for the largest message at each receiver before the clock runs."""

    def sender(self, index: int = 0) -> Any:
        return self.queue

    def receiver(self, index: int = 0) -> Any:
        queue = self.queue

        def get_many(most: int) -> list[Any]:
            items: list[Any] = queue.get_many(max_messages_to_get=most)
            return items

        return SimpleNamespace(get=queue.get, get_many=get_many)


class HyperQ(Peer):
    """hyperq. BytesHyperQ with pickle: its HyperQ, which pickles by itself, does it by
    ForkingPickler and a copy more. Made once and inherited, so its names are removed at once.
    """

    module = "hyperq"
    distribution = "hyperq"

    def queue(self, need: Need) -> Channel:
        name = self.unique_name()
        channel = BytesChannel(self.library.BytesHyperQ(ring_bytes(need), name), need)
        for each in (name, f"b_{name}"):
            os.unlink(f"/dev/shm/{each}")
        return channel


class ZeroQ(Peer):
    """zeroq. Its elements have one size: pickles are padded to it, which pickle.loads ignores."""

    module = "zeroq"
    distribution = "zeroq"

    def queue(self, need: Need) -> Channel:
        size = need.item_bytes + (KIB if need.content == "arrays" else 0)
        items = need.backlog or need.maxsize or max(LARGE_ITEMS, SMALL_RING_BYTES // size)
        capacity = 1 << (max(items, 2) - 1).bit_length()
        name = self.unique_name()
        queue = self.library.Queue(name, element_size=size, capacity=capacity, create=True)
        os.unlink(f"/dev/shm/{name}")
        channel = BytesChannel(queue, need)
        if need.content != "bytes":
            channel.encode = _padding(channel.encode or pickle.dumps, size)
        return channel


def _padding(dumps: Callable[[Any], bytes], size: int) -> Callable[[Any], bytes]:
    return lambda message: dumps(message).ljust(size, b"\0")


class DejaQ(Peer):
    """dejaq. DejaQueue with its default get(), that copies objects out of the ring: without the
    copy they would not outlive the next message.
    """

    module = "dejaq"
    distribution = "dejaq"

    def queue(self, need: Need) -> Channel:
        name = self.unique_name()
        queue = self.library.DejaQueue(ring_bytes(need), name=name)
        for each in os.listdir("/dev/shm"):
            if name in each:
                os.unlink(f"/dev/shm/{each}")
        return Channel(queue)


class Iceoryx2(Peer):
    """iceoryx2, publish and subscribe with samples of a fixed size, nothing dropped. The receiver
    spins: the library's own receive() does not wait.
    """

    module = "iceoryx2"
    distribution = "iceoryx2"
    raw_arrays = True
    blocking = False

    def queue(self, need: Need) -> Channel:
        if need.receivers > 1:
            raise UnsupportedError("with iceoryx2 each receiver gets every message")
        self.library.set_log_level(self.library.LogLevel.Fatal)
        return Iceoryx2Channel(self, need)


class Iceoryx2Blocking(Iceoryx2):
    """The same, with an event after each message, for which a receiver that finds none waits."""

    blocking = True


class Iceoryx2Channel(Channel):
    """A service; its ports are made in the processes that use them."""

    inherited = False

    def __init__(self, peer: Iceoryx2, need: Need) -> None:
        super().__init__()
        self._iceoryx2 = peer.library
        self._blocking = peer.blocking
        self._folder = f"{peer.scratch}/"
        self._prefix = f"{peer.scratch.name}_"
        self._name = peer.unique_name()
        self._need = need
        small = SMALL_RING_BYTES // need.item_bytes
        self._items = need.backlog or need.maxsize or max(LARGE_ITEMS, small)
        if need.content == "objects":
            self.encode, self.decode = pickle.dumps, pickle.loads

    def _services(self) -> tuple[Any, Any]:
        iceoryx2, need = self._iceoryx2, self._need
        config = iceoryx2.config.default()
        config.global_cfg.prefix = iceoryx2.FileName.new(self._prefix)
        config.global_cfg.root_path = iceoryx2.Path.new(self._folder)
        # What is made here lives as long as the process.
        self._node = iceoryx2.NodeBuilder.new().config(config).create(iceoryx2.ServiceType.Ipc)
        size = -(-need.item_bytes // 8)
        messages = (
            self._node.service_builder(iceoryx2.ServiceName.new(self._name))
            .publish_subscribe(ctypes.c_uint64 * size)
            .enable_safe_overflow(False)
            .subscriber_max_buffer_size(self._items)
            .subscriber_max_borrowed_samples(need.held + 2)
            .max_publishers(need.senders)
            .open_or_create()
        )
        events = self._node.service_builder(iceoryx2.ServiceName.new(self._name)).event()
        return messages, events.open_or_create() if self._blocking else None

    def sender(self, index: int = 0) -> Any:
        messages, events = self._services()
        strategy = self._iceoryx2.BackpressureStrategy.RetryUntilDelivered
        publisher = messages.publisher_builder().backpressure_strategy(strategy).create()
        notifier = events.notifier_builder().create() if self._blocking else None
        loan, memmove = publisher.loan_uninit, ctypes.memmove
        if self._need.content == "arrays":
            size = self._need.item_bytes

            def put(message: Any) -> None:
                sample = loan()
                memmove(sample.payload_ptr, message.ctypes.data, size)
                sample.assume_init().send()

        else:

            def put(message: Any) -> None:
                sample = loan()
                memmove(sample.payload_ptr, message, len(message))
                sample.assume_init().send()

        if notifier is None:
            return SimpleNamespace(put=put)

        def put_and_tell(message: Any) -> None:
            put(message)
            notifier.notify()

        return SimpleNamespace(put=put_and_tell)

    def receiver(self, index: int = 0) -> Any:
        messages, events = self._services()
        subscriber = messages.subscriber_builder().buffer_size(self._items).create()
        listener = events.listener_builder().create() if self._blocking else None
        receive, string_at = subscriber.receive, ctypes.string_at
        size = self._need.item_bytes

        if listener is None:

            def take() -> Any:
                while (sample := receive()) is None:
                    pass
                return sample

        else:

            def take() -> Any:
                while (sample := receive()) is None:
                    listener.blocking_wait()
                return sample

        def get() -> bytes:
            sample = take()  # until it is dropped, nobody writes over it
            return string_at(sample.payload_ptr, size)

        def get_array() -> Any:
            import numpy

            sample = take()
            memory: Any = (ctypes.c_double * (size // 8)).from_address(sample.payload_ptr)
            memory.sample = sample  # the memory is the sample's
            return numpy.frombuffer(memory)

        return SimpleNamespace(get=get_array if self._need.content == "arrays" else get)

    def close(self) -> None:
        pass


class PosixIpc(Peer):
    """posix_ipc message queues, as deep as the system lets them be."""

    module = "posix_ipc"
    distribution = "posix_ipc"

    def queue(self, need: Need) -> Channel:
        library = self.library
        size = need.item_bytes
        queue = None
        for depth in (need.maxsize, 1024, 256, 64, 10) if not need.backlog else (need.backlog,):
            if depth == 0:
                continue
            try:
                queue = library.MessageQueue(
                    f"/{self.unique_name()}",
                    library.O_CREX,
                    max_messages=depth,
                    max_message_size=size,
                )
                break
            except (ValueError, OSError, library.Error):
                continue
        if queue is None:
            raise UnsupportedError(
                f"the system's limits allow no message queue for messages of {size} bytes"
                + (f" that holds {need.backlog:,}" if need.backlog else "")
            )
        queue.unlink()
        return PosixIpcChannel(queue, need)


class PosixIpcChannel(BytesChannel):
    """Its messages come with a priority."""

    def sender(self, index: int = 0) -> Any:
        return SimpleNamespace(put=self.queue.send)

    def receiver(self, index: int = 0) -> Any:
        receive = self.queue.receive
        return SimpleNamespace(get=lambda: receive()[0])


class Zmq(Peer):
    """pyzmq over ipc://, PUSH to PULL, without a limit to what waits, unless there is a maxsize.
    Large messages are neither copied by pyzmq when they are sent nor when they are received;
    arrays travel as the pickle and its out-of-band buffer, in two parts.
    """

    module = "zmq"
    distribution = "pyzmq"
    kinds = ("PUSH", "PULL")

    def queue(self, need: Need) -> Channel:
        if need.receivers + need.senders > 2 and self.kinds[0] == "PAIR":
            raise UnsupportedError("PAIR is for one process at each end")
        address = f"ipc://{self.scratch}/{self.unique_name()}"
        return ZmqChannel(self.library, self.kinds, address, need)


class ZmqPair(Zmq):
    """The same with PAIR sockets."""

    kinds = ("PAIR", "PAIR")


class ZmqChannel(Channel):
    """Sockets are made in the processes that use them."""

    inherited = False

    def __init__(self, zmq: Any, kinds: tuple[str, str], address: str, need: Need) -> None:
        super().__init__()
        self._zmq = zmq
        self._kinds = kinds
        self._address = address
        self._need = need
        self._large = need.item_bytes >= 64 * KIB
        if need.content == "objects":
            self.encode, self.decode = pickle.dumps, pickle.loads

    def _socket(self, kind: str) -> Any:
        socket = self._zmq.Context.instance().socket(getattr(self._zmq, kind))
        # Messages wait on both sides, and one or two more on their way.
        limit = max(1, self._need.maxsize // 4)
        socket.set_hwm(limit if self._need.maxsize else 0)
        return socket

    def sender(self, index: int = 0) -> Any:
        socket = self._socket(self._kinds[0])
        for number in range(self._need.receivers):
            socket.connect(f"{self._address}.{number}")
        if self._need.content == "arrays":
            return SimpleNamespace(put=self._array_put(socket))
        send = socket.send
        if not self._large:
            return SimpleNamespace(put=send)
        return SimpleNamespace(put=lambda message: send(message, copy=False))

    def _array_put(self, socket: Any) -> Callable[[Any], None]:
        send_multipart = socket.send_multipart

        def put(array: Any) -> None:
            buffers: list[Any] = []
            pickled = pickle.dumps(array, 5, buffer_callback=buffers.append)
            send_multipart([pickled, *buffers], copy=False)

        return put

    def receiver(self, index: int = 0) -> Any:
        socket = self._socket(self._kinds[1])
        socket.bind(f"{self._address}.{index}")
        if self._need.content == "arrays":
            receive = socket.recv_multipart

            def get_array() -> Any:
                pickled, *buffers = receive(copy=False)
                return pickle.loads(pickled.buffer, buffers=[each.buffer for each in buffers])

            return SimpleNamespace(get=get_array)
        if not self._large:
            return SimpleNamespace(get=socket.recv)
        recv = socket.recv
        return SimpleNamespace(get=lambda: recv(copy=False).buffer)

    def close(self) -> None:
        pass


class Torch(MultiprocessingLike):
    """torch.multiprocessing's Queue with tensors, over the memory of the arrays."""

    module = "torch.multiprocessing"
    distribution = "torch"
    fork_only = True

    def queue(self, need: Need) -> Channel:
        if need.content != "arrays":
            raise UnsupportedError("torch's queue differs from multiprocessing's only for tensors")
        torch = import_module("torch")
        channel = Channel(self.context.Queue(need.maxsize))
        channel.encode = torch.from_numpy
        channel.decode = torch.Tensor.numpy
        return channel

    def joinable(self, need: Need) -> Channel:
        raise UnsupportedError("torch's JoinableQueue is multiprocessing's")

    def pipe(self, duplex: bool = True, need: Need | None = None) -> Any:
        raise UnsupportedError("torch's Pipe differs from multiprocessing's only for tensors")

    def make_pipe(self, duplex: bool = True) -> tuple[Any, Any]:
        raise UnsupportedError("torch's Pipe is multiprocessing's")


ADAPTERS: dict[str, type[Peer]] = {
    "simplequeue": SimpleQueue,
    "mp-pipe": PipeAsQueue,
    "faster-fifo": FasterFifo,
    "hyperq": HyperQ,
    "zeroq": ZeroQ,
    "dejaq": DejaQ,
    "iceoryx2": Iceoryx2,
    "iceoryx2-blocking": Iceoryx2Blocking,
    "posix-ipc": PosixIpc,
    "zmq": Zmq,
    "zmq-pair": ZmqPair,
    "torch": Torch,
}
