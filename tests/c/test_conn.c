/* test_conn.c - one end of a Pipe: messages of all sizes, end of file, broken pipes,
 * fragments that are interrupted, given up or killed, polling and fileno(). Threads
 * and forked processes are the peers. */
#define _GNU_SOURCE
#include "conn.h"

#include <poll.h>
#include <sys/resource.h>

#include "fixture.h"

#define LARGE (UINT64_C(1) << 20)

static struct fipc_conn *left, *right; /* end 0 and end 1 of the case's pipe */

static void new_pipe(void) { CHECK_EQ(fipc_pipe_create(true, "test", &left, &right), 0); }

/* For a case that looks into the shared memory of an end that only another thread uses. */
static void enter(struct fipc_channel *channel) { CHECK(fipc_channel_enter(channel) >= 0); }

static void drop_pipe(void) {
    if (left != NULL)
        fipc_conn_close(left);
    if (right != NULL)
        fipc_conn_close(right);
    left = right = NULL;
}

static void close_end(struct fipc_conn **end) {
    fipc_conn_close(*end);
    *end = NULL;
}

/* Sends as the binding does: try, then wait, again after each -EINTR. */
static int send_bytes(struct fipc_conn *conn, const void *data, uint64_t size, uint16_t tag) {
    struct fipc_conn_send state = {0};
    int rc = fipc_conn_try_send(conn, data, size, tag);

    if (rc != -EAGAIN)
        return rc;
    do {
        rc = fipc_conn_send(conn, data, size, tag, FIPC_FOREVER, &state);
    } while (rc == -EINTR);
    return rc;
}

/* The same without the try and until a deadline; gives up then. */
static int send_until(struct fipc_conn *conn, const void *data, uint64_t size,
                      int64_t deadline_ns) {
    struct fipc_conn_send state = {0};
    int rc;

    do {
        rc = fipc_conn_send(conn, data, size, 0, deadline_ns, &state);
    } while (rc == -EINTR);
    if (rc == -ETIMEDOUT)
        fipc_conn_send_abandon(conn, &state);
    return rc;
}

struct message {
    uint64_t size;
    uint16_t tag;
    uint8_t *data; /* malloc'ed */
};

static int begin(struct fipc_conn *conn, void *small, struct fipc_conn_recv *state,
                 int64_t deadline_ns) {
    int rc;

    memset(state, 0, sizeof(*state));
    do {
        rc = fipc_conn_recv_begin(conn, small, deadline_ns, state);
    } while (rc == -EINTR);
    return rc;
}

static int receive_until(struct fipc_conn *conn, struct message *message, int64_t deadline_ns) {
    uint8_t small[FIPC_INLINE_MAX];
    struct fipc_conn_recv state;
    int rc;

    message->data = NULL;
    rc = fipc_conn_try_recv(conn, small, &message->size, &message->tag);
    if (rc == 0) {
        message->data = malloc(message->size + 1);
        memcpy(message->data, small, message->size);
        return 0;
    }
    CHECK_EQ(rc, -EAGAIN);
    do {
        free(message->data);
        message->data = NULL;
        rc = begin(conn, small, &state, deadline_ns);
        if (rc < 0)
            return rc;
        message->data = malloc(state.size + 1);
        CHECK(message->data != NULL);
        message->size = state.size;
        message->tag = state.tag;
        if (state.whole) {
            memcpy(message->data, small, state.size);
            return 0;
        }
        do {
            rc = fipc_conn_recv_into(conn, message->data, deadline_ns, &state);
        } while (rc == -EINTR);
    } while (rc == -ECANCELED);
    if (rc == -ETIMEDOUT)
        fipc_conn_recv_drop(conn, &state);
    return rc;
}

static int receive(struct fipc_conn *conn, struct message *message) {
    return receive_until(conn, message, in_ms(PATIENCE_MS));
}

static int poll_for(struct fipc_conn *conn, int64_t ms) {
    struct fipc_conn_recv state = {0};
    int64_t deadline_ns = in_ms(ms);
    int rc;

    do {
        rc = fipc_conn_poll(conn, deadline_ns, &state);
    } while (rc == -EINTR);
    return rc;
}

/* A message whose every byte follows from its first 8: whole, or not. */
static void fill(uint8_t *data, uint64_t size, uint64_t seed) {
    uint64_t word = seed;

    for (uint64_t i = 0; i < size; i++) {
        if (i < 8) {
            data[i] = (uint8_t)(seed >> (8 * i));
        } else {
            if (i % 8 == 0)
                word = word * UINT64_C(6364136223846793005) + 1442695040888963407u;
            data[i] = (uint8_t)(word >> (8 * (i % 8)));
        }
    }
}

static bool is_whole(const uint8_t *data, uint64_t size) {
    uint8_t *expected = malloc(size + 1);
    uint64_t seed = 0;
    bool same;

    memcpy(&seed, data, size < 8 ? size : 8);
    fill(expected, size, seed);
    same = memcmp(data, expected, size) == 0;
    free(expected);
    return same;
}

static int send_filled(struct fipc_conn *conn, uint64_t size, uint64_t seed, uint16_t tag) {
    uint8_t *data = malloc(size + 1);
    int rc;

    fill(data, size, seed);
    rc = send_bytes(conn, data, size, tag);
    free(data);
    return rc;
}

static void expect(struct fipc_conn *conn, uint64_t size, uint64_t seed, uint16_t tag) {
    struct message message;
    uint64_t got = 0;

    CHECK_EQ(receive(conn, &message), 0);
    CHECK_EQ(message.size, size);
    CHECK_EQ(message.tag, tag);
    CHECK(is_whole(message.data, message.size));
    memcpy(&got, message.data, size < 8 ? size : 8);
    if (size >= 8)
        CHECK_EQ(got, seed);
    free(message.data);
}

