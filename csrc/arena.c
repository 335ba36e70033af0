/* arena.c - see arena.h. Allocation, release, lookup; which free block is taken stands in
 * arena_take.c, sweeping, trimming and the check in arena_sweep.c. */
#include "arena_internal.h"
#include "lock.h"

struct fipc_channel_shm *fipc_segment_channel(const struct fipc_segment *segment,
                                              uint32_t channel) {
    return (struct fipc_channel_shm *)(segment->chunk[0] +
                                       (channel == 0 ? FIPC_OFF_CHANNEL0 : FIPC_OFF_CHANNEL1));
}

uint32_t *fipc_group_dir(const struct fipc_segment *segment, uint32_t group) {
    if (group < FIPC_GROUP_INLINE)
        return (uint32_t *)(segment->chunk[0] + FIPC_OFF_GROUP_DIR0) + group;
    return (uint32_t *)(segment->chunk[0] + FIPC_OFF_GROUP_DIR) + group;
}

uint32_t fipc_group_count(const struct fipc_segment *segment) {
    uint64_t count = fipc_side_read(&segment->arena->state).count;

    return count <= FIPC_GROUP_COUNT ? (uint32_t)count : FIPC_GROUP_COUNT;
}

int fipc_group_find(const struct fipc_segment *segment, uint32_t group,
                    struct fipc_group_shm **out) {
    uint32_t page;

    if (group >= FIPC_GROUP_COUNT)
        return -EBADMSG;
    page = fipc_load_acquire(G2, fipc_group_dir(segment, group));
    /* 0: its creator died before it filled the entry in. */
    if (page == 0 || (page & FIPC_GROUP_RETIRED))
        return -ENOENT;
    return fipc_segment_peek(segment, (uint64_t)page * FIPC_PAGE, FIPC_PAGE, (void **)out);
}

int fipc_group_map(struct fipc_segment *segment, uint32_t group, struct fipc_group_shm **out) {
    void *unused;
    int rc = fipc_group_find(segment, group, out);

    if (rc != -ESTALE)
        return rc;
    rc = fipc_segment_at(
        segment, (uint64_t)fipc_load_acquire(G2, fipc_group_dir(segment, group)) * FIPC_PAGE,
        FIPC_PAGE, &unused);
    return rc < 0 ? rc : fipc_group_find(segment, group, out);
}

/* Can a block of this size lie there? One of the first rings, or behind the tables. */
static bool is_possible(uint64_t offset, uint32_t size_class) {
    return fipc_class_is_valid(size_class) &&
           (offset >= FIPC_OFF_SPACE ||
            (offset >= FIPC_OFF_RINGS && offset + (UINT64_C(1) << size_class) <= FIPC_OFF_GROUP0));
}

/* Fills `out` from a descriptor whose place has been checked against the file. */
static int find_place(const struct fipc_segment *segment, uint32_t id, struct fipc_group_shm *group,
                      struct fipc_block *out) {
    struct fipc_block_shm *shm = &group->block[FIPC_BLOCK_INDEX(id)];
    uint64_t place = fipc_load_relaxed(&shm->place);
    uint64_t populated = fipc_load_relaxed(&shm->populated) & ~FIPC_BLOCK_LOW_MASK;
    uint32_t size_class = (uint32_t)(place & FIPC_BLOCK_LOW_MASK);
    int rc;

    if (!is_possible(place & ~FIPC_BLOCK_LOW_MASK, size_class))
        return -EBADMSG;
    out->capacity = UINT64_C(1) << size_class;
    if (populated > out->capacity)
        return -EBADMSG;
    /* Without memory behind it, it may even lie behind the file's end. */
    out->data = NULL;
    rc = populated == 0 ? 0
                        : fipc_segment_peek(segment, place & ~FIPC_BLOCK_LOW_MASK, populated,
                                            (void **)&out->data);
    if (rc < 0)
        return rc;
    out->populated = populated;
    out->shm = shm;
    out->id = id;
    return 0;
}

int fipc_block_find(const struct fipc_segment *segment, uint32_t id, struct fipc_block *out) {
    struct fipc_group_shm *group;
    int rc = fipc_group_find(segment, FIPC_BLOCK_GROUP(id), &group);

    if (rc < 0)
        return rc == -ENOENT ? -EBADMSG : rc;
    if (FIPC_BLOCK_INDEX(id) >= FIPC_GROUP_BLOCKS)
        return -EBADMSG;
    return find_place(segment, id, group, out);
}

