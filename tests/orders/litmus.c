/* litmus.c - the pairs that store and then load on both sides, on two CPUs: the waker's side
 * and the sleeper's side of one round begin at the same moment, and it is a miss if neither
 * saw the other. Prints how many rounds there were and how many misses.
 *
 *     litmus PAIR ROUNDS MISSES SECONDS     ends after as many of any of them */
#define _GNU_SOURCE
#include "channel_shut.c"
#include "conn_internal.h"
#include "fixture.h"

#define APART _Alignas(2 * FIPC_CACHE_LINE)
#define SOMEBODY FIPC_OWNER(7, 7)
#define LOOKS_BEFORE_YIELD 2000
#define MOST_LATE 4096
#define LINES 48 /* as many as wait in a CPU's store buffer, about */

static APART struct fipc_side_shm side;
static APART uint32_t lock; /* on a line of its own, which the waker has */
static APART uint32_t word;
static APART uint64_t turn;
static APART uint32_t own_sleepers;
static uint32_t *sleepers = &own_sleepers;
static struct fipc_queue *queue;

struct litmus {
    const char *pair;
    void (*prepare)(void);
    void (*reset)(void); /* what is stored; by the sleeper, whose CPU then has its line */
    void (*wakes)(void); /* stores, and wakes whom it finds */
    bool (*looks)(void); /* behind the mark: true when it saw that */
};

/* ---- W: publish, unlock, wake; and mark, look ---- */

static void reset_side(void) { memset(&side, 0, sizeof(side)); }

static void publishes(void) {
    struct fipc_side_copy_shm next = {.pos = 64, .count = 1, .ring = 1};

    fipc_side_publish(&side, &next);
    fipc_lock_release(&lock);
    fipc_sleepers_wake(sleepers);
}

static bool sees_the_publish(void) { return fipc_side_read_pos(&side) != 0; }

/* ---- T ---- */

static void reset_turn(void) { turn = SOMEBODY; }

static void ends_the_turn(void) { fipc_turn_release(&turn, SOMEBODY, sleepers); }

static bool sees_it_free(void) { return fipc_load_seqcst(T2, &turn) == 0; }

/* ---- S: of fipc_conn_shut() only the two accesses, for the process lock between them is a
 * barrier here, too ---- */

static void reset_word(void) { word = 0; }

static void shuts_the_end(void) {
    (void)fipc_exchange32_seqcst(S1, &word, 1);
    fipc_sleepers_wake_all(sleepers);
}

static bool sees_the_end_shut(void) { return fipc_load_seqcst(S2, &word) != 0; }

/* ---- N: likewise of tell_senders(), which is a static of conn.c ---- */

static void moves_the_epoch(void) {
    (void)fipc_fetch_add_seqcst(N1, &word, 1);
    fipc_sleepers_wake_all(sleepers);
}

static bool sees_the_epoch(void) { return fipc_load_seqcst(N2, &word) != 0; }

/* ---- D: likewise, for the lock and the unlock around it are barriers here, too ---- */

static void shuts_the_queue(void) {
    set_shut(&side);
    fipc_sleepers_wake_all(sleepers);
}

static bool sees_the_queue_shut(void) { return fipc_side_is_shut(&side); }

/* ---- C, J ---- */

static void make_queue(void) {
    queue = new_queue(0, 0);
    CHECK_EQ(put_bytes(queue, "x", 1, in_ms(PATIENCE_MS)), 0);
}

static void make_queue_with_its_sleepers(void) {
    make_queue();
    sleepers = &queue->channel.shm->put.sleepers;
}

static void reset_closing(void) { fipc_store_relaxed(&queue->closing, 0); }

static void cancels(void) { fipc_queue_cancel(queue); }

static bool sees_it_closing(void) { return fipc_load_seqcst(C2, &queue->closing) != 0; }

static void make_queue_with_a_task(void) {
    make_queue();
    sleepers = &queue->segment.header->done_sleepers;
}

static void reset_done(void) { fipc_store_relaxed(&queue->segment.header->done_count, 0); }

static void finishes(void) { CHECK_EQ(fipc_queue_task_done(queue), 0); }

static bool sees_it_finished(void) { return fipc_queue_unfinished(queue) == 0; }

static void nothing(void) {}

static const struct litmus tests[] = {
    {"W", nothing, reset_side, publishes, sees_the_publish},
    {"T", nothing, reset_turn, ends_the_turn, sees_it_free},
    {"S", nothing, reset_word, shuts_the_end, sees_the_end_shut},
    {"N", nothing, reset_word, moves_the_epoch, sees_the_epoch},
    {"D", nothing, reset_side, shuts_the_queue, sees_the_queue_shut},
    {"C", make_queue_with_its_sleepers, reset_closing, cancels, sees_it_closing},
    {"J", make_queue_with_a_task, reset_done, finishes, sees_it_finished},
};