static int open_fd_count(void) {
    int count = 0;

    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* A duplicate of an end, as another process would have it: with its own slot. */
static struct fipc_conn *open_end_again(const struct fipc_conn *conn) {
    struct fipc_conn *again = NULL;
    int memfd = dup(conn->segment.fd);
    int read_fd = conn->readable ? dup(conn->read_fd) : -1;
    int write_fd = conn->writable ? dup(conn->write_fd) : -1;

    CHECK_OK(memfd);
    CHECK_EQ(fipc_conn_open(memfd, read_fd, write_fd, conn->end, &again), 0);
    return again;
}

/* ---- messages ---- */

static void test_messages_of_small_sizes_arrive_in_order_both_ways(void) {
    new_pipe();
    for (uint64_t size = 0; size <= FIPC_INLINE_MAX; size += size < 70 ? 1 : 61) {
        CHECK_EQ(send_filled(left, size, size * 3 + 1, (uint16_t)size), 0);
        CHECK_EQ(send_filled(right, size, size * 5 + 1, 7), 0);
        expect(right, size, size * 3 + 1, (uint16_t)size);
        expect(left, size, size * 5 + 1, 7);
    }
    drop_pipe();
}

static void test_many_small_messages_wait_in_the_ring_until_received(void) {
    uint64_t sent = 0;
    uint8_t data[64];

    new_pipe();
    for (;; sent++) {
        fill(data, sizeof(data), sent);
        if (send_until(left, data, sizeof(data), in_ms(30)) != 0)
            break;
    }
    CHECK(sent > 1000);
    for (uint64_t i = 0; i < sent; i++)
        expect(right, sizeof(data), i, 0);
    CHECK_EQ(poll_for(right, 0), 0);
    drop_pipe();
}

static const uint64_t large_sizes[] = {
    FIPC_INLINE_MAX + 1,
    8176,
    8184,
    8192,
    8193,
    16384,
    32767,
    32768,
    65536,
    131031,
    131064,
    131072,
    131073,
    262144,
    1000003,
    LARGE,
    3 * LARGE + 5,
};
#define LARGE_SIZE_COUNT (sizeof(large_sizes) / sizeof(large_sizes[0]))

static void *send_large_sizes(void *conn) {
    for (unsigned i = 0; i < LARGE_SIZE_COUNT; i++)
        for (int j = -1; j <= 1; j++)
            CHECK_EQ(send_filled(conn, large_sizes[i] + (uint64_t)(int64_t)j, i, (uint16_t)i), 0);
    return NULL;
}

static void test_large_messages_stream_through_the_ring(void) {
    pthread_t sender;

    new_pipe();
    sender = check_thread(send_large_sizes, left);
    for (unsigned i = 0; i < LARGE_SIZE_COUNT; i++)
        for (int j = -1; j <= 1; j++)
            expect(right, large_sizes[i] + (uint64_t)(int64_t)j, i, (uint16_t)i);
    check_thread_join(sender);
    drop_pipe();
}

#define STREAMED_COUNT 12

static void *send_a_stream(void *conn) {
    for (uint64_t i = 0; i < STREAMED_COUNT; i++) {
        CHECK_EQ(send_filled(conn, UINT64_C(1) << 20, i, 1), 0);
        CHECK_EQ(send_filled(conn, 100, i, 2), 0);
    }
    return NULL;
}

static void test_after_much_was_streamed_the_ring_is_larger_and_the_order_kept(void) {
    struct fipc_arena_census census;
    pthread_t sender;

    new_pipe();
    sender = check_thread(send_a_stream, left);
    for (uint64_t i = 0; i < STREAMED_COUNT; i++) {
        expect(right, UINT64_C(1) << 20, i, 1);
        expect(right, 100, i, 2);
    }
    check_thread_join(sender);
    CHECK_EQ(left->out.put_ring.size, UINT64_C(1) << FIPC_RING_STREAM_LOG2);
    CHECK_EQ(right->in.get_ring.size, UINT64_C(1) << FIPC_RING_STREAM_LOG2);
    /* One each way, and none that was left behind. */
    CHECK_EQ(fipc_arena_check(&left->segment, &census), 0);
    CHECK_EQ(census.rings, 2);
    drop_pipe();
}

static void send_a_stream_without_room_to_grow(void *unused) {
    struct rlimit none = {4096, 4096};

    (void)unused;
    close_end(&right);
    CHECK_EQ(send_filled(left, 100000, 0, 0), 0); /* to the ring of steady traffic */
    CHECK_OK(setrlimit(RLIMIT_FSIZE, &none));
    (void)send_a_stream(left);
    close_end(&left);
}

static void test_without_memory_for_the_larger_ring_a_stream_goes_through_the_steady_one(void) {
    pid_t sender;

    new_pipe();
    sender = check_fork(send_a_stream_without_room_to_grow, NULL);
    close_end(&left);
    expect(right, 100000, 0, 0);
    for (uint64_t i = 0; i < STREAMED_COUNT; i++) {
        expect(right, UINT64_C(1) << 20, i, 1);
        expect(right, 100, i, 2);
    }
    check_join(sender);
    CHECK_EQ(right->in.get_ring.size, UINT64_C(1) << FIPC_RING_PIPE_LOG2);
    drop_pipe();
}

static void send_without_room_to_grow(void *unused) {
    struct rlimit none = {4096, 4096};

    (void)unused;
    close_end(&right);
    CHECK_OK(setrlimit(RLIMIT_FSIZE, &none));
    for (uint64_t i = 0; i < 5; i++) {
        CHECK_EQ(send_filled(left, 0, 0, 1), 0);
        CHECK_EQ(send_filled(left, FIPC_INLINE_MAX, i, 2), 0);
        CHECK_EQ(send_filled(left, 100, i, 3), 0);
        CHECK_EQ(send_filled(left, 100000, i, 4), 0);
    }
    close_end(&left);
}

static void test_without_memory_for_a_larger_ring_messages_go_through_the_small_one(void) {
    pid_t sender;

    new_pipe();
    sender = check_fork(send_without_room_to_grow, NULL);
    close_end(&left);
    for (uint64_t i = 0; i < 5; i++) {
        expect(right, 0, 0, 1);
        expect(right, FIPC_INLINE_MAX, i, 2);
        expect(right, 100, i, 3);
        expect(right, 100000, i, 4);
    }
    check_join(sender);
    CHECK_EQ(fipc_side_read(&right->in.shm->put).ring, FIPC_RING_REF(1, 0));
    drop_pipe();
}

/* ---- ends ---- */

static void test_a_one_way_pipe_has_two_descriptors_an_end_and_a_duplex_one_three(void) {
    int before = open_fd_count();

    CHECK_EQ(fipc_pipe_create(false, NULL, &right, &left), 0);
    CHECK_EQ(open_fd_count(), before + 4);
    CHECK(right->readable && !right->writable && left->writable && !left->readable);
    CHECK_EQ(send_filled(left, 50, 1, 2), 0);
    expect(right, 50, 1, 2);
    drop_pipe();
    CHECK_EQ(open_fd_count(), before);
    new_pipe();
    CHECK_EQ(open_fd_count(), before + 6);
    CHECK_EQ(send_filled(left, 50, 1, 2), 0);
    expect(right, 50, 1, 2);
    drop_pipe();
    CHECK_EQ(open_fd_count(), before);
}

static void test_an_end_is_mapped_by_who_first_uses_it(void) {
    new_pipe();
    CHECK(left->segment.chunk[0] == NULL && right->segment.chunk[0] == NULL);
    CHECK_EQ(send_filled(left, 50, 1, 2), 0);
    CHECK(left->segment.chunk[0] != NULL && right->segment.chunk[0] == NULL);
    expect(right, 50, 1, 2);
    CHECK(right->segment.chunk[0] != NULL);
    /* The other channel of an end, which was entered by neither. */
    CHECK(left->in.shm == NULL);
    drop_pipe();
    new_pipe();
    fipc_conn_shut(left);
    CHECK_EQ(send_filled(left, 50, 1, 2), -EBADF);
    CHECK(left->segment.chunk[0] == NULL);
    drop_pipe();
}

static void test_what_took_the_number_of_an_unused_end_is_not_mapped(void) {
    int fd;

    new_pipe();
    fd = left->segment.fd;
    close(fd);
    CHECK_EQ(send_filled(left, 50, 1, 2), -EBADF);
    CHECK_EQ(memfd_create("another", MFD_CLOEXEC), fd);
    CHECK_EQ(send_filled(left, 50, 1, 2), -EBADF);
    CHECK(left->segment.chunk[0] == NULL);
    drop_pipe();
    CHECK_OK(fcntl(fd, F_GETFD)); /* was not ours to close */
    close(fd);
}

static void test_an_end_opens_from_its_descriptors_and_from_nothing_else(void) {
    struct fipc_conn *again = NULL;
    int before, zero = open("/dev/zero", O_RDWR | O_CLOEXEC);

    new_pipe();
    again = open_end_again(right);
    CHECK_EQ(send_filled(left, 5000, 1, 2), 0);
    expect(again, 5000, 1, 2);
    CHECK_EQ(send_filled(again, 5000, 3, 4), 0);
    expect(left, 5000, 3, 4);
    close_end(&again);
    before = open_fd_count();
    CHECK_EQ(fipc_conn_open(left->segment.fd, left->write_fd, left->read_fd, 0, &again), -EINVAL);
    CHECK_EQ(fipc_conn_open(left->segment.fd, zero, -1, 0, &again), -EINVAL);
    CHECK_EQ(fipc_conn_open(left->segment.fd, -1, -1, 0, &again), -EINVAL);
    CHECK_EQ(fipc_conn_open(left->segment.fd, left->read_fd, -1, 2, &again), -EINVAL);
    CHECK_EQ(fipc_conn_open(left->segment.fd, 250, -1, 0, &again), -EBADF);
    CHECK_EQ(fipc_conn_open(left->read_fd, left->read_fd, -1, 0, &again), -EINVAL);
    CHECK_EQ(fipc_conn_open(250, left->read_fd, -1, 0, &again), -EBADF);
    CHECK_EQ(open_fd_count(), before);
    drop_pipe();
    CHECK_EQ(fipc_pipe_create(false, NULL, &right, &left), 0);
    /* There is no channel back. */
    CHECK_EQ(fipc_conn_open(left->segment.fd, right->read_fd, -1, 0, &again), -EINVAL);
    drop_pipe();
    close(zero);
}

static void test_descriptors_that_the_program_reused_are_an_error_and_stay_open(void) {
    int stranger[2];
    int fd;

    new_pipe();
    CHECK_OK(pipe2(stranger, O_CLOEXEC));
    fd = left->read_fd;
    CHECK_EQ(fipc_conn_fds_are_ours(left), 0);
    CHECK_OK(dup2(stranger[0], fd));
    CHECK_EQ(fipc_conn_fds_are_ours(left), -EBADF);
    CHECK_EQ(poll_for(left, 0), -EBADF);
    CHECK_EQ(fipc_conn_fileno(left, in_ms(PATIENCE_MS)), -EBADF);
    close_end(&left);
    CHECK_OK(fcntl(fd, F_GETFD));
    close(fd);
    close(stranger[0]);
    close(stranger[1]);
    drop_pipe();
}

static void test_messages_sent_before_the_close_are_delivered_then_comes_end_of_file(void) {
    struct message message;

    new_pipe();
    CHECK_EQ(send_filled(left, 10, 1, 0), 0);
    CHECK_EQ(send_filled(left, 4096, 2, 0), 0);
    close_end(&left);
    CHECK_EQ(poll_for(right, 0), 1);
    expect(right, 10, 1, 0);
    expect(right, 4096, 2, 0);
    CHECK_EQ(poll_for(right, 0), 1);
    CHECK_EQ(poll_for(right, PATIENCE_MS), 1);
    CHECK_EQ(receive(right, &message), -ENODATA);
    CHECK_EQ(receive(right, &message), -ENODATA);
    drop_pipe();
}

static void hold_the_left_end(void *gate) {
    close_end(&right);
    await(gate);
    CHECK_EQ(send_filled(left, 10, 1, 0), 0);
}

static void test_end_of_file_comes_with_the_last_copy_only(void) {
    struct gate gate = new_gate();
    struct message message;
    pid_t child;

    new_pipe();
    child = check_fork(hold_the_left_end, &gate);
    close_end(&left);
    CHECK_EQ(poll_for(right, 20), 0);
    tell(&gate);
    expect(right, 10, 1, 0);
    CHECK_EQ(receive(right, &message), -ENODATA);
    check_join(child);
    close_gate(&gate);
    drop_pipe();
}

static void test_sending_to_an_end_that_was_closed_is_a_broken_pipe(void) {
    new_pipe();
    CHECK_EQ(send_filled(left, 10, 1, 0), 0);
    close_end(&right);
    CHECK_EQ(send_filled(left, 10, 1, 0), -EPIPE);
    CHECK_EQ(send_filled(left, 10, 1, 0), -EPIPE);
    CHECK_EQ(send_filled(left, LARGE, 1, 0), -EPIPE);
    CHECK_EQ(send_until(left, "x", 1, in_ms(PATIENCE_MS)), -EPIPE);
    drop_pipe();
}

static void receive_one_then_wait(void *gate) {
    close_end(&left);
    expect(right, 10, 1, 0);
    tell(gate);
    wait_to_be_killed();
}

static void test_sending_to_a_process_that_was_killed_is_a_broken_pipe(void) {
    struct gate gate = new_gate();
    pid_t child;

    new_pipe();
    child = check_fork(receive_one_then_wait, &gate);
    close_end(&right);
    CHECK_EQ(send_filled(left, 10, 1, 0), 0);
    await(&gate);
    kill_child(child);
    CHECK_EQ(send_filled(left, 10, 1, 0), -EPIPE);
    CHECK_EQ(send_filled(left, LARGE, 1, 0), -EPIPE);
    close_gate(&gate);
    drop_pipe();
}

static void *send_until_broken(void *conn) {
    int rc;

    do {
        rc = send_filled(conn, 3000, 1, 0);
    } while (rc == 0);
    CHECK_EQ(rc, -EPIPE);
    return NULL;
}

static void test_a_sender_that_waits_for_room_learns_of_the_close(void) {
    struct gate gate = new_gate();
    pthread_t sender;
    pid_t child;

    new_pipe();
    enter(&left->out);
    sender = check_thread(send_until_broken, left);
    while (fipc_load_relaxed(&left->out.shm->get.sleepers) == 0)
        sleep_ms(1);
    CHECK(right->segment.chunk[0] == NULL);
    close_end(&right);
    CHECK_EQ(fipc_load_relaxed(&left->out.shm->close_epoch), 1);
    check_thread_join(sender);
    drop_pipe();
    /* And of a kill. */
    new_pipe();
    child = check_fork(receive_one_then_wait, &gate);
    close_end(&right);
    CHECK_EQ(send_filled(left, 10, 1, 0), 0);
    await(&gate);
    sender = check_thread(send_until_broken, left);
    while (fipc_load_relaxed(&left->out.shm->get.sleepers) == 0)
        sleep_ms(1);
    kill_child(child);
    check_thread_join(sender);
    close_gate(&gate);
    drop_pipe();
}

static void (*before_mark)(void); /* called once */

/* The linker puts this in the place of the core's own (Makefile), by these names. */
uint32_t __real_fipc_sleepers_mark(uint32_t *sleepers);
uint32_t __wrap_fipc_sleepers_mark(uint32_t *sleepers);
uint32_t __wrap_fipc_sleepers_mark(uint32_t *sleepers) {
    void (*act)(void) = __atomic_exchange_n(&before_mark, NULL, __ATOMIC_SEQ_CST);

    if (act != NULL)
        act();
    return __real_fipc_sleepers_mark(sleepers);
}

static void close_right(void) { close_end(&right); }

static void test_a_sender_does_not_sleep_over_a_close_right_before_its_mark(void) {
    uint8_t data[3000] = {0};
    struct fipc_conn_send state = {0};
    int rc;

    new_pipe();
    do {
        state = (struct fipc_conn_send){0};
        rc = fipc_conn_send(left, data, sizeof(data), 1, 0, &state);
    } while (rc == 0);
    state = (struct fipc_conn_send){0};
    rc = fipc_conn_send(left, data, sizeof(data), 1, FIPC_FOREVER, &state);
    CHECK_EQ(rc, -EINTR); /* it looks for signals before it sleeps */
    before_mark = close_right;
    rc = fipc_conn_send(left, data, sizeof(data), 1, FIPC_FOREVER, &state);
    CHECK(before_mark == NULL);
    CHECK_EQ(rc, -EPIPE);
    CHECK_EQ(state.waiting.rounds, 0);
    drop_pipe();
}

/* ---- interrupted, given up, dropped ---- */

/* Sends as much of a large message as fits now. */
static void send_half(struct fipc_conn *conn, const uint8_t *data, uint64_t size,
                      struct fipc_conn_send *state) {
    int64_t deadline_ns = in_ms(5);
    int rc;

    memset(state, 0, sizeof(*state));
    do {
        rc = fipc_conn_send(conn, data, size, 0, deadline_ns, state);
    } while (rc == -EINTR);
    CHECK_EQ(rc, -ETIMEDOUT);
    CHECK(state->begun && state->sent > 0 && state->sent < size);
}

static void test_an_interrupted_send_goes_on_where_it_was(void) {
    struct fipc_conn_send sending;
    uint8_t *data = malloc(LARGE), *got = malloc(LARGE), small[FIPC_INLINE_MAX];
    struct fipc_conn_recv receiving;
    int rc;

    new_pipe();
    fill(data, LARGE, 9);
    send_half(left, data, LARGE, &sending);
    CHECK_EQ(poll_for(right, 0), 1);
    CHECK_EQ(begin(right, small, &receiving, FIPC_FOREVER), 0);
    CHECK(!receiving.whole);
    CHECK_EQ(receiving.size, LARGE);
    while (receiving.received < LARGE) {
        rc = fipc_conn_recv_into(right, got, in_ms(0), &receiving);
        CHECK(rc == 0 || rc == -ETIMEDOUT || rc == -EINTR);
        if (sending.sent < LARGE) {
            rc = fipc_conn_send(left, data, LARGE, 0, in_ms(0), &sending);
            CHECK(rc == 0 || rc == -ETIMEDOUT || rc == -EINTR);
        }
    }
    CHECK_EQ(memcmp(data, got, LARGE), 0);
    CHECK_EQ(send_filled(left, 10, 1, 0), 0);
    expect(right, 10, 1, 0);
    free(data);
    free(got);
    drop_pipe();
}

static void test_a_send_within_a_send_of_the_same_thread_is_refused(void) {
    struct fipc_conn_send sending;
    uint8_t *data = calloc(1, LARGE);

    new_pipe();
    send_half(left, data, LARGE, &sending);
    CHECK_EQ(send_bytes(left, "x", 1, 0), -EDEADLK);
    CHECK_EQ(send_bytes(left, data, LARGE, 0), -EDEADLK);
    fipc_conn_send_abandon(left, &sending);
    free(data);
    drop_pipe();
}

/* fipc_conn_recv_into() to its end, whatever it stops for on the way. */
static int finish_into(struct fipc_conn *conn, void *buffer, int64_t ms,
                       struct fipc_conn_recv *state) {
    int64_t deadline_ns = in_ms(ms);
    int rc;

    do
        rc = fipc_conn_recv_into(conn, buffer, deadline_ns, state);
    while (rc == -EINTR);
    return rc;
}

static void test_a_message_given_up_in_its_middle_is_dropped(void) {
    struct fipc_conn_send sending;
    uint8_t *data = calloc(1, LARGE), *got = malloc(LARGE), small[FIPC_INLINE_MAX];
    struct fipc_conn_recv receiving;

    new_pipe();
    /* Before anybody receives. */
    send_half(left, data, LARGE, &sending);
    fipc_conn_send_abandon(left, &sending);
    CHECK_EQ(begin(right, small, &receiving, in_ms(PATIENCE_MS)), 0);
    CHECK_EQ(finish_into(right, got, PATIENCE_MS, &receiving), -ECANCELED);
    CHECK_EQ(poll_for(right, 0), 0);
    CHECK_EQ(send_filled(left, 10, 1, 0), 0);
    expect(right, 10, 1, 0);
    /* In the middle of receiving. */
    send_half(left, data, LARGE, &sending);
    CHECK_EQ(begin(right, small, &receiving, in_ms(PATIENCE_MS)), 0);
    CHECK_EQ(finish_into(right, got, 5, &receiving), -ETIMEDOUT);
    fipc_conn_send_abandon(left, &sending);
    CHECK_EQ(finish_into(right, got, PATIENCE_MS, &receiving), -ECANCELED);
    CHECK_EQ(send_filled(left, LARGE / 16, 1, 0), 0);
    expect(right, LARGE / 16, 1, 0);
    free(data);
    free(got);
    drop_pipe();
}

static void test_an_interrupted_receiver_keeps_its_part_for_the_next_receive(void) {
    struct fipc_conn_send sending;
    uint8_t *data = malloc(LARGE), *got = malloc(LARGE), small[FIPC_INLINE_MAX];
    struct fipc_conn_recv receiving;
    int rc;

    new_pipe();
    fill(data, LARGE, 11);
    send_half(left, data, LARGE, &sending);
    /* Nothing received yet: it stays in the ring. */
    CHECK_EQ(begin(right, small, &receiving, in_ms(PATIENCE_MS)), 0);
    CHECK_EQ(fipc_conn_recv_keep(right, NULL, &receiving), 0);
    CHECK_EQ(begin(right, small, &receiving, in_ms(PATIENCE_MS)), 0);
    while (fipc_conn_recv_into(right, got, in_ms(5), &receiving) == -EINTR)
        continue;
    CHECK(receiving.received > 0);
    CHECK_EQ(fipc_conn_recv_keep(right, got, &receiving), 0);
    CHECK_EQ(poll_for(right, 0), 0);
    /* Kept twice. */
    CHECK_EQ(begin(right, small, &receiving, in_ms(PATIENCE_MS)), 0);
    CHECK_EQ(fipc_conn_recv_keep(right, NULL, &receiving), 0);
    memset(got, 0, LARGE);
    CHECK_EQ(begin(right, small, &receiving, in_ms(PATIENCE_MS)), 0);
    CHECK_EQ(receiving.size, LARGE);
    while (receiving.received < LARGE) {
        rc = fipc_conn_recv_into(right, got, in_ms(0), &receiving);
        CHECK(rc == 0 || rc == -ETIMEDOUT || rc == -EINTR);
        if (sending.sent < LARGE) {
            rc = fipc_conn_send(left, data, LARGE, 0, in_ms(0), &sending);
            CHECK(rc == 0 || rc == -ETIMEDOUT || rc == -EINTR);
        }
    }
    CHECK_EQ(memcmp(data, got, LARGE), 0);
    /* Kept, and then the end is closed. */
    send_half(left, data, LARGE, &sending);
    CHECK_EQ(begin(right, small, &receiving, in_ms(PATIENCE_MS)), 0);
    while (fipc_conn_recv_into(right, got, in_ms(5), &receiving) == -EINTR)
        continue;
    CHECK_EQ(fipc_conn_recv_keep(right, got, &receiving), 0);
    fipc_conn_send_abandon(left, &sending);
    free(data);
    free(got);
    drop_pipe();
}

static void test_a_receive_within_a_receive_of_the_same_thread_is_refused(void) {
    struct fipc_conn_send sending;
    uint8_t *data = calloc(1, LARGE), small[FIPC_INLINE_MAX];
    struct fipc_conn_recv outer, inner;

    new_pipe();
    send_half(left, data, LARGE, &sending);
    CHECK_EQ(begin(right, small, &outer, in_ms(PATIENCE_MS)), 0);
    CHECK_EQ(begin(right, small, &inner, in_ms(PATIENCE_MS)), -EDEADLK);
    CHECK_EQ(poll_for(right, 0), -EDEADLK);
    fipc_conn_recv_drop(right, &outer);
    fipc_conn_send_abandon(left, &sending);
    /* Makes room: what is in the ring belongs to nothing any more. */
    CHECK_EQ(poll_for(right, 0), 0);
    CHECK_EQ(send_filled(left, 10, 1, 0), 0);
    expect(right, 10, 1, 0);
    free(data);
    drop_pipe();
}

static void test_a_dropped_message_is_skipped(void) {
    uint8_t small[FIPC_INLINE_MAX], *got = malloc(LARGE);
    struct fipc_conn_send sending;
    struct fipc_conn_recv receiving;

    new_pipe();
    CHECK_EQ(send_filled(left, 5000, 1, 0), 0);
    CHECK_EQ(send_filled(left, 10, 2, 0), 0);
    CHECK_EQ(begin(right, small, &receiving, in_ms(PATIENCE_MS)), 0);
    fipc_conn_recv_drop(right, &receiving);
    expect(right, 10, 2, 0);
    /* In its middle. */
    send_half(left, got, LARGE, &sending);
    CHECK_EQ(begin(right, small, &receiving, in_ms(PATIENCE_MS)), 0);
    while (fipc_conn_recv_into(right, got, in_ms(5), &receiving) == -EINTR)
        continue;
    fipc_conn_recv_drop(right, &receiving);
    while (sending.sent < LARGE) {
        int rc = fipc_conn_send(left, got, LARGE, 0, in_ms(0), &sending);

        CHECK(rc == 0 || rc == -ETIMEDOUT || rc == -EINTR);
        CHECK_EQ(poll_for(right, 0), 0);
    }
    CHECK_EQ(send_filled(left, 10, 3, 0), 0);
    expect(right, 10, 3, 0);
    free(got);
    drop_pipe();
}

static void test_end_of_file_in_the_middle_of_a_message_is_its_own_error(void) {
    struct fipc_conn_send sending;
    uint8_t *data = calloc(1, LARGE), *got = malloc(LARGE), small[FIPC_INLINE_MAX];
    struct fipc_conn_recv receiving;
    struct message message;
    int write_fd;

    new_pipe();
    send_half(left, data, LARGE, &sending);
    /* The life line ends while the turn's owner still looks alive: exactly what a
     * receiver sees that is quicker than the owner's slot. */
    write_fd = left->write_fd;
    CHECK_EQ(begin(right, small, &receiving, in_ms(PATIENCE_MS)), 0);
    close(write_fd);
    CHECK_EQ(finish_into(right, got, PATIENCE_MS, &receiving), -EPROTO);
    CHECK_EQ(receive(right, &message), -ENODATA);
    free(data);
    free(got);
    drop_pipe();
}

/* ---- threads ---- */

#define PEERS 3
#define SENT_EACH FIXTURE_LESS(400, 60)

struct peer {
    struct fipc_conn *conn;
    uint64_t number;
    uint64_t received;
    uint64_t *sum; /* of what was received in children */
};

static uint64_t size_of(uint64_t seed) {
    uint64_t state = seed, random = next_random(&state);

    switch (random % 4) {
    case 0:
        return 8 + random / 4 % 100;
    case 1:
        return 8 + random / 4 % FIPC_INLINE_MAX;
    default:
        return 8 + random / 4 % 300000;
    }
}

static void *send_random_sizes(void *argument) {
    struct peer *peer = argument;

    for (uint64_t i = 0; i < SENT_EACH; i++) {
        uint64_t seed = peer->number << 32 | i;

        CHECK_EQ(send_filled(peer->conn, size_of(seed), seed, 0), 0);
    }
    return NULL;
}

static void *receive_random_sizes(void *argument) {
    struct peer *peer = argument;
    uint64_t next[PEERS] = {0}, seed;
    struct message message;
    int rc;

    while ((rc = receive(peer->conn, &message)) == 0) {
        CHECK(message.size >= 8);
        memcpy(&seed, message.data, 8);
        CHECK_EQ(message.size, size_of(seed));
        CHECK(is_whole(message.data, message.size));
        /* In the order in which its sender sent it. */
        CHECK(seed >> 32 < PEERS && (uint32_t)seed >= next[seed >> 32]);
        next[seed >> 32] = (uint32_t)seed + 1;
        peer->received++;
        free(message.data);
    }
    CHECK_EQ(rc, -ENODATA);
    return NULL;
}

static void test_threads_send_and_receive_on_one_end_at_once(void) {
    struct peer senders[PEERS], receivers[PEERS];
    pthread_t sending[PEERS], receiving[PEERS];
    uint64_t received = 0;

    new_pipe();
    for (uint64_t i = 0; i < PEERS; i++) {
        senders[i] = (struct peer){left, i, 0, NULL};
        receivers[i] = (struct peer){right, i, 0, NULL};
        sending[i] = check_thread(send_random_sizes, &senders[i]);
        receiving[i] = check_thread(receive_random_sizes, &receivers[i]);
    }
    for (int i = 0; i < PEERS; i++)
        check_thread_join(sending[i]);
    close_end(&left);
    for (int i = 0; i < PEERS; i++) {
        check_thread_join(receiving[i]);
        received += receivers[i].received;
    }
    CHECK_EQ(received, PEERS * SENT_EACH);
    drop_pipe();
}

static void send_random_sizes_in_child(void *peer) {
    close_end(&right);
    send_random_sizes(peer);
    close_end(&left);
}

static void receive_random_sizes_in_child(void *peer) {
    struct peer *self = peer;

    close_end(&left);
    receive_random_sizes(self);
    fipc_fetch_add_relaxed(self->sum, self->received);
    close_end(&right);
}

static void test_processes_send_and_receive_on_one_end_at_once(void) {
    uint64_t *sum = shared_memory(sizeof(*sum));
    pid_t sending[PEERS], receiving[PEERS];

    new_pipe();
    for (uint64_t i = 0; i < PEERS; i++) {
        struct peer sender = {left, i, 0, NULL}, receiver = {right, i, 0, sum};

        sending[i] = check_fork(send_random_sizes_in_child, &sender);
        receiving[i] = check_fork(receive_random_sizes_in_child, &receiver);
    }
    drop_pipe();
    for (int i = 0; i < PEERS; i++) {
        check_join(sending[i]);
        check_join(receiving[i]);
    }
    CHECK_EQ(*sum, PEERS * SENT_EACH);
    munmap(sum, sizeof(*sum));
}

static void *receive_nothing(void *result) {
    struct message message;

    *(int *)result = receive_until(right, &message, FIPC_FOREVER);
    return NULL;
}

static void *send_too_much(void *result) {
    do {
        *(int *)result = send_filled(left, 4000, 1, 0);
    } while (*(int *)result == 0);
    return NULL;
}

static void test_shutting_an_end_wakes_the_threads_that_sleep_in_it(void) {
    int received = 0, sent = 0;
    pthread_t receiver, sender;

    new_pipe();
    enter(&right->in);
    enter(&left->out);
    receiver = check_thread(receive_nothing, &received);
    while (fipc_load_relaxed(&right->in.shm->put.sleepers) == 0)
        sleep_ms(1);
    fipc_conn_shut(right);
    check_thread_join(receiver);
    CHECK_EQ(received, -EBADF);
    sender = check_thread(send_too_much, &sent);
    while (fipc_load_relaxed(&left->out.shm->get.sleepers) == 0)
        sleep_ms(1);
    fipc_conn_shut(left);
    check_thread_join(sender);
    CHECK_EQ(sent, -EBADF);
    drop_pipe();
}

static void *receive_patiently(void *result) {
    uint8_t small[FIPC_INLINE_MAX];
    struct fipc_conn_recv state;

    *(int *)result = begin(right, small, &state, in_ms(PATIENCE_MS));
    return NULL;
}

/* They find a byte in the doorbell and nothing behind it, and take it out, while the end is
 * shut: with that byte goes the one that was to wake them. */
static void test_shutting_an_end_wakes_who_silences_its_doorbell(void) {
    uint64_t random = 11;

    for (int i = 0; i < FIXTURE_LESS(3000, 500); i++) {
        int received[2] = {0, 0};
        pthread_t receivers[2];

        new_pipe();
        enter(&right->in);
        CHECK_EQ(fipc_os_ring(left->write_fd), 0);
        fipc_store_relaxed(&right->rang, 1);
        for (int k = 0; k < 2; k++)
            receivers[k] = check_thread(receive_patiently, &received[k]);
        for (uint64_t pauses = next_random(&random) % 4000; pauses > 0; pauses--)
            fipc_pause();
        fipc_conn_shut(right);
        for (int k = 0; k < 2; k++) {
            check_thread_join(receivers[k]);
            CHECK_EQ(received[k], -EBADF);
        }
        drop_pipe();
    }
}

/* ---- forks and signals in the middle ---- */

static void send_own_copy(void *state) {
    uint8_t *data = malloc(LARGE);
    int rc;

    close_end(&right);
    fill(data, LARGE, 22);
    do {
        rc = fipc_conn_send(left, data, LARGE, 0, in_ms(PATIENCE_MS), state);
    } while (rc == -EINTR);
    CHECK_EQ(rc, 0);
    free(data);
}

static void test_a_child_forked_in_the_middle_of_a_send_does_not_hold_the_turn(void) {
    uint8_t *data = malloc(LARGE), *got = malloc(LARGE), small[FIPC_INLINE_MAX];
    struct fipc_conn_recv receiving;
    struct fipc_conn_send sending;
    pid_t child;
    int rc;

    new_pipe();
    fill(data, LARGE, 21);
    send_half(left, data, LARGE, &sending);
    child = check_fork(send_own_copy, &sending);
    CHECK_EQ(begin(right, small, &receiving, in_ms(PATIENCE_MS)), 0);
    while (receiving.received < LARGE) {
        rc = fipc_conn_recv_into(right, got, in_ms(0), &receiving);
        CHECK(rc == 0 || rc == -ETIMEDOUT || rc == -EINTR);
        if (sending.sent < LARGE) {
            rc = fipc_conn_send(left, data, LARGE, 0, in_ms(0), &sending);
            CHECK(rc == 0 || rc == -ETIMEDOUT || rc == -EINTR);
        }
    }
    CHECK_EQ(memcmp(data, got, LARGE), 0);
    expect(right, LARGE, 22, 0);
    check_join(child);
    free(data);
    free(got);
    drop_pipe();
}

static void test_a_signal_interrupts_each_wait(void) {
    /* A timer of our own: the process's is the watchdog's. */
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct itimerspec every = {{0, 2000000}, {0, 2000000}};
    uint8_t *data = calloc(1, LARGE), small[FIPC_INLINE_MAX];
    struct fipc_conn_recv receiving = {0};
    struct fipc_conn_send sending = {0};
    timer_t timer;
    int before;

    new_pipe();
    check_handle_signal(SIGUSR1, SA_RESTART);
    CHECK_OK(timer_create(CLOCK_MONOTONIC, &event, &timer));
    CHECK_OK(timer_settime(timer, 0, &every, NULL));
    before = check_signals;
    while (check_signals < before + 3)
        CHECK_EQ(fipc_conn_recv_begin(right, small, FIPC_FOREVER, &receiving), -EINTR);
    before = check_signals;
    while (check_signals < before + 3)
        CHECK_EQ(fipc_conn_poll(right, FIPC_FOREVER, &receiving), -EINTR);
    before = check_signals;
    while (check_signals < before + 3)
        CHECK_EQ(fipc_conn_send(left, data, LARGE, 0, FIPC_FOREVER, &sending), -EINTR);
    CHECK_OK(timer_delete(timer));
    fipc_conn_send_abandon(left, &sending);
    free(data);
    drop_pipe();
}

/* No signal comes, and here nobody else looks again by himself. */
static void test_with_chores_whoever_waits_returns_to_look_after_them(void) {
    struct fipc_conn_recv receiving = {0}, polling = {0};
    uint8_t small[FIPC_INLINE_MAX];

    new_pipe();
    fipc_waiting_set_chores(true);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(fipc_conn_recv_begin(right, small, FIPC_FOREVER, &receiving), -EINTR);
        CHECK_EQ(fipc_conn_poll(right, FIPC_FOREVER, &polling), -EINTR);
    }
    fipc_waiting_set_chores(false);
    drop_pipe();
}

