/* test_queue.c - queue.h with threads as peers: several producers and consumers on
 * two handles of one segment, so that TSan sees both sides of every order. Nobody
 * dies here; test_queue_kills.c has that. */
#define _GNU_SOURCE
#include "queue.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include "channel_fast.h"
#include "fixture.h"

#define MIB (UINT64_C(1) << 20)

/* What stands at a message's beginning, as far as it is that long. */
struct stamp {
    uint32_t producer, number;
};

/* Fills a message that says of each of its bytes whether it is right. */
static void fill(uint8_t *bytes, uint64_t size_bytes, struct stamp stamp) {
    uint64_t seed = (uint64_t)stamp.producer << 32 | stamp.number, word;

    for (uint64_t at = 0; at < size_bytes; at += 8) {
        word = at == 0 ? seed : seed * UINT64_C(0x9e3779b97f4a7c15) + at;
        memcpy(bytes + at, &word, size_bytes - at < 8 ? size_bytes - at : 8);
    }
}

static bool is_filled(const uint8_t *bytes, uint64_t size_bytes, struct stamp stamp) {
    uint64_t seed = (uint64_t)stamp.producer << 32 | stamp.number, word;

    for (uint64_t at = 0; at < size_bytes; at += 8) {
        word = at == 0 ? seed : seed * UINT64_C(0x9e3779b97f4a7c15) + at;
        if (memcmp(bytes + at, &word, size_bytes - at < 8 ? size_bytes - at : 8) != 0)
            return false;
    }
    return true;
}

static void put_stamped(struct fipc_queue *queue, uint64_t size_bytes, struct stamp stamp) {
    uint8_t *bytes = malloc(size_bytes + 1);

    CHECK(bytes != NULL);
    fill(bytes, size_bytes, stamp);
    CHECK_EQ(put_bytes(queue, bytes, size_bytes, in_ms(PATIENCE_MS)), 0);
    free(bytes);
}

static void get_stamped(struct fipc_queue *queue, uint64_t size_bytes, struct stamp stamp) {
    struct inbox inbox;

    CHECK_EQ(get_message(queue, &inbox, in_ms(PATIENCE_MS)), 0);
    CHECK_EQ(inbox.got.size_bytes, size_bytes);
    CHECK(is_filled(message_of(&inbox), size_bytes, stamp));
    fipc_queue_release(queue, &inbox.got);
}

/* ---- one thread, two handles ---- */

static void a_queue_and_its_second_handle_see_the_same_messages(void) {
    struct fipc_queue *queue = new_queue(0, 0), *again = open_again(queue);

    for (uint32_t i = 0; i < 100; i++)
        put_stamped(i & 1 ? queue : again, 8, (struct stamp){1, i});
    check_census(queue, 100);
    for (uint32_t i = 0; i < 100; i++)
        get_stamped(i & 2 ? queue : again, 8, (struct stamp){1, i});
    check_census(again, 0);
    fipc_queue_close(again);
    fipc_queue_close(queue);
}

/* Both ends of each size that something changes at. */
static void messages_of_every_size_arrive_whole(void) {
    static const uint64_t some[] = {0,    1,    2,    3,     7,     8,     9,
                                    4087, 4088, 4089, 4095,  4096,  4097,  4104,
                                    8191, 8192, 8193, 12288, 65535, 65536, 65537};
    struct fipc_queue *queue = new_queue(0, 0), *again = open_again(queue);
    uint32_t number = 0;

    for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++, number++) {
        put_stamped(queue, some[i], (struct stamp){1, number});
        get_stamped(again, some[i], (struct stamp){1, number});
    }
    for (uint64_t power = 4; power <= MIB; power *= 2) {
        for (uint64_t size = power - 1; size <= power + 1; size++, number++) {
            put_stamped(queue, size, (struct stamp){1, number});
            get_stamped(again, size, (struct stamp){1, number});
        }
    }
    put_stamped(queue, 20 * MIB, (struct stamp){2, number});
    get_stamped(again, 20 * MIB, (struct stamp){2, number});
    check_census(queue, 0);
    fipc_queue_close(again);
    fipc_queue_close(queue);
}

/* All sizes queued at once, so that records lie at every offset of the ring. */
static void messages_of_mixed_sizes_keep_their_order_through_the_rings(void) {
    struct fipc_queue *queue = new_queue(0, 0), *again = open_again(queue);
    uint64_t seed = 1, sizes[64];
    uint32_t put = 0, got = 0;

    while (got < FIXTURE_LESS(60000, 6000)) {
        uint32_t queued = put - got;

        if (queued < 64 && (queued == 0 || next_random(&seed) % 2 == 0)) {
            uint64_t size =
                next_random(&seed) % 4 == 0 ? next_random(&seed) % 9000 : next_random(&seed) % 200;

            sizes[put % 64] = size;
            put_stamped(queue, size, (struct stamp){3, put++});
        } else {
            get_stamped(again, sizes[got % 64], (struct stamp){3, got});
            got++;
        }
    }
    check_census(queue, put - got);
    for (; got < put; got++)
        get_stamped(again, sizes[got % 64], (struct stamp){3, got});
    check_census(queue, 0);
    fipc_queue_close(again);
    fipc_queue_close(queue);
}

static void a_full_queue_refuses_until_something_was_got(void) {
    struct fipc_queue *queue = new_queue(3, 0);

    for (uint32_t i = 0; i < 3; i++)
        CHECK_EQ(put_bytes(queue, &i, 4, 0), 0);
    CHECK_EQ(put_bytes(queue, "", 1, 0), -ETIMEDOUT);
    CHECK_EQ(put_bytes(queue, "", 0, in_ms(30)), -ETIMEDOUT);
    check_census(queue, 3);
    for (uint32_t i = 0; i < 10; i++) {
        struct inbox inbox;
        uint32_t next = i + 3, value;

        CHECK_EQ(get_message(queue, &inbox, 0), 0);
        memcpy(&value, inbox.bytes, 4);
        CHECK_EQ(value, i);
        CHECK_EQ(put_bytes(queue, &next, 4, 0), 0);
        CHECK_EQ(put_bytes(queue, &next, 4, 0), -ETIMEDOUT);
    }
    check_census(queue, 3);
    fipc_queue_close(queue);
}

/* Tries to put a message in a block; what a failure leaves stays in *putting. */
static int try_put_stamped(struct fipc_queue *queue, uint64_t size_bytes, struct stamp stamp,
                           struct fipc_queue_putting *putting) {
    uint8_t bytes[20000];
    int rc;

    CHECK(size_bytes <= sizeof(bytes));
    fill(bytes, size_bytes, stamp);
    rc = fipc_queue_try_put_block(queue, bytes, size_bytes, 0, putting);
    memset(bytes, 0, sizeof(bytes));
    return rc;
}

static int try_put_large(struct fipc_queue *queue, uint64_t size_bytes,
                         struct fipc_queue_putting *putting) {
    uint8_t *bytes = malloc(size_bytes);
    int rc;

    CHECK(bytes != NULL);
    fill(bytes, size_bytes, (struct stamp){1, 2});
    rc = fipc_queue_try_put_block(queue, bytes, size_bytes, 0, putting);
    free(bytes);
    return rc;
}

static void a_block_that_is_warm_is_put_at_once_and_else_nothing_is_lost(void) {
    struct fipc_queue *queue = new_queue(2, 0), *again;
    struct fipc_queue_putting putting = {.block_count = 0};
    struct stamp first = {1, 1}, second = {1, 2}, third = {1, 3};

    /* There is none yet. */
    CHECK(try_put_stamped(queue, 20000, first, &putting) < 0);
    CHECK(fipc_queue_put_is_done(&putting));
    put_stamped(queue, 20000, first);
    get_stamped(queue, 20000, first);
    CHECK_EQ(try_put_stamped(queue, 20000, first, &putting), 0);
    CHECK(fipc_queue_put_is_done(&putting));
    get_stamped(queue, 20000, first);
    /* One of the same class, but without memory for so much. */
    put_stamped(queue, 34000, first);
    get_stamped(queue, 34000, first);
    CHECK_EQ(try_put_large(queue, 60000, &putting), -EAGAIN);
    CHECK(fipc_queue_put_is_done(&putting));
    put_stamped(queue, 60000, second);
    get_stamped(queue, 60000, second);
    CHECK_EQ(try_put_large(queue, 60000, &putting), 0);
    get_stamped(queue, 60000, second);
    /* Full: the message is in its block by then, and goes on from there. */
    put_stamped(queue, 1, first);
    put_stamped(queue, 1, second);
    CHECK_EQ(try_put_stamped(queue, 20000, third, &putting), -EAGAIN);
    CHECK(!fipc_queue_put_is_done(&putting) && putting.filled);
    get_stamped(queue, 1, first);
    CHECK_EQ(fipc_queue_put(queue, "not looked at", 20000, 0, in_ms(PATIENCE_MS), &putting), 0);
    fipc_queue_put_end(queue, &putting);
    get_stamped(queue, 1, second);
    get_stamped(queue, 20000, third);
    check_census(queue, 0);
    fipc_queue_close(queue);
    /* A byte limit is not for this path. */
    queue = new_queue(0, 100000);
    again = open_again(queue);
    put_stamped(queue, 20000, first);
    get_stamped(again, 20000, first);
    putting = (struct fipc_queue_putting){.block_count = 0};
    CHECK_EQ(try_put_stamped(queue, 20000, first, &putting), -EBUSY);
    CHECK(fipc_queue_put_is_done(&putting));
    fipc_queue_close(again);
    fipc_queue_close(queue);
}

