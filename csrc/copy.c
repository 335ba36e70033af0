/* copy.c - see copy.h. */
#include "copy.h"

#include <string.h>

#include "atomics.h"
#include "os.h"

/* A trial of the other way lasts for so many bytes, twice what goes round (arena_take.c,
 * conn_send.c), and the first half does not count, for what it meets in the caches is due to the
 * way before: 64 KiB through a ring of 1 MiB took 6 us each to begin with, and 2.4 from the second
 * time round. Of large payloads caches keep little. */
#define TRIAL_BYTES (UINT64_C(4) << 20)
#define TRIAL_LEAST_COPIES 8
/* Of LARGE_BYTES half a trial is to be a round of all blocks, a Queue(4)'s and those of the two sides:
 * behind copies past the caches the first round through them meets blocks that lie in memory. Half as
 * long, that was most of a trial. */
#define TRIAL_LEAST_COPIES_LARGE 16
/* Is it so many times as slow, the trial ends early. Where caches keep little its beginning is
 * like the rest, and with the number of small ones bytes of 4 MiB, for which they were 3.6 times as
 * slow here, would pay 21 copies for each trial. */
#define HOPELESS 6
#define HOPELESS_LARGE 3
#define HOPELESS_COPIES 4
/* Past the caches the first large ones are like the rest, and leave the blocks in memory for those
 * behind the trial. */
#define HOPELESS_LARGE_PAST 1
/* So many times as many copies lie between two trials, twice as many after each that changed
 * nothing. */
#define REST_FIRST_TRIALS 16
#define REST_MOST_TRIALS 512
/* Before the first trial past the caches: by then it is known which way through them is the faster one
 * (16 KiB by lines took twice as long as by memcpy(), and so seemed worth a way past them), and that a
 * process begins with slow copies. */
#define REST_PAST_TRIALS 3
/* Past the caches the writer must be so many times as fast, in sixteenths, because the reader then is
 * slower: it took 15 GB/s from memory and up to 40 from a cache that it shares with the writer. Of
 * large payloads it finds less there: bytes of 4 MiB took 217 to 222 us each past the caches and 165 to
 * 200 through them where the two CPUs were near, and 170 and 350 to 450 where they were far apart. */
#define PAST_PAYS 32
#define PAST_PAYS_LARGE 24
/* Of the ways through the caches, and for the receiver, whichever is faster is taken, if not by
 * chance. */
#define FASTER_PAYS 17
/* A few of these on their way fill a cache that the two share. */
#define LARGE_BYTES (UINT64_C(4) << 20)
/* A way that has become so many times slower since it was chosen asks for a trial. */
#define WORSE 3
/* An average moves by the 16th part of a difference. What takes longer than so many times the
 * average was interrupted. */
#define MOVES 16
#define OUTLIER 4

/* Of FIPC_COPY_LEARN_BYTES, and up to FIPC_COPY_OUT_PAST_BYTES. */
#define LEAST_CLASS 13
#define CLASS_COUNT 14
/* A trial of copies out fills the buffer three times: what the first half of it meets is due to the way
 * before. It begins with the way that is never far behind. */
#define OUT_LEARN_BYTES 16384
#define OUT(class) \
    {.kind = FIPC_COPY_OUT_PAST_OR_THROUGH, .chosen = 1, .trial_mib = 3 << ((class) - 20)}

/* By the logarithm of the size. Process memory: a forked child goes on with what its parent has
 * learned. */
static struct fipc_copy_pace paces[FIPC_COPY_KINDS][CLASS_COUNT] = {
    [FIPC_COPY_LIBRARY_OR_LINES] = {[0 ... CLASS_COUNT - 1] = {.kind = FIPC_COPY_LIBRARY_OR_LINES}},
    [FIPC_COPY_OUT_PAST_OR_THROUGH] = {
        [24 - LEAST_CLASS] = OUT(24), [25 - LEAST_CLASS] = OUT(25), [26 - LEAST_CLASS] = OUT(26)}};

#ifdef __x86_64__

#include <emmintrin.h>

