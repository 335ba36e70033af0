/* conn.c - see conn.h. Creating, opening, closing, fileno(), turns; sending stands in
 * conn_send.c, receiving and polling in conn_recv.c. */
#define _GNU_SOURCE
#include "conn_internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "slots.h"

/* A turn's owner may have been killed: looked at within 50 ms. */
#define TURN_SLICE_FIRST_NS (5 * FIPC_NS_PER_MS)
#define TURN_SLICE_LAST_NS (40 * FIPC_NS_PER_MS)

/* ---- descriptors ---- */

static int pipe_inode(int fd, uint64_t *inode) {
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISFIFO(st.st_mode))
        return -EINVAL;
    *inode = (uint64_t)st.st_ino;
    return 0;
}

int fipc_pipe_fd_is_ours(int fd, uint64_t inode) {
    uint64_t now = 0;

    return pipe_inode(fd, &now) == 0 && now == inode ? 0 : -EBADF;
}

/* Checks that `fd` is a pipe's end for `access_mode` and sets it up. */
static int take_pipe_fd(int fd, int access_mode, uint64_t *inode) {
    int rc = pipe_inode(fd, inode), flags;

    if (rc < 0)
        return rc;
    flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return -errno;
    if ((flags & O_ACCMODE) != access_mode)
        return -EINVAL;
    if (!(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    return fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0;
}

int fipc_conn_fds_are_ours(const struct fipc_conn *conn) {
    if (conn->read_fd >= 0 && fipc_pipe_fd_is_ours(conn->read_fd, conn->read_inode) < 0)
        return -EBADF;
    if (conn->write_fd >= 0 && fipc_pipe_fd_is_ours(conn->write_fd, conn->write_inode) < 0)
        return -EBADF;
    return fipc_segment_fd_is_ours(&conn->segment);
}

/* ---- creating and closing ---- */

static void init_channel(struct fipc_conn *conn, struct fipc_channel *channel, uint32_t index) {
    fipc_channel_init(channel, &conn->segment, index);
    channel->wrap_log2 = FIPC_RING_STREAM_LOG2;
    /* What is larger, conn_send.c links in when it pays. */
    channel->max_log2 = FIPC_RING_PIPE_LOG2;
    channel->grows = false;
}

/* Puts descriptors, whose inodes are known, and channels in their places; the segment is
 * attached already. */
static void connect_end(struct fipc_conn *conn, uint32_t end, int read_fd, int write_fd) {
    conn->end = end;
    init_channel(conn, &conn->out, end);
    init_channel(conn, &conn->in, 1 - end);
    conn->readable = read_fd >= 0;
    conn->writable = write_fd >= 0;
    conn->read_fd = conn->in.bell_read_fd = read_fd;
    conn->write_fd = conn->out.bell_write_fd = write_fd;
    conn->in.bell_inode = conn->read_inode;
    conn->out.bell_inode = conn->write_inode;
}

/* Checks descriptors that came from elsewhere, and sets them up. */
static int take_end(struct fipc_conn *conn, uint32_t end, int read_fd, int write_fd) {
    int rc;

    if (read_fd >= 0) {
        rc = take_pipe_fd(read_fd, O_RDONLY, &conn->read_inode);
        if (rc < 0)
            return rc;
    }
    if (write_fd >= 0) {
        rc = take_pipe_fd(write_fd, O_WRONLY, &conn->write_inode);
        if (rc < 0)
            return rc;
    }
    connect_end(conn, end, read_fd, write_fd);
    if (read_fd >= 0 && fipc_side_read(&conn->in.shm->put).ring == 0)
        return -EINVAL;
    if (write_fd >= 0 && fipc_side_read(&conn->out.shm->put).ring == 0)
        return -EINVAL;
    conn->seen_close_epoch = fipc_load_acquire(N2, &conn->out.shm->close_epoch);
    return 0;
}

/* Lets go of the segment but not of its descriptor. */
static void detach(struct fipc_conn *conn) {
    conn->segment.fd = -1;
    fipc_segment_close(&conn->segment);
    free(conn);
}

int fipc_conn_open(int memfd, int read_fd, int write_fd, uint32_t end, struct fipc_conn **out) {
    struct fipc_conn *conn;
    int rc;

    if (end > 1 || (read_fd < 0 && write_fd < 0))
        return -EINVAL;
    conn = calloc(1, sizeof(*conn));
    if (conn == NULL)
        return -ENOMEM;
    rc = fipc_segment_open(&conn->segment, memfd, FIPC_KIND_CONN);
    if (rc < 0) {
        free(conn);
        return rc;
    }
    rc = take_end(conn, end, read_fd, write_fd);
    if (rc == 0 && fcntl(memfd, F_SETFD, FD_CLOEXEC) < 0)
        rc = -errno;
    if (rc < 0) {
        detach(conn);
        return rc;
    }
    *out = conn;
    return 0;
}

/* A kernel pipe for one direction, and its inode number. */
static int make_life_line(int fds[2], uint64_t *inode) {
    int rc = fipc_os_pipe(fds);

    return rc < 0 ? rc : pipe_inode(fds[0], inode);
}

static void close_pair(int fds[2]) {
    for (int i = 0; i < 2; i++)
        if (fds[i] >= 0)
            (void)close(fds[i]);
}

int fipc_pipe_create(bool duplex, const char *label, struct fipc_conn **a, struct fipc_conn **b) {
    struct fipc_segment_config config = {
        .kind = FIPC_KIND_CONN,
        .channel_count = duplex ? 2 : 1,
        .label = label,
    };
    int forth[2] = {-1, -1}, back[2] = {-1, -1}, rc = -ENOMEM;
    struct fipc_conn *end0 = calloc(1, sizeof(*end0)), *end1 = calloc(1, sizeof(*end1));

    if (end0 == NULL || end1 == NULL)
        goto err_free;
    rc = fipc_segment_create(&end0->segment, &config);
    if (rc < 0)
        goto err_free;
    rc = make_life_line(forth, &end0->write_inode);
    if (rc == 0 && duplex)
        rc = make_life_line(back, &end0->read_inode);
    if (rc < 0)
        goto err_pipes;
    rc = fipc_segment_share(&end1->segment, &end0->segment);
    if (rc < 0)
        goto err_pipes;
    end1->read_inode = end0->write_inode;
    end1->write_inode = end0->read_inode;
    connect_end(end0, 0, back[0], forth[1]);
    connect_end(end1, 1, forth[0], back[1]);
    *a = duplex ? end0 : end1;
    *b = duplex ? end1 : end0;
    return 0;
err_pipes:
    close_pair(back);
    close_pair(forth);
    fipc_segment_close(&end0->segment);
err_free:
    free(end0);
    free(end1);
    return rc;
}

/* A channel whatever has been entered; NULL before the segment is mapped. */
static struct fipc_channel_shm *channel_at(struct fipc_conn *conn, uint32_t index) {
    return conn->segment.header == NULL ? NULL : fipc_segment_channel(&conn->segment, index);
}

void fipc_conn_shut(struct fipc_conn *conn) {
    struct fipc_channel_shm *in, *out;

    /* S1, pairs with S2, the sleepers' look at it after they marked themselves; one who
     * sleeps all the same looks again after his slice. */
    (void)fipc_exchange32_seqcst(S1, &conn->shut, 1);
    /* Behind the lock: who has not mapped it by now will find `shut` before he sleeps. */
    fipc_process_lock();
    in = channel_at(conn, conn->in.index);
    out = channel_at(conn, conn->out.index);
    fipc_process_unlock();
    if (conn->readable) {
        /* A byte too many: whoever finds nothing behind it takes it out. */
        int rc = fipc_conn_ring_in(conn);

        (void)rc;
        if (in != NULL)
            fipc_sleepers_wake_all(&in->recv_turn_sleepers);
    }
    if (conn->writable && out != NULL) {
        fipc_sleepers_wake_all(&out->get.sleepers);
        fipc_sleepers_wake_all(&out->send_turn_sleepers);
    }
}

/* A receiving end is closed. Who has not entered yet looks before his first message anyhow;
 * for him nothing is mapped and no page touched, which would cost 9 us. */
static void tell_senders(struct fipc_conn *conn) {
    struct fipc_channel_shm *in;

    if (!fipc_segment_was_entered(&conn->segment) || fipc_segment_map(&conn->segment) < 0)
        return;
    in = channel_at(conn, conn->in.index);
    /* step close-epoch. N1, pairs with N2 in look_for_reader(): the descriptor first, since who
     * sees the new epoch looks for readers, and must not find us. And with N2 in wait_for_room():
     * a sender who is about to wait for room sees it after its mark, or we see the mark. */
    (void)fipc_fetch_add_seqcst(N1, &in->close_epoch, 1);
    fipc_sleepers_wake_all(&in->get.sleepers);
}

void fipc_conn_close(struct fipc_conn *conn) {
    uint64_t owner = fipc_token_is_current(conn->segment.fork_token) ? conn->segment.owner : 0;
    struct fipc_channel_shm *in = channel_at(conn, conn->in.index);
    struct fipc_channel_shm *out = channel_at(conn, conn->out.index);

    /* Should we die in here: the turns of a slot that is given back are dead. */
    if (owner != 0 && conn->readable)
        fipc_turn_release(&in->recv_turn, owner, &in->recv_turn_sleepers);
    if (owner != 0 && conn->writable)
        fipc_turn_release(&out->send_turn, owner, &out->send_turn_sleepers);
    free(conn->kept);
    if (conn->writable && fipc_pipe_fd_is_ours(conn->write_fd, conn->write_inode) == 0)
        (void)close(conn->write_fd);
    if (conn->readable) {
        if (fipc_pipe_fd_is_ours(conn->read_fd, conn->read_inode) == 0)
            (void)close(conn->read_fd);
        tell_senders(conn);
    }
    fipc_segment_close(&conn->segment);
    free(conn);
}

int fipc_conn_enter_slow(struct fipc_conn *conn) {
    fipc_process_lock();
    if (conn->token != conn->segment.fork_token) {
        /* A forked child: turns and parts are the parent's. */
        fipc_store_relaxed(&conn->send_thread, 0);
        fipc_store_relaxed(&conn->recv_thread, 0);
        free(conn->kept);
        conn->kept = NULL;
        fipc_store_release(V1, &conn->token, conn->segment.fork_token);
    }
    fipc_process_unlock();
    return 0;
}

/* ---- waiting ---- */

int64_t fipc_slice_until(struct fipc_waiting *waiting, int64_t first_ns, int64_t last_ns,
                         int64_t deadline_ns) {
    int64_t slice_ns = last_ns, now_ns = fipc_os_now_ns();

    if (waiting->rounds < 16 && first_ns << waiting->rounds < last_ns)
        slice_ns = first_ns << waiting->rounds;
    waiting->rounds++;
    return deadline_ns - now_ns > slice_ns ? now_ns + slice_ns : deadline_ns;
}

int fipc_turn_wait(struct fipc_conn *conn, uint64_t *turn, uint64_t seen, uint32_t *sleepers,
                   struct fipc_waiting *waiting, int64_t deadline_ns) {
    uint32_t mark = fipc_sleepers_mark(sleepers);
    int rc;

    if (fipc_load_seqcst(T2, turn) != seen)
        return 0;
    if (fipc_load_seqcst(S2, &conn->shut) != 0)
        return -EBADF;
    rc = fipc_sleepers_wait(
        sleepers, mark,
        fipc_slice_until(waiting, TURN_SLICE_FIRST_NS, TURN_SLICE_LAST_NS, deadline_ns));
    if (rc != -ETIMEDOUT)
        return rc;
    rc = fipc_slots_is_alive(&conn->segment, FIPC_OWNER_SLOT(seen), FIPC_OWNER_GEN(seen));
    if (rc < 0)
        return rc;
    if (rc == 0)
        return 1;
    return fipc_os_now_ns() >= deadline_ns ? -ETIMEDOUT : -EINTR;
}

void fipc_turn_release(uint64_t *turn, uint64_t owner, uint32_t *sleepers) {
    /* step turn-release. T1, pairs with T2: what we did without the lock is done, and
     * (as W1) who waits sees the turn free or is seen asleep. */
    if (fipc_cas64_seqcst(T1, turn, owner, 0))
        fipc_sleepers_wake(sleepers);
}

/* ---- fileno() ---- */

int fipc_conn_ring_in(struct fipc_conn *conn) {
    int rc = fipc_pipe_fd_is_ours(conn->read_fd, conn->read_inode), fd;

    if (rc < 0)
        return rc;
    fd = fipc_os_reopen(conn->read_fd, O_WRONLY | O_NONBLOCK);
    if (fd < 0)
        return fd;
    rc = fipc_os_ring(fd);
    (void)close(fd);
    return rc;
}

int fipc_conn_fileno(struct fipc_conn *conn, int64_t deadline_ns) {
    int rc, bell_fd;

    if (!conn->readable) {
        rc = fipc_pipe_fd_is_ours(conn->write_fd, conn->write_inode);
        return rc < 0 ? rc : conn->write_fd;
    }
    rc = fipc_conn_enter(conn, &conn->in);
    if (rc == 0)
        rc = fipc_pipe_fd_is_ours(conn->read_fd, conn->read_inode);
    if (rc < 0)
        return rc;
    if (fipc_load_acquire(D2, &conn->in.shm->put.flags) & FIPC_SIDE_ARMED)
        return conn->read_fd;
    bell_fd = fipc_os_reopen(conn->read_fd, O_WRONLY | O_NONBLOCK);
    if (bell_fd < 0)
        return bell_fd;
    rc = fipc_channel_arm(&conn->in, bell_fd, deadline_ns);
    (void)close(bell_fd);
    if (rc < 0)
        return rc;
    /* What rang for sleepers before may still be in there. */
    if (fipc_channel_is_empty(&conn->in)) {
        rc = fipc_channel_disarm_if_empty(&conn->in, deadline_ns);
        if (rc < 0 && rc != -EPIPE)
            return rc;
    }
    return conn->read_fd;
}
