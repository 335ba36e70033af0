/* conn_recv.c - the receiving half of conn.h: whole records, fragments behind the
 * receive turn, what an interrupted receiver keeps; polling. Waiting stands in conn_wait.c. */
#include <stdlib.h>
#include <string.h>

#include "channel_fast.h"
#include "conn_internal.h"
#include "copy.h"
#include "slots.h"

/* In the middle of a message: whether its sender was killed. */
#define SENDER_SLICE_NS (50 * FIPC_NS_PER_MS)
/* Polling without a timeout waits so long for a lock. */
#define POLL_LOCK_NS (2 * FIPC_NS_PER_MS)

/* What one stay under the get lock leaves to be done after it. */
struct taken {
    struct fipc_block drained;
    uint64_t read_pos; /* 0: nothing was taken */
    uint64_t ring_bytes;
    bool whole; /* a message ended */
    bool last;  /* nothing is known to be behind it */
    /* The part that was kept of a message that will never end. */
    uint8_t *given_up;
};

FIPC_ALWAYS_INLINE void note_taken(const struct fipc_conn *conn, uint64_t read_pos, bool ends,
                                   struct taken *taken) {
    taken->read_pos = read_pos;
    taken->ring_bytes = conn->in.get_ring.size;
    taken->whole = ends;
    taken->last = read_pos >= conn->in.seen_write_pos;
}

/* Under the get lock: takes the record that was peeked at `at`; or drops it, for want of
 * what was before it. */
static int take_record(struct fipc_conn *conn, const struct fipc_side_copy_shm *at,
                       const struct fipc_record_shm *header, bool drops, struct taken *taken) {
    bool ends = header->kind == FIPC_RECORD_INLINE || header->kind == FIPC_RECORD_LAST;
    int rc = fipc_channel_advance(&conn->in, at, header, ends, ends && !drops, &taken->drained);

    if (fipc_unlikely(rc < 0))
        return rc;
    note_taken(conn, fipc_side_current(&conn->in.shm->get).pos, ends, taken);
    return 0;
}

/* A sender sleeps. W1, pairs with W2 in wait_for_room() of conn_send.c. Not for every
 * record: a sender that is woken should find room for many. Below half, each one wakes. */
static void wake_senders(struct fipc_conn *conn, const struct taken *taken) {
    struct fipc_channel_shm *shm = conn->in.shm;

    if (fipc_side_read_pos(&shm->put) - taken->read_pos <= taken->ring_bytes / 2)
        fipc_sleepers_wake(&shm->get.sleepers);
}

/* The armed doorbell, when the ring may be empty. Bounded: behind a stopped sender it
 * stays readable, and the next who finds nothing silences it. */
static void silence_if_empty(struct fipc_conn *conn) {
    int rc;

    if (!fipc_channel_is_empty(&conn->in))
        return;
    rc = fipc_channel_disarm_if_empty(&conn->in, fipc_os_now_ns() + FIPC_DISARM_NS);
    (void)rc;
}

/* After the unlock. */
FIPC_ALWAYS_INLINE void after_taking(struct fipc_conn *conn, const struct taken *taken) {
    struct fipc_channel_shm *shm = conn->in.shm;

    if (fipc_unlikely(taken->read_pos == 0))
        return;
    if (fipc_unlikely(taken->drained.shm != NULL))
        fipc_block_release(&conn->segment, &taken->drained);
    if (fipc_unlikely(fipc_sleepers_any(&shm->get.sleepers)))
        wake_senders(conn, taken);
    /* Where more is known to be there the senders' line is left to them. In the middle of
     * a message the doorbell is left alone: more comes. */
    if (taken->last && taken->whole &&
        fipc_unlikely(fipc_load_relaxed(&shm->put.flags) & FIPC_SIDE_ARMED))
        silence_if_empty(conn);
}

/* Under the get lock, behind the FIRST record at `at`, whose sender has ended its turn or died:
 * is the last fragment there, too? What it published before that is to be seen. */
