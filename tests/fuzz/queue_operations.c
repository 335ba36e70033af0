/* queue_operations.c - what the fuzzers do with a queue whose segment may be damaged: each thing
 * that the extension does with one, with deadlines that are near. No result is looked at but for
 * what the next call needs: any is right as long as it comes. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "world_internal.h"

#define TRIES 4 /* after -EINTR */

static int doorbell(void) {
    static int fd = -1;

    if (fd < 0)
        fd = fipc_os_doorbell();
    MUST(fd >= 0);
    /* Its buffer must not be full of what the inputs before rang. */
    (void)fipc_os_drain(fd);
    return fcntl(fd, F_DUPFD_CLOEXEC, FD_FIRST);
}

static struct fipc_queue *opened(struct world *world) {
    struct fipc_queue **queue = &world->queue[world->current];
    int fd, bell;

    if (*queue != NULL || world->refused)
        return *queue;
    fd = fcntl(world->fd, F_DUPFD_CLOEXEC, FD_FIRST);
    bell = doorbell();
    MUST(fd >= 0 && bell >= 0);
    if (fipc_queue_open(fd, bell, queue) < 0) {
        *queue = NULL;
        world->refused = true;
        (void)close(fd);
        (void)close(bell);
    }
    return *queue;
}

static void close_one(struct world *world, uint32_t number) {
    if (world->queue[number] != NULL)
        fipc_queue_close(world->queue[number]);
    world->queue[number] = NULL;
}

static void let_go(struct world *world) {
    while (world->held > 0) {
        struct fipc_hold *hold = &world->hold[--world->held];
        struct fipc_segment *segment = hold->segment;
        struct fipc_queue *queue =
            (struct fipc_queue *)((uint8_t *)segment - offsetof(struct fipc_queue, segment));

        fipc_hold_release(hold);
        fipc_queue_drop(queue);
    }
}

void queue_end(struct world *world) {
    let_go(world);
    for (uint32_t i = 0; i < 2; i++)
        close_one(world, i);
}

/* ---- getting ---- */

/* Reads a message, and keeps its blocks or gives them back. */
static void take_message(struct world *world, struct fipc_queue *queue, struct fipc_got *got,
                         bool keeps) {
    world_read(got->buffer, got->length);
    if (got->block_count != 0 && fipc_got_rest_off(got) > got->length)
        abort(); /* the extension reads what is behind it */
    for (uint32_t i = 0; i < got->block_count; i++) {
        struct fipc_block block;
        uint64_t size_bytes;

        if (fipc_channel_got_block(&queue->channel, got, i, &block, &size_bytes) < 0)
            continue;
        world_read(block.data, size_bytes);
        if (keeps && world->held < HOLDS_MOST) {
            fipc_hold_take(&world->hold[world->held++], &queue->segment, &block);
            fipc_queue_keep(queue);
        } else {
            fipc_block_release(&queue->segment, &block);
        }
    }
    got->block_count = 0;
    fipc_queue_release(queue, got);
}

static void get(struct world *world, struct fipc_queue *queue, uint8_t argument) {
    struct fipc_waiting waiting = {0};
    uint8_t *room = aligned_alloc(8, FIPC_INLINE_MAX);
    struct fipc_got got = {.buffer = room, .buffer_bytes = FIPC_INLINE_MAX};
    int rc = -EAGAIN;

    MUST(room != NULL);
    if (argument & 1)
        rc = fipc_queue_try_get(queue, &got);
    for (int i = 0; i < TRIES && (rc == -EINTR || rc == -EAGAIN || rc == -EBUSY); i++)
        rc = fipc_queue_get(queue, &got, argument & 2 ? soon() : 0, &waiting);
    if (rc == 0)
        take_message(world, queue, &got, (argument & 4) != 0);
    if (rc == 0)
        fipc_channel_count_given(&queue->channel, 1);
    free(room);
}

static void get_many(struct world *world, struct fipc_queue *queue, uint8_t argument) {
    struct fipc_waiting waiting = {0};
    struct fipc_many many = {.buffer = aligned_alloc(8, FIPC_BATCH_BYTES),
                             .max_items = 1 + argument / 4};
    struct fipc_got got;
    uint32_t length;
    uint16_t tag;
    int rc = -EAGAIN;

    MUST(many.buffer != NULL);
    if (argument & 1)
        rc = fipc_queue_try_get_many(queue, &many);
    for (int i = 0; i < TRIES && (rc == -EINTR || rc == -EAGAIN || rc == -EBUSY); i++)
        rc = fipc_queue_get_many(queue, &many, 0, &waiting);
    /* As make_objects() and step() of _queue_many.pxi. */
    while (rc == 0 && many.items_read < many.items) {
        const uint8_t *data = fipc_many_next_inline(&many, &length, &tag);

        if (data != NULL) {
            world_read(data, length);
            continue;
        }
        if (argument & 2) {
            fipc_many_drop(&queue->channel, &many, 1 + argument % 3);
            continue;
        }
        rc = fipc_many_peek(&queue->channel, &many, &got);
        if (rc < 0) {
            fipc_many_drop(&queue->channel, &many, 1);
            rc = 0;
            continue;
        }
        fipc_many_step(&many, &got);
        take_message(world, queue, &got, false);
    }
    free(many.buffer);
}

