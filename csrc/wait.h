/* wait.h - sleeping until the other side moves: the three-state word that tells a
 * waker whether somebody sleeps, and spinning before sleeping as long as it pays.
 * Knows futex words, not what they mean. */
#ifndef FIPC_WAIT_H
#define FIPC_WAIT_H

#include "atomics.h"
#include "os.h"

/* What a blocking call remembers between two looks; zero it at its start. */
struct fipc_waiting {
    uint32_t rounds;     /* sleeps so far */
    uint32_t seen;       /* the other side's gen before the last look */
    uint32_t seen_valid; /* marked as asleep before that look */
};

/* How long spinning has paid lately, for one side of one handle. */
struct fipc_spin {
    int32_t budget_ns;
    uint32_t misses;
};

/* Says "somebody sleeps" before the last look and the sleep. A full barrier.
 * W2, pairs with W1: either the waker sees the mark, or the sleeper's next look
 * sees what was published. */
FIPC_ALWAYS_INLINE void fipc_sleepers_mark(uint32_t *sleepers) {
    if (fipc_cas32_seqcst(sleepers, 0, 1))
        return;
    if (fipc_cas32_seqcst(sleepers, 1, 2))
        return;
    (void)fipc_exchange_seqcst(sleepers, 2);
}

void fipc_sleepers_wake_slow(uint32_t *sleepers, uint32_t *word, int count);

/* Wakes one who sleeps on `word`, if anybody does. To be called after the publish
 * and a sequentially consistent read-modify-write (the unlock). */
FIPC_ALWAYS_INLINE void fipc_sleepers_wake(uint32_t *sleepers, uint32_t *word) {
    /* W1, pairs with W2 in fipc_sleepers_mark. */
    if (fipc_unlikely(fipc_load_seqcst(sleepers) != 0))
        fipc_sleepers_wake_slow(sleepers, word, 1);
}

/* Spins until *word differs from `seen`, at most as long as it has paid lately and
 * not past deadline_ns. True when it differs. */
bool fipc_spin_while(struct fipc_spin *spin, const uint32_t *word, uint32_t seen,
                     int64_t deadline_ns);

/* When the sleep of this round ends: a recheck comes after 20 ms (a signal may have
 * come just before the first sleep), then 500 ms, then every second, for a waker
 * may have died between publishing and waking. */
int64_t fipc_waiting_until(struct fipc_waiting *waiting, int64_t deadline_ns);

#endif
