/* channel.c - see channel.h: the locks and rings of a channel, its put side, and the armed
 * doorbell. The get side is channel_get.c. */
#include "channel.h"

#include <string.h>

#include "channel_fast.h"
#include "channel_internal.h"
#include "record.h"
#include "slots.h"

uint64_t fipc_own_put;

void fipc_channel_init(struct fipc_channel *channel, struct fipc_segment *segment, uint32_t index) {
    memset(channel, 0, sizeof(*channel));
    channel->segment = segment;
    channel->index = index;
    memcpy(&channel->key, segment->id, sizeof(channel->key));
    channel->key = (channel->key << 1 | 1) + ((uint64_t)index << 1);
    channel->wrap_log2 = FIPC_RING_STEADY_LOG2;
    channel->max_log2 = FIPC_RING_MAX_LOG2;
    channel->grows = true;
    channel->bell_read_fd = channel->bell_write_fd = -1;
    channel->maxsize = segment->maxsize ? segment->maxsize : UINT64_MAX;
    channel->max_bytes = segment->max_bytes ? segment->max_bytes : UINT64_MAX;
    if (segment->header != NULL)
        channel->shm = fipc_segment_channel(segment, index);
}

int fipc_channel_enter_slow(struct fipc_channel *channel) {
    struct fipc_slot_shm *slot;
    int rc = fipc_segment_enter(channel->segment);

    if (rc < 0)
        return rc;
    /* Another thread of the parent may have been in the middle of filling these. */
    fipc_process_lock();
    if (channel->token != channel->segment->fork_token) {
        channel->put_ring.ref = channel->get_ring.ref = 0;
        channel->seen_read_pos = channel->seen_get_count = channel->seen_write_pos = 0;
        /* Once: a queue's is read by threads that have not entered. */
        if (channel->shm == NULL)
            channel->shm = fipc_segment_channel(channel->segment, channel->index);
        slot = &channel->segment->slots[channel->segment->slot];
        channel->taken = &slot->taken[channel->index];
        channel->given = &slot->given[channel->index];
        fipc_store_release(V1, &channel->token, channel->segment->fork_token);
    }
    fipc_process_unlock();
    return 0;
}

/* ---- locks ---- */

static int lock_side(struct fipc_channel *channel, struct fipc_side_shm *side,
                     int64_t deadline_ns) {
    if (fipc_likely(fipc_lock_try(channel->segment, &side->lock) == 0))
        return 0;
    if (deadline_ns == 0)
        return -EBUSY;
    return fipc_lock_wait(channel->segment, &side->lock, deadline_ns);
}

int fipc_channel_lock_put(struct fipc_channel *channel, int64_t deadline_ns) {
    int rc = lock_side(channel, &channel->shm->put, deadline_ns);

    if (fipc_unlikely(rc == 1)) {
        if (!FASTIPC_BREAK_NO_REPAIR)
            fipc_arena_repair_put(channel->segment, channel->index);
        fipc_fetch_add_relaxed(&channel->shm->recoveries, 1);
        rc = 0;
    }
    return rc;
}

int fipc_channel_lock_get(struct fipc_channel *channel, int64_t deadline_ns) {
    int rc = lock_side(channel, &channel->shm->get, deadline_ns);

    /* Nothing to repair: blocks whose words the dead one wrote are still the
     * queue's as long as it did not publish, and its own, to be swept, if it did. */
    if (fipc_unlikely(rc == 1)) {
        fipc_fetch_add_relaxed(&channel->shm->recoveries, 1);
        rc = 0;
    }
    return rc;
}

/* ---- rings ---- */