int fipc_block_map(struct fipc_segment *segment, uint32_t id, struct fipc_block *out) {
    struct fipc_group_shm *group;
    uint64_t place;
    void *unused;
    int rc = fipc_group_map(segment, FIPC_BLOCK_GROUP(id), &group);

    if (rc < 0)
        return rc == -ENOENT ? -EBADMSG : rc;
    rc = fipc_block_find(segment, id, out);
    if (rc != -ESTALE)
        return rc;
    place = fipc_load_relaxed(&group->block[FIPC_BLOCK_INDEX(id)].place);
    rc = fipc_segment_at(segment, place & ~FIPC_BLOCK_LOW_MASK,
                         fipc_load_relaxed(&group->block[FIPC_BLOCK_INDEX(id)].populated) &
                             ~FIPC_BLOCK_LOW_MASK,
                         &unused);
    return rc < 0 ? rc : fipc_block_find(segment, id, out);
}

/* ---- giving out new space ---- */

/* Offsets of size 2^k are multiples of it, so that no block crosses a chunk. */
static uint64_t place_for(uint64_t space_end, uint32_t size_class) {
    return fipc_align_up(space_end, UINT64_C(1) << size_class);
}

/* The number of a group that was given back, or the next one. */
static uint32_t choose_group(const struct fipc_segment *segment, uint32_t groups) {
    if (fipc_load_relaxed(&segment->arena->groups_retired) > 0)
        for (uint32_t number = 0; number < groups; number++) {
            uint32_t page = fipc_load_relaxed(fipc_group_dir(segment, number));

            if (page == 0 || (page & FIPC_GROUP_RETIRED))
                return number;
        }
    return groups;
}

/* Under the arena lock: puts a group for `size_class` in force, at `page`, whose chunk is mapped.
 *
 * Its memory is reserved here, under the lock. Before the lock, another process might have given
 * out a block behind that page meanwhile, and the page would lie in no group and in no block: 4 KiB
 * that nobody would ever give back. What we reserve and do not put in force, since we are killed,
 * fipc_arena_repair_space() gives back. */
static int add_group(struct fipc_segment *segment, uint32_t size_class, uint64_t page,
                     struct fipc_side_copy_shm *state, uint32_t *number) {
    struct fipc_group_shm *group;
    uint32_t *dir;
    int rc;

    *number = choose_group(segment, (uint32_t)state->count);
    if (*number >= FIPC_GROUP_COUNT) {
        fipc_set_limit_name("the number of blocks in a segment");
        return -ENOSPC;
    }
    dir = fipc_group_dir(segment, *number);
    if (*number >= FIPC_GROUP_INLINE) {
        uint64_t entry = FIPC_OFF_GROUP_DIR + 4 * (uint64_t)*number;

        rc = fipc_segment_reserve(segment, entry & ~UINT64_C(4095), FIPC_PAGE);
        if (rc < 0)
            return rc;
    }
    rc = fipc_segment_reserve(segment, page, FIPC_PAGE);
    if (rc == 0)
        rc = fipc_segment_peek(segment, page, FIPC_PAGE, (void **)&group);
    if (rc < 0)
        return rc;
    fipc_store_relaxed(&group->used, 0);
    fipc_store_relaxed(&group->size_class, size_class);
    if (*number < state->count) {
        fipc_fetch_add_relaxed(&segment->arena->groups_retired, -1);
    } else {
        state->count++;
    }
    state->pos = page + FIPC_PAGE;
    /* The space first: no two groups may ever share a page. Dying before the next
     * store leaves a number without a page, which is used again. */
    fipc_side_publish(&segment->arena->state, state); /* step group-space */
    /* step group-dir. G1, pairs with G2 in fipc_group_find(): the group is empty. */
    fipc_store_release(G1, dir, (uint32_t)(page / FIPC_PAGE));
    fipc_store_relaxed(fipc_class_tail(segment, size_class), *number + 1);
    return 0;
}

/* Under the arena lock: the next descriptor of `size_class`, owned by us, with a
 * place in the file but no memory yet. -ENOBUFS: the chunk of a new group's page, at *page, must
 * be mapped first. */