static void a_byte_limit_counts_what_is_queued_inline_or_in_blocks(void) {
    struct fipc_queue *queue = new_queue(0, 100000);
    uint8_t *bytes = calloc(1, 100001);
    uint64_t items, queued;
    struct inbox inbox;

    CHECK(bytes != NULL);
    CHECK_EQ(put_bytes(queue, bytes, 100001, in_ms(PATIENCE_MS)), -E2BIG);
    CHECK_EQ(put_bytes(queue, bytes, 60000, 0), 0);
    CHECK_EQ(put_bytes(queue, bytes, 40001, 0), -ETIMEDOUT);
    CHECK_EQ(put_bytes(queue, bytes, 1000, 0), 0);
    CHECK_EQ(put_bytes(queue, bytes, 39000, 0), 0);
    fipc_channel_depth(&queue->channel, &items, &queued);
    CHECK_EQ(items, 3);
    CHECK_EQ(queued, 100000);
    CHECK_EQ(put_bytes(queue, bytes, 1, 0), -ETIMEDOUT);
    CHECK_EQ(put_bytes(queue, bytes, 0, 0), 0);
    check_census(queue, 4);
    CHECK_EQ(get_message(queue, &inbox, 0), 0);
    CHECK_EQ(inbox.got.size_bytes, 60000);
    /* What a receiver holds counts no more. */
    CHECK_EQ(put_bytes(queue, bytes, 60000, 0), 0);
    CHECK_EQ(put_bytes(queue, bytes, 1, 0), -ETIMEDOUT);
    fipc_queue_release(queue, &inbox.got);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(get_message(queue, &inbox, 0), 0);
        fipc_queue_release(queue, &inbox.got);
    }
    fipc_channel_depth(&queue->channel, &items, &queued);
    CHECK_EQ(items, 0);
    CHECK_EQ(queued, 0);
    CHECK_EQ(put_bytes(queue, bytes, 100000, 0), 0);
    check_census(queue, 1);
    free(bytes);
    fipc_queue_close(queue);
}

static void put_for_ever(struct fipc_queue *queue, const uint8_t *bytes, uint64_t size_bytes) {
    CHECK_EQ(put_bytes(queue, bytes, size_bytes, FIPC_FOREVER), 0);
}

/* As if it came at once behind many others. */
static void put_in_a_run(struct fipc_queue *queue, const uint8_t *bytes, uint64_t size_bytes) {
    queue->ahead.run = 1000;
    queue->ahead.ended_ns = INT64_MAX;
    put_for_ever(queue, bytes, size_bytes);
}

static void behind_large_messages_a_put_waits_a_moment_and_less_often_in_vain(void) {
    struct fipc_queue *queue = new_queue(0, 0);
    uint8_t *bytes = calloc(1, 8 * MIB);
    uint64_t items, queued;

    CHECK(bytes != NULL);
    /* Nothing is ahead. */
    put_in_a_run(queue, bytes, 8 * MIB);
    CHECK_EQ(queue->ahead.misses, 0);
    for (uint32_t misses = 1; misses < 3; misses++) {
        int64_t begun_ns = fipc_os_now_ns();

        put_in_a_run(queue, bytes, 8 * MIB);
        if (fipc_os_cpu_count() < 2) {
            CHECK_EQ(queue->ahead.misses, 0);
            break;
        }
        CHECK(fipc_os_now_ns() - begun_ns >= FIPC_NS_PER_MS);
        CHECK_EQ(queue->ahead.misses, misses);
        CHECK_EQ(queue->ahead.skips, UINT32_C(1) << misses);
        while (queue->ahead.skips != 0)
            put_in_a_run(queue, bytes, 8 * MIB);
        CHECK_EQ(queue->ahead.misses, misses);
    }
    /* Neither who has no time, nor what is smaller, or too large for any cache. */
    queue->ahead.misses = 0;
    queue->ahead.run = 1000;
    queue->ahead.ended_ns = INT64_MAX;
    CHECK_EQ(put_bytes(queue, bytes, 8 * MIB, in_ms(PATIENCE_MS)), 0);
    CHECK_EQ(put_bytes(queue, bytes, 8 * MIB, 0), 0);
    put_in_a_run(queue, bytes, MIB - 1);
    free(bytes);
    bytes = calloc(1, 20 * MIB);
    CHECK(bytes != NULL);
    put_in_a_run(queue, bytes, 20 * MIB);
    CHECK_EQ(queue->ahead.misses, 0);
    fipc_channel_depth(&queue->channel, &items, &queued);
    CHECK(items >= 6);
    free(bytes);
    fipc_queue_close(queue);
}

static void who_works_between_large_messages_does_not_wait(void) {
    struct fipc_queue *queue = new_queue(0, 0);
    uint8_t *bytes = calloc(1, 8 * MIB);

    CHECK(bytes != NULL);
    for (int i = 0; i < 12; i++) {
        /* A millisecond of work, and no clock to wait for. */
        queue->ahead.ended_ns = fipc_os_now_ns() - FIPC_NS_PER_MS;
        put_for_ever(queue, bytes, 8 * MIB);
        CHECK_EQ(queue->ahead.run, 0);
    }
    /* A few at once are not a run yet. */
    for (int i = 0; i < 3; i++) {
        queue->ahead.ended_ns = INT64_MAX;
        put_for_ever(queue, bytes, 8 * MIB);
    }
    CHECK_EQ(queue->ahead.run, 3);
    CHECK_EQ(queue->ahead.misses, 0);
    queue->ahead.ended_ns = INT64_MAX;
    put_for_ever(queue, bytes, 8 * MIB);
    CHECK_EQ(queue->ahead.misses, fipc_os_cpu_count() < 2 ? 0 : 1);
    free(bytes);
    fipc_queue_close(queue);
}

static void small_messages_are_not_waited_for(void) {
    struct fipc_queue *queue = new_queue(0, 0);
    uint8_t *bytes = calloc(1, MIB);

    CHECK(bytes != NULL);
    for (int i = 0; i < 100; i++)
        put_for_ever(queue, bytes, 100);
    for (int i = 0; i < 14; i++)
        put_in_a_run(queue, bytes, MIB);
    CHECK_EQ(queue->ahead.misses, 0);
    /* With one that is read, and one that is written, 16 MiB. */
    put_in_a_run(queue, bytes, MIB);
    CHECK_EQ(queue->ahead.misses, 0);
    put_in_a_run(queue, bytes, MIB);
    CHECK_EQ(queue->ahead.misses, fipc_os_cpu_count() < 2 ? 0 : 1);
    free(bytes);
    fipc_queue_close(queue);
}

struct late_reader {
    struct fipc_queue *queue;
    uint32_t asked; /* to take so many messages; UINT32_MAX: no more */
};

/* Takes a message a moment after it was asked to. */
static void *take_late(void *argument) {
    struct late_reader *reader = argument;
    struct inbox inbox;
    uint32_t taken = 0, asked;

    while ((asked = fipc_load_acquire(TEST, &reader->asked)) != UINT32_MAX) {
        if (asked == taken) {
            sched_yield();
            continue;
        }
        for (int i = 0; i < 1000; i++)
            fipc_pause();
        CHECK_EQ(get_message(reader->queue, &inbox, in_ms(PATIENCE_MS)), 0);
        fipc_queue_release(reader->queue, &inbox.got);
        taken++;
    }
    return NULL;
}

