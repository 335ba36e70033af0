/* hold.h - blocks that outlive the call that got them, because views lie over them: counts
 * them, gives each back with its last view, and carries them through forks. What a view
 * is, is the extension's. */
#ifndef FIPC_HOLD_H
#define FIPC_HOLD_H

#include "arena.h"

/* A slot that a fork made for the blocks that were held then: they are its, and parent
 * and child both keep it until they hold none of them any more. */
struct fipc_shared_slot {
    uint64_t owner;
    void *pin;
    uint32_t hold_count; /* in this process; under the process lock */
};

/* One block that is held. Neither copied nor moved. */
struct fipc_hold {
    struct fipc_segment *segment;
    struct fipc_block block;
    struct fipc_shared_slot *shared; /* NULL: the block is this process's own slot's */
    uint64_t fork_token; /* of the process whose slot's it is; 0: give it back to nobody */
    struct fipc_hold *next, *prev; /* all of this process; under the process lock */
};

/* Holds a block that a get has made this process's. Any thread; waits for nothing. */
void fipc_hold_take(struct fipc_hold *hold, struct fipc_segment *segment,
                    const struct fipc_block *block);
/* Gives it back, or this process's share of it if a fork came in between. The last one of
 * a segment that was detached meanwhile gives up slot and descriptor. Any thread. */
void fipc_hold_release(struct fipc_hold *hold);
/* Bytes of memory behind what this process holds. */
uint64_t fipc_hold_bytes(void);

#endif
