/* queue_put.c - see queue.h: putting one message, small or in blocks, and waiting for room. */
#include "copy.h"
#include "queue_internal.h"

#include <string.h>

#include "channel_fast.h"

/* So many bytes of large messages, of AHEAD_LEAST_BYTES each or more, are queued, read and written at
 * once where those who read keep up. Arrays of 8 MiB through a Queue(4) on CPUs that share 32 MiB of
 * cache: 13.7 GB/s, with this 20 to 22; a program in C makes 31 with two such blocks, and 22 with four. */
#define AHEAD_BYTES (UINT64_C(16) << 20)
#define AHEAD_LEAST_BYTES (UINT64_C(1) << 20)
/* Only for one who does nothing else: the last so many came at once behind each other. Who works
 * between his messages has a queue so that he need not wait. */
#define AHEAD_RUN 4
#define AHEAD_AT_ONCE 8 /* the part of a slow copy's time that may lie between two */
/* A wait lasts as long as a slow copy, 1 ms for 8 MiB; after so many in vain one in 256 puts waits. */
#define AHEAD_BYTES_PER_NS 8
#define AHEAD_MISSES_MOST 8
/* A look takes both sides' lines; somebody who reads may want this CPU. */
#define AHEAD_PAUSES_PER_LOOK 40
#define AHEAD_LOOKS_PER_YIELD 16

/* With what is not simple in the way. */
static int try_put_slow(struct fipc_channel *channel, const void *data, uint32_t size_bytes,
                        uint16_t tag) {
    struct fipc_put put = {
        .data = data,
        .data_bytes = size_bytes,
        .kind = FIPC_RECORD_INLINE,
        .tag = tag,
        .items = 1,
        .bytes = size_bytes,
    };

    return fipc_channel_put(channel, &put, 0);
}

int fipc_queue_try_put(struct fipc_queue *queue, const void *data, uint32_t size_bytes,
                       uint16_t tag) {
    struct fipc_channel *channel = &queue->channel;
    int rc = -EAGAIN;

    if (fipc_unlikely(!fipc_token_is_current(fipc_load_acquire(V2, &channel->token))))
        return -EBUSY;
    if (fipc_likely(channel->max_bytes == UINT64_MAX))
        rc = fipc_channel_put_fast(channel, data, size_bytes, FIPC_RECORD_INLINE, tag);
    if (fipc_likely(rc == 0)) {
        fipc_crowd_done(&queue->put_crowd);
    } else {
        if (rc == -EBUSY && fipc_crowd_meets(&queue->put_crowd))
            return -EBUSY;
        rc = try_put_slow(channel, data, size_bytes, tag);
        fipc_crowd_left(&queue->put_crowd);
    }
    if (fipc_likely(rc == 0))
        fipc_sleepers_wake(&channel->shm->put.sleepers);
    return rc;
}

