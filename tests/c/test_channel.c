/* test_channel.c - channel.h and its check: records at the rings' ends, pads, links,
 * what a dead put side leaves, and content that somebody damaged: an error then, never
 * a crash or a loop. Waiting and threads are test_queue.c's. */
#define _GNU_SOURCE
#include "channel.h"

#include "fixture.h"
#include "record.h"

struct pair {
    struct fipc_queue *queue;
    struct fipc_channel *channel;
    struct fipc_channel_shm *shm;
};

static struct pair new_pair(void) {
    struct fipc_queue *queue = new_queue(0, 0);

    return (struct pair){queue, &queue->channel, queue->channel.shm};
}

static int put_once(struct fipc_channel *channel, const void *data, uint32_t size,
                    struct fipc_block *spare, bool *spare_used) {
    struct fipc_put put = {.data = data,
                           .data_bytes = size,
                           .kind = FIPC_RECORD_INLINE,
                           .items = 1,
                           .bytes = size,
                           .spare_ring = spare};
    int rc = fipc_channel_put(channel, &put, in_ms(PATIENCE_MS));

    if (spare_used != NULL)
        *spare_used = put.spare_used;
    return rc;
}

static int get_once(struct fipc_channel *channel, struct inbox *inbox) {
    inbox->got.buffer = inbox->bytes;
    inbox->got.buffer_bytes = sizeof(inbox->bytes);
    inbox->got.block_count = 0;
    return fipc_channel_get(channel, &inbox->got, in_ms(PATIENCE_MS));
}

static uint64_t write_pos(const struct pair *pair) {
    return fipc_side_current(&pair->shm->put).pos;
}

/* ---- records and rings ---- */

static void a_record_takes_its_header_and_its_payload_rounded_up(void) {
    static const uint8_t zeros[FIPC_INLINE_MAX];
    struct pair pair = new_pair();
    uint64_t pos = FIPC_POS_FIRST;

    CHECK_EQ(write_pos(&pair), pos);
    for (uint32_t size = 0; size < 40; size++) {
        CHECK_EQ(put_once(pair.channel, zeros, size, NULL, NULL), 0);
        pos += 8 + (size + 7) / 8 * 8;
        CHECK_EQ(write_pos(&pair), pos);
    }
    check_census(pair.queue, 40);
    fipc_queue_close(pair.queue);
}

static void a_full_ring_asks_for_a_larger_one_and_links_it(void) {
    static const uint8_t zeros[FIPC_INLINE_MAX];
    struct pair pair = new_pair();
    uint64_t ring_bytes = UINT64_C(1) << FIPC_RING_FIRST_LOG2, first_ref, ref;
    struct fipc_block spare;
    struct inbox inbox;
    uint32_t count = 0;
    bool used;

    first_ref = fipc_side_current(&pair.shm->put).ring;
    while (put_once(pair.channel, zeros, 1000, NULL, NULL) == 0)
        count++;
    CHECK(write_pos(&pair) - FIPC_POS_FIRST <= ring_bytes - FIPC_LINK_RESERVE);
    CHECK(write_pos(&pair) - FIPC_POS_FIRST + 1008 > ring_bytes - FIPC_LINK_RESERVE);
    CHECK_EQ(put_once(pair.channel, zeros, 1000, NULL, NULL), -ENOBUFS);
    CHECK_EQ(fipc_channel_spare(pair.channel, in_ms(PATIENCE_MS), &spare), 0);
    CHECK(spare.capacity > ring_bytes);
    CHECK_EQ(put_once(pair.channel, zeros, 1000, &spare, &used), 0);
    CHECK(used);
    ref = fipc_side_current(&pair.shm->put).ring;
    CHECK_EQ(FIPC_RING_REF_BLOCK(ref), spare.id);
    CHECK_EQ(FIPC_RING_REF_LINK(ref), FIPC_RING_REF_LINK(first_ref) + 1);
    /* Its first record stands at its beginning. */
    CHECK_EQ(write_pos(&pair), fipc_load_relaxed(&spare.shm->ordinal) + 1008);
    check_census(pair.queue, count + 1);
    for (uint32_t i = 0; i <= count; i++)
        CHECK_EQ(get_once(pair.channel, &inbox), 0);
    CHECK_EQ(get_once(pair.channel, &inbox), -EAGAIN);
    CHECK_EQ(fipc_side_current(&pair.shm->get).ring, ref);
    check_census(pair.queue, 0); /* the first ring is free now */
    fipc_queue_close(pair.queue);
}

