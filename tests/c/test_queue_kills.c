/* test_queue_kills.c - queue.h while producers and consumers are killed at random:
 * nothing that a put() returned for is lost unless a consumer took it to the grave,
 * nothing comes twice or damaged, each producer's order holds, nobody hangs, and
 * afterwards nothing is owned by the dead. What a kill at each single instruction
 * leaves is tests/crash's. */
#define _GNU_SOURCE
#include <poll.h>

#include "fixture.h"

#define PRODUCERS 3
#define CONSUMERS 3
#define CHILDREN (PRODUCERS + CONSUMERS)
/* A producer begins a life anew after so many messages; its number names it in each. */
#define LIVES_MAX 4096
#define MESSAGES_MAX 262144
/* A killed waker is made up for by looking again; builds with assertions do not, so
 * every call here looks again after so long. */
#define LOOK_AGAIN_MS 40

struct life {
    uint32_t returned; /* puts that returned 0; written by the producer */
    uint32_t error;    /* what was wrong, told by exit code otherwise */
    uint64_t got[MESSAGES_MAX / 64];
};

struct storm {
    struct fipc_queue *queue;
    struct life *lives;
    uint64_t *moved; /* calls that did something, of all children: shows that nobody hangs */
    uint32_t *stop;
    uint32_t *lives_used;
    uint64_t (*size_of)(uint64_t dice);
    uint64_t backlog; /* producers pause behind so many messages */
};

struct head {
    uint32_t life, number;
    uint64_t size_bytes, checksum;
};

static uint64_t small_size(uint64_t dice) { return dice % 200; }

static uint64_t mixed_size(uint64_t dice) {
    switch (dice % 4) {
    case 0:
        return (dice >> 8) % 64;
    case 1:
        return (dice >> 8) % 5000;
    case 2:
        return (dice >> 8) % 70000;
    default:
        return (dice >> 8) % (256 * 1024);
    }
}

#define TOO_MANY 3
#define CORRUPT 4
#define TWICE 5
#define OUT_OF_ORDER 6
#define FAILED 7

static void produce(void *argument) {
    struct storm *storm = argument;
    uint8_t *bytes = malloc(300 * 1024);
    uint32_t life_number = 0, number = MESSAGES_MAX;
    struct life *life = NULL;
    uint64_t seed = (uint64_t)getpid(), items, queued;

    if (bytes == NULL)
        _exit(FAILED);
    while (!fipc_load_acquire(TEST, storm->stop)) {
        struct head head;
        int rc;

        if (number == MESSAGES_MAX) {
            life_number = __atomic_fetch_add(storm->lives_used, 1, __ATOMIC_SEQ_CST);
            if (life_number >= LIVES_MAX)
                break;
            life = &storm->lives[life_number];
            number = 0;
        }
        fipc_channel_depth(&storm->queue->channel, &items, &queued);
        if (items > storm->backlog) {
            sched_yield();
            continue;
        }
        head = (struct head){life_number, number, storm->size_of(next_random(&seed)), 0};
        for (uint64_t at = 0; at < head.size_bytes; at += 8) {
            uint64_t word = seed + at;

            memcpy(bytes + sizeof(head) + at, &word, 8);
        }
        head.checksum = checksum_bytes(bytes + sizeof(head), head.size_bytes);
        memcpy(bytes, &head, sizeof(head));
        do
            rc = put_bytes(storm->queue, bytes, sizeof(head) + head.size_bytes,
                           in_ms(LOOK_AGAIN_MS));
        while (rc == -ETIMEDOUT && !fipc_load_acquire(TEST, storm->stop));
        if (rc == -ETIMEDOUT)
            break;
        if (rc != 0) {
            life->error = (uint32_t)-rc;
            _exit(FAILED);
        }
        fipc_store_release(TEST, &life->returned, ++number);
        __atomic_fetch_add(storm->moved, 1, __ATOMIC_RELAXED);
    }
    free(bytes);
}

