/* copy.c - large messages: one memcpy alone, bytes streamed through a shared ring into a private
 * buffer, and arrays copied into shared blocks and summed there. Who waits here spins. */
#include "floor.h"

#define MOST_SOURCES 64

/* Some vectors of sums, so that no addition waits for the one before it. */
typedef double lanes __attribute__((vector_size(64)));
#define LANES (sizeof(lanes) / sizeof(double))

/* The widest instructions of the machine that this runs on, where the compiler can do that. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define WIDEST __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define WIDEST
#endif

/* A position that one process writes with release, and the other reads with acquire. */
struct position {
    _Alignas(FLOOR_CACHE_LINE) uint64_t pos;
};

struct shared {
    struct position put; /* bytes, or blocks, that the sender has written */
    struct position got; /* that the receiver is done with */
    _Alignas(FLOOR_CACHE_LINE) uint8_t data[];
};

struct large {
    struct shared *shared;
    size_t size;                    /* bytes of a message */
    size_t ring_bytes, chunk_bytes; /* of a ring */
    unsigned blocks;                /* or how many blocks there are */
    unsigned sources;
    uint8_t *source[MOST_SOURCES]; /* the sender takes them in turn */
    uint8_t *buffer;               /* the receiver's */
    double sum;                    /* of a source, without its stamp */
};

static void wait_for(const struct position *other, uint64_t least) {
    unsigned rounds = 0;

    while (__atomic_load_n(&other->pos, __ATOMIC_ACQUIRE) < least)
        floor_spin(&rounds);
}

/* The source of this message, which now carries its number at both ends. */
static const uint8_t *stamped(const struct large *large, uint64_t number) {
    uint8_t *source = large->source[number % large->sources];

    memcpy(source, &number, sizeof(number));
    memcpy(source + large->size - sizeof(number), &number, sizeof(number));
    return source;
}

static void check(const struct large *large, const uint8_t *message, uint64_t number) {
    uint64_t first, last;

    memcpy(&first, message, sizeof(first));
    memcpy(&last, message + large->size - sizeof(last), sizeof(last));
    if (first != number || last != number)
        floor_wrong("a message was lost, repeated or damaged");
}

static void stream_out(void *with, uint64_t start, uint64_t count) {
    struct large *large = with;
    struct shared *shared = large->shared;
    uint64_t pos = shared->put.pos;

    for (uint64_t number = start; number < start + count; number++) {
        const uint8_t *message = stamped(large, number);

        for (size_t done = 0; done < large->size; done += large->chunk_bytes) {
            if (pos + large->chunk_bytes > large->ring_bytes)
                wait_for(&shared->got, pos + large->chunk_bytes - large->ring_bytes);
            memcpy(shared->data + pos % large->ring_bytes, message + done, large->chunk_bytes);
            pos += large->chunk_bytes;
            __atomic_store_n(&shared->put.pos, pos, __ATOMIC_RELEASE);
        }
    }
}

static void stream_in(void *with, uint64_t start, uint64_t count) {
    struct large *large = with;
    struct shared *shared = large->shared;
    uint64_t pos = shared->got.pos;

    for (uint64_t number = start; number < start + count; number++) {
        for (size_t done = 0; done < large->size; done += large->chunk_bytes) {
            wait_for(&shared->put, pos + large->chunk_bytes);
            memcpy(large->buffer + done, shared->data + pos % large->ring_bytes,
                   large->chunk_bytes);
            pos += large->chunk_bytes;
            __atomic_store_n(&shared->got.pos, pos, __ATOMIC_RELEASE);
        }
        check(large, large->buffer, number);
    }
}

WIDEST static double sum_of(const double *values, size_t count) {
    const lanes *at = (const lanes *)(const void *)values;
    const lanes *end = at + count / LANES;
    lanes sums[4] = {{0}};
    double sum = 0;

    for (; at + 4 <= end; at += 4)
        for (int i = 0; i < 4; i++)
            sums[i] += at[i];
    for (; at < end; at++)
        sums[0] += *at;
    for (size_t i = 0; i < LANES; i++)
        sum += (sums[0][i] + sums[1][i]) + (sums[2][i] + sums[3][i]);
    return sum;
}

static void copy_arrays(void *with, uint64_t start, uint64_t count) {
    struct large *large = with;
    struct shared *shared = large->shared;
    uint64_t done = shared->put.pos;

    for (uint64_t number = start; number < start + count; number++, done++) {
        double *source = (double *)(void *)large->source[number % large->sources];

        source[0] = (double)number;
        if (done >= large->blocks)
            wait_for(&shared->got, done + 1 - large->blocks);
        memcpy(shared->data + done % large->blocks * large->size, source, large->size);
        __atomic_store_n(&shared->put.pos, done + 1, __ATOMIC_RELEASE);
    }
}

