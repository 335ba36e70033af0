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
    /* Under the put lock: what producers of this process know of the get side. It
     * only moves forward, so an old value errs on the safe side. */
    struct fipc_ring put_ring;
    uint64_t seen_read_pos;
    uint64_t seen_get_count;
    uint32_t want_log2; /* the ring that would help, after -ENOBUFS; also read without */
    /* Under the get lock: what consumers of this process know of the put side. */
    struct fipc_ring get_ring;
    uint64_t seen_write_pos;
    /* The block to map, after -ESTALE of either side. Another thread's may stand here
     * by the time it is read: then the next look says so again. */
    uint32_t map_block;
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
    struct fipc_block *block;      /* travels with the record, or NULL */
    struct fipc_block *spare_ring; /* a ring of want_log2 or larger, or NULL; taken
                                    * over when spare_used */
    bool spare_used;
};

/* One record got. */
struct fipc_got {
    void *buffer; /* the caller's, FIPC_INLINE_MAX bytes */
    uint32_t buffer_bytes;
    uint32_t length; /* of the payload, now in buffer */
    uint16_t kind;
    uint16_t tag;
    struct fipc_block block; /* FIPC_RECORD_BLOCK: ours now */
    uint64_t size_bytes;     /* of the message: length, or what of the block it fills */
};

/* Connects `channel` to the numbered channel of `segment`. */
void fipc_channel_init(struct fipc_channel *channel, struct fipc_segment *segment, uint32_t index);

/* Claims a slot and forgets what another process (before a fork) had cached. Each
 * operation calls it first. Errors: see fipc_segment_enter(). */
FIPC_MUST_USE int fipc_channel_enter_slow(struct fipc_channel *channel);
FIPC_ALWAYS_INLINE int fipc_channel_enter(struct fipc_channel *channel) {
    /* Acquire: with the token come the caches that another thread renewed. */
    return fipc_token_is_current(fipc_load_acquire(&channel->token))
               ? 0
               : fipc_channel_enter_slow(channel);
}

/* Puts one record. deadline_ns is for the lock only; 0: do not wait for it. Errors:
 * -EAGAIN, no room under the limits, or the ring is full and may not grow;
 * -ENOBUFS, no room in the ring: prepare channel->want_log2 (fipc_channel_spare())
 * and try again; -EBUSY, the lock or the turn is taken; -ETIMEDOUT, -EINTR; -EBADMSG;
 * -ESTALE: fipc_channel_map() and try again; -EPIPE: nobody reads the doorbell. */
FIPC_MUST_USE int fipc_channel_put(struct fipc_channel *channel, struct fipc_put *put,
                                   int64_t deadline_ns);

/* Gets the oldest record: its payload copied, or its block taken. Errors: -EAGAIN,
 * nothing there; -EBUSY, -ETIMEDOUT, -EINTR, -EBADMSG, -ESTALE as above; -EMSGSIZE, it
 * does not fit in the buffer (got->length says how long it is; it stays). */
FIPC_MUST_USE int fipc_channel_get(struct fipc_channel *channel, struct fipc_got *got,
                                   int64_t deadline_ns);

/* Prepares a ring for fipc_put.spare_ring; under no lock. Errors: fipc_block_alloc(). */
FIPC_MUST_USE int fipc_channel_spare(struct fipc_channel *channel, int64_t deadline_ns,
                                     struct fipc_block *spare);
/* Maps what the last -ESTALE missed; under no lock. */
FIPC_MUST_USE int fipc_channel_map(struct fipc_channel *channel);

/* True when nothing was queued at some moment of the call. No lock. */
bool fipc_channel_is_empty(const struct fipc_channel *channel);
/* Items and bytes queued at one moment. */
void fipc_channel_depth(const struct fipc_channel *channel, uint64_t *items, uint64_t *bytes);

/* Rings the armed doorbell, under the put lock. Errors: -EBADF, the program closed or
 * reused its descriptor; -EPIPE, nobody reads it. */
FIPC_MUST_USE int fipc_channel_ring(const struct fipc_channel *channel);
/* From now on the doorbell is readable whenever a record is there. `ring_fd` writes
 * to it. Errors: -ETIMEDOUT, -EINTR, -EBADMSG, those of the doorbell. */
FIPC_MUST_USE int fipc_channel_arm(struct fipc_channel *channel, int ring_fd, int64_t deadline_ns);
/* The armed doorbell rang and nothing was there: silence it, unless something came.
 * Errors: as fipc_channel_arm(); -EPIPE, nobody writes any more. */
FIPC_MUST_USE int fipc_channel_disarm_if_empty(struct fipc_channel *channel, int64_t deadline_ns);

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
 * it was `items` items. *drained is then a ring to be released after the unlock, if its
 * shm is not NULL. Errors: -ESTALE, -EBADMSG; then nothing has changed. */
FIPC_MUST_USE int fipc_channel_advance(struct fipc_channel *channel,
                                       const struct fipc_side_copy_shm *state,
                                       const struct fipc_record_shm *header, uint32_t items,
                                       struct fipc_block *drained);

/* Room in the put ring for one record of the owner of the send turn. */
struct fipc_room {
    uint8_t *data;  /* the payload's place */
    uint64_t bytes; /* how much of it may be used */
    uint64_t pad;   /* bytes to skip before the record */
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
