/* test_batch.c - many messages at once: put in parts that fit, got in pieces, mixed with
 * single ones, in threads on two handles. Nobody dies here; tests/crash has that. */
#define _GNU_SOURCE
#include <poll.h>

#include "fixture.h"

#define LARGE_BYTES 20000

/* Message `number` of a producer: says which it is, and each of its bytes whether it is
 * right. Its size follows from the number. */
static uint64_t size_of(uint32_t number) {
    uint64_t seed = number;
    uint64_t chance = next_random(&seed) % 64;

    if (chance == 0)
        return LARGE_BYTES + next_random(&seed) % 3;
    return 8 + next_random(&seed) % (chance == 1 ? FIPC_INLINE_MAX - 8 : 60);
}

static void fill(uint8_t *bytes, uint64_t size_bytes, uint32_t producer, uint32_t number) {
    memcpy(bytes, &producer, 4);
    memcpy(bytes + 4, &number, 4);
    memset(bytes + 8, (int)(number * 7 + producer), size_bytes - 8);
}

/* Which message it is, once all of its bytes are right. */
static uint32_t number_of(const uint8_t *bytes, uint64_t size_bytes, uint32_t *producer) {
    uint32_t number;

    memcpy(producer, bytes, 4);
    memcpy(&number, bytes + 4, 4);
    CHECK_EQ(size_bytes, size_of(number));
    for (uint64_t i = 8; i < size_bytes; i++)
        CHECK_EQ(bytes[i], (uint8_t)(number * 7 + *producer));
    return number;
}

/* A batch, and the large messages that stay where they are until it was put. */
struct filled {
    struct fipc_batch batch;
    uint8_t *large;
};

static void fill_batch(struct filled *filled, uint32_t producer, uint32_t first, uint32_t count) {
    uint64_t large_bytes = 0, at = 0;

    memset(filled, 0, sizeof(*filled));
    for (uint32_t i = 0; i < count; i++)
        if (size_of(first + i) > FIPC_INLINE_MAX)
            large_bytes += size_of(first + i);
    filled->large = malloc(large_bytes + 1);
    CHECK(filled->large != NULL);
    for (uint32_t number = first; number < first + count; number++) {
        uint64_t size = size_of(number);

        if (size > FIPC_INLINE_MAX) {
            fill(filled->large + at, size, producer, number);
            CHECK_EQ(fipc_batch_add_large(&filled->batch, filled->large + at, size, 0), 0);
            at += size;
        } else {
            uint8_t *room = fipc_batch_room(&filled->batch);

            CHECK(room != NULL);
            fill(room, size, producer, number);
            fipc_batch_add(&filled->batch, (uint32_t)size, 0);
        }
    }
}

static void end_batch(struct fipc_queue *queue, struct filled *filled) {
    fipc_batch_end(queue, &filled->batch);
    free(filled->large);
}

/* Puts as the binding does. */
static int put_batch(struct fipc_queue *queue, struct filled *filled, int64_t deadline_ns) {
    struct fipc_queue_putting putting = {0};
    int rc = fipc_queue_try_put_many(queue, &filled->batch);

    if (rc == 0)
        return 0;
    do {
        rc = fipc_queue_put_many(queue, &filled->batch, deadline_ns, &putting);
    } while (rc == -EINTR);
    fipc_queue_put_end(queue, &putting);
    return rc;
}

static void put_numbers(struct fipc_queue *queue, uint32_t producer, uint32_t first,
                        uint32_t count) {
    struct filled filled;

    fill_batch(&filled, producer, first, count);
    CHECK_EQ(put_batch(queue, &filled, in_ms(PATIENCE_MS)), 0);
    CHECK_EQ(filled.batch.put_items, count);
    end_batch(queue, &filled);
}

struct piece {
    struct fipc_many many;
    _Alignas(8) uint8_t bytes[FIPC_BATCH_BYTES];
};

/* Gets as the binding does. */
static int get_piece(struct fipc_queue *queue, struct piece *piece, uint64_t max_items,
                     int64_t deadline_ns) {
    struct fipc_waiting waiting = {0};
    int rc;

    piece->many.buffer = piece->bytes;
    piece->many.max_items = max_items;
    if (fipc_queue_try_get_many(queue, &piece->many) == 0)
        return 0;
    do {
        rc = fipc_queue_get_many(queue, &piece->many, deadline_ns, &waiting);
    } while (rc == -EINTR);
    return rc;
}