static int add_block(struct fipc_segment *segment, uint32_t size_class, uint64_t *page,
                     uint32_t *id) {
    struct fipc_arena_shm *arena = segment->arena;
    struct fipc_side_copy_shm state = fipc_side_current(&arena->state);
    uint32_t number = fipc_load_relaxed(fipc_class_tail(segment, size_class)), index;
    struct fipc_group_shm *group = NULL;
    struct fipc_block_shm *shm;
    uint64_t place;
    int rc;

    if (state.pos < FIPC_OFF_SPACE || state.pos > FIPC_SPACE_MAX || state.count > FIPC_GROUP_COUNT)
        return -EBADMSG;
    if (number != 0) {
        number--;
        rc = fipc_group_find(segment, number, &group);
        if (rc == -ESTALE)
            return rc;
        if (rc < 0 || fipc_load_relaxed(&group->size_class) != size_class ||
            fipc_load_relaxed(&group->used) >= FIPC_GROUP_BLOCKS)
            group = NULL;
    }
    if (group == NULL) {
        uint64_t next_page = fipc_align_up(state.pos, FIPC_PAGE);

        if (!fipc_segment_has_chunk(segment, next_page)) {
            *page = next_page;
            return -ENOBUFS;
        }
        rc = add_group(segment, size_class, next_page, &state, &number);
        if (rc == 0)
            rc = fipc_group_find(segment, number, &group);
        if (rc < 0)
            return rc;
    }
    /* Once: somebody may write there although we have the lock. */
    index = fipc_load_relaxed(&group->used);
    if (index >= FIPC_GROUP_BLOCKS)
        return -EBADMSG;
    shm = &group->block[index];
    place = place_for(state.pos, size_class);
    if (place + (UINT64_C(1) << size_class) > FIPC_SPACE_MAX) {
        fipc_set_limit_name("the size of a segment (4 TiB)");
        return -ENOSPC;
    }
    fipc_store_relaxed(&shm->ordinal, 0);
    fipc_store_relaxed(&shm->place, place | size_class);
    fipc_store_relaxed(&shm->populated, 0);
    fipc_store_relaxed(&shm->owner, segment->owner);
    /* Space first: dying here wastes a range of the file that has no memory. */
    state.pos = place + (UINT64_C(1) << size_class);
    fipc_side_publish(&arena->state, &state); /* step block-space */
    /* step block-used. U1, pairs with U2 in fipc_group_used(): the descriptor is whole. */
    fipc_store_release(U1, &group->used, index + 1);
    *id = FIPC_BLOCK_ID(number, index);
    return 0;
}

static int new_block(struct fipc_segment *segment, uint32_t size_class, int64_t deadline_ns,
                     uint32_t *id) {
    struct fipc_side_shm *state = &segment->arena->state;
    uint64_t page = 0;
    int rc;

    for (;;) {
        rc = fipc_lock_try(segment, &state->lock);
        if (rc < 0)
            rc = fipc_lock_wait(segment, &state->lock, deadline_ns);
        if (rc < 0)
            return rc;
        if (rc == 1)
            fipc_arena_repair_space(segment);
        rc = add_block(segment, size_class, &page, id);
        fipc_lock_release(&state->lock);
        if (rc == -ENOBUFS) {
            rc = fipc_segment_map_chunk(segment, page);
        } else if (rc == -ESTALE) {
            struct fipc_group_shm *group;

            rc = fipc_group_map(
                segment, fipc_load_relaxed(fipc_class_tail(segment, size_class)) - 1, &group);
            if (rc == -ENOENT)
                rc = 0;
        } else {
            return rc;
        }
        if (rc < 0)
            return rc;
    }
}

/* ---- the interface ---- */

static uint64_t warm_max_bytes(void) {
    static uint64_t limit; /* hint: threads find the same */
    uint64_t known = fipc_load_relaxed(&limit);

    if (known == 0) {
        known = fipc_os_memory_bytes() / 16;
        known = known < FIPC_WARM_MAX_BYTES ? known : FIPC_WARM_MAX_BYTES;
        fipc_store_relaxed(&limit, known);
    }
    return known;
}

/* What was given away lately and has not been asked about yet. */
static uint64_t lately_given_back(struct fipc_arena_shm *arena) {
    uint64_t given_back = fipc_load_relaxed(&arena->given_back);
    uint64_t ago_ns;

    if (given_back == 0)
        return 0;
    /* Unsigned: a time that was damaged is long ago. */
    ago_ns = (uint64_t)fipc_os_coarse_now_ns() - (uint64_t)fipc_load_relaxed(&arena->given_ns);
    if (!fipc_cas64_relaxed(&arena->given_back, given_back, 0) || ago_ns > TRIM_REST_NS)
        return 0;
    return given_back;
}

