/* small.c - small messages through rings whose records look like fastipc's: a header of eight
 * bytes, the payload, padding to eight. Rings have one sender and one receiver, who never
 * sleep; each side may take a lock for each message, for which nobody else asks. */
#include "floor.h"

#define MESSAGE_BYTES 64
#define HEADER_BYTES 8
#define KIND_MESSAGE UINT64_C(1)
#define KIND_PAD UINT64_C(2)
/* As a pipe of fastipc has it. */
#define RING_BYTES (128 * FLOOR_KIB)
/* 1 looks as often as it can; this many, about every 10 us. */
#define PATIENCE 256

/* What one side shares. The lock lies apart from the position: the other side looks at the
 * position all the time, and never at the lock. */
struct side {
    _Alignas(FLOOR_CACHE_LINE) uint32_t lock; /* 1: taken; only by this side */
    _Alignas(FLOOR_CACHE_LINE) uint64_t pos;  /* bytes written or read; written by this side with
                                               * release, read by the other with acquire */
};

struct ring {
    struct side put;
    struct side get;
    _Alignas(FLOOR_CACHE_LINE) uint8_t data[RING_BYTES];
};

/* One process's end of a ring, with what it saw last of the other side's position. */
struct end {
    struct ring *ring;
    uint64_t seen_pos;
    bool locks;
    unsigned patience; /* rounds of waiting before it looks again */
};