/* ---- readiness ---- */

static bool is_readable(int fd) {
    struct pollfd entry = {.fd = fd, .events = POLLIN, .revents = 0};

    CHECK_OK(poll(&entry, 1, 0));
    return entry.revents != 0;
}

static int armed_fd(struct fipc_conn *conn) {
    int fd;

    do {
        fd = fipc_conn_fileno(conn, in_ms(PATIENCE_MS));
    } while (fd == -EINTR);
    CHECK(fd >= 0);
    return fd;
}

static void test_poll_tells_of_messages_and_end_of_file(void) {
    new_pipe();
    CHECK_EQ(poll_for(right, 0), 0);
    CHECK_EQ(poll_for(right, -5), 0);
    CHECK_EQ(poll_for(right, 10), 0);
    CHECK_EQ(send_filled(left, 0, 0, 0), 0);
    CHECK_EQ(poll_for(right, 0), 1);
    CHECK_EQ(poll_for(right, 10), 1);
    expect(right, 0, 0, 0);
    CHECK_EQ(poll_for(right, 0), 0);
    close_end(&left);
    CHECK_EQ(poll_for(right, 0), 1);
    drop_pipe();
}

static void test_poll_promises_no_message_whose_sender_gave_it_up(void) {
    struct fipc_conn_send sending;
    uint8_t *data = calloc(1, LARGE);

    new_pipe();
    send_half(left, data, LARGE, &sending);
    /* More may come. */
    CHECK_EQ(poll_for(right, 0), 1);
    fipc_conn_send_abandon(left, &sending);
    CHECK_EQ(poll_for(right, 0), 0);
    CHECK_EQ(poll_for(right, 10), 0);
    CHECK_EQ(send_filled(left, 10, 1, 0), 0);
    CHECK_EQ(poll_for(right, 0), 1);
    expect(right, 10, 1, 0);
    /* In fragments, and all of it is there. */
    CHECK_EQ(send_filled(left, 3 * FIPC_INLINE_MAX, 2, 0), 0);
    CHECK_EQ(poll_for(right, 0), 1);
    expect(right, 3 * FIPC_INLINE_MAX, 2, 0);
    /* A whole one behind what was given up. */
    send_half(left, data, LARGE, &sending);
    fipc_conn_send_abandon(left, &sending);
    CHECK_EQ(poll_for(right, 0), 0);
    CHECK_EQ(send_filled(left, 3 * FIPC_INLINE_MAX, 3, 0), 0);
    CHECK_EQ(poll_for(right, 0), 1);
    expect(right, 3 * FIPC_INLINE_MAX, 3, 0);
    CHECK_EQ(poll_for(right, 0), 0);
    free(data);
    drop_pipe();
}

