/* queue.c - see queue.h. */
#define _GNU_SOURCE
#include "queue.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How long a call that must not block still waits for a lock: its holder needs 0.1 us
 * unless it was preempted, and a killed holder's lock is free after 50 ms. */
#define LOCK_GRACE_NS (60 * FIPC_NS_PER_MS)

static int inode_of(int fd, uint64_t *inode) {
    uint64_t length;
    bool sealed;

    return fipc_os_memfd_stat(fd, inode, &length, &sealed);
}

static int64_t lock_deadline(int64_t deadline_ns) {
    int64_t grace_ns = fipc_os_now_ns() + LOCK_GRACE_NS;

    return deadline_ns > grace_ns ? deadline_ns : grace_ns;
}

/* ---- life ---- */

static void connect_channel(struct fipc_queue *queue) {
    fipc_channel_init(&queue->channel, &queue->segment, 0);
    queue->channel.bell_read_fd = queue->channel.bell_write_fd = queue->doorbell_fd;
    queue->channel.bell_inode = queue->doorbell_inode;
}

int fipc_queue_create(const struct fipc_queue_config *config, struct fipc_queue **out) {
    struct fipc_segment_config segment_config = {
        .kind = FIPC_KIND_QUEUE,
        .ring_log2 = FIPC_RING_FIRST_LOG2,
        .channel_count = 1,
        .maxsize = config->maxsize,
        .max_bytes = config->max_bytes,
        .label = config->label,
    };
    struct fipc_queue *queue = aligned_alloc(FIPC_CACHE_LINE, fipc_align_up(sizeof(*queue), 64));
    int rc;

    if (queue == NULL)
        return -ENOMEM;
    memset(queue, 0, sizeof(*queue));
    rc = fipc_segment_create(&queue->segment, &segment_config);
    if (rc < 0)
        goto err_free;
    rc = fipc_os_doorbell();
    if (rc < 0)
        goto err_segment;
    queue->doorbell_fd = rc;
    rc = inode_of(queue->doorbell_fd, &queue->doorbell_inode);
    if (rc < 0)
        goto err_doorbell;
    connect_channel(queue);
    *out = queue;
    return 0;
err_doorbell:
    (void)close(queue->doorbell_fd);
err_segment:
    fipc_segment_close(&queue->segment);
err_free:
    free(queue);
    return rc;
}

int fipc_queue_open(int fd, int doorbell_fd, struct fipc_queue **out) {
    struct fipc_queue *queue = aligned_alloc(FIPC_CACHE_LINE, fipc_align_up(sizeof(*queue), 64));
    int rc;

    if (queue == NULL)
        return -ENOMEM;
    memset(queue, 0, sizeof(*queue));
    rc = fipc_segment_open(&queue->segment, fd, FIPC_KIND_QUEUE);
    if (rc < 0)
        goto err_free;
    queue->doorbell_fd = doorbell_fd;
    rc = inode_of(doorbell_fd, &queue->doorbell_inode);
    if (rc < 0)
        goto err_segment;
    connect_channel(queue);
    *out = queue;
    return 0;
err_segment:
    queue->segment.inode = 0; /* the descriptor stays the caller's */
    fipc_segment_close(&queue->segment);
err_free:
    free(queue);
    return rc;
}

void fipc_queue_detach(struct fipc_queue *queue) {
    uint64_t inode;

    if (queue->doorbell_fd >= 0 && inode_of(queue->doorbell_fd, &inode) == 0 &&
        inode == queue->doorbell_inode)
        (void)close(queue->doorbell_fd);
    queue->doorbell_fd = -1;
    queue->channel.bell_read_fd = queue->channel.bell_write_fd = -1;
    fipc_segment_detach(&queue->segment);
}

void fipc_queue_close(struct fipc_queue *queue) {
    fipc_queue_detach(queue);
    fipc_segment_close(&queue->segment);
    free(queue);
}

void fipc_queue_cancel(struct fipc_queue *queue) {
    struct fipc_channel_shm *shm = queue->channel.shm;

    /* C1, pairs with the sleepers' look at it after they marked themselves. */
    (void)fipc_exchange_seqcst(&queue->closing, 1);
    /* Wakes other processes' sleepers too; they look and sleep again. */
    fipc_sleepers_wake_all(&shm->put.sleepers);
    fipc_sleepers_wake_all(&shm->get.sleepers);
    fipc_sleepers_wake_all(&queue->segment.header->done_sleepers);
}

