/* queue_shut.c - the end of stream of queue.h: shutdown, what it leaves, and the counts
 * as they are behind it. */
#include "queue.h"

/* Of what another has given up and died over, each get() that fails frees so many
 * messages: less than a millisecond. */
#define DISCARD_STEPS 256

/* Frees what was given up, at most so many messages: 0, there may be more; 1, all is done. */
static int discard(struct fipc_queue *queue, uint64_t messages, int64_t deadline_ns) {
    int rc = 0;

    for (; rc == 0 && messages > 0; messages--) {
        rc = fipc_channel_discard(&queue->channel, deadline_ns);
        if (rc == -ESTALE)
            rc = fipc_channel_map(&queue->channel);
    }
    if (rc == -EAGAIN || rc == 0)
        fipc_arena_trim_last(&queue->segment);
    return rc == -EAGAIN ? 1 : rc;
}

void fipc_queue_discard_some(struct fipc_queue *queue, int64_t deadline_ns) {
    int rc;

    if (fipc_channel_is_empty(&queue->channel))
        return;
    rc = discard(queue, DISCARD_STEPS, deadline_ns);
    (void)rc;
}

int fipc_queue_shutdown(struct fipc_queue *queue, bool immediate) {
    struct fipc_channel_shm *shm = queue->channel.shm;
    int rc = fipc_channel_shut_put(&queue->channel, FIPC_FOREVER);

    if (rc < 0)
        return rc;
    /* Also when it was shut before: who shut it may have died before this. */
    fipc_sleepers_wake_all(&shm->put.sleepers);
    fipc_sleepers_wake_all(&shm->get.sleepers);
    if (!immediate)
        return 0;
    rc = fipc_channel_shut_get(&queue->channel, FIPC_FOREVER);
    if (rc < 0)
        return rc;
    fipc_sleepers_wake_all(&shm->put.sleepers);
    fipc_sleepers_wake_all(&queue->segment.header->done_sleepers);
    rc = discard(queue, UINT64_MAX, FIPC_FOREVER);
    /* Without the memory to map it, what is left is for who comes next. */
    return rc == 1 || rc == -ENOMEM ? 0 : rc;
}

int fipc_queue_shut_state(const struct fipc_queue *queue) {
    const struct fipc_channel_shm *shm = queue->channel.shm;

    return fipc_side_is_shut(&shm->get) ? 2 : fipc_side_is_shut(&shm->put) ? 1 : 0;
}

bool fipc_queue_is_empty(const struct fipc_queue *queue) {
    return fipc_side_is_shut(&queue->channel.shm->get) || fipc_channel_is_empty(&queue->channel);
}

void fipc_queue_depth(const struct fipc_queue *queue, uint64_t *items, uint64_t *bytes) {
    if (fipc_side_is_shut(&queue->channel.shm->get))
        *items = *bytes = 0;
    else
        fipc_channel_depth(&queue->channel, items, bytes);
}

uint64_t fipc_queue_task_count(const struct fipc_queue *queue) {
    const struct fipc_channel_shm *shm = queue->channel.shm;

    return fipc_side_is_shut(&shm->get) ? fipc_load_relaxed(&shm->drain_from)
                                        : fipc_side_read(&shm->put).count;
}