/* 0, or what is wrong with the message. */
static int look_at(struct storm *storm, const struct inbox *inbox, int64_t *last) {
    struct head head;
    struct life *life;
    uint64_t bit;

    if (inbox->got.size_bytes < sizeof(head))
        return CORRUPT;
    memcpy(&head, message_of(inbox), sizeof(head));
    if (head.life >= LIVES_MAX || head.number >= MESSAGES_MAX ||
        head.size_bytes != inbox->got.size_bytes - sizeof(head) ||
        head.checksum != checksum_bytes(message_of(inbox) + sizeof(head), head.size_bytes))
        return CORRUPT;
    life = &storm->lives[head.life];
    bit = UINT64_C(1) << (head.number % 64);
    if (__atomic_fetch_or(&life->got[head.number / 64], bit, __ATOMIC_SEQ_CST) & bit)
        return TWICE;
    if ((int64_t)head.number <= last[head.life])
        return OUT_OF_ORDER;
    last[head.life] = head.number;
    return 0;
}

static int64_t *new_last(void) {
    int64_t *last = malloc(LIVES_MAX * sizeof(*last));

    if (last == NULL)
        _exit(FAILED);
    for (int i = 0; i < LIVES_MAX; i++)
        last[i] = -1;
    return last;
}

static void consume(void *argument) {
    struct storm *storm = argument;
    int64_t *last = new_last();
    struct inbox inbox;

    while (!fipc_load_acquire(TEST, storm->stop)) {
        int rc = get_message(storm->queue, &inbox, in_ms(LOOK_AGAIN_MS));

        if (rc == -ETIMEDOUT)
            continue;
        if (rc != 0) {
            fprintf(stderr, "get: %s\n", strerror(-rc));
            _exit(FAILED);
        }
        rc = look_at(storm, &inbox, last);
        if (rc != 0)
            _exit(rc);
        fipc_queue_release(storm->queue, &inbox.got);
        __atomic_fetch_add(storm->moved, 1, __ATOMIC_RELAXED);
    }
    free(last);
}

static pid_t start(struct storm *storm, int child) {
    return check_fork(child < PRODUCERS ? produce : consume, storm);
}

/* Waits until anybody gets anything done. */
static void await_movement(const struct storm *storm) {
    uint64_t before = __atomic_load_n(storm->moved, __ATOMIC_RELAXED);
    int64_t end_ns = in_ms(PATIENCE_MS);

    while (__atomic_load_n(storm->moved, __ATOMIC_RELAXED) == before) {
        struct fipc_channel_shm *shm = storm->queue->channel.shm;

        if (fipc_os_now_ns() > end_ns)
            CHECK_FAIL("nothing moves after a kill: put lock %#x, get lock %#x, arena lock %#x",
                       shm->put.lock, shm->get.lock, storm->queue->segment.arena->state.lock);
        sleep_ms(1);
    }
}

static bool is_readable(int fd) {
    struct pollfd entry = {.fd = fd, .events = POLLIN};

    CHECK_OK(poll(&entry, 1, 0));
    return entry.revents & POLLIN;
}

/* Takes what is left, so that only what the killed took is missing. */
static void drain(struct storm *storm) {
    int64_t *last = new_last();
    struct inbox inbox;
    int rc;

    while ((rc = get_message(storm->queue, &inbox, in_ms(200))) == 0) {
        CHECK_EQ(look_at(storm, &inbox, last), 0);
        fipc_queue_release(storm->queue, &inbox.got);
    }
    CHECK_EQ(rc, -ETIMEDOUT);
    free(last);
}

/* How many messages that were put never came out. */
static uint64_t count_losses(const struct storm *storm, uint64_t *put) {
    uint64_t losses = 0;

    *put = 0;
    for (uint32_t i = 0; i < LIVES_MAX && i < *storm->lives_used; i++) {
        const struct life *life = &storm->lives[i];

        CHECK_EQ(life->error, 0);
        *put += life->returned;
        for (uint32_t n = 0; n < MESSAGES_MAX; n++) {
            bool got = life->got[n / 64] >> (n % 64) & 1;

            if (n < life->returned)
                losses += !got;
            else if (n > life->returned)
                CHECK(!got); /* at most one more: published, but not yet returned */
        }
    }
    return losses;
}

static void check_memory(struct fipc_queue *queue) {
    struct inbox inbox;

    sleep_ms(700);
    CHECK_EQ(put_bytes(queue, "x", 1, 0), 0);
    CHECK_EQ(get_message(queue, &inbox, 0), 0);
    fipc_queue_release(queue, &inbox.got);
    CHECK(fipc_os_allocated_bytes(queue->segment.fd) <= 2 << 20);
}

