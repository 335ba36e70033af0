/* wait.c - see wait.h. */
#include "wait.h"

/* Waking a sleeper on the other CPU costs 25 to 50 us a round trip on the machines
 * measured; spinning as long as that is the most that can pay. */
#define SPIN_MAX_NS 50000
/* And the least: with 0.25, 1 and 4 us round trips took 0.36 us each, messages paced at 10,000/s 27.3,
 * 26.9 and 26.7 us of CPU, and one producer's two consumers got 19.6, 20.1 and 20.5 million/s: no
 * difference that is not chance. */
#define SPIN_MIN_NS 1000
/* After so many misses in a row, one full-length try: both sides may sleep only because
 * the other does. Each try in vain doubles the distance to the next: with one in 32 a
 * message every 100 us cost 1.6 us of CPU for it, with one in 1024 it is 0.05. */
#define SPIN_PROBE_FIRST 32
#define SPIN_PROBE_MOST 1024
/* A try may pay by luck: of messages that come every 100 us one in eight follows the last one
 * closely, because its sender overslept. So as long as so many have not paid in a row, the first
 * that does not ends them, and the next try is as far away as if none had paid. When a single one
 * counted as proof, up to 0.9 us of spinning fell to each of 3,000 such messages, now 0.1. */
#define SPIN_PROOF 8
/* With 2, 16 and 64 a round trip through a pipe took 0.381, 0.380 and 0.371 us, ints went at 29.9, 29.3
 * and 29.9 million/s. */
#define PAUSES_PER_LOOK 16
/* 80 pauses are 2 us here. 64 bytes through a Pipe, each process on a CPU of its own: 9 to 11
 * million/s, with 40 pauses 5 to 9, with none 5. */
#define LULL_PAUSES 80

/* With more processes than CPUs most of those who run at once belong to two sides if whoever meets
 * another one of his twice within this time gives way: four producers and four consumers on two
 * CPUs moved 16.5 million messages/s in the place of 14, for 98 ns of CPU each in the place of
 * 113; two producers and a consumer 15.9 instead of 13.4. Where nobody else wants the CPU it costs
 * a system call of 0.4 us, much less than it takes to meet twice. */
#define CROWD_TICKS (10 * FIPC_TICKS_PER_US)

/* Where each of them has a CPU of its own, giving that away leaves the lock to nobody, and each
 * message waits for the lock's lines to come from another CPU. So whoever met others leaves them
 * alone, twice as long each time that he meets them again soon, and from 50 us on asleep: then one
 * at a time puts or takes hundreds. On 16 CPUs, ints, producers:consumers, millions a second and us
 * of CPU for each, without a pause, spinning for at most 8, 32 and 128 us, and asleep as it is (all
 * without the condition below):
 *     8:8   1.4 9.6    3.3 4.5    8.1 1.6    9.9 1.3   10.8 0.22
 *     4:4   2.1 3.7    8.1 0.9   10.1 0.6   12.0 0.6   11.5 0.18
 *     8:1   1.5 5.7    5.0 1.6    9.3 0.8   11.0 0.6   11.2 0.19
 *     1:8   1.9 4.1    7.3 1.0    9.9 0.8   11.8 0.7   11.6 0.19
 *     2:1   4.7 0.6   10.8 0.2   11.5 0.2    9.3 0.2   12.4 0.15 */
#define PAUSE_FIRST_TICKS FIPC_TICKS_PER_US
#define PAUSE_MOST_TICKS (200 * FIPC_TICKS_PER_US)
#define PAUSE_ASLEEP_TICKS (50 * FIPC_TICKS_PER_US)
/* Of a time limit so much is left, or there is no pause. */
#define PAUSE_LEAVES_NS FIPC_NS_PER_MS
/* Only for who comes back to the lock so soon that one alone could keep it busy. With work of his
 * own between two messages he cannot, and while he works nobody would be at the lock: with a pause,
 * two that work for 1 us took 1.6 to 1.9 us a message, and take 1.2 without. With half a microsecond
 * some who do nothing else were taken for such on 16 CPUs: 8:8 1.1 to 12 million/s, six times, and 10.1
 * to 11.9 with this; with a whole one, two producers on two CPUs that work for 0.3 us took 1.1 us a
 * message in the place of 0.8. */
#define EAGER_TICKS (FIPC_TICKS_PER_US * 3 / 4)
/* Somebody else ran if giving the CPU away takes longer. With 0.5, 2 and 8 us, on two CPUs, millions a
 * second: 4:4 23.2, 24.0, 22.7; 2:1 19.8, 20.6, 20.0; 1:2 20.0, 21.3, 20.8. */
#define YIELD_TICKS (2 * FIPC_TICKS_PER_US)

/* Waking up to look takes 70 to 90 us of CPU time on an idle machine, half of what a
 * multiprocessing.Queue takes to wait two seconds: with looks after 20 ms, 500 ms and a second
 * it was 0.33 ms for these two seconds, without 0.2. */
