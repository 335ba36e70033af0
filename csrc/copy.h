/* copy.h - copies large payloads. Owns the choice between the C library's memcpy() and stores
 * that go past the caches; owns no state, and knows nothing of what it copies. */
#ifndef FIPC_COPY_H
#define FIPC_COPY_H

#include "base.h"

/* A payload from here on does not stay in the caches until its reader has come to it: blocks are
 * used three in turn, and the smallest third-level cache that CPUs for servers have for some cores
 * together is 32 MiB. Past them, copying takes half as much of the memory's bandwidth, since
 * memcpy() reads each line of the destination before it writes it, up to sizes that glibc takes
 * from the cache of a whole socket (here 240 MiB). Measured on 2 CPUs: 64 MiB from private into
 * shared memory at 9.2 GB/s with memcpy() and 17.9 past the caches; arrays of 64 MiB through a
 * Queue whose consumer sums them, 7.4 and 13.2; messages of 16 MiB through a Pipe into a
 * buffer, 9.0 and 10.3. Arrays of 8 MiB, whose blocks stay in the cache, are slower past it. */
#define FIPC_COPY_PAST_BYTES (UINT64_C(12) << 20)

/* As memcpy(), of a payload or a part of one, which has `whole_bytes` in all. What was copied
 * is ordered before whatever the caller stores later. */
void fipc_copy(void *to, const void *from, uint64_t bytes, uint64_t whole_bytes);

/* As memcpy(), past the caches where the machine can do that; for fipc_copy() and its test. */
void fipc_copy_past(void *to, const void *from, uint64_t bytes);

#endif
