/* wake.c - what it costs to wake a process that sleeps: the time of a round trip, and the CPU
 * time of a wake-up at a steady pace. */
#include "floor.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>

#define MESSAGE_BYTES 64
#define TICK_NS INT64_C(100000) /* 10,000 a second */

struct words {
    _Alignas(FLOOR_CACHE_LINE) uint32_t there; /* number of the last message sent; futex words */
    _Alignas(FLOOR_CACHE_LINE) uint32_t back;
};

/* What the two processes know of each other. */
struct both {
    struct words *words;
    int there[2]; /* pipes */
    int back[2];
    int64_t *times_ns;     /* of each round trip of the lap */
    int64_t *child_cpu_ns; /* shared: CPU time of the child's part of the lap */
    int64_t cpu_ns;        /* of ours */
    uint64_t late;         /* ticks that had come before we went to sleep */
};

static void set_and_wake(uint32_t *word, uint32_t value) {
    __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
    if (syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0) < 0)
        floor_fail("FUTEX_WAKE");
}

/* Sleeps until *word has reached `value`. */
static void sleep_until(uint32_t *word, uint32_t value) {
    uint32_t seen;

    while ((int32_t)((seen = __atomic_load_n(word, __ATOMIC_SEQ_CST)) - value) < 0)
        if (syscall(SYS_futex, word, FUTEX_WAIT, seen, NULL, NULL, 0) < 0 && errno != EAGAIN &&
            errno != EINTR)
            floor_fail("FUTEX_WAIT");
}

static void ask_by_futex(void *with, uint64_t start, uint64_t count) {
    struct both *both = with;
    int64_t before_ns = floor_now_ns();

    for (uint64_t number = start; number < start + count; number++) {
        int64_t now_ns;

        set_and_wake(&both->words->there, (uint32_t)number);
        sleep_until(&both->words->back, (uint32_t)number);
        now_ns = floor_now_ns();
        both->times_ns[number - start] = now_ns - before_ns;
        before_ns = now_ns;
    }
}

static void echo_by_futex(void *with, uint64_t start, uint64_t count) {
    struct both *both = with;

    for (uint64_t number = start; number < start + count; number++) {
        sleep_until(&both->words->there, (uint32_t)number);
        set_and_wake(&both->words->back, (uint32_t)number);
    }
}

static void send_by_pipe(int fd, const uint8_t *message) {
    if (write(fd, message, MESSAGE_BYTES) != MESSAGE_BYTES)
        floor_fail("write");
}

static void receive_by_pipe(int fd, uint8_t *message) {
    if (read(fd, message, MESSAGE_BYTES) != MESSAGE_BYTES)
        floor_fail("read");
}

static void ask_by_pipe(void *with, uint64_t start, uint64_t count) {
    struct both *both = with;
    uint8_t message[MESSAGE_BYTES] = {0};
    int64_t before_ns = floor_now_ns();

    for (uint64_t number = start; number < start + count; number++) {
        uint64_t found;
        int64_t now_ns;

        memcpy(message, &number, sizeof(number));
        send_by_pipe(both->there[1], message);
        receive_by_pipe(both->back[0], message);
        memcpy(&found, message, sizeof(found));
        if (found != number)
            floor_wrong("a message was lost, repeated or damaged");
        now_ns = floor_now_ns();
        both->times_ns[number - start] = now_ns - before_ns;
        before_ns = now_ns;
    }
}

static void echo_by_pipe(void *with, uint64_t start, uint64_t count) {
    struct both *both = with;
    uint8_t message[MESSAGE_BYTES];

    for (uint64_t number = start; number < start + count; number++) {
        receive_by_pipe(both->there[0], message);
        send_by_pipe(both->back[1], message);
    }
}

/* Across CPUs, which is the result, and both on one. */
static void round_trips(struct both *both, floor_lap *ask, floor_lap *echo, double seconds) {
    struct floor_pair pair;

    both->times_ns = floor_private(FLOOR_MOST_TIMES * sizeof(int64_t));
    floor_pair_start(&pair, ask, echo, both, 0, 0);
    (void)floor_pair_times(&pair, "same_cpu_", both->times_ns, seconds / 2);
    floor_pair_end(&pair);
    floor_pair_start(&pair, ask, echo, both, 0, 1);
    floor_print("value", floor_pair_times(&pair, "", both->times_ns, seconds / 2));
    floor_pair_end(&pair);
}