static int has_its_end(struct fipc_conn *conn, const struct fipc_side_copy_shm *at,
                       const struct fipc_record_shm *first) {
    struct fipc_side_copy_shm from = *at, next;
    struct fipc_record_shm header = *first;
    const uint8_t *payload;
    int rc;

    do {
        from.pos += fipc_record_bytes(header.length);
        rc = fipc_channel_peek_at(&conn->in, &from, &next, &header, &payload);
        from = next;
    } while (rc == 0 && header.kind == FIPC_RECORD_MIDDLE);
    if (rc == -EAGAIN)
        return 0;
    return rc < 0 ? rc : header.kind == FIPC_RECORD_LAST;
}

/* Under the get lock, for who only looks: may the message that begins at `at` be promised?
 * 1; 0, its end will never come; -EINPROGRESS, *sender is still at it unless it has died. */
static int is_promised(struct fipc_conn *conn, const struct fipc_side_copy_shm *at,
                       const struct fipc_record_shm *first, const struct fipc_conn_recv *state,
                       uint64_t *sender) {
    /* T2, pairs with T1: what it published before it let go is to be seen. */
    *sender = fipc_load_acquire(T2, &conn->in.shm->send_turn);
    if (*sender != 0 && *sender != state->dead_sender)
        return -EINPROGRESS;
    return has_its_end(conn, at, first);
}

/* The same for the rest of the message of which conn->kept is the beginning. -EAGAIN, nothing of
 * it is there. */
static int is_rest_promised(struct fipc_conn *conn, const struct fipc_conn_recv *state,
                            uint64_t *sender) {
    struct fipc_side_copy_shm at;
    struct fipc_record_shm header;
    const uint8_t *payload;
    int rc = fipc_channel_peek(&conn->in, &at, &header, &payload);

    if (rc < 0)
        return rc;
    if (header.kind == FIPC_RECORD_LAST)
        return 1;
    return header.kind == FIPC_RECORD_MIDDLE ? is_promised(conn, &at, &header, state, sender) : 0;
}

/* One look, under the get lock, for a message that begins: 0, taken (whole) or begun;
 * what is left of messages that nobody will finish is dropped on the way. With
 * `buffer` NULL, only looks. Errors: -EAGAIN, nothing there; -EBUSY, somebody else is
 * in the middle of one, *turn says who; -EINPROGRESS, who only looks has to ask whether the
 * sender of the next message lives, *turn says who; -ESTALE; -EDEADLK; -EBADMSG. */
static int look_locked(struct fipc_conn *conn, void *buffer, struct fipc_conn_recv *state,
                       uint64_t *turn, struct taken *taken) {
    struct fipc_channel_shm *shm = conn->in.shm;
    uint64_t owner = conn->segment.owner;

    *turn = fipc_load_acquire(T2, &shm->recv_turn);
    if (fipc_unlikely(*turn != 0)) {
        /* K2, pairs with K1: what was kept is whole. */
        bool has_kept =
            *turn == owner && fipc_load_acquire(K2, &conn->recv_thread) == 0 && conn->kept != NULL;

        if (has_kept && buffer != NULL) {
            state->kept = conn->kept;
            state->size = conn->kept_size;
            state->received = conn->kept_received;
            state->tag = conn->kept_tag;
            state->begun = true;
            state->owner = owner;
            conn->kept = NULL;
            fipc_store_relaxed(&conn->recv_thread, fipc_conn_thread());
            return 0;
        }
        if (*turn == owner && fipc_load_relaxed(&conn->recv_thread) == fipc_conn_thread())
            return -EDEADLK;
        if (has_kept) {
            int rc = is_rest_promised(conn, state, turn);

            if (rc != 0)
                return rc < 0 ? rc : 0;
            taken->given_up = conn->kept;
            conn->kept = NULL;
        } else if (*turn != state->dead_turn) {
            return -EBUSY;
        }
        /* step turn-take-over: what its owner, or we, left of the message is skipped below. */
        fipc_store_release(T1, &shm->recv_turn, 0);
        state->dead_turn = 0;
    }
    for (;;) {
        struct fipc_side_copy_shm at;
        struct fipc_record_shm header;
        const uint8_t *payload;
        int rc = fipc_channel_peek(&conn->in, &at, &header, &payload);

        if (rc < 0)
            return rc;
        switch (header.kind) {
        case FIPC_RECORD_INLINE:
            if (header.length > FIPC_INLINE_MAX)
                return -EBADMSG;
            if (buffer == NULL)
                return 0;
            memcpy(buffer, payload, header.length);
            state->size = header.length;
            state->tag = header.tag;
            state->whole = true;
            return take_record(conn, &at, &header, false, taken);
        case FIPC_RECORD_FIRST:
            if (header.length < sizeof(state->size))
                return -EBADMSG;
            if (buffer == NULL) {
                rc = is_promised(conn, &at, &header, state, turn);
                if (rc != 0)
                    return rc < 0 ? rc : 0;
                /* Once more: the look behind it may have gone on to another ring. */
                rc = fipc_channel_peek(&conn->in, &at, &header, &payload);
                if (rc == 0)
                    rc = take_record(conn, &at, &header, true, taken);
                if (rc < 0)
                    return rc;
                break;
            }
            /* It stays where it is: should we die now, nothing was taken. */
            memcpy(&state->size, payload, sizeof(state->size));
            if (state->size < header.length - sizeof(state->size))
                return -EBADMSG;
            state->tag = header.tag;
            state->owner = owner;
            fipc_store_relaxed(&conn->recv_thread, fipc_conn_thread());
            fipc_store_release(T1, &shm->recv_turn, owner); /* step recv-turn-take */
            return 0;
        case FIPC_RECORD_MIDDLE:
        case FIPC_RECORD_LAST:
        case FIPC_RECORD_ABANDON:
            /* Its beginning went to somebody who was killed, or it never had an end. */
            rc = take_record(conn, &at, &header, true, taken);
            if (rc < 0)
                return rc;
            break;
        default:
            return -EBADMSG;
        }
    }
}