/* Each ring is used to each of its last words. */
static void a_link_fits_wherever_the_ring_became_full(void) {
    static const uint8_t zeros[FIPC_INLINE_MAX];

    for (uint32_t first = 0; first < 1100; first += 8) {
        struct pair pair = new_pair();
        struct fipc_block spare;
        struct inbox inbox;
        uint32_t count = 1;
        bool used;

        /* Not from the beginning, so that the ring wraps. */
        for (int i = 0; i < 3; i++) {
            CHECK_EQ(put_once(pair.channel, zeros, 4000, NULL, NULL), 0);
            CHECK_EQ(get_once(pair.channel, &inbox), 0);
        }
        CHECK_EQ(put_once(pair.channel, zeros, first, NULL, NULL), 0);
        while (put_once(pair.channel, zeros, 1000, NULL, NULL) == 0)
            count++;
        /* To the last word that may be used. */
        while (put_once(pair.channel, zeros, 0, NULL, NULL) == 0)
            count++;
        CHECK_EQ(fipc_channel_spare(pair.channel, in_ms(PATIENCE_MS), &spare), 0);
        CHECK_EQ(put_once(pair.channel, zeros, 4096, &spare, &used), 0);
        CHECK(used);
        check_census(pair.queue, count + 1);
        for (uint32_t i = 0; i < count; i++)
            CHECK_EQ(get_once(pair.channel, &inbox), 0);
        CHECK_EQ(get_once(pair.channel, &inbox), 0);
        CHECK_EQ(inbox.got.length, 4096);
        check_census(pair.queue, 0);
        fipc_queue_close(pair.queue);
    }
}

/* What is reserved is filled, published, and got again. */
static void publish(struct pair *pair, const struct fipc_room *room, uint64_t bytes,
                    uint8_t value) {
    struct fipc_put put = {.kind = FIPC_RECORD_INLINE, .data_bytes = (uint32_t)bytes, .items = 1};
    struct inbox inbox;

    memset(room->data, value, bytes);
    CHECK_EQ(fipc_channel_commit(pair->channel, room, &put, false, in_ms(PATIENCE_MS)), 0);
    CHECK_EQ(get_once(pair->channel, &inbox), 0);
    CHECK_EQ(inbox.got.length, bytes);
    for (uint64_t i = 0; i < bytes; i++)
        CHECK_EQ(inbox.bytes[i], value);
}

static void what_is_reserved_begins_at_a_line_wherever_the_ring_stands(void) {
    static const uint8_t zeros[FIPC_INLINE_MAX];
    struct pair pair = new_pair();
    const struct fipc_ring *ring = &pair.channel->put_ring;
    uint32_t at_beginning = 0;

    for (uint32_t i = 0; i < 5000; i++) {
        struct inbox inbox;
        struct fipc_room room;
        uint64_t off;

        CHECK_EQ(put_once(pair.channel, zeros, i % 1000, NULL, NULL), 0);
        CHECK_EQ(get_once(pair.channel, &inbox), 0);
        CHECK_EQ(fipc_channel_reserve(pair.channel, 200, 200 + i % 300, &room), 0);
        off = (uint64_t)(room.data - ring->data);
        CHECK(room.bytes >= 200 && off + room.bytes <= ring->size);
        /* Behind what is left over at the ring's end, there is no room for another pad. */
        at_beginning += off == FIPC_RECORD_BYTES;
        CHECK(off % FIPC_CACHE_LINE == 0 || off == FIPC_RECORD_BYTES);
        publish(&pair, &room, room.bytes, (uint8_t)i);
    }
    CHECK(at_beginning > 0 && at_beginning < 1000);
    check_census(pair.queue, 0);
    fipc_queue_close(pair.queue);
}