/* The beginning of it was received, and kept for the next receive. */
static void test_poll_promises_no_rest_of_a_message_that_will_not_end(void) {
    struct fipc_conn_send sending;
    uint8_t *data = calloc(1, LARGE), *got = malloc(LARGE), small[FIPC_INLINE_MAX];
    struct fipc_conn_recv receiving;
    struct fipc_conn *again;
    int rc;

    new_pipe();
    again = open_end_again(right);
    for (int more = 0; more < 2; more++) {
        send_half(left, data, LARGE, &sending);
        CHECK_EQ(begin(right, small, &receiving, in_ms(PATIENCE_MS)), 0);
        while (fipc_conn_recv_into(right, got, in_ms(5), &receiving) == -EINTR)
            continue;
        CHECK_EQ(fipc_conn_recv_keep(right, got, &receiving), 0);
        CHECK_EQ(poll_for(right, 0), 0);
        if (more != 0) {
            CHECK(fipc_conn_send(left, data, LARGE, 0, in_ms(5), &sending) < 0);
            CHECK_EQ(poll_for(right, 0), 1);
        }
        fipc_conn_send_abandon(left, &sending);
        CHECK_EQ(poll_for(right, 0), 0);
        /* Nobody is in the middle of it any more. */
        CHECK_EQ(right->in.shm->recv_turn, 0);
        CHECK_EQ(poll_for(again, 0), 0);
        CHECK_EQ(send_filled(left, 10, 1, 0), 0);
        CHECK_EQ(poll_for(right, 0), 1);
        expect(right, 10, 1, 0);
    }
    /* Its end is there. */
    send_half(left, data, LARGE, &sending);
    CHECK_EQ(begin(right, small, &receiving, in_ms(PATIENCE_MS)), 0);
    while (sending.sent < LARGE) {
        rc = fipc_conn_recv_into(right, got, in_ms(0), &receiving);
        CHECK(rc == -ETIMEDOUT || rc == -EINTR);
        rc = fipc_conn_send(left, data, LARGE, 0, in_ms(0), &sending);
        CHECK(rc == 0 || rc == -ETIMEDOUT || rc == -EINTR);
    }
    CHECK(receiving.received < LARGE);
    CHECK_EQ(fipc_conn_recv_keep(right, got, &receiving), 0);
    CHECK_EQ(poll_for(right, 0), 1);
    CHECK_EQ(begin(right, small, &receiving, in_ms(PATIENCE_MS)), 0);
    do
        rc = fipc_conn_recv_into(right, got, in_ms(PATIENCE_MS), &receiving);
    while (rc == -EINTR);
    CHECK_EQ(rc, 0);
    CHECK_EQ(poll_for(right, 0), 0);
    fipc_conn_close(again);
    free(got);
    free(data);
    drop_pipe();
}