/* ---- putting ---- */

int fipc_queue_try_put(struct fipc_queue *queue, const void *data, uint32_t size_bytes,
                       uint16_t tag) {
    struct fipc_channel *channel = &queue->channel;
    struct fipc_put put = {
        .data = data,
        .data_bytes = size_bytes,
        .kind = FIPC_RECORD_INLINE,
        .tag = tag,
        .items = 1,
        .bytes = size_bytes,
    };
    int rc;

    if (fipc_unlikely(!fipc_token_is_current(fipc_load_acquire(&channel->token))))
        return -EBUSY;
    rc = fipc_channel_put(channel, &put, 0);
    if (fipc_likely(rc == 0))
        fipc_sleepers_wake(&channel->shm->put.sleepers);
    return rc;
}

/* Waits until the get side moves. 0: look again. */
static int wait_for_room(struct fipc_queue *queue, struct fipc_waiting *waiting,
                         int64_t deadline_ns) {
    struct fipc_side_shm *get = &queue->channel.shm->get;
    uint32_t seen = fipc_load_seqcst(&get->gen);
    int64_t until_ns;
    int rc;

    if (fipc_os_now_ns() >= deadline_ns)
        return -ETIMEDOUT;
    if (waiting->rounds == 0 && !waiting->mark_is_set &&
        fipc_spin_while(&queue->put_spin, &get->gen, seen, deadline_ns))
        return 0;
    if (waiting->mark_is_set) {
        /* Marked and looked again. */
        waiting->mark_is_set = 0;
        until_ns = fipc_waiting_until(waiting, deadline_ns);
        rc = fipc_sleepers_wait(&get->sleepers, waiting->mark, until_ns);
        return rc == -ETIMEDOUT ? (until_ns >= deadline_ns ? 0 : -EINTR) : rc;
    }
    waiting->mark = fipc_sleepers_mark(&get->sleepers);
    waiting->mark_is_set = 1;
    return 0;
}

static int put_once(struct fipc_queue *queue, struct fipc_put *put, int64_t deadline_ns,
                    struct fipc_queue_putting *putting) {
    struct fipc_channel *channel = &queue->channel;
    int rc;

    for (;;) {
        if (fipc_load_relaxed(&queue->closing))
            return -ECANCELED;
        put->spare_ring = putting->spare.shm != NULL ? &putting->spare : NULL;
        put->spare_used = false;
        rc = fipc_channel_put(channel, put, putting->lock_deadline_ns);
        if (put->spare_used)
            putting->spare.shm = NULL;
        switch (rc) {
        case 0:
            return 0;
        case -ENOBUFS:
            rc = fipc_channel_spare(channel, putting->lock_deadline_ns, &putting->spare);
            if (rc < 0) {
                putting->spare.shm = NULL;
                return rc;
            }
            break;
        case -ESTALE:
            rc = fipc_channel_map(channel);
            if (rc < 0)
                return rc;
            break;
        case -EAGAIN:
            rc = wait_for_room(queue, &putting->waiting, deadline_ns);
            if (rc < 0)
                return rc;
            break;
        default:
            return rc;
        }
    }
}

/* A signal handler may have forked since the call before: what the parent has in hand
 * is not the child's. */
static void forget_if_not_ours(const struct fipc_queue *queue, struct fipc_block *block) {
    if (block->shm != NULL && fipc_load_relaxed(&block->shm->owner) != queue->segment.owner)
        block->shm = NULL;
}

