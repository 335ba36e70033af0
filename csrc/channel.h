/* channel.h - framed records between a put side and a get side: rings, links from
 * ring to ring, counts, limits, the armed doorbell. One look at a time: it takes
 * the side's lock, does one thing or says why not, and never waits for room or for
 * a record; queue.h and conn.h do. */
#ifndef FIPC_CHANNEL_H
#define FIPC_CHANNEL_H

#include "arena.h"
#include "lock.h"
#include "wait.h"

/* This process's view of one ring. */
struct fipc_ring {
    uint64_t ref; /* FIPC_RING_REF; 0: none loaded */
    uint8_t *data;
    uint64_t base_pos; /* the position of its first byte */
    uint64_t size;     /* bytes, a power of two */
};

struct fipc_channel {
    struct fipc_segment *segment;
    struct fipc_channel_shm *shm;
    uint32_t index;
    uint32_t wrap_log2; /* rings up to this size wrap; larger ones are used once */
    uint32_t max_log2;  /* no ring grows beyond this */
    bool grows;         /* when the largest is full: link another (else: full) */
    int bell_read_fd;   /* the doorbell's ends, or -1 */
    int bell_write_fd;
    uint64_t bell_inode; /* of the doorbell, so that a reused number is noticed */
    uint64_t maxsize;    /* items, or UINT64_MAX */
    uint64_t max_bytes;  /* bytes, or UINT64_MAX */
    uint64_t token;      /* fork token that the caches below were filled under */
    uint64_t key;        /* the same for all handles of the channel, and not 0 */
    uint64_t *taken;     /* our slot's counts for this channel */
    uint64_t *given;
    /* Under the put lock: what producers of this process know of the get side. It
     * only moves forward, so an old value errs on the safe side. */
    struct fipc_ring put_ring;
    uint64_t seen_read_pos;
    uint64_t seen_get_count;
    uint32_t want_log2; /* the ring that would help, after -ENOBUFS; also read without */
    /* Under the get lock: what consumers of this process know of the put side. */
    struct fipc_ring get_ring;
    uint64_t seen_write_pos;
    uint64_t seen_from_pos; /* the read position at that look */
    uint64_t seen_items;    /* the most items and bytes queued that such a look found */
    uint64_t seen_bytes;
    uint32_t thin_looks; /* how many looks in a row found little */
    /* The block to map, after -ESTALE of either side. Another thread's may stand here
     * by the time it is read: then the next look says so again. */
    uint32_t map_block;
    uint32_t map_failures; /* since something was put or got */
};

/* Under the get lock: raises the marks of how full the channel was. */
void fipc_channel_note_backlog(struct fipc_channel *channel);

/* Under the get lock, which stands at `from`: how far are the producers? With `blocks`, what lies in
 * blocks counts for the marks, which takes a line of the producers'. */
FIPC_ALWAYS_INLINE void fipc_channel_look_at_producers(struct fipc_channel *channel,
                                                       const struct fipc_side_copy_shm *from,
                                                       bool blocks) {
    struct fipc_side_copy_shm put = fipc_side_read(&channel->shm->put);
    uint64_t bytes = put.pos - from->pos;

    channel->seen_write_pos = put.pos;
    channel->seen_from_pos = from->pos;
    if (blocks)
        bytes += fipc_load_relaxed(&channel->shm->block_bytes_put) -
                 fipc_load_relaxed(&channel->shm->block_bytes_got);
    /* Negative where the put side is damaged. */
    if (fipc_unlikely((int64_t)(put.count - from->count) > (int64_t)channel->seen_items ||
                      (int64_t)bytes > (int64_t)channel->seen_bytes))
        fipc_channel_note_backlog(channel);
}

/* What is put or got under one lock at most: copying 16 KiB takes about 0.5 us. */
#define FIPC_BATCH_BYTES 16384
#define FIPC_BATCH_REFS 64

