/* queue.c - see queue.h: life of a queue, getting, tasks. Putting stands in queue_put.c. */
#define _GNU_SOURCE
#include "queue.h"

#include "queue_internal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "channel_fast.h"

/* How long a call that must not block still waits for a lock: its holder needs 0.1 us
 * unless it was preempted, and a killed holder's lock is free after 50 ms. */
#define LOCK_GRACE_NS (60 * FIPC_NS_PER_MS)

int64_t fipc_queue_lock_deadline(int64_t deadline_ns) {
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
    queue->refs = 1;
    rc = fipc_segment_create(&queue->segment, &segment_config);
    if (rc < 0)
        goto err_free;
    /* At once, unlike a pipe's: nearly all that looks at a queue reads its positions. */
    rc = fipc_segment_map(&queue->segment);
    if (rc < 0)
        goto err_segment;
    rc = fipc_os_doorbell();
    if (rc < 0)
        goto err_segment;
    queue->doorbell_fd = rc;
    rc = fipc_os_inode(queue->doorbell_fd, &queue->doorbell_inode);
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
    queue->refs = 1;
    rc = fipc_segment_open(&queue->segment, fd, FIPC_KIND_QUEUE);
    if (rc < 0)
        goto err_free;
    queue->doorbell_fd = doorbell_fd;
    rc = fipc_os_inode(doorbell_fd, &queue->doorbell_inode);
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

    if (queue->doorbell_fd >= 0 && fipc_os_inode(queue->doorbell_fd, &inode) == 0 &&
        inode == queue->doorbell_inode)
        (void)close(queue->doorbell_fd);
    queue->doorbell_fd = -1;
    queue->channel.bell_read_fd = queue->channel.bell_write_fd = -1;
    /* The slot is not ours to count in any more. */
    fipc_store_relaxed(&queue->channel.token, 0);
    fipc_segment_detach(&queue->segment);
}

void fipc_queue_close(struct fipc_queue *queue) {
    fipc_queue_detach(queue);
    fipc_queue_drop(queue);
}

void fipc_queue_keep(struct fipc_queue *queue) { (void)fipc_fetch_add_relaxed(&queue->refs, 1); }

void fipc_queue_drop(struct fipc_queue *queue) {
    /* Z1, pairs with itself: the last one sees what the others did. */
    if (fipc_fetch_add_seqcst(Z1, &queue->refs, (uint32_t)-1) != 1)
        return;
    fipc_segment_close(&queue->segment);
    free(queue);
}

void fipc_queue_cancel(struct fipc_queue *queue) {
    struct fipc_channel_shm *shm = queue->channel.shm;

    /* C1, pairs with C2, the sleepers' look at it after they marked themselves. */
    (void)fipc_exchange32_seqcst(C1, &queue->closing, 1);
    /* Wakes other processes' sleepers too; they look and sleep again. */
    fipc_sleepers_wake_all(&shm->put.sleepers);
    fipc_sleepers_wake_all(&shm->get.sleepers);
    fipc_sleepers_wake_all(&queue->segment.header->done_sleepers);
}

/* ---- getting ---- */

/* fipc_channel_get() where nothing is in the way. -EAGAIN, nothing is there; -EBUSY, not so
 * simply; -ENOLCK, the lock is taken: nothing has changed. The channel must have been entered. */
FIPC_ALWAYS_INLINE int get_simple(struct fipc_queue *queue, struct fipc_got *got) {
    struct fipc_channel *channel = &queue->channel;
    struct fipc_channel_shm *shm = channel->shm;
    struct fipc_record_shm header;
    uint64_t read_pos;
    int rc = -EBUSY;

    if (fipc_unlikely(channel->max_bytes != UINT64_MAX))
        return -EBUSY;
    if (fipc_unlikely(fipc_lock_try(channel->segment, &shm->get.lock) < 0))
        return -ENOLCK;
    if (fipc_likely(fipc_load_relaxed(&shm->get.flags) == 0))
        rc = fipc_channel_get_fast(channel, FIPC_RECORD_INLINE, got->buffer, got->buffer_bytes,
                                   &header, &read_pos);
    if (fipc_likely(rc == 0)) {
        got->length = header.length;
        got->size_bytes = header.length;
        got->kind = header.kind;
        got->tag = header.tag;
        fipc_store_relaxed(&queue->get_run, fipc_load_relaxed(&queue->get_run) + 1);
        /* Where more is known to be there, the producers' line is left to them. */
        if (read_pos == channel->seen_write_pos)
            fipc_channel_silence_if_empty(channel, read_pos);
    }
    fipc_lock_release(&shm->get.lock);
    if (fipc_likely(rc == 0))
        fipc_crowd_done(&queue->get_crowd);
    return rc;
}

/* The same; -EINPROGRESS, others take one message after the other, try later. */
FIPC_ALWAYS_INLINE int get_fast(struct fipc_queue *queue, struct fipc_got *got) {
    int rc = get_simple(queue, got);

    if (fipc_unlikely(rc == -ENOLCK))
        return fipc_crowd_meets(&queue->get_crowd) ? -EINPROGRESS : -EBUSY;
    return rc;
}