static void take(const struct end *end, struct side *side) {
    uint32_t expected = 0;

    if (end->locks && !__atomic_compare_exchange_n(&side->lock, &expected, 1, false,
                                                   __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
        floor_wrong("a lock was taken that nobody else asks for");
}

static void give_back(const struct end *end, struct side *side) {
    if (end->locks)
        (void)__atomic_exchange_n(&side->lock, 0, __ATOMIC_SEQ_CST);
}

static void write_header(uint8_t *at, uint64_t length, uint64_t kind) {
    uint64_t header = length | kind << 32;

    memcpy(at, &header, sizeof(header));
}

/* False: there is no room, and end->seen_pos is why. */
static bool try_put(struct end *end, const void *message, uint64_t length) {
    struct ring *ring = end->ring;
    uint64_t need = (HEADER_BYTES + length + 7) & ~UINT64_C(7);
    uint64_t pos, tail, skip;

    take(end, &ring->put);
    pos = ring->put.pos;
    tail = RING_BYTES - pos % RING_BYTES;
    skip = tail < need ? tail : 0;
    if (pos + skip + need - end->seen_pos > RING_BYTES) {
        end->seen_pos = __atomic_load_n(&ring->get.pos, __ATOMIC_ACQUIRE);
        if (pos + skip + need - end->seen_pos > RING_BYTES) {
            give_back(end, &ring->put);
            return false;
        }
    }
    if (skip != 0)
        write_header(ring->data + pos % RING_BYTES, skip - HEADER_BYTES, KIND_PAD);
    pos += skip;
    write_header(ring->data + pos % RING_BYTES, length, KIND_MESSAGE);
    memcpy(ring->data + pos % RING_BYTES + HEADER_BYTES, message, length);
    __atomic_store_n(&ring->put.pos, pos + need, __ATOMIC_RELEASE);
    give_back(end, &ring->put);
    return true;
}

/* False: there is no message, and end->seen_pos is why. */
static bool try_get(struct end *end, void *message, uint64_t room) {
    struct ring *ring = end->ring;
    uint64_t pos, header, length;

    take(end, &ring->get);
    pos = ring->get.pos;
    if (pos == end->seen_pos) {
        end->seen_pos = __atomic_load_n(&ring->put.pos, __ATOMIC_ACQUIRE);
        if (pos == end->seen_pos) {
            give_back(end, &ring->get);
            return false;
        }
    }
    memcpy(&header, ring->data + pos % RING_BYTES, sizeof(header));
    if (header >> 32 == KIND_PAD) {
        pos += HEADER_BYTES + (uint32_t)header;
        memcpy(&header, ring->data + pos % RING_BYTES, sizeof(header));
    }
    length = (uint32_t)header;
    if (header >> 32 != KIND_MESSAGE || length > room)
        floor_wrong("a record is damaged");
    memcpy(message, ring->data + pos % RING_BYTES + HEADER_BYTES, length);
    __atomic_store_n(&ring->get.pos, pos + ((HEADER_BYTES + length + 7) & ~UINT64_C(7)),
                     __ATOMIC_RELEASE);
    give_back(end, &ring->get);
    return true;
}

/* Each look at the other side's position takes its cache line away from it. */
static void wait_patiently(const struct end *end, unsigned *rounds) {
    for (unsigned i = 0; i < end->patience; i++)
        floor_spin(rounds);
}

static void put(struct end *end, const void *message) {
    unsigned rounds = 0;

    while (!try_put(end, message, MESSAGE_BYTES))
        do
            wait_patiently(end, &rounds);
        while (__atomic_load_n(&end->ring->get.pos, __ATOMIC_RELAXED) == end->seen_pos);
}

static void get(struct end *end, void *message) {
    unsigned rounds = 0;

    while (!try_get(end, message, MESSAGE_BYTES))
        do
            wait_patiently(end, &rounds);
        while (__atomic_load_n(&end->ring->put.pos, __ATOMIC_RELAXED) == end->seen_pos);
}

/* A message carries its number in its first eight bytes. */
static void check(const void *message, uint64_t number) {
    uint64_t found;

    memcpy(&found, message, sizeof(found));
    if (found != number)
        floor_wrong("a message was lost, repeated or damaged");
}

static void receive(void *with, uint64_t start, uint64_t count) {
    uint8_t message[MESSAGE_BYTES];

    for (uint64_t number = start; number < start + count; number++) {
        get(with, message);
        check(message, number);
    }
}

static void send(void *with, uint64_t start, uint64_t count) {
    uint8_t message[MESSAGE_BYTES] = {0};

    for (uint64_t number = start; number < start + count; number++) {
        memcpy(message, &number, sizeof(number));
        put(with, message);
    }
}

static double throughput(bool locks, unsigned patience, double seconds) {
    struct end end = {floor_shared(sizeof(struct ring)), 0, locks, patience};
    struct floor_pair pair;
    double rate;

    floor_pair_start(&pair, receive, send, &end, 0, 1);
    rate = floor_pair_rate(&pair, seconds);
    floor_pair_end(&pair);
    return rate;
}

struct two_rings {
    struct end there;
    struct end back;
    int64_t *times_ns; /* of each round trip of the lap */
};

static void ask(void *with, uint64_t start, uint64_t count) {
    struct two_rings *rings = with;
    uint8_t message[MESSAGE_BYTES] = {0};
    int64_t before_ns = floor_now_ns();

    for (uint64_t number = start; number < start + count; number++) {
        int64_t now_ns;

        memcpy(message, &number, sizeof(number));
        put(&rings->there, message);
        get(&rings->back, message);
        check(message, number);
        now_ns = floor_now_ns();
        rings->times_ns[number - start] = now_ns - before_ns;
        before_ns = now_ns;
    }
}

static void echo(void *with, uint64_t start, uint64_t count) {
    struct two_rings *rings = with;
    uint8_t message[MESSAGE_BYTES];

    for (uint64_t number = start; number < start + count; number++) {
        get(&rings->there, message);
        put(&rings->back, message);
    }
}

static double round_trip(const char *name, bool locks, double seconds) {
    struct two_rings rings = {
        {floor_shared(sizeof(struct ring)), 0, locks, 1},
        {floor_shared(sizeof(struct ring)), 0, locks, 1},
        floor_private(FLOOR_MOST_TIMES * sizeof(int64_t)),
    };
    struct floor_pair pair;
    double p50_us;

    floor_pair_start(&pair, ask, echo, &rings, 0, 1);
    p50_us = floor_pair_times(&pair, name, rings.times_ns, seconds);
    floor_pair_end(&pair);
    return p50_us;
}

int main(int argc, char **argv) {
    struct floor_run run;

    floor_begin(argc, argv, &run);
    if (strcmp(run.name, "throughput") == 0) {
        floor_print("without_locks", throughput(false, 1, run.seconds / 4));
        /* What it would cost nobody but the latency: let messages gather before looking. */
        floor_print("when_patient", throughput(true, PATIENCE, run.seconds / 4));
        floor_print("value", throughput(true, 1, run.seconds / 2));
    } else if (strcmp(run.name, "roundtrip") == 0) {
        (void)round_trip("with_locks_", true, run.seconds / 2);
        floor_print("value", round_trip("", false, run.seconds / 2));
    } else {
        floor_wrong("no such measurement");
    }
    return 0;
}