/* Waits until the get side moves. 0: look again. */
static int wait_for_room(struct fipc_queue *queue, struct fipc_waiting *waiting,
                         int64_t deadline_ns) {
    struct fipc_side_shm *get = &queue->channel.shm->get;
    uint32_t seen = fipc_load_seqcst(A1, &get->gen),
             *putters = fipc_channel_putters(&queue->channel);
    int64_t until_ns;
    int rc;

    if (fipc_os_now_ns() >= deadline_ns)
        return -ETIMEDOUT;
    if (!waiting->mark_is_set && !fipc_waiting_has_looked(waiting)) {
        if (waiting->rounds == 0 && fipc_spin_while(&queue->put_spin, &get->gen, seen, deadline_ns))
            return fipc_waiting_spared(waiting);
        return -EINTR;
    }
    if (waiting->mark_is_set) {
        /* Marked and looked again. */
        waiting->mark_is_set = 0;
        until_ns = fipc_waiting_until(waiting, deadline_ns, false);
        fipc_fetch_add_relaxed(putters, 1);
        rc = fipc_sleepers_wait(&get->sleepers, waiting->mark, until_ns);
        fipc_fetch_add_relaxed(putters, -1);
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
        /* C2: behind the mark of wait_for_room(), which comes back here before it sleeps. */
        if (fipc_load_seqcst(C2, &queue->closing))
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

bool fipc_queue_owns(const struct fipc_queue *queue, const struct fipc_block *block) {
    return fipc_load_relaxed(&block->shm->owner) == queue->segment.owner;
}

int fipc_queue_put_begin(struct fipc_queue *queue, uint64_t size_bytes, int64_t deadline_ns,
                         struct fipc_queue_putting *putting) {
    int rc = fipc_channel_enter(&queue->channel);

    if (rc < 0)
        return rc;
    if (fipc_side_is_shut(&queue->channel.shm->put))
        return -ESHUTDOWN;
    if (size_bytes > queue->channel.max_bytes)
        return -E2BIG;
    if (putting->lock_deadline_ns == 0)
        putting->lock_deadline_ns = fipc_queue_lock_deadline(deadline_ns);
    if (putting->spare.shm != NULL && !fipc_queue_owns(queue, &putting->spare))
        putting->spare.shm = NULL;
    if (putting->block_count != 0 && !fipc_queue_owns(queue, &putting->block[0])) {
        putting->block_count = 0;
        putting->filled = false;
        return -EOWNERDEAD;
    }
    return 0;
}

int fipc_queue_put_record(struct fipc_queue *queue, struct fipc_put *put, int64_t deadline_ns,
                          struct fipc_queue_putting *putting) {
    struct fipc_channel *channel = &queue->channel;
    int rc;

    if (deadline_ns > 0)
        fipc_crowd_give_way(&queue->put_crowd, deadline_ns);
    rc = put_once(queue, put, deadline_ns, putting);
    fipc_crowd_left(&queue->put_crowd);

    if (rc == 0) {
        putting->block_count = 0; /* the queue's now */
        fipc_sleepers_wake_some(&channel->shm->put.sleepers, put->items);
        /* Having slept for room, pass the wake on if there is room for more. */
        if (putting->waiting.rounds != 0)
            fipc_sleepers_wake(&channel->shm->get.sleepers);
        if (put->bytes >= AHEAD_LEAST_BYTES)
            fipc_store_relaxed(&queue->ahead.ended_ns, fipc_os_now_ns());
        fipc_arena_trim(&queue->segment);
    } else if (rc != -EINTR && putting->waiting.rounds != 0) {
        fipc_sleepers_wake(&channel->shm->get.sleepers);
    }
    return rc;
}

static uint64_t total_bytes(const uint64_t *size_bytes, uint32_t count) {
    uint64_t total = 0;

    for (uint32_t i = 0; i < count; i++)
        total += size_bytes[i];
    return total;
}

/* Has this message come at once behind many others? */
static bool is_in_a_run(struct fipc_ahead *ahead, uint64_t bytes) {
    int64_t between_ns = fipc_os_now_ns() - fipc_load_relaxed(&ahead->ended_ns);
    uint32_t run = fipc_load_relaxed(&ahead->run);

    if (between_ns > (int64_t)(bytes / AHEAD_BYTES_PER_NS / AHEAD_AT_ONCE))
        run = 0;
    else if (run < AHEAD_RUN)
        run++;
    fipc_store_relaxed(&ahead->run, run);
    return run >= AHEAD_RUN;
}

/* In blocks; what killed processes have counted in vain makes it wrong for good, and the waits too rare
 * or in vain. */
static uint64_t queued_bytes(const struct fipc_queue *queue) {
    const struct fipc_channel_shm *shm = queue->channel.shm;
    uint64_t bytes =
        fipc_load_relaxed(&shm->block_bytes_put) - fipc_load_relaxed(&shm->block_bytes_got);

    /* Negative: they are counted before they are published. */
    return (int64_t)bytes > 0 ? bytes : 0;
}

/* Waits until no more than so much is queued; false: in vain. */
static bool wait_for_readers(const struct fipc_queue *queue, uint64_t most_bytes,
                             int64_t until_ns) {
    do {
        for (int looks = 0; looks < AHEAD_LOOKS_PER_YIELD; looks++) {
            for (int i = 0; i < AHEAD_PAUSES_PER_LOOK; i++)
                fipc_pause();
            if (queued_bytes(queue) <= most_bytes)
                return true;
        }
        fipc_os_yield();
    } while (fipc_os_now_ns() < until_ns);
    return false;
}

/* Large messages that wait for their readers leave the cache that both sides share before they are
 * read. So whoever puts one behind others lets the readers catch up first, for as long as a copy takes
 * at most, and hardly ever where that has been in vain. True: it has waited. */
static bool let_readers_catch_up(struct fipc_queue *queue, uint64_t bytes, int64_t deadline_ns) {
    struct fipc_ahead *ahead = &queue->ahead;
    uint32_t misses, skips = fipc_load_relaxed(&ahead->skips);
    uint64_t most, queued;
    int64_t begun_ns, limit_ns = (int64_t)(bytes / AHEAD_BYTES_PER_NS);

    if (fipc_likely(bytes < AHEAD_LEAST_BYTES) || bytes > AHEAD_BYTES / 2 ||
        deadline_ns != FIPC_FOREVER || !is_in_a_run(ahead, bytes))
        return false;
    most = AHEAD_BYTES - 2 * bytes; /* one is being read, and one written */
    queued = queued_bytes(queue);
    if (queued <= most)
        return false;
    if (skips != 0) {
        fipc_store_relaxed(&ahead->skips, skips - 1);
        return false;
    }
    if (fipc_os_cpu_count() < 2)
        return false;
    /* A backlog goes by one message with each that is put, which takes the readers two. */
    if (queued > most + 2 * bytes) {
        most = queued - 2 * bytes;
        limit_ns *= 2;
    }
    begun_ns = fipc_os_now_ns();
    misses = 0;
    /* Nor has it paid where readers take nearly as long as they were given, for they do more than
     * read: eight messages of 8 MiB, for which one took 0.9 ms each, and then 5 ms of the sender's own
     * work, came every 11.5 ms as long as that counted for a success, and 8.7 without a wait. */
    if (!wait_for_readers(queue, most, begun_ns + limit_ns) ||
        fipc_os_now_ns() - begun_ns > limit_ns / 4 * 3) {
        misses = fipc_load_relaxed(&ahead->misses);
        misses += misses < AHEAD_MISSES_MOST;
        fipc_store_relaxed(&ahead->skips, UINT32_C(1) << misses);
    }
    fipc_store_relaxed(&ahead->misses, misses);
    return true;
}

int fipc_queue_prepare(struct fipc_queue *queue, const uint64_t *size_bytes, uint32_t count,
                       int64_t deadline_ns, struct fipc_queue_putting *putting) {
    int rc = fipc_queue_put_begin(queue, total_bytes(size_bytes, count), deadline_ns, putting);

    /* A signal handler may have forked in the middle of a wait. */
    if (rc == 0 && putting->block_count == 0 &&
        let_readers_catch_up(queue, total_bytes(size_bytes, count), deadline_ns))
        rc = fipc_queue_put_begin(queue, total_bytes(size_bytes, count), deadline_ns, putting);
    if (rc == -EOWNERDEAD)
        rc = 0; /* blocks of our own, then */
    for (; rc == 0 && putting->block_count < count; putting->block_count += rc == 0)
        rc = fipc_block_alloc(&queue->segment, size_bytes[putting->block_count],
                              FIPC_BLOCK_KIND_DATA, putting->lock_deadline_ns,
                              &putting->block[putting->block_count]);
    return rc;
}

/* The record of a message in the blocks of *putting, with `rest` inline behind their references, for
 * which `ref` has room. */
static struct fipc_put put_of_blocks(struct fipc_queue_putting *putting, const uint64_t *size_bytes,
                                     const void *rest, uint32_t rest_bytes, uint16_t tag,
                                     struct fipc_block_ref_shm *ref) {
    uint32_t count = putting->block_count;

    for (uint32_t i = 0; i < count; i++)
        ref[i] = (struct fipc_block_ref_shm){putting->block[i].id, count, size_bytes[i]};
    return (struct fipc_put){
        .kind = FIPC_RECORD_BLOCK,
        .tag = tag,
        .items = 1,
        .bytes = total_bytes(size_bytes, count) + rest_bytes,
        .head = ref,
        .head_bytes = count * (uint32_t)sizeof(ref[0]),
        .data = rest_bytes != 0 ? rest : ref,
        .data_bytes = rest_bytes,
        .blocks = putting->block,
        .block_count = count,
    };
}

int fipc_queue_try_put_block(struct fipc_queue *queue, const void *data, uint64_t size_bytes,
                             uint16_t tag, struct fipc_queue_putting *putting) {
    struct fipc_channel *channel = &queue->channel;
    struct fipc_block *block = &putting->block[0];
    struct fipc_block_ref_shm ref;
    struct fipc_put put;
    int rc;

    if (fipc_unlikely(!fipc_token_is_current(fipc_load_acquire(V2, &channel->token))) ||
        channel->max_bytes != UINT64_MAX)
        return -EBUSY;
    rc = fipc_block_try_alloc(&queue->segment, size_bytes, FIPC_BLOCK_KIND_DATA, block);
    if (rc < 0)
        return rc;
    putting->block_count = 1;
    /* Who looks for messages has taken that line. */
    fipc_prefetch_write(&channel->shm->put);
    fipc_copy(block->data, data, size_bytes);
    putting->filled = true;
    /* A signal handler may have forked in the middle of the copy: the block is the parent's. */
    if (fipc_unlikely(!fipc_token_is_current(fipc_load_acquire(V2, &channel->token))))
        return -EBUSY;
    put = put_of_blocks(putting, &size_bytes, NULL, 0, tag, &ref);
    rc = fipc_channel_put(channel, &put, 0);
    if (fipc_likely(rc == 0)) {
        putting->block_count = 0; /* the queue's now */
        fipc_sleepers_wake(&channel->shm->put.sleepers);
        /* For the next one. */
        fipc_block_expect(&queue->segment, block);
        fipc_prefetch_write(block->shm + 1);
    }
    return rc;
}

int fipc_queue_put_prepared(struct fipc_queue *queue, const uint64_t *size_bytes, const void *rest,
                            uint32_t rest_bytes, uint16_t tag, int64_t deadline_ns,
                            struct fipc_queue_putting *putting) {
    struct fipc_block_ref_shm ref[FIPC_REFS_MAX];
    int rc = fipc_queue_put_begin(queue, total_bytes(size_bytes, putting->block_count) + rest_bytes,
                                  deadline_ns, putting);
    struct fipc_put put;

    if (rc < 0)
        return rc;
    put = put_of_blocks(putting, size_bytes, rest, rest_bytes, tag, ref);
    return fipc_queue_put_record(queue, &put, deadline_ns, putting);
}

int fipc_queue_put(struct fipc_queue *queue, const void *data, uint64_t size_bytes, uint16_t tag,
                   int64_t deadline_ns, struct fipc_queue_putting *putting) {
    struct fipc_put put = {.kind = FIPC_RECORD_INLINE,
                           .tag = tag,
                           .items = 1,
                           .bytes = size_bytes,
                           .data = data,
                           .data_bytes = (uint32_t)size_bytes};
    int rc;

    if (size_bytes <= FIPC_INLINE_MAX) {
        rc = fipc_queue_put_begin(queue, size_bytes, deadline_ns, putting);
        return rc < 0 ? rc : fipc_queue_put_record(queue, &put, deadline_ns, putting);
    }
    rc = fipc_queue_prepare(queue, &size_bytes, 1, deadline_ns, putting);
    if (rc < 0)
        return rc;
    if (!putting->filled)
        fipc_copy(putting->block[0].data, data, size_bytes);
    putting->filled = true;
    return fipc_queue_put_prepared(queue, &size_bytes, "", 0, tag, deadline_ns, putting);
}

void fipc_queue_put_end(struct fipc_queue *queue, struct fipc_queue_putting *putting) {
    for (uint32_t i = 0; i < putting->block_count; i++)
        fipc_block_release(&queue->segment, &putting->block[i]);
    if (putting->spare.shm != NULL)
        fipc_block_release(&queue->segment, &putting->spare);
    putting->block_count = 0;
    putting->spare.shm = NULL;
}
