/* conn.h - one end of a Pipe: a channel each way in one segment, and for each
 * direction a kernel pipe that is doorbell of a sleeping reader, fileno() and life
 * line: its holders are counted by the kernel, so end of file comes exactly when the
 * last copy of the other end is gone and the ring is empty. Bytes flow through the
 * rings only; what the bytes mean is Cython's.
 *
 * Channel 0 flows from end 0 to end 1, channel 1 back. A one-way pipe has channel 0
 * only: end 0 sends, end 1 receives. A message up to FIPC_INLINE_MAX is one record; a
 * larger one streams through the ring in fragments, behind a turn that its sender
 * and its receiver each hold (PROTOCOL.md, "Turns").
 *
 * Threads and processes may use one end at once. The functions that say "blocks" are
 * to be called without the GIL; they return -EINTR after a signal and also now and then
 * without one: run signal handlers, then call again with the same arguments. */
#ifndef FIPC_CONN_H
#define FIPC_CONN_H

#include "channel.h"

struct fipc_conn {
    struct fipc_segment segment;
    struct fipc_channel out; /* valid when writable */
    struct fipc_channel in;  /* valid when readable */
    int read_fd;             /* the life line's ends that we hold, or -1 */
    int write_fd;
    bool readable;
    bool writable;
    uint32_t end; /* 0 or 1 */
    /* Process-local; everything below starts anew after a fork. */
    uint64_t token;      /* fork token that the rest was filled under */
    uint64_t read_inode; /* of the pipes, so that a reused number is noticed */
    uint64_t write_inode;
    uint32_t shut;             /* 1: whoever sleeps in here shall return -EBADF */
    uint32_t seen_close_epoch; /* at the last look for a reader */
    uint64_t looked_ticks;     /* when that was */
    uint64_t send_thread;      /* who of our threads holds our send turn; under the put lock */
    uint64_t recv_thread;      /* the same for the receive turn; 0: nobody, see kept */
    uint64_t streamed_bytes;   /* through a ring that could be larger; behind the send turn */
    uint32_t recv_run;         /* hint: messages received since we last had to wait for one */
    uint32_t rang;             /* hint: the doorbell holds a byte that may be taken out */
    struct fipc_spin send_spin;
    struct fipc_spin recv_spin;
    /* An interrupted receiver's part, which the next receive goes on with; under the
     * get lock. */
    uint8_t *kept; /* malloc'ed, NULL: none */
    uint64_t kept_size;
    uint64_t kept_received;
    uint16_t kept_tag;
};

/* A message on its way out; zero it before the first call for a message. */
struct fipc_conn_send {
    uint64_t owner; /* FIPC_OWNER of who holds the send turn for it; 0: nobody */
    uint64_t sent;  /* bytes that the ring has taken */
    bool begun;     /* its first fragment is in the ring */
    bool fragments; /* it does not go in one record */
    bool stuck;     /* the ring cannot grow: send small fragments */
    struct fipc_waiting waiting;
};

/* A message on its way in; zero it before the first call for a message. */
struct fipc_conn_recv {
    uint64_t size;        /* of the message, in bytes */
    uint16_t tag;         /* the sender's */
    bool whole;           /* it lies in the small buffer: no fipc_conn_recv_into() */
    bool drained;         /* we took the doorbell's byte out, perhaps another reader's */
    bool begun;           /* its first fragment was taken out of the ring */
    uint64_t dead_turn;   /* a receive turn whose owner was found dead */
    uint64_t dead_sender; /* polling: a send turn whose owner was found dead */
    uint64_t owner;       /* FIPC_OWNER of who holds the receive turn for it; 0: nobody */
    uint64_t received;    /* bytes received so far */
    uint8_t *kept;        /* an earlier call's part of it, to be copied first */
    struct fipc_waiting waiting;
};

/* ---- creating and closing ---- */

/* A new pipe; `label` is UTF-8 or NULL. Duplex: *a is end 0, *b end 1. One-way: *a is
 * end 1 and only receives, *b is end 0 and only sends (as Pipe(False) orders them).
 * Each has its own descriptors. Does not block. Errors: those of
 * fipc_segment_create(); nothing is left over. */
FIPC_MUST_USE int fipc_pipe_create(bool duplex, const char *label, struct fipc_conn **a,
                                   struct fipc_conn **b);

/* Attaches to end `end` through descriptors that came from elsewhere; read_fd or
 * write_fd is -1 where the end lacks that direction. On success they belong to
 * *conn (and are made non-blocking and close-on-exec); on error to the caller still.
 * Errors: -EINVAL, not a segment of ours, not pipes' proper ends, or no such end;
 * -EBADF; -ENOMEM. */
FIPC_MUST_USE int fipc_conn_open(int memfd, int read_fd, int write_fd, uint32_t end,
                                 struct fipc_conn **conn);

/* Makes every call that is, or comes, inside return -EBADF soon: before close() while
 * other threads may be inside. Does not block. */
void fipc_conn_shut(struct fipc_conn *conn);

/* Gives turns, slot, mappings and descriptors back (those that are still ours) and
 * frees `conn`. Nobody may be inside any more. Does not block. */