int fipc_ring_load(struct fipc_channel *channel, struct fipc_ring *ring, uint64_t ref,
                   uint64_t pos) {
    struct fipc_block block;
    int rc =
        ref == 0 ? -EBADMSG : fipc_block_find(channel->segment, FIPC_RING_REF_BLOCK(ref), &block);

    if (rc < 0) {
        fipc_store_relaxed(&channel->map_block, FIPC_RING_REF_BLOCK(ref));
        return rc;
    }
    if (!(fipc_block_kind(block.shm) & FIPC_BLOCK_KIND_RING) || block.populated < block.capacity)
        return -EBADMSG;
    ring->data = block.data;
    ring->size = block.capacity;
    ring->base_pos = fipc_load_relaxed(&block.shm->ordinal);
    if (ring->base_pos > pos)
        return -EBADMSG;
    ring->ref = ref;
    return 0;
}

FIPC_ALWAYS_INLINE bool ring_wraps(const struct fipc_channel *channel,
                                   const struct fipc_ring *ring) {
    return ring->size <= (UINT64_C(1) << channel->wrap_log2);
}

/* ---- the doorbell's descriptors ---- */

static int bell_is_ours(const struct fipc_channel *channel, int fd) {
    uint64_t inode;

    return fipc_os_inode(fd, &inode) == 0 && inode == channel->bell_inode ? 0 : -EBADF;
}

int fipc_channel_ring(const struct fipc_channel *channel) {
    int rc = bell_is_ours(channel, channel->bell_write_fd);

    return rc < 0 ? rc : fipc_os_ring(channel->bell_write_fd);
}

/* ---- putting ---- */

struct room {
    uint64_t pad; /* bytes to skip first */
    bool ok;
};

/* Is there room for `bytes` at `pos` of the put ring, given where the readers are? */
static struct room ring_room(const struct fipc_channel *channel, uint64_t pos, uint64_t bytes,
                             uint64_t reserve) {
    const struct fipc_ring *ring = &channel->put_ring;
    struct room room = {0, false};
    uint64_t into = pos - ring->base_pos;

    if (ring_wraps(channel, ring)) {
        uint64_t off = into & (ring->size - 1);
        uint64_t first =
            channel->seen_read_pos > ring->base_pos ? channel->seen_read_pos : ring->base_pos;

        if (off + bytes > ring->size)
            room.pad = ring->size - off;
        room.ok = pos - first + room.pad + bytes + reserve <= ring->size;
    } else {
        /* Used once: the reserve is at its end. */
        room.ok = into <= ring->size && into + bytes + reserve <= ring->size;
    }
    return room;
}

/* How large the next ring should be: twice this one while the backlog grows, back
 * to the steady size once the readers have caught up. */
static uint32_t next_log2(const struct fipc_channel *channel, uint64_t pos) {
    uint32_t log2 = fipc_log2_ceil(channel->put_ring.size);
    uint64_t backlog = pos - channel->seen_read_pos;

    if (log2 < channel->wrap_log2)
        return channel->wrap_log2;
    if (log2 > channel->wrap_log2 && backlog < (UINT64_C(1) << channel->wrap_log2) / 2)
        return channel->wrap_log2;
    return log2 + 1 < channel->max_log2 ? log2 + 1 : channel->max_log2;
}

/* What lies between the two sides, for stats(). */
static void note_high(struct fipc_channel_shm *shm, const struct fipc_side_copy_shm *put,
                      const struct fipc_side_copy_shm *get) {
    uint64_t items = put->count - get->count;
    uint64_t bytes = put->pos - get->pos + fipc_load_relaxed(&shm->block_bytes_put) -
                     fipc_load_relaxed(&shm->block_bytes_got);

    /* Negative: damaged; or a consumer has counted its blocks before it published. */
    if ((int64_t)items > 0)
        (void)fipc_raise(&shm->items_high, items);
    if ((int64_t)bytes > 0)
        (void)fipc_raise(&shm->bytes_high, bytes);
}

static void look_at_readers(struct fipc_channel *channel) {
    struct fipc_channel_shm *shm = channel->shm;
    struct fipc_side_copy_shm put = fipc_side_current(&shm->put);
    struct fipc_side_copy_shm get = fipc_side_read(&shm->get);

    channel->seen_read_pos = get.pos;
    channel->seen_get_count = get.count;
    note_high(shm, &put, &get);
}

