/* arena_sweep.c - what the arena does off the hot path: sweep what the dead owned,
 * rebuild hints, give memory back, check that every block has one owner. */
#include "arena_internal.h"
#include "lock.h"
#include "slots.h"

/* ---- who owns a block ---- */

/* The first position of the ring that the get side reads. */
static uint64_t get_base(const struct fipc_segment *segment, uint32_t channel) {
    const struct fipc_side_shm *get = &fipc_segment_channel(segment, channel)->get;
    struct fipc_group_shm *group;

    for (;;) {
        uint64_t ring = fipc_side_read(get).ring, base;
        uint32_t id = FIPC_RING_REF_BLOCK(ring);

        if (fipc_group_find(segment, FIPC_BLOCK_GROUP(id), &group) < 0 ||
            FIPC_BLOCK_INDEX(id) >= FIPC_GROUP_BLOCKS)
            return 0; /* nothing is drained then: keeps, never frees, too much */
        base = fipc_load_acquire(O2, &group->block[FIPC_BLOCK_INDEX(id)].ordinal);
        /* The same ring still: so its block was not given back in between. */
        if (fipc_side_read(get).ring == ring)
            return base;
    }
}

/* Is the block with this kind and ordinal the queue's, whatever its owner word says?
 * Read the word before the ordinal, and the ordinal before calling. */
static bool is_queued(const struct fipc_segment *segment, uint32_t kind, uint64_t ordinal) {
    uint32_t channel = kind >> 1;
    const struct fipc_channel_shm *shm;
    uint64_t write_pos;

    if (channel > 1 || ordinal == 0)
        return false;
    shm = fipc_segment_channel(segment, channel);
    write_pos = fipc_side_read_pos(&shm->put);
    if (kind & FIPC_BLOCK_KIND_RING)
        return ordinal <= write_pos && ordinal >= get_base(segment, channel);
    return ordinal < write_pos && ordinal >= fipc_side_read_pos(&shm->get);
}

/* ---- sweeping ---- */

struct recount {
    int32_t free_blocks[FIPC_CLASS_COUNT];
    uint64_t free_bytes[FIPC_CLASS_COUNT];
};

/* Frees a block of a dead owner, unless it is the queue's: true when it is free now. */
static bool sweep_block(struct fipc_segment *segment, struct fipc_block_shm *shm, uint64_t dead) {
    uint64_t place = fipc_load_relaxed(&shm->place), ordinal, populated;
    uint32_t size_class = (uint32_t)(place & FIPC_BLOCK_LOW_MASK);

    for (;;) {
        ordinal = fipc_load_acquire(O2, &shm->ordinal); /* O2, before the positions */
        if (!is_queued(segment, fipc_block_kind(shm), ordinal))
            break;
        /* Still the same: not one that was taken back (fipc_arena_repair_put) before
         * write_pos passed it. */
        if (fipc_load_acquire(O2, &shm->ordinal) == ordinal)
            return false;
    }
    /* It may have died between reserving memory and counting it, or between ceasing to
     * count it and giving it back. Still its word: nobody else takes the block. */
    populated = fipc_load_relaxed(&shm->populated) & ~FIPC_BLOCK_LOW_MASK;
    if (size_class <= FIPC_CLASS_MAX && populated < UINT64_C(1) << size_class &&
        fipc_segment_fd_is_ours(segment) == 0)
        (void)fipc_os_punch(segment->fd, (place & ~FIPC_BLOCK_LOW_MASK) + populated,
                            (UINT64_C(1) << size_class) - populated);
    return fipc_cas64_seqcst(B2, &shm->owner, dead, 0); /* step sweep-free */
}

static void sweep_group(struct fipc_segment *segment, struct fipc_group_shm *group, uint64_t dead,
                        struct recount *recount) {
    uint32_t used = fipc_group_used(group);
    uint32_t size_class = fipc_load_relaxed(&group->size_class);

    for (uint32_t index = 0; index < used; index++) {
        struct fipc_block_shm *shm = &group->block[index];
        uint64_t owner = fipc_load_acquire(H2, &shm->owner); /* H2, before the ordinal */

        if (owner == 0 || (owner == dead && sweep_block(segment, shm, dead))) {
            fipc_fetch_or_release(B2, &group->free_hint[index >> 6], UINT64_C(1) << (index & 63));
            if (!fipc_class_is_valid(size_class))
                continue;
            recount->free_blocks[size_class - FIPC_CLASS_MIN]++;
            recount->free_bytes[size_class - FIPC_CLASS_MIN] +=
                fipc_load_relaxed(&shm->populated) & ~FIPC_BLOCK_LOW_MASK;
        }
    }
}