/* The next message of the piece, given back; UINT32_MAX: none left. */
static uint32_t next_number(struct fipc_queue *queue, struct piece *piece, uint32_t *producer) {
    struct fipc_got got;
    uint32_t number;
    int rc = fipc_many_peek(&queue->channel, &piece->many, &got);

    if (rc == -EAGAIN)
        return UINT32_MAX;
    CHECK_EQ(rc, 0);
    fipc_many_step(&piece->many, &got);
    number =
        number_of(got.block_count != 0 ? got.block.data : got.buffer, got.size_bytes, producer);
    fipc_queue_release(queue, &got);
    return number;
}

/* Gets `count` messages of producer 1 in pieces, from `first` on. */
static void get_numbers(struct fipc_queue *queue, uint32_t first, uint32_t count,
                        uint64_t max_items) {
    struct piece piece;
    uint32_t number, producer, end = first + count;

    while (first < end) {
        uint64_t most = max_items < end - first ? max_items : end - first;

        CHECK_EQ(get_piece(queue, &piece, most, in_ms(PATIENCE_MS)), 0);
        CHECK(piece.many.items >= 1 && piece.many.items <= most);
        while ((number = next_number(queue, &piece, &producer)) != UINT32_MAX)
            CHECK_EQ(number, first++);
    }
    CHECK_EQ(first, end);
}

/* ---- one thread, two handles ---- */

static void a_batch_arrives_in_its_order_through_rings_that_grow(void) {
    struct fipc_queue *queue = new_queue(0, 0), *again = open_again(queue);
    uint32_t count = FIXTURE_LESS(50000, 5000);

    for (uint64_t max_items = 1; max_items < 5000; max_items *= 17) {
        put_numbers(queue, 1, 0, count);
        check_census(again, count);
        get_numbers(again, 0, count, max_items);
        check_census(queue, 0);
    }
    fipc_queue_close(again);
    fipc_queue_close(queue);
}

/* A few at a time, so that batches meet every offset of a ring that wraps. */
static void batches_and_single_messages_mix_in_a_ring_that_wraps(void) {
    struct fipc_queue *queue = new_queue(0, 0), *again = open_again(queue);
    uint64_t seed = 5;
    uint32_t put = 0, got = 0;

    while (got < FIXTURE_LESS(100000, 10000)) {
        uint32_t count = 1 + (uint32_t)(next_random(&seed) % 50);

        if (put - got > 100) {
            get_numbers(again, got, count, 1 + next_random(&seed) % 60);
            got += count;
        } else if (count % 4 == 0) {
            uint8_t bytes[LARGE_BYTES + 8];

            fill(bytes, size_of(put), 1, put);
            CHECK_EQ(put_bytes(queue, bytes, size_of(put), 0), 0);
            put++;
        } else {
            put_numbers(queue, 1, put, count);
            put += count;
        }
        if (put - got > 100 && count % 3 == 0) {
            struct inbox inbox;
            uint32_t producer;

            CHECK_EQ(get_message(again, &inbox, 0), 0);
            CHECK_EQ(number_of(message_of(&inbox), inbox.got.size_bytes, &producer), got);
            fipc_queue_release(again, &inbox.got);
            got++;
        }
    }
    check_census(queue, put - got);
    get_numbers(queue, got, put - got, 1000);
    check_census(again, 0);
    fipc_queue_close(again);
    fipc_queue_close(queue);
}

static void a_batch_larger_than_the_queue_goes_in_parts(void) {
    struct fipc_queue *queue = new_queue(8, 0);
    struct filled filled;

    fill_batch(&filled, 1, 0, 30);
    CHECK_EQ(put_batch(queue, &filled, 0), -ETIMEDOUT);
    CHECK_EQ(filled.batch.put_items, 8);
    CHECK_EQ(put_batch(queue, &filled, in_ms(20)), -ETIMEDOUT);
    for (uint32_t at = 8; at < 26; at += 3) {
        get_numbers(queue, at - 8, 3, 100);
        CHECK_EQ(put_batch(queue, &filled, 0), -ETIMEDOUT);
        CHECK_EQ(filled.batch.put_items, at + 3);
    }
    get_numbers(queue, 18, 8, 100);
    CHECK_EQ(put_batch(queue, &filled, 0), 0);
    get_numbers(queue, 26, 4, 100);
    end_batch(queue, &filled);
    check_census(queue, 0);
    fipc_queue_close(queue);
}