static void a_part_that_ends_for_want_of_room_ends_where_the_next_needs_no_pad(void) {
    static const uint8_t zeros[FIPC_INLINE_MAX];
    struct pair pair = new_pair();
    const struct fipc_ring *ring = &pair.channel->put_ring;
    uint32_t parts = 0, sent = 0;

    while (sent < 8)
        CHECK_EQ(put_once(pair.channel, zeros, 500 + sent++, NULL, NULL), 0);
    for (uint32_t i = 0; i < 500; i++) {
        struct inbox inbox;
        struct fipc_room room;
        int rc;

        CHECK_EQ(get_once(pair.channel, &inbox), 0);
        rc = fipc_channel_reserve(pair.channel, 1, FIPC_INLINE_MAX * 4, &room);
        CHECK(rc == 0 || rc == -EAGAIN);
        /* What is queued limits it, and not the ring's end. */
        if (rc == 0 && room.data + room.bytes < ring->data + ring->size) {
            parts++;
            CHECK_EQ((room.bytes + FIPC_RECORD_BYTES) % FIPC_CACHE_LINE, 0);
        }
        CHECK_EQ(put_once(pair.channel, zeros, 500 + i % 64, NULL, NULL), 0);
    }
    CHECK(parts > 50);
    fipc_queue_close(pair.queue);
}

static void a_spare_ring_that_is_not_needed_stays_its_owners(void) {
    static const uint8_t zeros[64];
    struct pair pair = new_pair();
    struct fipc_block spare;
    struct fipc_arena_census census;
    bool used = true;

    CHECK_EQ(fipc_channel_enter(pair.channel), 0);
    pair.channel->want_log2 = 16;
    CHECK_EQ(fipc_channel_spare(pair.channel, in_ms(PATIENCE_MS), &spare), 0);
    CHECK_EQ(put_once(pair.channel, zeros, 64, &spare, &used), 0);
    CHECK(!used);
    CHECK_EQ(fipc_arena_check(&pair.queue->segment, &census), 0);
    CHECK_EQ(census.owned, 1);
    fipc_block_release(&pair.queue->segment, &spare);
    check_census(pair.queue, 1);
    fipc_queue_close(pair.queue);
}

static void a_record_too_large_for_the_buffer_stays(void) {
    static const uint8_t zeros[2000];
    struct pair pair = new_pair();
    struct inbox inbox;

    CHECK_EQ(put_once(pair.channel, zeros, 2000, NULL, NULL), 0);
    inbox.got = (struct fipc_got){.buffer = inbox.bytes, .buffer_bytes = 1999};
    CHECK_EQ(fipc_channel_get(pair.channel, &inbox.got, in_ms(PATIENCE_MS)), -EMSGSIZE);
    CHECK_EQ(inbox.got.length, 2000);
    check_census(pair.queue, 1);
    CHECK_EQ(get_once(pair.channel, &inbox), 0);
    check_census(pair.queue, 0);
    fipc_queue_close(pair.queue);
}

static void a_queue_in_another_mapping_says_what_it_must_map(void) {
    static const uint8_t zeros[FIPC_INLINE_MAX];
    struct fipc_queue *queue = new_queue(0, 0), *again = open_again(queue);
    struct inbox inbox;
    int stale = 0, rc;

    for (int i = 0; i < 2000; i++)
        CHECK_EQ(put_bytes(queue, zeros, 4000, 0), 0);
    for (int i = 0; i < 2000; i++) {
        while ((rc = get_once(&again->channel, &inbox)) == -ESTALE) {
            CHECK_EQ(fipc_channel_map(&again->channel), 0);
            stale++;
        }
        CHECK_EQ(rc, 0);
    }
    CHECK(stale > 0);
    check_census(queue, 0);
    fipc_queue_close(again);
    fipc_queue_close(queue);
}

struct flicker {
    struct fipc_block_shm *shm;
    uint32_t stop;
};

/* The block loses its memory and gets it back, as when it is freed and taken again. */
static void *take_and_give_back(void *argument) {
    struct flicker *flicker = argument;
    uint64_t populated = fipc_load_relaxed(&flicker->shm->populated);

    while (!fipc_load_acquire(TEST, &flicker->stop)) {
        fipc_store_relaxed(&flicker->shm->populated, populated & FIPC_BLOCK_LOW_MASK);
        fipc_store_relaxed(&flicker->shm->populated, populated);
    }
    return NULL;
}

