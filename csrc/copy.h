/* copy.h - copies payloads. Owns the choice between copies through the caches and past them, and by
 * which instructions, and what it has learned for that; knows nothing of what it copies. */
#ifndef FIPC_COPY_H
#define FIPC_COPY_H

#include "base.h"

/* A copy through the caches has each line of its destination brought there before it is written,
 * from wherever it is: mostly the cache of whoever read the last payload there. That is what limits
 * messages that go round in little memory, not the reader. Stores past the caches ask for nothing;
 * but the reader then finds the payload in memory. Measured on 2 CPUs, 16 KiB at a time through
 * 128 KiB of shared memory: through the caches 8.5 GB/s, 2.3 while the host had the two CPUs far
 * apart; past them 16, both times. Through 2 MiB, which is more than the writer's own cache: 29,
 * 2.4, and 19.
 *
 * So the process tries both now and then, for each size, and takes what is faster for the writer.
 * A payload from FIPC_COPY_PAST_BYTES on goes past the caches without a trial: three of them in
 * turn, as blocks are used, fill any cache that the two share (64 MiB from private into shared
 * memory: 9.2 GB/s through the caches, 17.9 past them). glibc's memcpy() changes over at a size
 * that it takes from the cache of a whole socket, here 240 MiB.
 *
 * Through the caches is by plain loads and stores, line by line, or by the C library's memcpy(), which
 * takes a string instruction for what fits in a core's cache, and wider registers. Into shared memory
 * both are tried, too: 1 MiB messages through a pipe on a host that had the two CPUs far apart came at
 * 23 GB/s by lines and at 31 to 33 by memcpy(), and with near ones at 44 and 45. Out of it, it is by
 * lines: memcpy() there made 11 in the place of 30 on one machine (16 where only the first 4 KiB of a
 * message were copied so), and on another now a sixth more, now a sixth less.
 *
 * A receiver's buffer is one, and not three blocks in turn, so one of FIPC_COPY_PAST_BYTES may still
 * find room in a cache: 16 MiB through a pipe came at 21 GB/s past it and at 28 by lines on CPUs that
 * share 32 MiB, and at 17.9 and 9.2 on others. Up to FIPC_COPY_OUT_PAST_BYTES both are tried. */
#define FIPC_COPY_LEARN_BYTES UINT64_C(4097) /* what does not go inline */
#define FIPC_COPY_PAST_BYTES (UINT64_C(12) << 20)
#define FIPC_COPY_OUT_PAST_BYTES ((UINT64_C(64) << 20) + 1)

/* As memcpy(), of a payload into shared memory. What was copied is ordered before whatever the
 * caller stores later. */
void fipc_copy(void *to, const void *from, uint64_t bytes);

/* Are payloads of that size copied past the caches, because through them it is slower? */
bool fipc_copy_is_past(uint64_t bytes);

/* As memcpy(), of what lies in shared memory: a payload, or a part of one that has `whole_bytes`
 * in all. */
void fipc_copy_out(void *to, const void *from, uint64_t bytes, uint64_t whole_bytes);

/* As memcpy(), past the caches where the machine can do that, and through them. */
void fipc_copy_past(void *to, const void *from, uint64_t bytes);
void fipc_copy_lines(void *to, const void *from, uint64_t bytes);

/* What there is to choose for copies into shared memory: through the caches or past them; and, of those
 * through them, by lines or by memcpy(). For large ones out of it: past the caches or through them. */
enum fipc_copy_kind {
    FIPC_COPY_PAST_OR_THROUGH,
    FIPC_COPY_LIBRARY_OR_LINES,
    FIPC_COPY_OUT_PAST_OR_THROUGH,
    FIPC_COPY_KINDS
};

/* What copies of about one size have taken lately, in ticks a MiB: [0] through the caches, by lines,
 * [1] the other way; 0, not tried yet. Threads share it without a lock: whatever they read is good
 * enough. */
struct fipc_copy_pace {
    uint32_t ticks[2];        /* a moving average */
    uint32_t chosen;          /* the way that is taken, but for trials of the other one */
    uint32_t chosen_ticks;    /* what it took when it was chosen */
    uint32_t tries;           /* 1: a trial is on */
    uint32_t left;            /* copies before it ends, or the next one begins */
    uint32_t rest;            /* how long it is to the next one, in trials; 0: nothing is known */
    enum fipc_copy_kind kind; /* what there is to choose; never changes, nor does this: */
    uint32_t trial_mib;       /* how much a trial copies, or 0: as it goes with the size */
    uint64_t noted_ticks;     /* when the last one ended, of copies out */
};

/* What this process knows of payloads of that size (of copies out: of all its parts), or NULL: of those
 * it learns nothing. */
struct fipc_copy_pace *fipc_copy_pace_of(enum fipc_copy_kind kind, uint64_t bytes);

/* Which way the next copy takes: true, the other one. */
bool fipc_copy_choose(struct fipc_copy_pace *pace, uint64_t bytes);

/* Notes what a copy has taken. */
void fipc_copy_note(struct fipc_copy_pace *pace, bool way, uint64_t bytes, uint64_t ticks);

/* The same of a copy into shared memory, which went past the caches or through them by memcpy() or by
 * lines. */
void fipc_copy_note_both(struct fipc_copy_pace *pace, struct fipc_copy_pace *through, bool past,
                         bool by_library, uint64_t bytes, uint64_t ticks);

/* For tests: each size goes that way from now on, both into shared memory and out of it, and no trial
 * is near. */
void fipc_copy_keep(bool other);

#endif
