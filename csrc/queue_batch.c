/* queue_batch.c - many messages at once: framed in private memory, put in parts that one
 * lock holds, got in parts likewise. Waiting and single messages are queue.c's. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "copy.h"
#include "queue_internal.h"

/* Blocks in hand for the next part: so much memory beyond the first of them. */
#define PART_BLOCK_BYTES (UINT64_C(16) << 20)

/* ---- filling ---- */

void fipc_batch_begin(struct fipc_batch *batch, uint8_t *records) {
    /* The blocks are filled in before they are counted. */
    memset(batch, 0, offsetof(struct fipc_batch, block));
    batch->records = records;
    batch->capacity = records != NULL ? FIPC_BATCH_BYTES : 0;
}

uint8_t *fipc_batch_spare(struct fipc_batch *batch) {
    uint8_t *records = NULL;

    if (batch->capacity == FIPC_BATCH_BYTES) {
        records = batch->records;
        batch->records = NULL;
        batch->capacity = 0;
    }
    return records;
}

uint8_t *fipc_batch_grow(struct fipc_batch *batch) {
    uint64_t capacity = batch->capacity * 2;
    uint8_t *records;

    if (capacity < FIPC_BATCH_BYTES)
        capacity = FIPC_BATCH_BYTES;
    records = realloc(batch->records, capacity);
    if (records == NULL) {
        fipc_set_limit_name("the memory of this process");
        return NULL;
    }
    batch->records = records;
    batch->capacity = capacity;
    return records + batch->bytes + FIPC_RECORD_BYTES;
}

int fipc_batch_add_large(struct fipc_batch *batch, const void *data, uint64_t size_bytes,
                         uint16_t tag) {
    struct fipc_block_ref_shm ref = {0, 1, size_bytes};
    uint8_t *payload = fipc_batch_room(batch);

    if (payload == NULL)
        return -ENOMEM;
    if (batch->large_count == batch->large_capacity) {
        uint64_t capacity = batch->large_capacity ? batch->large_capacity * 2 : 16;
        const void **large = realloc(batch->large, capacity * sizeof(*large));

        if (large == NULL) {
            fipc_set_limit_name("the memory of this process");
            return -ENOMEM;
        }
        batch->large = large;
        batch->large_capacity = capacity;
    }
    batch->large[batch->large_count++] = data;
    memcpy(payload, &ref, sizeof(ref));
    fipc_batch_add_record(batch, sizeof(ref), FIPC_RECORD_BLOCK, tag, size_bytes);
    return 0;
}

void fipc_batch_end(struct fipc_queue *queue, struct fipc_batch *batch) {
    for (uint32_t i = 0; i < batch->run.block_count; i++)
        fipc_block_release(&queue->segment, &batch->block[i]);
    batch->run.block_count = 0;
    free(batch->records);
    free(batch->large);
    batch->records = NULL;
    batch->large = NULL;
}

/* ---- putting ---- */

/* A block with the next large message, whose reference is at `payload`. */
static int fill_block(struct fipc_queue *queue, struct fipc_batch *batch, uint8_t *payload,
                      uint64_t *room_bytes, int64_t lock_deadline_ns) {
    struct fipc_run *run = &batch->run;
    struct fipc_block *block = &batch->block[run->block_count];
    struct fipc_block_ref_shm ref;
    int rc;

    memcpy(&ref, payload, sizeof(ref));
    if (run->block_count == FIPC_BATCH_REFS ||
        (run->block_count != 0 && ref.size_bytes > *room_bytes))
        return -EAGAIN;
    rc = fipc_block_alloc(&queue->segment, ref.size_bytes, FIPC_BLOCK_KIND_DATA, lock_deadline_ns,
                          block);
    if (rc < 0)
        return rc;
    fipc_copy(block->data, batch->large[batch->put_large + run->block_count], ref.size_bytes);
    ref.block = block->id;
    memcpy(payload, &ref, sizeof(ref));
    run->block_count++;
    run->message_bytes += ref.size_bytes;
    *room_bytes -= ref.size_bytes < *room_bytes ? ref.size_bytes : *room_bytes;
    return 0;
}

/* Takes the records that one lock can put, and blocks for them. Errors: those of
 * fipc_block_alloc(), for the first. */
