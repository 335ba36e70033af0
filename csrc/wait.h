/* wait.h - sleeping until the other side moves: the three-state word that tells a
 * waker whether somebody sleeps, and spinning before sleeping as long as it pays.
 * Knows futex words, not what they mean. */
#ifndef FIPC_WAIT_H
#define FIPC_WAIT_H

#include "atomics.h"
#include "os.h"

/* What a blocking call remembers between two looks; zero it at its start. */
struct fipc_waiting {
    uint32_t rounds;      /* sleeps so far */
    uint32_t mark;        /* what fipc_sleepers_mark() said before the last look */
    uint32_t mark_is_set; /* it did, and nobody slept since */
};

/* How long spinning has paid lately, for one side of one handle. */
struct fipc_spin {
    int32_t budget_ns;
    uint32_t misses;
};

/* A sleepers word: who sleeps in its low bits, above them how often it was cleared.
 * It is its own futex word: who marked it and is about to sleep does not if it has been
 * cleared since, so that no wake falls between the two. */
#define FIPC_SLEEPERS_ONE UINT32_C(1)
#define FIPC_SLEEPERS_MORE UINT32_C(2) /* maybe; stays until a wake finds nobody */
#define FIPC_SLEEPERS_MASK UINT32_C(3)
#define FIPC_SLEEPERS_CLEARED UINT32_C(4)

/* Says "somebody sleeps" before the last look; what it returns is for
 * fipc_sleepers_wait(). A full barrier. W2, pairs with W1: either the waker sees the
 * mark, or the sleeper's next look sees what was published. */
uint32_t fipc_sleepers_mark(uint32_t *sleepers);

/* Sleeps until woken or until_ns, if the word is still as it was marked. As
 * fipc_os_wait_word(). */
FIPC_ALWAYS_INLINE int fipc_sleepers_wait(const uint32_t *sleepers, uint32_t mark,
                                          int64_t until_ns) {
    return fipc_os_wait_word(sleepers, mark, until_ns);
}

/* Does anybody sleep, or is about to? To be called after the publish and a sequentially
 * consistent read-modify-write (the unlock). */
FIPC_ALWAYS_INLINE bool fipc_sleepers_any(const uint32_t *sleepers) {
    /* W1, pairs with W2 in fipc_sleepers_mark. */
    return (fipc_load_seqcst(sleepers) & FIPC_SLEEPERS_MASK) != 0;
}

void fipc_sleepers_wake_slow(uint32_t *sleepers);

/* Wakes one of them, if there are any. When to call it: see fipc_sleepers_any(). */
FIPC_ALWAYS_INLINE void fipc_sleepers_wake(uint32_t *sleepers) {
    if (fipc_unlikely(fipc_sleepers_any(sleepers)))
        fipc_sleepers_wake_slow(sleepers);
}

/* Wakes all of them; likewise. */
void fipc_sleepers_wake_all(uint32_t *sleepers);
/* Takes the marks back, for who wakes the sleepers by other means. */
void fipc_sleepers_clear(uint32_t *sleepers);

/* Spins until *word differs from `seen`, at most as long as it has paid lately and
 * not past deadline_ns. True when it differs. */
bool fipc_spin_while(struct fipc_spin *spin, const uint32_t *word, uint32_t seen,
                     int64_t deadline_ns);

/* When the sleep of this round ends: a recheck comes after 20 ms (a signal may have
 * come just before the first sleep), then 500 ms, then every second, for a waker
 * may have died between publishing and waking. */
int64_t fipc_waiting_until(struct fipc_waiting *waiting, int64_t deadline_ns);

#endif