static int look_once(struct fipc_conn *conn, void *buffer, struct fipc_conn_recv *state,
                     uint64_t *turn, int64_t deadline_ns) {
    struct taken taken;
    int rc = fipc_channel_lock_get(&conn->in, deadline_ns);

    if (fipc_unlikely(rc < 0))
        return rc;
    taken.read_pos = 0;
    taken.drained.shm = NULL;
    taken.given_up = NULL;
    rc = look_locked(conn, buffer, state, turn, &taken);
    fipc_lock_release(&conn->in.shm->get.lock);
    after_taking(conn, &taken);
    if (fipc_unlikely(taken.given_up != NULL)) {
        free(taken.given_up);
        fipc_sleepers_wake(&conn->in.shm->recv_turn_sleepers);
    }
    return rc;
}

/* Under the get lock, with what is not simple in the way. */
static int try_take(struct fipc_conn *conn, void *buffer, struct fipc_record_shm *header,
                    struct taken *taken) {
    struct fipc_side_copy_shm at;
    const uint8_t *payload;

    if (fipc_channel_peek(&conn->in, &at, header, &payload) < 0 ||
        header->kind != FIPC_RECORD_INLINE || header->length > FIPC_INLINE_MAX)
        return -EAGAIN;
    memcpy(buffer, payload, header->length);
    return take_record(conn, &at, header, false, taken) == 0 ? 0 : -EAGAIN;
}

/* One look. */
static int try_recv_once(struct fipc_conn *conn, void *buffer, uint64_t *size, uint16_t *tag) {
    struct fipc_record_shm header;
    struct taken taken;
    uint64_t read_pos;
    int rc = -EAGAIN;

    if (fipc_unlikely(fipc_lock_try(&conn->segment, &conn->in.shm->get.lock) < 0))
        return -EBUSY;
    taken.read_pos = 0;
    taken.drained.shm = NULL;
    if (fipc_likely(fipc_load_acquire(T2, &conn->in.shm->recv_turn) == 0)) {
        rc = fipc_channel_get_fast(&conn->in, FIPC_RECORD_INLINE, buffer, FIPC_INLINE_MAX, &header,
                                   &read_pos);
        if (fipc_likely(rc == 0)) {
            note_taken(conn, read_pos, true, &taken);
            fipc_store_relaxed(&conn->recv_run, fipc_load_relaxed(&conn->recv_run) + 1);
        } else if (rc == -EBUSY && try_take(conn, buffer, &header, &taken) == 0) {
            rc = 0;
        }
    }
    fipc_lock_release(&conn->in.shm->get.lock);
    if (fipc_unlikely(rc < 0))
        return rc;
    after_taking(conn, &taken);
    fipc_channel_rest(&conn->in);
    *size = header.length;
    *tag = header.tag;
    return 0;
}

