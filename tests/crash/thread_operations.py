"""Operations of a process whose second thread is inside another operation on the same object: a
kill ends both.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, ClassVar

import fastipc

from .channel_operation import ChannelOperation, GetOperation, PutOperation
from .channels import PATIENCE
from .operation import AFTER, BEFORE, Reports, State, Violation, match
from .pipe_operations import OnPipe
from .processes import start_sleeper
from .queue_operations import GetsFirst, OnBoundedQueue, OnJoinableQueue


class Beside(ChannelOperation):
    """The victim has a second thread, which sleeps inside when the operation begins."""

    has_threads = True

    def act_beside(self) -> None:
        """Second thread: the operation that sleeps."""
        raise NotImplementedError

    def attach_victim(self) -> None:
        super().attach_victim()
        self.warm_victim()
        start_sleeper(self.act_beside, PATIENCE)


class QueuePutBesideGet(Beside, OnBoundedQueue, PutOperation):
    """put() while another thread of the process sleeps in get(), and may take the item along."""

    name = "queue-put-beside-get"
    prefilled: ClassVar[tuple[str, ...]] = ()
    in_hand = 1

    def act_beside(self) -> None:
        self.channel.get(None)

    def survive(self) -> dict[str, Any]:
        puts = self.channel.queue.stats().puts
        return {**super().survive(), "puts": puts}

    def compare(self, reports: Reports) -> str:
        items = (*reports.survivor["items"], *reports.fresh["items"])
        puts = reports.survivor["puts"]
        allowed = {(("s", "f"), 0): BEFORE, (("x", "s", "f"), 1): AFTER, (("s", "f"), 1): AFTER}
        if (items, puts) not in allowed:
            raise Violation(f"found {list(items)} after {puts} puts")
        return allowed[items, puts]


class QueueGetBesidePut(Beside, GetsFirst, GetOperation):
    """get() while another thread of the process sleeps in put(), for want of room."""

    name = "queue-get-beside-put"
    maxsize = 3

    def act_beside(self) -> None:
        self.put("x2")

    def states(self) -> Sequence[State]:
        before, after = super().states()
        return [before, after, State(AFTER, (*after.items, "x2"))]


class QueuePutBesideTraffic(Beside, OnBoundedQueue):
    """put() while another thread of the process puts and gets all the time."""

    name = "queue-put-beside-traffic"
    changes_state = False
    in_hand = 1

    def attach_victim(self) -> None:
        OnBoundedQueue.attach_victim(self)
        self.warm_victim()
        self.has_begun = threading.Event()
        threading.Thread(target=self.act_beside, daemon=True).start()
        if not self.has_begun.wait(PATIENCE):
            raise Violation("the second thread does not get on")

    def act_beside(self) -> None:
        while True:
            self.put("large")
            self.has_begun.set()
            self.channel.get()

    def act(self) -> None:
        self.put("x")

    def compare(self, reports: Reports) -> str:
        items = [*reports.survivor["items"], *reports.fresh["items"]]
        # What was there before goes first, in its order, as far as the second thread let it be.
        rest = [item for item in items if item != "large"]
        whole = ["p1", "p2", "x", "s", "f"]
        # The second thread may take the others, and x among them; never what came later.
        allowed = [whole[i:j] + whole[3:] for i in range(4) for j in (2, 3)]
        # Two were there; each thread may have added one, and been killed with one in its hands.
        there = len(items) - len(("s", "f"))
        if rest not in allowed or there > 4 or there + reports.lost < 2:
            raise Violation(f"lost, doubled or out of order: {items}")
        return AFTER


class JoinableQueueTaskDoneBesideJoin(Beside, OnJoinableQueue):
    """task_done() for all while another thread of the process sleeps in join()."""

    name = "joinablequeue-task-done-beside-join"
    prefilled: ClassVar[tuple[str, ...]] = ("p1", "p2", "p3")

    def prepare(self, laboratory: Any) -> None:
        super().prepare(laboratory)
        for _ in self.prefilled:
            self.get()

    def act_beside(self) -> None:
        self.channel.queue.join()

    def act(self) -> None:
        for _ in self.prefilled:
            self.channel.queue.task_done()

    def states(self) -> Sequence[State]:
        labels = (BEFORE, AFTER, AFTER, AFTER)
        return [State(label, (), 3 - done) for done, label in enumerate(labels)]


class PipeSendBesideRecv(Beside, OnPipe, PutOperation):
    """send() while another thread of the process sleeps in recv() on the same end."""

    name = "pipe-send-beside-recv"

    def act_beside(self) -> None:
        self.channel.sender.recv()


class QueueShutdownBesideGet(Beside, ChannelOperation):
    """shutdown() while another thread of the process sleeps in get()."""

    name = "queue-shutdown-beside-get"
    prefilled: ClassVar[tuple[str, ...]] = ()

    def open(self) -> Any:
        return OnBoundedQueue.open(self)  # type: ignore[arg-type]

    maxsize = 3

    def act_beside(self) -> None:
        try:
            self.channel.get(None)
        except fastipc.ShutDown:
            pass

    def act(self) -> None:
        self.channel.queue.shutdown()

    def survive(self) -> dict[str, Any]:
        try:
            self.put("s")
        except fastipc.ShutDown:
            return {"items": []}
        return {"items": [self.get()]}

    def arrive(self) -> dict[str, Any]:
        try:
            self.put("f")
        except fastipc.ShutDown:
            self.channel.check()
            return {"items": [], **self.examine()}
        items = [self.get()]
        self.channel.expect_empty()
        self.channel.check()
        return {"items": items, **self.examine()}

    def compare(self, reports: Reports) -> str:
        items = [*reports.survivor["items"], *reports.fresh["items"]]
        return match([State(BEFORE, ("s", "f")), State(AFTER, ())], items, None)
