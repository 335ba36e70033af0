/* fixture.h - what the tests of the core share: segments and queues to test with,
 * memory that children report in, random numbers, children that are killed. Knows
 * csrc/ from outside only; check.h has what knows nothing of fastipc. */
#ifndef FIXTURE_H
#define FIXTURE_H

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include "check.h"
#include "queue.h"
#include "slots.h"

#define FIXTURE_UNUSED __attribute__((unused))

/* How long a case that repeats until time is up runs: its share of five seconds, or
 * of FIPC_TEST_SECONDS. The sanitizers' builds do less in the same time. */
static FIXTURE_UNUSED int64_t fixture_ns(double share) {
    const char *text = getenv("FIPC_TEST_SECONDS");
    double seconds = text != NULL && atof(text) > 0 ? atof(text) : 5;

    return (int64_t)(seconds * share * 1e9);
}

/* A storm outlives the watchdog of an ordinary run when it is lengthened. */
static FIXTURE_UNUSED unsigned fixture_watchdog_s(void) {
    return CHECK_WATCHDOG_S + (unsigned)(fixture_ns(4) / 1000000000);
}

#if defined(CHECK_SANITIZER) && !defined(__SANITIZE_ADDRESS__)
#define FIXTURE_TSAN 1
#else
#define FIXTURE_TSAN 0
#endif

#ifdef CHECK_SANITIZER
#define FIXTURE_LESS(normal, sanitized) (sanitized)
#else
#define FIXTURE_LESS(normal, sanitized) (normal)
#endif

static FIXTURE_UNUSED int64_t in_ms(int64_t ms) { return fipc_os_now_ns() + ms * FIPC_NS_PER_MS; }

/* Long enough that only a hang reaches it, shorter than the watchdog. */
#define PATIENCE_MS 30000

static FIXTURE_UNUSED void sleep_ms(int64_t ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};

    while (nanosleep(&t, &t) < 0 && errno == EINTR)
        continue;
}

/* Random numbers that a seed repeats. */
static FIXTURE_UNUSED uint64_t next_random(uint64_t *state) {
    uint64_t x = (*state += UINT64_C(0x9e3779b97f4a7c15));

    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Zeroed memory that parent and children share. */
static FIXTURE_UNUSED void *shared_memory(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    CHECK(memory != MAP_FAILED);
    return memory;
}

/* A pipe that one process waits at for another: await() returns once told. */
struct gate {
    int read_end, write_end;
};

static FIXTURE_UNUSED struct gate new_gate(void) {
    int fds[2];

    CHECK_OK(pipe2(fds, O_CLOEXEC));
    return (struct gate){fds[0], fds[1]};
}

static FIXTURE_UNUSED void tell(const struct gate *gate) {
    CHECK_EQ(write(gate->write_end, "x", 1), 1);
}

static FIXTURE_UNUSED void await(const struct gate *gate) {
    char byte;
    ssize_t got;

    do {
        got = read(gate->read_end, &byte, 1);
    } while (got < 0 && errno == EINTR);
    CHECK_EQ(got, 1);
}

static FIXTURE_UNUSED void close_gate(const struct gate *gate) {
    close(gate->read_end);
    close(gate->write_end);
}

/* A child that is about to be killed: waits for that. */
static FIXTURE_UNUSED void wait_to_be_killed(void) {
    for (;;)
        pause();
}

static FIXTURE_UNUSED void kill_child(pid_t pid) {
    CHECK_OK(kill(pid, SIGKILL));
    check_join_signal(pid, SIGKILL);
}

/* check_fork() into a pid namespace of the child's own, where its pid is 1. Without
 * the C library: no fork handler runs, as when another library clones by hand.
 * -EPERM and the like where namespaces are not allowed. */
static FIXTURE_UNUSED pid_t fork_into_pid_namespace(void (*body)(void *), void *argument) {
    long pid;

    fflush(NULL);
    pid = syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid < 0)
        return -errno;
    if (pid == 0) {
        check_watchdog(fixture_watchdog_s());
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        body(argument);
        fflush(NULL);
        _exit(0);
    }
    return (pid_t)pid;
}