static void a_put_goes_on_as_soon_as_the_large_message_before_it_is_taken(void) {
    struct late_reader reader = {.queue = new_queue(0, 0)};
    struct fipc_queue *queue = reader.queue;
    uint8_t *bytes = calloc(1, 8 * MIB);
    bool was_let_in = fipc_os_cpu_count() < 2;
    pthread_t thread;

    CHECK(bytes != NULL);
    put_for_ever(queue, bytes, 8 * MIB);
    thread = check_thread(take_late, &reader);
    /* Who is in the way of the reader for a millisecond makes it wait in vain. */
    for (int i = 0; !was_let_in && i < 1000; i++) {
        queue->ahead.misses = 5;
        queue->ahead.skips = 0;
        fipc_store_release(TEST, &reader.asked, reader.asked + 1);
        put_in_a_run(queue, bytes, 8 * MIB);
        was_let_in = queue->ahead.misses == 0;
    }
    CHECK(was_let_in);
    fipc_store_release(TEST, &reader.asked, UINT32_MAX);
    check_thread_join(thread);
    free(bytes);
    fipc_queue_close(queue);
}

/* The get of the fourth of some that came alone asks whether to leave the producers alone. */
static void who_gets_his_own_messages_makes_no_pause(void) {
    struct fipc_queue *queue = new_queue(0, 0), *other = new_queue(0, 0);
    struct inbox inbox;

    /* Whoever tries has entered. */
    CHECK_EQ(put_bytes(queue, (const uint8_t *)"x", 1, 0), 0);
    CHECK_EQ(get_message(queue, &inbox, 0), 0);
    CHECK_EQ(put_bytes(other, (const uint8_t *)"x", 1, 0), 0);
    queue->channel.thin_looks = 0;
    for (int round = 0; round < 2; round++)
        for (uint32_t i = 0; i < FIPC_THIN_LOOKS; i++) {
            CHECK_EQ(queue->channel.thin_looks, i);
            CHECK_EQ(fipc_queue_try_put(queue, "x", 1, 0), 0);
            CHECK_EQ(fipc_own_put, queue->channel.key);
            inbox.got.buffer = inbox.bytes;
            inbox.got.buffer_bytes = sizeof(inbox.bytes);
            CHECK_EQ(fipc_queue_try_get(queue, &inbox.got), 0);
            CHECK_EQ(fipc_own_put, i + 1 < FIPC_THIN_LOOKS ? queue->channel.key : 0);
        }
    /* What went elsewhere is no reason. */
    CHECK(other->channel.key != queue->channel.key);
    CHECK_EQ(fipc_queue_try_put(other, "x", 1, 0), 0);
    for (int i = 0; i < FIPC_THIN_LOOKS; i++) {
        CHECK_EQ(put_bytes(queue, (const uint8_t *)"x", 1, 0), 0);
        fipc_own_put = other->channel.key;
        CHECK_EQ(fipc_queue_try_get(queue, &inbox.got), 0);
    }
    CHECK_EQ(queue->channel.thin_looks, 0);
    CHECK_EQ(fipc_own_put, other->channel.key);
    fipc_queue_close(other);
    fipc_queue_close(queue);
}

static void an_empty_queue_says_so_in_time(void) {
    struct fipc_queue *queue = new_queue(0, 0);
    struct inbox inbox;

    CHECK_EQ(get_message(queue, &inbox, 0), -ETIMEDOUT);
    CHECK_EQ(get_message(queue, &inbox, fipc_os_now_ns() - 1), -ETIMEDOUT);
    CHECK_EQ(get_message(queue, &inbox, in_ms(30)), -ETIMEDOUT);
    CHECK_EQ(inbox.got.block_count, 0);
    CHECK_EQ(queue->channel.shm->late_wakes, 0);
    check_census(queue, 0);
    fipc_queue_close(queue);
}

/* No signal comes, and here nobody else looks again by himself. */
static void with_chores_whoever_waits_returns_to_look_after_them(void) {
    struct fipc_queue *queue = new_queue(1, 0);
    struct fipc_waiting getting = {0}, joining = {0};
    struct fipc_queue_putting putting = {0};
    struct inbox inbox = {.got = {.buffer = inbox.bytes, .buffer_bytes = sizeof(inbox.bytes)}};

    fipc_waiting_set_chores(true);
    /* The first time is before the sleep. */
    for (int i = 0; i < 2; i++)
        CHECK_EQ(fipc_queue_get(queue, &inbox.got, FIPC_FOREVER, &getting), -EINTR);
    CHECK_EQ(put_bytes(queue, "", 1, 0), 0);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(fipc_queue_put(queue, "", 1, 0, FIPC_FOREVER, &putting), -EINTR);
    fipc_queue_put_end(queue, &putting);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(fipc_queue_join(queue, FIPC_FOREVER, &joining), -EINTR);
    fipc_waiting_set_chores(false);
    fipc_queue_close(queue);
}

/* As fipc_queue_get() may be called where fipc_queue_try_get() found nothing. */
static void who_has_just_looked_for_signals_is_not_sent_to_look_again(void) {
    struct fipc_queue *queue = new_queue(0, 0), *again = open_again(queue);
    struct fipc_waiting fresh = {.is_fresh = 1}, spinning = fresh, late = fresh, looking = {0};
    struct inbox inbox = {.got = {.buffer = inbox.bytes, .buffer_bytes = sizeof(inbox.bytes)}};

    CHECK_EQ(fipc_queue_get(queue, &inbox.got, in_ms(PATIENCE_MS), &looking), -EINTR);
    CHECK_EQ(looking.rounds, 0);
    /* It slept: a time limit does not end a wait that has not begun. */
    CHECK_EQ(fipc_queue_get(queue, &inbox.got, in_ms(30), &fresh), -ETIMEDOUT);
    CHECK_EQ(fresh.rounds, 1);
    /* It was not looked for again: that would have waited for the lock, and not slept. */
    CHECK_EQ(fipc_channel_enter(&again->channel), 0);
    CHECK_EQ(fipc_lock_try(&again->segment, &again->channel.shm->get.lock), 0);
    fresh = (struct fipc_waiting){.is_fresh = 1};
    CHECK_EQ(fipc_queue_get(queue, &inbox.got, in_ms(30), &fresh), -ETIMEDOUT);
    CHECK_EQ(fresh.rounds, 1);
    fipc_lock_release(&again->channel.shm->get.lock);
    /* Time goes by behind a run, and signals may have come. */
    fipc_store_relaxed(&queue->get_run, FIPC_RUN_LEAST);
    fresh = (struct fipc_waiting){.is_fresh = 1};
    CHECK_EQ(fipc_queue_get(queue, &inbox.got, in_ms(PATIENCE_MS), &fresh), -EINTR);
    CHECK_EQ(fresh.rounds, 0);
    fipc_store_relaxed(&queue->get_crowd.gives_way, 1);
    fresh = (struct fipc_waiting){.is_fresh = 1};
    CHECK_EQ(fipc_queue_get(queue, &inbox.got, in_ms(PATIENCE_MS), &fresh), -EINTR);
    CHECK_EQ(fresh.rounds, 0);
    /* And while it spins. Without a second CPU nobody does. */
    fipc_store_relaxed(&queue->get_spin.budget_ns, 2000);
    if (fipc_spin_budget(&queue->get_spin) != 0) {
        CHECK_EQ(fipc_queue_get(queue, &inbox.got, in_ms(PATIENCE_MS), &spinning), -EINTR);
        CHECK_EQ(spinning.rounds, 0);
    }
    /* Something came meanwhile. */
    put_stamped(queue, 8, (struct stamp){1, 1});
    CHECK_EQ(fipc_queue_get(queue, &inbox.got, in_ms(PATIENCE_MS), &late), 0);
    CHECK(is_filled(inbox.bytes, 8, (struct stamp){1, 1}));
    CHECK_EQ(late.rounds, 0);
    check_census(queue, 0);
    fipc_queue_close(again);
    fipc_queue_close(queue);
}

static void counts_that_threads_have_mixed_up_divide_nothing_by_zero(void) {
    struct fipc_crowd crowd = {.done = 6, .left_done = 7};

    /* The first time in a long while. */
    CHECK(!fipc_crowd_meets(&crowd));
    CHECK(!crowd.gives_way);
}

/* Waits without spinning until one that tries it. */
static uint32_t waits_until_a_try(struct fipc_spin *spin) {
    uint32_t waits = 1;

    while (fipc_spin_budget(spin) == 0)
        CHECK(++waits < 10000);
    return waits;
}

