/* channel_batch.c - many records under one lock: how much of a run fits, writing it, and
 * taking the records that stand one behind the other. When, and whether there is room
 * for the first, is channel.c's. */
#include <string.h>

#include "channel_internal.h"
#include "record.h"

/* ---- putting ---- */

/* A record of a run: how many blocks it has, and what it counts against max_bytes. */
static uint32_t count_record(const uint8_t *at, struct fipc_record_shm header,
                             uint64_t *message_bytes) {
    struct fipc_block_ref_shm ref;
    uint32_t refs = 0;

    *message_bytes = header.length;
    if (header.kind != FIPC_RECORD_BLOCK)
        return 0;
    do {
        memcpy(&ref, at + FIPC_RECORD_BYTES + refs * sizeof(ref), sizeof(ref));
        *message_bytes += ref.size_bytes - sizeof(ref);
    } while (++refs < ref.refs);
    return refs;
}

void fipc_run_fit(struct fipc_run *run, uint64_t most_bytes, uint64_t most_items,
                  uint64_t most_message_bytes) {
    if (fipc_likely(run->bytes <= most_bytes && run->items <= most_items &&
                    run->message_bytes <= most_message_bytes)) {
        run->put_bytes = run->bytes;
        run->put_items = run->items;
        run->put_message_bytes = run->message_bytes;
        run->put_blocks = run->block_count;
        return;
    }
    run->put_bytes = run->put_items = run->put_message_bytes = 0;
    run->put_blocks = 0;
    while (run->put_bytes < run->bytes && run->put_items < most_items) {
        const uint8_t *at = run->records + run->put_bytes;
        struct fipc_record_shm header = fipc_record_read(at);
        uint64_t bytes = fipc_record_bytes(header.length), message_bytes;
        uint32_t refs = count_record(at, header, &message_bytes);

        if (bytes > most_bytes - run->put_bytes ||
            message_bytes > most_message_bytes - run->put_message_bytes)
            break;
        run->put_bytes += bytes;
        run->put_items++;
        run->put_message_bytes += message_bytes;
        run->put_blocks += refs;
    }
}

uint64_t fipc_run_write(const struct fipc_run *run, uint8_t *at, uint64_t pos) {
    uint64_t block_bytes = 0;
    uint32_t block = 0;

    memcpy(at, run->records, run->put_bytes);
    for (uint64_t off = 0; block < run->put_blocks;) {
        struct fipc_record_shm header = fipc_record_read(run->records + off);
        uint64_t message_bytes;
        uint32_t refs = count_record(run->records + off, header, &message_bytes);

        if (refs != 0)
            block_bytes +=
                message_bytes - (header.length - refs * sizeof(struct fipc_block_ref_shm));
        while (refs-- > 0)
            /* step put-ordinal, as in channel.c: above write_pos until the publish. */
            fipc_store_release(O1, &run->blocks[block++].shm->ordinal, pos + off);
        off += fipc_record_bytes(header.length);
    }
    return block_bytes;
}

/* ---- getting ---- */

/* Takes the blocks of the records in the buffer; cuts it off behind the last whose blocks
 * can be taken now. What was written before that is still the queue's. */
static int take_blocks(struct fipc_channel *channel, struct fipc_many *many) {
    struct fipc_many from = *many;
    struct fipc_got got;
    uint64_t block_bytes = 0;
    uint32_t refs = 0;

    many->size_bytes = 0;
    while (from.items_read < many->items) {
        int rc = fipc_many_peek(channel, &from, &got);

        if (rc == 0 && from.items_read != 0 && refs + got.block_count > FIPC_BATCH_REFS)
            break;
        if (rc == 0)
            rc = fipc_channel_own_refs(channel, &got);
        if (rc < 0 && from.items_read == 0)
            return rc;
        if (rc < 0)
            break;
        refs += got.block_count;
        many->size_bytes += got.size_bytes;
        block_bytes += fipc_got_block_bytes(&got);
        fipc_many_step(&from, &got);
    }
    fipc_fetch_add_relaxed(&channel->shm->block_bytes_got, block_bytes);
    many->bytes = from.at;
    many->items = from.items_read;
    return 0;
}

/* Copies so much more of the piece at `at` that it reaches `least` bytes, and as much beyond as
 * the records still asked for take, should they be as long as those before them. Reading the
 * headers where they lie would fetch one line of the producers' after the other: each length
 * says where the next header is, while a copy asks for many lines at once. */
static uint64_t copy_more(struct fipc_many *many, const uint8_t *at, uint64_t copied,
                          uint64_t least, uint64_t most) {
    uint64_t wanted = many->max_items - many->items, until;

    if (wanted > FIPC_BATCH_BYTES / FIPC_RECORD_BYTES)
        wanted = FIPC_BATCH_BYTES / FIPC_RECORD_BYTES;
    /* An int of 32 bits takes 16 bytes. */
    until = many->bytes + wanted * (many->items != 0 ? many->bytes / many->items : 16);
    if (until < least)
        until = least;
    if (until > most)
        until = most;
    memcpy(many->buffer + copied, at + copied, until - copied);
    return until;
}

/* How much of a ring's next `room` bytes is known to be there. */
static uint64_t most_of(const struct fipc_channel *channel, const struct fipc_side_copy_shm *state,
                        uint64_t room) {
    uint64_t known = channel->seen_write_pos - state->pos;

    return known < room ? known : room;
}

/* Asks for the lines of as much again, which come while the caller makes objects of what it has: ints
 * by the hundred took 10.2 ns each from another process, and 8.0 so. Not for what is still being
 * written. */