int fipc_queue_put(struct fipc_queue *queue, const void *data, uint64_t size_bytes, uint16_t tag,
                   int64_t deadline_ns, struct fipc_queue_putting *putting) {
    struct fipc_channel *channel = &queue->channel;
    struct fipc_block_ref_shm ref;
    struct fipc_put put = {.tag = tag, .items = 1, .bytes = size_bytes};
    int rc = fipc_channel_enter(channel);

    if (rc < 0)
        return rc;
    forget_if_not_ours(queue, &putting->block);
    forget_if_not_ours(queue, &putting->spare);
    if (size_bytes > channel->max_bytes)
        return -E2BIG;
    if (putting->lock_deadline_ns == 0)
        putting->lock_deadline_ns = lock_deadline(deadline_ns);
    if (size_bytes <= FIPC_INLINE_MAX) {
        put.kind = FIPC_RECORD_INLINE;
        put.data = data;
        put.data_bytes = (uint32_t)size_bytes;
    } else {
        if (putting->block.shm == NULL) {
            rc = fipc_block_alloc(&queue->segment, size_bytes, FIPC_BLOCK_KIND_DATA,
                                  putting->lock_deadline_ns, &putting->block);
            if (rc < 0) {
                putting->block.shm = NULL;
                return rc;
            }
            memcpy(putting->block.data, data, size_bytes);
        }
        ref = (struct fipc_block_ref_shm){putting->block.id, size_bytes};
        put.kind = FIPC_RECORD_BLOCK;
        put.data = &ref;
        put.data_bytes = sizeof(ref);
        put.block = &putting->block;
    }
    rc = put_once(queue, &put, deadline_ns, putting);
    if (rc == 0) {
        putting->block.shm = NULL; /* the queue's now */
        fipc_sleepers_wake(&channel->shm->put.sleepers);
        /* Having slept for room, pass the wake on if there is room for more. */
        if (putting->waiting.rounds != 0)
            fipc_sleepers_wake(&channel->shm->get.sleepers);
        fipc_arena_trim(&queue->segment);
    } else if (rc != -EINTR && putting->waiting.rounds != 0) {
        fipc_sleepers_wake(&channel->shm->get.sleepers);
    }
    return rc;
}

void fipc_queue_put_end(struct fipc_queue *queue, struct fipc_queue_putting *putting) {
    if (putting->block.shm != NULL)
        fipc_block_release(&queue->segment, &putting->block);
    if (putting->spare.shm != NULL)
        fipc_block_release(&queue->segment, &putting->spare);
    putting->block.shm = putting->spare.shm = NULL;
}

/* ---- getting ---- */

int fipc_queue_try_get(struct fipc_queue *queue, struct fipc_got *got) {
    struct fipc_channel *channel = &queue->channel;
    int rc;

    if (fipc_unlikely(!fipc_token_is_current(fipc_load_acquire(&channel->token))))
        return -EBUSY;
    got->block.shm = NULL;
    rc = fipc_channel_get(channel, got, 0);
    if (fipc_likely(rc == 0))
        fipc_sleepers_wake(&channel->shm->get.sleepers);
    else
        got->block.shm = NULL;
    return rc;
}

/* Waits until the put side moves. 0: look again. */
static int wait_for_item(struct fipc_queue *queue, struct fipc_waiting *waiting,
                         int64_t deadline_ns) {
    struct fipc_side_shm *put = &queue->channel.shm->put;
    uint32_t seen = fipc_load_seqcst(&put->gen);
    uint32_t mark;
    int64_t until_ns;
    int rc;

    if (!fipc_channel_is_empty(&queue->channel))
        return 0;
    if (fipc_os_now_ns() >= deadline_ns)
        return -ETIMEDOUT;
    if (waiting->rounds == 0 && fipc_spin_while(&queue->get_spin, &put->gen, seen, deadline_ns))
        return 0;
    mark = fipc_sleepers_mark(&put->sleepers);
    if (!fipc_channel_is_empty(&queue->channel) || fipc_load_seqcst(&queue->closing))
        return 0;
    until_ns = fipc_waiting_until(waiting, deadline_ns);
    rc = fipc_sleepers_wait(&put->sleepers, mark, until_ns);
    if (rc == -ETIMEDOUT) {
        fipc_arena_trim(&queue->segment);
        /* Not after the first, short slice, which may just have crossed a wake. */
        if (waiting->rounds > 1 && !fipc_channel_is_empty(&queue->channel))
            fipc_fetch_add_relaxed(&queue->channel.shm->late_wakes, 1);
        return until_ns >= deadline_ns ? 0 : -EINTR;
    }
    return rc;
}