static void a_try_that_pays_by_luck_does_not_bring_spinning_back(void) {
    struct fipc_spin spin = {0};
    int32_t most_ns;

    if (fipc_os_cpu_count() < 2)
        CHECK_SKIP("with one CPU nobody spins");
    CHECK_EQ(waits_until_a_try(&spin), 32);
    fipc_spin_missed(&spin);
    CHECK_EQ(waits_until_a_try(&spin), 63);
    for (uint32_t luck = 1; luck < 8; luck++) {
        for (uint32_t i = 0; i < luck; i++)
            fipc_spin_paid(&spin);
        most_ns = fipc_spin_budget(&spin);
        CHECK(most_ns > 0);
        fipc_spin_missed(&spin);
        /* Every try makes the next one rarer, up to a point; the wait that missed counts. */
        CHECK_EQ(waits_until_a_try(&spin), (luck < 4 ? UINT32_C(64) << luck : 1024) - 1);
    }
    for (uint32_t i = 0; i < 8; i++)
        fipc_spin_paid(&spin);
    most_ns = fipc_spin_budget(&spin);
    fipc_spin_missed(&spin);
    CHECK_EQ(fipc_spin_budget(&spin), most_ns / 2);
    while (fipc_load_relaxed(&spin.budget_ns) != 0)
        fipc_spin_missed(&spin);
    CHECK(waits_until_a_try(&spin) < 32);
}

struct sleeping {
    struct fipc_queue *sleeper, *putter;
};

static void *put_once_somebody_sleeps(void *argument) {
    struct sleeping *sleeping = argument;
    const uint32_t *getters = fipc_channel_getters(&sleeping->sleeper->channel);
    int64_t until_ns = in_ms(PATIENCE_MS);

    while (fipc_load_relaxed(getters) == 0 && fipc_os_now_ns() < until_ns)
        sched_yield();
    put_stamped(sleeping->putter, 8, (struct stamp){2, 1});
    return NULL;
}

static void who_was_woken_takes_the_simple_way_and_begins_no_run(void) {
    struct fipc_queue *queue = new_queue(0, 0), *again = open_again(queue);
    struct fipc_waiting waiting = {.is_fresh = 1};
    struct inbox inbox = {.got = {.buffer = inbox.bytes, .buffer_bytes = sizeof(inbox.bytes)}};
    struct sleeping sleeping = {queue, again};
    pthread_t thread;
    uint64_t done;
    int rc;

    /* The first message takes the ring to be mapped. */
    put_stamped(again, 8, (struct stamp){2, 0});
    get_stamped(queue, 8, (struct stamp){2, 0});
    done = queue->get_crowd.done;
    thread = check_thread(put_once_somebody_sleeps, &sleeping);
    do
        rc = fipc_queue_get(queue, &inbox.got, in_ms(PATIENCE_MS), &waiting);
    while (rc == -EINTR);
    CHECK_EQ(rc, 0);
    check_thread_join(thread);
    CHECK(is_filled(inbox.bytes, 8, (struct stamp){2, 1}));
    CHECK(waiting.rounds >= 1);
    CHECK_EQ(queue->get_crowd.done, done + 1);
    CHECK_EQ(queue->get_run, 0);
    check_census(again, 0);
    fipc_queue_close(again);
    fipc_queue_close(queue);
}

static void what_a_receiver_holds_outlives_further_traffic(void) {
    struct fipc_queue *queue = new_queue(0, 0);
    struct inbox held[5];

    for (uint32_t i = 0; i < 5; i++)
        put_stamped(queue, 100000, (struct stamp){7, i});
    for (uint32_t i = 0; i < 5; i++)
        CHECK_EQ(get_message(queue, &held[i], 0), 0);
    for (uint32_t i = 0; i < 20; i++) {
        put_stamped(queue, 100000, (struct stamp){8, i});
        get_stamped(queue, 100000, (struct stamp){8, i});
    }
    for (uint32_t i = 0; i < 5; i++) {
        CHECK(is_filled(message_of(&held[i]), 100000, (struct stamp){7, i}));
        fipc_queue_release(queue, &held[i].got);
    }
    check_census(queue, 0);
    fipc_queue_close(queue);
}

struct interrupted {
    struct fipc_queue *queue;
    struct fipc_queue_putting putting;
    uint8_t bytes[20000];
};

static void go_on_putting(void *argument) {
    struct interrupted *interrupted = argument;

    CHECK_EQ(fipc_queue_put(interrupted->queue, interrupted->bytes, sizeof(interrupted->bytes), 0,
                            in_ms(PATIENCE_MS), &interrupted->putting),
             0);
    fipc_queue_put_end(interrupted->queue, &interrupted->putting);
}

/* As when a signal handler forks while put() waits for room. */
static void a_fork_in_the_middle_of_a_put_makes_two_messages_of_it(void) {
    struct interrupted interrupted = {.queue = new_queue(0, 0)};

    fill(interrupted.bytes, sizeof(interrupted.bytes), (struct stamp){1, 1});
    CHECK_EQ(fipc_segment_enter(&interrupted.queue->segment), 1);
    CHECK_EQ(fipc_block_alloc(&interrupted.queue->segment, sizeof(interrupted.bytes),
                              FIPC_BLOCK_KIND_DATA, in_ms(PATIENCE_MS),
                              &interrupted.putting.block[0]),
             0);
    interrupted.putting.block_count = 1;
    interrupted.putting.filled = true;
    memcpy(interrupted.putting.block[0].data, interrupted.bytes, sizeof(interrupted.bytes));
    check_in_child(go_on_putting, &interrupted);
    go_on_putting(&interrupted);
    check_census(interrupted.queue, 2);
    get_stamped(interrupted.queue, sizeof(interrupted.bytes), (struct stamp){1, 1});
    get_stamped(interrupted.queue, sizeof(interrupted.bytes), (struct stamp){1, 1});
    check_census(interrupted.queue, 0);
    fipc_queue_close(interrupted.queue);
}

struct forked_get {
    struct fipc_queue *queue;
    struct fipc_waiting waiting;
    uint64_t parent_owner;
    uint32_t *parent_getters;
};

static void go_on_getting(void *argument) {
    struct forked_get *get = argument;
    struct inbox inbox = {.got = {.buffer = inbox.bytes, .buffer_bytes = sizeof(inbox.bytes)}};
    int rc;

    do
        rc = fipc_queue_get(get->queue, &inbox.got, in_ms(PATIENCE_MS), &get->waiting);
    while (rc == -EINTR);
    CHECK_EQ(rc, 0);
    CHECK(is_filled(inbox.bytes, 8, (struct stamp){1, 1}));
    CHECK(get->queue->segment.owner != get->parent_owner);
    CHECK(fipc_channel_getters(&get->queue->channel) != get->parent_getters);
    CHECK_EQ(fipc_load_relaxed(get->parent_getters), 0);
}

/* As when a signal handler forks while get() waits: its child is somebody else. */
static void a_fork_in_the_middle_of_a_get_takes_with_its_own_lock(void) {
    const struct fipc_waiting in_between[] = {{.rounds = 1}, {.is_fresh = 1}, {0}};

    for (size_t i = 0; i < sizeof(in_between) / sizeof(in_between[0]); i++) {
        struct forked_get get = {.queue = new_queue(0, 0), .waiting = in_between[i]};

        put_stamped(get.queue, 8, (struct stamp){1, 0});
        get_stamped(get.queue, 8, (struct stamp){1, 0});
        get.parent_owner = get.queue->segment.owner;
        get.parent_getters = fipc_channel_getters(&get.queue->channel);
        put_stamped(get.queue, 8, (struct stamp){1, 1});
        check_in_child(go_on_getting, &get);
        check_census(get.queue, 0);
        fipc_queue_close(get.queue);
    }
}

/* ---- several blocks ---- */

/* As when a signal handler forks while a message is copied with the GIL held. */
static uint8_t *faulting;
static size_t faulting_bytes;
static pid_t forked;

