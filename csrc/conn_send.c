/* conn_send.c - the sending half of conn.h: one record, or fragments behind the send
 * turn; waiting for room; looking for a reader. */
#include <string.h>

#include "channel_fast.h"
#include "conn_internal.h"
#include "copy.h"

/* A look for readers costs 0.3 us; so seldom, nothing. */
#define LOOK_EVERY_TICKS (100 * FIPC_TICKS_PER_US)

/* Waiting for room: a reader that closes wakes us; one that is killed does not, so look
 * for it, soon at first. Doubling keeps 5 s of waiting below 20 wake-ups. */
#define ROOM_SLICE_FIRST_NS (5 * FIPC_NS_PER_MS)
#define ROOM_SLICE_LAST_NS (400 * FIPC_NS_PER_MS)

#define ROOM_PAUSES_PER_LOOK 80

/* Fragments: at most a quarter of the ring, so that both ends copy at the same time. 1 MiB
 * messages through a ring of 2 MiB: 30 GB/s, with 64 KiB 26; of 128 KiB, in quarters: 7.9, in
 * eighths 7.6. */
#define FRAGMENT_MOST_BYTES 262144 /* with its header */
/* Rather wait than send less. */
#define FRAGMENT_LEAST_BYTES 4096

/* The larger ring costs 0.6 ms at birth, which some MiB at twice the rate bring back. */
#define STREAM_PAYS_BYTES (UINT64_C(4) << 20)

/* Giving a message up waits so long for the lock of a stopped process. */
#define ABANDON_NS (500 * FIPC_NS_PER_MS)

/* A head of 8 bytes, the total length, goes before the first fragment's bytes. */
#define FIRST_HEAD_BYTES 8

static int look_again(struct fipc_conn *conn, uint32_t epoch, uint64_t now_ticks) {
    int rc = fipc_pipe_fd_is_ours(conn->write_fd, conn->write_inode);

    if (rc < 0)
        return rc;
    rc = fipc_os_poll(conn->write_fd, 0, 0);
    if (rc < 0)
        return rc;
    if (rc != 0)
        return -EPIPE;
    fipc_store_relaxed(&conn->seen_close_epoch, epoch);
    fipc_store_relaxed(&conn->looked_ticks, now_ticks);
    return 0;
}

/* 0, or -EPIPE when all receiving ends are gone. */
FIPC_ALWAYS_INLINE int look_for_reader(struct fipc_conn *conn) {
    uint32_t epoch = fipc_load_acquire(N2, &conn->out.shm->close_epoch);
    uint64_t now_ticks = fipc_ticks();

    /* Unsigned: a counter that was set back asks for a look. */
    if (fipc_likely(epoch == fipc_load_relaxed(&conn->seen_close_epoch) &&
                    now_ticks - fipc_load_relaxed(&conn->looked_ticks) < LOOK_EVERY_TICKS))
        return 0;
    return look_again(conn, epoch, now_ticks);
}

static int ring_readers(struct fipc_conn *conn) {
    struct fipc_side_shm *put = &conn->out.shm->put;
    int rc;

    fipc_sleepers_clear(&put->sleepers);
    /* Armed: the token's byte is there already, or whoever armed it just now rang. */
    if (fipc_load_relaxed(&put->flags) & FIPC_SIDE_ARMED)
        return 0;
    rc = fipc_pipe_fd_is_ours(conn->write_fd, conn->write_inode);
    return rc < 0 ? rc : fipc_os_ring(conn->write_fd);
}

/* After a publish and its unlock: wakes readers who sleep in poll(2). */
FIPC_ALWAYS_INLINE int wake_readers(struct fipc_conn *conn) {
    return fipc_likely(!fipc_sleepers_any(&conn->out.shm->put.sleepers)) ? 0 : ring_readers(conn);
}

/* With what is not simple in the way. */
static int try_put(struct fipc_conn *conn, const void *data, uint64_t size, uint16_t tag) {
    struct fipc_put put = {.data = data,
                           .data_bytes = (uint32_t)size,
                           .kind = FIPC_RECORD_INLINE,
                           .tag = tag,
                           .items = 1};
    int rc = fipc_channel_put(&conn->out, &put, 0);

    return rc == -EBUSY || rc == -ENOBUFS || rc == -ESTALE ? -EAGAIN : rc;
}