static void what_is_to_be_mapped_may_go_and_come_meanwhile(void) {
    static const uint8_t zeros[FIPC_INLINE_MAX];
    struct fipc_queue *queue = new_queue(0, 0), *again = open_again(queue);
    struct flicker flicker = {0};
    struct fipc_block block;
    struct inbox inbox;
    pthread_t thread;
    uint64_t place;
    int rc;

    for (int i = 0; i < 2000; i++)
        CHECK_EQ(put_bytes(queue, zeros, 4000, 0), 0);
    while ((rc = get_once(&again->channel, &inbox)) == 0)
        ;
    CHECK_EQ(rc, -ESTALE);
    CHECK_EQ(fipc_block_find(&queue->segment, again->channel.map_block, &block), 0);
    flicker.shm = block.shm;
    place = fipc_load_relaxed(&block.shm->place) & ~FIPC_BLOCK_LOW_MASK;
    CHECK_EQ(fipc_channel_map(&again->channel), 0);
    thread = check_thread(take_and_give_back, &flicker);
    for (int i = 0; i < FIXTURE_LESS(300000, 30000); i++) {
        /* It knows the file as it was before the block's memory. */
        fipc_store_relaxed(&again->segment.length, place);
        CHECK_EQ(fipc_channel_map(&again->channel), 0);
    }
    fipc_store_release(TEST, &flicker.stop, 1);
    check_thread_join(thread);
    fipc_queue_close(again);
    fipc_queue_close(queue);
}

/* Others may have given it back meanwhile, with its group; a damaged segment says it for ever. */
static void what_cannot_be_mapped_is_looked_at_some_more_times(void) {
    struct pair pair = new_pair();
    struct inbox inbox;
    uint32_t ring;

    CHECK_EQ(put_once(pair.channel, "", 1, NULL, NULL), 0);
    ring = FIPC_RING_REF_BLOCK(fipc_side_current(&pair.shm->put).ring);
    for (int i = 0; i < 3; i++) {
        pair.channel->map_block = FIPC_GROUP_BLOCKS * 7;
        for (int look = 0; look < 3; look++)
            CHECK_EQ(fipc_channel_map(pair.channel), 0);
        CHECK_EQ(fipc_channel_map(pair.channel), -EBADMSG);
        CHECK_EQ(fipc_channel_map(pair.channel), -EBADMSG);
        /* Until something is put or got. */
        pair.channel->map_block = ring;
        CHECK_EQ(fipc_channel_map(pair.channel), 0);
        pair.channel->map_block = FIPC_GROUP_BLOCKS * 7;
        CHECK_EQ(fipc_channel_map(pair.channel), -EBADMSG);
        if (i == 0)
            CHECK_EQ(get_once(pair.channel, &inbox), 0);
        else
            CHECK_EQ(put_once(pair.channel, "", 1, NULL, NULL), 0);
    }
    fipc_queue_close(pair.queue);
}

/* ---- a put side that died ---- */

static void die_before_publishing(void *argument) {
    struct pair *pair = argument;
    struct fipc_segment *segment = &pair->queue->segment;
    struct fipc_block block, ring;

    CHECK_EQ(fipc_channel_enter(pair->channel), 0);
    CHECK_EQ(fipc_block_alloc(segment, 10000, FIPC_BLOCK_KIND_DATA, in_ms(PATIENCE_MS), &block), 0);
    CHECK_EQ(fipc_block_alloc(segment, 65536, FIPC_BLOCK_KIND_RING, in_ms(PATIENCE_MS), &ring), 0);
    CHECK_EQ(fipc_channel_lock_put(pair->channel, in_ms(PATIENCE_MS)), 0);
    /* As after step put-link-ordinal and step put-ordinal. */
    fipc_store_release(TEST, &ring.shm->ordinal, write_pos(pair) + 16);
    fipc_store_release(TEST, &block.shm->ordinal, write_pos(pair) + 16);
    raise(SIGKILL);
}

static void ordinals_that_were_never_published_are_taken_back(void) {
    for (int sweeps_first = 0; sweeps_first < 2; sweeps_first++) {
        struct pair pair = new_pair();

        CHECK_EQ(put_bytes(pair.queue, "", 0, 0), 0);
        check_join_signal(check_fork(die_before_publishing, &pair), SIGKILL);
        if (sweeps_first)
            CHECK_EQ(fipc_slots_reap(&pair.queue->segment), 1);
        /* Takes the lock over, and passes the positions that the dead one gave out. */
        for (int i = 0; i < 10; i++)
            CHECK_EQ(put_bytes(pair.queue, "12345678", 8, in_ms(PATIENCE_MS)), 0);
        CHECK_EQ(pair.shm->recoveries, 1);
        if (!sweeps_first)
            CHECK_EQ(fipc_slots_reap(&pair.queue->segment), 1);
        check_census(pair.queue, 11);
        fipc_queue_close(pair.queue);
    }
}

