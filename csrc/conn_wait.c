/* conn_wait.c - a receiver's waiting, for a record or for its turn: see conn_internal.h. */
#include <poll.h>

#include "conn_internal.h"

void fipc_conn_pass_bell_on_slow(struct fipc_conn *conn, struct fipc_conn_recv *state) {
    int rc;

    state->drained = false;
    if (fipc_sleepers_any(&conn->in.shm->put.sleepers) && !fipc_channel_is_empty(&conn->in)) {
        rc = fipc_conn_ring_in(conn);
        (void)rc;
    }
}

/* The doorbell rang and nothing is there. */
static int silence(struct fipc_conn *conn, struct fipc_conn_recv *state, int64_t deadline_ns) {
    uint32_t flags = fipc_load_acquire(D2, &conn->in.shm->put.flags);
    int rc;

    fipc_store_relaxed(&conn->rang, 0);
    /* Only queues are shut. Such a doorbell would be readable for good. */
    if (fipc_unlikely(flags & FIPC_SIDE_SHUT))
        return -EBADMSG;
    if (flags & FIPC_SIDE_ARMED) {
        rc = fipc_channel_disarm_if_empty(&conn->in, fipc_os_now_ns() + FIPC_DISARM_NS);
        if (rc == -ETIMEDOUT && fipc_os_now_ns() < deadline_ns)
            rc = -EINTR;
    } else {
        rc = fipc_os_drain(conn->read_fd);
        if (rc > 0) {
            /* It may have been for another reader, whose mark is gone: ring again. */
            state->drained = true;
            (void)fipc_sleepers_mark(&conn->in.shm->put.sleepers);
        }
    }
    return rc < 0 && rc != -EPIPE ? rc : 0;
}

int fipc_conn_wait_for_record(struct fipc_conn *conn, uint32_t seen, struct fipc_conn_recv *state,
                              int64_t longest_ns, int64_t deadline_ns) {
    struct fipc_side_shm *put = &conn->in.shm->put;
    int64_t now_ns = fipc_os_now_ns(), until_ns = now_ns;
    uint32_t *getters = fipc_channel_getters(&conn->in);
    bool sleeps = deadline_ns > now_ns, rang;
    int rc;

    /* In the middle of a message a sleep is short, and whoever looks after it asks for the sender. */
    if (sleeps && (state->owner != 0 || !fipc_waiting_has_looked(&state->waiting))) {
        if (fipc_spin_while(&conn->recv_spin, &put->gen, seen, deadline_ns))
            return fipc_waiting_spared(&state->waiting);
        if (state->owner == 0)
            return -EINTR;
    }
    if (fipc_load_seqcst(S2, &conn->shut) != 0)
        return -EBADF;
    rc = fipc_pipe_fd_is_ours(conn->read_fd, conn->read_inode);
    rang = fipc_load_relaxed(&conn->rang) != 0;
    if (rc == 0 && rang)
        rc = silence(conn, state, deadline_ns);
    if (rc < 0)
        return rc;
    if (sleeps) {
        /* W2, pairs with W1 in wake_readers(), which rings the doorbell instead. */
        (void)fipc_sleepers_mark(&put->sleepers);
        until_ns = fipc_waiting_until(&state->waiting, deadline_ns, false);
        if (until_ns - now_ns > longest_ns)
            until_ns = now_ns + longest_ns;
    }
    /* S2, pairs with S1: behind the mark, and behind the silence, which may have taken out
     * the byte that said so: for other threads, too, so it is put back. */
    if (fipc_load_seqcst(S2, &conn->shut) != 0) {
        rc = fipc_conn_ring_in(conn);
        (void)rc;
        return -EBADF;
    }
    if (!fipc_channel_is_empty(&conn->in))
        return 0;
    fipc_fetch_add_relaxed(getters, sleeps);
    rc = fipc_os_poll(conn->read_fd, POLLIN, until_ns);
    fipc_fetch_add_relaxed(getters, -(uint32_t)sleeps);
    if (rc < 0)
        return rc;
    if (rc & ~POLLIN)
        /* Nobody can send any more: what is there now is all there is. */
        return fipc_channel_is_empty(&conn->in) ? -ENODATA : 0;
    if (rc & POLLIN) {
        fipc_store_relaxed(&conn->rang, 1);
        /* A doorbell that rings although it was silenced must not outlast the deadline. */
        return sleeps || !rang || !fipc_channel_is_empty(&conn->in) ? 0 : -ETIMEDOUT;
    }
    if (fipc_os_now_ns() >= deadline_ns)
        return -ETIMEDOUT;
    if (!fipc_channel_is_empty(&conn->in))
        fipc_fetch_add_relaxed(&conn->in.shm->late_wakes, 1);
    return -EINTR;
}

int fipc_conn_wait_for_recv_turn(struct fipc_conn *conn, uint64_t turn,
                                 struct fipc_conn_recv *state, int64_t deadline_ns) {
    int rc;

    /* It may have been for the turn's owner, who sleeps for its next fragment. */
    fipc_conn_pass_bell_on(conn, state);
    rc = fipc_turn_wait(conn, &conn->in.shm->recv_turn, turn, &conn->in.shm->recv_turn_sleepers,
                        &state->waiting, deadline_ns);
    if (rc == 1) {
        state->dead_turn = turn;
        rc = 0;
    }
    return rc;
}