/* The state that docs/model/stream.pml found (its run bell-not-passed-on): of two readers the
 * one who waits for the other's turn has taken out the byte that rang for the other. */
static void test_who_waits_for_a_turn_passes_on_the_bell_that_he_took_out(void) {
    struct fipc_conn_send sending;
    struct fipc_conn_recv receiving, waiting = {.drained = true};
    uint8_t *data = calloc(1, LARGE), small[FIPC_INLINE_MAX];
    struct fipc_conn *again;
    int rc;

    new_pipe();
    again = open_end_again(right);
    send_half(left, data, LARGE, &sending);
    CHECK_EQ(begin(right, small, &receiving, in_ms(PATIENCE_MS)), 0);
    CHECK(receiving.owner != 0);
    /* What `right` does before it sleeps, and what `again` did just after that. */
    (void)fipc_sleepers_mark(&right->in.shm->put.sleepers);
    CHECK_OK(fipc_os_drain(right->read_fd));
    CHECK(!is_readable(right->read_fd));
    rc = fipc_conn_recv_begin(again, small, in_ms(1), &waiting);
    CHECK(rc == -ETIMEDOUT || rc == -EINTR);
    CHECK(!waiting.drained);
    CHECK(is_readable(right->read_fd));
    fipc_conn_recv_drop(right, &receiving);
    fipc_conn_send_abandon(left, &sending);
    fipc_conn_close(again);
    free(data);
    drop_pipe();
}

