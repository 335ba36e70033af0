/* atomics.h - loads, stores and read-modify-writes with the order in the name.
 * Every access to a shared word goes through here, so that the sanitizers see
 * it and so that an order is a decision somebody can find. No fences: TSan is
 * blind to them. */
#ifndef FIPC_ATOMICS_H
#define FIPC_ATOMICS_H

#include "base.h"

#define fipc_load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define fipc_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define fipc_load_seqcst(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define fipc_store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define fipc_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define fipc_exchange_seqcst(p, v) __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
#define fipc_fetch_add_relaxed(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
#define fipc_fetch_add_seqcst(p, v) __atomic_fetch_add((p), (v), __ATOMIC_SEQ_CST)
#define fipc_fetch_or_release(p, v) __atomic_fetch_or((p), (v), __ATOMIC_RELEASE)
#define fipc_fetch_and_relaxed(p, v) __atomic_fetch_and((p), (v), __ATOMIC_RELAXED)

/* Compare and swap: true when *p was `expected` and is now `desired`. */
FIPC_ALWAYS_INLINE bool fipc_cas32_seqcst(uint32_t *p, uint32_t expected, uint32_t desired) {
    return __atomic_compare_exchange_n(p, &expected, desired, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_RELAXED);
}

FIPC_ALWAYS_INLINE bool fipc_cas64_seqcst(uint64_t *p, uint64_t expected, uint64_t desired) {
    return __atomic_compare_exchange_n(p, &expected, desired, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_RELAXED);
}

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

#endif