/* ---- damage ---- */

/* The first ring's bytes. */
static uint8_t *first_ring(const struct pair *pair) {
    struct fipc_block block;

    CHECK_EQ(fipc_block_find(&pair->queue->segment, FIPC_BLOCK_ID(0, 0), &block), 0);
    return block.data;
}

static void drop_damaged(struct pair *pair) { fipc_queue_close(pair->queue); }

static void a_record_longer_than_what_was_written_is_reported(void) {
    static const uint32_t lengths[] = {1,     9,       4096,           16377,
                                       16384, 1 << 30, UINT32_MAX - 7, UINT32_MAX};

    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct pair pair = new_pair();
        struct inbox inbox;

        CHECK_EQ(put_bytes(pair.queue, "", 0, 0), 0);
        fipc_record_write(first_ring(&pair), lengths[i], FIPC_RECORD_INLINE, 0);
        CHECK_EQ(get_message(pair.queue, &inbox, in_ms(PATIENCE_MS)), -EBADMSG);
        drop_damaged(&pair);
    }
}

static void a_record_of_unknown_kind_is_reported(void) {
    static const uint16_t kinds[] = {0, FIPC_RECORD_PAD, FIPC_RECORD_LINK, FIPC_RECORD_FIRST,
                                     9, UINT16_MAX};

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        struct pair pair = new_pair();
        struct inbox inbox;

        CHECK_EQ(put_bytes(pair.queue, "12345678", 8, 0), 0);
        fipc_record_write(first_ring(&pair), 8, kinds[i], 0);
        CHECK_EQ(get_message(pair.queue, &inbox, in_ms(PATIENCE_MS)), -EBADMSG);
        drop_damaged(&pair);
    }
}

static void a_link_to_nowhere_is_reported(void) {
    static const uint64_t refs[] = {0,
                                    FIPC_RING_REF(2, 0),                   /* into itself */
                                    FIPC_RING_REF(2, 5),                   /* no such block */
                                    FIPC_RING_REF(2, 127),                 /* no such index */
                                    FIPC_RING_REF(2, UINT32_MAX),          /* no such group */
                                    FIPC_RING_REF(1, 0),                   /* does not count up */
                                    FIPC_RING_REF(2, FIPC_BLOCK_ID(1, 0)), /* not a ring */
                                    UINT64_MAX};

    for (size_t i = 0; i < sizeof(refs) / sizeof(refs[0]); i++) {
        struct pair pair = new_pair();
        uint8_t bytes[10000] = {0};
        struct inbox inbox;

        CHECK_EQ(put_bytes(pair.queue, "12345678", 8, 0), 0);
        CHECK_EQ(put_bytes(pair.queue, bytes, sizeof(bytes), 0), 0);
        fipc_record_write(first_ring(&pair), 8, FIPC_RECORD_LINK, 0);
        memcpy(first_ring(&pair) + 8, &refs[i], 8);
        CHECK_EQ(get_message(pair.queue, &inbox, in_ms(PATIENCE_MS)), -EBADMSG);
        drop_damaged(&pair);
    }
}

static void a_block_reference_to_nowhere_is_reported(void) {
    static const struct fipc_block_ref_shm refs[] = {
        {5, 1, 10},
        {127, 1, 10},
        {UINT32_MAX, 1, 10},
        {0, 1, 10} /* a ring */,
        {128, 1, 1 << 20},
        {128, 1, UINT64_MAX},
        {128, 0, 10},
        {128, 2, 10} /* more than the record holds */,
        {128, FIPC_REFS_MAX + 1, 10},
        {128, UINT32_MAX, 10},
    };

    for (size_t i = 0; i < sizeof(refs) / sizeof(refs[0]); i++) {
        struct pair pair = new_pair();
        uint8_t bytes[10000] = {0};
        struct inbox inbox;

        CHECK_EQ(put_bytes(pair.queue, bytes, sizeof(bytes), 0), 0);
        memcpy(first_ring(&pair) + 8, &refs[i], sizeof(refs[i]));
        CHECK_EQ(get_message(pair.queue, &inbox, in_ms(PATIENCE_MS)), -EBADMSG);
        CHECK_EQ(inbox.got.block_count, 0);
        drop_damaged(&pair);
    }
}

