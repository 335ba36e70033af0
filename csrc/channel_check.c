/* channel_check.c - the checker of channel.h's census: for tests and the crash
 * tool, never on a path that users take. */
#include <string.h>

#include "channel.h"

/* Counts one record that stands at `pos`. */
static int count_record(struct fipc_channel *channel, uint64_t pos,
                        const struct fipc_record_shm *header, const uint8_t *payload,
                        struct fipc_channel_census *census) {
    struct fipc_block_ref_shm ref;
    struct fipc_block block;
    uint32_t refs;
    int rc;

    census->records++;
    if (header->kind == FIPC_RECORD_INLINE || header->kind == FIPC_RECORD_LAST)
        census->items++;
    if (header->kind != FIPC_RECORD_BLOCK)
        return 0;
    census->items++;
    if (header->length < sizeof(ref))
        return -EBADMSG;
    memcpy(&ref, payload, sizeof(ref));
    refs = ref.refs;
    if (refs == 0 || refs > FIPC_REFS_MAX || refs * sizeof(ref) > header->length)
        return -EBADMSG;
    for (uint32_t i = 0; i < refs; i++) {
        memcpy(&ref, payload + i * sizeof(ref), sizeof(ref));
        rc = fipc_block_map(channel->segment, ref.block, &block);
        if (rc < 0)
            return rc;
        if (ref.refs != refs || fipc_load_acquire(O2, &block.shm->ordinal) != pos)
            return -EBADMSG;
        census->blocks++;
    }
    return 0;
}

static int walk(struct fipc_channel *channel, struct fipc_channel_census *census) {
    struct fipc_side_shm *get = &channel->shm->get;
    struct fipc_side_copy_shm put_state = fipc_side_current(&channel->shm->put);
    struct fipc_side_copy_shm state = fipc_side_current(get), at;
    struct fipc_record_shm header;
    struct fipc_block block;
    const uint8_t *payload;
    int rc;

    rc = fipc_block_map(channel->segment, FIPC_RING_REF_BLOCK(put_state.ring), &block);
    if (rc < 0)
        return rc;
    census->ring_bytes = block.capacity;
    for (;;) {
        rc = fipc_channel_peek_at(channel, &state, &at, &header, &payload);
        if (rc == -ESTALE) {
            rc = fipc_channel_map(channel);
            if (rc < 0)
                return rc;
            continue;
        }
        if (rc == -EAGAIN)
            break;
        if (rc < 0)
            return rc;
        rc = count_record(channel, at.pos, &header, payload, census);
        if (rc < 0)
            return rc;
        state = at;
        state.pos += fipc_align_up(FIPC_RECORD_BYTES + (uint64_t)header.length, 8);
    }
    if (state.pos != put_state.pos || state.ring != put_state.ring)
        return -EBADMSG;
    return put_state.count - fipc_side_current(get).count == census->items ? 0 : -EBADMSG;
}

int fipc_channel_check(struct fipc_channel *channel, struct fipc_channel_census *census) {
    int64_t deadline_ns = fipc_os_now_ns() + 2000 * FIPC_NS_PER_MS;
    int rc = fipc_channel_enter(channel);

    memset(census, 0, sizeof(*census));
    if (rc < 0)
        return rc;
    rc = fipc_channel_lock_get(channel, deadline_ns);
    if (rc < 0)
        return rc;
    rc = fipc_channel_lock_put(channel, deadline_ns);
    if (rc < 0)
        goto out_get;
    channel->seen_write_pos = fipc_side_current(&channel->shm->put).pos;
    channel->seen_from_pos = fipc_side_current(&channel->shm->get).pos;
    rc = walk(channel, census);
    /* The walk's look is no consumer's. */
    channel->get_ring.ref = 0;
    channel->seen_write_pos = 0;
    fipc_lock_release(&channel->shm->put.lock);
out_get:
    fipc_lock_release(&channel->shm->get.lock);
    return rc;
}