static void run_storm(struct storm *storm, bool arms, bool kills_producers, bool kills_consumers) {
    size_t shared_size = LIVES_MAX * sizeof(struct life) + 64;
    int64_t end_ns = fipc_os_now_ns() + fixture_ns(0.3);
    uint64_t seed = (uint64_t)end_ns, kills = 0, consumer_kills = 0, put, losses;
    pid_t pids[CHILDREN];
    int fd = -1;

    storm->lives = shared_memory(shared_size);
    storm->moved = (uint64_t *)(storm->lives + LIVES_MAX);
    storm->stop = (uint32_t *)(storm->moved + 1);
    storm->lives_used = storm->stop + 1;
    if (arms) {
        fd = fipc_queue_fileno(storm->queue);
        CHECK_OK(fd);
    }
    for (int i = 0; i < CHILDREN; i++)
        pids[i] = start(storm, i);
    while ((fipc_os_now_ns() < end_ns || kills < 20) && *storm->lives_used < LIVES_MAX - CHILDREN) {
        int victim = (int)(next_random(&seed) % CHILDREN);

        if (!(victim < PRODUCERS ? kills_producers : kills_consumers))
            continue;
        sleep_ms((int64_t)(next_random(&seed) % 10));
        if (next_random(&seed) % 5 == 0) {
            CHECK_OK(kill(pids[victim], SIGSTOP));
            sleep_ms((int64_t)(next_random(&seed) % 10));
        }
        kill_child(pids[victim]);
        kills++;
        consumer_kills += victim >= PRODUCERS;
        await_movement(storm);
        pids[victim] = start(storm, victim);
    }
    fipc_store_release(TEST, storm->stop, 1);
    for (int i = 0; i < CHILDREN; i++)
        check_join(pids[i]);
    if (arms && !fipc_channel_is_empty(&storm->queue->channel))
        CHECK(is_readable(fd));
    drain(storm);
    if (arms)
        CHECK(!is_readable(fd));
    losses = count_losses(storm, &put);
    printf("    %llu kills, %llu messages, %llu lost with %llu killed consumers, %u locks taken "
           "over\n",
           (unsigned long long)kills, (unsigned long long)put, (unsigned long long)losses,
           (unsigned long long)consumer_kills, storm->queue->channel.shm->recoveries);
    CHECK(losses <= consumer_kills);
    CHECK(fipc_slots_reap(&storm->queue->segment) >= 1);
    check_census(storm->queue, 0);
    check_memory(storm->queue);
    check_census(storm->queue, 0);
    munmap(storm->lives, shared_size);
    fipc_queue_close(storm->queue);
}

static void small_messages_survive_killed_producers_and_consumers(void) {
    struct storm storm = {.queue = new_queue(0, 0), .size_of = small_size, .backlog = 20000};

    run_storm(&storm, false, true, true);
}

static void blocks_survive_killed_producers_and_consumers(void) {
    struct storm storm = {
        .queue = new_queue(0, 8 << 20), .size_of = mixed_size, .backlog = UINT64_MAX};

    run_storm(&storm, false, true, true);
}

static void a_full_queue_with_a_doorbell_survives_kills(void) {
    struct storm storm = {.queue = new_queue(5, 0), .size_of = mixed_size, .backlog = UINT64_MAX};

    run_storm(&storm, true, true, true);
}

static void nothing_is_lost_when_only_producers_are_killed(void) {
    struct storm storm = {.queue = new_queue(200, 0), .size_of = mixed_size, .backlog = UINT64_MAX};

    run_storm(&storm, false, true, false);
}

int main(void) {
    CHECK_BEGIN();
    check_watchdog(fixture_watchdog_s());
    CHECK_RUN(small_messages_survive_killed_producers_and_consumers);
    CHECK_RUN(blocks_survive_killed_producers_and_consumers);
    CHECK_RUN(a_full_queue_with_a_doorbell_survives_kills);
    CHECK_RUN(nothing_is_lost_when_only_producers_are_killed);
    return CHECK_END();
}
