/* queue.h - a many-to-many queue: one channel, blocks for large messages, limits,
 * counts of unfinished tasks, and the waiting. Knows nothing of Python objects: a
 * message is bytes and a tag. */
#ifndef FIPC_QUEUE_H
#define FIPC_QUEUE_H

#include "channel.h"
#include "record.h"

/* Hints of one who puts large messages. */
struct fipc_ahead {
    int64_t ended_ns; /* when the last one was put */
    uint32_t run;     /* how many followed each other at once */
    uint32_t misses;  /* waits for readers that were in vain, in a row */
    uint32_t skips;   /* how many go on without one */
};

struct fipc_queue {
    struct fipc_segment segment;
    struct fipc_channel channel;
    struct fipc_spin put_spin;
    struct fipc_spin get_spin;
    struct fipc_crowd put_crowd;
    struct fipc_crowd get_crowd;
    uint32_t get_run; /* hint: messages got since we last had to wait for one */
    struct fipc_ahead ahead;
    int doorbell_fd; /* reads and writes the doorbell */
    uint64_t doorbell_inode;
    uint32_t refs;    /* in this process: its owner, and each view's hold */
    uint32_t closing; /* set by fipc_queue_cancel(): blocked calls return -ECANCELED */
};

struct fipc_queue_config {
    uint64_t maxsize;   /* items, 0: no limit */
    uint64_t max_bytes; /* bytes queued, 0: no limit */
    const char *label;  /* or NULL */
};

/* A new queue. Errors: those of fipc_segment_create() and of pipe2(2). */
FIPC_MUST_USE int fipc_queue_create(const struct fipc_queue_config *config,
                                    struct fipc_queue **out);
/* The queue behind two descriptors, which then belong to *out. Errors: -EINVAL, they
 * are not a queue's (and stay the caller's); -ENOMEM; -EBADF. */
FIPC_MUST_USE int fipc_queue_open(int fd, int doorbell_fd, struct fipc_queue **out);
/* Gives the slot and the descriptors back; depth, task_done() and join() still work. */
void fipc_queue_detach(struct fipc_queue *queue);
/* Gives all up, but for what holds keep; nobody of this process may be inside. Never
 * blocks. */
void fipc_queue_close(struct fipc_queue *queue);
/* Keeps the mapping for a hold, and ends that. */
void fipc_queue_keep(struct fipc_queue *queue);
void fipc_queue_drop(struct fipc_queue *queue);
/* Makes calls of this process that are blocked on the queue return -ECANCELED, now
 * and from here on. */
void fipc_queue_cancel(struct fipc_queue *queue);

/* Puts a small message if that needs no waiting, no growing and no system call but
 * a wake: for callers that hold a lock of their own. 0, or any error: then call
 * fipc_queue_put(), which finds out what is to be done. */
FIPC_MUST_USE int fipc_queue_try_put(struct fipc_queue *queue, const void *data,
                                     uint32_t size_bytes, uint16_t tag);

/* What a put remembers while it is interrupted; zero it at its start, and call
 * fipc_queue_put_end() in the end whatever came out. */
struct fipc_queue_putting {
    struct fipc_waiting waiting;
    struct fipc_block spare; /* a ring in hand */
    int64_t lock_deadline_ns;
    bool filled;          /* fipc_queue_put() has copied the message into its block */
    uint32_t block_count; /* blocks in hand, for one message */
    struct fipc_block block[FIPC_REFS_MAX];
};

/* Puts a message of any size; waits for room until deadline_ns (0: does not wait).
 * Errors: -ETIMEDOUT, no room in time; -EINTR, look for signals and call again with
 * the same `putting`; -ENOMEM, -ENOSPC, -EFBIG (fipc_limit_name()); -E2BIG, larger
 * than max_bytes; -EBADMSG; -EBADF; -ECANCELED; -ESHUTDOWN. On error nothing was put. */
FIPC_MUST_USE int fipc_queue_put(struct fipc_queue *queue, const void *data, uint64_t size_bytes,
                                 uint16_t tag, int64_t deadline_ns,
                                 struct fipc_queue_putting *putting);
/* For a message in several blocks: takes one for each size, which the caller then fills
 * (putting->block[i].data). Errors: as fipc_queue_put(); after -EINTR call again. */
FIPC_MUST_USE int fipc_queue_prepare(struct fipc_queue *queue, const uint64_t *size_bytes,
                                     uint32_t count, int64_t deadline_ns,
                                     struct fipc_queue_putting *putting);