int fipc_arena_sweep(struct fipc_segment *segment, uint32_t slot, uint32_t gen) {
    struct recount recount = {0};
    uint32_t groups = fipc_group_count(segment);
    struct fipc_group_shm *group;

    /* All of them first: who owns a ring is derived from the ring that is read now. */
    for (uint32_t number = 0; number < groups; number++) {
        int rc = fipc_group_map(segment, number, &group);

        if (rc == -ENOMEM || rc == -EBADF)
            return rc;
    }
    for (uint32_t number = 0; number < groups; number++)
        if (fipc_group_map(segment, number, &group) == 0)
            sweep_group(segment, group, FIPC_OWNER(slot, gen), &recount);
    for (uint32_t i = 0; i < FIPC_CLASS_COUNT; i++) {
        struct fipc_class_shm *class = &segment->arena->classes[i];

        fipc_store_relaxed(&class->free_blocks, recount.free_blocks[i]);
        fipc_store_relaxed(&class->free_bytes, recount.free_bytes[i]);
    }
    fipc_arena_note_free(segment, fipc_arena_free_bytes(segment));
    return 0;
}

void fipc_arena_repair_put(struct fipc_segment *segment, uint32_t channel) {
    uint64_t write_pos = fipc_side_current(&fipc_segment_channel(segment, channel)->put).pos;
    uint32_t groups = fipc_group_count(segment);
    struct fipc_group_shm *group;

    for (uint32_t number = 0; number < groups; number++) {
        /* A chunk that is not mapped here holds only blocks that others gave
         * ordinals to; map it, under the lock, since this is rare and must be
         * complete. */
        if (fipc_group_map(segment, number, &group) < 0)
            continue;
        for (uint32_t index = 0; index < fipc_group_used(group); index++) {
            struct fipc_block_shm *shm = &group->block[index];
            uint32_t kind = fipc_block_kind(shm);
            uint64_t ordinal = fipc_load_acquire(O2, &shm->ordinal);

            if (kind >> 1 != channel)
                continue;
            if (ordinal > write_pos || (ordinal == write_pos && !(kind & FIPC_BLOCK_KIND_RING)))
                fipc_store_release(O1, &shm->ordinal, 0); /* step repair-ordinal */
        }
    }
}

/* ---- giving memory back ---- */

/* Under the arena lock, or by one who holds all of the group's blocks: makes its
 * number usable again and gives its page back. The only system call under a lock:
 * rare, and a page must not be wiped once it is in use again. */
static void wipe_group(struct fipc_segment *segment, uint32_t number) {
    struct fipc_arena_shm *arena = segment->arena;
    uint32_t *dir = fipc_group_dir(segment, number);
    uint32_t page = fipc_load_relaxed(dir) & ~FIPC_GROUP_RETIRED;

    for (uint32_t i = 0; i < FIPC_CLASS_COUNT; i++)
        if (fipc_load_relaxed(&arena->tail[i]) == number + 1)
            fipc_store_relaxed(&arena->tail[i], 0);
    fipc_store_release(G1, dir, page | FIPC_GROUP_RETIRED); /* step retire-dir */
    if (page != 0 && fipc_segment_fd_is_ours(segment) == 0)
        (void)fipc_os_punch(segment->fd, (uint64_t)page * FIPC_PAGE, FIPC_PAGE);
    fipc_fetch_add_relaxed(&arena->groups_retired, 1);
}

/* Under the arena lock: gives a group's page back if all its blocks are free and
 * have no memory. */