void fipc_channel_note_backlog(struct fipc_channel *channel) {
    struct fipc_channel_shm *shm = channel->shm;
    struct fipc_side_copy_shm put = fipc_side_read(&shm->put);
    struct fipc_side_copy_shm get = fipc_side_current(&shm->get);

    note_high(shm, &put, &get);
    channel->seen_items = fipc_load_relaxed(&shm->items_high);
    channel->seen_bytes = fipc_load_relaxed(&shm->bytes_high);
}

/* Writes the link to the spare ring at *pos and moves *state there; needs no room
 * but the reserve. */
static void write_link(struct fipc_channel *channel, struct fipc_put *put,
                       struct fipc_side_copy_shm *state) {
    struct fipc_ring *ring = &channel->put_ring;
    uint64_t off = (state->pos - ring->base_pos) & (ring->size - 1);
    uint64_t ref = FIPC_RING_REF(FIPC_RING_REF_LINK(state->ring) + 1, put->spare_ring->id);

    if (off + fipc_record_bytes(8) > ring->size) {
        fipc_record_write(ring->data + off, (uint32_t)(ring->size - off - FIPC_RECORD_BYTES),
                          FIPC_RECORD_PAD, 0);
        state->pos += ring->size - off;
        off = 0;
    }
    fipc_store_relaxed((uint64_t *)(void *)(ring->data + off + FIPC_RECORD_BYTES), ref);
    fipc_record_write(ring->data + off, 8, FIPC_RECORD_LINK, 0);
    state->pos += fipc_record_bytes(8);
    state->ring = ref;
    /* step put-link-ordinal: above write_pos until the publish, so still ours. */
    fipc_store_release(O1, &put->spare_ring->shm->ordinal, state->pos);
    ring->ref = ref;
    ring->data = put->spare_ring->data;
    ring->base_pos = state->pos;
    ring->size = put->spare_ring->capacity;
    put->spare_used = true;
}

static uint64_t queued_bytes(const struct fipc_channel *channel) {
    const struct fipc_channel_shm *shm = channel->shm;
    uint64_t put_bytes =
        fipc_load_acquire(P2, &shm->put_bytes.bytes[fipc_load_relaxed(&shm->put.gen) & 1]);
    uint64_t got_bytes;
    uint32_t gen;

    do {
        gen = fipc_load_acquire(A1, &shm->get.gen);
        got_bytes = fipc_load_acquire(P2, &shm->get_bytes.bytes[gen & 1]);
    } while (fipc_load_acquire(A1, &shm->get.gen) != gen);
    return put_bytes - got_bytes;
}

/* Do the limits allow one more? Under the put lock. */
FIPC_ALWAYS_INLINE bool limits_allow(struct fipc_channel *channel, const struct fipc_put *put,
                                     uint64_t put_count) {
    if (fipc_unlikely(put_count - channel->seen_get_count >= channel->maxsize)) {
        look_at_readers(channel);
        if (put_count - channel->seen_get_count >= channel->maxsize)
            return false;
    }
    if (fipc_unlikely(channel->max_bytes != UINT64_MAX)) {
        uint64_t queued = queued_bytes(channel);

        if (queued > channel->max_bytes || put->bytes > channel->max_bytes - queued)
            return false;
    }
    return true;
}

static bool is_shut(const struct fipc_channel_shm *shm) {
    return (fipc_load_relaxed(&shm->put.flags) & FIPC_SIDE_SHUT) != 0;
}

/* Under the put lock, before anything is written: what the side's flags ask for. */
static int heed_flags(struct fipc_channel *channel) {
    struct fipc_channel_shm *shm = channel->shm;
    int rc;

    if (is_shut(shm))
        return -ESHUTDOWN;
    if (fipc_load_relaxed(&shm->put.flags) & FIPC_SIDE_ARMED &&
        fipc_load_relaxed(&shm->token) == 0) {
        if (FASTIPC_BREAK_TOKEN_FIRST)
            fipc_store_relaxed(&shm->token, 1);
        rc = fipc_channel_ring(channel);
        if (rc < 0)
            return rc;
        /* step put-token: "message => readable" must hold after every step, so the
         * byte is in the pipe before the message is published. */
        fipc_store_relaxed(&shm->token, 1);
    }
    return 0;
}