int fipc_queue_get(struct fipc_queue *queue, struct fipc_got *got, int64_t deadline_ns,
                   struct fipc_waiting *waiting) {
    struct fipc_channel *channel = &queue->channel;
    struct fipc_channel_shm *shm = channel->shm;
    int64_t lock_deadline_ns = lock_deadline(deadline_ns);
    int rc;

    got->block.shm = NULL;
    for (;;) {
        if (fipc_load_relaxed(&queue->closing))
            return -ECANCELED;
        rc = fipc_channel_get(channel, got, lock_deadline_ns);
        if (rc == 0)
            break;
        got->block.shm = NULL;
        if (rc == -ESTALE) {
            rc = fipc_channel_map(channel);
        } else if (rc == -EAGAIN) {
            /* Whatever the token says: who died silencing it left a byte too many. */
            if (fipc_load_relaxed(&shm->put.armed)) {
                rc = fipc_channel_disarm_if_empty(channel, lock_deadline_ns);
                if (rc < 0 && rc != -ETIMEDOUT)
                    return rc;
            }
            rc = wait_for_item(queue, waiting, deadline_ns);
        } else if (rc == -EMSGSIZE) {
            rc = -EBADMSG;
        }
        if (rc < 0) {
            /* Whoever was woken and takes nothing passes the wake on. */
            if (waiting->rounds != 0 && !fipc_channel_is_empty(channel))
                fipc_sleepers_wake(&shm->put.sleepers);
            return rc;
        }
    }
    fipc_sleepers_wake(&shm->get.sleepers);
    if (waiting->rounds != 0 && !fipc_channel_is_empty(channel))
        fipc_sleepers_wake(&shm->put.sleepers);
    return 0;
}

void fipc_queue_release(struct fipc_queue *queue, struct fipc_got *got) {
    if (got->block.shm != NULL)
        fipc_block_release(&queue->segment, &got->block);
    got->block.shm = NULL;
    fipc_arena_trim(&queue->segment);
}

/* ---- tasks ---- */

uint64_t fipc_queue_unfinished(const struct fipc_queue *queue) {
    uint64_t done = fipc_load_seqcst(&queue->segment.header->done_count);

    return fipc_side_read(&queue->channel.shm->put).count - done;
}

int fipc_queue_task_done(struct fipc_queue *queue) {
    struct fipc_header_shm *header = queue->segment.header;
    uint64_t done, put;

    do {
        done = fipc_load_seqcst(&header->done_count);
        put = fipc_side_read(&queue->channel.shm->put).count;
        if (done >= put)
            return -ERANGE;
    } while (!fipc_cas64_seqcst(&header->done_count, done, done + 1));
    /* step task-done is the swap above: dying before this costs join() its recheck
     * interval. */
    if (done + 1 == put)
        fipc_sleepers_wake_all(&header->done_sleepers);
    return 0;
}

int fipc_queue_join(struct fipc_queue *queue, int64_t deadline_ns, struct fipc_waiting *waiting) {
    struct fipc_header_shm *header = queue->segment.header;

    for (;;) {
        int64_t until_ns;
        uint32_t mark;
        int rc;

        if (fipc_queue_unfinished(queue) == 0)
            return 0;
        if (fipc_load_relaxed(&queue->closing))
            return -ECANCELED;
        if (fipc_os_now_ns() >= deadline_ns)
            return -ETIMEDOUT;
        mark = fipc_sleepers_mark(&header->done_sleepers);
        if (fipc_queue_unfinished(queue) == 0 || fipc_load_seqcst(&queue->closing))
            continue;
        until_ns = fipc_waiting_until(waiting, deadline_ns);
        rc = fipc_sleepers_wait(&header->done_sleepers, mark, until_ns);
        if (rc == -EINTR || (rc == -ETIMEDOUT && until_ns < deadline_ns))
            return -EINTR;
    }
}

int fipc_queue_fileno(struct fipc_queue *queue) {
    uint64_t inode;
    int rc = inode_of(queue->doorbell_fd, &inode);

    if (rc < 0 || inode != queue->doorbell_inode)
        return -EBADF;
    rc = fipc_channel_arm(&queue->channel, queue->doorbell_fd, lock_deadline(0));
    return rc < 0 ? rc : queue->doorbell_fd;
}
