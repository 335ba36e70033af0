/* pipe_operations.c - what the fuzzers do with a pipe whose segment may be damaged: each thing
 * that the extension does with its ends, with deadlines that are near. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "world_internal.h"

#define TRIES 4

/* The life lines, made once: of the way from end 0 to end 1, and back. */
static int line(int way, int side) {
    static int fds[2][2] = {{-1, -1}, {-1, -1}};

    if (fds[way][0] < 0)
        MUST(fipc_os_pipe(fds[way]) == 0);
    if (side == 0)
        (void)fipc_os_drain(fds[way][0]);
    return fcntl(fds[way][side], F_DUPFD_CLOEXEC, FD_FIRST);
}

static struct fipc_conn *opened(struct world *world, uint32_t end) {
    struct fipc_conn **conn = &world->conn[end];
    int fds[3];

    if (*conn != NULL || world->refused)
        return *conn;
    fds[0] = fcntl(world->fd, F_DUPFD_CLOEXEC, FD_FIRST);
    fds[1] = line(1 - (int)end, 0);
    fds[2] = line((int)end, 1);
    MUST(fds[0] >= 0 && fds[1] >= 0 && fds[2] >= 0);
    if (fipc_conn_open(fds[0], fds[1], fds[2], end, conn) < 0) {
        *conn = NULL;
        world->refused = true;
        for (int i = 0; i < 3; i++)
            (void)close(fds[i]);
    }
    return *conn;
}

static void close_one(struct world *world, uint32_t end) {
    if (world->conn[end] != NULL)
        fipc_conn_close(world->conn[end]);
    world->conn[end] = NULL;
}

void pipe_end(struct world *world) {
    for (uint32_t end = 0; end < 2; end++)
        close_one(world, end);
}

/* As recv() does it: a small message, or one for which a buffer is made when its size is known. */
static void receive(struct fipc_conn *conn, uint8_t argument) {
    struct fipc_conn_recv state = {0};
    uint8_t *small = aligned_alloc(8, FIPC_INLINE_MAX), *large = NULL;
    uint64_t size;
    uint16_t tag;
    int rc = -EAGAIN;

    MUST(small != NULL);
    if (argument & 1)
        rc = fipc_conn_try_recv(conn, small, &size, &tag);
    if (rc == 0) {
        world_read(small, size);
        goto out;
    }
    for (int i = 0; i < TRIES && (rc == -EINTR || rc == -EAGAIN); i++)
        rc = fipc_conn_recv_begin(conn, small, argument & 2 ? soon() : 0, &state);
    if (rc < 0)
        goto out;
    if (state.whole) {
        world_read(small, state.size);
        goto out;
    }
    if (state.size <= MESSAGE_MOST)
        large = malloc(state.size);
    if (large == NULL) {
        /* MemoryError. */
        (void)fipc_conn_recv_keep(conn, NULL, &state);
        goto out;
    }
    rc = -EINTR;
    for (int i = 0; i < TRIES && (rc == -EINTR || rc == -ETIMEDOUT); i++)
        rc = fipc_conn_recv_into(conn, large, argument & 2 ? soon() : 0, &state);
    if (rc == 0)
        world_read(large, state.size);
    if ((rc == -EINTR || rc == -ETIMEDOUT) && (argument & 8) && state.kept == NULL)
        rc = 0; /* this thread stays in the middle of it */
    if ((rc == -EINTR || rc == -ETIMEDOUT) && (argument & 4))
        fipc_conn_recv_drop(conn, &state);
    else if (rc == -EINTR || rc == -ETIMEDOUT)
        (void)fipc_conn_recv_keep(conn, large, &state);
    if (rc == -ECANCELED && state.kept != NULL)
        abort(); /* the extension zeroes the state then: it would be lost */
    free(large);
out:
    free(small);
}

static void send_message(struct fipc_conn *conn, uint64_t size, int64_t deadline_ns, bool stays) {
    struct fipc_conn_send state = {0};
    int rc = -EINTR;

    for (int i = 0; i < TRIES && rc == -EINTR; i++)
        rc = fipc_conn_send(conn, world_bytes, size, 2, deadline_ns, &state);
    /* Or this thread stays in the middle of it. */
    if ((rc == -EINTR || rc == -ETIMEDOUT) && !stays)
        fipc_conn_send_abandon(conn, &state);
}

static void poll_once(struct fipc_conn *conn, int64_t deadline_ns) {
    struct fipc_conn_recv state = {0};
    int rc = -EINTR;

    for (int i = 0; i < TRIES && rc == -EINTR; i++)
        rc = fipc_conn_poll(conn, deadline_ns, &state);
}

static void look(struct fipc_conn *conn, uint8_t argument) {
    struct fipc_channel *channel = argument & 2 ? &conn->in : &conn->out;
    struct fipc_stats stats;
    int rc;

    if (argument & 4)
        rc = fipc_conn_fileno(conn, soon());
    else
        rc = fipc_channel_stats(channel, &stats, soon());
    (void)rc;
}

/* The argument's lowest bit says which end, the rest how. */
void pipe_operate(struct world *world, uint8_t number, uint8_t argument) {
    uint32_t end = argument & 1;
    struct fipc_conn *conn = opened(world, end);
    uint8_t how = argument >> 1;

    if (conn == NULL)
        return;
    switch (number % PIPE_OPERATIONS) {
    case 0:
    case 1:
    case 2:
        receive(conn, how);
        break;
    case 3:
        if (fipc_conn_try_send(conn, world_bytes, how * 32, 2) < 0)
            send_message(conn, how, 0, false);
        break;
    case 4:
        send_message(conn, 4000 + (uint64_t)how * 250, 0, false);
        break;
    case 5:
        send_message(conn, (uint64_t)how * 4096, soon(), how & 1);
        break;
    case 6:
        poll_once(conn, how & 1 ? soon() : 0);
        break;
    case 7:
        look(conn, argument);
        break;
    case 8:
        world_check(&conn->segment, how & 1 ? &conn->in : &conn->out);
        break;
    case 9:
        if (how & 1)
            close_one(world, end);
        else if (fipc_segment_enter(&conn->segment) >= 0)
            fipc_arena_trim_now(&conn->segment);
        break;
    case 10:
        world_grow(world, how);
        break;
    default:
        world_allocate(&conn->segment, how);
    }
}
