"""The one list of what fastipc does differently on purpose.

docs/differences.md explains each entry to users under an anchor of the same name; the tests of
both sides are marked with it: multiprocessing_only("id") and fastipc_only("id").
"""

from __future__ import annotations

from typing import NamedTuple


class Difference(NamedTuple):
    """One deliberate departure from what multiprocessing does."""

    id: str
    what: str
    reason: str


DIFFERENCES = [
    Difference(
        "pickled-in-put",
        "put() pickles in the caller: what cannot be pickled raises there, and an object changed "
        "after put() arrives as it was",
        "a feeder thread can only print the error, and the item is silently gone",
    ),
    Difference(
        "no-feeder",
        "there is no feeder thread; join_thread() and cancel_join_thread() check and return",
        "an item is delivered when put() returns, so that nothing is left to join or to lose",
    ),
    Difference(
        "exit-never-hangs",
        "a process with unread items exits at once, and can be joined before they are read",
        "waiting for a reader at exit is the best known deadlock of multiprocessing",
    ),
    Difference(
        "survives-its-producer",
        "items put before os._exit(), a crash or SIGKILL are delivered",
        "they are in shared memory when put() returns",
    ),
    Difference(
        "survives-a-kill",
        "a process that is killed inside an operation blocks and corrupts nothing for the others",
        "the locks outlive their owners",
    ),
    Difference(
        "exact-counts",
        "an item is visible when put() returns; qsize(), empty() and full() are exact",
        "there is no buffer between put() and the queue",
    ),
    Difference(
        "picklable-anywhere",
        "a queue can be pickled at any time and sent to any process",
        "the rule that only inheritance shares a queue is a limit of its semaphores",
    ),
    Difference(
        "connection-picklable",
        "plain pickle of a connection makes a copy that works and owns its descriptors",
        "a copied descriptor number names something else in another process",
    ),
    Difference(
        "contexts-mix",
        "a queue of the fork context can be given to a spawned child",
        "there is no semaphore whose name a spawned child would need",
    ),
    Difference(
        "no-semaphores",
        "queues work where sem_open is missing",
        "they use no semaphores",
    ),
    Difference(
        "pipe-is-shared-memory",
        "the descriptor of a Pipe's end tells readiness; the messages go through shared memory",
        "that is where the speed comes from",
    ),
    Difference(
        "bad-buffer-loses-nothing",
        "recv_bytes_into() looks at its buffer first: after a TypeError the message is still there",
        "a wrong argument should not cost a message",
    ),
    Difference(
        "closed-before-fork",
        "a queue that was closed before a fork is closed in the child, too",
        "close() gives descriptors and memory back at once, and nothing is left to inherit",
    ),
    Difference(
        "queue-has-fileno",
        "queues have fileno(), so that wait() and selectors take them",
        "programs reach for queue._reader to get it",
    ),
    Difference(
        "queue-is-a-class",
        "fastipc.Queue, JoinableQueue and SimpleQueue are classes, and their ctx is optional",
        "they can be subclassed, named in annotations and used with isinstance()",
    ),
    Difference(
        "generic",
        "Queue[int] works on every supported Python",
        "annotations should not depend on the version",
    ),
    Difference(
        "empty-and-full-exported",
        "fastipc.Empty and fastipc.Full are the exceptions of module queue",
        "every user of a queue needs them",
    ),
    Difference(
        "large-buffers-are-views",
        "a received array lies over shared memory, which children forked later share",
        "a copy less for each message; copy=True gives private ones",
    ),
    Difference(
        "shutdown",
        "a queue can be shut down, as queue.Queue can from Python 3.13 on",
        "the end of a stream needs no sentinels, one for each consumer",
    ),
    Difference(
        "c-methods",
        "put(), get(), send(), recv() and their byte forms are C methods: inspect.ismethod() and "
        "weakref.WeakMethod do not know them",
        "a call is 7 % faster; signatures, overriding and pickling work as before",
    ),
]
