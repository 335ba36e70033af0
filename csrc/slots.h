/* slots.h - who is attached to a segment, and who of them is dead. A slot is a
 * file lock that the kernel drops with its owner; no pid, start time or heartbeat
 * decides. What the dead had in hand is the arena's to sweep. */
#ifndef FIPC_SLOTS_H
#define FIPC_SLOTS_H

#include "segment.h"

/* Claims a slot for this process and fills segment->slot, slot_gen, owner and
 * lock_word. Under the process lock. Errors: see fipc_segment_enter(). */
FIPC_MUST_USE int fipc_slots_claim(struct fipc_segment *segment);

/* Claims one more slot, for blocks that a fork is about to share: its file lock is kept
 * by a mapping that children inherit, so it lives as long as any of them has *pin mapped.
 * Under the process lock. Errors: as above. */
FIPC_MUST_USE int fipc_slots_claim_shared(struct fipc_segment *segment, uint64_t *owner,
                                          void **pin);

/* Gives this process's slot back, if it has one. */
void fipc_slots_release(struct fipc_segment *segment);

/* 1 when `gen` of `slot` is (or may still be) alive, 0 when it is dead. Errors:
 * -EBADMSG, no such slot; -EBADF, the descriptor is not ours any more. */
FIPC_MUST_USE int fipc_slots_is_alive(const struct fipc_segment *segment, uint32_t slot,
                                      uint32_t gen);

/* The same for the owner of a lock, whose word has only some bits of the generation. */
FIPC_MUST_USE int fipc_slots_lock_owner_is_alive(const struct fipc_segment *segment,
                                                 uint32_t lock_word);

/* Looks for dead slots, sweeps what they had in hand, and frees them. Returns how
 * many there were. Makes system calls: under no shared lock. */
int fipc_slots_reap(struct fipc_segment *segment);

#endif
