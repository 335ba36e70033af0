/* layout.h - every struct that lies in shared memory, and the constants that
 * size them. PROTOCOL.md is the law that this file writes down in C; a change
 * here changes it, and FIPC_FORMAT_VERSION, in the same commit. Only fixed-width
 * integers: no pointer, size_t, bool, enum or deadline, and a pid only to be shown. */
#ifndef FIPC_LAYOUT_H
#define FIPC_LAYOUT_H

#include "base.h"

#define FIPC_MAGIC UINT64_C(0x0a31637069747366)
#define FIPC_FORMAT_VERSION 5

#define FIPC_PAGE 4096
#define FIPC_CACHE_LINE 64

/* What a segment is for. */
#define FIPC_KIND_QUEUE 1
#define FIPC_KIND_CONN 2

/* Owner words name a slot by number + 1, so that 0 means nobody. */
#define FIPC_SLOT_COUNT 4096
#define FIPC_SLOT_FREE 0
#define FIPC_SLOT_USED 1
#define FIPC_SLOT_DEAD 2

/* Lock word: slot + 1 in 13 bits, the slot's generation in 18, one bit for
 * "somebody waits". */
#define FIPC_LOCK_SLOT_BITS 13
#define FIPC_LOCK_GEN_BITS 18
#define FIPC_LOCK_WAITERS (UINT32_C(1) << 31)
#define FIPC_LOCK_SLOT_MASK ((UINT32_C(1) << FIPC_LOCK_SLOT_BITS) - 1)
#define FIPC_LOCK_GEN_MASK ((UINT32_C(1) << FIPC_LOCK_GEN_BITS) - 1)

/* What one side of a channel has done so far. Positions run free in 64 bits. */
struct fipc_side_copy_shm {
    uint64_t pos;   /* bytes written (put side) or read (get side) */
    uint64_t count; /* items put or got */
    uint64_t ring;  /* FIPC_RING_REF of the ring that pos lies in */
};

/* Positions start here, so that an ordinal of 0 means "no record". */
#define FIPC_POS_FIRST 64

/* One side of a channel: its lock and, behind it, its state in two copies.
 * copy[gen & 1] is in force; the owner of the lock fills the other one and
 * publishes it with one release store of gen. Exactly one cache line. */
struct fipc_side_shm {
    uint32_t lock;                     /* lock word, see lock.h */
    uint32_t gen;                      /* written by the lock's owner */
    struct fipc_side_copy_shm copy[2]; /* written by the lock's owner, read by all */
    uint32_t sleepers;                 /* see wait.h: those of the OTHER side who wait for
                                        * gen to move; a futex word */
    uint32_t flags;                    /* FIPC_SIDE_*; set under the side's lock, never
                                        * cleared */
};

/* Put side: somebody asked for fileno(). */
#define FIPC_SIDE_ARMED UINT32_C(1)
/* Put side: shut down, nothing more is put. Get side: nothing more is got either, what
 * was queued from fipc_channel_shm.drain_from on is given up. */
#define FIPC_SIDE_SHUT UINT32_C(2)

/* The bytes queued, kept beside the copies for queues with a byte limit:
 * bytes[gen & 1] belongs to copy[gen & 1]. */
struct fipc_side_bytes_shm {
    uint64_t bytes[2];
};

