/* base.h - attributes, limits and assertions that every other file uses.
 * Owns no state and no operating system call. */
#ifndef FIPC_BASE_H
#define FIPC_BASE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FIPC_MUST_USE __attribute__((warn_unused_result))
#define FIPC_UNUSED __attribute__((unused))
#define FIPC_ALWAYS_INLINE static inline __attribute__((always_inline))

#define fipc_likely(x) __builtin_expect(!!(x), 1)
#define fipc_unlikely(x) __builtin_expect(!!(x), 0)

/* Absolute CLOCK_MONOTONIC deadlines, in nanoseconds. */
#define FIPC_FOREVER INT64_MAX
#define FIPC_NS_PER_US INT64_C(1000)
#define FIPC_NS_PER_MS INT64_C(1000000)

/* Our own mistakes; never the content of shared memory. */
#ifdef FIPC_DEBUG
#include <assert.h>
#define fipc_assert(x) assert(x)
#else
#define fipc_assert(x) ((void)sizeof(x))
#endif

FIPC_ALWAYS_INLINE uint64_t fipc_align_up(uint64_t value, uint64_t alignment) {
    return (value + alignment - 1) & ~(alignment - 1);
}

/* Smallest n with (1 << n) >= value, for value >= 1. */
FIPC_ALWAYS_INLINE uint32_t fipc_log2_ceil(uint64_t value) {
    return value <= 1 ? 0 : 64 - (uint32_t)__builtin_clzll(value - 1);
}

/* The deliberate breaks that prove the crash tool (tests/crash): each removes
 * one thing that kill safety stands on. Never defined in a build for users. */
#ifndef FASTIPC_BREAK_NO_TAKEOVER
#define FASTIPC_BREAK_NO_TAKEOVER 0
#endif
#ifndef FASTIPC_BREAK_PUBLISH_FIRST
#define FASTIPC_BREAK_PUBLISH_FIRST 0
#endif
#ifndef FASTIPC_BREAK_ONE_COPY
#define FASTIPC_BREAK_ONE_COPY 0
#endif
#ifndef FASTIPC_BREAK_NO_RECHECK
#define FASTIPC_BREAK_NO_RECHECK 0
#endif
#ifndef FASTIPC_BREAK_NO_REPAIR
#define FASTIPC_BREAK_NO_REPAIR 0
#endif
#ifndef FASTIPC_BREAK_TOKEN_FIRST
#define FASTIPC_BREAK_TOKEN_FIRST 0
#endif
#ifndef FASTIPC_BREAK_NO_LOSS
#define FASTIPC_BREAK_NO_LOSS 0
#endif
/* And those that prove the fuzzers (tests/fuzz): each leaves one check out. */
#ifndef FASTIPC_BREAK_RECORD_LENGTH
#define FASTIPC_BREAK_RECORD_LENGTH 0
#endif
#ifndef FASTIPC_BREAK_RING_BOUND
#define FASTIPC_BREAK_RING_BOUND 0
#endif

#endif
