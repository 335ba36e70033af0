/* stats.c - see stats.h. */
#include "stats.h"

#include "slots.h"

/* What the slots know of: what the living took and what reached the callers of the dead.
 * The rest of what was got is lost. Nobody sums it up, so nothing is counted twice, and
 * who dies between counting and the publish has lost nothing. */
static void look_at_slots(const struct fipc_segment *segment, uint32_t index,
                          struct fipc_stats *stats, uint64_t *known) {
    uint32_t high = fipc_load_relaxed(&segment->header->slot_high);

    *known = stats->getters = stats->putters = 0;
    for (uint32_t i = 0; i < high && i < FIPC_SLOT_COUNT; i++) {
        const struct fipc_slot_shm *slot = &segment->slots[i];
        bool lives = fipc_load_acquire(E2, &slot->state) == FIPC_SLOT_USED;

        *known += fipc_load_relaxed(lives || FASTIPC_BREAK_NO_LOSS ? &slot->taken[index]
                                                                   : &slot->given[index]);
        if (!lives)
            continue;
        stats->getters += fipc_load_relaxed(&slot->getters[index]);
        stats->putters += fipc_load_relaxed(&slot->putters[index]);
    }
}

static uint64_t above_zero(uint64_t difference) { return (int64_t)difference > 0 ? difference : 0; }

int fipc_channel_stats(struct fipc_channel *channel, struct fipc_stats *stats,
                       int64_t deadline_ns) {
    struct fipc_side_copy_shm put, get;
    struct fipc_channel_shm *shm;
    uint64_t known, got;
    int rc = fipc_channel_enter(channel), locked;

    if (rc < 0)
        return rc;
    shm = channel->shm;
    /* From here on a slot in use has an owner that lives. */
    (void)fipc_slots_reap(channel->segment);
    locked = fipc_channel_lock_get(channel, deadline_ns);
    if (locked < 0 && locked != -ETIMEDOUT)
        return locked;
    get = fipc_side_read(&shm->get);
    put = fipc_side_read(&shm->put);
    look_at_slots(channel->segment, channel->index, stats, &known);
    got = fipc_side_is_shut(&shm->get) ? fipc_load_relaxed(&shm->drain_from) : get.count;
    if (locked == 0)
        fipc_lock_release(&shm->get.lock);

    stats->puts = put.count;
    stats->gets = got;
    stats->lost = above_zero(got - known);
    stats->bytes_put = put.pos - FIPC_POS_FIRST + fipc_load_relaxed(&shm->block_bytes_put);
    stats->bytes_got = get.pos - FIPC_POS_FIRST + fipc_load_relaxed(&shm->block_bytes_got);
    stats->items = stats->bytes = 0;
    if (!fipc_side_is_shut(&shm->get)) {
        stats->items = above_zero(put.count - get.count);
        stats->bytes = above_zero(stats->bytes_put - stats->bytes_got);
    }
    stats->items_high = fipc_raise(&shm->items_high, stats->items);
    stats->bytes_high = fipc_raise(&shm->bytes_high, stats->bytes);
    stats->recoveries = fipc_load_relaxed(&shm->recoveries);
    stats->late_wakes = fipc_load_relaxed(&shm->late_wakes);
    stats->last_dead_pid = fipc_load_relaxed(&channel->segment->header->last_dead_pid);
    return 0;
}
