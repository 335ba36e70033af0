/* lock.c - see lock.h. */
#include "lock.h"

#include "slots.h"

/* Critical sections last 0.1 us; an owner that is not done after 2 us of spinning
 * has been preempted, stopped or killed. */
#define SPIN_ROUNDS 60

/* The first looks at the owner come soon: a killed owner's lock must be free within
 * 50 ms. Behind an owner that lives on, seldom: 200 ms. */
#define SLICE_FIRST_NS (5 * FIPC_NS_PER_MS)
#define SLICE_EARLY_NS (20 * FIPC_NS_PER_MS)
#define SLICE_LATE_NS (200 * FIPC_NS_PER_MS)
#define EARLY_NS (100 * FIPC_NS_PER_MS)

void fipc_lock_wake(uint32_t *lock) { (void)fipc_os_wake_word(lock, 1); }

static bool spin_for(const struct fipc_segment *segment, uint32_t *lock) {
    if (fipc_os_cpu_count() < 2)
        return false;
    for (int i = 0; i < SPIN_ROUNDS; i++) {
        if (fipc_load_relaxed(lock) == 0 && fipc_cas32_seqcst(L1, lock, 0, segment->lock_word))
            return true;
        fipc_pause();
    }
    return false;
}

int fipc_lock_wait(const struct fipc_segment *segment, uint32_t *lock, int64_t deadline_ns) {
    int64_t start_ns, slice_ns = SLICE_FIRST_NS;
    uint32_t word;

    if (spin_for(segment, lock))
        return 0;
    start_ns = fipc_os_now_ns();
    for (;;) {
        int64_t now_ns, until_ns;
        bool interrupted;
        int rc;

        word = fipc_load_relaxed(lock);
        if ((word & ~FIPC_LOCK_WAITERS) == 0) {
            /* With the waiters bit: others may still sleep, our unlock wakes one. */
            if (fipc_cas32_seqcst(L1, lock, word, segment->lock_word | FIPC_LOCK_WAITERS))
                return 0;
            continue;
        }
        if (!(word & FIPC_LOCK_WAITERS)) {
            /* Relaxed: takes nothing, and the unlock finds it in the same word. */
            if (!fipc_cas32_relaxed(lock, word, word | FIPC_LOCK_WAITERS))
                continue;
            word |= FIPC_LOCK_WAITERS;
        }
        now_ns = fipc_os_now_ns();
        if (now_ns >= deadline_ns)
            return -ETIMEDOUT;
        until_ns = now_ns + slice_ns < deadline_ns ? now_ns + slice_ns : deadline_ns;
        rc = fipc_os_wait_word(lock, word, until_ns);
        interrupted = rc == -EINTR;
        if (rc == 0 || fipc_load_relaxed(lock) != word || FASTIPC_BREAK_NO_TAKEOVER) {
            if (interrupted)
                return -EINTR;
            continue;
        }
        /* Also when interrupted: a timer that fires faster than a slice ends must not
         * keep us from ever asking. */
        rc = fipc_slots_lock_owner_is_alive(segment, word);
        if (rc < 0)
            return rc;
        if (rc == 0) {
            /* step lock-take-over: dead, so nobody else writes this word but another who
             * takes over. */
            if (fipc_cas32_seqcst(L1, lock, word, segment->lock_word | FIPC_LOCK_WAITERS))
                return 1;
            continue;
        }
        if (interrupted)
            return -EINTR;
        slice_ns = fipc_os_now_ns() - start_ns < EARLY_NS ? SLICE_EARLY_NS : SLICE_LATE_NS;
    }
}