/* A block is wanted back whose memory was given away: keep so much more next time, and what else has
 * been given away until now. */
static void want_warm(struct fipc_segment *segment, const struct fipc_block *block,
                      uint64_t wanted) {
    struct fipc_arena_shm *arena = segment->arena;
    uint64_t warm_bytes, given_back, most = warm_max_bytes();

    if ((fipc_load_relaxed(&block->shm->populated) & ~FIPC_BLOCK_LOW_MASK) >= wanted)
        return;
    warm_bytes = fipc_load_relaxed(&arena->warm_bytes);
    given_back = lately_given_back(arena);
    if (warm_bytes > most || wanted > most - warm_bytes)
        return;
    if (wanted < given_back)
        wanted = given_back < most - warm_bytes ? given_back : most - warm_bytes;
    /* Others who want something back at this moment are heard the next time. */
    (void)fipc_cas64_relaxed(&arena->warm_bytes, warm_bytes, warm_bytes + wanted);
}

/* Memory behind `size` bytes from `offset` on; if there is none left, that of free blocks
 * is given back first. */
static int reserve_or_trim(struct fipc_segment *segment, uint64_t offset, uint64_t size) {
    int rc = fipc_segment_reserve(segment, offset, size);

    if (fipc_likely(rc != -ENOMEM && rc != -ENOSPC) ||
        fipc_arena_free_bytes(segment) <= FIPC_FREE_KEEP_BYTES)
        return rc;
    fipc_arena_trim_now(segment);
    return fipc_segment_reserve(segment, offset, size);
}

static uint32_t class_for(uint64_t size_bytes) {
    uint32_t size_class = fipc_log2_ceil(size_bytes);

    return size_class < FIPC_CLASS_MIN ? FIPC_CLASS_MIN : size_class;
}

static uint64_t pages_for(uint64_t size_bytes) {
    return fipc_align_up(size_bytes == 0 ? 1 : size_bytes, FIPC_PAGE);
}

int fipc_block_try_alloc(struct fipc_segment *segment, uint64_t size_bytes, uint32_t kind,
                         struct fipc_block *out) {
    uint64_t wanted = pages_for(size_bytes);
    uint32_t size_class = class_for(size_bytes);

    if (size_class > FIPC_CLASS_MAX || fipc_arena_spreads(segment, size_bytes, size_class))
        return -EAGAIN;
    fipc_store_relaxed(&segment->may_own, true);
    if (fipc_arena_take_free(segment, size_class, out) < 0)
        return -EAGAIN;
    if (fipc_block_find(segment, out->id, out) < 0 || out->populated < wanted ||
        out->capacity != UINT64_C(1) << size_class) {
        /* Whoever may make system calls meets it next, and mends it. */
        fipc_store_relaxed(&segment->next_block, FIPC_BLOCK_INDEX(out->id));
        fipc_block_release(segment, out);
        return -EAGAIN;
    }
    /* step block-populated */
    fipc_store_release(O1, &out->shm->populated, out->populated | kind);
    return 0;
}

/* fipc_block_alloc(), which may have tried for one more block than is needed, says *spread. */
static int alloc_once(struct fipc_segment *segment, uint64_t size_bytes, uint32_t kind,
                      int64_t deadline_ns, struct fipc_block *out, bool *spread) {
    uint32_t size_class = class_for(size_bytes), id = 0;
    uint64_t populated, wanted = pages_for(size_bytes);
    struct fipc_group_shm *group;
    struct fipc_block_shm *shm;
    void *unused;
    int rc;

    if (size_class > FIPC_CLASS_MAX) {
        fipc_set_limit_name("the size of a message (1 TiB)");
        return -ENOMEM;
    }
    fipc_store_relaxed(&segment->may_own, true);
    rc = fipc_arena_take_or_spread(segment, size_bytes, size_class, out, spread);
    if (rc == 0) {
        id = out->id;
        want_warm(segment, out, wanted);
    } else if (rc == -EAGAIN) {
        rc = new_block(segment, size_class, deadline_ns, &id);
        if (rc < 0)
            return rc;
    } else {
        return rc;
    }
    rc = fipc_group_map(segment, FIPC_BLOCK_GROUP(id), &group);
    if (rc < 0)
        return rc;
    shm = &group->block[FIPC_BLOCK_INDEX(id)];
    populated = fipc_load_relaxed(&shm->populated) & ~FIPC_BLOCK_LOW_MASK;
    if (populated < wanted) {
        uint64_t offset = fipc_load_relaxed(&shm->place) & ~FIPC_BLOCK_LOW_MASK;

        rc = reserve_or_trim(segment, offset + populated, wanted - populated);
        if (rc == 0)
            rc = fipc_segment_at(segment, offset, wanted, &unused);
        if (rc < 0)
            goto err_release;
        populated = wanted;
    }
    fipc_store_release(O1, &shm->populated, populated | kind); /* step block-populated */
    rc = fipc_block_map(segment, id, out);
    /* A block of another size, or with less memory than we have just seen to. */
    if (rc == 0 && (out->capacity != UINT64_C(1) << size_class || out->populated < wanted))
        rc = -EBADMSG;
    if (rc < 0)
        goto err_release;
    return 0;
err_release:
    /* A part may have got memory: give that back rather than lose count of it. */
    if (wanted > populated && fipc_segment_fd_is_ours(segment) == 0)
        (void)fipc_os_punch(segment->fd,
                            (fipc_load_relaxed(&shm->place) & ~FIPC_BLOCK_LOW_MASK) + populated,
                            wanted - populated);
    out->shm = shm;
    out->id = id;
    out->data = NULL;
    fipc_block_release(segment, out);
    return rc;
}

