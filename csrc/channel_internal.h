/* channel_internal.h - what channel.c, channel_get.c and channel_batch.c share; nobody else. */
#ifndef FIPC_CHANNEL_INTERNAL_H
#define FIPC_CHANNEL_INTERNAL_H

#include "channel.h"

/* Fills the view of the ring that `ref` names, which must begin at or before `pos`. -ESTALE: it
 * is not mapped; -EBADMSG. */
FIPC_MUST_USE int fipc_ring_load(struct fipc_channel *channel, struct fipc_ring *ring, uint64_t ref,
                                 uint64_t pos);

/* Decides how much of the run is put: what is within these limits, from its beginning.
 * One record is, at least; the caller has made sure. */
void fipc_run_fit(struct fipc_run *run, uint64_t most_bytes, uint64_t most_items,
                  uint64_t most_message_bytes);
/* Writes that much of it to `at`, which is at position `pos`. Under the put lock. */
uint64_t fipc_run_write(const struct fipc_run *run, uint8_t *at, uint64_t pos);

/* Under the get lock, with the first record found at `state`: copies it and those behind
 * it, and takes their blocks. Errors: those of fipc_channel_read_refs(), for the first. */
FIPC_MUST_USE int fipc_many_take(struct fipc_channel *channel, struct fipc_many *many,
                                 const struct fipc_side_copy_shm *state, const uint8_t *payload);

/* Checks the references that got->buffer begins with, and fills in got->block,
 * got->block_count and got->size_bytes. Errors: -ESTALE, fipc_channel_map(); -EBADMSG. */
FIPC_MUST_USE int fipc_channel_read_refs(struct fipc_channel *channel, struct fipc_got *got);
/* Under the get lock: the blocks are ours once the record is published as taken. */
FIPC_MUST_USE int fipc_channel_own_refs(struct fipc_channel *channel, const struct fipc_got *got);

#endif
