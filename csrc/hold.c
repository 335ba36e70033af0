/* hold.c - see hold.h. */
#include "hold.h"

#include <stdlib.h>

#include "slots.h"

static struct fipc_hold *holds; /* under the process lock, like the rest */
static uint64_t held_bytes;

static uint64_t bytes_of(const struct fipc_hold *hold) { return hold->block.populated; }

/* The shared slot for what is held of a segment now; NULL when none can be had. */
static struct fipc_shared_slot *shared_slot_for(struct fipc_segment *segment) {
    struct fipc_shared_slot *shared = segment->sharing;

    if (shared != NULL)
        return shared;
    shared = malloc(sizeof(*shared));
    if (shared == NULL)
        return NULL;
    if (fipc_slots_claim_shared(segment, &shared->owner, &shared->pin) < 0) {
        free(shared);
        return NULL;
    }
    shared->hold_count = 0;
    segment->sharing = shared;
    return shared;
}

/* The child will have the views too, so from here on neither process may give the blocks
 * back by itself. */
static void share_before_fork(void) {
    for (struct fipc_hold *hold = holds; hold != NULL; hold = hold->next) {
        struct fipc_shared_slot *shared;

        if (hold->shared != NULL || !fipc_token_is_current(hold->fork_token))
            continue;
        shared = shared_slot_for(hold->segment);
        /* step share-owner: alive under either word. H1, as in fipc_channel_own_refs(). */
        if (shared == NULL ||
            !fipc_cas64_seqcst(H1, &hold->block.shm->owner, hold->segment->owner, shared->owner)) {
            /* Without a slot to spare: kept as long as this process lives. */
            hold->fork_token = 0;
            hold->segment->child_views = true;
            continue;
        }
        hold->shared = shared;
        shared->hold_count++;
    }
    for (struct fipc_hold *hold = holds; hold != NULL; hold = hold->next)
        hold->segment->sharing = NULL;
}

void fipc_hold_take(struct fipc_hold *hold, struct fipc_segment *segment,
                    const struct fipc_block *block) {
    hold->segment = segment;
    hold->block = *block;
    hold->shared = NULL;
    hold->fork_token = fipc_load_relaxed(&segment->fork_token);
    hold->prev = NULL;
    fipc_process_lock();
    fipc_before_fork = share_before_fork;
    hold->next = holds;
    if (holds != NULL)
        holds->prev = hold;
    holds = hold;
    segment->hold_count++;
    held_bytes += bytes_of(hold);
    fipc_process_unlock();
}

void fipc_hold_release(struct fipc_hold *hold) {
    struct fipc_segment *segment = hold->segment;
    struct fipc_shared_slot *shared;
    bool is_ours, was_last, was_shared_last;

    fipc_process_lock();
    shared = hold->shared;
    if (hold->prev != NULL)
        hold->prev->next = hold->next;
    else
        holds = hold->next;
    if (hold->next != NULL)
        hold->next->prev = hold->prev;
    held_bytes -= bytes_of(hold);
    is_ours = shared == NULL && fipc_token_is_current(hold->fork_token);
    was_shared_last = shared != NULL && --shared->hold_count == 0;
    if (was_shared_last) {
        /* step share-end: once every process has done this, the slot reads dead, and
         * the next sweep frees its blocks. */
        fipc_os_unmap(shared->pin, FIPC_PAGE);
        free(shared);
    }
    was_last = --segment->hold_count == 0 && segment->detach_due;
    fipc_process_unlock();
    if (is_ours)
        fipc_block_release(segment, &hold->block);
    if (was_shared_last)
        (void)fipc_slots_reap(segment); /* frees them now if the others are done too */
    if (was_last)
        fipc_segment_detach(segment);
}

uint64_t fipc_hold_bytes(void) { return fipc_load_relaxed(&held_bytes); }