int fipc_conn_try_send(struct fipc_conn *conn, const void *data, uint64_t size, uint16_t tag) {
    int rc;

    if (fipc_unlikely(size > FIPC_INLINE_MAX))
        return -EAGAIN;
    rc = fipc_conn_enter(conn, &conn->out);
    if (fipc_unlikely(rc < 0))
        return rc;
    rc = look_for_reader(conn);
    if (fipc_unlikely(rc < 0))
        return rc == -EINTR ? -EAGAIN : rc;
    rc = fipc_channel_put_fast(&conn->out, data, (uint32_t)size, FIPC_RECORD_INLINE, tag);
    if (fipc_unlikely(rc < 0))
        rc = try_put(conn, data, size, tag);
    return fipc_likely(rc == 0) ? wake_readers(conn) : rc;
}

/* ---- waiting ---- */

static uint64_t queued_bytes(const struct fipc_conn *conn) {
    uint64_t read_pos = fipc_side_read_pos(&conn->out.shm->get);

    return fipc_side_read_pos(&conn->out.shm->put) - read_pos;
}

/* The ring is full: room for one record comes soon and is gone as soon, and each look at it
 * costs both sides a cache line. So looks seldom, every 2 us, until a quarter of what is queued has
 * been taken. 1 MiB messages: 1.2 to 1.9 times the rate; 64 bytes: the same to 1.3 times. */
static bool spin_for_room(struct fipc_conn *conn, int64_t deadline_ns) {
    int32_t budget_ns = fipc_spin_budget(&conn->send_spin);
    int64_t now_ns, until_ns;
    uint64_t enough;

    if (budget_ns == 0)
        return false;
    now_ns = fipc_os_now_ns();
    until_ns = now_ns + budget_ns < deadline_ns ? now_ns + budget_ns : deadline_ns;
    enough = queued_bytes(conn) / 4 * 3;
    do {
        for (int i = 0; i < ROOM_PAUSES_PER_LOOK; i++)
            fipc_pause();
        if (queued_bytes(conn) <= enough) {
            fipc_spin_paid(&conn->send_spin);
            return true;
        }
    } while (fipc_os_now_ns() < until_ns);
    fipc_spin_missed(&conn->send_spin);
    return false;
}

/* Sleeps until readers may have moved on from get generation `seen`. */
static int wait_for_room(struct fipc_conn *conn, uint32_t seen, struct fipc_conn_send *state,
                         int64_t deadline_ns) {
    struct fipc_side_shm *get = &conn->out.shm->get;
    uint32_t *putters = fipc_channel_putters(&conn->out);
    int64_t now_ns;
    uint32_t mark;
    int rc;

    if (!fipc_waiting_has_looked(&state->waiting)) {
        if (spin_for_room(conn, deadline_ns))
            return fipc_waiting_spared(&state->waiting);
        return -EINTR;
    }
    mark = fipc_sleepers_mark(&get->sleepers);
    if (fipc_load_seqcst(W2, &get->gen) != seen)
        return 0;
    if (fipc_load_seqcst(S2, &conn->shut) != 0)
        return -EBADF;
    /* N2, pairs with the epoch's step in tell_senders(): a receiving end was closed since the last
     * look, which the next one sees, or who closes sees the mark. */
    if (fipc_load_seqcst(N2, &conn->out.shm->close_epoch) !=
        fipc_load_relaxed(&conn->seen_close_epoch))
        return 0;
    fipc_fetch_add_relaxed(putters, 1);
    rc = fipc_sleepers_wait(
        &get->sleepers, mark,
        fipc_slice_until(&state->waiting, ROOM_SLICE_FIRST_NS, ROOM_SLICE_LAST_NS, deadline_ns));
    fipc_fetch_add_relaxed(putters, -1);
    if (rc != -ETIMEDOUT)
        return rc;
    now_ns = fipc_os_now_ns();
    return now_ns >= deadline_ns ? -ETIMEDOUT : -EINTR;
}

/* ---- the turn ---- */

