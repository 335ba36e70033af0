/* arena_internal.h - what arena.c, arena_take.c and arena_sweep.c share; for them alone. */
#ifndef FIPC_ARENA_INTERNAL_H
#define FIPC_ARENA_INTERNAL_H

#include "arena.h"

/* The directory entry of a group: its page's number, 0, or FIPC_GROUP_RETIRED set. */
uint32_t *fipc_group_dir(const struct fipc_segment *segment, uint32_t group);
uint32_t fipc_group_count(const struct fipc_segment *segment);
/* The page of a group: -ENOENT when it has none, -ESTALE when it is not mapped. */
FIPC_MUST_USE int fipc_group_find(const struct fipc_segment *segment, uint32_t group,
                                  struct fipc_group_shm **out);
FIPC_MUST_USE int fipc_group_map(struct fipc_segment *segment, uint32_t group,
                                 struct fipc_group_shm **out);
/* Takes a free block, one with memory behind it if there is; -EAGAIN when there is none. Fills in
 * only its descriptor and number: mapping it may fail. Errors: those of fipc_group_map(). */
FIPC_MUST_USE int fipc_arena_take_free(struct fipc_segment *segment, uint32_t size_class,
                                       struct fipc_block *out);
/* Is it time for one more block of a size, although there are free ones? True until one was. */
FIPC_MUST_USE bool fipc_arena_spreads(struct fipc_segment *segment, uint64_t size_bytes,
                                      uint32_t size_class);
/* As fipc_arena_take_free(), after the dead were looked for if there is none; or one without memory
 * behind it, -EAGAIN asking for a new one, if it is time for one more: says *spread. */
FIPC_MUST_USE int fipc_arena_take_or_spread(struct fipc_segment *segment, uint64_t size_bytes,
                                            uint32_t size_class, struct fipc_block *out,
                                            bool *spread);
/* For the new owner of the arena lock that a dead process held. */
void fipc_arena_repair_space(struct fipc_segment *segment);

FIPC_ALWAYS_INLINE bool fipc_class_is_valid(uint32_t size_class) {
    return size_class >= FIPC_CLASS_MIN && size_class <= FIPC_CLASS_MAX;
}

/* Of a valid size class. */
FIPC_ALWAYS_INLINE struct fipc_class_shm *fipc_class(const struct fipc_segment *segment,
                                                     uint32_t size_class) {
    return &segment->arena->classes[size_class - FIPC_CLASS_MIN];
}

/* Under the arena lock: the class's last group + 1, or 0. */
FIPC_ALWAYS_INLINE uint32_t *fipc_class_tail(const struct fipc_segment *segment,
                                             uint32_t size_class) {
    return &segment->arena->tail[size_class - FIPC_CLASS_MIN];
}

/* Memory of free blocks goes back once nothing travelled in blocks for so long; what was given away
 * longer ago is not wanted back soon. */
#define TRIM_REST_NS (500 * FIPC_NS_PER_MS)

/* Hint: says that trimming is worth a look. */
FIPC_ALWAYS_INLINE void fipc_arena_note_free(const struct fipc_segment *segment,
                                             uint64_t free_bytes) {
    uint32_t *due = &segment->arena->trim_due;

    /* Stored once, so that the line stays everybody's. */
    if (free_bytes > FIPC_FREE_KEEP_BYTES && fipc_load_relaxed(due) == 0)
        fipc_store_relaxed(due, 1);
}

/* The descriptors of a group that are in use. */
FIPC_ALWAYS_INLINE uint32_t fipc_group_used(const struct fipc_group_shm *group) {
    uint32_t used = fipc_load_acquire(U2, &group->used);

    return used <= FIPC_GROUP_BLOCKS ? used : FIPC_GROUP_BLOCKS;
}

#endif
