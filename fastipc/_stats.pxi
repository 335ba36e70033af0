# _stats.pxi - the numbers of csrc/stats.c as a tuple; their names are _stats.py's.

cdef tuple channel_stats(fipc_channel *channel, object owner):
    """The fields of _stats.Stats in their order; waits for a lock only, 60 ms at most."""
    cdef fipc_stats stats
    cdef int64_t deadline = fipc_os_now_ns() + 60000000
    cdef int rc
    while True:
        with nogil:
            rc = fipc_channel_stats(channel, &stats, deadline)
        if rc != -EINTR:
            break
        check_signals()
    if rc < 0:
        raise_status(rc, owner)
    return (
        stats.puts, stats.gets, stats.bytes_put, stats.bytes_got, stats.items, stats.bytes,
        stats.items_high, stats.bytes_high, stats.getters, stats.putters, stats.recoveries,
        stats.late_wakes, stats.lost, stats.last_dead_pid or None,
    )