static void ask_for_next(const uint8_t *at, uint64_t taken, uint64_t most) {
    uint64_t until = 2 * taken < most ? 2 * taken : most;

    for (uint64_t off = taken; off + FIPC_CACHE_LINE <= until; off += FIPC_CACHE_LINE)
        fipc_prefetch_read(at + off);
}

int fipc_many_take(struct fipc_channel *channel, struct fipc_many *many,
                   const struct fipc_side_copy_shm *state, const uint8_t *payload) {
    const struct fipc_ring *ring = &channel->get_ring;
    const uint8_t *at = payload - FIPC_RECORD_BYTES;
    uint64_t room = ring->size - ((state->pos - ring->base_pos) & (ring->size - 1));
    uint64_t most, copied = 0;
    bool has_blocks = false, looked = false;

    if (room > FIPC_BATCH_BYTES)
        room = FIPC_BATCH_BYTES;
    most = most_of(channel, state, room);
    many->bytes = many->items = 0;
    many->size_bytes = 0;
    while (many->items < many->max_items) {
        struct fipc_record_shm header;
        uint64_t bytes, word, same = 0;

        if (many->bytes == most && most < room && !looked) {
            /* Not *state, which is behind a pad or a link that this call may yet leave there. */
            struct fipc_side_copy_shm get = fipc_side_current(&channel->shm->get);

            /* All that was known is taken; only now the producers' line is taken from them. */
            fipc_channel_look_at_producers(channel, &get, has_blocks);
            most = most_of(channel, state, room);
            looked = true;
        }
        if (many->bytes + FIPC_RECORD_BYTES > most)
            break;
        if (many->bytes + FIPC_RECORD_BYTES > copied)
            copied = copy_more(many, at, copied, many->bytes + FIPC_RECORD_BYTES, most);
        header = fipc_record_read(many->buffer + many->bytes);
        bytes = fipc_record_bytes(header.length);
        /* A pad or a link ends the piece; so does what is damaged, which the next look
         * at it will say. */
        if (bytes > most - many->bytes || header.length > FIPC_INLINE_MAX)
            break;
        if (header.kind == FIPC_RECORD_BLOCK)
            has_blocks = true;
        else if (header.kind != FIPC_RECORD_INLINE)
            break;
        if (many->bytes + bytes > copied)
            copied = copy_more(many, at, copied, many->bytes + bytes, most);
        /* And those behind it with the same header: where the next one is does not wait for
         * each length to be read: 0.5 ns a record in the place of 2. */
        word = *(const uint64_t *)(const void *)(many->buffer + many->bytes);
        do
            same++;
        while (many->items + same < many->max_items && many->bytes + (same + 1) * bytes <= copied &&
               *(const uint64_t *)(const void *)(many->buffer + many->bytes + same * bytes) ==
                   word);
        many->bytes += (uint32_t)(same * bytes);
        many->items += (uint32_t)same;
        many->size_bytes += same * header.length;
    }
    if (many->items == 0)
        return -EBADMSG;
    ask_for_next(at, many->bytes, most);
    return fipc_unlikely(has_blocks) ? take_blocks(channel, many) : 0;
}

/* The next record without its references. -EAGAIN, there is no other; -EBADMSG. */
static int read_frame(const struct fipc_many *many, struct fipc_got *got) {
    struct fipc_record_shm header;

    if (many->items_read >= many->items)
        return -EAGAIN;
    if (many->bytes - many->at < FIPC_RECORD_BYTES)
        return -EBADMSG;
    header = fipc_record_read(many->buffer + many->at);
    if (fipc_record_bytes(header.length) > many->bytes - many->at)
        return -EBADMSG;
    got->buffer = many->buffer + many->at + FIPC_RECORD_BYTES;
    got->buffer_bytes = got->length = header.length;
    got->kind = header.kind;
    got->tag = header.tag;
    got->size_bytes = header.length;
    got->block_count = 0;
    return 0;
}

int fipc_many_peek(struct fipc_channel *channel, const struct fipc_many *many,
                   struct fipc_got *got) {
    int rc = read_frame(many, got);

    if (rc < 0)
        return rc;
    return got->kind == FIPC_RECORD_BLOCK ? fipc_channel_read_refs(channel, got) : 0;
}

/* Frees the blocks of a record, but for those that are damaged. */
static void release_refs(struct fipc_channel *channel, struct fipc_got *got) {
    struct fipc_block_ref_shm ref;
    struct fipc_block block;
    uint64_t size_bytes;

    if (got->length < sizeof(ref))
        return;
    memcpy(&ref, got->buffer, sizeof(ref));
    if (ref.refs > FIPC_REFS_MAX || ref.refs * sizeof(ref) > got->length)
        return;
    got->block_count = ref.refs;
    for (uint32_t i = 0; i < got->block_count; i++)
        if (fipc_channel_got_block(channel, got, i, &block, &size_bytes) == 0)
            fipc_block_release(channel->segment, &block);
}

void fipc_many_drop(struct fipc_channel *channel, struct fipc_many *many, uint32_t items) {
    struct fipc_got got;

    for (; items > 0 && many->items_read < many->items; items--) {
        if (read_frame(many, &got) < 0) {
            /* Where the next one begins cannot be known. Such a piece has no blocks:
             * taking them read all of it. */
            many->items_read = many->items;
            return;
        }
        if (got.kind == FIPC_RECORD_BLOCK)
            release_refs(channel, &got);
        fipc_many_step(many, &got);
    }
}