static void a_position_out_of_step_is_reported_by_both_sides(void) {
    static const int64_t steps[] = {1, 4, 7, -1, -4, -64};

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        struct pair pair = new_pair();
        struct inbox inbox;

        CHECK_EQ(put_bytes(pair.queue, "12345678", 8, 0), 0);
        pair.shm->get.copy[pair.shm->get.gen & 1].pos += (uint64_t)steps[i];
        CHECK_EQ(get_message(pair.queue, &inbox, in_ms(PATIENCE_MS)), -EBADMSG);
        pair.shm->get.copy[pair.shm->get.gen & 1].pos -= (uint64_t)steps[i];
        pair.shm->put.copy[pair.shm->put.gen & 1].pos = FIPC_POS_FIRST + (uint64_t)steps[i];
        CHECK_EQ(put_bytes(pair.queue, "12345678", 8, 0), -EBADMSG);
        drop_damaged(&pair);
    }
}

/* Nothing is written behind a ring, wherever its writer was told to be. */
static void a_damaged_position_writes_into_no_other_block(void) {
    static const uint8_t fives[FIPC_INLINE_MAX] = {5, 5, 5};
    struct pair pair = new_pair();
    uint64_t size = UINT64_C(1) << FIPC_RING_FIRST_LOG2, seed = 3;
    /* The place of a second ring, and the first group's descriptors. */
    uint64_t behind = FIPC_OFF_HEADER - FIPC_OFF_RINGS - size;
    uint8_t *before = malloc(behind);
    struct fipc_block guard;

    CHECK(before != NULL);
    CHECK_EQ(put_bytes(pair.queue, "", 0, 0), 0);
    CHECK_EQ(fipc_block_alloc(&pair.queue->segment, 100000, FIPC_BLOCK_KIND_DATA,
                              in_ms(PATIENCE_MS), &guard),
             0);
    memcpy(before, first_ring(&pair) + size, behind);
    for (int i = 0; i < 20000; i++) {
        struct fipc_side_copy_shm *put = &pair.shm->put.copy[pair.shm->put.gen & 1];
        struct fipc_side_copy_shm *get = &pair.shm->get.copy[pair.shm->get.gen & 1];
        uint64_t pos = FIPC_POS_FIRST + next_random(&seed) % (4 * size);

        put->pos = next_random(&seed) % 8 ? pos : next_random(&seed);
        get->pos = pos + next_random(&seed) % 64 - 32;
        put->ring = get->ring = FIPC_RING_REF(1, 0);
        (void)put_once(pair.channel, fives, (uint32_t)(next_random(&seed) % 4096), NULL, NULL);
        pair.channel->seen_read_pos = 0;
    }
    for (uint64_t at = 0; at < 100000; at++)
        CHECK_EQ(guard.data[at], 0);
    CHECK(memcmp(before, first_ring(&pair) + size, behind) == 0);
    free(before);
    drop_damaged(&pair);
}