static void test_fileno_is_readable_exactly_while_a_message_is_there(void) {
    struct fipc_conn *again;
    int fd;

    new_pipe();
    /* Something rang before, and something is there already. */
    CHECK_EQ(poll_for(right, 5), 0);
    CHECK_EQ(send_filled(left, 10, 1, 0), 0);
    fd = armed_fd(right);
    CHECK_EQ(fd, right->read_fd);
    CHECK(is_readable(fd));
    expect(right, 10, 1, 0);
    CHECK(!is_readable(fd));
    again = open_end_again(right);
    for (uint64_t i = 0; i < 10; i++) {
        CHECK_EQ(send_filled(left, 10, 1, 0), 0);
        CHECK_EQ(send_filled(left, 5000, 2, 0), 0);
        CHECK(is_readable(fd));
        expect(i % 2 ? again : right, 10, 1, 0);
        CHECK(is_readable(fd));
        expect(right, 5000, 2, 0);
        CHECK(!is_readable(fd));
    }
    close_end(&again);
    CHECK_EQ(poll_for(right, 0), 0);
    CHECK_EQ(send_filled(left, 10, 1, 0), 0);
    close_end(&left);
    expect(right, 10, 1, 0);
    CHECK(is_readable(fd));
    drop_pipe();
    /* A byte for a sleeper that is gone, but no message. */
    new_pipe();
    CHECK_EQ(poll_for(right, 5), 0);
    CHECK_EQ(send_filled(left, 10, 1, 0), 0);
    expect(right, 10, 1, 0);
    CHECK(is_readable(right->read_fd));
    CHECK(!is_readable(armed_fd(right)));
    CHECK_EQ(armed_fd(right), right->read_fd);
    drop_pipe();
    CHECK_EQ(fipc_pipe_create(false, NULL, &right, &left), 0);
    CHECK_EQ(armed_fd(left), left->write_fd);
    drop_pipe();
}

