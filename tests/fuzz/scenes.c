/* scenes.c - segments as users make them, and their files as they are then: what each input begins
 * with. They are made through the functions that users' processes call, when the fuzzer starts;
 * the process that made them is dead as far as their slots tell. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "world_internal.h"

static struct fipc_queue *new_queue(uint64_t maxsize, uint64_t max_bytes) {
    struct fipc_queue_config config = {
        .maxsize = maxsize, .max_bytes = max_bytes, .label = "a scene"};
    struct fipc_queue *queue;

    MUST(fipc_queue_create(&config, &queue) == 0);
    return queue;
}

static int put(struct fipc_queue *queue, uint64_t size_bytes, uint16_t tag) {
    struct fipc_queue_putting putting = {0};
    int rc;

    do
        rc = fipc_queue_put(queue, world_bytes, size_bytes, tag, 0, &putting);
    while (rc == -EINTR);
    fipc_queue_put_end(queue, &putting);
    return rc;
}

static void put_in_blocks(struct fipc_queue *queue, uint32_t count) {
    struct fipc_queue_putting putting = {0};
    uint64_t sizes[FIPC_REFS_MAX];

    for (uint32_t i = 0; i < count; i++)
        sizes[i] = 4096 * (i + 1) - 7;
    MUST(fipc_queue_prepare(queue, sizes, count, 0, &putting) == 0);
    for (uint32_t i = 0; i < count; i++)
        memcpy(putting.block[i].data, world_bytes, sizes[i]);
    MUST(fipc_queue_put_prepared(queue, sizes, world_bytes, 40, 6, 0, &putting) == 0);
    fipc_queue_put_end(queue, &putting);
}

static void get(struct fipc_queue *queue, uint32_t times) {
    _Alignas(8) uint8_t room[FIPC_INLINE_MAX];
    struct fipc_got got = {.buffer = room, .buffer_bytes = sizeof(room)};
    struct fipc_waiting waiting = {0};

    for (; times > 0; times--) {
        MUST(fipc_queue_get(queue, &got, 0, &waiting) == 0);
        fipc_queue_release(queue, &got);
    }
}

/* ---- the scenes: each fills a queue, or a pipe's two ends ---- */

static void empty(struct fipc_queue *queue) { MUST(fipc_segment_enter(&queue->segment) >= 0); }

static void small_messages(struct fipc_queue *queue) {
    for (uint32_t i = 0; i < 5; i++)
        MUST(put(queue, 24 * i, 3) == 0);
}

static void messages_in_blocks(struct fipc_queue *queue) {
    MUST(put(queue, 5000, 1) == 0);
    put_in_blocks(queue, 3);
    MUST(put(queue, 60, 3) == 0);
    put_in_blocks(queue, 1);
}

/* Of 8 KiB, then of 64, which wraps, then of 128. */
static void rings_of_a_backlog(struct fipc_queue *queue) {
    for (uint32_t i = 0; i < 90; i++)
        MUST(put(queue, 1000, 3) == 0);
    get(queue, 6);
}

/* The next record does not fit before the ring's end. */
static void end_of_a_ring(struct fipc_queue *queue) {
    for (uint32_t i = 0; i < 12; i++) {
        MUST(put(queue, 2000, 3) == 0);
        get(queue, 1);
    }
    MUST(put(queue, 3000, 3) == 0);
    MUST(put(queue, 30, 3) == 0);
}

static void many_blocks(struct fipc_queue *queue) {
    /* So many that a second group of their class is needed, in the second chunk. */
    for (uint32_t i = 0; i < 130; i++)
        MUST(put(queue, 4100, 1) == 0);
    get(queue, 20);
}

static void a_batch(struct fipc_queue *queue) {
    struct fipc_queue_putting putting = {0};
    struct fipc_batch batch = {0};

    for (uint32_t i = 0; i < 6; i++) {
        uint8_t *room = fipc_batch_room(&batch);

        MUST(room != NULL);
        memcpy(room, world_bytes, 64);
        fipc_batch_add(&batch, 64, 3);
        if (i % 2 == 0)
            MUST(fipc_batch_add_large(&batch, world_bytes, 4500, 6) == 0);
    }
    MUST(fipc_queue_put_many(queue, &batch, 0, &putting) == 0);
    fipc_batch_end(queue, &batch);
    fipc_queue_put_end(queue, &putting);
}

static void a_limited_queue(struct fipc_queue *queue) {
    while (put(queue, 300, 3) == 0)
        continue;
    MUST(fipc_queue_fileno(queue) >= 0);
}

static void given_up(struct fipc_queue *queue) {
    struct fipc_channel_shm *shm = queue->channel.shm;

    messages_in_blocks(queue);
    MUST(fipc_queue_shutdown(queue, false) == 0);
    /* As who dies in an immediate shutdown leaves it: nothing is freed yet. */
    shm->get.flags |= FIPC_SIDE_SHUT;
}

static int send_message(struct fipc_conn *conn, uint64_t size, bool gives_up) {
    struct fipc_conn_send state = {0};
    int rc;

    do
        rc = fipc_conn_send(conn, world_bytes, size, 2, 0, &state);
    while (rc == -EINTR);
    if (gives_up)
        fipc_conn_send_abandon(conn, &state);
    return rc;
}

