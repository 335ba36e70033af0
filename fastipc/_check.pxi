# _check.pxi - the checker that tests and the crash tool call; on no path that users take.

cdef dict check_segment(fipc_segment *segment, list channels):
    cdef fipc_arena_census arena
    cdef fipc_channel_census channel
    cdef fipc_channel *at
    cdef int rc
    cdef uint64_t items = 0, queued = 0, ring_bytes = 0
    rc = fipc_segment_enter(segment)
    if rc < 0:
        raise_status(rc, "segment")
    with nogil:
        fipc_slots_reap(segment)
        rc = fipc_arena_check(segment, &arena)
    if rc < 0:
        raise OSError(-rc, f"the arena does not hold together: {_os.strerror(-rc)}")
    for number in channels:
        at = <fipc_channel *><size_t>number
        with nogil:
            rc = fipc_channel_check(at, &channel)
        if rc < 0:
            raise OSError(-rc, f"a channel does not hold together: {_os.strerror(-rc)}")
        items += channel.items
        queued += channel.blocks
        ring_bytes = max(ring_bytes, channel.ring_bytes)
    if arena.dead:
        raise AssertionError(f"{arena.dead} blocks belong to dead processes after a sweep")
    return {
        "blocks": arena.blocks,
        "free_blocks": arena.free,
        "owned": arena.owned,
        "queued": arena.queued,
        "queued_records": queued,
        "rings": arena.rings,
        "ring_bytes": ring_bytes,
        "items": items,
        "group_numbers": arena.group_numbers,
        "groups": arena.groups,
        "empty_groups": arena.empty_groups,
    }


def debug_check(handle):
    """Check that the shared state behind a queue or connection holds together; for tests.

    Returns counts; raises OSError or AssertionError when a record, a count or a block contradicts
    another.
    """
    return handle._check()


def debug_trim(queue):
    """Give back what a queue at rest gives back: memory of free blocks, and groups; for tests."""
    queue._trim()


def debug_keep_choices(*, past):
    """Let this process's children do what is chosen by time in the same way each time; for tests.

    Large payloads are copied past the caches, or not, and a look at the room in memory is good for
    an hour.
    """
    fipc_copy_keep(past)
    fipc_os_room_keep(3600 * 1000)