/* How much of a run may stand at `pos`, where its first record has room. */
static void fit_run(struct fipc_channel *channel, struct fipc_put *put, uint64_t pos,
                    uint64_t put_count) {
    const struct fipc_ring *ring = &channel->put_ring;
    struct fipc_run *run = put->run;
    uint64_t most_bytes, most_items, most_message_bytes = UINT64_MAX;
    bool looked = false;

    for (;;) {
        uint64_t into = pos - ring->base_pos, used = into;

        most_bytes = ring->size;
        if (ring_wraps(channel, ring)) {
            most_bytes -= into & (ring->size - 1);
            if (channel->seen_read_pos > ring->base_pos)
                used = pos - channel->seen_read_pos;
        }
        if (most_bytes > ring->size - used - FIPC_LINK_RESERVE)
            most_bytes = ring->size - used - FIPC_LINK_RESERVE;
        most_items = channel->maxsize - (put_count - channel->seen_get_count);
        if (looked || (run->bytes <= most_bytes && run->items <= most_items))
            break;
        look_at_readers(channel);
        looked = true;
    }
    if (channel->max_bytes != UINT64_MAX)
        most_message_bytes = channel->max_bytes - queued_bytes(channel);
    fipc_run_fit(run, most_bytes, most_items, most_message_bytes);
    put->items = (uint32_t)run->put_items;
    put->bytes = run->put_message_bytes;
}

FIPC_ALWAYS_INLINE void write_record(struct fipc_channel *channel, const struct fipc_put *put,
                                     uint8_t *at, uint64_t pos) {
    fipc_record_write(at, put->head_bytes + put->data_bytes, put->kind, put->tag);
    at += FIPC_RECORD_BYTES;
    if (put->head_bytes != 0)
        memcpy(at, put->head, put->head_bytes);
    memcpy(at + put->head_bytes, put->data, put->data_bytes);
    if (fipc_unlikely(put->block_count != 0)) {
        for (uint32_t i = 0; i < put->block_count; i++)
            /* step put-ordinal: above write_pos until the publish, so still ours. */
            fipc_store_release(O1, &put->blocks[i].shm->ordinal, pos);
        fipc_fetch_add_relaxed(&channel->shm->block_bytes_put, put->bytes - put->data_bytes);
    }
}