static void sum_arrays(void *with, uint64_t start, uint64_t count) {
    struct large *large = with;
    struct shared *shared = large->shared;
    uint64_t done = shared->got.pos;

    for (uint64_t number = start; number < start + count; number++, done++) {
        const uint8_t *block = shared->data + done % large->blocks * large->size;

        wait_for(&shared->put, done + 1);
        /* Whole numbers: exact in whatever order they are added. */
        if (sum_of((const double *)(const void *)block, large->size / sizeof(double)) !=
            large->sum + (double)number)
            floor_wrong("an array was lost, repeated or damaged");
        __atomic_store_n(&shared->got.pos, done + 1, __ATOMIC_RELEASE);
    }
}

static void copy_alone(void *with, uint64_t start, uint64_t count) {
    struct large *large = with;

    for (uint64_t number = start; number < start + count; number++) {
        memcpy(large->buffer, stamped(large, number), large->size);
        check(large, large->buffer, number);
    }
}

static void make_sources(struct large *large, bool arrays) {
    for (unsigned i = 0; i < large->sources; i++) {
        large->source[i] = floor_private(large->size);
        for (size_t at = 0; at < large->size; at += sizeof(double)) {
            double value = (double)(at / sizeof(double) % 1021);

            if (arrays)
                memcpy(large->source[i] + at, &value, sizeof(value));
            else
                memset(large->source[i] + at, (int)(at / 8 % 251), sizeof(double));
        }
    }
    if (arrays)
        large->sum =
            sum_of((const double *)(const void *)large->source[0], large->size / sizeof(double));
}

/* Bytes a second; a `shared` of its own for each try, so that none begins where another ended. */
static double rate_of(struct large *large, floor_lap *ours, floor_lap *theirs, size_t data_bytes,
                      double seconds) {
    struct floor_pair pair;
    double rate;

    large->shared = floor_shared(sizeof(struct shared) + data_bytes);
    floor_pair_start(&pair, ours, theirs, large, 0, 1);
    rate = floor_pair_rate(&pair, seconds) * (double)large->size;
    floor_pair_end(&pair);
    floor_free(large->shared, sizeof(struct shared) + data_bytes);
    return rate;
}

/* The best of some rings; what is best depends on the caches. */
static void stream(struct large *large, double seconds) {
    static const size_t ring_kib[] = {128, 256, 512, 1024}, parts[] = {4, 8, 16};
    char name[64];
    double best = 0;

    large->buffer = floor_private(large->size);
    for (size_t i = 0; i < 4; i++)
        for (size_t k = 0; k < 3; k++) {
            double rate;

            large->ring_bytes = ring_kib[i] * FLOOR_KIB;
            large->chunk_bytes = large->ring_bytes / parts[k];
            rate = rate_of(large, stream_in, stream_out, large->ring_bytes, seconds / 12);
            snprintf(name, sizeof(name), "ring_%zuKiB_chunk_%zuKiB", ring_kib[i],
                     large->chunk_bytes / FLOOR_KIB);
            floor_print(name, rate);
            best = rate > best ? rate : best;
        }
    floor_print("value", best);
}

/* The best of some numbers of blocks; fewer may stay in a cache, more may keep both busy. */
static void copy_and_sum(struct large *large, double seconds) {
    char name[64];
    double best = 0;

    for (large->blocks = 2; large->blocks <= 4; large->blocks++) {
        double rate =
            rate_of(large, sum_arrays, copy_arrays, large->blocks * large->size, seconds / 3);

        snprintf(name, sizeof(name), "blocks_%u", large->blocks);
        floor_print(name, rate);
        best = rate > best ? rate : best;
    }
    floor_print("value", best);
}

static void memcpy_alone(struct large *large, double seconds) {
    large->buffer = floor_private(large->size);
    floor_print("value", floor_rate_alone(copy_alone, large, seconds) * (double)large->size);
}

int main(int argc, char **argv) {
    struct floor_run run;
    struct large large = {0};

    floor_begin(argc, argv, &run);
    if (run.size == 0 || run.size % FLOOR_MIB != 0)
        floor_wrong("the size must be so many times 1 MiB");
    if (run.sources == 0 || run.sources > MOST_SOURCES)
        floor_wrong("the number of sources must be from 1 to 64");
    large.size = run.size;
    large.sources = run.sources;
    make_sources(&large, strcmp(run.name, "copy-sum") == 0);
    if (strcmp(run.name, "memcpy") == 0)
        memcpy_alone(&large, run.seconds);
    else if (strcmp(run.name, "stream") == 0)
        stream(&large, run.seconds);
    else if (strcmp(run.name, "copy-sum") == 0)
        copy_and_sum(&large, run.seconds);
    else
        floor_wrong("no such measurement");
    return 0;
}