static void *send_armed(void *conn) {
    for (uint64_t i = 0; i < (uint64_t)FIXTURE_LESS(5000, 500); i++)
        CHECK_EQ(send_filled(conn, i % 100 == 0 ? 20000 : 16, i, 0), 0);
    return NULL;
}

static void test_a_program_that_selects_before_each_receive_misses_nothing(void) {
    pthread_t sender;
    int fd;

    new_pipe();
    fd = armed_fd(right);
    sender = check_thread(send_armed, left);
    for (uint64_t i = 0; i < (uint64_t)FIXTURE_LESS(5000, 500); i++) {
        struct pollfd entry = {.fd = fd, .events = POLLIN, .revents = 0};

        CHECK_EQ(poll(&entry, 1, PATIENCE_MS), 1);
        expect(right, i % 100 == 0 ? 20000 : 16, i, 0);
    }
    check_thread_join(sender);
    CHECK(!is_readable(fd));
    drop_pipe();
}

/* ---- kills ---- */

static void send_for_ever(void *seed) {
    uint64_t i = (uint64_t)(uintptr_t)seed << 32;

    close_end(&right);
    for (;; i++)
        if (send_filled(left, size_of(i), i, 0) != 0)
            exit(1);
}

static void receive_for_ever(void *unused) {
    struct message message;

    (void)unused;
    close_end(&left);
    while (receive(right, &message) == 0) {
        if (!is_whole(message.data, message.size))
            exit(1);
        free(message.data);
    }
    exit(1);
}

/* Waits a random time, up to some milliseconds, without a system call's granularity. */
static void linger(uint64_t *random) {
    int64_t until_ns = fipc_os_now_ns() + (int64_t)(next_random(random) % 3000000);

    while (fipc_os_now_ns() < until_ns)
        sched_yield();
}

static void test_after_the_kill_of_a_sender_only_whole_messages_arrive(void) {
    uint64_t random = 1, received = 0, seed;
    int64_t end_ns = fipc_os_now_ns() + fixture_ns(0.5);
    struct message message;

    new_pipe();
    for (uint64_t round = 1; fipc_os_now_ns() < end_ns; round++) {
        pid_t child = check_fork(send_for_ever, (void *)(uintptr_t)round);

        for (uint64_t i = next_random(&random) % 5; i > 0; i--) {
            CHECK_EQ(receive(right, &message), 0);
            CHECK(is_whole(message.data, message.size));
            free(message.data);
            received++;
        }
        linger(&random);
        kill_child(child);
        /* A survivor's next message arrives, behind whole ones of the dead; there may
         * be no room for it before the rest of the dead one's last is dropped. */
        seed = 0;
        do {
            uint64_t mine = UINT64_C(1) << 63 | round;
            int rc = send_until(left, &mine, sizeof(mine), in_ms(5));

            CHECK(rc == 0 || rc == -ETIMEDOUT);
            rc = receive_until(right, &message, rc == 0 ? in_ms(PATIENCE_MS) : in_ms(5));
            CHECK(rc == 0 || rc == -ETIMEDOUT);
            if (rc == 0) {
                memcpy(&seed, message.data, 8);
                CHECK(is_whole(message.data, message.size));
                CHECK_EQ(message.size, seed >> 63 ? sizeof(mine) : size_of(seed));
            }
            free(message.data);
        } while (seed != (UINT64_C(1) << 63 | round));
        while (poll_for(right, 0) == 1) {
            CHECK_EQ(receive(right, &message), 0);
            free(message.data);
        }
    }
    CHECK(received > 0);
    drop_pipe();
}