/* Nothing was there: looks a little longer. */
static __attribute__((noinline)) int try_recv_again(struct fipc_conn *conn, void *buffer,
                                                    uint64_t *size, uint16_t *tag) {
    const struct fipc_side_shm *put = &conn->in.shm->put;
    uint32_t seen;

    /* After a run of messages fipc_conn_recv_begin() makes a pause instead. */
    if (fipc_load_relaxed(&conn->recv_run) >= FIPC_RUN_LEAST)
        return -EAGAIN;
    seen = fipc_load_acquire(A1, &put->gen);
    if (fipc_channel_is_empty(&conn->in) && !fipc_spin_glance(&conn->recv_spin, &put->gen, seen))
        return -EAGAIN;
    return try_recv_once(conn, buffer, size, tag);
}

int fipc_conn_try_recv(struct fipc_conn *conn, void *buffer, uint64_t *size, uint16_t *tag) {
    int rc = fipc_conn_enter(conn, &conn->in);

    if (fipc_unlikely(rc < 0))
        return rc;
    rc = try_recv_once(conn, buffer, size, tag);
    if (fipc_unlikely(rc == -EAGAIN))
        rc = try_recv_again(conn, buffer, size, tag);
    return fipc_unlikely(rc < 0) ? -EAGAIN : 0;
}

/* ---- receiving ---- */

static void end_turn(struct fipc_conn *conn, struct fipc_conn_recv *state) {
    free(state->kept);
    state->kept = NULL;
    /* Before the turn can be another thread's. */
    fipc_store_relaxed(&conn->recv_thread, 0);
    fipc_turn_release(&conn->in.shm->recv_turn, state->owner, &conn->in.shm->recv_turn_sleepers);
    state->owner = 0;
}

int fipc_conn_recv_begin(struct fipc_conn *conn, void *small_buffer, int64_t deadline_ns,
                         struct fipc_conn_recv *state) {
    /* 0 has a meaning of its own below. */
    int64_t lock_deadline_ns = deadline_ns > 0 ? deadline_ns : 1;
    int rc = fipc_conn_enter(conn, &conn->in);

    if (deadline_ns > 0)
        fipc_spin_lull(&conn->recv_run);
    while (rc == 0) {
        uint32_t seen = fipc_load_acquire(A1, &conn->in.shm->put.gen);
        uint64_t turn = 0;

        rc = look_once(conn, small_buffer, state, &turn, lock_deadline_ns);
        if (fipc_likely(rc == 0)) {
            fipc_conn_pass_bell_on(conn, state);
            return 0;
        }
        if (rc == -EAGAIN)
            rc = fipc_conn_wait_for_record(conn, seen, state, FIPC_FOREVER, deadline_ns);
        else if (rc == -EBUSY)
            rc = fipc_conn_wait_for_recv_turn(conn, turn, state, deadline_ns);
        else if (rc == -ESTALE)
            rc = fipc_channel_map(&conn->in);
    }
    return rc;
}

/* In the middle of a message and nothing there: is more to come? 0, wait; -ECANCELED. */
static int ask_for_sender(struct fipc_conn *conn, bool ask_kernel) {
    uint64_t turn = fipc_load_acquire(T2, &conn->in.shm->send_turn);
    int rc = 1;

    if (turn != 0 && ask_kernel)
        rc = fipc_slots_is_alive(&conn->segment, FIPC_OWNER_SLOT(turn), FIPC_OWNER_GEN(turn));
    if (rc < 0)
        return rc;
    if (turn != 0 && rc == 1)
        return 0;
    /* What it published before it went is to be seen. */
    return fipc_channel_is_empty(&conn->in) ? -ECANCELED : 0;
}