/* ---- the rounds ---- */

static const struct litmus *litmus;
static uint64_t most_rounds, most_misses, rounds, misses;
static int64_t until_ns;
static struct {
    APART uint32_t meetings;
    int32_t late; /* of the waker: by how much it begins later than the sleeper */
} thread[2];
static struct line {
    APART uint32_t word;
} waker_stores[LINES], sleeper_stores[LINES];
static APART bool saw;
static APART bool is_over;

/* Both go on at about the same moment. */
static void meet(int me) {
    uint32_t meeting = fipc_load_relaxed(&thread[me].meetings) + 1;

    fipc_store_release(TEST, &thread[me].meetings, meeting);
    for (int looks = 0; (int32_t)(fipc_load_acquire(TEST, &thread[!me].meetings) - meeting) < 0;
         looks++)
        if (looks > LOOKS_BEFORE_YIELD)
            sched_yield();
}

/* Stores to lines that the other CPU has, before the one in question: a CPU takes its stores out
 * to memory one after the other, so that one comes late, as behind a message that was copied.
 * What is loaded meanwhile is old, unless the store was a full barrier. */
static void store_into(struct line *lines) {
    for (int i = 0; i < LINES; i++)
        fipc_store_relaxed(&lines[i].word, 1);
}

/* Now one of them is some nanoseconds late, now the other; half the time only by a few. */
static void dawdle(uint64_t *state, int32_t late) {
    uint64_t bits = next_random(state);
    uint64_t turns = (bits >> 1) % (bits & 1 ? 16 : 256) + (uint64_t)(late > 0 ? late : 0);

    for (; turns > 0; turns--)
        __asm__ __volatile__("" ::: "memory");
}

/* Aims at rounds of which nobody knows beforehand who sees whom: who came too late in the
 * last one begins earlier in the next. */
static void aim(bool waker_saw) {
    int32_t late = thread[0].late;

    if (saw && !waker_saw && late < MOST_LATE)
        thread[0].late = late + 1;
    else if (!saw && waker_saw && late > -MOST_LATE)
        thread[0].late = late - 1;
}

static void run_on(int nth) {
    cpu_set_t allowed, one;

    CHECK_OK(sched_getaffinity(0, sizeof(allowed), &allowed));
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed) && nth-- == 0) {
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            CHECK_OK(sched_setaffinity(0, sizeof(one), &one));
            return;
        }
}

static void *waker(void *unused) {
    uint64_t random = 1;
    bool waker_saw;

    (void)unused;
    run_on(0);
    while (!is_over) {
        fipc_store_relaxed(sleepers, 0);
        fipc_store_relaxed(&lock, 5);
        store_into(sleeper_stores);
        meet(0);
        dawdle(&random, thread[0].late);
        store_into(waker_stores);
        litmus->wakes();
        meet(0);
        /* Who is woken has lost its mark. */
        waker_saw = (fipc_load_relaxed(sleepers) & FIPC_SLEEPERS_MASK) == 0;
        if (!saw && !waker_saw)
            misses++;
        aim(waker_saw);
        is_over = ++rounds == most_rounds || misses == most_misses ||
                  (rounds % 1024 == 0 && fipc_os_now_ns() > until_ns);
    }
    meet(0);
    return NULL;
}

static void *sleeper(void *unused) {
    uint64_t random = 2;

    (void)unused;
    run_on(1);
    for (;;) {
        litmus->reset();
        store_into(waker_stores);
        meet(1);
        if (is_over)
            return NULL;
        dawdle(&random, -thread[0].late);
        store_into(sleeper_stores);
        (void)fipc_sleepers_mark(sleepers);
        saw = litmus->looks();
        meet(1);
    }
}

int main(int argc, char **argv) {
    struct sched_param lowest = {.sched_priority = 1};
    pthread_t threads[2];

    CHECK_EQ(argc, 5);
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
        if (strcmp(argv[1], tests[i].pair) == 0)
            litmus = &tests[i];
    CHECK(litmus != NULL);
    check_case = litmus->pair;
    check_watchdog(CHECK_WATCHDOG_S);
    most_rounds = strtoull(argv[2], NULL, 10);
    most_misses = strtoull(argv[3], NULL, 10);
    until_ns = in_ms(atoi(argv[4]) * 1000);
    /* Both have to run at once for a round to count: better with both CPUs to themselves,
     * for these seconds and where that is allowed. */
    (void)sched_setscheduler(0, SCHED_FIFO, &lowest);
    litmus->prepare();
    threads[0] = check_thread(waker, NULL);
    threads[1] = check_thread(sleeper, NULL);
    check_thread_join(threads[0]);
    check_thread_join(threads[1]);
    printf("%llu rounds, %llu misses\n", (unsigned long long)rounds, (unsigned long long)misses);
    return 0;
}
