/* channel_stream.c - what of channel.h is for conn.c: stepping over a record that a peek
 * found, and records that the owner of the send turn writes into the ring outside the
 * lock, to be published under it. Waits for nothing but the lock. */
#include "channel.h"
#include "record.h"

int fipc_channel_advance(struct fipc_channel *channel, const struct fipc_side_copy_shm *state,
                         const struct fipc_record_shm *header, uint32_t items, uint32_t taken,
                         struct fipc_block *drained) {
    struct fipc_side_shm *get = &channel->shm->get;
    struct fipc_side_copy_shm next = *state;
    uint64_t old_ref = fipc_side_current(get).ring;
    int rc;

    if (fipc_unlikely(next.ring != old_ref)) {
        rc = fipc_channel_hold_drained(channel, old_ref, drained);
        if (rc < 0)
            return rc;
    }
    next.pos += fipc_record_bytes(header->length);
    next.count += items;
    fipc_channel_count_taken(channel, taken);
    fipc_side_publish(get, &next); /* step get-publish */
    return 0;
}

/* As much as fits at `pos` without breaking a record in two; 0: less than least. It begins at a line
 * of the caches, and the header behind it ends at one: a copy by memcpy() that begins within a line
 * has each line of its destination read first. Between two CPUs that the host had far apart: 29 GB/s,
 * and 38 where it began at a line. */
static uint64_t room_at(const struct fipc_channel *channel, uint64_t pos, uint64_t least_bytes,
                        uint64_t most_bytes, struct fipc_room *room) {
    const struct fipc_ring *ring = &channel->put_ring;
    uint64_t first =
        channel->seen_read_pos > ring->base_pos ? channel->seen_read_pos : ring->base_pos;
    uint64_t taken = pos - first + FIPC_LINK_RESERVE + FIPC_RECORD_BYTES;
    uint64_t off = (pos - ring->base_pos) & (ring->size - 1), bytes;

    room->pad_at = ring->data + off;
    room->pad = -(off + FIPC_RECORD_BYTES) & (FIPC_CACHE_LINE - 1);
    if (off + room->pad + FIPC_RECORD_BYTES + least_bytes > ring->size)
        room->pad = ring->size - off;
    taken += room->pad;
    off = (off + room->pad) & (ring->size - 1);
    bytes = ring->size - off - FIPC_RECORD_BYTES;
    if (taken >= ring->size)
        return 0;
    if (bytes > ring->size - taken)
        bytes = ring->size - taken;
    if (bytes < least_bytes)
        return 0;
    if (bytes >= most_bytes)
        bytes = most_bytes;
    else if (off + FIPC_RECORD_BYTES + bytes < ring->size)
        bytes -= (bytes + FIPC_RECORD_BYTES) & (FIPC_CACHE_LINE - 1);
    room->data = ring->data + off + FIPC_RECORD_BYTES;
    return bytes < least_bytes ? 0 : bytes;
}

int fipc_channel_reserve(struct fipc_channel *channel, uint64_t least_bytes, uint64_t most_bytes,
                         struct fipc_room *room) {
    /* Nobody but us moves the put side, so its state stands still. */
    uint64_t pos = fipc_side_current(&channel->shm->put).pos;

    if ((pos & 7) != 0 || pos < channel->put_ring.base_pos)
        return -EBADMSG;
    if (least_bytes > most_bytes)
        least_bytes = most_bytes;
    room->bytes = room_at(channel, pos, least_bytes, most_bytes, room);
    /* Look at the readers also when they may have made much more room. */
    if (room->bytes < most_bytes) {
        channel->seen_read_pos = fipc_side_read_pos(&channel->shm->get);
        room->bytes = room_at(channel, pos, least_bytes, most_bytes, room);
    }
    return room->bytes == 0 ? -EAGAIN : 0;
}

/* Under the put lock. */
static int commit_locked(struct fipc_channel *channel, const struct fipc_room *room,
                         const struct fipc_put *put) {
    struct fipc_channel_shm *shm = channel->shm;
    struct fipc_side_copy_shm state = fipc_side_current(&shm->put);
    int rc;

    if (fipc_unlikely(fipc_load_relaxed(&shm->send_turn) != put->turn))
        return -EBUSY;
    if (fipc_unlikely(fipc_load_relaxed(&shm->put.flags) & FIPC_SIDE_ARMED) &&
        fipc_load_relaxed(&shm->token) == 0) {
        rc = fipc_channel_ring(channel);
        if (rc < 0)
            return rc;
        /* step put-token, as in channel.c: readable before published. */
        fipc_store_relaxed(&shm->token, 1);
    }
    if (room->pad != 0)
        fipc_record_write(room->pad_at, (uint32_t)(room->pad - FIPC_RECORD_BYTES), FIPC_RECORD_PAD,
                          0);
    fipc_record_write(room->data - FIPC_RECORD_BYTES, put->data_bytes, put->kind, put->tag);
    state.pos += room->pad + fipc_record_bytes(put->data_bytes);
    state.count += put->items;
    fipc_side_publish(&shm->put, &state); /* step put-publish */
    return 0;
}

int fipc_channel_commit(struct fipc_channel *channel, const struct fipc_room *room,
                        const struct fipc_put *put, bool turn_ends, int64_t deadline_ns) {
    int rc = fipc_channel_lock_put(channel, deadline_ns);

    if (fipc_unlikely(rc < 0))
        return rc;
    rc = commit_locked(channel, room, put);
    /* step turn-end: dying before it leaves the turn of a dead owner behind a message
     * that is whole; who takes it over abandons nothing. */
    if (rc == 0 && turn_ends)
        fipc_store_release(T1, &channel->shm->send_turn, 0);
    fipc_lock_release(&channel->shm->put.lock);
    return rc;
}