static int wait_for_fragment(struct fipc_conn *conn, uint32_t seen, struct fipc_conn_recv *state,
                             int64_t deadline_ns) {
    int rc = ask_for_sender(conn, false);

    if (rc < 0)
        return rc;
    rc = fipc_conn_wait_for_record(conn, seen, state, SENDER_SLICE_NS, deadline_ns);
    if (rc == -ENODATA)
        return -EPROTO;
    if (rc == -EINTR || rc == -ETIMEDOUT) {
        int gone = ask_for_sender(conn, true);

        return gone < 0 ? gone : rc;
    }
    return rc;
}

/* Under the get lock: takes a fragment whose bytes have been copied. */
static int take_fragment(struct fipc_conn *conn, const struct fipc_side_copy_shm *at,
                         const struct fipc_record_shm *header, int64_t deadline_ns,
                         struct fipc_conn_recv *state) {
    struct taken taken;
    int rc = fipc_channel_lock_get(&conn->in, deadline_ns);

    if (rc < 0)
        return rc;
    taken.drained.shm = NULL;
    taken.read_pos = 0;
    rc = take_record(conn, at, header, false, &taken);
    if (rc == 0 && header->kind == FIPC_RECORD_LAST) {
        fipc_store_relaxed(&conn->recv_thread, 0);
        /* step recv-turn-end: dying before it leaves a dead owner's turn and no rest. */
        fipc_store_release(T1, &conn->in.shm->recv_turn, 0);
        state->owner = 0;
    }
    fipc_lock_release(&conn->in.shm->get.lock);
    after_taking(conn, &taken);
    return rc;
}

/* Takes the next fragment of the message: 0, -EAGAIN, or an error that ends it. */
static int recv_step(struct fipc_conn *conn, uint8_t *buffer, int64_t deadline_ns,
                     struct fipc_conn_recv *state) {
    uint64_t skip = state->begun ? 0 : sizeof(state->size), bytes;
    struct fipc_side_copy_shm at;
    struct fipc_record_shm header;
    const uint8_t *payload;
    int rc;

    /* Behind the turn nobody else moves the get side or uses its caches. */
    rc = fipc_channel_peek(&conn->in, &at, &header, &payload);
    if (rc < 0)
        return rc;
    switch (header.kind) {
    case FIPC_RECORD_FIRST:
    case FIPC_RECORD_INLINE:
    case FIPC_RECORD_ABANDON:
        if (state->begun)
            return -ECANCELED;
        if (header.kind != FIPC_RECORD_FIRST)
            return -EBADMSG;
        break;
    case FIPC_RECORD_MIDDLE:
    case FIPC_RECORD_LAST:
        if (!state->begun)
            return -EBADMSG;
        break;
    default:
        return -EBADMSG;
    }
    if (header.length < skip || header.length - skip > state->size - state->received)
        return -EBADMSG;
    bytes = header.length - skip;
    if (header.kind == FIPC_RECORD_LAST && state->received + bytes != state->size)
        return -EBADMSG;
    fipc_copy_out(buffer + state->received, payload + skip, bytes, state->size);
    rc = take_fragment(conn, &at, &header, deadline_ns, state);
    if (rc < 0)
        return rc;
    state->begun = true;
    state->received += bytes;
    state->waiting.rounds = 0;
    return 0;
}

int fipc_conn_recv_into(struct fipc_conn *conn, void *buffer, int64_t deadline_ns,
                        struct fipc_conn_recv *state) {
    int64_t lock_deadline_ns = deadline_ns > 0 ? deadline_ns : 1;
    int rc = fipc_conn_enter(conn, &conn->in);

    /* A child that a signal handler forked: the message is the parent's. */
    if (rc == 0 && state->owner != conn->segment.owner)
        return -ECANCELED;
    if (rc == 0 && state->kept != NULL) {
        memcpy(buffer, state->kept, state->received);
        free(state->kept);
        state->kept = NULL;
    }
    while (rc == 0) {
        uint32_t seen = fipc_load_acquire(A1, &conn->in.shm->put.gen);

        rc = recv_step(conn, buffer, lock_deadline_ns, state);
        if (rc == 0 && state->owner == 0) {
            fipc_sleepers_wake(&conn->in.shm->recv_turn_sleepers);
            fipc_conn_pass_bell_on(conn, state);
            return 0;
        }
        if (rc == -EAGAIN)
            rc = wait_for_fragment(conn, seen, state, deadline_ns);
        else if (rc == -ESTALE)
            rc = fipc_channel_map(&conn->in);
    }
    if (rc != -EINTR && rc != -ETIMEDOUT && state->owner != 0)
        end_turn(conn, state);
    return rc;
}