/* A channel: records flow from its put side to its get side. */
struct fipc_channel_shm {
    struct fipc_side_shm put; /* the producers' lock and state */
    struct fipc_side_shm get; /* the consumers' lock and state */
    /* A cache line that producers write. */
    struct fipc_side_bytes_shm put_bytes;
    uint64_t items_high;         /* the most items and bytes queued that a side has seen when */
    uint64_t bytes_high;         /* it looked how far the other one is */
    uint64_t block_bytes_put;    /* bytes of messages that went in blocks; for stats() */
    uint64_t send_turn;          /* owner word of who sends a message in fragments, or 0 */
    uint32_t send_turn_sleepers; /* as sleepers above: those who wait for the turn */
    uint32_t token;              /* 1: the armed doorbell holds a byte; under the put lock */
    uint32_t recoveries;         /* locks taken over from the dead */
    uint32_t put_spare;
    /* One that consumers write. */
    struct fipc_side_bytes_shm get_bytes;
    uint64_t block_bytes_got;
    uint64_t drain_from; /* the get count at an immediate shutdown; before get's FIPC_SIDE_SHUT */
    uint64_t recv_turn;  /* owner word of who receives a message in fragments, or 0 */
    uint32_t recv_turn_sleepers;
    uint32_t close_epoch; /* bumped by each close of a receiving end */
    uint32_t late_wakes;  /* rechecks that found something; only for diagnosis */
    uint32_t get_spare[3];
};

/* Who is attached. The truth is a file lock on byte FIPC_SLOT_LOCK_POS + n of the
 * memory file; this only counts generations and says whether a sweep is due. The rest is
 * for stats() and decides nothing. One cache line, so that two processes that count here
 * do not disturb each other. */
struct fipc_slot_shm {
    uint32_t gen;        /* written by the holder of the file lock */
    uint32_t state;      /* FIPC_SLOT_FREE, _USED, or _DEAD: not swept to the end; likewise */
    uint64_t taken[2];   /* for each channel, messages that its owners, one after the other,
                          * took; written under the get lock before the publish */
    uint64_t given[2];   /* how many of them reached the caller; one thread at a time */
    uint32_t pid;        /* of the owner, in its own pid namespace */
    uint32_t getters[2]; /* its threads that sleep for a record of the channel, */
    uint32_t putters[2]; /* and those that sleep for room in it; fetch-and-add */
    uint32_t spare;
};

/* Position of slot 0's file lock; far behind every byte of content. */
#define FIPC_SLOT_LOCK_POS (INT64_C(1) << 60)

/* A block of the arena. */
struct fipc_block_shm {
    uint64_t owner;     /* 0 free, else FIPC_OWNER(slot, generation) */
    uint64_t ordinal;   /* position of the record that carries it; a ring's first
                         * position; 0: none yet. With `owner`: who owns the block */
    uint64_t place;     /* offset in the file (page aligned) | size class (low bits) */
    uint64_t populated; /* bytes with memory behind them (multiple of a page) | kind in
                         * the low bits; written by the owner */
};

#define FIPC_BLOCK_KIND_DATA 0
#define FIPC_BLOCK_KIND_RING 1 /* | channel << 1 */
#define FIPC_BLOCK_LOW_MASK UINT64_C(0xfff)

/* A page of block descriptors of one size class. */
#define FIPC_GROUP_BLOCKS 126
struct fipc_group_shm {
    uint32_t size_class; /* log2 of the blocks' size in bytes; under the arena lock */
    uint32_t used;       /* descriptors in use so far; likewise, store-release */
    uint64_t free_hint[2];
    uint64_t spare[5];
    struct fipc_block_shm block[FIPC_GROUP_BLOCKS];
};

/* Size classes are powers of two, 8 KiB to 1 TiB. */
#define FIPC_CLASS_MIN 13
#define FIPC_CLASS_MAX 40
#define FIPC_CLASS_COUNT 28
#define FIPC_GROUP_COUNT 16384
#define FIPC_GROUP_INLINE 32
/* In a group's directory entry: its page was given back. */
#define FIPC_GROUP_RETIRED (UINT32_C(1) << 31)

/* Where a segment must end. */
#define FIPC_SPACE_MAX (UINT64_C(1) << 42)
/* Free blocks keep so much memory warm once traffic has stopped; with the last ring
 * (1 MiB at most) and the first page below the 2 MiB that a drained queue may hold. */