static void a_byte_limit_holds_for_batches(void) {
    struct fipc_queue *queue = new_queue(0, LARGE_BYTES + 200);
    struct filled filled;
    uint32_t got = 0;
    uint64_t items, bytes;
    int rc;

    fill_batch(&filled, 1, 0, 1000);
    while ((rc = put_batch(queue, &filled, 0)) == -ETIMEDOUT) {
        struct piece piece;
        uint32_t producer;

        fipc_channel_depth(&queue->channel, &items, &bytes);
        CHECK(items >= 1 && bytes <= LARGE_BYTES + 200);
        CHECK(bytes + size_of((uint32_t)filled.batch.put_items) > LARGE_BYTES + 200);
        CHECK_EQ(get_piece(queue, &piece, 7, 0), 0);
        for (; next_number(queue, &piece, &producer) != UINT32_MAX; got++)
            continue;
    }
    CHECK_EQ(rc, 0);
    get_numbers(queue, got, 1000 - got, 1000);
    fipc_channel_depth(&queue->channel, &items, &bytes);
    CHECK_EQ(items, 0);
    CHECK_EQ(bytes, 0);
    end_batch(queue, &filled);
    check_census(queue, 0);
    fipc_queue_close(queue);
}

static void nothing_of_a_batch_is_put_when_one_message_can_never_fit(void) {
    struct fipc_queue *queue = new_queue(0, LARGE_BYTES - 1);
    struct filled filled;
    uint32_t count = 0;

    while (size_of(count++) <= FIPC_INLINE_MAX)
        continue;
    fill_batch(&filled, 1, 0, count);
    CHECK_EQ(put_batch(queue, &filled, 0), -E2BIG);
    CHECK_EQ(filled.batch.put_items, 0);
    end_batch(queue, &filled);
    check_census(queue, 0);
    fipc_queue_close(queue);
}

/* More blocks than one lock takes, a queue that has room for some, then no more of it. */
static void a_batch_given_up_gives_its_blocks_back(void) {
    static uint8_t bytes[FIPC_INLINE_MAX + 1];
    struct fipc_queue *queue = new_queue(100, 0);
    struct fipc_queue_putting putting = {0};
    struct fipc_batch batch = {0};
    struct piece piece;
    uint32_t got = 0;

    for (uint32_t i = 0; i < 150; i++)
        CHECK_EQ(fipc_batch_add_large(&batch, bytes, sizeof(bytes), 0), 0);
    CHECK_EQ(fipc_queue_put_many(queue, &batch, 0, &putting), -ETIMEDOUT);
    CHECK_EQ(batch.put_items, 100);
    fipc_queue_put_end(queue, &putting);
    fipc_batch_end(queue, &batch);
    check_census(queue, 100);
    while (got < 100) {
        struct fipc_got one;

        CHECK_EQ(get_piece(queue, &piece, 1000, 0), 0);
        CHECK(piece.many.items <= FIPC_BATCH_REFS);
        for (; fipc_many_peek(&queue->channel, &piece.many, &one) == 0; got++) {
            CHECK_EQ(one.block_count, 1);
            CHECK_EQ(one.size_bytes, sizeof(bytes));
            fipc_many_step(&piece.many, &one);
            fipc_queue_release(queue, &one);
        }
    }
    check_census(queue, 0);
    fipc_queue_close(queue);
}

static bool is_readable(int fd) {
    struct pollfd event = {fd, POLLIN, 0};

    CHECK_OK(poll(&event, 1, 0));
    return event.revents != 0;
}

static void an_armed_doorbell_is_readable_while_a_part_of_a_batch_is_queued(void) {
    struct fipc_queue *queue = new_queue(0, 0);
    int fd = fipc_queue_fileno(queue);

    CHECK_OK(fd);
    for (uint32_t i = 0; i < 100; i++) {
        CHECK(!is_readable(fd));
        put_numbers(queue, 1, 0, 10 + i);
        CHECK(is_readable(fd));
        get_numbers(queue, 0, 9, 9);
        CHECK(is_readable(fd));
        get_numbers(queue, 9, 1 + i, 1000);
    }
    fipc_queue_close(queue);
}

static void a_damaged_record_ends_a_piece_and_is_reported_then(void) {
    struct fipc_queue *queue = new_queue(0, 0);
    uint8_t *ring;
    uint64_t off = 0, *header;
    struct piece piece;
    uint32_t producer, number;

    put_numbers(queue, 1, 0, 12);
    ring = queue->channel.put_ring.data;
    for (uint32_t i = 0; i < 5; i++) {
        uint64_t length = size_of(i) > FIPC_INLINE_MAX ? 16 : size_of(i);

        off += fipc_align_up(FIPC_RECORD_BYTES + length, 8);
    }
    header = (uint64_t *)(void *)(ring + off);
    *header |= UINT64_C(0xfffffff0);
    CHECK_EQ(get_piece(queue, &piece, 100, 0), 0);
    CHECK_EQ(piece.many.items, 5);
    for (uint32_t i = 0; (number = next_number(queue, &piece, &producer)) != UINT32_MAX; i++)
        CHECK_EQ(number, i);
    CHECK_EQ(get_piece(queue, &piece, 100, 0), -EBADMSG);
    fipc_queue_close(queue);
}

