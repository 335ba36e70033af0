/* copy.h - copies large payloads. Owns the choice between the C library's memcpy() and stores
 * that go past the caches, and what it has learned for that; knows nothing of what it copies. */
#ifndef FIPC_COPY_H
#define FIPC_COPY_H

#include "base.h"

/* memcpy() reads each line of the destination before it writes it. Past the caches a copy takes
 * two thirds of the memory's bandwidth, but its reader finds nothing in them. glibc changes over
 * at a size that it takes from the cache of a whole socket (here 240 MiB); how much of a cache
 * this machine has for itself, nobody can tell. Measured on 2 CPUs that share 32 MiB on paper:
 * payloads of 64 MiB from private into shared memory at 9.2 GB/s with memcpy() and 17.9 past the
 * caches; copied by one process and summed by the other, three blocks of 8 MiB in turn, 6.2 and
 * 16.5 GB/s on a machine with busy neighbours, 30 and 17 on a quiet one.
 *
 * So: a payload from FIPC_COPY_PAST_BYTES on goes past the caches (three of them in turn, as blocks
 * are used, fill such a cache); one below FIPC_COPY_LEARN_BYTES does not; between them
 * the process takes what has been faster lately. */
#define FIPC_COPY_LEARN_BYTES (UINT64_C(4) << 20)
#define FIPC_COPY_PAST_BYTES (UINT64_C(12) << 20)

/* As memcpy(), of a payload. What was copied is ordered before whatever the caller stores
 * later. */
void fipc_copy(void *to, const void *from, uint64_t bytes);

/* The same of a part of a payload, which has `whole_bytes` in all. */
void fipc_copy_part(void *to, const void *from, uint64_t bytes, uint64_t whole_bytes);

/* As memcpy(), past the caches where the machine can do that. */
void fipc_copy_past(void *to, const void *from, uint64_t bytes);

/* What copies have taken lately, in picoseconds a KiB: [0] with memcpy(), [1] past the caches;
 * 0, not tried yet. Threads share it without a lock: whatever they read is good enough. */
struct fipc_copy_pace {
    uint32_t ps[2];
    uint32_t copies;
};

/* Which way the next copy takes: now and then the one that was slower, to look again. */
bool fipc_copy_choose(struct fipc_copy_pace *pace);

/* Notes what a copy has taken. */
void fipc_copy_note(struct fipc_copy_pace *pace, bool past, uint64_t bytes, int64_t ns);

#endif