int fipc_conn_recv_keep(struct fipc_conn *conn, const void *buffer, struct fipc_conn_recv *state) {
    uint8_t *kept = state->kept;

    if (state->owner == 0 || state->owner != conn->segment.owner)
        return 0;
    if (!state->begun) {
        /* It is all still in the ring. */
        end_turn(conn, state);
        return 0;
    }
    if (kept == NULL) {
        kept = malloc(state->received + 1);
        if (kept == NULL) {
            end_turn(conn, state);
            return -ENOMEM;
        }
        memcpy(kept, buffer, state->received);
    }
    conn->kept = kept;
    conn->kept_size = state->size;
    conn->kept_received = state->received;
    conn->kept_tag = state->tag;
    state->kept = NULL;
    state->owner = 0;
    /* K1, release, pairs with K2 in look_locked(): from here on it is anybody's. */
    fipc_store_release(K1, &conn->recv_thread, 0);
    fipc_sleepers_wake(&conn->in.shm->recv_turn_sleepers);
    return 0;
}

void fipc_conn_recv_drop(struct fipc_conn *conn, struct fipc_conn_recv *state) {
    struct fipc_side_copy_shm at;
    struct fipc_record_shm header;
    const uint8_t *payload;

    if (state->owner == 0 || state->owner != conn->segment.owner)
        return;
    /* The first fragment goes; what follows it is skipped for want of it. Should that
     * fail, the next receiver gets the message. */
    if (!state->begun && fipc_channel_peek(&conn->in, &at, &header, &payload) == 0 &&
        header.kind == FIPC_RECORD_FIRST) {
        int rc = take_fragment(conn, &at, &header, fipc_os_now_ns() + FIPC_DISARM_NS, state);

        (void)rc;
    }
    end_turn(conn, state);
}

/* ---- polling ---- */

/* 1: the sender is at it; 0: it has died, which `state` notes. */
static int ask_for_life(struct fipc_conn *conn, uint64_t sender, struct fipc_conn_recv *state) {
    int rc = fipc_slots_is_alive(&conn->segment, FIPC_OWNER_SLOT(sender), FIPC_OWNER_GEN(sender));

    if (rc == 0)
        state->dead_sender = sender;
    return rc;
}

int fipc_conn_poll(struct fipc_conn *conn, int64_t deadline_ns, struct fipc_conn_recv *state) {
    int rc = fipc_conn_enter(conn, &conn->in);

    while (rc == 0) {
        uint32_t seen = fipc_load_acquire(A1, &conn->in.shm->put.gen);
        int64_t lock_deadline_ns = fipc_os_now_ns() + POLL_LOCK_NS;
        uint64_t turn = 0;

        if (fipc_channel_is_empty(&conn->in)) {
            rc = -EAGAIN;
        } else {
            if (lock_deadline_ns < deadline_ns)
                lock_deadline_ns = deadline_ns;
            rc = look_once(conn, NULL, state, &turn, lock_deadline_ns);
            /* The lock's owner is stopped: something is there, and no more is known. */
            if (rc == 0 || rc == -ETIMEDOUT)
                return 1;
        }
        if (rc == -EINPROGRESS) {
            rc = ask_for_life(conn, turn, state);
            if (rc == 1)
                return 1;
        } else if (rc == -EAGAIN) {
            rc = fipc_conn_wait_for_record(conn, seen, state, FIPC_FOREVER, deadline_ns);
        } else if (rc == -EBUSY) {
            rc = fipc_conn_wait_for_recv_turn(conn, turn, state, deadline_ns);
        } else if (rc == -ESTALE) {
            rc = fipc_channel_map(&conn->in);
        }
    }
    if (rc == -ENODATA)
        return 1;
    return rc == -ETIMEDOUT ? 0 : rc;
}