/* ---- putting ---- */

static void put(struct fipc_queue *queue, uint64_t size_bytes, int64_t deadline_ns) {
    struct fipc_queue_putting putting = {0};
    int rc = -EINTR;

    for (int i = 0; i < TRIES && rc == -EINTR; i++)
        rc = fipc_queue_put(queue, world_bytes, size_bytes, 1, deadline_ns, &putting);
    fipc_queue_put_end(queue, &putting);
}

static void put_prepared(struct fipc_queue *queue, uint8_t argument) {
    struct fipc_queue_putting putting = {0};
    uint64_t sizes[FIPC_REFS_MAX];
    uint32_t count = 1 + argument % FIPC_REFS_MAX;
    int rc = -EINTR;

    for (uint32_t i = 0; i < count; i++)
        sizes[i] = 3000 * (i + 1) % 9000;
    for (int i = 0; i < TRIES && rc == -EINTR; i++)
        rc = fipc_queue_prepare(queue, sizes, count, 0, &putting);
    for (uint32_t i = 0; rc == 0 && i < count; i++)
        memcpy(putting.block[i].data, world_bytes, sizes[i]);
    if (rc == 0)
        rc = fipc_queue_put_prepared(queue, sizes, world_bytes, argument, 6, 0, &putting);
    fipc_queue_put_end(queue, &putting);
}

static void put_many(struct fipc_queue *queue, uint8_t argument) {
    struct fipc_queue_putting putting = {0};
    struct fipc_batch batch = {0};
    int rc = -EINTR;

    for (uint32_t i = 0; i < 1 + argument / 4u; i++) {
        if ((argument & 3) == 3 && i % 4 == 0) {
            MUST(fipc_batch_add_large(&batch, world_bytes, 100 + 5000 * (i % 3), 6) == 0);
        } else {
            uint8_t *room = fipc_batch_room(&batch);
            uint32_t size_bytes = 16 + argument % 4 * 500;

            MUST(room != NULL);
            memcpy(room, world_bytes, size_bytes);
            fipc_batch_add(&batch, size_bytes, 3);
        }
    }
    if ((argument & 3) != 3)
        rc = fipc_queue_try_put_many(queue, &batch);
    for (int i = 0; i < TRIES && rc != 0; i++)
        rc = fipc_queue_put_many(queue, &batch, 0, &putting);
    fipc_batch_end(queue, &batch);
    fipc_queue_put_end(queue, &putting);
}

/* ---- the rest ---- */

static void look(struct fipc_queue *queue, uint8_t argument) {
    struct fipc_stats stats;
    struct fipc_waiting waiting = {0};
    uint64_t items, bytes;
    int rc = 0;

    switch (argument % 6) {
    case 0:
        rc = fipc_channel_stats(&queue->channel, &stats, soon());
        break;
    case 1:
        fipc_queue_depth(queue, &items, &bytes);
        rc = fipc_queue_is_empty(queue) + fipc_queue_shut_state(queue);
        break;
    case 2:
        rc = fipc_queue_task_done(queue);
        break;
    case 3:
        rc = fipc_queue_join(queue, soon(), &waiting);
        break;
    case 4:
        rc = fipc_queue_fileno(queue);
        break;
    default:
        fipc_queue_discard_some(queue, soon());
    }
    (void)rc;
}

static void shut(struct fipc_queue *queue, bool immediate) {
    int rc = -EINTR;

    for (int i = 0; i < TRIES && rc == -EINTR; i++)
        rc = fipc_queue_shutdown(queue, immediate);
}

void queue_operate(struct world *world, uint8_t number, uint8_t argument) {
    struct fipc_queue *queue = opened(world);
    static const uint8_t small = 64;

    if (queue == NULL)
        return;
    switch (number % QUEUE_OPERATIONS) {
    case 0:
    case 1:
        get(world, queue, argument);
        break;
    case 2:
    case 3:
        get_many(world, queue, argument);
        break;
    case 4:
        put(queue, (uint64_t)argument * 16, argument & 1 ? soon() : 0);
        break;
    case 5:
        if (fipc_queue_try_put(queue, world_bytes, argument, 1) < 0)
            put(queue, small, 0);
        break;
    case 6:
        put(queue, 4000 + (uint64_t)argument * 300, 0);
        break;
    case 7:
        put_prepared(queue, argument);
        break;
    case 8:
        put_many(queue, argument);
        break;
    case 9:
        look(queue, argument);
        break;
    case 10:
        world_check(&queue->segment, &queue->channel);
        break;
    case 11:
        if (fipc_segment_enter(&queue->segment) >= 0)
            (void)fipc_slots_reap(&queue->segment);
        break;
    case 12:
        if (fipc_segment_enter(&queue->segment) >= 0)
            fipc_arena_trim_now(&queue->segment);
        break;
    case 13:
        shut(queue, argument & 1);
        break;
    case 14: /* another process's handle, as it were */
        world->current = argument & 1;
        break;
    case 15:
        let_go(world);
        break;
    case 16:
        world_grow(world, argument);
        break;
    case 17:
        let_go(world);
        close_one(world, world->current);
        break;
    case 18:
        for (uint32_t i = 0; i < 1 + argument / 4u; i++)
            put(queue, 4000, 0);
        break;
    default:
        world_allocate(&queue->segment, argument);
    }
}
