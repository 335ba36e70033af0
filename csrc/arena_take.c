/* arena_take.c - which of the free blocks is taken: see arena_internal.h. */
#include "arena_internal.h"
#include "copy.h"
#include "slots.h"

/* Messages that go round in little memory are fetched from the cache of the other CPU, in both
 * directions; in as much as no longer fits there, from the one that both share. So free blocks are
 * taken in turn, and where copies through the caches have become slow (copy.h) one in
 * SPREAD_EVERY is one more, until so much goes round. 16 KiB through a Queue(8), nothing else
 * done with them: in 160 KiB 0.43 million/s, past the caches 0.44, in 2 MiB 0.98. */
#define SPREAD_BYTES (UINT64_C(2) << 20)
#define SPREAD_EVERY 8
/* Of blocks so large (1 MiB) a few fill the cache that both share: the same few are taken again. */
#define REUSE_LOG2 20

/* Which free blocks are looked at. */
enum which {
    WARM, /* with memory behind them, from the one behind the last one on */
    COLD, /* without */
    ANY
};

static bool is_wanted(const struct fipc_block_shm *shm, enum which which) {
    bool is_warm = (fipc_load_relaxed(&shm->populated) & ~FIPC_BLOCK_LOW_MASK) != 0;

    return which == ANY || is_warm == (which == WARM);
}

/* Takes the free block `index` of a group; -EAGAIN: somebody else was quicker, or -ENOENT, the
 * group is gone. Fills in only its descriptor and number: mapping it may fail. */
static int take_block(struct fipc_segment *segment, struct fipc_group_shm *group, uint32_t number,
                      uint32_t index, struct fipc_class_shm *class, struct fipc_block *out) {
    struct fipc_block_shm *shm = &group->block[index];

    /* B1, before the swap: whose bit this was has let the block go. Else a free one could be left
     * without a bit. */
    fipc_fetch_and_acquire(B1, &group->free_hint[index >> 6], ~(UINT64_C(1) << (index & 63)));
    /* step block-take. B1: acquires what the last owner wrote before it let go (B2). */
    if (!fipc_cas64_seqcst(B1, &shm->owner, 0, segment->owner))
        return -EAGAIN;
    /* The group may have been retired between our look and the swap: U2, behind the swap, since
     * the page became zeros after `used` did. */
    if (index >= fipc_load_seqcst(U2, &group->used)) {
        fipc_store_release(B2, &shm->owner, 0);
        return -ENOENT;
    }
    fipc_store_release(O1, &shm->ordinal, 0);
    fipc_fetch_add_relaxed(&class->free_blocks, -1);
    fipc_fetch_add_relaxed(&class->free_bytes,
                           -(fipc_load_relaxed(&shm->populated) & ~FIPC_BLOCK_LOW_MASK));
    fipc_store_relaxed(&segment->next_block, index + 1);
    out->shm = shm;
    out->id = FIPC_BLOCK_ID(number, index);
    return 0;
}

/* Takes a free block out of one group; -EAGAIN when it has none. */
static int take_from(struct fipc_segment *segment, uint32_t number, uint32_t size_class,
                     enum which which, struct fipc_block *out) {
    struct fipc_class_shm *class = fipc_class(segment, size_class);
    uint32_t first = which == WARM && size_class < REUSE_LOG2
                         ? fipc_load_relaxed(&segment->next_block) & 127
                         : 0;
    struct fipc_group_shm *group;
    int rc = fipc_group_map(segment, number, &group);

    if (rc < 0)
        return rc == -ENOENT ? -EAGAIN : rc;
    if (fipc_load_relaxed(&group->size_class) != size_class)
        return -EAGAIN;
    /* The word with the first one twice: from there on, and then what is before it. */
    for (uint32_t round = 0; round < 3; round++) {
        uint32_t word = ((first >> 6) + round) & 1;
        uint64_t bits = fipc_load_relaxed(&group->free_hint[word]);

        if (round == 0)
            bits &= ~UINT64_C(0) << (first & 63);
        for (; bits != 0; bits &= bits - 1) {
            uint32_t index = word * 64 + (uint32_t)__builtin_ctzll(bits);

            if (index >= FIPC_GROUP_BLOCKS)
                break;
            if (!is_wanted(&group->block[index], which))
                continue;
            rc = take_block(segment, group, number, index, class, out);
            if (rc != -EAGAIN)
                return rc == -ENOENT ? -EAGAIN : rc;
        }
    }
    return -EAGAIN;
}