int fipc_block_alloc(struct fipc_segment *segment, uint64_t size_bytes, uint32_t kind,
                     int64_t deadline_ns, struct fipc_block *out) {
    bool spread = false;
    int rc = alloc_once(segment, size_bytes, kind, deadline_ns, out, &spread);

    /* One more cannot be had: one of those that are free, then. */
    if (fipc_unlikely(rc < 0 && spread))
        rc = alloc_once(segment, size_bytes, kind, deadline_ns, out, &spread);
    return rc;
}

void fipc_block_release(struct fipc_segment *segment, const struct fipc_block *block) {
    struct fipc_arena_shm *arena = segment->arena;
    struct fipc_block_shm *shm = block->shm;
    uint32_t index = FIPC_BLOCK_INDEX(block->id);
    struct fipc_group_shm *group = fipc_block_group(block);
    uint64_t place = fipc_load_relaxed(&shm->place);
    uint32_t size_class = (uint32_t)(place & FIPC_BLOCK_LOW_MASK);
    uint64_t populated = fipc_load_relaxed(&shm->populated) & ~FIPC_BLOCK_LOW_MASK;
    uint64_t free_bytes;
    struct fipc_class_shm *class;

    /* Not ours: in a forked child, which must not touch what is its parent's. */
    if (!fipc_token_is_current(fipc_load_relaxed(&segment->fork_token)) ||
        fipc_load_relaxed(&shm->owner) != segment->owner)
        return;
    if (fipc_unlikely(!fipc_class_is_valid(size_class) || populated > UINT64_C(1) << size_class))
        return; /* damaged: lost, rather than spread */
    class = fipc_class(segment, size_class);
    free_bytes = fipc_arena_free_bytes(segment);
    /* Only as much is kept warm as was lately wanted back. */
    if (fipc_unlikely(populated != 0 &&
                      free_bytes + populated >
                          FIPC_FREE_KEEP_BYTES + fipc_load_relaxed(&arena->warm_bytes)) &&
        fipc_segment_fd_is_ours(segment) == 0) {
        fipc_store_relaxed(&shm->populated, 0); /* step block-punch */
        (void)fipc_os_punch(segment->fd, place & ~FIPC_BLOCK_LOW_MASK, populated);
        fipc_fetch_add_relaxed(&arena->given_back, populated);
        fipc_store_relaxed(&arena->given_ns, fipc_os_coarse_now_ns());
        populated = 0;
    }
    /* Without an ordinal before it is without a kind: nobody takes it for a record's. */
    fipc_store_release(O1, &shm->ordinal, 0);
    fipc_store_release(O1, &shm->populated, populated);
    /* step block-release. B2, release, pairs with B1: our last reads and writes of the
     * block are done. */
    if (!fipc_cas64_seqcst(B2, &shm->owner, segment->owner, 0))
        return; /* given back twice, by two threads */
    fipc_fetch_or_release(B2, &group->free_hint[index >> 6], UINT64_C(1) << (index & 63));
    fipc_fetch_add_relaxed(&class->free_blocks, 1);
    fipc_fetch_add_relaxed(&class->free_bytes, populated);
    fipc_store_relaxed(&class->group, FIPC_BLOCK_GROUP(block->id));
    fipc_arena_note_free(segment, free_bytes + populated);
}