static int next_part(struct fipc_queue *queue, struct fipc_batch *batch, int64_t lock_deadline_ns) {
    struct fipc_run *run = &batch->run;
    uint64_t room_bytes = PART_BLOCK_BYTES;

    run->records = batch->records + batch->put_bytes;
    run->blocks = batch->block;
    run->bytes = run->items = run->message_bytes = 0;
    run->block_count = 0;
    if (fipc_likely(batch->large_count == 0 && queue->channel.max_bytes == UINT64_MAX &&
                    batch->bytes - batch->put_bytes <= FIPC_BATCH_BYTES)) {
        /* All the rest; nobody asks for its message_bytes. */
        run->bytes = batch->bytes - batch->put_bytes;
        run->items = batch->items - batch->put_items;
        return 0;
    }
    while (batch->put_bytes + run->bytes < batch->bytes) {
        uint8_t *at = batch->records + batch->put_bytes + run->bytes;
        struct fipc_record_shm header = fipc_record_read(at);
        uint64_t bytes = fipc_record_bytes(header.length);

        if (run->bytes + bytes > FIPC_BATCH_BYTES)
            break;
        if (header.kind == FIPC_RECORD_BLOCK) {
            int rc =
                fill_block(queue, batch, at + FIPC_RECORD_BYTES, &room_bytes, lock_deadline_ns);

            if (rc < 0 && run->items == 0)
                return rc;
            if (rc < 0)
                break;
        } else {
            run->message_bytes += header.length;
        }
        run->bytes += bytes;
        run->items++;
    }
    return 0;
}

/* What was put of the part leaves it. */
static void part_was_put(struct fipc_batch *batch) {
    struct fipc_run *run = &batch->run;

    batch->put_bytes += run->put_bytes;
    batch->put_items += run->put_items;
    batch->put_large += run->put_blocks;
    run->records += run->put_bytes;
    run->bytes -= run->put_bytes;
    run->items -= run->put_items;
    run->message_bytes -= run->put_message_bytes;
    run->block_count -= run->put_blocks;
    memmove(batch->block, batch->block + run->put_blocks,
            run->block_count * sizeof(batch->block[0]));
}

/* The first record of the part, which stands for all of it. */
static struct fipc_put put_of(struct fipc_run *run) {
    struct fipc_record_shm header = fipc_record_read(run->records);
    struct fipc_block_ref_shm ref;
    struct fipc_put put = {
        .kind = header.kind,
        .tag = header.tag,
        .items = 1,
        .bytes = header.length,
        .data_bytes = header.length,
        .run = run,
    };

    if (header.kind == FIPC_RECORD_BLOCK) {
        memcpy(&ref, run->records + FIPC_RECORD_BYTES, sizeof(ref));
        put.bytes = ref.size_bytes;
    }
    return put;
}

int fipc_queue_put_many(struct fipc_queue *queue, struct fipc_batch *batch, int64_t deadline_ns,
                        struct fipc_queue_putting *putting) {
    struct fipc_run *run = &batch->run;
    int rc = fipc_queue_put_begin(queue, batch->largest_bytes, deadline_ns, putting);

    if (rc < 0)
        return rc;
    if (run->block_count != 0 && !fipc_queue_owns(queue, &batch->block[0]))
        run->items = run->block_count = 0; /* a forked child fills blocks of its own */
    while (batch->put_items < batch->items) {
        struct fipc_put put;

        if (run->items == 0) {
            rc = next_part(queue, batch, putting->lock_deadline_ns);
            if (rc < 0)
                return rc;
        }
        put = put_of(run);
        rc = fipc_queue_put_record(queue, &put, deadline_ns, putting);
        if (rc < 0)
            return rc;
        part_was_put(batch);
        putting->waiting = (struct fipc_waiting){0};
    }
    return 0;
}

int fipc_queue_try_put_many(struct fipc_queue *queue, struct fipc_batch *batch) {
    struct fipc_channel *channel = &queue->channel;
    struct fipc_put put;
    int rc;

    if (fipc_unlikely(!fipc_token_is_current(fipc_load_acquire(V2, &channel->token))) ||
        batch->large_count != 0)
        return -EBUSY;
    if (batch->largest_bytes > channel->max_bytes)
        return -E2BIG;
    rc = next_part(queue, batch, 0);
    if (rc < 0)
        return rc;
    put = put_of(&batch->run);
    rc = fipc_channel_put(channel, &put, 0);
    if (rc < 0)
        return rc;
    fipc_sleepers_wake_some(&channel->shm->put.sleepers, put.items);
    part_was_put(batch);
    return batch->put_items == batch->items ? 0 : -EAGAIN;
}

/* ---- getting ---- */

int fipc_queue_get_many(struct fipc_queue *queue, struct fipc_many *many, int64_t deadline_ns,
                        struct fipc_waiting *waiting) {
    struct fipc_got none;

    return fipc_queue_get_either(queue, &none, many, deadline_ns, waiting);
}

int fipc_queue_try_get_many(struct fipc_queue *queue, struct fipc_many *many) {
    struct fipc_channel *channel = &queue->channel;
    int rc;

    if (fipc_unlikely(!fipc_token_is_current(fipc_load_acquire(V2, &channel->token))))
        return -EBUSY;
    rc = fipc_channel_get_many(channel, many, 0);
    if (fipc_likely(rc == 0))
        fipc_sleepers_wake_some(&channel->shm->get.sleepers, many->items);
    return rc;
}