#define LINE_BYTES 64
/* How far ahead of the copy its source is asked for, without a place in the caches behind the
 * first: 17.9 GB/s, and 16.6 without. The request never faults. */
#define AHEAD_BYTES 1024

/* Both ways, line by line of the destination: a part of one would be read, and written, by
 * itself. */
FIPC_ALWAYS_INLINE void copy_by_lines(void *to, const void *from, uint64_t bytes, bool past) {
    uint64_t head = -(uintptr_t)to & (LINE_BYTES - 1);
    uint8_t *at = to;
    const uint8_t *in = from;

    head = head < bytes ? head : bytes;
    memcpy(at, in, head);
    at += head;
    in += head;
    for (bytes -= head; bytes >= LINE_BYTES;
         bytes -= LINE_BYTES, at += LINE_BYTES, in += LINE_BYTES) {
        __m128i *line = (__m128i *)(void *)at;
        const __m128i *source = (const __m128i *)(const void *)in;
        /* Names, and no array: that would go over the stack, at 12 GB/s in the place of 17. */
        __m128i first = _mm_loadu_si128(source), second = _mm_loadu_si128(source + 1),
                third = _mm_loadu_si128(source + 2), fourth = _mm_loadu_si128(source + 3);

        if (past) {
            _mm_prefetch((const char *)((uintptr_t)in + AHEAD_BYTES), _MM_HINT_NTA);
            _mm_stream_si128(line, first);
            _mm_stream_si128(line + 1, second);
            _mm_stream_si128(line + 2, third);
            _mm_stream_si128(line + 3, fourth);
        } else {
            _mm_store_si128(line, first);
            _mm_store_si128(line + 1, second);
            _mm_store_si128(line + 2, third);
            _mm_store_si128(line + 3, fourth);
        }
    }
    memcpy(at, in, bytes);
}

void fipc_copy_past(void *to, const void *from, uint64_t bytes) {
    copy_by_lines(to, from, bytes, true);
    /* These stores are in no order with any other, not even a store-release, without it. */
    _mm_sfence();
}

void fipc_copy_lines(void *to, const void *from, uint64_t bytes) {
    copy_by_lines(to, from, bytes, false);
}

#else

void fipc_copy_past(void *to, const void *from, uint64_t bytes) { memcpy(to, from, bytes); }
void fipc_copy_lines(void *to, const void *from, uint64_t bytes) { memcpy(to, from, bytes); }

#endif

/* The same for all sizes of a class. */
static uint32_t trial_copies(const struct fipc_copy_pace *pace, uint64_t bytes) {
    uint64_t trial_bytes = pace->trial_mib != 0 ? (uint64_t)pace->trial_mib << 20 : TRIAL_BYTES;
    uint32_t copies = (uint32_t)(trial_bytes >> fipc_log2_ceil(bytes));
    uint32_t least = bytes < LARGE_BYTES ? TRIAL_LEAST_COPIES : TRIAL_LEAST_COPIES_LARGE;

    return copies > least ? copies : least;
}

static void rest(struct fipc_copy_pace *pace, uint32_t trials, uint64_t bytes) {
    fipc_store_relaxed(&pace->rest, trials);
    fipc_store_relaxed(&pace->left, trials * trial_copies(pace, bytes));
}

/* So many times as fast, in sixteenths, the other way has to be. */
static uint64_t pays_of(const struct fipc_copy_pace *pace, uint64_t bytes) {
    if (pace->kind != FIPC_COPY_PAST_OR_THROUGH)
        return FASTER_PAYS;
    return bytes < LARGE_BYTES ? PAST_PAYS : PAST_PAYS_LARGE;
}

/* So many times as slow, a trial of this way is hopeless. */
static uint64_t hopeless_of(const struct fipc_copy_pace *pace, bool way, uint64_t bytes) {
    if (bytes < LARGE_BYTES)
        return HOPELESS;
    return pace->kind == FIPC_COPY_PAST_OR_THROUGH && way ? HOPELESS_LARGE_PAST : HOPELESS_LARGE;
}