/* Does `count` ticks, calling `at_each`; each is due at an absolute time, so that what one sleep
 * lasts too long is not added up. */
static void tick(struct both *both, uint64_t start, uint64_t count,
                 void (*at_each)(struct both *both, uint64_t number)) {
    int64_t begin_ns = floor_now_ns(), cpu_start_ns = floor_cpu_ns();

    both->late = 0;
    for (uint64_t number = start; number < start + count; number++) {
        int64_t due_ns = begin_ns + (int64_t)(number - start + 1) * TICK_NS;
        struct timespec due = {due_ns / FLOOR_NS_PER_S, due_ns % FLOOR_NS_PER_S};

        both->late += floor_now_ns() >= due_ns;
        while ((errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL)) != 0)
            if (errno != EINTR)
                floor_fail("clock_nanosleep");
        if (at_each != NULL)
            at_each(both, number);
    }
    both->cpu_ns = floor_cpu_ns() - cpu_start_ns;
}

static void wake_other(struct both *both, uint64_t number) {
    set_and_wake(&both->words->there, (uint32_t)number);
}

static void tick_alone(void *with, uint64_t start, uint64_t count) {
    tick(with, start, count, NULL);
}

static void tick_and_wake(void *with, uint64_t start, uint64_t count) {
    tick(with, start, count, wake_other);
}

static void be_woken(void *with, uint64_t start, uint64_t count) {
    struct both *both = with;
    int64_t cpu_start_ns = floor_cpu_ns();

    for (uint64_t number = start; number < start + count; number++)
        sleep_until(&both->words->there, (uint32_t)number);
    *both->child_cpu_ns = floor_cpu_ns() - cpu_start_ns;
}

static uint64_t ticks_in(double seconds) {
    double ticks = seconds * 1e9 / TICK_NS;

    return ticks < 10 ? 10 : (uint64_t)ticks;
}

static void pace_alone(struct both *both, double seconds) {
    uint64_t count = ticks_in(seconds);

    tick_alone(both, 1, ticks_in(seconds / 10));
    tick_alone(both, 1, count);
    floor_print("late", (double)both->late / (double)count);
    floor_print("value", (double)both->cpu_ns / 1e3 / (double)count);
}

static void pace_and_wake(struct both *both, double seconds) {
    struct floor_pair pair;
    uint64_t count = ticks_in(seconds);

    /* On two CPUs a wake-up takes three times as much; where the system puts them is the least. */
    floor_pair_start(&pair, tick_and_wake, be_woken, both, FLOOR_ANYWHERE, FLOOR_ANYWHERE);
    (void)floor_pair_lap_ns(&pair, ticks_in(seconds / 10));
    (void)floor_pair_lap_ns(&pair, count);
    floor_pair_end(&pair);
    floor_print("late", (double)both->late / (double)count);
    floor_print("waker", (double)both->cpu_ns / 1e3 / (double)count);
    floor_print("sleeper", (double)*both->child_cpu_ns / 1e3 / (double)count);
    floor_print("value", (double)(both->cpu_ns + *both->child_cpu_ns) / 1e3 / (double)count);
}

int main(int argc, char **argv) {
    struct floor_run run;
    struct both both = {0};

    floor_begin(argc, argv, &run);
    both.words = floor_shared(sizeof(*both.words));
    both.child_cpu_ns = floor_shared(sizeof(*both.child_cpu_ns));
    if (pipe(both.there) != 0 || pipe(both.back) != 0)
        floor_fail("pipe");
    if (strcmp(run.name, "futex") == 0)
        round_trips(&both, ask_by_futex, echo_by_futex, run.seconds);
    else if (strcmp(run.name, "pipe") == 0)
        round_trips(&both, ask_by_pipe, echo_by_pipe, run.seconds);
    else if (strcmp(run.name, "pacing") == 0)
        pace_alone(&both, run.seconds);
    else if (strcmp(run.name, "pacing-wake") == 0)
        pace_and_wake(&both, run.seconds);
    else
        floor_wrong("no such measurement");
    return 0;
}