#define FIPC_FREE_KEEP_BYTES (UINT64_C(512) << 10)
/* Beyond it, memory that is wanted back soon after it was given away is kept, and so much
 * at most (or a sixteenth of the machine's memory): how many blocks a short queue has under
 * way goes up and down. Once some of it is wanted back, all is kept that was given away until then:
 * block by block, each of which takes as long to be fetched as 13 to be sent that are warm, arrays of
 * 64 MiB came at 9 GB/s in the place of 18 for the first 40 of them. With three blocks kept, a Queue(8) of 1 MiB messages gave memory
 * back and fetched it again for every other one, and moved 3 GB/s in the place of 20 to 30.
 * Eight blocks of 64 MiB. */
#define FIPC_WARM_MAX_BYTES (UINT64_C(512) << 20)

/* Block numbers: group * 128 + index; 0 is the first ring. */
#define FIPC_BLOCK_ID(group, index) ((uint32_t)(group) * 128 + (uint32_t)(index))
#define FIPC_BLOCK_GROUP(id) ((id) >> 7)
#define FIPC_BLOCK_INDEX(id) ((id) & 127)

/* Owner words of blocks and turns. */
#define FIPC_OWNER(slot, gen) (((uint64_t)(gen) << 16) | (uint64_t)((slot) + 1))
#define FIPC_OWNER_SLOT(word) ((uint32_t)((word) & 0xffff) - 1)
#define FIPC_OWNER_GEN(word) ((uint32_t)((word) >> 16))

/* Ring references: the block, and a count of links that tells two uses apart. */
#define FIPC_RING_REF(link, block) (((uint64_t)(link) << 32) | (uint64_t)(block))
#define FIPC_RING_REF_BLOCK(ref) ((uint32_t)(ref))
#define FIPC_RING_REF_LINK(ref) ((uint32_t)((ref) >> 32))

/* What is free of one size class. All that taking and releasing a block count, so that
 * they leave the arena's other cache lines to those who read them. */
struct fipc_class_shm {
    uint64_t free_bytes; /* hint: bytes with memory behind them in free blocks */
    int32_t free_blocks; /* hint */
    uint32_t group;      /* hint: one that has some */
};

/* The arena: what of the file is given out. Same lock and two copies as a side:
 * copy.pos is the end of the space given out, copy.count the number of groups. */
struct fipc_arena_shm {
    struct fipc_side_shm state;
    uint32_t trim_due;       /* hint: free blocks passed the limit */
    uint32_t groups_retired; /* hint: groups whose page was given back */
    uint64_t warm_bytes;     /* hint: memory of free blocks that was wanted back lately */
    uint64_t given_back;     /* hint: memory of blocks set free that was given away meanwhile */
    int64_t given_ns;        /* hint: when some of it was given away last */
    uint64_t spare[4];
    struct fipc_class_shm classes[FIPC_CLASS_COUNT]; /* from FIPC_CLASS_MIN on */
    uint32_t tail[FIPC_CLASS_COUNT]; /* of each class, its last group + 1; arena lock */
};

/* The first page. Written once by the creator, except where a field says who. */
struct fipc_header_shm {
    uint64_t magic; /* written last, with release: the segment is complete */
    uint32_t version;
    uint32_t kind;
    uint8_t id[16];     /* random; names the segment in pickles */
    uint64_t maxsize;   /* items, or 0 */
    uint64_t max_bytes; /* bytes, or 0 */
    uint32_t slot_high; /* slots ever used; grows by compare and swap */
    uint32_t flags;
    char label[64];         /* UTF-8, zero-terminated */
    uint64_t done_count;    /* task_done() calls; grows by compare and swap */
    uint32_t last_dead_pid; /* of the slot swept last; written by sweepers */
    uint32_t done_sleepers; /* as fipc_side_shm.sleepers: those in join() */
    uint32_t lent;          /* handles pickled outside of spawning; fetch-and-add */
    uint32_t claimed;       /* how many of them were unpickled; fetch-and-add */
    uint64_t spare[6];
};

