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
    uint32_t has_looked;  /* 1: the caller was sent to look for signals, and comes to sleep */
    uint32_t is_fresh;    /* 1, by the caller: see fipc_queue_get() */
};

/* A pause takes 10 to 40 ns. */
#define FIPC_GLANCE_LOOKS 24

/* How long spinning has paid lately, for one side of one handle. */
struct fipc_spin {
    int32_t budget_ns;
    uint32_t misses;      /* since it last paid, or was last tried in vain */
    uint32_t probe_every; /* 0: nothing has to be proved */
    uint32_t paid;        /* in a row, of those that have to */
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
    return (fipc_load_seqcst(W1, sleepers) & FIPC_SLEEPERS_MASK) != 0;
}

void fipc_sleepers_wake_slow(uint32_t *sleepers, uint32_t count);

/* Wakes so many of them, if there are any: as many as find something to do. When to call
 * it: see fipc_sleepers_any(). */
FIPC_ALWAYS_INLINE void fipc_sleepers_wake_some(uint32_t *sleepers, uint32_t count) {
    if (fipc_unlikely(fipc_sleepers_any(sleepers)))
        fipc_sleepers_wake_slow(sleepers, count);
}

/* Wakes one. */
FIPC_ALWAYS_INLINE void fipc_sleepers_wake(uint32_t *sleepers) {
    fipc_sleepers_wake_some(sleepers, 1);
}

/* Wakes all of them; likewise. */
void fipc_sleepers_wake_all(uint32_t *sleepers);
/* Takes the marks back, for who wakes the sleepers by other means. */
void fipc_sleepers_clear(uint32_t *sleepers);

/* Spins until *word differs from `seen`, at most as long as it has paid lately and
 * not past deadline_ns. True when it differs. */
bool fipc_spin_while(struct fipc_spin *spin, const uint32_t *word, uint32_t seen,
                     int64_t deadline_ns);

/* The same in two steps: how long it may last (0: not at all), and the spin. */
int32_t fipc_spin_budget(struct fipc_spin *spin);
bool fipc_spin_for(struct fipc_spin *spin, int32_t budget_ns, const uint32_t *word, uint32_t seen,
                   int64_t deadline_ns);
/* For a spin of the caller's own: what came of it. */
void fipc_spin_paid(struct fipc_spin *spin);
void fipc_spin_missed(struct fipc_spin *spin);

/* How often threads of one handle have met others at one lock lately: hints. */
struct fipc_crowd {
    uint64_t done;        /* calls that met nobody */
    uint64_t left_ticks;  /* when a call that was not so simple ended last */
    uint64_t left_done;   /* and `done` then */
    uint64_t met_ticks;   /* the last time */
    uint64_t way_ticks;   /* when way was given last */
    uint32_t pause_ticks; /* and for how long the lock was left to others then */
    uint32_t gives_way;   /* the next call that may wait lets others have the CPU first */
    uint32_t is_eager;    /* most of the caller's time goes by at the lock */
};

/* A call met nobody. */
FIPC_ALWAYS_INLINE void fipc_crowd_done(struct fipc_crowd *crowd) {
    fipc_store_relaxed(&crowd->done, fipc_load_relaxed(&crowd->done) + 1);
}

/* A call that was not so simple has ended. */
void fipc_crowd_left(struct fipc_crowd *crowd);
/* The lock was found taken. True when that comes so soon after the last time that two of its side
 * run at once, each taking the lock's line from the other for every message: the caller returns
 * without trying again, to where no lock of its own is held, and there fipc_crowd_give_way() is
 * called. */
bool fipc_crowd_meets(struct fipc_crowd *crowd);
/* How long the lock is left to others by who gives way now; 0: not at all. */
uint32_t fipc_crowd_pause(const struct fipc_crowd *crowd, uint64_t now_ticks);
/* Lets others have the CPU; where nobody wants it, leaves them the lock for a while: some hundred
 * microseconds at most, and not if that might be past deadline_ns. True if time went by. */
void fipc_crowd_give_way_slow(struct fipc_crowd *crowd, int64_t deadline_ns);
FIPC_ALWAYS_INLINE bool fipc_crowd_give_way(struct fipc_crowd *crowd, int64_t deadline_ns) {
    if (fipc_likely(!fipc_load_relaxed(&crowd->gives_way)))
        return false;
    fipc_crowd_give_way_slow(crowd, deadline_ns);
    return true;
}

/* So many messages that were there already are a run. */
#define FIPC_RUN_LEAST 2

/* Messages come faster than they are taken out, and each look for the next takes the
 * producers' line from them: so after a run of *run messages, which it ends, leaves them
 * alone for as long as some take to be put. Without a lock of the caller's. True if time went by. */
bool fipc_spin_lull(uint32_t *run);
/* Leaves them alone that long. */
void fipc_spin_rest(void);

/* Looks some more times whether *word still is `seen`, for half a microsecond, if spinning
 * has paid lately: for callers that hold a lock of their own, giving which up costs as
 * much. True when it differs. */
FIPC_ALWAYS_INLINE bool fipc_spin_glance(const struct fipc_spin *spin, const uint32_t *word,
                                         uint32_t seen) {
    if (fipc_load_relaxed(&spin->budget_ns) == 0)
        return false;
    for (int i = 0; i < FIPC_GLANCE_LOOKS; i++) {
        if (fipc_load_relaxed(word) != seen)
            return true;
        fipc_pause();
    }
    return false;
}

/* Whether callers have something to look after between two waits, of their own: then sleeps in
 * this process are short, as where memory is to be given back. */
void fipc_waiting_set_chores(bool any);

/* When the sleep of this round ends: nobody sleeps for more than 2.5 seconds without looking,
 * for a waker may have died between publishing and waking, and a signal may have come just
 * before the sleep. `trims`: there is memory to be given back meanwhile. */
int64_t fipc_waiting_until(struct fipc_waiting *waiting, int64_t deadline_ns, bool trims);

/* Whether it is time to sleep: the first answer is no, and the caller returns -EINTR, since a
 * signal that came before the sleep would not end it; the next is yes. Asked before the spin, which
 * the second time is left out. */
FIPC_ALWAYS_INLINE bool fipc_waiting_has_looked(struct fipc_waiting *waiting) {
    waiting->has_looked ^= 1;
    return waiting->has_looked == 0;
}

/* The spin found something: 0. */
FIPC_ALWAYS_INLINE int fipc_waiting_spared(struct fipc_waiting *waiting) {
    waiting->has_looked = 0;
    return 0;
}

#endif