/* Puts what was prepared, with these sizes, and `rest` inline behind it: rest_bytes of at
 * most FIPC_REST_MAX. Errors: as fipc_queue_put(); -EOWNERDEAD, a signal handler forked and
 * this is the child, whose the blocks are not: prepare and fill again. */
#define FIPC_REST_MAX \
    (FIPC_INLINE_MAX - FIPC_REFS_MAX * (uint32_t)sizeof(struct fipc_block_ref_shm))
FIPC_MUST_USE int fipc_queue_put_prepared(struct fipc_queue *queue, const uint64_t *size_bytes,
                                          const void *rest, uint32_t rest_bytes, uint16_t tag,
                                          int64_t deadline_ns, struct fipc_queue_putting *putting);
void fipc_queue_put_end(struct fipc_queue *queue, struct fipc_queue_putting *putting);
/* Has it nothing to do? */
FIPC_ALWAYS_INLINE bool fipc_queue_put_is_done(const struct fipc_queue_putting *putting) {
    return putting->block_count == 0 && putting->spare.shm == NULL;
}
/* As fipc_queue_try_put(), of a message that goes into a block: what it has done already when it
 * fails is in *putting, for fipc_queue_put(). */
FIPC_MUST_USE int fipc_queue_try_put_block(struct fipc_queue *queue, const void *data,
                                           uint64_t size_bytes, uint16_t tag,
                                           struct fipc_queue_putting *putting);

/* Messages to be put together, of any size and number. Begin it, or zero all of it, fill it
 * under no lock, put it, and call fipc_batch_end() in the end whatever came out. */
struct fipc_batch {
    uint8_t *records; /* as they will lie in the ring */
    uint64_t bytes, capacity;
    uint64_t items, largest_bytes;
    const void **large; /* where those lie that go in blocks; the caller keeps them */
    uint64_t large_count, large_capacity;
    /* How far it has been put. */
    uint64_t put_bytes, put_items, put_large;
    /* What is put next: records behind put_bytes, and blocks in hand for them. */
    struct fipc_run run;
    struct fipc_block block[FIPC_BATCH_REFS];
};

/* Begins a batch in memory of FIPC_BATCH_BYTES of malloc()'s, which is the batch's from then on, or
 * without (NULL). */
void fipc_batch_begin(struct fipc_batch *batch, uint8_t *records);
/* Takes that memory back, if the batch still has it or as much in its place; else NULL. The
 * batch is then only to be ended. */
uint8_t *fipc_batch_spare(struct fipc_batch *batch);

/* Room for the payload of one more record, FIPC_INLINE_MAX bytes, valid until the next
 * call; NULL without memory. */
uint8_t *fipc_batch_grow(struct fipc_batch *batch);
FIPC_ALWAYS_INLINE uint8_t *fipc_batch_room(struct fipc_batch *batch) {
    return fipc_likely(batch->capacity - batch->bytes >= fipc_record_bytes(FIPC_INLINE_MAX))
               ? batch->records + batch->bytes + FIPC_RECORD_BYTES
               : fipc_batch_grow(batch);
}

/* Adds the record whose payload is in that room now. */
FIPC_ALWAYS_INLINE void fipc_batch_add_record(struct fipc_batch *batch, uint32_t length,
                                              uint16_t kind, uint16_t tag, uint64_t message_bytes) {
    fipc_record_write(batch->records + batch->bytes, length, kind, tag);
    batch->bytes += fipc_record_bytes(length);
    batch->items++;
    if (message_bytes > batch->largest_bytes)
        batch->largest_bytes = message_bytes;
}

/* Adds `count` records of inline messages that were written into the room, header and all, one
 * behind the other, `bytes` in all; the largest message has largest_bytes. */
FIPC_ALWAYS_INLINE void fipc_batch_add_records(struct fipc_batch *batch, uint64_t count,
                                               uint64_t bytes, uint64_t largest_bytes) {
    batch->bytes += bytes;
    batch->items += count;
    if (largest_bytes > batch->largest_bytes)
        batch->largest_bytes = largest_bytes;
}

/* Adds a message of at most FIPC_INLINE_MAX bytes, which is in that room now. */
FIPC_ALWAYS_INLINE void fipc_batch_add(struct fipc_batch *batch, uint32_t size_bytes,
                                       uint16_t tag) {
    fipc_batch_add_record(batch, size_bytes, FIPC_RECORD_INLINE, tag, size_bytes);
}
/* Adds a larger one, which stays where it is until the batch has been put. -ENOMEM. */
FIPC_MUST_USE int fipc_batch_add_large(struct fipc_batch *batch, const void *data,
                                       uint64_t size_bytes, uint16_t tag);