/* Records to be put together: as they lie in a ring, in private memory. */
struct fipc_run {
    const uint8_t *records;
    uint64_t bytes; /* of them, FIPC_BATCH_BYTES at most; multiple of 8 */
    uint64_t items;
    uint64_t message_bytes;          /* what they count against max_bytes */
    const struct fipc_block *blocks; /* what travels with them, in their order, */
    uint32_t block_count;            /* and how many there are */
    /* Out: how much of it was put, whole records from its beginning. */
    uint64_t put_bytes, put_items, put_message_bytes;
    uint32_t put_blocks;
};

/* One record to put. */
struct fipc_put {
    const void *head; /* first part of the payload, head_bytes of it; may be empty */
    const void *data; /* the rest */
    uint32_t head_bytes;
    uint32_t data_bytes;
    uint16_t kind; /* FIPC_RECORD_* */
    uint16_t tag;
    uint32_t items;                /* what it adds to put_count: 1, or 0 for a fragment */
    uint64_t bytes;                /* what it counts against max_bytes */
    uint64_t turn;                 /* our send turn, or 0: refused while somebody else has one */
    bool control;                  /* may use the reserve */
    struct fipc_block *blocks;     /* what travels with the record, */
    uint32_t block_count;          /* and how many of them */
    struct fipc_block *spare_ring; /* a ring of want_log2 or larger, or NULL; taken
                                    * over when spare_used */
    bool grows_now;                /* use spare_ring although there is room */
    bool spare_used;
    struct fipc_run *run; /* or NULL: the record is the first of these, of which as many
                           * are put as fit; `items` and `bytes` then say what they were */
};

/* One record got. */
struct fipc_got {
    void *buffer; /* the caller's, FIPC_INLINE_MAX bytes */
    uint32_t buffer_bytes;
    uint32_t length; /* of the payload, now in buffer */
    uint16_t kind;
    uint16_t tag;
    struct fipc_block block; /* FIPC_RECORD_BLOCK: the first, ours now like the others
                              * (fipc_channel_got_block()) */
    uint64_t size_bytes;     /* of the message: the inline bytes and those in blocks */
    uint32_t block_count;    /* 0: all of it is in `buffer` */
};

/* Records got together. */
struct fipc_many {
    uint8_t *buffer; /* the caller's, FIPC_BATCH_BYTES, aligned to 8 */
    uint64_t max_items;
    uint32_t bytes; /* of the records that lie in buffer now */
    uint32_t items;
    uint32_t at; /* where in buffer the next one to be read stands */
    uint32_t items_read;
    uint64_t size_bytes; /* of the messages */
};

/* What is inline in a record with blocks stands behind its references. */
FIPC_ALWAYS_INLINE uint32_t fipc_got_rest_off(const struct fipc_got *got) {
    return got->block_count * (uint32_t)sizeof(struct fipc_block_ref_shm);
}

/* How much of the message lies in blocks. */
FIPC_ALWAYS_INLINE uint64_t fipc_got_block_bytes(const struct fipc_got *got) {
    return got->size_bytes - (got->length - fipc_got_rest_off(got));
}

/* Connects `channel` to the numbered channel of `segment`. */
void fipc_channel_init(struct fipc_channel *channel, struct fipc_segment *segment, uint32_t index);

/* Claims a slot and forgets what another process (before a fork) had cached. Each
 * operation calls it first. Errors: see fipc_segment_enter(). */
FIPC_MUST_USE int fipc_channel_enter_slow(struct fipc_channel *channel);
FIPC_ALWAYS_INLINE int fipc_channel_enter(struct fipc_channel *channel) {
    /* V2, pairs with V1 in fipc_channel_enter_slow(): with the token come the caches that another thread renewed. */
    return fipc_token_is_current(fipc_load_acquire(V2, &channel->token))
               ? 0
               : fipc_channel_enter_slow(channel);
}