static uint32_t owned(struct fipc_queue *queue) {
    struct fipc_arena_census census;

    CHECK_EQ(fipc_arena_check(&queue->segment, &census), 0);
    return census.owned;
}

static void what_is_dropped_of_a_piece_gives_its_blocks_back_but_the_damaged(void) {
    static uint8_t bytes[FIPC_INLINE_MAX + 1];
    struct fipc_queue *queue = new_queue(0, 0);
    struct fipc_queue_putting putting = {0};
    struct fipc_batch batch = {0};
    struct piece piece;
    struct fipc_got got;
    uint64_t populated;

    for (uint32_t i = 0; i < 5; i++)
        CHECK_EQ(fipc_batch_add_large(&batch, bytes, sizeof(bytes), 0), 0);
    CHECK_EQ(fipc_queue_put_many(queue, &batch, 0, &putting), 0);
    fipc_queue_put_end(queue, &putting);
    fipc_batch_end(queue, &batch);
    CHECK_EQ(get_piece(queue, &piece, 10, 0), 0);
    CHECK_EQ(piece.many.items, 5);
    CHECK_EQ(owned(queue), 5);
    CHECK_EQ(fipc_many_peek(&queue->channel, &piece.many, &got), 0);
    populated = got.block.shm->populated;
    got.block.shm->populated = populated | FIPC_BLOCK_KIND_RING;
    CHECK_EQ(fipc_many_peek(&queue->channel, &piece.many, &got), -EBADMSG);
    fipc_many_drop(&queue->channel, &piece.many, 1);
    got.block.shm->populated = populated;
    CHECK_EQ(owned(queue), 5);
    CHECK_EQ(piece.many.items_read, 1);
    CHECK_EQ(fipc_many_peek(&queue->channel, &piece.many, &got), 0);
    fipc_many_step(&piece.many, &got);
    fipc_queue_release(queue, &got);
    CHECK_EQ(owned(queue), 4);
    fipc_many_drop(&queue->channel, &piece.many, 1);
    CHECK_EQ(owned(queue), 3);
    fipc_many_drop(&queue->channel, &piece.many, UINT32_MAX);
    CHECK_EQ(owned(queue), 1);
    CHECK_EQ(fipc_many_peek(&queue->channel, &piece.many, &got), -EAGAIN);
    fipc_queue_close(queue);
}

/* ---- threads ---- */

struct worker {
    struct fipc_queue *queue;
    uint32_t producer, count;
    uint32_t *taken; /* of each producer, by all: checked for order only by one consumer */
    uint64_t *left;  /* to be got by all consumers */
    uint32_t last[4];
    bool many;
};

static void *produce(void *argument) {
    struct worker *worker = argument;
    uint64_t seed = worker->producer;

    for (uint32_t at = 0; at < worker->count;) {
        uint32_t count = worker->many ? 1 + (uint32_t)(next_random(&seed) % 40) : 1;

        if (count > worker->count - at)
            count = worker->count - at;
        put_numbers(worker->queue, worker->producer, at, count);
        at += count;
    }
    return NULL;
}

static void *consume(void *argument) {
    struct worker *worker = argument;
    struct piece piece;

    for (;;) {
        uint32_t number, producer;
        int rc = get_piece(worker->queue, &piece, worker->many ? 30 : 1, in_ms(20));

        if (rc == -ETIMEDOUT && __atomic_load_n(worker->left, __ATOMIC_RELAXED) == 0)
            return NULL;
        if (rc == -ETIMEDOUT)
            continue;
        CHECK_EQ(rc, 0);
        while ((number = next_number(worker->queue, &piece, &producer)) != UINT32_MAX) {
            CHECK(producer < 4);
            /* A consumer gets the messages of a producer in their order. */
            CHECK(number + 1 > worker->last[producer]);
            worker->last[producer] = number + 1;
            __atomic_fetch_add(&worker->taken[producer], 1, __ATOMIC_RELAXED);
            __atomic_fetch_sub(worker->left, 1, __ATOMIC_RELAXED);
        }
    }
}