/* Gives all up but what was put. */
void fipc_batch_end(struct fipc_queue *queue, struct fipc_batch *batch);

/* Puts the messages of a batch in their order, as many under one lock as fit and are
 * within FIPC_BATCH_BYTES and FIPC_BATCH_REFS, and waits for room for the next until
 * deadline_ns. batch->put_items says how many were put, also on error. Errors: as
 * fipc_queue_put(); after -EINTR call again with the same `putting`. */
FIPC_MUST_USE int fipc_queue_put_many(struct fipc_queue *queue, struct fipc_batch *batch,
                                      int64_t deadline_ns, struct fipc_queue_putting *putting);
/* The same as far as it needs no waiting, no block and no growing, once. 0: all was put. */
FIPC_MUST_USE int fipc_queue_try_put_many(struct fipc_queue *queue, struct fipc_batch *batch);

/* Gets the oldest messages, as many as lie in one piece; waits for the first. Each is then
 * to be read (fipc_many_peek()), and released if it is in blocks. Errors: as
 * fipc_queue_get(). */
FIPC_MUST_USE int fipc_queue_get_many(struct fipc_queue *queue, struct fipc_many *many,
                                      int64_t deadline_ns, struct fipc_waiting *waiting);
/* The same if that needs no waiting and no mapping. As fipc_queue_try_get(). */
FIPC_MUST_USE int fipc_queue_try_get_many(struct fipc_queue *queue, struct fipc_many *many);

/* Gets the oldest message if that needs no waiting and no mapping. As try_put. */
FIPC_MUST_USE int fipc_queue_try_get(struct fipc_queue *queue, struct fipc_got *got);
/* Gets the oldest message; waits until deadline_ns (0: does not wait). If got->block.shm
 * is set afterwards, the message is in the block, which the caller must release. Errors:
 * -ETIMEDOUT; -EINTR, look for signals and call again; -ENOMEM, its memory cannot be
 * mapped (nothing is lost); -EBADMSG; -EBADF; -ECANCELED; -ESHUTDOWN, shut and nothing
 * is left to get. Where fipc_queue_try_get() just said -EAGAIN and no signal was there after that,
 * waiting->is_fresh = 1 says so: then neither is looked for again before a sleep. */
FIPC_MUST_USE int fipc_queue_get(struct fipc_queue *queue, struct fipc_got *got,
                                 int64_t deadline_ns, struct fipc_waiting *waiting);
/* Gives all blocks of a message back. */
void fipc_queue_release(struct fipc_queue *queue, struct fipc_got *got);

/* From now on every put fails with -ESHUTDOWN, and every get once the queue is empty;
 * `immediate`: every get, what is queued is given up and freed here. Whoever is blocked
 * learns of it. Waits for locks only. Once more does what is still to be done. Errors:
 * -EINTR, look for signals and call again; -EBADMSG; -EBADF; those of fipc_segment_enter(). */
FIPC_MUST_USE int fipc_queue_shutdown(struct fipc_queue *queue, bool immediate);
/* 0; 1, shut down; 2, immediately. No lock; also after fipc_queue_detach(). */
int fipc_queue_shut_state(const struct fipc_queue *queue);
/* Behind an immediate shutdown: frees some of what its caller did not come to free. */
void fipc_queue_discard_some(struct fipc_queue *queue, int64_t deadline_ns);
/* As fipc_channel_is_empty() and fipc_channel_depth(); what was given up does not count. */
bool fipc_queue_is_empty(const struct fipc_queue *queue);
void fipc_queue_depth(const struct fipc_queue *queue, uint64_t *items, uint64_t *bytes);
/* Items put and not given up, got or not: as many calls of task_done() there can be. */
uint64_t fipc_queue_task_count(const struct fipc_queue *queue);

/* Marks one task as done: 0; -ERANGE, more often than items were put. */
FIPC_MUST_USE int fipc_queue_task_done(struct fipc_queue *queue);
/* Waits until every item put was marked done. Errors: -ETIMEDOUT, -EINTR, -ECANCELED. */
FIPC_MUST_USE int fipc_queue_join(struct fipc_queue *queue, int64_t deadline_ns,
                                  struct fipc_waiting *waiting);
/* Items put and not yet marked done. */
uint64_t fipc_queue_unfinished(const struct fipc_queue *queue);

/* Arms the doorbell and returns its descriptor. Errors: fipc_channel_arm(). */
FIPC_MUST_USE int fipc_queue_fileno(struct fipc_queue *queue);

#endif
