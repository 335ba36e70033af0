/* channel_get.c - the get side of channel.h: finding the next record, taking it and the blocks
 * that it names. */
#include <string.h>

#include "channel_internal.h"
#include "record.h"

int fipc_channel_peek(struct fipc_channel *channel, struct fipc_side_copy_shm *state,
                      struct fipc_record_shm *header, const uint8_t **payload) {
    struct fipc_side_copy_shm current = fipc_side_current(&channel->shm->get);

    return fipc_channel_peek_at(channel, &current, state, header, payload);
}

int fipc_channel_peek_at(struct fipc_channel *channel, const struct fipc_side_copy_shm *from,
                         struct fipc_side_copy_shm *state, struct fipc_record_shm *header,
                         const uint8_t **payload) {
    struct fipc_ring *ring = &channel->get_ring;
    bool linked = false;
    int rc;

    *state = *from;
    if (channel->seen_write_pos <= state->pos) {
        /* Not *state: who looks ahead comes back to what is before it. */
        struct fipc_side_copy_shm get = fipc_side_current(&channel->shm->get);

        fipc_channel_look_at_producers(channel, &get, true);
        if (channel->seen_write_pos <= state->pos)
            return channel->seen_write_pos == state->pos ? -EAGAIN : -EBADMSG;
    }
    for (;;) {
        uint64_t off, first;
        const uint8_t *at;

        if (fipc_unlikely(ring->ref != state->ring || state->ring == 0)) {
            rc = fipc_ring_load(channel, ring, state->ring, state->pos);
            if (rc < 0)
                return rc;
            if (linked && ring->base_pos != state->pos) {
                ring->ref = 0; /* not the ring that was linked here */
                return -EBADMSG;
            }
        }
        first = channel->seen_from_pos > ring->base_pos ? channel->seen_from_pos : ring->base_pos;
        off = (state->pos - ring->base_pos) & (ring->size - 1);
        /* What one look saw of a ring is no more than that holds: so a damaged write_pos does not
         * lead around it for ever. */
        if (fipc_unlikely((off & 7) ||
                          (state->pos - first >= ring->size && !FASTIPC_BREAK_RING_BOUND)))
            return -EBADMSG;
        at = ring->data + off;
        *header = fipc_record_read(at);
        if (!FASTIPC_BREAK_RECORD_LENGTH &&
            fipc_unlikely(header->length > ring->size - off - FIPC_RECORD_BYTES ||
                          fipc_record_bytes(header->length) > channel->seen_write_pos - state->pos))
            return -EBADMSG;
        *payload = at + FIPC_RECORD_BYTES;
        if (fipc_unlikely(header->kind == FIPC_RECORD_PAD)) {
            state->pos += fipc_record_bytes(header->length);
        } else if (fipc_unlikely(header->kind == FIPC_RECORD_LINK)) {
            if (header->length != 8)
                return -EBADMSG;
            state->ring = fipc_load_relaxed((const uint64_t *)(const void *)*payload);
            state->pos += fipc_record_bytes(8);
            linked = true;
            /* The link counts up, so damage cannot make this loop for ever. */
            if (FIPC_RING_REF_LINK(state->ring) != FIPC_RING_REF_LINK(ring->ref) + 1)
                return -EBADMSG;
        } else {
            return 0;
        }
        /* A pad or link is always published together with a record behind it. */
        if (state->pos >= channel->seen_write_pos)
            return -EBADMSG;
    }
}

/* One of the references that a record begins with, checked. */
static int find_ref(const struct fipc_channel *channel, const uint8_t *payload, uint32_t index,
                    struct fipc_block_ref_shm *ref, struct fipc_block *block) {
    int rc;

    memcpy(ref, payload + index * sizeof(*ref), sizeof(*ref));
    rc = fipc_block_find(channel->segment, ref->block, block);
    if (rc < 0)
        return rc;
    if (ref->size_bytes > block->populated || fipc_block_kind(block->shm) != FIPC_BLOCK_KIND_DATA)
        return -EBADMSG;
    return 0;
}

