/* conn_internal.h - what conn.c, conn_send.c, conn_recv.c and conn_wait.c share; nobody else. */
#ifndef FIPC_CONN_INTERNAL_H
#define FIPC_CONN_INTERNAL_H

#include "conn.h"

/* Behind every blocking call's door: claims a slot, forgets what a fork made stale.
 * Errors: -EBADF, shut; those of fipc_segment_enter(). */
FIPC_MUST_USE int fipc_conn_enter_slow(struct fipc_conn *conn);
FIPC_ALWAYS_INLINE int fipc_conn_enter(struct fipc_conn *conn, struct fipc_channel *channel) {
    int rc;

    if (fipc_unlikely(fipc_load_relaxed(&conn->shut) != 0))
        return -EBADF;
    rc = fipc_channel_enter(channel);
    if (fipc_unlikely(rc < 0))
        return rc;
    return fipc_token_is_current(fipc_load_acquire(V2, &conn->token)) ? 0
                                                                      : fipc_conn_enter_slow(conn);
}

/* This thread, among those of the process; never 0. */
FIPC_ALWAYS_INLINE uint64_t fipc_conn_thread(void) {
    static _Thread_local char self;

    return (uint64_t)(uintptr_t)&self;
}

/* Sleeps until *turn may be no more `seen`: 0, look again; 1, its owner is dead;
 * -EINTR, -ETIMEDOUT, -EBADMSG, -EBADF. */
FIPC_MUST_USE int fipc_turn_wait(struct fipc_conn *conn, uint64_t *turn, uint64_t seen,
                                 uint32_t *sleepers, struct fipc_waiting *waiting,
                                 int64_t deadline_ns);

/* Gives the turn up if it is `owner`'s. No lock is needed: nobody else touches it then. */
void fipc_turn_release(uint64_t *turn, uint64_t owner, uint32_t *sleepers);

/* The end of a sleep that goes on for ever in slices: first_ns, doubled each time up
 * to last_ns, not beyond deadline_ns. */
int64_t fipc_slice_until(struct fipc_waiting *waiting, int64_t first_ns, int64_t last_ns,
                         int64_t deadline_ns);

/* Is `fd` the pipe that had this inode number? 0 or -EBADF. */
FIPC_MUST_USE int fipc_pipe_fd_is_ours(int fd, uint64_t inode);

/* Silencing the doorbell waits so long for a lock. */
#define FIPC_DISARM_NS (100 * FIPC_NS_PER_MS)

/* Of several readers, one may have taken out the byte that was for another: who leaves
 * a record behind rings again. */
void fipc_conn_pass_bell_on_slow(struct fipc_conn *conn, struct fipc_conn_recv *state);
FIPC_ALWAYS_INLINE void fipc_conn_pass_bell_on(struct fipc_conn *conn,
                                               struct fipc_conn_recv *state) {
    if (fipc_unlikely(state->drained))
        fipc_conn_pass_bell_on_slow(conn, state);
}

/* Waits until there may be a record behind put generation `seen`, at which nothing was
 * there. 0: look again; -ENODATA: end of file; -EINTR, -ETIMEDOUT, -EBADF. */
FIPC_MUST_USE int fipc_conn_wait_for_record(struct fipc_conn *conn, uint32_t seen,
                                            struct fipc_conn_recv *state, int64_t longest_ns,
                                            int64_t deadline_ns);

/* Waits for the receive turn of `turn`. */
FIPC_MUST_USE int fipc_conn_wait_for_recv_turn(struct fipc_conn *conn, uint64_t turn,
                                               struct fipc_conn_recv *state, int64_t deadline_ns);

/* Makes the in channel's doorbell readable, of which we hold the read end only. */
FIPC_MUST_USE int fipc_conn_ring_in(struct fipc_conn *conn);

#endif