FIPC_ALWAYS_INLINE int try_get_once(struct fipc_queue *queue, struct fipc_got *got) {
    int rc = get_fast(queue, got);

    if (fipc_unlikely(rc == -EBUSY)) {
        rc = fipc_channel_get(&queue->channel, got, 0);
        fipc_crowd_left(&queue->get_crowd);
    }
    if (fipc_likely(rc == 0))
        fipc_sleepers_wake(&queue->channel.shm->get.sleepers);
    return rc;
}

/* Nothing was there: looks a little longer. */
static __attribute__((noinline)) int try_get_again(struct fipc_queue *queue, struct fipc_got *got) {
    const struct fipc_channel *channel = &queue->channel;
    const struct fipc_side_shm *put = &channel->shm->put;
    uint32_t seen;

    /* After a run of messages fipc_queue_get() makes a pause instead. */
    if (fipc_load_relaxed(&queue->get_run) >= FIPC_RUN_LEAST)
        return -EAGAIN;
    seen = fipc_load_acquire(A1, &put->gen);
    if (fipc_channel_is_empty(channel) && !fipc_spin_glance(&queue->get_spin, &put->gen, seen))
        return -EAGAIN;
    return try_get_once(queue, got);
}

int fipc_queue_try_get(struct fipc_queue *queue, struct fipc_got *got) {
    struct fipc_channel *channel = &queue->channel;
    int rc;

    if (fipc_unlikely(!fipc_token_is_current(fipc_load_acquire(V2, &channel->token))))
        return -EBUSY;
    got->block_count = 0;
    rc = try_get_once(queue, got);
    if (fipc_unlikely(rc < 0)) {
        if (rc == -EAGAIN)
            rc = try_get_again(queue, got);
        if (rc < 0)
            got->block_count = 0;
    }
    fipc_channel_rest(channel);
    return rc;
}

/* Waits until the put side moves. 0: look again. */
static int wait_for_item(struct fipc_queue *queue, struct fipc_waiting *waiting,
                         int64_t deadline_ns) {
    struct fipc_side_shm *put = &queue->channel.shm->put;
    uint32_t seen = fipc_load_seqcst(A1, &put->gen),
             *getters = fipc_channel_getters(&queue->channel);
    bool is_fresh = waiting->is_fresh;
    uint32_t mark;
    int32_t budget_ns;
    int64_t until_ns;
    int rc;

    waiting->is_fresh = 0;
    if (!fipc_channel_is_empty(&queue->channel))
        return 0;
    if (deadline_ns != FIPC_FOREVER && fipc_os_now_ns() >= deadline_ns)
        return -ETIMEDOUT;
    if (!fipc_waiting_has_looked(waiting)) {
        budget_ns = waiting->rounds == 0 ? fipc_spin_budget(&queue->get_spin) : 0;
        if (budget_ns != 0 &&
            fipc_spin_for(&queue->get_spin, budget_ns, &put->gen, seen, deadline_ns))
            return fipc_waiting_spared(waiting);
        /* Where no time went by since the caller looked for signals, he need not look again. */
        if (budget_ns != 0 || !is_fresh)
            return -EINTR;
        waiting->has_looked = 0;
    }
    mark = fipc_sleepers_mark(&put->sleepers);
    if (!fipc_channel_is_empty(&queue->channel) || fipc_side_is_shut(put) ||
        fipc_load_seqcst(C2, &queue->closing))
        return 0;
    until_ns = fipc_waiting_until(waiting, deadline_ns, fipc_arena_trim_is_due(&queue->segment));
    fipc_fetch_add_relaxed(getters, 1);
    rc = fipc_sleepers_wait(&put->sleepers, mark, until_ns);
    fipc_fetch_add_relaxed(getters, -1);
    if (rc == -ETIMEDOUT) {
        fipc_arena_trim(&queue->segment);
        /* Not after the first slice, which may be short, and just have crossed a wake. */
        if (waiting->rounds > 1 && !fipc_channel_is_empty(&queue->channel))
            fipc_fetch_add_relaxed(&queue->channel.shm->late_wakes, 1);
        return until_ns >= deadline_ns ? 0 : -EINTR;
    }
    return rc;
}

int fipc_queue_get(struct fipc_queue *queue, struct fipc_got *got, int64_t deadline_ns,
                   struct fipc_waiting *waiting) {
    return fipc_queue_get_either(queue, got, NULL, deadline_ns, waiting);
}