int fipc_channel_read_refs(struct fipc_channel *channel, struct fipc_got *got) {
    const uint8_t *payload = got->buffer;
    struct fipc_block_ref_shm ref;
    struct fipc_block block;
    uint32_t refs;
    uint64_t total;

    if (got->length < sizeof(ref))
        return -EBADMSG;
    memcpy(&ref, payload, sizeof(ref));
    refs = ref.refs;
    if (refs == 0 || refs > FIPC_REFS_MAX || refs * sizeof(ref) > got->length)
        return -EBADMSG;
    total = got->length - refs * sizeof(ref);
    for (uint32_t i = refs; i-- > 0;) {
        int rc = find_ref(channel, payload, i, &ref, &block);

        if (rc < 0) {
            fipc_store_relaxed(&channel->map_block, ref.block);
            return rc;
        }
        total += ref.size_bytes;
        if (i == 0)
            got->block = block;
    }
    got->block_count = refs;
    got->size_bytes = total;
    return 0;
}

int fipc_channel_own_refs(struct fipc_channel *channel, const struct fipc_got *got) {
    struct fipc_block_ref_shm ref;
    struct fipc_block block;

    fipc_store_relaxed(&channel->segment->may_own, true);
    for (uint32_t i = 0; i < got->block_count; i++) {
        memcpy(&ref, (const uint8_t *)got->buffer + i * sizeof(ref), sizeof(ref));
        if (fipc_block_find(channel->segment, ref.block, &block) < 0)
            return -EBADMSG;
        /* step get-owner: the queue's all the same until the publish moves read_pos. H1, pairs
         * with H2 in sweep_group(): who sees the word sees positions as new as ours. */
        fipc_store_release(H1, &block.shm->owner, channel->segment->owner);
    }
    return 0;
}

int fipc_channel_got_block(const struct fipc_channel *channel, const struct fipc_got *got,
                           uint32_t index, struct fipc_block *block, uint64_t *size_bytes) {
    struct fipc_block_ref_shm ref;
    int rc;

    if (index >= got->block_count)
        return -EBADMSG;
    rc = find_ref(channel, got->buffer, index, &ref, block);
    if (rc < 0)
        return -EBADMSG;
    *size_bytes = ref.size_bytes;
    return 0;
}

int fipc_channel_hold_drained(struct fipc_channel *channel, uint64_t old_ref,
                              struct fipc_block *drained) {
    int rc = fipc_block_find(channel->segment, FIPC_RING_REF_BLOCK(old_ref), drained);

    if (rc < 0) {
        fipc_store_relaxed(&channel->map_block, FIPC_RING_REF_BLOCK(old_ref));
        return rc;
    }
    /* step get-ring-owner: the queue's all the same until the publish. */
    fipc_store_release(H1, &drained->shm->owner, channel->segment->owner);
    return 0;
}

void fipc_channel_silence_if_empty(struct fipc_channel *channel, uint64_t read_pos) {
    struct fipc_channel_shm *shm = channel->shm;
    int rc;

    if (fipc_likely(!(fipc_load_relaxed(&shm->put.flags) & FIPC_SIDE_ARMED)) ||
        fipc_side_read_pos(&shm->put) != read_pos)
        return;
    /* Bounded: behind a stopped producer the doorbell stays readable, and the next who
     * finds nothing silences it. */
    rc = fipc_channel_disarm_if_empty(channel, fipc_os_now_ns() + 100 * FIPC_NS_PER_MS);
    (void)rc;
}

