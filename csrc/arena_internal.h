/* arena_internal.h - what arena.c and arena_sweep.c share; for them alone. */
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
/* For the new owner of the arena lock that a dead process held. */
void fipc_arena_repair_space(struct fipc_segment *segment);

/* The descriptors of a group that are in use. */
FIPC_ALWAYS_INLINE uint32_t fipc_group_used(const struct fipc_group_shm *group) {
    uint32_t used = fipc_load_acquire(U2, &group->used);

    return used <= FIPC_GROUP_BLOCKS ? used : FIPC_GROUP_BLOCKS;
}

#endif