void fipc_conn_close(struct fipc_conn *conn);

/* ---- sending ---- */

/* With the GIL held: sends a message up to FIPC_INLINE_MAX without waiting. 0;
 * -EAGAIN, take fipc_conn_send() (too large, full, or somebody else is at it); -EPIPE,
 * nobody can receive any more; errors of fipc_segment_enter(). */
FIPC_MUST_USE int fipc_conn_try_send(struct fipc_conn *conn, const void *data, uint64_t size,
                                     uint16_t tag);

/* Sends a message of any size; blocks while there is no room. `data` must stay as it
 * is until the call that returns something other than -EINTR and -ETIMEDOUT; after
 * one of these a caller that gives up calls fipc_conn_send_abandon(). Errors:
 * -EPIPE, nobody can receive any more (the message is lost); -EINTR; -ETIMEDOUT;
 * -EDEADLK, this thread is in the middle of another message to this end; -EBADMSG;
 * -EBADF, closed; errors of fipc_segment_enter(). After an error other than -EINTR
 * and -ETIMEDOUT, nothing is held. */
FIPC_MUST_USE int fipc_conn_send(struct fipc_conn *conn, const void *data, uint64_t size,
                                 uint16_t tag, int64_t deadline_ns, struct fipc_conn_send *state);

/* Gives up a message that fipc_conn_send() did not finish: receivers drop what they
 * have of it. Does nothing when nothing was begun. Blocks for the put lock only. */
void fipc_conn_send_abandon(struct fipc_conn *conn, struct fipc_conn_send *state);

/* ---- receiving ---- */

/* With the GIL held: receives a whole message up to FIPC_INLINE_MAX into `buffer`
 * (at least as large) without waiting: 0, with *size and *tag. -EAGAIN: take
 * fipc_conn_recv_begin(). Errors of fipc_segment_enter(). */
FIPC_MUST_USE int fipc_conn_try_recv(struct fipc_conn *conn, void *buffer, uint64_t *size,
                                     uint16_t *tag);

/* Blocks until a message begins: 0, and state->size and state->tag say what it is. If
 * state->whole, it lies in small_buffer (FIPC_INLINE_MAX bytes) and that is all.
 * Otherwise the receive turn is held: call fipc_conn_recv_into() until it returns
 * something other than -EINTR and -ETIMEDOUT, or fipc_conn_recv_keep(), or
 * fipc_conn_recv_drop(). Errors: -ENODATA, end of file; -EINTR; -ETIMEDOUT;
 * -EDEADLK, this thread is in the middle of receiving from this end; -EBADMSG; -EBADF;
 * errors of fipc_segment_enter(). After an error nothing is held. */
FIPC_MUST_USE int fipc_conn_recv_begin(struct fipc_conn *conn, void *small_buffer,
                                       int64_t deadline_ns, struct fipc_conn_recv *state);

/* Fills `buffer` (state->size bytes, the same at every call) with the message; blocks
 * until all is there. Errors: -EINTR, -ETIMEDOUT, call again, or keep or drop it;
 * -EPROTO, end of file in the middle of the message; -ECANCELED, its sender gave it up
 * or was killed: zero the state and begin with the next one; -EBADMSG; -EBADF. */
FIPC_MUST_USE int fipc_conn_recv_into(struct fipc_conn *conn, void *buffer, int64_t deadline_ns,
                                      struct fipc_conn_recv *state);

/* An exception goes through the receiver: keeps what `buffer` (NULL: nothing was
 * received into one yet) has of the message, for this process's next receive. 0, or
 * -ENOMEM: the message was dropped. Blocks for the get lock only. */
int fipc_conn_recv_keep(struct fipc_conn *conn, const void *buffer, struct fipc_conn_recv *state);

/* Gives the message up; the next receiver skips the rest of it. */
void fipc_conn_recv_drop(struct fipc_conn *conn, struct fipc_conn_recv *state);

/* ---- looking ---- */

/* Blocks until a message begins or end of file: 1. 0: not until deadline_ns (which may
 * lie in the past). What a sender left that was killed, or gave up, in the middle of a
 * message is no message. `state` as above, for the waiting only. Errors: -EINTR; -EDEADLK,
 * this thread is in the middle of receiving; -EBADMSG; -EBADF; errors of
 * fipc_segment_enter(). */
FIPC_MUST_USE int fipc_conn_poll(struct fipc_conn *conn, int64_t deadline_ns,
                                 struct fipc_conn_recv *state);

/* The descriptor for select() and the like; from now on it is readable, whoever uses
 * it, exactly while a record is there or at end of file. An end that only sends
 * returns its write end. Blocks for the put lock only. Errors: -EINTR, -ETIMEDOUT,
 * -EBADMSG, -EBADF, -EMFILE; errors of fipc_segment_enter(). */
FIPC_MUST_USE int fipc_conn_fileno(struct fipc_conn *conn, int64_t deadline_ns);

/* 0 when the pipe descriptors are still those that `conn` was given, else -EBADF. */
FIPC_MUST_USE int fipc_conn_fds_are_ours(const struct fipc_conn *conn);

#endif