/* The record that a peek found, and its blocks: ours once that is published. */
FIPC_ALWAYS_INLINE int take_record(struct fipc_channel *channel, struct fipc_got *got,
                                   const struct fipc_record_shm *header, const uint8_t *payload) {
    got->length = header->length;
    got->kind = header->kind;
    got->tag = header->tag;
    got->size_bytes = header->length;
    got->block_count = 0;
    if (fipc_unlikely(header->length > got->buffer_bytes))
        return -EMSGSIZE;
    memcpy(got->buffer, payload, header->length);
    if (fipc_unlikely(header->kind == FIPC_RECORD_BLOCK)) {
        int rc = fipc_channel_read_refs(channel, got);

        if (rc == 0)
            rc = fipc_channel_own_refs(channel, got);
        if (rc < 0)
            return rc;
        fipc_block_expect(channel->segment, &got->block);
        fipc_fetch_add_relaxed(&channel->shm->block_bytes_got, fipc_got_block_bytes(got));
        return 0;
    }
    return fipc_likely(header->kind == FIPC_RECORD_INLINE) ? 0 : -EBADMSG;
}

/* One record into *got or, unless `many` is NULL, those that are there into *many. */
FIPC_ALWAYS_INLINE int get_locked(struct fipc_channel *channel, struct fipc_got *got,
                                  struct fipc_many *many, struct fipc_block *drained) {
    struct fipc_channel_shm *shm = channel->shm;
    uint64_t old_ref = fipc_load_relaxed(&shm->get.copy[fipc_load_relaxed(&shm->get.gen) & 1].ring);
    struct fipc_side_copy_shm state;
    struct fipc_record_shm header;
    const uint8_t *payload;
    int rc;

    if (fipc_unlikely(fipc_load_relaxed(&shm->get.flags) & FIPC_SIDE_SHUT))
        return -ESHUTDOWN;
    rc = fipc_channel_peek(channel, &state, &header, &payload);
    if (rc < 0)
        return rc;
    rc = many != NULL ? fipc_many_take(channel, many, &state, payload)
                      : take_record(channel, got, &header, payload);
    if (fipc_unlikely(rc < 0))
        return rc;
    if (fipc_unlikely(state.ring != old_ref)) {
        rc = fipc_channel_hold_drained(channel, old_ref, drained);
        if (rc < 0)
            return rc;
    }
    state.pos += many != NULL ? many->bytes : fipc_record_bytes(header.length);
    state.count += many != NULL ? many->items : 1;
    fipc_channel_count_taken(channel, many != NULL ? many->items : 1);
    if (fipc_unlikely(channel->max_bytes != UINT64_MAX)) {
        uint32_t gen = fipc_load_relaxed(&shm->get.gen);

        fipc_store_release(P1, &shm->get_bytes.bytes[(gen + 1) & 1],
                           fipc_load_relaxed(&shm->get_bytes.bytes[gen & 1]) +
                               (many != NULL ? many->size_bytes : got->size_bytes));
    }
    fipc_store_relaxed(&channel->map_failures, 0);
    fipc_side_publish(&shm->get, &state); /* step get-publish */
    fipc_channel_silence_if_empty(channel, state.pos);
    return 0;
}

FIPC_ALWAYS_INLINE int get_either(struct fipc_channel *channel, struct fipc_got *got,
                                  struct fipc_many *many, int64_t deadline_ns) {
    struct fipc_block drained = {0};
    int rc = fipc_channel_enter(channel);

    if (fipc_unlikely(rc < 0))
        return rc;
    rc = fipc_channel_lock_get(channel, deadline_ns);
    if (fipc_unlikely(rc < 0))
        return rc;
    rc = get_locked(channel, got, many, &drained);
    fipc_lock_release(&channel->shm->get.lock);
    if (fipc_unlikely(drained.shm != NULL) && rc == 0)
        fipc_block_release(channel->segment, &drained);
    return rc;
}

int fipc_channel_get(struct fipc_channel *channel, struct fipc_got *got, int64_t deadline_ns) {
    return get_either(channel, got, NULL, deadline_ns);
}

int fipc_channel_get_many(struct fipc_channel *channel, struct fipc_many *many,
                          int64_t deadline_ns) {
    int rc;

    many->bytes = many->items = many->at = many->items_read = 0;
    rc = get_either(channel, NULL, many, deadline_ns);
    if (rc < 0)
        many->bytes = many->items = 0; /* not published */
    return rc;
}