/* Counts messages that we are about to take; under the get lock, before the publish. */
FIPC_ALWAYS_INLINE void fipc_channel_count_taken(struct fipc_channel *channel, uint64_t items) {
    fipc_store_relaxed(channel->taken, fipc_load_relaxed(channel->taken) + items);
}

/* Counts messages that have reached the caller, at the last moment: whoever is killed before has
 * lost them. One thread of the process at a time; not in a child that was forked since, for the
 * parent returns them, too. */
FIPC_ALWAYS_INLINE void fipc_channel_count_given(struct fipc_channel *channel, uint64_t items) {
    if (fipc_likely(fipc_token_is_current(fipc_load_relaxed(&channel->token))))
        fipc_store_relaxed(channel->given, fipc_load_relaxed(channel->given) + items);
}

/* Where to count threads of ours that sleep for a record, or for room. */
FIPC_ALWAYS_INLINE uint32_t *fipc_channel_getters(const struct fipc_channel *channel) {
    return &channel->segment->slots[channel->segment->slot].getters[channel->index];
}
FIPC_ALWAYS_INLINE uint32_t *fipc_channel_putters(const struct fipc_channel *channel) {
    return &channel->segment->slots[channel->segment->slot].putters[channel->index];
}

/* Puts one record. deadline_ns is for the lock only; 0: do not wait for it. Errors:
 * -EAGAIN, no room under the limits, or the ring is full and may not grow;
 * -ENOBUFS, no room in the ring: prepare channel->want_log2 (fipc_channel_spare())
 * and try again; -EBUSY, the lock or the turn is taken; -ETIMEDOUT, -EINTR; -EBADMSG;
 * -ESTALE: fipc_channel_map() and try again; -EPIPE: nobody reads the doorbell;
 * -ESHUTDOWN: shut. */
FIPC_MUST_USE int fipc_channel_put(struct fipc_channel *channel, struct fipc_put *put,
                                   int64_t deadline_ns);

/* Gets the oldest record: its payload copied, or its block taken. Errors: -EAGAIN,
 * nothing there; -EBUSY, -ETIMEDOUT, -EINTR, -EBADMSG, -ESTALE as above; -EMSGSIZE, it
 * does not fit in the buffer (got->length says how long it is; it stays); -ESHUTDOWN:
 * shut on the get side, what is there is given up. */
FIPC_MUST_USE int fipc_channel_get(struct fipc_channel *channel, struct fipc_got *got,
                                   int64_t deadline_ns);

/* Gets the oldest records, in one piece: many->max_items at most, FIPC_BATCH_BYTES, and
 * FIPC_BATCH_REFS blocks. Errors: as fipc_channel_get(). */
FIPC_MUST_USE int fipc_channel_get_many(struct fipc_channel *channel, struct fipc_many *many,
                                        int64_t deadline_ns);
/* The next of them as if it had been got alone: got->buffer points into many->buffer.
 * fipc_many_step() goes on behind it. Errors: -EAGAIN, there is no other; -EBADMSG. */
FIPC_MUST_USE int fipc_many_peek(struct fipc_channel *channel, const struct fipc_many *many,
                                 struct fipc_got *got);
FIPC_ALWAYS_INLINE void fipc_many_step(struct fipc_many *many, const struct fipc_got *got) {
    many->at += (uint32_t)fipc_align_up(FIPC_RECORD_BYTES + (uint64_t)got->length, 8);
    many->items_read++;
}
/* Steps over the next `items` of them, one that fipc_many_peek() refuses or what nobody
 * wants any more, and gives their blocks back, but for those that are damaged. */
void fipc_many_drop(struct fipc_channel *channel, struct fipc_many *many, uint32_t items);
/* The next one, if all of it is here, as fipc_many_peek() and fipc_many_step() say: its
 * payload; NULL: call those. */