/* One of these, from whatever group. */
static int take_which(struct fipc_segment *segment, uint32_t size_class, enum which which,
                      struct fipc_block *out) {
    struct fipc_class_shm *class = fipc_class(segment, size_class);
    uint32_t groups = fipc_group_count(segment), hint = fipc_load_relaxed(&class->group);
    int rc = -EAGAIN;

    if (hint < groups)
        rc = take_from(segment, hint, size_class, which, out);
    for (uint32_t number = 0; number < groups && rc == -EAGAIN; number++) {
        rc = take_from(segment, number, size_class, which, out);
        if (rc == 0)
            fipc_store_relaxed(&class->group, number);
    }
    return rc;
}

int fipc_arena_take_free(struct fipc_segment *segment, uint32_t size_class,
                         struct fipc_block *out) {
    struct fipc_class_shm *class = fipc_class(segment, size_class);
    int32_t count = fipc_load_relaxed(&class->free_blocks);
    uint64_t bytes;
    int rc = -EAGAIN;

    if (count <= 0)
        return -EAGAIN;
    bytes = fipc_load_relaxed(&class->free_bytes);
    if (bytes != 0) {
        rc = take_which(segment, size_class, WARM, out);
        /* As with the count below. */
        if (rc == -EAGAIN)
            (void)fipc_cas64_relaxed(&class->free_bytes, bytes, 0);
    }
    if (rc == -EAGAIN)
        rc = take_which(segment, size_class, ANY, out);
    /* The count was wrong (somebody was killed in between): do not search again. Unless
     * it has moved: what was given back meanwhile must not be forgotten. */
    if (rc == -EAGAIN)
        (void)fipc_cas32_relaxed((uint32_t *)&class->free_blocks, (uint32_t)count, 0);
    return rc;
}

bool fipc_arena_spreads(struct fipc_segment *segment, uint64_t size_bytes, uint32_t size_class) {
    uint32_t since;

    if (fipc_likely(!fipc_copy_is_past(size_bytes)) ||
        fipc_load_relaxed(&fipc_class(segment, size_class)->free_bytes) +
                (UINT64_C(4) << size_class) >
            SPREAD_BYTES)
        return false;
    since = fipc_load_relaxed(&segment->since_spread);
    if (since >= SPREAD_EVERY)
        return true;
    fipc_store_relaxed(&segment->since_spread, since + 1);
    return false;
}

static void reap_sometimes(struct fipc_segment *segment) {
    int64_t now_ns = fipc_os_coarse_now_ns();

    /* Asking the kernel about every slot takes 0.4 us each: not for each block. */
    if (now_ns - fipc_load_relaxed(&segment->sweep_checked_ns) < 50 * FIPC_NS_PER_MS)
        return;
    fipc_store_relaxed(&segment->sweep_checked_ns, now_ns);
    (void)fipc_slots_reap(segment);
}

int fipc_arena_take_or_spread(struct fipc_segment *segment, uint64_t size_bytes,
                              uint32_t size_class, struct fipc_block *out, bool *spread) {
    int rc;

    if (fipc_unlikely(fipc_arena_spreads(segment, size_bytes, size_class))) {
        *spread = true;
        fipc_store_relaxed(&segment->since_spread, 0);
        return take_which(segment, size_class, COLD, out);
    }
    rc = fipc_arena_take_free(segment, size_class, out);
    if (rc == -EAGAIN) {
        reap_sometimes(segment);
        rc = fipc_arena_take_free(segment, size_class, out);
    }
    return rc;
}
