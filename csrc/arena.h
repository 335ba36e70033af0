/* arena.h - blocks of the segment: allocate, own, release, sweep, trim. Who owns a
 * block is derived from its owner word, its ordinal and the channels' positions
 * (PROTOCOL.md). Copies no message and knows no record format. */
#ifndef FIPC_ARENA_H
#define FIPC_ARENA_H

#include "segment.h"
#include "side.h"

struct fipc_block {
    struct fipc_block_shm *shm;
    uint8_t *data;     /* page aligned */
    uint64_t capacity; /* bytes; memory is behind the first `size` asked for */
    /* What `data` may be used for: as many bytes had memory behind them, and lay within the
     * file, when the block was looked up. The descriptor may say something else by now. */
    uint64_t populated;
    uint32_t id;
};

/* Takes a block with memory behind its first size_bytes, a warm one if there is.
 * It belongs to this process until it is released or travels in a record. Makes
 * system calls: under no shared lock. `kind` is FIPC_BLOCK_KIND_*. Errors: -ENOMEM,
 * -ENOSPC, -EFBIG (fipc_limit_name()), -ETIMEDOUT, -EINTR, -EBADMSG, -EBADF. */
FIPC_MUST_USE int fipc_block_alloc(struct fipc_segment *segment, uint64_t size_bytes, uint32_t kind,
                                   int64_t deadline_ns, struct fipc_block *out);

/* The same with a free block that is warm and mapped here, without a lock of the segment's and, but
 * to map a chunk for the first time, without a system call; else -EAGAIN. */
FIPC_MUST_USE int fipc_block_try_alloc(struct fipc_segment *segment, uint64_t size_bytes,
                                       uint32_t kind, struct fipc_block *out);

/* The block numbered `id`: 0; -ESTALE, its chunk is not mapped yet (see
 * fipc_block_map()); -EBADMSG, no such block. No system call. */
FIPC_MUST_USE int fipc_block_find(const struct fipc_segment *segment, uint32_t id,
                                  struct fipc_block *out);
/* The same, mapping what is missing; under no shared lock. */
FIPC_MUST_USE int fipc_block_map(struct fipc_segment *segment, uint32_t id, struct fipc_block *out);

/* Gives a block back that this process owns. Any thread, any time; no lock. */
void fipc_block_release(struct fipc_segment *segment, const struct fipc_block *block);

/* The page of descriptors that a block's lies in. */
FIPC_ALWAYS_INLINE struct fipc_group_shm *fipc_block_group(const struct fipc_block *block) {
    struct fipc_block_shm *first = block->shm - FIPC_BLOCK_INDEX(block->id);

    return (struct fipc_group_shm *)((uint8_t *)first - offsetof(struct fipc_group_shm, block));
}

/* Asks for the lines that are written when this block is given back, or the next one of its size is
 * taken, besides the descriptors: the other side has written to them meanwhile. With that, and
 * what fipc_queue_try_put_block() asks for, 16 KiB took 1.48 us in the place of 1.68 where the two
 * CPUs were far apart, and 0.82 in the place of 0.85 where they were near. */
FIPC_ALWAYS_INLINE void fipc_block_expect(const struct fipc_segment *segment,
                                          const struct fipc_block *block) {
    fipc_prefetch_write(fipc_block_group(block)->free_hint);
    fipc_prefetch_write(&segment->arena->classes[fipc_log2_ceil(block->capacity) - FIPC_CLASS_MIN]);
}

FIPC_ALWAYS_INLINE uint32_t fipc_block_kind(const struct fipc_block_shm *shm) {
    return (uint32_t)(fipc_load_relaxed(&shm->populated) & FIPC_BLOCK_LOW_MASK);
}

/* Frees what (slot, gen), which is dead, owned; rebuilds the hints. Idempotent. The
 * caller holds the slot's file lock. Errors: -ENOMEM, -EBADF: a descriptor page cannot
 * be mapped, and nothing was swept. */
FIPC_MUST_USE int fipc_arena_sweep(struct fipc_segment *segment, uint32_t slot, uint32_t gen);

/* For the new owner of a put lock that a dead process held: ordinals that it gave
 * out and never published are taken back. Idempotent. */
void fipc_arena_repair_put(struct fipc_segment *segment, uint32_t channel);

/* Gives memory of free blocks back to the system once no block has been allocated
 * for half a second. Cheap when nothing is due; under no shared lock. */
void fipc_arena_trim_slow(struct fipc_segment *segment);
/* The same at once, whatever was allocated lately. */
void fipc_arena_trim_now(struct fipc_segment *segment);
FIPC_ALWAYS_INLINE bool fipc_arena_trim_is_due(const struct fipc_segment *segment) {
    return fipc_load_relaxed(&segment->arena->trim_due) != 0;
}
/* Hint: bytes with memory behind them in free blocks of all classes. The lines of classes that
 * are not in use stay in everybody's cache. Less than none, where a block was taken before it was
 * counted as free, is none, and not so much that everybody gives memory back. */
FIPC_ALWAYS_INLINE uint64_t fipc_arena_free_bytes(const struct fipc_segment *segment) {
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < FIPC_CLASS_COUNT; i++)
        bytes += fipc_load_relaxed(&segment->arena->classes[i].free_bytes);
    return (int64_t)bytes > 0 ? bytes : 0;
}

/* Hint: so much more memory of blocks that are given back would be kept, and none given back
 * otherwise: no system call. */
FIPC_ALWAYS_INLINE bool fipc_arena_keeps(const struct fipc_segment *segment, uint64_t bytes) {
    return !fipc_arena_trim_is_due(segment) &&
           fipc_arena_free_bytes(segment) + bytes <=
               FIPC_FREE_KEEP_BYTES + fipc_load_relaxed(&segment->arena->warm_bytes);
}
FIPC_ALWAYS_INLINE void fipc_arena_trim(struct fipc_segment *segment) {
    if (fipc_unlikely(fipc_arena_trim_is_due(segment)))
        fipc_arena_trim_slow(segment);
}
/* For a caller with a slot of its own, once nothing more is put: as fipc_arena_trim(), without
 * a rest before it, since nothing will want the memory back. */
FIPC_ALWAYS_INLINE void fipc_arena_trim_last(struct fipc_segment *segment) {
    if (fipc_unlikely(fipc_arena_trim_is_due(segment)))
        fipc_arena_trim_now(segment);
}

/* For tests: what every block is, counted; -EBADMSG when one has no owner or two. Of the groups:
 * the numbers given out, those of them with a page, and of these the ones without a block. */
struct fipc_arena_census {
    uint32_t blocks, free, owned, queued, rings, dead;
    uint32_t group_numbers, groups, empty_groups;
    uint64_t free_populated;
};
FIPC_MUST_USE int fipc_arena_check(struct fipc_segment *segment, struct fipc_arena_census *census);

struct fipc_channel_shm *fipc_segment_channel(const struct fipc_segment *segment, uint32_t channel);

#endif