FIPC_ALWAYS_INLINE const uint8_t *fipc_many_next_inline(struct fipc_many *many, uint32_t *length,
                                                        uint16_t *tag) {
    const struct fipc_record_shm *header;
    uint64_t bytes;

    if (many->items_read >= many->items || many->bytes - many->at < FIPC_RECORD_BYTES)
        return NULL;
    header = (const struct fipc_record_shm *)(const void *)(many->buffer + many->at);
    bytes = fipc_align_up(FIPC_RECORD_BYTES + (uint64_t)header->length, 8);
    if (header->kind != FIPC_RECORD_INLINE || bytes > many->bytes - many->at)
        return NULL;
    *length = header->length;
    *tag = header->tag;
    many->at += (uint32_t)bytes;
    many->items_read++;
    return (const uint8_t *)(header + 1);
}

/* A block of a message that was got, and how many bytes of it are the message's. The
 * blocks are ours: each is to be released. Errors: -EBADMSG. */
FIPC_MUST_USE int fipc_channel_got_block(const struct fipc_channel *channel,
                                         const struct fipc_got *got, uint32_t index,
                                         struct fipc_block *block, uint64_t *size_bytes);

/* Prepares a ring for fipc_put.spare_ring; under no lock. Errors: fipc_block_alloc(). */
FIPC_MUST_USE int fipc_channel_spare(struct fipc_channel *channel, int64_t deadline_ns,
                                     struct fipc_block *spare);
/* Maps what the last -ESTALE missed; under no lock. 0: look again. -EBADMSG, after some looks in a
 * row it cannot be mapped; -ENOMEM; -EBADF, the descriptor is another file's. */
FIPC_MUST_USE int fipc_channel_map(struct fipc_channel *channel);

/* Shuts the put side: from here on no record is put, and an armed doorbell stays readable.
 * Does nothing when it is shut. Errors: those of the lock and of the doorbell. */
FIPC_MUST_USE int fipc_channel_shut_put(struct fipc_channel *channel, int64_t deadline_ns);
/* Shuts the get side, too: what is queued is given up, no record is got. The put side
 * must be shut. Errors: those of the lock. */
FIPC_MUST_USE int fipc_channel_shut_get(struct fipc_channel *channel, int64_t deadline_ns);
/* Takes the oldest record that was given up out of the ring and frees its memory: 0, or
 * -EAGAIN when none is left. Errors: as fipc_channel_get(). */
FIPC_MUST_USE int fipc_channel_discard(struct fipc_channel *channel, int64_t deadline_ns);
/* Is the put side shut, or the get side? With true, what was published before is seen. */
FIPC_ALWAYS_INLINE bool fipc_side_is_shut(const struct fipc_side_shm *side) {
    /* D2, pairs with D1 in set_shut(). */
    return (fipc_load_seqcst(D2, &side->flags) & FIPC_SIDE_SHUT) != 0;
}

/* True when nothing was queued at some moment of the call. No lock. */
bool fipc_channel_is_empty(const struct fipc_channel *channel);
/* Items and bytes queued at one moment. */
void fipc_channel_depth(const struct fipc_channel *channel, uint64_t *items, uint64_t *bytes);

/* Rings the armed doorbell, under the put lock. Errors: -EBADF, the program closed or
 * reused its descriptor; -EPIPE, nobody reads it. */
FIPC_MUST_USE int fipc_channel_ring(const struct fipc_channel *channel);
/* From now on the doorbell is readable whenever a record is there, or the put side is shut. `ring_fd` writes
 * to it. Errors: -ETIMEDOUT, -EINTR, -EBADMSG, those of the doorbell. */
FIPC_MUST_USE int fipc_channel_arm(struct fipc_channel *channel, int ring_fd, int64_t deadline_ns);
/* The armed doorbell rang and nothing was there: silence it, unless something came, or the
 * put side is shut.
 * Errors: as fipc_channel_arm(); -EPIPE, nobody writes any more. */