/* Ends a trial: which way is it to be? */
static void decide(struct fipc_copy_pace *pace, uint64_t bytes) {
    uint64_t first = fipc_load_relaxed(&pace->ticks[0]), other = fipc_load_relaxed(&pace->ticks[1]);
    uint32_t way = other * pays_of(pace, bytes) < first * 16,
             trials = 2 * fipc_load_relaxed(&pace->rest);

    if (way != fipc_load_relaxed(&pace->chosen))
        trials = REST_FIRST_TRIALS;
    fipc_store_relaxed(&pace->chosen, way);
    fipc_store_relaxed(&pace->chosen_ticks, fipc_load_relaxed(&pace->ticks[way]));
    fipc_store_relaxed(&pace->tries, 0);
    rest(pace, trials < REST_MOST_TRIALS ? trials : REST_MOST_TRIALS, bytes);
}

static void begin_trial(struct fipc_copy_pace *pace, uint64_t bytes) {
    fipc_store_relaxed(&pace->ticks[!fipc_load_relaxed(&pace->chosen)], 0);
    fipc_store_relaxed(&pace->tries, 1);
    fipc_store_relaxed(&pace->left, trial_copies(pace, bytes));
}

bool fipc_copy_choose(struct fipc_copy_pace *pace, uint64_t bytes) {
    if (fipc_load_relaxed(&pace->left) == 0) {
        if (fipc_load_relaxed(&pace->rest) == 0)
            /* The first time. */
            rest(pace, pace->kind == FIPC_COPY_PAST_OR_THROUGH ? REST_PAST_TRIALS : 1, bytes);
        else if (fipc_load_relaxed(&pace->tries))
            decide(pace, bytes);
        else
            begin_trial(pace, bytes);
    }
    return (fipc_load_relaxed(&pace->chosen) ^ fipc_load_relaxed(&pace->tries)) != 0;
}

/* The average of `mean`, or 0, and one more, which is the count-th. */
static uint64_t averaged(uint64_t mean, uint64_t ticks, uint64_t count) {
    if (mean == 0)
        return ticks;
    count = count < MOVES ? count : MOVES;
    ticks = ticks < OUTLIER * mean ? ticks : OUTLIER * mean;
    return (mean * (count - 1) + ticks) / count + 1;
}

void fipc_copy_note(struct fipc_copy_pace *pace, bool way, uint64_t bytes, uint64_t ticks) {
    uint64_t mean = fipc_load_relaxed(&pace->ticks[way]);
    uint32_t left = fipc_load_relaxed(&pace->left), trial = trial_copies(pace, bytes);

    left = left > 0 ? left - 1 : 0;
    ticks = ticks < UINT64_MAX >> 20 ? (ticks << 20) / bytes : UINT32_MAX;
    ticks = ticks < UINT32_MAX / OUTLIER ? ticks + 1 : UINT32_MAX / OUTLIER;
    if (fipc_load_relaxed(&pace->tries)) {
        /* The first half has no part in it. */
        mean = left + 1 >= trial / 2 ? ticks : averaged(mean, ticks, trial / 2 - left);
        if (left + HOPELESS_COPIES <= trial &&
            mean > hopeless_of(pace, way, bytes) * fipc_load_relaxed(&pace->ticks[!way]))
            left = 0;
    } else if (left + trial / 2 < fipc_load_relaxed(&pace->rest) * trial) {
        /* Behind a trial as much does not count. */
        mean = averaged(mean, ticks, MOVES);
        if (left > REST_FIRST_TRIALS * trial &&
            mean > WORSE * (uint64_t)fipc_load_relaxed(&pace->chosen_ticks))
            left = 0;
    }
    fipc_store_relaxed(&pace->ticks[way], (uint32_t)mean);
    fipc_store_relaxed(&pace->left, left);
}

