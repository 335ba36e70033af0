/* stats.h - what a channel has done and how it is now, for people to look at. Derived
 * from positions and from what slots count; decides nothing. */
#ifndef FIPC_STATS_H
#define FIPC_STATS_H

#include "channel.h"

struct fipc_stats {
    uint64_t puts, gets;           /* messages */
    uint64_t bytes_put, bytes_got; /* with record headers, padding and links */
    uint64_t items, bytes;         /* queued now */
    uint64_t items_high, bytes_high;
    uint64_t lost;             /* taken by processes that died before they returned them */
    uint32_t getters, putters; /* threads asleep now */
    uint32_t recoveries, late_wakes;
    uint32_t last_dead_pid; /* 0: none */
};

/* Sweeps the dead, then tells of `channel`. Waits for the get lock at most until
 * deadline_ns; without it, while others are at work, `lost` may be off. Errors: -EINTR;
 * -EBADMSG; -EBADF; those of fipc_segment_enter(). */
FIPC_MUST_USE int fipc_channel_stats(struct fipc_channel *channel, struct fipc_stats *stats,
                                     int64_t deadline_ns);

#endif
