/* copy.c - see copy.h. */
#include <string.h>

#include "copy.h"

#ifdef __x86_64__

#include <emmintrin.h>

#define LINE_BYTES 64
/* How far ahead of the copy its source is asked for, without a place in the caches behind the
 * first: 17.9 GB/s, and 16.6 without. The request never faults. */
#define AHEAD_BYTES 1024

void fipc_copy_past(void *to, const void *from, uint64_t bytes) {
    uint8_t *at = to;
    const uint8_t *in = from;
    uint64_t head = -(uintptr_t)at & (LINE_BYTES - 1);

    /* Whole lines only: a part of one would be read, and written, by itself. */
    head = head < bytes ? head : bytes;
    memcpy(at, in, head);
    at += head;
    in += head;
    bytes -= head;
    for (; bytes >= LINE_BYTES; bytes -= LINE_BYTES, at += LINE_BYTES, in += LINE_BYTES) {
        __m128i *line = (__m128i *)(void *)at;
        const __m128i *source = (const __m128i *)(const void *)in;

        _mm_prefetch((const char *)((uintptr_t)in + AHEAD_BYTES), _MM_HINT_NTA);
        _mm_stream_si128(line, _mm_loadu_si128(source));
        _mm_stream_si128(line + 1, _mm_loadu_si128(source + 1));
        _mm_stream_si128(line + 2, _mm_loadu_si128(source + 2));
        _mm_stream_si128(line + 3, _mm_loadu_si128(source + 3));
    }
    memcpy(at, in, bytes);
    /* These stores are in no order with any other, not even a store-release, without it. */
    _mm_sfence();
}

#else

void fipc_copy_past(void *to, const void *from, uint64_t bytes) { memcpy(to, from, bytes); }

#endif

void fipc_copy(void *to, const void *from, uint64_t bytes, uint64_t whole_bytes) {
    if (whole_bytes < FIPC_COPY_PAST_BYTES)
        memcpy(to, from, bytes);
    else
        fipc_copy_past(to, from, bytes);
}
