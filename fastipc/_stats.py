"""What stats() returns. The numbers are csrc/stats.c's; here are their names and units."""

from __future__ import annotations

from typing import Any, NamedTuple


class Stats(NamedTuple):
    """What has gone through a queue, or one way through a pipe, in all processes; and its state.

    Counts are since the creation.  They are read one after the other while others go on, so that
    they fit together exactly only in a queue at rest.

    puts           messages put
    gets           messages taken out, without those that shutdown(immediate=True) gave up
    bytes_put      bytes written for them, with record headers (8 each), padding and links
    bytes_got      bytes taken out, likewise, also of what was given up
    items          messages queued now
    bytes          bytes queued now, counted as bytes_put
    items_high     the most messages queued that one side noticed when it looked how far the other
                   one is, as a producer does to whom the queue seems full, and a consumer who has
                   taken all that he knew of; or that stats() has met
    bytes_high     the most bytes, likewise
    getters        threads asleep now that wait for a message
    putters        threads asleep now that wait for room
    recoveries     locks taken over from processes that were killed inside put() or get()
    late_wakes     sleepers that found something although nobody had woken them
    lost           messages that processes had taken and not yet returned to their callers when
                   they were killed
    last_dead_pid  the process, in its own pid namespace, that was last found to have ended without
                   closing the queue, killed or not; None: none
    """

    puts: int
    gets: int
    bytes_put: int
    bytes_got: int
    items: int
    bytes: int
    items_high: int
    bytes_high: int
    getters: int
    putters: int
    recoveries: int
    late_wakes: int
    lost: int
    last_dead_pid: int | None


class ConnectionStats(NamedTuple):
    """The two ways through a pipe, as seen from one end; None: this end does not go that way.

    Both tell of all processes that have the pipe, not only of this object.
    """

    sent: Stats | None
    received: Stats | None


def make(numbers: tuple[Any, ...] | None) -> Stats | None:
    """The numbers of the extension, under their names."""
    return None if numbers is None else Stats(*numbers)