/* Anything anywhere; whatever comes out, nobody crashes, loops or hangs. */
static void random_damage_crashes_nobody(void) {
    uint8_t *bytes = calloc(1, 30000);
    uint64_t seed = 7;
    uint32_t reported = 0;

    CHECK(bytes != NULL);
    for (int round = 0; round < FIXTURE_LESS(4000, 800); round++) {
        struct pair pair = new_pair();
        struct fipc_queue *again = open_again(pair.queue);
        struct inbox inbox;
        uint8_t *base = pair.queue->segment.chunk[0];
        uint64_t where, value;
        int rc;

        for (int i = 0; i < 30; i++)
            CHECK_EQ(put_bytes(pair.queue, bytes, next_random(&seed) % (i % 4 ? 900 : 30000), 0),
                     0);
        CHECK_EQ(get_message(again, &inbox, 0), 0);
        fipc_queue_release(again, &inbox.got);
        for (int n = 0; n < 3; n++) {
            switch (next_random(&seed) % 4) {
            case 0: /* a record's header or reference */
                where = FIPC_OFF_RINGS + next_random(&seed) % 8192;
                if (next_random(&seed) % 2)
                    where = FIPC_OFF_SPACE + next_random(&seed) % 16384;
                break;
            case 1: /* the state of a side; not the locks, which are test_lock.c's */
                where =
                    FIPC_OFF_CHANNEL0 + (next_random(&seed) % 2) * 64 + 8 + next_random(&seed) % 48;
                break;
            case 2: /* descriptors */
                where = FIPC_OFF_GROUP0 + next_random(&seed) % 200;
                break;
            default: /* the arena's state and hints, the directory */
                where = FIPC_OFF_ARENA + 8 + next_random(&seed) % 900;
            }
            where &= ~UINT64_C(7);
            value = next_random(&seed) >> (next_random(&seed) % 64);
            if (next_random(&seed) % 2)
                memcpy(&value, base + where + (next_random(&seed) % 8) * 8, 8);
            memcpy(base + where, &value, 8);
        }
        for (int i = 0; i < 40; i++) {
            rc = get_message(i % 2 ? again : pair.queue, &inbox, 0);
            reported += rc == -EBADMSG;
            if (rc != 0)
                break;
            (void)checksum_bytes(message_of(&inbox), inbox.got.size_bytes);
            fipc_queue_release(again, &inbox.got);
        }
        for (int i = 0; i < 40; i++) {
            rc = put_bytes(i % 2 ? again : pair.queue, bytes, next_random(&seed) % 30000, 0);
            reported += rc == -EBADMSG;
            if (rc != 0)
                break;
        }
        (void)fipc_slots_reap(&again->segment);
        fipc_queue_close(again);
        drop_damaged(&pair);
    }
    CHECK(reported > 100);
    free(bytes);
}

static void a_segment_of_another_kind_version_or_size_is_refused(void) {
    struct fipc_segment *segment = new_segment();
    struct fipc_segment other;
    int fd;

    CHECK_EQ(fipc_segment_open(&other, segment->fd, FIPC_KIND_CONN), -EINVAL);
    segment->header->version++;
    CHECK_EQ(fipc_segment_open(&other, segment->fd, FIPC_KIND_QUEUE), -EINVAL);
    segment->header->version--;
    segment->header->magic = 0; /* as if its creator had died in the middle */
    CHECK_EQ(fipc_segment_open(&other, segment->fd, FIPC_KIND_QUEUE), -EINVAL);
    segment->header->magic = FIPC_MAGIC;
    fd = memfd_create("short", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK_OK(fd);
    CHECK_EQ(fipc_segment_open(&other, fd, FIPC_KIND_QUEUE), -EINVAL);
    CHECK_OK(ftruncate(fd, FIPC_OFF_SPACE - 1));
    CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
    CHECK_EQ(fipc_segment_open(&other, fd, FIPC_KIND_QUEUE), -EINVAL);
    CHECK_OK(fcntl(fd, F_GETFD)); /* stays the caller's */
    close(fd);
    drop_segment(segment);
}

int main(void) {
    CHECK_BEGIN();
    CHECK_RUN(a_record_takes_its_header_and_its_payload_rounded_up);
    CHECK_RUN(a_full_ring_asks_for_a_larger_one_and_links_it);
    CHECK_RUN(a_link_fits_wherever_the_ring_became_full);
    CHECK_RUN(what_is_reserved_begins_at_a_line_wherever_the_ring_stands);
    CHECK_RUN(a_part_that_ends_for_want_of_room_ends_where_the_next_needs_no_pad);
    CHECK_RUN(a_spare_ring_that_is_not_needed_stays_its_owners);
    CHECK_RUN(a_record_too_large_for_the_buffer_stays);
    CHECK_RUN(a_queue_in_another_mapping_says_what_it_must_map);
    CHECK_RUN(what_is_to_be_mapped_may_go_and_come_meanwhile);
    CHECK_RUN(what_cannot_be_mapped_is_looked_at_some_more_times);
    CHECK_RUN(ordinals_that_were_never_published_are_taken_back);
    CHECK_RUN(a_record_longer_than_what_was_written_is_reported);
    CHECK_RUN(a_record_of_unknown_kind_is_reported);
    CHECK_RUN(a_link_to_nowhere_is_reported);
    CHECK_RUN(a_block_reference_to_nowhere_is_reported);
    CHECK_RUN(a_position_out_of_step_is_reported_by_both_sides);
    CHECK_RUN(a_damaged_position_writes_into_no_other_block);
    CHECK_RUN(random_damage_crashes_nobody);
    CHECK_RUN(a_segment_of_another_kind_version_or_size_is_refused);
    return CHECK_END();
}