FIPC_MUST_USE int fipc_channel_disarm_if_empty(struct fipc_channel *channel, int64_t deadline_ns);

/* Under the get lock, after a get that ended at read_pos: if the doorbell is armed and
 * nothing is left, silences it. */
void fipc_channel_silence_if_empty(struct fipc_channel *channel, uint64_t read_pos);

/* For tests, with both locks held: walks all records. -EBADMSG when a record, a
 * count or a block contradicts another. */
struct fipc_channel_census {
    uint64_t records, items, blocks, ring_bytes;
};
FIPC_MUST_USE int fipc_channel_check(struct fipc_channel *channel,
                                     struct fipc_channel_census *census);

/* The locks, with what taking one over from the dead entails. deadline_ns 0: do not
 * wait (-EBUSY). */
FIPC_MUST_USE int fipc_channel_lock_put(struct fipc_channel *channel, int64_t deadline_ns);
FIPC_MUST_USE int fipc_channel_lock_get(struct fipc_channel *channel, int64_t deadline_ns);

/* For conn.c, which copies large records outside the lock, behind a turn. */
/* Under the get lock: steps over pads and links; *header is the record's, *payload
 * its bytes. -EAGAIN, -EBADMSG, -ESTALE. *state is the get state at the record. */
FIPC_MUST_USE int fipc_channel_peek(struct fipc_channel *channel, struct fipc_side_copy_shm *state,
                                    struct fipc_record_shm *header, const uint8_t **payload);
/* The same from a get state of the caller's instead of the one in force. */
FIPC_MUST_USE int fipc_channel_peek_at(struct fipc_channel *channel,
                                       const struct fipc_side_copy_shm *from,
                                       struct fipc_side_copy_shm *state,
                                       struct fipc_record_shm *header, const uint8_t **payload);

/* Under the get lock: takes hold of the ring that the get side leaves, to be given back
 * (fipc_block_release()) once that is published. At most one: behind a link stands a
 * record. Errors: -ESTALE, -EBADMSG. */
FIPC_MUST_USE int fipc_channel_hold_drained(struct fipc_channel *channel, uint64_t old_ref,
                                            struct fipc_block *drained);
/* Under the get lock: publishes that the record at `state`, which a peek found, is taken;
 * it was `items` items, of which `taken` go to our caller. *drained is then a ring to be released after the unlock, if its
 * shm is not NULL. Errors: -ESTALE, -EBADMSG; then nothing has changed. */
FIPC_MUST_USE int fipc_channel_advance(struct fipc_channel *channel,
                                       const struct fipc_side_copy_shm *state,
                                       const struct fipc_record_shm *header, uint32_t items,
                                       uint32_t taken, struct fipc_block *drained);

/* Room in the put ring for one record of the owner of the send turn. */
struct fipc_room {
    uint8_t *data;   /* the payload's place, mostly the beginning of a line */
    uint64_t bytes;  /* how much of it may be used */
    uint8_t *pad_at; /* where the record would begin */
    uint64_t pad;    /* bytes to skip before it does */
};

/* Behind the send turn, outside the lock: room for a payload of at most most_bytes, and
 * at least least_bytes (of those), which nobody else touches and nobody sees. The put
 * ring must have been loaded by a put. Errors: -EAGAIN, not so much room now. */
FIPC_MUST_USE int fipc_channel_reserve(struct fipc_channel *channel, uint64_t least_bytes,
                                       uint64_t most_bytes, struct fipc_room *room);
/* Publishes a record of put->data_bytes (written into room->data already) with put's
 * kind, tag, items and turn; a turn_ends gives the turn back with it. Errors: those of
 * fipc_channel_put() for the lock and the doorbell; then nothing has changed. */
FIPC_MUST_USE int fipc_channel_commit(struct fipc_channel *channel, const struct fipc_room *room,
                                      const struct fipc_put *put, bool turn_ends,
                                      int64_t deadline_ns);

#endif
