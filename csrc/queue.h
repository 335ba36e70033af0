/* queue.h - a many-to-many queue: one channel, blocks for large messages, limits,
 * counts of unfinished tasks, and the waiting. Knows nothing of Python objects: a
 * message is bytes and a tag. */
#ifndef FIPC_QUEUE_H
#define FIPC_QUEUE_H

#include "channel.h"

struct fipc_queue {
    struct fipc_segment segment;
    struct fipc_channel channel;
    struct fipc_spin put_spin;
    struct fipc_spin get_spin;
    int doorbell_fd; /* reads and writes the doorbell */
    uint64_t doorbell_inode;
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
/* Gives all up; nobody of this process may be inside. Never blocks. */
void fipc_queue_close(struct fipc_queue *queue);
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
    struct fipc_block block; /* the message, once copied */
    struct fipc_block spare; /* a ring in hand */
    int64_t lock_deadline_ns;
};

/* Puts a message of any size; waits for room until deadline_ns (0: does not wait).
 * Errors: -ETIMEDOUT, no room in time; -EINTR, look for signals and call again with
 * the same `putting`; -ENOMEM, -ENOSPC, -EFBIG (fipc_limit_name()); -E2BIG, larger
 * than max_bytes; -EBADMSG; -EBADF; -ECANCELED. On error nothing was put. */
FIPC_MUST_USE int fipc_queue_put(struct fipc_queue *queue, const void *data, uint64_t size_bytes,
                                 uint16_t tag, int64_t deadline_ns,
                                 struct fipc_queue_putting *putting);
void fipc_queue_put_end(struct fipc_queue *queue, struct fipc_queue_putting *putting);

/* Gets the oldest message if that needs no waiting and no mapping. As try_put. */
FIPC_MUST_USE int fipc_queue_try_get(struct fipc_queue *queue, struct fipc_got *got);
/* Gets the oldest message; waits until deadline_ns (0: does not wait). If got->block.shm
 * is set afterwards, the message is in the block, which the caller must release. Errors:
 * -ETIMEDOUT; -EINTR, look for signals and call again; -ENOMEM, its memory cannot be
 * mapped (nothing is lost); -EBADMSG; -EBADF; -ECANCELED. */
FIPC_MUST_USE int fipc_queue_get(struct fipc_queue *queue, struct fipc_got *got,
                                 int64_t deadline_ns, struct fipc_waiting *waiting);
void fipc_queue_release(struct fipc_queue *queue, struct fipc_got *got);

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