/* Takes the send turn if it is free or was `dead`'s. Says in *taken whether. */
static int take_turn(struct fipc_conn *conn, uint64_t dead, int64_t deadline_ns, bool *taken) {
    struct fipc_channel_shm *shm = conn->out.shm;
    uint64_t turn;
    int rc = fipc_channel_lock_put(&conn->out, deadline_ns);

    if (rc < 0)
        return rc;
    /* T2, pairs with T1: who gave it back need not have had the lock. */
    turn = fipc_load_acquire(T2, &shm->send_turn);
    *taken = turn == 0 || turn == dead;
    if (*taken) {
        fipc_store_release(T1, &shm->send_turn, conn->segment.owner); /* step send-turn-take */
        fipc_store_relaxed(&conn->send_thread, fipc_conn_thread());
    }
    fipc_lock_release(&shm->put.lock);
    return 0;
}

static void end_turn(struct fipc_conn *conn, struct fipc_conn_send *state) {
    /* Before the turn can be another thread's. */
    fipc_store_relaxed(&conn->send_thread, 0);
    fipc_turn_release(&conn->out.shm->send_turn, state->owner, &conn->out.shm->send_turn_sleepers);
    state->owner = 0;
}

/* Says that the fragments before it belong to nothing. Where that cannot be said now, the
 * next message's beginning, or a turn that nobody has, says the same. */
static void put_abandon(struct fipc_conn *conn, bool control) {
    struct fipc_put put = {
        .kind = FIPC_RECORD_ABANDON, .data = "", .turn = conn->segment.owner, .control = control};
    int64_t deadline_ns = fipc_os_now_ns() + ABANDON_NS;
    int rc;

    do
        rc = fipc_channel_put(&conn->out, &put, deadline_ns);
    while (rc == -EINTR || (rc == -ESTALE && fipc_channel_map(&conn->out) == 0));
    if (rc == 0)
        rc = wake_readers(conn);
}

/* Waits for the send turn and takes it: 0, it is ours, and the next record begins a
 * message. With `take` false: waits until nobody has it. */
static int wait_for_turn(struct fipc_conn *conn, struct fipc_conn_send *state, bool take,
                         int64_t deadline_ns) {
    struct fipc_channel_shm *shm = conn->out.shm;

    for (;;) {
        uint64_t turn = fipc_load_acquire(T2, &shm->send_turn), dead = 0;
        bool taken;
        int rc;

        if (turn == conn->segment.owner &&
            fipc_load_relaxed(&conn->send_thread) == fipc_conn_thread())
            return -EDEADLK;
        if (turn != 0) {
            rc = look_for_reader(conn);
            if (rc < 0)
                return rc;
            rc = fipc_turn_wait(conn, &shm->send_turn, turn, &shm->send_turn_sleepers,
                                &state->waiting, deadline_ns);
            if (rc < 0)
                return rc;
            if (rc == 0)
                continue;
            dead = turn;
        }
        if (turn == 0 && !take)
            return 0;
        rc = take_turn(conn, dead, deadline_ns, &taken);
        if (rc < 0)
            return rc;
        if (!taken)
            continue;
        state->owner = conn->segment.owner;
        /* Without the reserve, which is for those who live. */
        if (dead != 0)
            put_abandon(conn, false);
        if (!take)
            end_turn(conn, state);
        return 0;
    }
}

/* ---- sending ---- */

static int new_ring(struct fipc_conn *conn, uint32_t log2, int64_t deadline_ns,
                    struct fipc_block *ring) {
    return fipc_block_alloc(&conn->segment, UINT64_C(1) << log2,
                            FIPC_BLOCK_KIND_RING | conn->out.index << 1, deadline_ns, ring);
}

static bool is_no_room(int rc) { return rc == -ENOMEM || rc == -ENOSPC || rc == -EFBIG; }

/* Puts one record of at most FIPC_INLINE_MAX bytes; grows the ring when that helps. 0;
 * -EAGAIN, wait for room; -EBUSY, the turn is somebody else's; -ENOBUFS, the ring
 * should grow and cannot. */
static int put_record(struct fipc_conn *conn, struct fipc_put *put, int64_t deadline_ns) {
    struct fipc_block spare = {0};
    int rc;

    for (;;) {
        rc = fipc_channel_put(&conn->out, put, deadline_ns);
        if (rc == -ESTALE) {
            rc = fipc_channel_map(&conn->out);
        } else if (rc == -ENOBUFS && put->spare_ring == NULL) {
            rc = new_ring(conn, FIPC_RING_PIPE_LOG2, deadline_ns, &spare);
            if (is_no_room(rc))
                return -ENOBUFS;
            put->spare_ring = rc == 0 ? &spare : NULL;
        } else {
            break;
        }
        if (rc < 0)
            break;
    }
    if (put->spare_ring != NULL && !put->spare_used)
        fipc_block_release(&conn->segment, put->spare_ring);
    return rc;
}

