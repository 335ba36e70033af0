/* side.h - the state of one side in two copies: read it consistently without the
 * lock, fill the idle copy and publish it with the lock. Waits for nothing. */
#ifndef FIPC_SIDE_H
#define FIPC_SIDE_H

#include "atomics.h"
#include "layout.h"

/* The copy in force, for the owner of the side's lock, who alone moves it. */
FIPC_ALWAYS_INLINE struct fipc_side_copy_shm fipc_side_current(const struct fipc_side_shm *side) {
    const struct fipc_side_copy_shm *copy = &side->copy[fipc_load_relaxed(&side->gen) & 1];
    struct fipc_side_copy_shm current = {fipc_load_relaxed(&copy->pos),
                                         fipc_load_relaxed(&copy->count),
                                         fipc_load_relaxed(&copy->ring)};
    return current;
}

/* Makes `next` the state in force. A reader sees all of it or nothing of it; so
 * does whoever takes the lock over if the caller dies in here. */
FIPC_ALWAYS_INLINE void fipc_side_publish(struct fipc_side_shm *side,
                                          const struct fipc_side_copy_shm *next) {
    uint32_t gen = fipc_load_relaxed(&side->gen);
    struct fipc_side_copy_shm *idle = &side->copy[(gen + !FASTIPC_BREAK_ONE_COPY) & 1];

    /* P1, pairs with P2: a reader that sees one of these also sees that gen has
     * moved on from the copy that it meant to read. */
    fipc_store_release(P1, &idle->pos, next->pos);
    fipc_store_release(P1, &idle->count, next->count);
    fipc_store_release(P1, &idle->ring, next->ring);
    /* R1, pairs with A1: record and copy are whole before gen names them. */
    fipc_store_release(R1, &side->gen, gen + 1 + FASTIPC_BREAK_ONE_COPY);
}

/* The state in force at some moment of the call, without the lock. Loops only as
 * long as the owner publishes twice within one look. */
FIPC_ALWAYS_INLINE struct fipc_side_copy_shm fipc_side_read(const struct fipc_side_shm *side) {
    struct fipc_side_copy_shm state;
    uint32_t gen = fipc_load_acquire(A1, &side->gen), again; /* A1, pairs with R1 */

    for (;;) {
        const struct fipc_side_copy_shm *copy = &side->copy[gen & 1];

        state.pos = fipc_load_acquire(P2, &copy->pos); /* P2, pairs with P1 */
        state.count = fipc_load_acquire(P2, &copy->count);
        state.ring = fipc_load_acquire(P2, &copy->ring);
        again = fipc_load_acquire(A1, &side->gen);
        if (fipc_likely(again == gen))
            return state;
        gen = again;
    }
}

/* Only the position, likewise. */
FIPC_ALWAYS_INLINE uint64_t fipc_side_read_pos(const struct fipc_side_shm *side) {
    uint32_t gen = fipc_load_acquire(A1, &side->gen), again;
    uint64_t pos;

    for (;;) {
        pos = fipc_load_acquire(P2, &side->copy[gen & 1].pos);
        again = fipc_load_acquire(A1, &side->gen);
        if (fipc_likely(again == gen))
            return pos;
        gen = again;
    }
}

#endif