/* A record: this header, then its payload, padded to 8 bytes. */
struct fipc_record_shm {
    uint32_t length; /* payload bytes, without this header */
    uint16_t kind;   /* FIPC_RECORD_* */
    uint16_t tag;    /* the codec's; not read below Cython */
};

#define FIPC_RECORD_BYTES 8
#define FIPC_RECORD_INLINE 1  /* the payload is the message */
#define FIPC_RECORD_BLOCK 2   /* the payload begins with struct fipc_block_ref_shm's */
#define FIPC_RECORD_PAD 3     /* nothing: skip it, to the ring's end or to a line */
#define FIPC_RECORD_LINK 4    /* the payload is the next ring's reference */
#define FIPC_RECORD_FIRST 5   /* first fragment: 8 bytes of total length, then bytes */
#define FIPC_RECORD_MIDDLE 6  /* a further fragment */
#define FIPC_RECORD_LAST 7    /* the last fragment */
#define FIPC_RECORD_ABANDON 8 /* the fragments before it will never be completed */

/* A message that travels in blocks: so many of these, then its inline rest. */
struct fipc_block_ref_shm {
    uint32_t block;
    uint32_t refs; /* how many there are; the same in each */
    uint64_t size_bytes;
};

/* The most blocks of one message; more buffers share one. */
#define FIPC_REFS_MAX 32

/* A link record and the pad that may have to stand before it fit here; every
 * ring keeps so much free, so that growing and abandoning never wait for room. */
#define FIPC_LINK_RESERVE 32

/* Where things lie in the file. What a segment is born with are two pages side by side,
 * and the first rings before them, all among the first 64 pages: the kernel finds these
 * through one node of its tree, and two nodes more cost 1.5 us at birth. */
#define FIPC_OFF_RINGS 8192   /* the first ring(s); before them nothing, since a place is not 0 */
#define FIPC_OFF_GROUP0 24576 /* the first group's page */
#define FIPC_OFF_HEADER 28672
#define FIPC_OFF_CHANNEL0 29184
#define FIPC_OFF_CHANNEL1 29568
#define FIPC_OFF_ARENA 29952
#define FIPC_OFF_GROUP_DIR0 30720 /* page numbers of the first FIPC_GROUP_INLINE groups */
#define FIPC_OFF_SLOTS 30976
#define FIPC_OFF_GROUP_DIR 294912
#define FIPC_OFF_SPACE 360448 /* blocks, rings and groups; the file's length at birth */

/* Chunk 0 maps [0, 1 MiB), chunk k maps [1 MiB << (k - 1), 1 MiB << k). */
#define FIPC_CHUNK0_LOG2 20
#define FIPC_CHUNK_COUNT 24

/* Messages up to here lie inline in the ring: copying 4 KiB under a lock takes
 * about 0.1 us, as long as taking a block and giving it back. */
#define FIPC_INLINE_MAX 4096

/* The first ring: few pages, since each costs whoever enters first 1.6 us. */
#define FIPC_RING_FIRST_LOG2 13
/* The ring of steady traffic. It wraps. Between two processes, by its size in KiB, medians of 5
 * interleaved measurements: messages of 64 bytes 16: 22.0, 32: 21.1, 64: 21.9, 128: 21.6, 256: 20.3
 * million/s; of 1 KiB 3.7, 3.6, 3.9, 3.8, 3.6; ints 30.9 with all but 256, 30.3. */
#define FIPC_RING_STEADY_LOG2 16
/* Larger ones are written once, for a backlog, and given back when drained. A million ints, put and
 * then drained, took 69 to 70 ms with 256 KiB, 512 KiB, 1, 2 and 4 MiB, and 48.2, 48.9, 50.0, 50.9 and
 * 52.9 MiB of memory. One of them may be left of a queue that is drained (below). */
#define FIPC_RING_MAX_LOG2 20
/* A pipe's ring of steady traffic. 64 bytes: with 32 KiB 21.4, 64: 22.5, 128: 23.2, 256: 22.9 million/s;
 * it takes 26 us to make a pipe and close it with all of them. */