static int put_locked(struct fipc_channel *channel, struct fipc_put *put) {
    struct fipc_channel_shm *shm = channel->shm;
    struct fipc_side_copy_shm state = fipc_side_current(&shm->put);
    uint64_t payload = (uint64_t)put->head_bytes + put->data_bytes;
    uint64_t bytes = fipc_record_bytes(payload);
    uint64_t reserve = put->control ? 0 : FIPC_LINK_RESERVE;
    struct room room;
    bool link = false;
    uint8_t *at;
    int rc;

    /* Acquire: what the turn's last owner knew of the ring. */
    if (fipc_unlikely(fipc_load_acquire(T2, &shm->send_turn) != put->turn))
        return -EBUSY;
    if (put->items != 0 && !limits_allow(channel, put, state.count))
        return is_shut(shm) ? -ESHUTDOWN : -EAGAIN;
    if (fipc_unlikely(channel->put_ring.ref != state.ring || state.ring == 0)) {
        rc = fipc_ring_load(channel, &channel->put_ring, state.ring, state.pos);
        if (rc < 0)
            return rc;
    }
    if (fipc_unlikely((state.pos & 7) != 0 || state.pos < channel->put_ring.base_pos))
        return -EBADMSG;
    room = ring_room(channel, state.pos, bytes, reserve);
    if (fipc_unlikely(!room.ok || put->grows_now)) {
        if (is_shut(shm))
            return -ESHUTDOWN;
        look_at_readers(channel);
        room = ring_room(channel, state.pos, bytes, reserve);
        if (!room.ok || put->grows_now) {
            link = put->spare_ring != NULL && !put->spare_used &&
                   put->spare_ring->capacity >= bytes + 2 * FIPC_LINK_RESERVE;
            if (!link) {
                fipc_store_relaxed(&channel->want_log2, next_log2(channel, state.pos));
                if (!channel->grows && (channel->put_ring.size >> channel->max_log2) != 0)
                    return -EAGAIN;
                return -ENOBUFS;
            }
        }
    }
    if (fipc_unlikely(fipc_load_relaxed(&shm->put.flags) != 0)) {
        rc = heed_flags(channel);
        if (rc < 0)
            return rc;
    }
    if (fipc_unlikely(link)) {
        write_link(channel, put, &state);
        room.pad = 0; /* was the old ring's */
    }
    if (fipc_unlikely(put->run != NULL)) {
        fit_run(channel, put, state.pos + room.pad, state.count);
        bytes = put->run->put_bytes;
        if (put->items == 0)
            return -EBADMSG; /* there was room a moment ago */
    }
    at = channel->put_ring.data;
    if (FASTIPC_BREAK_PUBLISH_FIRST) {
        struct fipc_side_copy_shm early = {state.pos + room.pad + bytes, state.count + put->items,
                                           state.ring};
        fipc_side_publish(&shm->put, &early);
    }
    if (fipc_unlikely(room.pad != 0)) {
        uint64_t off = (state.pos - channel->put_ring.base_pos) & (channel->put_ring.size - 1);

        fipc_record_write(at + off, (uint32_t)(room.pad - FIPC_RECORD_BYTES), FIPC_RECORD_PAD, 0);
        state.pos += room.pad;
    }
    at += (state.pos - channel->put_ring.base_pos) & (channel->put_ring.size - 1);
    if (fipc_unlikely(put->run != NULL))
        fipc_fetch_add_relaxed(&shm->block_bytes_put, fipc_run_write(put->run, at, state.pos));
    else
        write_record(channel, put, at, state.pos);
    state.pos += bytes;
    state.count += put->items;
    if (fipc_unlikely(channel->max_bytes != UINT64_MAX)) {
        uint32_t gen = fipc_load_relaxed(&shm->put.gen);

        fipc_store_release(P1, &shm->put_bytes.bytes[(gen + 1) & 1],
                           fipc_load_relaxed(&shm->put_bytes.bytes[gen & 1]) + put->bytes);
    }
    fipc_store_relaxed(&channel->map_failures, 0);
    if (!FASTIPC_BREAK_PUBLISH_FIRST)
        fipc_side_publish(&shm->put, &state); /* step put-publish */
    return 0;
}

int fipc_channel_put(struct fipc_channel *channel, struct fipc_put *put, int64_t deadline_ns) {
    int rc = fipc_channel_enter(channel);

    if (fipc_unlikely(rc < 0))
        return rc;
    rc = fipc_channel_lock_put(channel, deadline_ns);
    if (fipc_unlikely(rc < 0))
        return rc;
    rc = put_locked(channel, put);
    fipc_lock_release(&channel->shm->put.lock);
    if (rc == 0)
        fipc_store_relaxed(&fipc_own_put, channel->key);
    return rc;
}

int fipc_channel_spare(struct fipc_channel *channel, int64_t deadline_ns,
                       struct fipc_block *spare) {
    uint64_t size = UINT64_C(1) << fipc_load_relaxed(&channel->want_log2);

    return fipc_block_alloc(channel->segment, size, FIPC_BLOCK_KIND_RING | channel->index << 1,
                            deadline_ns, spare);
}

/* In a row, between two puts or gets. */
#define MAP_FAILURES_MOST 3