static void fork_in_the_copy(int number) {
    (void)number;
    if (mprotect(faulting, faulting_bytes, PROT_READ) != 0)
        _exit(1);
    /* Not fork(): under ThreadSanitizer that allocates memory. */
    forked = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static void a_fork_in_the_middle_of_a_copy_makes_two_messages_of_it(void) {
    struct fipc_queue *queue = new_queue(0, 0);
    struct fipc_queue_putting putting = {.block_count = 0};
    struct sigaction action = {.sa_handler = fork_in_the_copy}, before;
    struct stamp stamp = {1, 1};
    int rc, status;

    faulting_bytes = 5 * FIPC_PAGE;
    faulting =
        mmap(NULL, faulting_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(faulting != MAP_FAILED);
    fill(faulting, faulting_bytes, stamp);
    put_stamped(queue, faulting_bytes, stamp);
    get_stamped(queue, faulting_bytes, stamp);
    CHECK(sigaction(SIGSEGV, &action, &before) == 0);
    CHECK(mprotect(faulting, faulting_bytes, PROT_NONE) == 0);
    rc = fipc_queue_try_put_block(queue, faulting, faulting_bytes, 0, &putting);
    CHECK(sigaction(SIGSEGV, &before, NULL) == 0);
    if (forked == 0) {
        /* The block is the parent's: this process takes another one. */
        CHECK(rc < 0);
        CHECK_EQ(fipc_queue_put(queue, faulting, faulting_bytes, 0, in_ms(PATIENCE_MS), &putting),
                 0);
        fipc_queue_put_end(queue, &putting);
        _exit(0);
    }
    CHECK(forked > 0 && waitpid(forked, &status, 0) == forked);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_EQ(rc, 0);
    check_census(queue, 2);
    get_stamped(queue, faulting_bytes, stamp);
    get_stamped(queue, faulting_bytes, stamp);
    check_census(queue, 0);
    CHECK(munmap(faulting, faulting_bytes) == 0);
    fipc_queue_close(queue);
}

static void a_message_in_several_blocks_arrives_whole_and_gives_all_of_them_back(void) {
    static const uint64_t sizes[] = {100, 20000, 3 * MIB};
    static const uint8_t rest[] = "and this inline";
    struct fipc_queue *queue = new_queue(0, 4 * MIB), *other = open_again(queue);
    struct fipc_queue_putting putting = {0};
    struct inbox inbox;

    CHECK_EQ(fipc_queue_prepare(queue, sizes, 3, in_ms(PATIENCE_MS), &putting), 0);
    for (uint32_t i = 0; i < 3; i++)
        memset(putting.block[i].data, (int)(i + 1), sizes[i]);
    CHECK_EQ(fipc_queue_put_prepared(queue, sizes, rest, sizeof(rest), 7, 0, &putting), 0);
    fipc_queue_put_end(queue, &putting);
    CHECK_EQ(get_message(other, &inbox, in_ms(PATIENCE_MS)), 0);
    CHECK_EQ(inbox.got.block_count, 3);
    CHECK_EQ(inbox.got.tag, 7);
    CHECK_EQ(inbox.got.size_bytes, sizes[0] + sizes[1] + sizes[2] + sizeof(rest));
    CHECK(memcmp((uint8_t *)inbox.got.buffer + fipc_got_rest_off(&inbox.got), rest, sizeof(rest)) ==
          0);
    for (uint32_t i = 0; i < 3; i++) {
        struct fipc_block block;
        uint64_t size_bytes;

        CHECK_EQ(fipc_channel_got_block(&other->channel, &inbox.got, i, &block, &size_bytes), 0);
        CHECK_EQ(size_bytes, sizes[i]);
        CHECK_EQ(block.shm->owner, other->segment.owner);
        CHECK_EQ(block.data[0], i + 1);
        CHECK_EQ(block.data[size_bytes - 1], i + 1);
    }
    fipc_queue_release(other, &inbox.got);
    check_census(queue, 0);
    fipc_queue_close(other);
    fipc_queue_close(queue);
}

/* ---- growing and shrinking ---- */

#define BURST 200000

static void a_burst_is_kept_and_its_memory_given_back(void) {
    struct fipc_queue *queue = new_queue(0, 0), *again = open_again(queue);
    uint32_t last = BURST;

    for (uint32_t i = 0; i < BURST; i++)
        put_stamped(queue, 8 + i % 5, (struct stamp){1, i});
    check_census(again, BURST);
    CHECK(fipc_os_allocated_bytes(queue->segment.fd) > 2 * (int64_t)MIB);
    for (uint32_t i = 0; i < BURST; i++)
        get_stamped(again, 8 + i % 5, (struct stamp){1, i});
    check_census(queue, 0);
    sleep_ms(700);
    put_stamped(queue, 8, (struct stamp){1, last});
    get_stamped(again, 8, (struct stamp){1, last});
    CHECK(fipc_os_allocated_bytes(queue->segment.fd) <= 2 * (int64_t)MIB);
    check_census(queue, 0);
    fipc_queue_close(again);
    fipc_queue_close(queue);
}

static void a_burst_of_blocks_is_kept_and_its_memory_given_back(void) {
    struct fipc_queue *queue = new_queue(0, 0), *again = open_again(queue);
    enum { COUNT = FIXTURE_LESS(6000, 1000) };

    for (uint32_t i = 0; i < COUNT; i++)
        put_stamped(queue, 5000 + i, (struct stamp){1, i});
    check_census(again, COUNT);
    for (uint32_t i = 0; i < COUNT; i++)
        get_stamped(again, 5000 + i, (struct stamp){1, i});
    check_census(queue, 0);
    sleep_ms(700);
    put_stamped(queue, 8, (struct stamp){1, COUNT});
    get_stamped(again, 8, (struct stamp){1, COUNT});
    CHECK(fipc_os_allocated_bytes(queue->segment.fd) <= 2 * (int64_t)MIB);
    check_census(queue, 0);
    /* And again, on what was given back. */
    for (uint32_t i = 0; i < COUNT; i++)
        put_stamped(queue, 5000 + i, (struct stamp){2, i});
    for (uint32_t i = 0; i < COUNT; i++)
        get_stamped(again, 5000 + i, (struct stamp){2, i});
    check_census(queue, 0);
    fipc_queue_close(again);
    fipc_queue_close(queue);
}

/* ---- threads ---- */

#define PRODUCERS 3
#define CONSUMERS 3
#define END_NUMBER UINT32_MAX

struct crowd {
    struct fipc_queue *handles[2]; /* used in turn */
    uint32_t count;                /* messages of each producer */
    uint64_t (*size_of)(uint32_t number);
    uint64_t sum_put, sum_got, got;
    bool pauses;
};

struct member {
    struct crowd *crowd;
    uint32_t number;
    pthread_t thread;
};

static uint64_t small_size(uint32_t number) { return 8 + number % 57; }

static uint64_t mixed_size(uint32_t number) {
    uint64_t seed = number, size = next_random(&seed) % 3;

    return 8 + (size == 0   ? next_random(&seed) % 64
                : size == 1 ? next_random(&seed) % 5000
                            : next_random(&seed) % FIXTURE_LESS(100000, 20000));
}

static void pause_at_random(uint64_t *seed) {
    uint64_t dice = next_random(seed) % 64;

    if (dice == 0)
        sched_yield();
    else if (dice == 1)
        for (uint64_t i = next_random(seed) % 4000; i > 0; i--)
            fipc_pause();
}

static void *produce(void *argument) {
    struct member *member = argument;
    struct crowd *crowd = member->crowd;
    struct fipc_queue *queue = crowd->handles[member->number % 2];
    uint64_t seed = member->number, sum = 0;

    for (uint32_t i = 0; i < crowd->count; i++) {
        put_stamped(queue, crowd->size_of(i), (struct stamp){member->number, i});
        sum += crowd->size_of(i) + i;
        if (crowd->pauses)
            pause_at_random(&seed);
    }
    __atomic_fetch_add(&crowd->sum_put, sum, __ATOMIC_SEQ_CST);
    return NULL;
}

static void *consume(void *argument) {
    struct member *member = argument;
    struct crowd *crowd = member->crowd;
    struct fipc_queue *queue = crowd->handles[(member->number + 1) % 2];
    int64_t last[PRODUCERS];
    uint64_t seed = 100 + member->number, sum = 0;

    for (int i = 0; i < PRODUCERS; i++)
        last[i] = -1;
    for (;;) {
        struct inbox inbox;
        struct stamp stamp;

        CHECK_EQ(get_message(queue, &inbox, in_ms(PATIENCE_MS)), 0);
        CHECK(inbox.got.size_bytes >= sizeof(stamp));
        /* Numbers come first in a stamp's word, little-endian. */
        memcpy(&stamp.number, message_of(&inbox), 4);
        memcpy(&stamp.producer, message_of(&inbox) + 4, 4);
        if (stamp.number == END_NUMBER) {
            fipc_queue_release(queue, &inbox.got);
            break;
        }
        CHECK(stamp.producer < PRODUCERS);
        CHECK((int64_t)stamp.number > last[stamp.producer]);
        last[stamp.producer] = stamp.number;
        CHECK_EQ(inbox.got.size_bytes, crowd->size_of(stamp.number));
        CHECK(is_filled(message_of(&inbox), inbox.got.size_bytes, stamp));
        sum += inbox.got.size_bytes + stamp.number;
        __atomic_fetch_add(&crowd->got, 1, __ATOMIC_SEQ_CST);
        fipc_queue_release(queue, &inbox.got);
        if (crowd->pauses)
            pause_at_random(&seed);
    }
    __atomic_fetch_add(&crowd->sum_got, sum, __ATOMIC_SEQ_CST);
    return NULL;
}

static void run_crowd(struct crowd *crowd, uint64_t maxsize, uint64_t max_bytes, int producers,
                      int consumers) {
    struct member members[PRODUCERS + CONSUMERS];

    crowd->handles[0] = new_queue(maxsize, max_bytes);
    /* TSan goes by addresses: it would not see that what one mapping published was
     * received through another. */
    crowd->handles[1] = FIXTURE_TSAN ? crowd->handles[0] : open_again(crowd->handles[0]);
    for (int i = 0; i < producers + consumers; i++) {
        members[i] = (struct member){crowd, (uint32_t)(i < producers ? i : i - producers), 0};
        members[i].thread = check_thread(i < producers ? produce : consume, &members[i]);
    }
    for (int i = 0; i < producers; i++)
        check_thread_join(members[i].thread);
    for (int i = 0; i < consumers; i++)
        put_stamped(crowd->handles[0], 8, (struct stamp){0, END_NUMBER});
    for (int i = producers; i < producers + consumers; i++)
        check_thread_join(members[i].thread);
    CHECK_EQ(crowd->got, (uint64_t)crowd->count * (uint64_t)producers);
    CHECK_EQ(crowd->sum_got, crowd->sum_put);
    /* Nobody was killed: every sleeper was woken by who had something for it. */
    CHECK_EQ(crowd->handles[0]->channel.shm->late_wakes, 0);
    CHECK_EQ(crowd->handles[0]->channel.shm->recoveries, 0);
    check_census(crowd->handles[0], 0);
    if (!FIXTURE_TSAN)
        fipc_queue_close(crowd->handles[1]);
    fipc_queue_close(crowd->handles[0]);
}

static void one_producer_and_one_consumer_lose_nothing(void) {
    struct crowd crowd = {
        .count = FIXTURE_LESS(300000, 30000), .size_of = small_size, .pauses = true};

    run_crowd(&crowd, 0, 0, 1, 1);
}

static void several_producers_and_consumers_keep_each_producers_order(void) {
    struct crowd crowd = {.count = FIXTURE_LESS(60000, 6000), .size_of = small_size};

    run_crowd(&crowd, 0, 0, PRODUCERS, CONSUMERS);
}

static void sleepers_on_both_sides_are_woken(void) {
    struct crowd crowd = {
        .count = FIXTURE_LESS(60000, 6000), .size_of = small_size, .pauses = true};

    run_crowd(&crowd, 2, 0, PRODUCERS, CONSUMERS);
}

static void many_consumers_that_wait_for_one_producer_are_woken(void) {
    struct crowd crowd = {
        .count = FIXTURE_LESS(100000, 10000), .size_of = small_size, .pauses = true};

    run_crowd(&crowd, 0, 0, 1, CONSUMERS);
}

static void many_producers_that_wait_for_one_consumer_are_woken(void) {
    struct crowd crowd = {
        .count = FIXTURE_LESS(40000, 4000), .size_of = small_size, .pauses = true};

    run_crowd(&crowd, 1, 0, PRODUCERS, 1);
}

static void blocks_change_hands_between_threads(void) {
    struct crowd crowd = {.count = FIXTURE_LESS(10000, 1000), .size_of = mixed_size};

    run_crowd(&crowd, 0, 0, PRODUCERS, CONSUMERS);
}

static void a_byte_limit_holds_between_threads(void) {
    struct crowd crowd = {.count = FIXTURE_LESS(6000, 600), .size_of = mixed_size};

    run_crowd(&crowd, 0, 200000, PRODUCERS, CONSUMERS);
}

/* Threads that share one handle, as those of one Python process do. */
static void threads_share_one_handle(void) {
    struct crowd crowd = {.count = FIXTURE_LESS(20000, 2000), .size_of = mixed_size};
    struct member members[PRODUCERS + CONSUMERS];

    crowd.handles[0] = crowd.handles[1] = new_queue(100, 0);
    for (uint32_t i = 0; i < PRODUCERS + CONSUMERS; i++) {
        members[i] = (struct member){&crowd, i % 3, 0};
        members[i].thread = check_thread(i < PRODUCERS ? produce : consume, &members[i]);
    }
    for (int i = 0; i < PRODUCERS; i++)
        check_thread_join(members[i].thread);
    for (int i = 0; i < CONSUMERS; i++)
        put_stamped(crowd.handles[0], 8, (struct stamp){0, END_NUMBER});
    for (int i = PRODUCERS; i < PRODUCERS + CONSUMERS; i++)
        check_thread_join(members[i].thread);
    CHECK_EQ(crowd.sum_got, crowd.sum_put);
    check_census(crowd.handles[0], 0);
    fipc_queue_close(crowd.handles[0]);
}

/* ---- a conversation: each side sleeps until the other has spoken ---- */

struct conversation {
    struct fipc_queue *there, *back;
    uint32_t count;
};

static void *answer(void *argument) {
    struct conversation *conversation = argument;
    uint64_t seed = 5;

    for (uint32_t i = 0; i < conversation->count; i++) {
        get_stamped(conversation->there, 16, (struct stamp){1, i});
        pause_at_random(&seed);
        put_stamped(conversation->back, 16, (struct stamp){2, i});
    }
    return NULL;
}

static void neither_side_of_a_conversation_sleeps_through_a_message(void) {
    struct fipc_queue *there = new_queue(0, 0), *back = new_queue(0, 0);
    struct conversation conversation = {open_again(there), open_again(back),
                                        FIXTURE_LESS(100000, 10000)};
    pthread_t thread = check_thread(answer, &conversation);
    uint64_t seed = 6;

    for (uint32_t i = 0; i < conversation.count; i++) {
        put_stamped(there, 16, (struct stamp){1, i});
        pause_at_random(&seed);
        get_stamped(back, 16, (struct stamp){2, i});
    }
    check_thread_join(thread);
    CHECK_EQ(there->channel.shm->late_wakes, 0);
    CHECK_EQ(back->channel.shm->late_wakes, 0);
    fipc_queue_close(conversation.there);
    fipc_queue_close(conversation.back);
    fipc_queue_close(there);
    fipc_queue_close(back);
}

/* ---- tasks ---- */

static void tasks_are_counted_and_join_ends_when_none_is_left(void) {
    struct fipc_queue *queue = new_queue(0, 0);
    struct fipc_waiting waiting = {0};
    int64_t deadline_ns;
    int rc;

    CHECK_EQ(fipc_queue_join(queue, 0, &waiting), 0);
    CHECK_EQ(fipc_queue_task_done(queue), -ERANGE);
    put_stamped(queue, 8, (struct stamp){1, 0});
    put_stamped(queue, 8, (struct stamp){1, 1});
    CHECK_EQ(fipc_queue_unfinished(queue), 2);
    CHECK_EQ(fipc_queue_join(queue, 0, &waiting), -ETIMEDOUT);
    CHECK_EQ(fipc_queue_task_done(queue), 0);
    deadline_ns = in_ms(20);
    do
        rc = fipc_queue_join(queue, deadline_ns, &waiting);
    while (rc == -EINTR);
    CHECK_EQ(rc, -ETIMEDOUT);
    CHECK_EQ(fipc_queue_task_done(queue), 0);
    CHECK_EQ(fipc_queue_task_done(queue), -ERANGE);
    CHECK_EQ(fipc_queue_join(queue, 0, &waiting), 0);
    CHECK_EQ(fipc_queue_unfinished(queue), 0);
    fipc_queue_close(queue);
}

struct tasks {
    struct fipc_queue *queue;
    uint32_t rounds;
};

static void *work(void *argument) {
    struct tasks *tasks = argument;
    uint64_t seed = 9;

    for (uint32_t i = 0; i < tasks->rounds; i++) {
        get_stamped(tasks->queue, 8, (struct stamp){1, i});
        pause_at_random(&seed);
        CHECK_EQ(fipc_queue_task_done(tasks->queue), 0);
    }
    return NULL;
}

static int join_tasks(struct fipc_queue *queue, int64_t deadline_ns) {
    struct fipc_waiting waiting = {0};
    int rc;

    do {
        rc = fipc_queue_join(queue, deadline_ns, &waiting);
    } while (rc == -EINTR);
    return rc;
}

static void whoever_joins_is_woken_by_the_last_task_done(void) {
    struct fipc_queue *queue = new_queue(0, 0);
    struct tasks tasks = {open_again(queue), FIXTURE_LESS(50000, 5000)};
    pthread_t thread = check_thread(work, &tasks);

    for (uint32_t i = 0; i < tasks.rounds; i++) {
        put_stamped(queue, 8, (struct stamp){1, i});
        CHECK_EQ(join_tasks(queue, in_ms(PATIENCE_MS)), 0);
    }
    check_thread_join(thread);
    fipc_queue_close(tasks.queue);
    fipc_queue_close(queue);
}

/* ---- cancelling ---- */

struct blocked {
    struct fipc_queue *queue;
    int rc;
};

static void *get_until_cancelled(void *argument) {
    struct blocked *blocked = argument;
    struct inbox inbox;

    blocked->rc = get_message(blocked->queue, &inbox, in_ms(PATIENCE_MS));
    return NULL;
}

static void *put_until_cancelled(void *argument) {
    struct blocked *blocked = argument;

    blocked->rc = put_bytes(blocked->queue, "x", 1, in_ms(PATIENCE_MS));
    return NULL;
}

static void *join_until_cancelled(void *argument) {
    struct blocked *blocked = argument;

    blocked->rc = join_tasks(blocked->queue, in_ms(PATIENCE_MS));
    return NULL;
}

static void cancelling_ends_calls_that_are_blocked_or_about_to_be(void) {
    for (uint32_t i = 0; i < FIXTURE_LESS(1500, 300); i++) {
        struct fipc_queue *empty = new_queue(0, 0), *full = new_queue(1, 0);
        struct blocked blocked[3] = {{empty, 1}, {full, 1}, {full, 1}};
        pthread_t threads[3];
        uint64_t seed = i;

        CHECK_EQ(put_bytes(full, "", 0, 0), 0);
        threads[0] = check_thread(get_until_cancelled, &blocked[0]);
        threads[1] = check_thread(put_until_cancelled, &blocked[1]);
        threads[2] = check_thread(join_until_cancelled, &blocked[2]);
        /* Anywhere between starting and sleeping. */
        for (uint64_t n = next_random(&seed) % 20000; n > 0; n--)
            fipc_pause();
        fipc_queue_cancel(empty);
        fipc_queue_cancel(full);
        for (int t = 0; t < 3; t++) {
            check_thread_join(threads[t]);
            CHECK_EQ(blocked[t].rc, -ECANCELED);
        }
        fipc_queue_close(empty);
        fipc_queue_close(full);
    }
}

static void cancelling_one_handle_leaves_the_other_alone(void) {
    struct fipc_queue *queue = new_queue(0, 0), *again = open_again(queue);
    struct inbox inbox;

    fipc_queue_cancel(queue);
    CHECK_EQ(get_message(queue, &inbox, in_ms(PATIENCE_MS)), -ECANCELED);
    CHECK_EQ(put_bytes(queue, "", 0, 0), -ECANCELED);
    put_stamped(again, 8, (struct stamp){1, 1});
    get_stamped(again, 8, (struct stamp){1, 1});
    fipc_queue_close(again);
    fipc_queue_close(queue);
}

/* ---- the doorbell ---- */

static bool is_readable(int fd) {
    struct pollfd entry = {.fd = fd, .events = POLLIN};

    CHECK_OK(poll(&entry, 1, 0));
    return entry.revents & POLLIN;
}

static void an_armed_doorbell_is_readable_while_something_is_queued(void) {
    struct fipc_queue *queue = new_queue(0, 0), *again = open_again(queue);
    struct inbox inbox;
    int fd, fd_again;

    put_stamped(queue, 8, (struct stamp){1, 0});
    fd = fipc_queue_fileno(queue);
    CHECK_OK(fd);
    CHECK(is_readable(fd));
    get_stamped(again, 8, (struct stamp){1, 0});
    CHECK(!is_readable(fd));
    fd_again = fipc_queue_fileno(again);
    CHECK_OK(fd_again);
    for (uint32_t i = 0; i < 50; i++) {
        for (uint32_t n = 0; n <= i % 5; n++) {
            put_stamped(again, n % 2 ? 8 : 70000, (struct stamp){1, n});
            CHECK(is_readable(fd));
            CHECK(is_readable(fd_again));
        }
        for (uint32_t n = 0; n <= i % 5; n++) {
            CHECK(is_readable(fd));
            get_stamped(queue, n % 2 ? 8 : 70000, (struct stamp){1, n});
        }
        CHECK(!is_readable(fd));
        CHECK_EQ(get_message(again, &inbox, 0), -ETIMEDOUT);
        CHECK(!is_readable(fd_again));
    }
    check_census(queue, 0);
    fipc_queue_close(again);
    fipc_queue_close(queue);
}

static void a_byte_too_many_in_the_doorbell_is_taken_out_by_who_finds_nothing(void) {
    struct fipc_queue *queue = new_queue(0, 0);
    int fd = fipc_queue_fileno(queue);
    struct inbox inbox;

    CHECK_OK(fd);
    /* As a producer that died between ringing and publishing leaves it. */
    CHECK_EQ(fipc_os_ring(fd), 0);
    queue->channel.shm->token = 1;
    CHECK(is_readable(fd));
    CHECK_EQ(get_message(queue, &inbox, 0), -ETIMEDOUT);
    CHECK(!is_readable(fd));
    fipc_queue_close(queue);
}

static void who_meets_others_twice_at_a_lock_gives_way_where_it_may_wait(void) {
    struct fipc_queue *queue = new_queue(0, 0), *other = open_again(queue);
    struct fipc_channel_shm *shm = queue->channel.shm;
    struct inbox inbox;

    CHECK_EQ(put_bytes(queue, "a", 1, FIPC_FOREVER), 0);
    CHECK_EQ(put_bytes(other, "b", 1, FIPC_FOREVER), 0);
    CHECK_EQ(fipc_lock_try(&other->segment, &shm->put.lock), 0);
    CHECK_EQ(fipc_queue_try_put(queue, "c", 1, 0), -EBUSY);
    CHECK_EQ(queue->put_crowd.gives_way, 0); /* once is chance */
    do {
        queue->put_crowd.met_ticks = fipc_ticks();
        CHECK_EQ(fipc_queue_try_put(queue, "c", 1, 0), -EBUSY);
    } while (queue->put_crowd.gives_way == 0);
    fipc_lock_release(&shm->put.lock);
    CHECK_EQ(put_bytes(queue, "c", 1, 0), 0); /* waits for nothing */
    CHECK_EQ(queue->put_crowd.gives_way, 1);
    CHECK_EQ(put_bytes(queue, "d", 1, FIPC_FOREVER), 0);
    CHECK_EQ(queue->put_crowd.gives_way, 0);

    inbox.got.buffer = inbox.bytes;
    inbox.got.buffer_bytes = sizeof(inbox.bytes);
    CHECK_EQ(fipc_lock_try(&other->segment, &shm->get.lock), 0);
    CHECK_EQ(fipc_queue_try_get(queue, &inbox.got), -EBUSY);
    CHECK_EQ(queue->get_crowd.gives_way, 0);
    do {
        queue->get_crowd.met_ticks = fipc_ticks();
        CHECK(fipc_queue_try_get(queue, &inbox.got) < 0);
    } while (queue->get_crowd.gives_way == 0);
    fipc_lock_release(&shm->get.lock);
    for (const char *due = "abcd"; *due != '\0'; due++) {
        CHECK_EQ(get_message(queue, &inbox, FIPC_FOREVER), 0);
        CHECK_EQ(inbox.bytes[0], (uint8_t)*due);
        CHECK_EQ(queue->get_crowd.gives_way, 0);
    }
    fipc_queue_close(other);
    fipc_queue_close(queue);
}

static void who_meets_others_again_and_again_leaves_them_the_lock_longer(void) {
    struct fipc_crowd crowd = {.is_eager = 1};
    uint64_t now_ticks = UINT64_C(1) << 40, most_ticks = 1000 * FIPC_TICKS_PER_US;
    uint32_t first_ticks = fipc_crowd_pause(&crowd, now_ticks), last_ticks = first_ticks;

    CHECK(first_ticks > 0 && first_ticks <= 10 * FIPC_TICKS_PER_US);
    for (int i = 0; i < 20; i++) {
        crowd.pause_ticks = last_ticks;
        crowd.way_ticks = now_ticks;
        now_ticks += last_ticks; /* so soon again */
        CHECK(fipc_crowd_pause(&crowd, now_ticks) >= last_ticks);
        last_ticks = fipc_crowd_pause(&crowd, now_ticks);
        CHECK(last_ticks <= most_ticks);
    }
    CHECK(last_ticks > 16 * first_ticks);
    /* Met nobody for long: begins anew. With work of his own, not at all. */
    CHECK_EQ(fipc_crowd_pause(&crowd, now_ticks + 100 * most_ticks), first_ticks);
    crowd.is_eager = 0;
    CHECK_EQ(fipc_crowd_pause(&crowd, now_ticks), 0);
}

static void the_lock_is_left_to_others_by_who_does_nothing_else_and_has_the_time(void) {
    struct fipc_crowd crowd = {0};
    int64_t start_ns, pauses = 0;

    /* Comes back at once: eager. Behind work of his own: not. Many calls: as it is for each. */
    do {
        fipc_crowd_left(&crowd);
        (void)fipc_crowd_meets(&crowd);
    } while (!crowd.is_eager); /* others may have had the CPU in between */
    crowd.left_ticks -= 10 * FIPC_TICKS_PER_US;
    (void)fipc_crowd_meets(&crowd);
    CHECK(!crowd.is_eager);
    do {
        fipc_crowd_left(&crowd);
        crowd.left_ticks -= 10 * FIPC_TICKS_PER_US;
        for (int i = 0; i < 100; i++)
            fipc_crowd_done(&crowd);
        (void)fipc_crowd_meets(&crowd);
    } while (!crowd.is_eager);

    /* A pause is not made where somebody else ran meanwhile, and so not each time. */
    for (int i = 0; i < 2000 && pauses < 3; i++) {
        crowd.is_eager = crowd.gives_way = 1;
        crowd.pause_ticks = 400 * FIPC_TICKS_PER_US;
        crowd.way_ticks = fipc_ticks();
        start_ns = fipc_os_now_ns();
        fipc_crowd_give_way(&crowd, FIPC_FOREVER);
        pauses += fipc_os_now_ns() - start_ns >= 50000;
        CHECK_EQ(crowd.gives_way, 0);
        CHECK(crowd.pause_ticks <= 400 * FIPC_TICKS_PER_US);
    }
    CHECK_EQ(pauses, 3);
    /* Nor where the call's time would be up. */
    crowd.is_eager = crowd.gives_way = 1;
    crowd.pause_ticks = 400 * FIPC_TICKS_PER_US;
    crowd.way_ticks = 0;
    fipc_crowd_give_way(&crowd, fipc_os_now_ns() + 1000);
    CHECK_EQ(crowd.gives_way, 0);
    CHECK_EQ(crowd.way_ticks, 0);
}

struct watcher {
    struct fipc_queue *queue;
    uint32_t count;
};

static void *produce_for_watcher(void *argument) {
    struct watcher *watcher = argument;
    uint64_t seed = 77;

    for (uint32_t i = 0; i < watcher->count; i++) {
        put_stamped(watcher->queue, 8, (struct stamp){1, i});
        pause_at_random(&seed);
    }
    return NULL;
}

/* A loop that sleeps in poll(2) alone and then takes all there is. */
static void who_polls_the_doorbell_misses_nothing(void) {
    struct fipc_queue *queue = new_queue(0, 0);
    struct watcher watcher = {open_again(queue), FIXTURE_LESS(100000, 10000)};
    int fd = fipc_queue_fileno(queue);
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    struct inbox inbox;
    pthread_t thread;
    uint32_t got = 0;

    CHECK_OK(fd);
    thread = check_thread(produce_for_watcher, &watcher);
    while (got < watcher.count) {
        int rc = poll(&entry, 1, PATIENCE_MS);

        CHECK_EQ(rc, 1);
        while ((rc = get_message(queue, &inbox, 0)) == 0) {
            CHECK(is_filled(inbox.bytes, 8, (struct stamp){1, got}));
            got++;
        }
        CHECK_EQ(rc, -ETIMEDOUT);
    }
    check_thread_join(thread);
    CHECK(!is_readable(fd));
    check_census(queue, 0);
    fipc_queue_close(watcher.queue);
    fipc_queue_close(queue);
}

static void a_doorbell_closed_or_reused_behind_our_back_is_left_alone(void) {
    struct fipc_queue *queue = new_queue(0, 0);
    int fd = fipc_queue_fileno(queue), theirs = fipc_os_doorbell();
    struct inbox inbox;

    CHECK_OK(fd);
    CHECK_OK(theirs);
    CHECK_EQ(dup2(theirs, fd), fd); /* the number is the program's own pipe now */
    CHECK_EQ(fipc_queue_fileno(queue), -EBADF);
    /* Whatever these say, they may neither write to that pipe nor read from it. */
    (void)put_bytes(queue, "x", 1, 0);
    CHECK(!is_readable(theirs));
    CHECK_EQ(fipc_os_ring(theirs), 0);
    (void)get_message(queue, &inbox, 0);
    (void)get_message(queue, &inbox, 0);
    CHECK(is_readable(theirs));
    fipc_queue_close(queue);
    CHECK_OK(fcntl(fd, F_GETFD)); /* was not ours to close */
    close(fd);
    close(theirs);
}

int main(void) {
    CHECK_BEGIN();
    CHECK_RUN(a_queue_and_its_second_handle_see_the_same_messages);
    CHECK_RUN(messages_of_every_size_arrive_whole);
    CHECK_RUN(messages_of_mixed_sizes_keep_their_order_through_the_rings);
    CHECK_RUN(a_full_queue_refuses_until_something_was_got);
    CHECK_RUN(a_block_that_is_warm_is_put_at_once_and_else_nothing_is_lost);
    CHECK_RUN(a_byte_limit_counts_what_is_queued_inline_or_in_blocks);
    CHECK_RUN(behind_large_messages_a_put_waits_a_moment_and_less_often_in_vain);
    CHECK_RUN(who_works_between_large_messages_does_not_wait);
    CHECK_RUN(small_messages_are_not_waited_for);
    CHECK_RUN(a_put_goes_on_as_soon_as_the_large_message_before_it_is_taken);
    CHECK_RUN(who_gets_his_own_messages_makes_no_pause);
    CHECK_RUN(an_empty_queue_says_so_in_time);
    CHECK_RUN(with_chores_whoever_waits_returns_to_look_after_them);
    CHECK_RUN(who_has_just_looked_for_signals_is_not_sent_to_look_again);
    CHECK_RUN(counts_that_threads_have_mixed_up_divide_nothing_by_zero);
    CHECK_RUN(a_try_that_pays_by_luck_does_not_bring_spinning_back);
    CHECK_RUN(who_was_woken_takes_the_simple_way_and_begins_no_run);
    CHECK_RUN(what_a_receiver_holds_outlives_further_traffic);
    CHECK_RUN(a_fork_in_the_middle_of_a_put_makes_two_messages_of_it);
    CHECK_RUN(a_fork_in_the_middle_of_a_get_takes_with_its_own_lock);
    CHECK_RUN(a_fork_in_the_middle_of_a_copy_makes_two_messages_of_it);
    CHECK_RUN(a_message_in_several_blocks_arrives_whole_and_gives_all_of_them_back);
    CHECK_RUN(one_producer_and_one_consumer_lose_nothing);
    CHECK_RUN(several_producers_and_consumers_keep_each_producers_order);
    CHECK_RUN(who_meets_others_twice_at_a_lock_gives_way_where_it_may_wait);
    CHECK_RUN(who_meets_others_again_and_again_leaves_them_the_lock_longer);
    CHECK_RUN(the_lock_is_left_to_others_by_who_does_nothing_else_and_has_the_time);
    CHECK_RUN(sleepers_on_both_sides_are_woken);
    CHECK_RUN(many_consumers_that_wait_for_one_producer_are_woken);
    CHECK_RUN(many_producers_that_wait_for_one_consumer_are_woken);
    CHECK_RUN(blocks_change_hands_between_threads);
    CHECK_RUN(a_byte_limit_holds_between_threads);
    CHECK_RUN(threads_share_one_handle);
    CHECK_RUN(neither_side_of_a_conversation_sleeps_through_a_message);
    CHECK_RUN(tasks_are_counted_and_join_ends_when_none_is_left);
    CHECK_RUN(whoever_joins_is_woken_by_the_last_task_done);
    CHECK_RUN(cancelling_ends_calls_that_are_blocked_or_about_to_be);
    CHECK_RUN(cancelling_one_handle_leaves_the_other_alone);
    CHECK_RUN(an_armed_doorbell_is_readable_while_something_is_queued);
    CHECK_RUN(a_byte_too_many_in_the_doorbell_is_taken_out_by_who_finds_nothing);
    CHECK_RUN(who_polls_the_doorbell_misses_nothing);
    CHECK_RUN(a_doorbell_closed_or_reused_behind_our_back_is_left_alone);
    CHECK_RUN(a_burst_is_kept_and_its_memory_given_back);
    CHECK_RUN(a_burst_of_blocks_is_kept_and_its_memory_given_back);
    return CHECK_END();
}
