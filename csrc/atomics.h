/* atomics.h - loads, stores and read-modify-writes with the order in the name.
 * Every access to a shared word goes through here, so that the sanitizers see
 * it and so that an order is a decision somebody can find. No fences: TSan is
 * blind to them. */
#ifndef FIPC_ATOMICS_H
#define FIPC_ATOMICS_H

#include "base.h"

/* Each order stronger than relaxed says which one it is: its label comes first. Its partner
 * has the same letter and the other digit, but for R1 and A1 (and Z1, its own): the table of
 * barrier pairs in PROTOCOL.md says what of. */
enum fipc_order {
    FIPC_ORDER_TEST, /* of a test of ours, never weakened */
    FIPC_ORDER_L1,
    FIPC_ORDER_L2,
    FIPC_ORDER_R1,
    FIPC_ORDER_A1,
    FIPC_ORDER_P1,
    FIPC_ORDER_P2,
    FIPC_ORDER_W1,
    FIPC_ORDER_W2,
    FIPC_ORDER_B1,
    FIPC_ORDER_B2,
    FIPC_ORDER_H1,
    FIPC_ORDER_H2,
    FIPC_ORDER_O1,
    FIPC_ORDER_O2,
    FIPC_ORDER_U1,
    FIPC_ORDER_U2,
    FIPC_ORDER_G1,
    FIPC_ORDER_G2,
    FIPC_ORDER_E1,
    FIPC_ORDER_E2,
    FIPC_ORDER_T1,
    FIPC_ORDER_T2,
    FIPC_ORDER_N1,
    FIPC_ORDER_N2,
    FIPC_ORDER_Y1,
    FIPC_ORDER_Y2,
    FIPC_ORDER_S1,
    FIPC_ORDER_S2,
    FIPC_ORDER_D1,
    FIPC_ORDER_D2,
    FIPC_ORDER_C1,
    FIPC_ORDER_C2,
    FIPC_ORDER_J1,
    FIPC_ORDER_J2,
    FIPC_ORDER_K1,
    FIPC_ORDER_K2,
    FIPC_ORDER_F1,
    FIPC_ORDER_F2,
    FIPC_ORDER_V1,
    FIPC_ORDER_V2,
    FIPC_ORDER_X1,
    FIPC_ORDER_X2,
    FIPC_ORDER_I1,
    FIPC_ORDER_I2,
    FIPC_ORDER_Q1,
    FIPC_ORDER_Q2,
    FIPC_ORDER_Z1,
    FIPC_ORDER_COUNT
};
_Static_assert(FIPC_ORDER_COUNT <= 64, "a label is a bit of a mutant");

/* The mutants that prove the orders (tests/orders): builds in which the orders with these
 * labels are relaxed, or in which these read-modify-writes are a load and a store, for
 * where the machine has no weaker ones. Never defined in a build for users. */
#define FIPC_ORDER_BIT(label) (UINT64_C(1) << FIPC_ORDER_##label)
#ifndef FASTIPC_RELAX
#define FASTIPC_RELAX 0
#endif

#define FIPC_ORDER(label, order) \
    (((FASTIPC_RELAX) & FIPC_ORDER_BIT(label)) != 0 ? __ATOMIC_RELAXED : (order))

#ifndef FASTIPC_SPLIT
#define FIPC_RMW(label, whole, split) (whole)
#else
#define FIPC_RMW(label, whole, split) \
    (((FASTIPC_SPLIT) & FIPC_ORDER_BIT(label)) != 0 ? (split) : (whole))
#define FIPC_SPLIT_FOR(bits)                                                          \
    FIPC_ALWAYS_INLINE uint##bits##_t fipc_split_exchange##bits(uint##bits##_t *p,    \
                                                                uint##bits##_t v) {   \
        uint##bits##_t old = __atomic_load_n(p, __ATOMIC_ACQUIRE);                    \
        __atomic_store_n(p, v, __ATOMIC_RELEASE);                                     \
        return old;                                                                   \
    }                                                                                 \
    FIPC_ALWAYS_INLINE bool fipc_split_cas##bits(uint##bits##_t *p, uint##bits##_t e, \
                                                 uint##bits##_t d) {                  \
        return __atomic_load_n(p, __ATOMIC_ACQUIRE) == e &&                           \
               (__atomic_store_n(p, d, __ATOMIC_RELEASE), true);                      \
    }
