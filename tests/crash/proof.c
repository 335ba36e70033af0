/* A toy with known answers, on which the crash tool proves itself: a sum behind
 * a lock that outlives its owner and two copies of the state, and the same
 * broken on purpose (PROOF_ONE_COPY, PROOF_NO_TAKEOVER). */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

struct proof_state {
    uint64_t count;
    uint64_t sum;
};

struct proof {
    _Atomic int32_t owner;
    _Atomic uint32_t generation;
    struct proof_state copies[2];
    uint8_t scratch[65536];
};

static int lock(struct proof *proof) {
    for (uint64_t tries = 0; tries < 2000000000; tries++) {
        int32_t owner = 0;
        if (atomic_compare_exchange_strong(&proof->owner, &owner, (int32_t)getpid()))
            return 0;
#ifndef PROOF_NO_TAKEOVER
        if (kill(owner, 0) < 0 && errno == ESRCH &&
            atomic_compare_exchange_strong(&proof->owner, &owner, (int32_t)getpid()))
            return 0;
#endif
    }
    return -ETIMEDOUT;
}

static void unlock(struct proof *proof) { atomic_store(&proof->owner, 0); }

int proof_add(struct proof *proof, uint64_t value) {
    int rc = lock(proof);
    if (rc < 0)
        return rc;
#ifdef PROOF_ONE_COPY
    proof->copies[0].count += 1;
    atomic_thread_fence(memory_order_seq_cst);
    proof->copies[0].sum += value;
#else
    uint32_t generation = atomic_load(&proof->generation);
    struct proof_state *next = &proof->copies[(generation + 1) & 1];
    *next = proof->copies[generation & 1];
    next->count += 1;
    next->sum += value;
    atomic_store_explicit(&proof->generation, generation + 1, memory_order_release);
#endif
    unlock(proof);
    return 0;
}

int proof_read(struct proof *proof, uint64_t *count, uint64_t *sum) {
    int rc = lock(proof);
    if (rc < 0)
        return rc;
    struct proof_state *state = &proof->copies[atomic_load(&proof->generation) & 1];
    *count = state->count;
    *sum = state->sum;
    unlock(proof);
    return 0;
}

/* Counts to 200 in memory, one instruction a step. */
void proof_march(uint64_t *counter) {
    __asm__ volatile(".rept 200\n incq (%0)\n .endr\n" : : "r"(counter) : "memory");
}

/* One repeated string instruction of 65536 iterations between two stores. */
void proof_repeat(struct proof *proof) {
    void *to = proof->scratch;
    uint64_t count = sizeof proof->scratch;
    proof->copies[0].count = 1;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(7) : "memory");
    proof->copies[0].sum = proof->scratch[sizeof proof->scratch - 1];
}

/* A call into libc between two stores. */
void proof_call(struct proof *proof) {
    proof->copies[0].count = 1;
    memset(proof->scratch, (int)proof->copies[0].sum, sizeof proof->scratch);
    proof->copies[0].sum = 2;
}