int fipc_queue_get_either(struct fipc_queue *queue, struct fipc_got *got, struct fipc_many *many,
                          int64_t deadline_ns, struct fipc_waiting *waiting) {
    struct fipc_channel *channel = &queue->channel;
    struct fipc_channel_shm *shm = channel->shm;
    bool found_nothing = waiting->is_fresh;
    int64_t lock_deadline_ns;
    int rc;

    got->block_count = 0;
    /* In each call: between two of them the caller may have been forked. */
    rc = fipc_channel_enter(channel);
    if (fipc_unlikely(rc < 0))
        return rc;
    if (deadline_ns > 0) {
        /* Signals may have come meanwhile. */
        if (fipc_crowd_give_way(&queue->get_crowd, deadline_ns))
            waiting->is_fresh = 0;
        if (fipc_spin_lull(&queue->get_run))
            waiting->is_fresh = 0;
    }
    lock_deadline_ns = fipc_queue_lock_deadline(deadline_ns);
    for (;;) {
        if (fipc_load_relaxed(&queue->closing))
            return -ECANCELED;
        if (found_nothing && fipc_channel_is_empty(channel)) {
            rc = -EAGAIN;
        } else if (many == NULL && waiting->rounds != 0 && get_simple(queue, got) == 0) {
            /* Whoever was woken has this way in his caches, if any. What he slept for is no part of a
             * run. */
            fipc_store_relaxed(&queue->get_run, 0);
            break;
        } else {
            rc = many != NULL ? fipc_channel_get_many(channel, many, lock_deadline_ns)
                              : fipc_channel_get(channel, got, lock_deadline_ns);
        }
        if (rc == 0)
            break;
        found_nothing = false;
        got->block_count = 0;
        if (rc == -ESTALE) {
            rc = fipc_channel_map(channel);
        } else if (rc == -ESHUTDOWN) {
            fipc_queue_discard_some(queue, lock_deadline_ns);
        } else if (rc == -EAGAIN && fipc_side_is_shut(&shm->put)) {
            /* What was put last was published before that. */
            rc = fipc_channel_is_empty(channel) ? -ESHUTDOWN : 0;
        } else if (rc == -EAGAIN) {
            /* Whatever the token says: who died silencing it left a byte too many. */
            if (fipc_load_relaxed(&shm->put.flags) & FIPC_SIDE_ARMED) {
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
            /* Nobody waits here any more, as who gives memory back usually does. */
            if (rc == -ESHUTDOWN)
                fipc_arena_trim_last(&queue->segment);
            return rc;
        }
    }
    fipc_crowd_left(&queue->get_crowd);
    fipc_sleepers_wake_some(&shm->get.sleepers, many != NULL ? many->items : 1);
    if (waiting->rounds != 0 && !fipc_channel_is_empty(channel))
        fipc_sleepers_wake(&shm->put.sleepers);
    return 0;
}

void fipc_queue_release(struct fipc_queue *queue, struct fipc_got *got) {
    struct fipc_block block;
    uint64_t size_bytes;

    for (uint32_t i = 0; i < got->block_count; i++)
        if (fipc_channel_got_block(&queue->channel, got, i, &block, &size_bytes) == 0)
            fipc_block_release(&queue->segment, &block);
    got->block_count = 0;
    fipc_arena_trim(&queue->segment);
}

/* ---- tasks ---- */

uint64_t fipc_queue_unfinished(const struct fipc_queue *queue) {
    uint64_t done = fipc_load_seqcst(J2, &queue->segment.header->done_count);
    uint64_t tasks = fipc_queue_task_count(queue);

    /* Below: given up by a shutdown after it was marked as done. */
    return tasks > done ? tasks - done : 0;
}

int fipc_queue_task_done(struct fipc_queue *queue) {
    struct fipc_header_shm *header = queue->segment.header;
    uint64_t done;

    do {
        done = fipc_load_seqcst(J2, &header->done_count);
        if (done >= fipc_queue_task_count(queue))
            return -ERANGE;
        /* step task-done. J1, pairs with J2 in fipc_queue_unfinished(): dying behind it costs
         * join() its recheck interval. */
    } while (!fipc_cas64_seqcst(J1, &header->done_count, done, done + 1));
    /* Counted anew: a shutdown may have given up the rest. */
    if (fipc_queue_unfinished(queue) == 0)
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
        if (!fipc_waiting_has_looked(waiting))
            return -EINTR;
        mark = fipc_sleepers_mark(&header->done_sleepers);
        if (fipc_queue_unfinished(queue) == 0 || fipc_load_seqcst(C2, &queue->closing))
            continue;
        until_ns = fipc_waiting_until(waiting, deadline_ns, false);
        rc = fipc_sleepers_wait(&header->done_sleepers, mark, until_ns);
        if (rc == -EINTR || (rc == -ETIMEDOUT && until_ns < deadline_ns))
            return -EINTR;
    }
}

int fipc_queue_fileno(struct fipc_queue *queue) {
    uint64_t inode;
    int rc = fipc_os_inode(queue->doorbell_fd, &inode);

    if (rc < 0 || inode != queue->doorbell_inode)
        return -EBADF;
    rc = fipc_channel_arm(&queue->channel, queue->doorbell_fd, fipc_queue_lock_deadline(0));
    return rc < 0 ? rc : queue->doorbell_fd;
}
