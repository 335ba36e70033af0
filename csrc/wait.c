/* wait.c - see wait.h. */
#include "wait.h"

/* Waking a sleeper on the other CPU costs 25 to 50 us a round trip on the machines
 * measured; spinning as long as that is the most that can pay. */
#define SPIN_MAX_NS 50000
#define SPIN_MIN_NS 1000
/* After so many misses in a row, one full-length try: both sides may sleep only
 * because the other does. */
#define SPIN_PROBE_EVERY 32
#define PAUSES_PER_LOOK 16

#define RECHECK_FIRST_NS (20 * FIPC_NS_PER_MS)
#define RECHECK_SECOND_NS (500 * FIPC_NS_PER_MS)
#define RECHECK_NS (1000 * FIPC_NS_PER_MS)

void fipc_sleepers_wake_slow(uint32_t *sleepers, uint32_t *word, int count) {
    /* 1: one sleeper, which leaves nobody. 2: maybe more; stays until a wake finds
     * nobody. A sleeper that marks itself in between saw what we published. */
    if (fipc_cas32_seqcst(sleepers, 1, 0)) {
        (void)fipc_os_wake_word(word, count);
        return;
    }
    if (fipc_os_wake_word(word, count) == 0)
        (void)fipc_cas32_seqcst(sleepers, 2, 0);
}

static void spin_paid(struct fipc_spin *spin) {
    spin->misses = 0;
    spin->budget_ns = SPIN_MAX_NS;
}

static void spin_missed(struct fipc_spin *spin) {
    spin->misses++;
    spin->budget_ns = spin->budget_ns / 2 < SPIN_MIN_NS ? 0 : spin->budget_ns / 2;
}

bool fipc_spin_while(struct fipc_spin *spin, const uint32_t *word, uint32_t seen,
                     int64_t deadline_ns) {
    int64_t now_ns, until_ns;
    int32_t budget_ns = spin->budget_ns;

    if (fipc_os_cpu_count() < 2)
        return false;
    if (budget_ns == 0) {
        if (++spin->misses % SPIN_PROBE_EVERY != 0)
            return false;
        budget_ns = SPIN_MAX_NS;
    }
    now_ns = fipc_os_now_ns();
    until_ns = now_ns + budget_ns < deadline_ns ? now_ns + budget_ns : deadline_ns;
    do {
        for (int i = 0; i < PAUSES_PER_LOOK; i++) {
            if (fipc_load_relaxed(word) != seen) {
                spin_paid(spin);
                return true;
            }
            fipc_pause();
        }
    } while (fipc_os_now_ns() < until_ns);
    spin_missed(spin);
    return false;
}

int64_t fipc_waiting_until(struct fipc_waiting *waiting, int64_t deadline_ns) {
    int64_t slice_ns, until_ns;

#if defined(FIPC_DEBUG) || FASTIPC_BREAK_NO_RECHECK
    waiting->rounds++;
    return deadline_ns;
#endif
    slice_ns = waiting->rounds == 0   ? RECHECK_FIRST_NS
               : waiting->rounds == 1 ? RECHECK_SECOND_NS
                                      : RECHECK_NS;
    waiting->rounds++;
    until_ns = fipc_os_now_ns() + slice_ns;
    return until_ns < deadline_ns ? until_ns : deadline_ns;
}
