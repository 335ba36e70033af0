/* copy.c - see copy.h. */
#include "copy.h"

#include <string.h>

#include "atomics.h"
#include "os.h"

/* One copy in so many looks whether the other way has become the faster one. */
#define LOOK_AGAIN_COPIES 64

/* Process memory: a forked child goes on with what its parent has learned. */
static struct fipc_copy_pace pace;

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

bool fipc_copy_choose(struct fipc_copy_pace *known) {
    uint64_t cached = fipc_load_relaxed(&known->ps[0]);
    uint64_t past = fipc_load_relaxed(&known->ps[1]);
    uint32_t copies = fipc_load_relaxed(&known->copies);
    bool is_faster;

    /* A lost count does no harm. */
    fipc_store_relaxed(&known->copies, copies + 1);
    if (cached == 0 || past == 0)
        return cached != 0;
    /* By a quarter: the reader has its own use of what lies in the caches. */
    is_faster = past * 5 < cached * 4;
    return copies % LOOK_AGAIN_COPIES == 0 ? !is_faster : is_faster;
}

void fipc_copy_note(struct fipc_copy_pace *known, bool past, uint64_t bytes, int64_t ns) {
    uint64_t before = fipc_load_relaxed(&known->ps[past]);
    uint64_t ps = ns > 0 ? (uint64_t)ns * 1000 / (bytes / 1024) : 1;

    ps = ps < UINT32_MAX ? ps : UINT32_MAX;
    ps = ps > 0 ? ps : 1;
    /* Down at once and up slowly: what is slower than usual met fresh memory, or another
     * process on its CPU. */
    if (before != 0 && ps > before)
        ps = before + (ps - before + 7) / 8;
    fipc_store_relaxed(&known->ps[past], (uint32_t)ps);
}

void fipc_copy(void *to, const void *from, uint64_t bytes) {
    int64_t begin_ns;
    bool past;

    if (bytes < FIPC_COPY_LEARN_BYTES || bytes >= FIPC_COPY_PAST_BYTES) {
        fipc_copy_part(to, from, bytes, bytes);
        return;
    }
    past = fipc_copy_choose(&pace);
    begin_ns = fipc_os_now_ns();
    if (past)
        fipc_copy_past(to, from, bytes);
    else
        memcpy(to, from, bytes);
    fipc_copy_note(&pace, past, bytes, fipc_os_now_ns() - begin_ns);
}

void fipc_copy_part(void *to, const void *from, uint64_t bytes, uint64_t whole_bytes) {
    if (whole_bytes < FIPC_COPY_PAST_BYTES)
        memcpy(to, from, bytes);
    else
        fipc_copy_past(to, from, bytes);
}