static void retire_group(struct fipc_segment *segment, uint32_t number) {
    struct fipc_group_shm *group;
    uint32_t used, held = 0;
    uint32_t size_class;

    if (fipc_group_find(segment, number, &group) < 0)
        return;
    used = fipc_group_used(group);
    size_class = fipc_load_relaxed(&group->size_class);
    if (!fipc_class_is_valid(size_class))
        return;
    for (; held < used; held++) {
        if (!fipc_cas64_seqcst(B1, &group->block[held].owner, 0, segment->owner))
            break;
        if ((fipc_load_relaxed(&group->block[held].populated) & ~FIPC_BLOCK_LOW_MASK) != 0) {
            held++;
            break;
        }
    }
    if (held == used && used > 0 &&
        (fipc_load_relaxed(&group->block[held - 1].populated) & ~FIPC_BLOCK_LOW_MASK) == 0) {
        /* step retire-used: from here on nobody can take a block of it (take_block looks
         * at `used` after its swap). */
        (void)fipc_exchange32_seqcst(U1, &group->used, 0);
        fipc_fetch_add_relaxed(&fipc_class(segment, size_class)->free_blocks, -(int32_t)used);
        wipe_group(segment, number);
        return;
    }
    while (held > 0) {
        held--;
        fipc_store_release(B2, &group->block[held].owner, 0);
        /* Who met it in our hands has cleared its bit. */
        fipc_fetch_or_release(B2, &group->free_hint[held >> 6], UINT64_C(1) << (held & 63));
    }
}

static bool is_tail(const struct fipc_segment *segment, uint32_t size_class, uint32_t number) {
    return fipc_class_is_valid(size_class) &&
           fipc_load_relaxed(fipc_class_tail(segment, size_class)) == number + 1;
}

void fipc_arena_repair_space(struct fipc_segment *segment) {
    uint32_t groups = fipc_group_count(segment), retired = 0;
    uint64_t end = fipc_side_current(&segment->arena->state).pos;
    struct fipc_group_shm *group;

    /* The page of a group that the dead one had reserved, and not put in force: behind the end of
     * the space nothing else has memory. */
    if (end >= FIPC_OFF_SPACE && end <= FIPC_SPACE_MAX)
        (void)fipc_os_punch(segment->fd, fipc_align_up(end, FIPC_PAGE), FIPC_PAGE);
    for (uint32_t number = 0; number < groups; number++) {
        int rc = fipc_group_map(segment, number, &group);

        if (rc == 0 && fipc_group_used(group) == 0 &&
            !is_tail(segment, fipc_load_relaxed(&group->size_class), number))
            wipe_group(segment, number);
        if (rc == -ENOENT ||
            (fipc_load_relaxed(fipc_group_dir(segment, number)) & FIPC_GROUP_RETIRED))
            retired++;
    }
    fipc_store_relaxed(&segment->arena->groups_retired, retired);
}

/* Punches free blocks of the group, until little enough is left. */
static void trim_group(struct fipc_segment *segment, struct fipc_group_shm *group) {
    uint32_t size_class = fipc_load_relaxed(&group->size_class);

    if (!fipc_class_is_valid(size_class))
        return;
    for (uint32_t index = 0; index < fipc_group_used(group); index++) {
        struct fipc_block_shm *shm = &group->block[index];
        uint64_t populated;

        if ((fipc_load_relaxed(&shm->populated) & ~FIPC_BLOCK_LOW_MASK) == 0)
            continue;
        if (fipc_arena_free_bytes(segment) <= FIPC_FREE_KEEP_BYTES)
            return;
        if (!fipc_cas64_seqcst(B1, &shm->owner, 0, segment->owner))
            continue;
        populated = fipc_load_relaxed(&shm->populated) & ~FIPC_BLOCK_LOW_MASK;
        if (index < fipc_load_seqcst(U2, &group->used) && populated != 0) {
            fipc_store_relaxed(&shm->populated, 0);
            (void)fipc_os_punch(segment->fd, fipc_load_relaxed(&shm->place) & ~FIPC_BLOCK_LOW_MASK,
                                populated);
            fipc_fetch_add_relaxed(&fipc_class(segment, size_class)->free_bytes, -populated);
        }
        fipc_store_release(B2, &shm->owner, 0);
        fipc_fetch_or_release(B2, &group->free_hint[index >> 6], UINT64_C(1) << (index & 63));
    }
}