static FIXTURE_UNUSED struct fipc_segment *new_segment(void) {
    struct fipc_segment_config config = {.kind = FIPC_KIND_QUEUE, .channel_count = 1};
    struct fipc_segment *segment = calloc(1, sizeof(*segment));

    CHECK(segment != NULL);
    CHECK_EQ(fipc_segment_create(segment, &config), 0);
    CHECK_EQ(fipc_segment_map(segment), 0);
    return segment;
}

static FIXTURE_UNUSED void drop_segment(struct fipc_segment *segment) {
    fipc_segment_close(segment);
    free(segment);
}

/* The same segment a second time, as if by another process: with a slot of its own. */
static FIXTURE_UNUSED struct fipc_segment *attach_again(const struct fipc_segment *segment) {
    struct fipc_segment *again = calloc(1, sizeof(*again));
    int fd = dup(segment->fd);

    CHECK(again != NULL);
    CHECK_OK(fd);
    CHECK_EQ(fipc_segment_open(again, fd, FIPC_KIND_QUEUE), 0);
    return again;
}

static FIXTURE_UNUSED struct fipc_queue *new_queue(uint64_t maxsize, uint64_t max_bytes) {
    struct fipc_queue_config config = {.maxsize = maxsize, .max_bytes = max_bytes, .label = "test"};
    struct fipc_queue *queue = NULL;

    CHECK_EQ(fipc_queue_create(&config, &queue), 0);
    return queue;
}

static FIXTURE_UNUSED struct fipc_queue *open_again(const struct fipc_queue *queue) {
    struct fipc_queue *again = NULL;
    int fd = dup(queue->segment.fd), bell = dup(queue->doorbell_fd);

    CHECK_OK(fd);
    CHECK_OK(bell);
    CHECK_EQ(fipc_queue_open(fd, bell, &again), 0);
    return again;
}

/* Puts as the binding does: again after each -EINTR. */
static FIXTURE_UNUSED int put_bytes(struct fipc_queue *queue, const void *data, uint64_t size_bytes,
                                    int64_t deadline_ns) {
    struct fipc_queue_putting putting = {0};
    int rc;

    do {
        rc = fipc_queue_put(queue, data, size_bytes, 0, deadline_ns, &putting);
    } while (rc == -EINTR);
    fipc_queue_put_end(queue, &putting);
    return rc;
}

/* Room for what lies inline in a record. */
struct inbox {
    struct fipc_got got;
    _Alignas(8) uint8_t bytes[FIPC_INLINE_MAX];
};

/* Gets as the binding does; to be followed by fipc_queue_release(). */
static FIXTURE_UNUSED int get_message(struct fipc_queue *queue, struct inbox *inbox,
                                      int64_t deadline_ns) {
    struct fipc_waiting waiting = {0};
    int rc;

    inbox->got.buffer = inbox->bytes;
    inbox->got.buffer_bytes = sizeof(inbox->bytes);
    do {
        rc = fipc_queue_get(queue, &inbox->got, deadline_ns, &waiting);
    } while (rc == -EINTR);
    return rc;
}

/* The bytes of the message last got. */
static FIXTURE_UNUSED const uint8_t *message_of(const struct inbox *inbox) {
    return inbox->got.block_count != 0 ? inbox->got.block.data : inbox->bytes;
}

/* Reads each byte, so that one that is not there is noticed. */
static FIXTURE_UNUSED uint64_t checksum_bytes(const uint8_t *bytes, uint64_t size_bytes) {
    uint64_t sum = size_bytes, word;

    for (uint64_t at = 0; at + 8 <= size_bytes; at += 8) {
        memcpy(&word, bytes + at, 8);
        sum = (sum ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    }
    return sum;
}

/* Everything has one owner, records and counts agree, and nobody dead owns a thing.
 * `items` is how many messages are queued. */
static FIXTURE_UNUSED void check_census(struct fipc_queue *queue, uint64_t items) {
    struct fipc_channel_census channel;
    struct fipc_arena_census arena;

    CHECK_EQ(fipc_channel_check(&queue->channel, &channel), 0);
    CHECK_EQ(channel.items, items);
    CHECK_EQ(fipc_arena_check(&queue->segment, &arena), 0);
    CHECK_EQ(arena.dead, 0);
    CHECK_EQ(arena.queued, channel.blocks);
    CHECK_EQ(arena.owned, 0);
    CHECK(arena.rings >= 1);
    CHECK_EQ(arena.blocks, arena.free + arena.queued + arena.rings);
}

#endif
