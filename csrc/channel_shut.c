/* channel_shut.c - the end of a channel, of channel.h: shutting its sides, and freeing
 * what was given up. Who is woken, and when, is queue_shut.c's. */
#include <string.h>

#include "channel.h"
#include "record.h"

/* Under the side's lock. D1, pairs with D2 in fipc_side_is_shut() behind a sleeper's mark: the
 * sleeper sees the flag, or who shuts sees the mark. Release: what was published before. */
static void set_shut(struct fipc_side_shm *side) {
    (void)fipc_exchange32_seqcst(D1, &side->flags,
                                 fipc_load_relaxed(&side->flags) | FIPC_SIDE_SHUT);
}

int fipc_channel_shut_put(struct fipc_channel *channel, int64_t deadline_ns) {
    struct fipc_channel_shm *shm = channel->shm;
    int rc = fipc_channel_enter(channel);

    if (rc < 0 || fipc_side_is_shut(&shm->put))
        return rc;
    rc = fipc_channel_lock_put(channel, deadline_ns);
    if (rc < 0)
        return rc;
    if (fipc_load_relaxed(&shm->put.flags) & FIPC_SIDE_ARMED && fipc_load_relaxed(&shm->token) == 0)
        rc = fipc_channel_ring(channel);
    if (rc == 0) {
        if (fipc_load_relaxed(&shm->put.flags) & FIPC_SIDE_ARMED)
            fipc_store_relaxed(&shm->token, 1); /* step put-token: as for a record */
        set_shut(&shm->put);                    /* step shut-put */
    }
    fipc_lock_release(&shm->put.lock);
    return rc;
}

int fipc_channel_shut_get(struct fipc_channel *channel, int64_t deadline_ns) {
    struct fipc_channel_shm *shm = channel->shm;
    int rc = fipc_channel_enter(channel);

    if (rc < 0 || fipc_side_is_shut(&shm->get))
        return rc;
    rc = fipc_channel_lock_get(channel, deadline_ns);
    if (rc < 0)
        return rc;
    if (!fipc_side_is_shut(&shm->get)) {
        /* step shut-from: means nothing before the flag. */
        fipc_store_relaxed(&shm->drain_from, fipc_side_current(&shm->get).count);
        set_shut(&shm->get); /* step shut-get */
    }
    fipc_lock_release(&shm->get.lock);
    return 0;
}

/* What one step of the draining leaves to be released after the unlock. */
struct discarded {
    struct fipc_block ring;
    struct fipc_block block[FIPC_REFS_MAX];
    uint32_t block_count;
};

static int own_blocks(struct fipc_channel *channel, const uint8_t *payload, uint32_t length,
                      struct discarded *discarded) {
    struct fipc_block_ref_shm ref;
    uint64_t bytes = 0;
    uint32_t refs;

    if (length < sizeof(ref))
        return -EBADMSG;
    memcpy(&ref, payload, sizeof(ref));
    refs = ref.refs;
    if (refs == 0 || refs > FIPC_REFS_MAX || refs * sizeof(ref) > length)
        return -EBADMSG;
    for (uint32_t i = 0; i < refs; i++) {
        int rc;

        memcpy(&ref, payload + i * sizeof(ref), sizeof(ref));
        bytes += ref.size_bytes;
        rc = fipc_block_find(channel->segment, ref.block, &discarded->block[i]);
        if (rc < 0) {
            fipc_store_relaxed(&channel->map_block, ref.block);
            return rc;
        }
        if (fipc_block_kind(discarded->block[i].shm) != FIPC_BLOCK_KIND_DATA)
            return -EBADMSG;
    }
    for (uint32_t i = 0; i < refs; i++)
        /* step get-owner: the queue's all the same until the publish. */
        fipc_store_release(H1, &discarded->block[i].shm->owner, channel->segment->owner);
    fipc_fetch_add_relaxed(&channel->shm->block_bytes_got, bytes);
    discarded->block_count = refs;
    return 0;
}

static int discard_locked(struct fipc_channel *channel, struct discarded *discarded) {
    struct fipc_side_copy_shm state;
    struct fipc_record_shm header;
    const uint8_t *payload;
    int rc;

    if (!fipc_side_is_shut(&channel->shm->get))
        return -EAGAIN;
    rc = fipc_channel_peek(channel, &state, &header, &payload);
    if (rc == 0 && header.kind == FIPC_RECORD_BLOCK)
        rc = own_blocks(channel, payload, header.length, discarded);
    if (rc == 0)
        rc = fipc_channel_advance(channel, &state, &header, 1, 0, &discarded->ring);
    return rc;
}

int fipc_channel_discard(struct fipc_channel *channel, int64_t deadline_ns) {
    struct discarded discarded;
    int rc = fipc_channel_enter(channel);

    if (rc < 0)
        return rc;
    discarded.ring.shm = NULL;
    discarded.block_count = 0;
    rc = fipc_channel_lock_get(channel, deadline_ns);
    if (rc < 0)
        return rc;
    rc = discard_locked(channel, &discarded);
    fipc_lock_release(&channel->shm->get.lock);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < discarded.block_count; i++)
        fipc_block_release(channel->segment, &discarded.block[i]);
    if (discarded.ring.shm != NULL)
        fipc_block_release(channel->segment, &discarded.ring);
    return 0;
}