static void trim_all(struct fipc_segment *segment) {
    struct fipc_side_shm *state = &segment->arena->state;
    uint32_t groups = fipc_group_count(segment);
    struct fipc_group_shm *group;

    for (uint32_t number = 0; number < groups; number++)
        if (fipc_group_map(segment, number, &group) == 0)
            trim_group(segment, group);
    /* A few pages of descriptors are worth keeping; thousands are not. */
    if (groups <= FIPC_GROUP_INLINE || fipc_lock_try(segment, &state->lock) < 0)
        return;
    for (uint32_t number = 1; number < groups; number++)
        retire_group(segment, number);
    fipc_lock_release(&state->lock);
}

/* Moves on with whatever travels in blocks, and with each ring that is linked. */
static uint64_t traffic_of(const struct fipc_segment *segment) {
    uint64_t traffic = 0;

    for (uint32_t i = 0; i < 2; i++) {
        const struct fipc_channel_shm *shm = fipc_segment_channel(segment, i);

        traffic += fipc_load_relaxed(&shm->block_bytes_put) + fipc_side_read(&shm->put).ring;
    }
    return traffic;
}

void fipc_arena_trim_slow(struct fipc_segment *segment) {
    uint64_t traffic = traffic_of(segment);
    int64_t now_ns = fipc_os_coarse_now_ns();

    /* A forked child that did nothing yet still has its parent's owner word. */
    if (!fipc_token_is_current(fipc_load_relaxed(&segment->fork_token)))
        return;
    if (traffic != fipc_load_relaxed(&segment->trim_traffic) ||
        fipc_load_relaxed(&segment->trim_since_ns) == 0) {
        fipc_store_relaxed(&segment->trim_traffic, traffic);
        fipc_store_relaxed(&segment->trim_since_ns, now_ns);
        return;
    }
    if (now_ns - fipc_load_relaxed(&segment->trim_since_ns) < TRIM_REST_NS)
        return;
    fipc_arena_trim_now(segment);
}

void fipc_arena_trim_now(struct fipc_segment *segment) {
    fipc_store_relaxed(&segment->arena->warm_bytes, 0);
    fipc_store_relaxed(&segment->arena->given_back, 0);
    fipc_store_relaxed(&segment->arena->trim_due, 0);
    if (fipc_segment_fd_is_ours(segment) == 0)
        trim_all(segment);
}

/* ---- checking ---- */

int fipc_arena_check(struct fipc_segment *segment, struct fipc_arena_census *census) {
    uint32_t groups = fipc_group_count(segment);
    struct fipc_group_shm *group;

    *census = (struct fipc_arena_census){.group_numbers = groups};
    for (uint32_t number = 0; number < groups; number++) {
        int rc = fipc_group_map(segment, number, &group);

        if (rc == -ENOENT)
            continue;
        if (rc < 0)
            return rc;
        census->groups++;
        census->empty_groups += fipc_group_used(group) == 0;
        for (uint32_t index = 0; index < fipc_group_used(group); index++) {
            struct fipc_block_shm *shm = &group->block[index];
            struct fipc_block block;
            uint64_t owner = fipc_load_acquire(H2, &shm->owner);
            bool queued;

            rc = fipc_block_map(segment, FIPC_BLOCK_ID(number, index), &block);
            if (rc < 0)
                return rc;
            queued = owner != 0 &&
                     is_queued(segment, fipc_block_kind(shm), fipc_load_acquire(O2, &shm->ordinal));
            census->blocks++;
            if (owner == 0) {
                census->free++;
                census->free_populated += fipc_load_relaxed(&shm->populated) & ~FIPC_BLOCK_LOW_MASK;
            } else if (queued && (fipc_block_kind(shm) & FIPC_BLOCK_KIND_RING)) {
                census->rings++;
            } else if (queued) {
                census->queued++;
            } else {
                rc = fipc_slots_is_alive(segment, FIPC_OWNER_SLOT(owner), FIPC_OWNER_GEN(owner));
                if (rc < 0)
                    return rc;
                if (rc == 0)
                    census->dead++;
                else
                    census->owned++;
            }
        }
    }
    return 0;
}
