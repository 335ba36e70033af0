"""What a queue at rest gives back: memory of free blocks, and groups of descriptors with no block
in use and no memory behind any.
"""

from __future__ import annotations

import functools
import os
import random
from collections.abc import Sequence
from typing import Any, ClassVar

from fastipc import _core

from .channel_operation import CATALOG, ChannelOperation, value_of
from .channels import check_blocks
from .harness import Laboratory
from .operation import AFTER, BEFORE, Reports, State, Violation, during, match
from .queue_operations import OnQueue

# Each of a size class of its own, and larger than all that is kept at rest: so each one's memory
# is given back, whatever else is free.
_CLASSES = {"class20": 20, "class21": 21, "class22": 22, "class23": 23, "class20b": 20}


def _made(label: str) -> bytes:
    return random.Random(label).randbytes((1 << _CLASSES[label]) * 5 // 8)


CATALOG.makers.update({label: functools.partial(_made, label) for label in _CLASSES})
_GROUPS_KEPT = 32  # FIPC_GROUP_INLINE: so few are not worth retiring
_GROUP_BLOCKS = 126
_PAGE = 4096


class QueueRetireGroups(OnQueue, ChannelOperation):
    """What a queue does at rest after a burst: two groups are retired, and one of which a block
    is queued is begun with and left.

    Most of the groups that the burst has made are retired before, so that little is left to do.
    """

    name = "queue-retire-groups"
    prefilled: ClassVar[tuple[str, ...]] = ("class20", "class21", "class22", "class20b", "p1")
    carries = ("class23",)
    retired_by_victim: ClassVar[int] = 2

    def prepare(self, laboratory: Laboratory) -> None:
        self.channel = self.open()
        queue = self.channel.queue
        burst = [value_of("block")] * ((_GROUPS_KEPT + 1) * _GROUP_BLOCKS)
        self.channel.put_many(burst)
        if self.channel.get_many(len(burst)) != burst:
            raise Violation("a burst did not come back while the queue was prepared")
        _core.debug_trim(queue)
        self.at_rest = check_blocks(queue)
        self.bytes_at_rest = self.allocated_bytes()
        for label in self.prefilled:
            self.put(label)
        for label in self.prefilled[:3]:
            if self.get() != label:
                raise Violation("the queue lost its order while it was prepared")
        self.before = check_blocks(queue)
        if self.before["group_numbers"] <= _GROUPS_KEPT or self.before["groups"] >= _GROUPS_KEPT:
            raise Violation(f"the burst was not to leave this: {self.before}")

    def allocated_bytes(self) -> int:
        return os.fstat(self.channel.queue._handles()[0]).st_blocks * 512

    def act(self) -> None:
        _core.debug_trim(self.channel.queue)

    def survive(self) -> dict[str, Any]:
        with during("sweep"):
            groups = check_blocks(self.channel.queue)["groups"]
        with during("put"):
            self.put("class21")  # whose group may be gone
        return {"groups": groups, **super().survive()}

    def arrive(self) -> dict[str, Any]:
        with during("put"):
            # The first of its class: needs the arena lock, and takes it over from the dead.
            self.put("class23")
            self.put("class22")
        return super().arrive()

    def examine(self) -> dict[str, Any]:
        queue = self.channel.queue
        found = check_blocks(queue)
        if found["empty_groups"] != 0:
            raise Violation(f"a group without a block was not repaired: {found}")
        if found["group_numbers"] != self.at_rest["group_numbers"]:
            raise Violation(f"numbers of retired groups are not used again: {found}")
        _core.debug_trim(queue)
        found = check_blocks(queue)
        if found["groups"] != self.at_rest["groups"]:
            raise Violation(f"at rest there were {self.at_rest}, and now {found}")
        # The page of a group that was retired, and not yet punched, is nobody's from then on.
        if self.allocated_bytes() > self.bytes_at_rest + _PAGE:
            raise Violation(
                f"at rest {self.bytes_at_rest} bytes had memory, and now {self.allocated_bytes()}"
            )
        return super().examine()

    def compare(self, reports: Reports) -> str:
        retired = self.before["groups"] - reports.survivor["groups"]
        if not 0 <= retired <= self.retired_by_victim:
            raise Violation(f"{retired} groups are gone")
        labels = (BEFORE, *["between"] * (self.retired_by_victim - 1), AFTER)
        match(
            [State(s.label, (*s.items, "class21", "s", "class23", "class22", "f"))
             for s in self.states()],
            [*reports.survivor["items"], *reports.fresh["items"]],
            None,
        )  # fmt: skip
        return labels[retired]

    def states(self) -> Sequence[State]:
        return [State(BEFORE, self.prefilled[3:])]