#define RECHECK_NS (2500 * FIPC_NS_PER_MS)
/* While there is memory to be given back, the first look begins the rest; or chores to do. */
#define TRIM_FIRST_NS (20 * FIPC_NS_PER_MS)
#define TRIM_SECOND_NS (510 * FIPC_NS_PER_MS)

static uint32_t cleared(uint32_t word) {
    return (word & ~FIPC_SLEEPERS_MASK) + FIPC_SLEEPERS_CLEARED;
}

uint32_t fipc_sleepers_mark(uint32_t *sleepers) {
    uint32_t word, marked;

    do {
        word = fipc_load_relaxed(sleepers);
        marked = (word & ~FIPC_SLEEPERS_MASK) |
                 (word & FIPC_SLEEPERS_MASK ? FIPC_SLEEPERS_MORE : FIPC_SLEEPERS_ONE);
    } while (!fipc_cas32_seqcst(W2, sleepers, word, marked));
    return marked;
}

void fipc_sleepers_wake_slow(uint32_t *sleepers, uint32_t count) {
    for (;;) {
        uint32_t word = fipc_load_relaxed(sleepers), who = word & FIPC_SLEEPERS_MASK;

        if (who == 0)
            return; /* another waker was quicker */
        if (who != FIPC_SLEEPERS_ONE && fipc_os_wake_word(sleepers, (int)count) >= (int)count)
            return;
        if (!fipc_cas32_seqcst(W1, sleepers, word, cleared(word))) /* step wake-clear */
            continue;
        /* Behind ONE there is one sleeper. Behind the rest there was none a moment ago:
         * who went to sleep since has lost the mark, and looks again. */
        (void)fipc_os_wake_word(sleepers, who == FIPC_SLEEPERS_ONE ? 1 : INT32_MAX);
        return;
    }
}

void fipc_sleepers_clear(uint32_t *sleepers) {
    uint32_t word;

    do
        word = fipc_load_relaxed(sleepers);
    while (!fipc_cas32_seqcst(W1, sleepers, word, cleared(word)));
}

void fipc_sleepers_wake_all(uint32_t *sleepers) {
    if (!fipc_sleepers_any(sleepers))
        return;
    fipc_sleepers_clear(sleepers);
    (void)fipc_os_wake_word(sleepers, INT32_MAX);
}

/* A spin's numbers are hints that threads share. */

/* Is it time for a try although spinning has not paid lately? */
static bool spin_probes(struct fipc_spin *spin) {
    uint32_t every = fipc_load_relaxed(&spin->probe_every);

    every = every != 0 ? every : SPIN_PROBE_FIRST;
    if (fipc_fetch_add_relaxed(&spin->misses, 1) + 1 < every)
        return false;
    fipc_store_relaxed(&spin->misses, 0);
    fipc_store_relaxed(&spin->probe_every, every < SPIN_PROBE_MOST ? 2 * every : every);
    return true;
}

int32_t fipc_spin_budget(struct fipc_spin *spin) {
    int32_t budget_ns = fipc_load_relaxed(&spin->budget_ns);

    if (budget_ns == 0 && spin_probes(spin))
        budget_ns = SPIN_MAX_NS;
    /* Asked last: it looks at the clock. */
    return budget_ns != 0 && fipc_os_cpu_count() >= 2 ? budget_ns : 0;
}

void fipc_spin_paid(struct fipc_spin *spin) {
    fipc_store_relaxed(&spin->misses, 0);
    fipc_store_relaxed(&spin->budget_ns, SPIN_MAX_NS);
    if (fipc_load_relaxed(&spin->probe_every) != 0 &&
        fipc_fetch_add_relaxed(&spin->paid, 1) + 1 >= SPIN_PROOF)
        fipc_store_relaxed(&spin->probe_every, 0);
}

void fipc_spin_missed(struct fipc_spin *spin) {
    int32_t next_ns = fipc_load_relaxed(&spin->budget_ns) / 2;

    if (next_ns < SPIN_MIN_NS || fipc_load_relaxed(&spin->probe_every) != 0)
        next_ns = 0;
    (void)fipc_fetch_add_relaxed(&spin->misses, 1);
    fipc_store_relaxed(&spin->paid, 0);
    fipc_store_relaxed(&spin->budget_ns, next_ns);
}

void fipc_crowd_left(struct fipc_crowd *crowd) {
    fipc_store_relaxed(&crowd->left_ticks, fipc_ticks());
    fipc_store_relaxed(&crowd->left_done, fipc_load_relaxed(&crowd->done));
}