/* Sends what fits into the next record through the put lock: the first fragment, which
 * also loads the ring, all while the ring is small, and what goes with `ring`, the next
 * one (or NULL), which is used or released. */
static int put_fragment(struct fipc_conn *conn, const uint8_t *data, uint64_t size, uint16_t tag,
                        int64_t deadline_ns, struct fipc_conn_send *state,
                        struct fipc_block *ring) {
    uint64_t left = size - state->sent;
    uint64_t most = state->stuck ? (UINT64_C(1) << FIPC_CLASS_MIN) / 8 : FIPC_INLINE_MAX;
    struct fipc_put put = {.head = &size,
                           .head_bytes = state->begun ? 0 : FIRST_HEAD_BYTES,
                           .data = data + state->sent,
                           .kind = FIPC_RECORD_MIDDLE,
                           .tag = tag,
                           .turn = state->owner,
                           .spare_ring = ring,
                           .grows_now = ring != NULL};
    int rc;

    most -= put.head_bytes;
    put.data_bytes = (uint32_t)(left < most ? left : most);
    if (!state->begun) {
        put.kind = FIPC_RECORD_FIRST;
        put.data_bytes -= put.data_bytes == left; /* the last one is another */
    } else if (put.data_bytes == left) {
        put.kind = FIPC_RECORD_LAST;
        put.items = 1;
    }
    rc = put_record(conn, &put, deadline_ns);
    if (rc == -ENOBUFS) {
        /* With the ring as it is, in fragments that it holds. */
        rc = state->stuck ? -EAGAIN : 0;
        state->stuck = true;
        return rc;
    }
    if (rc < 0)
        return rc;
    state->begun = true;
    state->sent += put.data_bytes;
    if (state->sent == size)
        end_turn(conn, state);
    return 0;
}

/* The same without a copy under the lock. */
static int stream_fragment(struct fipc_conn *conn, const uint8_t *data, uint64_t size, uint16_t tag,
                           int64_t deadline_ns, struct fipc_conn_send *state) {
    const struct fipc_ring *ring = &conn->out.put_ring;
    uint64_t left = size - state->sent;
    uint64_t most = (ring->size / 4 < FRAGMENT_MOST_BYTES ? ring->size / 4 : FRAGMENT_MOST_BYTES) -
                    FIPC_RECORD_BYTES;
    struct fipc_put put = {.kind = FIPC_RECORD_MIDDLE, .tag = tag, .turn = state->owner};
    struct fipc_room room;
    int rc =
        fipc_channel_reserve(&conn->out, FRAGMENT_LEAST_BYTES, left < most ? left : most, &room);

    if (rc < 0)
        return rc;
    fipc_copy(room.data, data + state->sent, room.bytes);
    conn->streamed_bytes += room.bytes;
    put.data_bytes = (uint32_t)room.bytes;
    if (room.bytes == left) {
        put.kind = FIPC_RECORD_LAST;
        put.items = 1;
        /* Before the turn can be another thread's. */
        fipc_store_relaxed(&conn->send_thread, 0);
    }
    rc = fipc_channel_commit(&conn->out, &room, &put, put.items != 0, deadline_ns);
    if (rc < 0) {
        fipc_store_relaxed(&conn->send_thread, fipc_conn_thread());
        return rc;
    }
    state->sent += room.bytes;
    if (put.items != 0) {
        state->owner = 0;
        fipc_sleepers_wake(&conn->out.shm->send_turn_sleepers);
    }
    return 0;
}

/* In the middle of a large message, after others like it: with a larger ring the two sides
 * wait less for each other. 0, a fragment was sent with it; -EAGAIN, not now. */