void fipc_copy_note_both(struct fipc_copy_pace *pace, struct fipc_copy_pace *through, bool past,
                         bool by_library, uint64_t bytes, uint64_t ticks) {
    bool is_trial = !past && fipc_load_relaxed(&through->tries) != 0;

    /* A trial of the slower way through the caches says nothing of the way past them. */
    if (!is_trial)
        fipc_copy_note(pace, past, bytes, ticks);
    if (!past)
        fipc_copy_note(through, by_library, bytes, ticks);
}

void fipc_copy_keep(bool other) {
    for (uint32_t kind = 0; kind < FIPC_COPY_KINDS; kind++)
        for (uint32_t i = 0; i < CLASS_COUNT; i++) {
            struct fipc_copy_pace *pace = &paces[kind][i];

            fipc_store_relaxed(&pace->chosen, other);
            fipc_store_relaxed(&pace->chosen_ticks, UINT32_MAX); /* it never gets worse */
            fipc_store_relaxed(&pace->tries, 0);
            fipc_store_relaxed(&pace->rest, REST_MOST_TRIALS);
            fipc_store_relaxed(&pace->left, UINT32_MAX / 2);
        }
}

struct fipc_copy_pace *fipc_copy_pace_of(enum fipc_copy_kind kind, uint64_t bytes) {
    bool out = kind == FIPC_COPY_OUT_PAST_OR_THROUGH;

    if (bytes < (out ? FIPC_COPY_PAST_BYTES : FIPC_COPY_LEARN_BYTES) ||
        bytes >= (out ? FIPC_COPY_OUT_PAST_BYTES : FIPC_COPY_PAST_BYTES))
        return NULL;
    return &paces[kind][fipc_log2_ceil(bytes) - LEAST_CLASS];
}

void fipc_copy(void *to, const void *from, uint64_t bytes) {
    struct fipc_copy_pace *pace = fipc_copy_pace_of(FIPC_COPY_PAST_OR_THROUGH, bytes);
    struct fipc_copy_pace *through = fipc_copy_pace_of(FIPC_COPY_LIBRARY_OR_LINES, bytes);
    uint64_t ticks;
    bool past, by_library;

    if (bytes < FIPC_COPY_LEARN_BYTES) {
        memcpy(to, from, bytes);
        return;
    }
    if (pace == NULL) {
        fipc_copy_past(to, from, bytes);
        return;
    }
    past = fipc_copy_choose(pace, bytes);
    by_library = !past && fipc_copy_choose(through, bytes);
    ticks = fipc_ticks();
    if (past)
        fipc_copy_past(to, from, bytes);
    else if (by_library)
        memcpy(to, from, bytes);
    else
        fipc_copy_lines(to, from, bytes);
    ticks = fipc_ticks() - ticks;
    fipc_copy_note_both(pace, through, past, by_library, bytes, ticks);
}

bool fipc_copy_is_past(uint64_t bytes) {
    const struct fipc_copy_pace *pace = fipc_copy_pace_of(FIPC_COPY_PAST_OR_THROUGH, bytes);

    return pace != NULL && fipc_load_relaxed(&pace->chosen) != 0;
}

void fipc_copy_out(void *to, const void *from, uint64_t bytes, uint64_t whole_bytes) {
    struct fipc_copy_pace *pace = fipc_copy_pace_of(FIPC_COPY_OUT_PAST_OR_THROUGH, whole_bytes);
    bool past = whole_bytes >= FIPC_COPY_PAST_BYTES;
    uint64_t ticks;

    /* Of a message's beginning and end, which may be small, it learns nothing. */
    if (pace != NULL && bytes >= OUT_LEARN_BYTES)
        past = fipc_copy_choose(pace, bytes);
    else
        pace = NULL;
    if (past)
        fipc_copy_past(to, from, bytes);
    else
        fipc_copy_lines(to, from, bytes);
    if (pace == NULL)
        return;
    /* From the end of one to the end of the next, for what counts is what comes of it: past the caches
     * it took less time for itself, and made the sender wait for memory. */
    ticks = fipc_ticks();
    fipc_copy_note(pace, past, bytes, ticks - fipc_load_relaxed(&pace->noted_ticks));
    fipc_store_relaxed(&pace->noted_ticks, ticks);
}