#define FIPC_RING_PIPE_LOG2 17
/* A pipe's ring once large messages stream through it: larger than an L2 cache, so that both ends
 * find it in the L3 and not in the other's L2. Messages of 1 MiB in C: 1 MiB 23 to 29 GB/s,
 * 2 MiB 31 to 33, 512 KiB 11, 128 KiB 8. */
#define FIPC_RING_STREAM_LOG2 21

_Static_assert(sizeof(struct fipc_side_shm) == 64, "a side is one cache line");
_Static_assert(sizeof(struct fipc_channel_shm) == 256, "channel");
_Static_assert(offsetof(struct fipc_channel_shm, put_bytes) == 2 * FIPC_CACHE_LINE &&
                   offsetof(struct fipc_channel_shm, get_bytes) == 3 * FIPC_CACHE_LINE,
               "a line for each side");
_Static_assert(offsetof(struct fipc_arena_shm, classes) == 2 * FIPC_CACHE_LINE,
               "four classes share a line, and no other field with them");
_Static_assert(FIPC_CLASS_COUNT == FIPC_CLASS_MAX - FIPC_CLASS_MIN + 1, "classes");
_Static_assert(sizeof(struct fipc_slot_shm) == FIPC_CACHE_LINE, "slot");
_Static_assert(sizeof(struct fipc_block_shm) == 32, "block");
_Static_assert(sizeof(struct fipc_group_shm) <= FIPC_PAGE, "a group is one page");
_Static_assert(sizeof(struct fipc_record_shm) == FIPC_RECORD_BYTES, "record header");
_Static_assert(FIPC_OFF_CHANNEL0 % 64 == 0 && FIPC_OFF_CHANNEL1 % 64 == 0 &&
                   FIPC_OFF_ARENA % 64 == 0 && FIPC_OFF_SLOTS % 64 == 0,
               "cache lines");
_Static_assert(FIPC_OFF_RINGS % (1 << FIPC_RING_FIRST_LOG2) == 0 &&
                   FIPC_OFF_RINGS + (2 << FIPC_RING_FIRST_LOG2) <= FIPC_OFF_GROUP0,
               "first rings");
_Static_assert(FIPC_OFF_GROUP0 % FIPC_PAGE == 0 && FIPC_OFF_GROUP0 + FIPC_PAGE == FIPC_OFF_HEADER,
               "two pages at birth");
_Static_assert(FIPC_OFF_HEADER + sizeof(struct fipc_header_shm) <= FIPC_OFF_CHANNEL0, "header");
_Static_assert(FIPC_OFF_SLOTS < FIPC_OFF_HEADER + FIPC_PAGE, "first slots");
_Static_assert(FIPC_OFF_CHANNEL0 + sizeof(struct fipc_channel_shm) <= FIPC_OFF_CHANNEL1, "c0");
_Static_assert(FIPC_OFF_CHANNEL1 + sizeof(struct fipc_channel_shm) <= FIPC_OFF_ARENA, "c1");
_Static_assert(FIPC_OFF_ARENA + sizeof(struct fipc_arena_shm) <= FIPC_OFF_GROUP_DIR0, "arena");
_Static_assert(FIPC_OFF_GROUP_DIR0 + 4 * FIPC_GROUP_INLINE <= FIPC_OFF_SLOTS, "dir0");
_Static_assert(FIPC_OFF_SLOTS + FIPC_SLOT_COUNT * FIPC_CACHE_LINE <= FIPC_OFF_GROUP_DIR, "slots");
_Static_assert(FIPC_OFF_GROUP_DIR + 4 * FIPC_GROUP_COUNT <= FIPC_OFF_SPACE, "dir");
_Static_assert(FIPC_OFF_SPACE % FIPC_PAGE == 0, "space");
_Static_assert(FIPC_SLOT_COUNT < (1 << FIPC_LOCK_SLOT_BITS), "slot bits");

#endif