FIPC_SPLIT_FOR(32)
FIPC_SPLIT_FOR(64)
#endif

#define fipc_load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define fipc_load_acquire(label, p) __atomic_load_n((p), FIPC_ORDER(label, __ATOMIC_ACQUIRE))
#define fipc_load_seqcst(label, p) __atomic_load_n((p), FIPC_ORDER(label, __ATOMIC_SEQ_CST))
#define fipc_store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define fipc_store_release(label, p, v) \
    __atomic_store_n((p), (v), FIPC_ORDER(label, __ATOMIC_RELEASE))
#define fipc_exchange32_seqcst(label, p, v)                                             \
    FIPC_RMW(label, __atomic_exchange_n((p), (v), FIPC_ORDER(label, __ATOMIC_SEQ_CST)), \
             fipc_split_exchange32((p), (v)))
#define fipc_fetch_add_relaxed(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
/* Of 32 bits. */
#define fipc_fetch_add_seqcst(label, p, v)                                             \
    FIPC_RMW(label, __atomic_fetch_add((p), (v), FIPC_ORDER(label, __ATOMIC_SEQ_CST)), \
             fipc_split_exchange32((p), fipc_load_relaxed(p) + (v)))
#define fipc_fetch_or_release(label, p, v) \
    __atomic_fetch_or((p), (v), FIPC_ORDER(label, __ATOMIC_RELEASE))
#define fipc_fetch_and_acquire(label, p, v) \
    __atomic_fetch_and((p), (v), FIPC_ORDER(label, __ATOMIC_ACQUIRE))

/* Compare and swap: true when *p was `expected` and is now `desired`. */
FIPC_ALWAYS_INLINE bool fipc_cas32(uint32_t *p, uint32_t expected, uint32_t desired, int order) {
    return __atomic_compare_exchange_n(p, &expected, desired, false, order, __ATOMIC_RELAXED);
}

FIPC_ALWAYS_INLINE bool fipc_cas64(uint64_t *p, uint64_t expected, uint64_t desired, int order) {
    return __atomic_compare_exchange_n(p, &expected, desired, false, order, __ATOMIC_RELAXED);
}

#define fipc_cas32_relaxed(p, expected, desired) \
    fipc_cas32((p), (expected), (desired), __ATOMIC_RELAXED)
#define fipc_cas64_relaxed(p, expected, desired) \
    fipc_cas64((p), (expected), (desired), __ATOMIC_RELAXED)
#define fipc_cas32_seqcst(label, p, expected, desired)                                           \
    FIPC_RMW(label, fipc_cas32((p), (expected), (desired), FIPC_ORDER(label, __ATOMIC_SEQ_CST)), \
             fipc_split_cas32((p), (expected), (desired)))
#define fipc_cas64_seqcst(label, p, expected, desired)                                           \
    FIPC_RMW(label, fipc_cas64((p), (expected), (desired), FIPC_ORDER(label, __ATOMIC_SEQ_CST)), \
             fipc_split_cas64((p), (expected), (desired)))

/* Tells the CPU that this is a spin loop; orders nothing. */
FIPC_ALWAYS_INLINE void fipc_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb" ::: "memory");
#endif
}

/* Asks for the cache line of `p`, to be read or to be written: hints, harmless anywhere. For
 * writing, __builtin_prefetch() would fetch it for reading where the compiler may not assume
 * PREFETCHW, which every 64-bit x86 takes, if only as nothing. */
FIPC_ALWAYS_INLINE void fipc_prefetch_read(const void *p) { __builtin_prefetch(p, 0); }
FIPC_ALWAYS_INLINE void fipc_prefetch_write(void *p) {
#if defined(__x86_64__)
    __asm__ __volatile__("prefetchw %0" : : "m"(*(char *)p));
#else
    __builtin_prefetch(p, 1);
#endif
}

/* Raises a mark that others raise at the same time, and returns what it is then. */
static inline uint64_t fipc_raise(uint64_t *high, uint64_t value) {
    uint64_t seen;

    do
        seen = fipc_load_relaxed(high);
    while (value > seen && !fipc_cas64_relaxed(high, seen, value));
    return value > seen ? value : seen;
}

#endif