bool fipc_crowd_meets(struct fipc_crowd *crowd) {
    uint64_t now_ticks = fipc_ticks();
    /* Hints that threads share: another one's count may stand there, which is behind. */
    int64_t done =
        (int64_t)(fipc_load_relaxed(&crowd->done) - fipc_load_relaxed(&crowd->left_done));
    uint64_t own_ticks = now_ticks - fipc_load_relaxed(&crowd->left_ticks);
    bool soon = now_ticks - fipc_load_relaxed(&crowd->met_ticks) < CROWD_TICKS;

    fipc_store_relaxed(&crowd->met_ticks, now_ticks);
    fipc_store_relaxed(&crowd->is_eager,
                       own_ticks / ((done > 0 ? (uint64_t)done : 0) + 1) < EAGER_TICKS);
    if (soon)
        fipc_store_relaxed(&crowd->gives_way, 1);
    return soon;
}

uint32_t fipc_crowd_pause(const struct fipc_crowd *crowd, uint64_t now_ticks) {
    uint32_t last_ticks = fipc_load_relaxed(&crowd->pause_ticks);
    /* Negative where another thread has given way meanwhile. */
    int64_t since_ticks = (int64_t)(now_ticks - fipc_load_relaxed(&crowd->way_ticks));

    if (!fipc_load_relaxed(&crowd->is_eager))
        return 0;
    if (last_ticks == 0 || since_ticks > 8 * (int64_t)last_ticks + 2 * CROWD_TICKS)
        return PAUSE_FIRST_TICKS;
    return last_ticks < PAUSE_MOST_TICKS / 2 ? 2 * last_ticks : PAUSE_MOST_TICKS;
}

void fipc_crowd_give_way_slow(struct fipc_crowd *crowd, int64_t deadline_ns) {
    uint64_t start_ticks = fipc_ticks(), now_ticks, span_ticks;
    uint32_t pause_ticks;

    fipc_store_relaxed(&crowd->gives_way, 0);
    fipc_os_yield();
    now_ticks = fipc_ticks();
    if (now_ticks - start_ticks > YIELD_TICKS)
        return;
    pause_ticks = fipc_crowd_pause(crowd, now_ticks);
    fipc_store_relaxed(&crowd->pause_ticks, pause_ticks);
    if (pause_ticks == 0 ||
        (deadline_ns != FIPC_FOREVER && deadline_ns - fipc_os_now_ns() < PAUSE_LEAVES_NS))
        return;
    if (pause_ticks >= PAUSE_ASLEEP_TICKS) {
        fipc_os_sleep_some((int64_t)(pause_ticks / FIPC_TICKS_PER_US) * 1000);
    } else {
        /* Half of it to one and a half times, or they would all come back together. The difference:
         * the counter may be another one behind a migration. */
        span_ticks = pause_ticks / 2 + (now_ticks >> 3) % pause_ticks;
        while (fipc_ticks() - now_ticks < span_ticks)
            fipc_pause();
    }
    fipc_store_relaxed(&crowd->way_ticks, fipc_ticks());
}

void fipc_spin_rest(void) {
    if (fipc_os_cpu_count() < 2)
        return;
    for (int i = 0; i < LULL_PAUSES; i++)
        fipc_pause();
}

bool fipc_spin_lull(uint32_t *run) {
    uint32_t count = fipc_load_relaxed(run);

    fipc_store_relaxed(run, 0);
    if (count < FIPC_RUN_LEAST)
        return false;
    fipc_spin_rest();
    return true;
}

bool fipc_spin_while(struct fipc_spin *spin, const uint32_t *word, uint32_t seen,
                     int64_t deadline_ns) {
    int32_t budget_ns = fipc_spin_budget(spin);

    return budget_ns != 0 && fipc_spin_for(spin, budget_ns, word, seen, deadline_ns);
}

bool fipc_spin_for(struct fipc_spin *spin, int32_t budget_ns, const uint32_t *word, uint32_t seen,
                   int64_t deadline_ns) {
    int64_t now_ns = fipc_os_now_ns();
    int64_t until_ns = now_ns + budget_ns < deadline_ns ? now_ns + budget_ns : deadline_ns;

    do {
        for (int i = 0; i < PAUSES_PER_LOOK; i++) {
            if (fipc_load_relaxed(word) != seen) {
                fipc_spin_paid(spin);
                return true;
            }
            fipc_pause();
        }
    } while (fipc_os_now_ns() < until_ns);
    fipc_spin_missed(spin);
    return false;
}

static uint32_t has_chores; /* of this process */

void fipc_waiting_set_chores(bool any) { fipc_store_relaxed(&has_chores, any); }

int64_t fipc_waiting_until(struct fipc_waiting *waiting, int64_t deadline_ns, bool trims) {
    bool has_work = fipc_load_relaxed(&has_chores) != 0;
    int64_t slice_ns, until_ns;

#if defined(FIPC_DEBUG) || FASTIPC_BREAK_NO_RECHECK
    if (!has_work) {
        waiting->rounds++;
        return deadline_ns;
    }
#endif
    has_work |= trims;
    slice_ns = !has_work ? RECHECK_NS : waiting->rounds == 0 ? TRIM_FIRST_NS : TRIM_SECOND_NS;
    waiting->rounds++;
    until_ns = fipc_os_now_ns() + slice_ns;
    return until_ns < deadline_ns ? until_ns : deadline_ns;
}
