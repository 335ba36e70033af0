/* channel_fast.h - one record through the ring where nothing is in the way: what
 * fipc_channel_put(), fipc_channel_peek() and fipc_channel_advance() do, with all that
 * is rare left out, for the calls that hold the GIL and those that were woken. Whatever
 * is rare (a pad, a link, a turn, an armed doorbell, damage) changes nothing here and is
 * said to be not for now; the functions of channel.h then find out what it is. */
#ifndef FIPC_CHANNEL_FAST_H
#define FIPC_CHANNEL_FAST_H

#include <string.h>

#include "channel.h"
#include "record.h"

/* So far ahead the lines of the ring are asked for: the other side used them last, and
 * the next lock waits for every store before it. A send into lines that the other CPU has
 * read: 40 ns; fetched for reading only, 41 to 65. 256 and 1024 do no better. */
#define FIPC_RING_AHEAD 512

/* Each look at the put side takes its line from the producers, which costs both sides as much
 * as some messages. A consumer that is the faster one finds a message or two with each look, and
 * nothing ever tells it to wait: 270 ns a message of 64 bytes, with a pause after so many
 * looks in a row that found less than so much 39. */
#define FIPC_THIN_LOOKS 4
#define FIPC_THIN_BYTES 384

/* The key of the channel that this process has put something to last; 0: that has been asked for. A
 * hint. */
extern uint64_t fipc_own_put;

/* After a get, outside the lock. */
FIPC_ALWAYS_INLINE void fipc_channel_rest(struct fipc_channel *channel) {
    if (fipc_likely(fipc_load_relaxed(&channel->thin_looks) < FIPC_THIN_LOOKS))
        return;
    fipc_store_relaxed(&channel->thin_looks, 0);
    /* Who gets what he has put himself keeps no producer from anything: 550 ns for both, 100 without
     * the pause. */
    if (fipc_load_relaxed(&fipc_own_put) == channel->key)
        fipc_store_relaxed(&fipc_own_put, 0);
    else
        fipc_spin_rest();
}

/* Puts one record of at most FIPC_INLINE_MAX bytes that counts as an item, to a channel
 * without max_bytes. The channel must have been entered. 0; -EBUSY, the lock is taken; -EAGAIN,
 * not now or not so simply: nothing has changed. */
FIPC_ALWAYS_INLINE int fipc_channel_put_fast(struct fipc_channel *channel, const void *data,
                                             uint32_t data_bytes, uint16_t kind, uint16_t tag) {
    struct fipc_channel_shm *shm = channel->shm;
    const struct fipc_ring *ring = &channel->put_ring;
    uint64_t bytes = fipc_record_bytes(data_bytes), off, first;
    struct fipc_side_copy_shm state;
    int rc = -EAGAIN;

    if (fipc_unlikely(fipc_lock_try(channel->segment, &shm->put.lock) < 0))
        return -EBUSY;
    /* T2, pairs with T1, and first: who has the turn uses the view of the ring without the lock. */
    if (fipc_unlikely(fipc_load_acquire(T2, &shm->send_turn) != 0))
        goto unlock;
    state = fipc_side_current(&shm->put);
    off = (state.pos - ring->base_pos) & (ring->size - 1);
    /* A ring too large to wrap is used once: nothing of it comes free. A backlog lies in such, and
     * with fipc_channel_put() for each of its messages a put took 52 ns in the place of 39. */
    first = ring->size >> channel->wrap_log2 <= 1 && channel->seen_read_pos > ring->base_pos
                ? channel->seen_read_pos
                : ring->base_pos;
    if (fipc_likely(ring->ref == state.ring && ring->ref != 0 && (state.pos & 7) == 0 &&
                    state.pos >= ring->base_pos && off + bytes <= ring->size &&
                    state.pos - first + bytes + FIPC_LINK_RESERVE <= ring->size &&
                    state.count - channel->seen_get_count < channel->maxsize &&
                    fipc_load_relaxed(&shm->put.flags) == 0 && !FASTIPC_BREAK_PUBLISH_FIRST)) {
        uint8_t *at = ring->data + off;

        fipc_prefetch_write(ring->data + ((off + FIPC_RING_AHEAD) & (ring->size - 1)));
        fipc_record_write(at, data_bytes, kind, tag);
        memcpy(at + FIPC_RECORD_BYTES, data, data_bytes);
        state.pos += bytes;
        state.count++;
        fipc_side_publish(&shm->put, &state); /* step put-publish */
        fipc_store_relaxed(&fipc_own_put, channel->key);
        rc = 0;
    }
unlock:
    fipc_lock_release(&shm->put.lock);
    return rc;
}

/* Under the get lock, while nobody has the receive turn: gets the oldest record if it is
 * of `kind`, at most buffer_bytes long and just behind the last one. 0, its payload is
 * copied and it is taken: *header is its header, *read_pos the position behind it.
 * -EAGAIN, nothing is there; -EBUSY, not so simply: nothing has changed. */
FIPC_ALWAYS_INLINE int fipc_channel_get_fast(struct fipc_channel *channel, uint16_t kind,
                                             void *buffer, uint32_t buffer_bytes,
                                             struct fipc_record_shm *header, uint64_t *read_pos) {
    struct fipc_channel_shm *shm = channel->shm;
    const struct fipc_ring *ring = &channel->get_ring;
    struct fipc_side_copy_shm state = fipc_side_current(&shm->get);
    const uint8_t *at;
    uint64_t off, bytes;

    if (channel->seen_write_pos <= state.pos) {
        fipc_channel_look_at_producers(channel, &state, false);
        if (channel->seen_write_pos <= state.pos) {
            fipc_store_relaxed(&channel->thin_looks, 0);
            return channel->seen_write_pos == state.pos ? -EAGAIN : -EBUSY;
        }
        fipc_store_relaxed(&channel->thin_looks,
                           channel->seen_write_pos - state.pos < FIPC_THIN_BYTES
                               ? fipc_load_relaxed(&channel->thin_looks) + 1
                               : 0);
    }
    off = (state.pos - ring->base_pos) & (ring->size - 1);
    if (fipc_unlikely(ring->ref != state.ring || ring->ref == 0 || (off & 7) != 0))
        return -EBUSY;
    at = ring->data + off;
    *header = fipc_record_read(at);
    bytes = fipc_record_bytes(header->length);
    if (fipc_unlikely(header->kind != kind || header->length > buffer_bytes ||
                      bytes > ring->size - off || bytes > channel->seen_write_pos - state.pos))
        return -EBUSY;
    /* Not what is being written now: that is its writer's. */
    if (fipc_likely(channel->seen_write_pos - state.pos >= 2 * FIPC_RING_AHEAD)) {
        fipc_prefetch_read(ring->data + ((off + FIPC_RING_AHEAD) & (ring->size - 1)));
    }
    memcpy(buffer, at + FIPC_RECORD_BYTES, header->length);
    state.pos += bytes;
    state.count++;
    fipc_channel_count_taken(channel, 1);
    fipc_side_publish(&shm->get, &state); /* step get-publish */
    *read_pos = state.pos;
    return 0;
}

#endif