static void threads_pass_batches(uint64_t maxsize) {
    struct fipc_queue *queue = new_queue(maxsize, 0);
    /* TSan goes by addresses: of two mappings it would not see what orders a block's users. */
    struct fipc_queue *again = FIXTURE_TSAN ? queue : open_again(queue);
    uint32_t count = FIXTURE_LESS(20000, 2000), taken[4] = {0};
    uint64_t left = 4 * (uint64_t)count;
    struct worker worker[8] = {0};
    pthread_t thread[8];

    for (uint32_t i = 0; i < 8; i++) {
        worker[i] = (struct worker){.queue = i & 1 ? queue : again,
                                    .producer = i / 2,
                                    .count = count,
                                    .taken = taken,
                                    .left = &left,
                                    .many = i < 6};
        thread[i] = check_thread(i & 1 ? produce : consume, &worker[i]);
    }
    for (uint32_t i = 0; i < 8; i++)
        check_thread_join(thread[i]);
    for (uint32_t i = 0; i < 4; i++)
        CHECK_EQ(taken[i], count);
    check_census(queue, 0);
    if (!FIXTURE_TSAN)
        fipc_queue_close(again);
    fipc_queue_close(queue);
}

static void threads_pass_batches_without_a_limit(void) { threads_pass_batches(0); }
static void threads_pass_batches_through_a_small_queue(void) { threads_pass_batches(10); }

static void *get_one(void *argument) {
    struct fipc_queue *queue = argument;
    struct inbox inbox;

    /* In this build a sleep ends by a wake only. */
    CHECK_EQ(get_message(queue, &inbox, FIPC_FOREVER), 0);
    fipc_queue_release(queue, &inbox.got);
    return NULL;
}

static void *put_one(void *argument) {
    struct fipc_queue *queue = argument;

    CHECK_EQ(put_bytes(queue, "1234567", 8, FIPC_FOREVER), 0);
    return NULL;
}

static void until_marked(const uint32_t *sleepers, uint32_t mark) {
    while ((fipc_load_seqcst(TEST, sleepers) & FIPC_SLEEPERS_MASK) != mark)
        sleep_ms(1);
    sleep_ms(20);
}

static void a_batch_lets_nobody_sleep_who_could_have_an_item(void) {
    for (uint32_t round = 0; round < 10; round++) {
        struct fipc_queue *queue = new_queue(0, 0);
        uint32_t count = 1 + round % 4;
        pthread_t thread[4];

        for (uint32_t i = 0; i < count; i++)
            thread[i] = check_thread(get_one, queue);
        until_marked(&queue->channel.shm->put.sleepers,
                     count == 1 ? FIPC_SLEEPERS_ONE : FIPC_SLEEPERS_MORE);
        put_numbers(queue, 1, 0, count);
        for (uint32_t i = 0; i < count; i++)
            check_thread_join(thread[i]);
        check_census(queue, 0);
        fipc_queue_close(queue);
    }
}

static void a_piece_got_lets_nobody_sleep_who_could_have_room(void) {
    for (uint32_t round = 0; round < 10; round++) {
        struct fipc_queue *queue = new_queue(4, 0);
        uint32_t count = 1 + round % 4;
        pthread_t thread[4];

        put_numbers(queue, 1, 0, 4);
        for (uint32_t i = 0; i < count; i++)
            thread[i] = check_thread(put_one, queue);
        until_marked(&queue->channel.shm->get.sleepers,
                     count == 1 ? FIPC_SLEEPERS_ONE : FIPC_SLEEPERS_MORE);
        get_numbers(queue, 0, 4, 4);
        for (uint32_t i = 0; i < count; i++)
            check_thread_join(thread[i]);
        check_census(queue, count);
        fipc_queue_close(queue);
    }
}

int main(void) {
    CHECK_BEGIN();
    CHECK_RUN(a_batch_arrives_in_its_order_through_rings_that_grow);
    CHECK_RUN(batches_and_single_messages_mix_in_a_ring_that_wraps);
    CHECK_RUN(a_batch_larger_than_the_queue_goes_in_parts);
    CHECK_RUN(a_byte_limit_holds_for_batches);
    CHECK_RUN(nothing_of_a_batch_is_put_when_one_message_can_never_fit);
    CHECK_RUN(a_batch_given_up_gives_its_blocks_back);
    CHECK_RUN(an_armed_doorbell_is_readable_while_a_part_of_a_batch_is_queued);
    CHECK_RUN(a_damaged_record_ends_a_piece_and_is_reported_then);
    CHECK_RUN(what_is_dropped_of_a_piece_gives_its_blocks_back_but_the_damaged);
    CHECK_RUN(threads_pass_batches_without_a_limit);
    CHECK_RUN(threads_pass_batches_through_a_small_queue);
    CHECK_RUN(a_batch_lets_nobody_sleep_who_could_have_an_item);
    CHECK_RUN(a_piece_got_lets_nobody_sleep_who_could_have_room);
    return CHECK_END();
}
