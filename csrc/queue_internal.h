/* queue_internal.h - what queue.c, queue_put.c and queue_batch.c share; nobody else. */
#ifndef FIPC_QUEUE_INTERNAL_H
#define FIPC_QUEUE_INTERNAL_H

#include "queue.h"

/* When a call with this deadline gives up waiting for a lock. */
int64_t fipc_queue_lock_deadline(int64_t deadline_ns);

/* Is the block this process's? A signal handler may have forked since it was taken: what
 * the parent has in hand is not the child's. */
bool fipc_queue_owns(const struct fipc_queue *queue, const struct fipc_block *block);

/* What every call for a put begins with. Errors: those of fipc_channel_enter(); -E2BIG;
 * -EOWNERDEAD, this is a forked child and putting->block was its parent's. */
FIPC_MUST_USE int fipc_queue_put_begin(struct fipc_queue *queue, uint64_t size_bytes,
                                       int64_t deadline_ns, struct fipc_queue_putting *putting);
/* Waits for room, puts, wakes who waits for as many items. Errors: fipc_queue_put(). */
FIPC_MUST_USE int fipc_queue_put_record(struct fipc_queue *queue, struct fipc_put *put,
                                        int64_t deadline_ns, struct fipc_queue_putting *putting);

/* fipc_queue_get() into *got or, unless `many` is NULL, fipc_queue_get_many() into *many. */
FIPC_MUST_USE int fipc_queue_get_either(struct fipc_queue *queue, struct fipc_got *got,
                                        struct fipc_many *many, int64_t deadline_ns,
                                        struct fipc_waiting *waiting);

#endif