int fipc_channel_map(struct fipc_channel *channel) {
    struct fipc_block block;
    int rc = fipc_block_map(channel->segment, fipc_load_relaxed(&channel->map_block), &block);

    /* Under no lock others may have emptied the ring meanwhile, and given it back: it has no memory,
     * or another's. Who looks again learns of it; in a damaged segment he comes back. */
    if (rc == -ESTALE)
        return 0;
    if (rc == -EBADMSG)
        return fipc_fetch_add_relaxed(&channel->map_failures, 1) < MAP_FAILURES_MOST ? 0 : rc;
    return rc;
}

/* ---- looking ---- */

bool fipc_channel_is_empty(const struct fipc_channel *channel) {
    /* The get side first: it can only have moved towards what is read second. */
    uint64_t read_pos = fipc_side_read_pos(&channel->shm->get);

    return fipc_side_read_pos(&channel->shm->put) == read_pos;
}

void fipc_channel_depth(const struct fipc_channel *channel, uint64_t *items, uint64_t *bytes) {
    const struct fipc_channel_shm *shm = channel->shm;
    struct fipc_side_copy_shm put, get;
    uint32_t put_gen, get_gen;

    /* Both at one moment: neither moved while both were read. */
    do {
        put_gen = fipc_load_acquire(A1, &shm->put.gen);
        get_gen = fipc_load_acquire(A1, &shm->get.gen);
        put = fipc_side_read(&shm->put);
        get = fipc_side_read(&shm->get);
        *bytes = fipc_load_acquire(P2, &shm->put_bytes.bytes[put_gen & 1]) -
                 fipc_load_acquire(P2, &shm->get_bytes.bytes[get_gen & 1]);
    } while (fipc_load_acquire(A1, &shm->put.gen) != put_gen ||
             fipc_load_acquire(A1, &shm->get.gen) != get_gen);
    *items = put.count - get.count;
}

/* ---- the armed doorbell ---- */

int fipc_channel_arm(struct fipc_channel *channel, int ring_fd, int64_t deadline_ns) {
    struct fipc_channel_shm *shm;
    int rc = fipc_channel_enter(channel);

    if (rc < 0)
        return rc;
    shm = channel->shm;
    if (fipc_load_acquire(D2, &shm->put.flags) & FIPC_SIDE_ARMED)
        return 0;
    rc = fipc_channel_lock_put(channel, deadline_ns);
    if (rc < 0)
        return rc;
    if (fipc_load_relaxed(&shm->put.flags) & FIPC_SIDE_SHUT ||
        fipc_side_current(&shm->put).pos != fipc_side_read_pos(&shm->get)) {
        rc = fipc_os_ring(ring_fd);
        if (rc == 0)
            fipc_store_relaxed(&shm->token, 1); /* step arm-token */
    }
    if (rc == 0)
        fipc_store_release(D1, &shm->put.flags,
                           fipc_load_relaxed(&shm->put.flags) |
                               FIPC_SIDE_ARMED); /* step arm-armed */
    fipc_lock_release(&shm->put.lock);
    return rc;
}

int fipc_channel_disarm_if_empty(struct fipc_channel *channel, int64_t deadline_ns) {
    struct fipc_channel_shm *shm = channel->shm;
    int rc = fipc_channel_lock_put(channel, deadline_ns);

    if (rc < 0)
        return rc;
    /* Behind a shutdown it stays readable, so that every selector learns of it. */
    if (!(fipc_load_relaxed(&shm->put.flags) & FIPC_SIDE_SHUT) &&
        fipc_side_current(&shm->put).pos == fipc_side_read_pos(&shm->get)) {
        rc = bell_is_ours(channel, channel->bell_read_fd);
        if (rc == 0) {
            /* step drain-token: first the word; dying in between leaves a byte too
             * many, never one too few. Relaxed: under the lock. */
            fipc_store_relaxed(&shm->token, 0);
            rc = fipc_os_drain(channel->bell_read_fd);
            rc = rc > 0 ? 0 : rc;
        }
    }
    fipc_lock_release(&shm->put.lock);
    return rc;
}