static void test_after_the_kill_of_a_receiver_the_next_one_gets_whole_messages(void) {
    uint64_t random = 2, received = 0;
    int64_t end_ns = fipc_os_now_ns() + fixture_ns(0.5);
    struct message message;
    pid_t sender;

    new_pipe();
    sender = check_fork(send_for_ever, (void *)1);
    while (fipc_os_now_ns() < end_ns) {
        pid_t child = check_fork(receive_for_ever, NULL);

        linger(&random);
        kill_child(child);
        for (uint64_t i = 1 + next_random(&random) % 3; i > 0; i--) {
            CHECK_EQ(receive(right, &message), 0);
            CHECK(is_whole(message.data, message.size));
            free(message.data);
            received++;
        }
    }
    CHECK(received > 0);
    kill_child(sender);
    drop_pipe();
}

static void hold_half(void *gate) {
    uint8_t *data = malloc(LARGE);
    struct fipc_conn_send sending;

    close_end(&right);
    fill(data, LARGE, 5);
    send_half(left, data, LARGE, &sending);
    tell(gate);
    wait_to_be_killed();
}

static void test_a_receiver_in_the_middle_of_a_killed_senders_message_goes_on(void) {
    uint8_t *got = malloc(LARGE), small[FIPC_INLINE_MAX];
    struct gate gate = new_gate();
    struct fipc_conn_recv receiving;
    pid_t child;
    int rc;

    new_pipe();
    child = check_fork(hold_half, &gate);
    await(&gate);
    CHECK_EQ(begin(right, small, &receiving, in_ms(PATIENCE_MS)), 0);
    while (fipc_conn_recv_into(right, got, in_ms(5), &receiving) == -EINTR)
        continue;
    kill_child(child);
    /* Nobody else sends, and we hold a sending end: no end of file. */
    do {
        rc = fipc_conn_recv_into(right, got, in_ms(PATIENCE_MS), &receiving);
    } while (rc == -EINTR);
    CHECK_EQ(rc, -ECANCELED);
    CHECK_EQ(send_filled(left, 10000, 1, 0), 0);
    expect(right, 10000, 1, 0);
    /* And when they are all gone. */
    child = check_fork(hold_half, &gate);
    await(&gate);
    close_end(&left);
    CHECK_EQ(begin(right, small, &receiving, in_ms(PATIENCE_MS)), 0);
    kill_child(child);
    do {
        rc = fipc_conn_recv_into(right, got, in_ms(PATIENCE_MS), &receiving);
    } while (rc == -EINTR);
    CHECK(rc == -EPROTO);
    CHECK_EQ(poll_for(right, 0), 1);
    free(got);
    close_gate(&gate);
    drop_pipe();
}

/* ---- damage ---- */

static void test_damaged_fragments_are_an_error_and_end_in_no_memory_but_ours(void) {
    uint64_t random = 3;

    for (int i = 0; i < FIXTURE_LESS(2000, 200); i++) {
        uint8_t *ring;

        new_pipe();
        CHECK_EQ(send_filled(left, 3000 + next_random(&random) % 30000, 1, 0), 0);
        CHECK_EQ(send_filled(left, 10, 1, 0), 0);
        ring = left->out.put_ring.data;
        for (int j = 0; j < 5; j++)
            ring[next_random(&random) % (j < 3 ? 32 : left->out.put_ring.size)] ^=
                (uint8_t)(1 << next_random(&random) % 8);
        for (int j = 0; j < 3; j++) {
            uint8_t small[FIPC_INLINE_MAX];
            struct fipc_conn_recv receiving;
            int rc = begin(right, small, &receiving, in_ms(0));

            if (rc == 0 && !receiving.whole) {
                if (receiving.size < 10 * LARGE) {
                    uint8_t *got = malloc(receiving.size + 1);

                    rc = fipc_conn_recv_into(right, got, in_ms(0), &receiving);
                    free(got);
                }
                fipc_conn_recv_drop(right, &receiving);
            }
            CHECK(rc == 0 || rc == -EBADMSG || rc == -ETIMEDOUT || rc == -ECANCELED ||
                  rc == -EINTR);
        }
        drop_pipe();
    }
}

int main(void) {
    check_watchdog(fixture_watchdog_s());
    CHECK_RUN(test_messages_of_small_sizes_arrive_in_order_both_ways);
    CHECK_RUN(test_many_small_messages_wait_in_the_ring_until_received);
    CHECK_RUN(test_large_messages_stream_through_the_ring);
    CHECK_RUN(test_after_much_was_streamed_the_ring_is_larger_and_the_order_kept);
    CHECK_RUN(test_without_memory_for_the_larger_ring_a_stream_goes_through_the_steady_one);
    CHECK_RUN(test_without_memory_for_a_larger_ring_messages_go_through_the_small_one);
    CHECK_RUN(test_a_one_way_pipe_has_two_descriptors_an_end_and_a_duplex_one_three);
    CHECK_RUN(test_an_end_is_mapped_by_who_first_uses_it);
    CHECK_RUN(test_what_took_the_number_of_an_unused_end_is_not_mapped);
    CHECK_RUN(test_an_end_opens_from_its_descriptors_and_from_nothing_else);
    CHECK_RUN(test_descriptors_that_the_program_reused_are_an_error_and_stay_open);
    CHECK_RUN(test_messages_sent_before_the_close_are_delivered_then_comes_end_of_file);
    CHECK_RUN(test_end_of_file_comes_with_the_last_copy_only);
    CHECK_RUN(test_sending_to_an_end_that_was_closed_is_a_broken_pipe);
    CHECK_RUN(test_sending_to_a_process_that_was_killed_is_a_broken_pipe);
    CHECK_RUN(test_a_sender_that_waits_for_room_learns_of_the_close);
    CHECK_RUN(test_a_sender_does_not_sleep_over_a_close_right_before_its_mark);
    CHECK_RUN(test_an_interrupted_send_goes_on_where_it_was);
    CHECK_RUN(test_a_send_within_a_send_of_the_same_thread_is_refused);
    CHECK_RUN(test_a_message_given_up_in_its_middle_is_dropped);
    CHECK_RUN(test_an_interrupted_receiver_keeps_its_part_for_the_next_receive);
    CHECK_RUN(test_a_receive_within_a_receive_of_the_same_thread_is_refused);
    CHECK_RUN(test_a_dropped_message_is_skipped);
    CHECK_RUN(test_end_of_file_in_the_middle_of_a_message_is_its_own_error);
    CHECK_RUN(test_threads_send_and_receive_on_one_end_at_once);
    CHECK_RUN(test_processes_send_and_receive_on_one_end_at_once);
    CHECK_RUN(test_shutting_an_end_wakes_the_threads_that_sleep_in_it);
    CHECK_RUN(test_shutting_an_end_wakes_who_silences_its_doorbell);
    CHECK_RUN(test_a_child_forked_in_the_middle_of_a_send_does_not_hold_the_turn);
    CHECK_RUN(test_a_signal_interrupts_each_wait);
    CHECK_RUN(test_with_chores_whoever_waits_returns_to_look_after_them);
    CHECK_RUN(test_poll_tells_of_messages_and_end_of_file);
    CHECK_RUN(test_poll_promises_no_message_whose_sender_gave_it_up);
    CHECK_RUN(test_poll_promises_no_rest_of_a_message_that_will_not_end);
    CHECK_RUN(test_who_waits_for_a_turn_passes_on_the_bell_that_he_took_out);
    CHECK_RUN(test_fileno_is_readable_exactly_while_a_message_is_there);
    CHECK_RUN(test_a_program_that_selects_before_each_receive_misses_nothing);
    CHECK_RUN(test_after_the_kill_of_a_sender_only_whole_messages_arrive);
    CHECK_RUN(test_after_the_kill_of_a_receiver_the_next_one_gets_whole_messages);
    CHECK_RUN(test_a_receiver_in_the_middle_of_a_killed_senders_message_goes_on);
    CHECK_RUN(test_damaged_fragments_are_an_error_and_end_in_no_memory_but_ours);
    return CHECK_END();
}