static void new_pipe(struct fipc_conn *a, struct fipc_conn *b) {
    MUST(fipc_segment_enter(&a->segment) >= 0 && fipc_segment_enter(&b->segment) >= 0);
}

static void small_sends(struct fipc_conn *a, struct fipc_conn *b) {
    for (uint32_t i = 0; i < 4; i++)
        MUST(send_message(a, 30 * i, false) == 0 && send_message(b, 100, false) == 0);
}

static void one_in_fragments(struct fipc_conn *a, struct fipc_conn *b) {
    MUST(send_message(a, 20000, false) == 0);
    MUST(send_message(a, 50, false) == 0);
    MUST(send_message(b, 5000, false) == 0);
}

static void its_sender_was_killed(struct fipc_conn *a, struct fipc_conn *b) {
    (void)b;
    MUST(send_message(a, 300000, false) == -ETIMEDOUT);
}

static void one_was_given_up(struct fipc_conn *a, struct fipc_conn *b) {
    (void)b;
    MUST(send_message(a, 300000, true) == -ETIMEDOUT);
}

static void its_receiver_was_killed(struct fipc_conn *a, struct fipc_conn *b) {
    _Alignas(8) uint8_t small[FIPC_INLINE_MAX];
    struct fipc_conn_recv state = {0};
    uint8_t *large;
    int rc;

    MUST(send_message(a, 300000, false) == -ETIMEDOUT);
    MUST(fipc_conn_recv_begin(b, small, 0, &state) == 0);
    large = malloc(state.size);
    MUST(large != NULL);
    do
        rc = fipc_conn_recv_into(b, large, 0, &state);
    while (rc == -EINTR);
    MUST(rc == -ETIMEDOUT || rc == -ECANCELED);
    free(large);
}

/* ---- taking them down ---- */

#define SCENES_MOST 16
static struct scene scenes[SCENES_MOST];
static unsigned scene_count;

static void keep_file(const char *name, bool is_pipe, int fd) {
    struct scene *scene = &scenes[scene_count++];
    struct stat st;

    MUST(scene_count <= SCENES_MOST && fstat(fd, &st) == 0 && st.st_size % FIPC_PAGE == 0);
    scene->name = name;
    scene->is_pipe = is_pipe;
    scene->bytes = (uint64_t)st.st_size;
    scene->image = malloc(scene->bytes);
    MUST(scene->image != NULL);
    MUST(pread(fd, scene->image, scene->bytes, 0) == (ssize_t)scene->bytes);
    for (uint64_t off = 0; off < scene->bytes; off += FIPC_PAGE) {
        static const uint8_t zeros[FIPC_PAGE];
        struct run *last = &scene->run[scene->run_count - (scene->run_count != 0)];

        if (memcmp(scene->image + off, zeros, FIPC_PAGE) == 0)
            continue;
        if (scene->run_count != 0 && last->off + last->bytes == off) {
            last->bytes += FIPC_PAGE;
            continue;
        }
        MUST(scene->run_count < 256);
        scene->run[scene->run_count++] = (struct run){off, FIPC_PAGE};
    }
}

static void keep_queue(const char *name, uint64_t maxsize, uint64_t max_bytes,
                       void (*fill)(struct fipc_queue *)) {
    struct fipc_queue *queue = new_queue(maxsize, max_bytes);

    fill(queue);
    keep_file(name, false, queue->segment.fd);
    fipc_queue_close(queue);
}

static void keep_pipe(const char *name, void (*fill)(struct fipc_conn *, struct fipc_conn *)) {
    struct fipc_conn *a, *b;

    MUST(fipc_pipe_create(true, "a scene", &a, &b) == 0);
    new_pipe(a, b);
    fill(a, b);
    keep_file(name, true, a->segment.fd);
    fipc_conn_close(a);
    fipc_conn_close(b);
}

void world_start(void) {
    for (uint64_t i = 0; i < sizeof(world_bytes); i++)
        world_bytes[i] = (uint8_t)(i * 7 >> 3);
    keep_queue("empty", 0, 0, empty);
    keep_queue("small messages", 0, 0, small_messages);
    keep_queue("messages in blocks", 0, 0, messages_in_blocks);
    keep_queue("rings of a backlog", 0, 0, rings_of_a_backlog);
    keep_queue("end of a ring", 0, 0, end_of_a_ring);
    keep_queue("many blocks", 0, 0, many_blocks);
    keep_queue("a batch", 0, 0, a_batch);
    keep_queue("a limited queue", 10, 2500, a_limited_queue);
    keep_queue("given up", 0, 0, given_up);
    keep_pipe("new pipe", new_pipe);
    keep_pipe("small sends", small_sends);
    keep_pipe("one in fragments", one_in_fragments);
    keep_pipe("its sender was killed", its_sender_was_killed);
    keep_pipe("one was given up", one_was_given_up);
    keep_pipe("its receiver was killed", its_receiver_was_killed);
}

unsigned world_scene_count(void) { return scene_count; }

const struct scene *world_scene(unsigned number) { return &scenes[number]; }

int world_scene_is_pipe(unsigned scene) { return scenes[scene].is_pipe; }

void world_scene_read(unsigned number, uint64_t off, void *buffer, uint64_t bytes) {
    const struct scene *scene = &scenes[number];

    memset(buffer, 0, bytes);
    if (off < scene->bytes)
        memcpy(buffer, scene->image + off, bytes < scene->bytes - off ? bytes : scene->bytes - off);
}