static int grow_stream(struct fipc_conn *conn, const uint8_t *data, uint64_t size, uint16_t tag,
                       int64_t deadline_ns, struct fipc_conn_send *state) {
    struct fipc_block ring = {0};
    int rc;

    if (conn->out.put_ring.size >> FIPC_RING_STREAM_LOG2 != 0 ||
        conn->streamed_bytes < STREAM_PAYS_BYTES)
        return -EAGAIN;
    /* Where there is no room for it, not again for a while. */
    conn->streamed_bytes = 0;
    rc = new_ring(conn, FIPC_RING_STREAM_LOG2, deadline_ns, &ring);
    if (rc < 0)
        return is_no_room(rc) ? -EAGAIN : rc;
    return put_fragment(conn, data, size, tag, deadline_ns, state, &ring);
}

/* One step of a message that is sent in fragments. */
static int send_step(struct fipc_conn *conn, const void *data, uint64_t size, uint16_t tag,
                     int64_t deadline_ns, struct fipc_conn_send *state) {
    const struct fipc_ring *ring = &conn->out.put_ring;
    int rc;

    if (state->owner == 0) {
        rc = wait_for_turn(conn, state, true, deadline_ns);
        if (rc < 0)
            return rc;
    }
    if (state->begun && ring->size >> FIPC_RING_PIPE_LOG2 != 0) {
        rc = grow_stream(conn, data, size, tag, deadline_ns, state);
        if (rc == -EAGAIN)
            rc = stream_fragment(conn, data, size, tag, deadline_ns, state);
    } else {
        rc = put_fragment(conn, data, size, tag, deadline_ns, state, NULL);
    }
    if (rc < 0)
        return rc == -EBUSY ? -EBADMSG : rc; /* the turn is ours, or was overwritten */
    state->waiting.rounds = 0;
    return wake_readers(conn);
}

/* Puts a message that fits in one record. */
static int send_small(struct fipc_conn *conn, const void *data, uint64_t size, uint16_t tag,
                      int64_t deadline_ns, struct fipc_conn_send *state) {
    struct fipc_put put = {.data = data,
                           .data_bytes = (uint32_t)size,
                           .kind = FIPC_RECORD_INLINE,
                           .tag = tag,
                           .items = 1};
    int rc = put_record(conn, &put, deadline_ns);

    if (rc == -ENOBUFS) {
        /* An empty message fits in any ring, if not now. */
        state->fragments = size > 0;
        return size > 0 ? 0 : -EAGAIN;
    }
    if (rc == -EBUSY)
        return wait_for_turn(conn, state, false, deadline_ns);
    if (rc < 0)
        return rc;
    state->sent = size;
    state->begun = true;
    return wake_readers(conn);
}

/* A child that a signal handler forked in the middle of a send: the parent goes on with
 * its message, we send our own. */
static void forget_parents(const struct fipc_conn *conn, struct fipc_conn_send *state) {
    if (state->owner != 0 && state->owner != conn->segment.owner)
        *state = (struct fipc_conn_send){.owner = 0};
}

int fipc_conn_send(struct fipc_conn *conn, const void *data, uint64_t size, uint16_t tag,
                   int64_t deadline_ns, struct fipc_conn_send *state) {
    int rc = fipc_conn_enter(conn, &conn->out);

    if (rc < 0)
        goto err;
    forget_parents(conn, state);
    deadline_ns = deadline_ns > 0 ? deadline_ns : 1; /* 0 has a meaning of its own below */
    if (size > FIPC_INLINE_MAX)
        state->fragments = true;
    while (!state->begun || state->sent < size) {
        /* Before the try: what moves after it shall not be slept over. */
        uint32_t seen = fipc_load_acquire(A1, &conn->out.shm->get.gen);

        rc = look_for_reader(conn);
        if (rc == 0)
            rc = state->fragments ? send_step(conn, data, size, tag, deadline_ns, state)
                                  : send_small(conn, data, size, tag, deadline_ns, state);
        if (rc == -EAGAIN)
            rc = wait_for_room(conn, seen, state, deadline_ns);
        if (rc < 0)
            goto err;
    }
    return 0;
err:
    if (rc != -EINTR && rc != -ETIMEDOUT)
        fipc_conn_send_abandon(conn, state);
    return rc;
}

void fipc_conn_send_abandon(struct fipc_conn *conn, struct fipc_conn_send *state) {
    if (state->owner == 0 || state->owner != conn->segment.owner)
        return;
    if (state->begun)
        put_abandon(conn, true);
    end_turn(conn, state);
}
