/* test_damage.c - what fuzzing (tests/fuzz) and reading for it have found: content of a segment
 * that led outside of it or around it for ever, each reduced to what does it; and the seal, which
 * keeps a peer from taking the file away under a mapping. Other damage is tested where the thing
 * is that is damaged: test_channel.c, test_conn.c, test_arena.c. */
#define _GNU_SOURCE
#include "conn.h"
#include "fixture.h"
#include "hold.h"
#include "record.h"

/* Where a damaged position says that the writers are. */
#define FAR (UINT64_C(1) << 60)

static struct fipc_side_copy_shm *current(struct fipc_side_shm *side) {
    return &side->copy[side->gen & 1];
}

/* Fills a ring with records without payload. */
static void fill_ring(uint8_t *ring, uint64_t bytes, uint16_t kind) {
    for (uint64_t off = 0; off < bytes; off += FIPC_RECORD_BYTES)
        fipc_record_write(ring + off, 0, kind, 0);
}

static void pads_all_around_a_ring_are_reported(void) {
    struct fipc_queue *queue = new_queue(0, 0);
    struct inbox inbox;

    CHECK_EQ(put_bytes(queue, "12345678", 8, 0), 0);
    fill_ring(queue->segment.chunk[0] + FIPC_OFF_RINGS, 8192, FIPC_RECORD_PAD);
    current(&queue->channel.shm->put)->pos = FAR;
    CHECK_EQ(get_message(queue, &inbox, 0), -EBADMSG);
    fipc_queue_close(queue);
}

static void fragments_all_around_a_ring_are_reported(void) {
    _Alignas(8) uint8_t small[FIPC_INLINE_MAX];
    struct fipc_conn_recv receiving = {0};
    struct fipc_conn_send sending = {0};
    struct fipc_conn *a, *b;
    int rc;

    CHECK_EQ(fipc_pipe_create(true, NULL, &a, &b), 0);
    CHECK_EQ(fipc_conn_send(a, "12345678", 8, 1, in_ms(PATIENCE_MS), &sending), 0);
    CHECK(fipc_segment_enter(&b->segment) >= 0);
    fill_ring(b->segment.chunk[0] + FIPC_OFF_RINGS, 8192, FIPC_RECORD_MIDDLE);
    current(&a->out.shm->put)->pos = FAR;
    do
        rc = fipc_conn_recv_begin(b, small, in_ms(PATIENCE_MS), &receiving);
    while (rc == -EINTR);
    CHECK_EQ(rc, -EBADMSG);
    fipc_conn_close(a);
    fipc_conn_close(b);
}

static void a_pipe_whose_doorbell_cannot_be_silenced_is_reported(void) {
    _Alignas(8) uint8_t small[FIPC_INLINE_MAX];
    struct fipc_conn_recv receiving = {0};
    struct fipc_conn_send sending = {0};
    struct fipc_conn *a, *b;
    int rc;

    CHECK_EQ(fipc_pipe_create(true, NULL, &a, &b), 0);
    CHECK_EQ(fipc_conn_send(a, "12345678", 8, 1, in_ms(PATIENCE_MS), &sending), 0);
    do
        rc = fipc_conn_fileno(b, in_ms(PATIENCE_MS));
    while (rc == -EINTR);
    CHECK(rc >= 0);
    a->out.shm->put.flags |= FIPC_SIDE_SHUT;
    CHECK_EQ(fipc_conn_recv_begin(b, small, in_ms(PATIENCE_MS), &receiving), 0);
    for (int timeout_ms = 0; timeout_ms < 20; timeout_ms += 10) {
        do
            rc = fipc_conn_recv_begin(b, small, in_ms(timeout_ms), &receiving);
        while (rc == -EINTR);
        CHECK_EQ(rc, -EBADMSG);
    }
    fipc_conn_close(a);
    fipc_conn_close(b);
}

/* A shutdown frees what is queued, record by record. */
static void records_all_around_a_ring_do_not_keep_a_shutdown(void) {
    struct fipc_queue *queue = new_queue(0, 0);
    int rc;

    CHECK_EQ(put_bytes(queue, "12345678", 8, 0), 0);
    fill_ring(queue->segment.chunk[0] + FIPC_OFF_RINGS, 8192, FIPC_RECORD_INLINE);
    current(&queue->channel.shm->put)->pos = FAR;
    do
        rc = fipc_queue_shutdown(queue, true);
    while (rc == -EINTR);
    CHECK_EQ(rc, -EBADMSG);
    fipc_queue_close(queue);
}

/* The count of groups is the length of a walk through the directory. */
static void more_groups_than_there_can_be_are_reported(void) {
    static const uint8_t bytes[10000];
    struct fipc_queue *queue = new_queue(0, 0);
    struct fipc_arena_shm *arena = queue->segment.arena;

    CHECK_EQ(put_bytes(queue, "", 0, 0), 0);
    for (uint32_t i = 0; i < FIPC_GROUP_INLINE; i++)
        ((uint32_t *)(void *)(queue->segment.chunk[0] + FIPC_OFF_GROUP_DIR0))[i] = 1;
    memset(queue->segment.chunk[0] + FIPC_OFF_GROUP_DIR, 1, 4 * FIPC_GROUP_COUNT);
    current(&arena->state)->count = UINT32_MAX;
    arena->groups_retired = 1;
    CHECK_EQ(put_bytes(queue, bytes, sizeof(bytes), 0), -EBADMSG);
    fipc_queue_close(queue);
}

static void a_space_that_ends_before_it_begins_is_reported(void) {
    static const uint8_t bytes[10000];
    struct fipc_queue *queue = new_queue(0, 0);

    CHECK_EQ(put_bytes(queue, "", 0, 0), 0);
    current(&queue->segment.arena->state)->pos = FIPC_OFF_HEADER;
    CHECK_EQ(put_bytes(queue, bytes, sizeof(bytes), 0), -EBADMSG);
    CHECK_EQ(queue->segment.header->magic, FIPC_MAGIC);
    fipc_queue_close(queue);
}

/* A ring that is used once ends where its positions do, and not where these wrap. */
static void a_position_before_the_last_wraps_into_no_ring(void) {
    static const uint8_t fives[1000] = {5, 5, 5};
    struct fipc_queue *queue = new_queue(0, 0);
    struct fipc_segment *segment = &queue->segment;
    struct fipc_side_copy_shm *put;
    struct fipc_block ring, guard;
    uint64_t size = UINT64_C(1) << (FIPC_RING_STEADY_LOG2 + 1);
    int rc;

    CHECK_EQ(put_bytes(queue, "", 0, 0), 0);
    CHECK_EQ(fipc_block_alloc(segment, size, FIPC_BLOCK_KIND_RING, in_ms(PATIENCE_MS), &ring), 0);
    CHECK_EQ(fipc_block_alloc(segment, size, FIPC_BLOCK_KIND_DATA, in_ms(PATIENCE_MS), &guard), 0);
    CHECK(guard.data == ring.data + size);
    put = current(&queue->channel.shm->put);
    put->ring = FIPC_RING_REF(7, ring.id);
    put->pos = (uint64_t)-16;
    rc = fipc_queue_try_put(queue, fives, sizeof(fives), 0);
    CHECK(rc < 0);
    for (uint64_t at = 0; at < sizeof(fives); at++)
        CHECK_EQ(guard.data[at], 0);
    fipc_queue_close(queue);
}

/* A free block whose descriptor says that it is larger: a ring of that size would be written to
 * where there is nothing. */
static void a_free_block_of_another_size_is_not_given_out(void) {
    struct fipc_queue *queue = new_queue(0, 0);
    struct fipc_block block;

    CHECK_EQ(put_bytes(queue, "", 0, 0), 0);
    CHECK_EQ(
        fipc_block_alloc(&queue->segment, 8192, FIPC_BLOCK_KIND_DATA, in_ms(PATIENCE_MS), &block),
        0);
    fipc_block_release(&queue->segment, &block);
    block.shm->place = (block.shm->place & ~FIPC_BLOCK_LOW_MASK) | 30;
    CHECK_EQ(
        fipc_block_alloc(&queue->segment, 8192, FIPC_BLOCK_KIND_DATA, in_ms(PATIENCE_MS), &block),
        -EBADMSG);
    fipc_queue_close(queue);
}

/* What views may keep is counted by what was there when they were made. */
static void bytes_that_are_held_are_not_counted_by_what_others_write(void) {
    struct fipc_queue *queue = new_queue(0, 0);
    struct fipc_block block;
    struct fipc_hold hold;

    CHECK_EQ(put_bytes(queue, "", 0, 0), 0);
    CHECK_EQ(
        fipc_block_alloc(&queue->segment, 8192, FIPC_BLOCK_KIND_DATA, in_ms(PATIENCE_MS), &block),
        0);
    fipc_hold_take(&hold, &queue->segment, &block);
    CHECK_EQ(fipc_hold_bytes(), 8192);
    block.shm->populated = 1 << 20;
    fipc_hold_release(&hold);
    CHECK_EQ(fipc_hold_bytes(), 0);
    fipc_queue_close(queue);
}

/* ---- the seal ---- */

static void a_peer_cannot_truncate_a_segment(void) {
    struct fipc_queue *queue = new_queue(0, 0);
    int other = fipc_os_reopen(queue->segment.fd, O_RDWR);

    CHECK_OK(other);
    CHECK_EQ(ftruncate(other, FIPC_PAGE), -1);
    CHECK_EQ(errno, EPERM);
    CHECK_EQ(ftruncate(other, 0), -1);
    CHECK_EQ(errno, EPERM);
    CHECK_EQ(put_bytes(queue, "", 0, 0), 0);
    close(other);
    fipc_queue_close(queue);
}

/* Byte for byte a segment, but for the seal: its sender could take the memory away. */
static void a_segment_that_can_shrink_is_refused(void) {
    struct fipc_queue *queue = new_queue(0, 0), *opened = NULL;
    uint8_t *bytes = malloc(FIPC_OFF_SPACE);
    int fd = memfd_create("fastipc:queue:", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int bell = fipc_os_doorbell();

    CHECK(bytes != NULL);
    CHECK_OK(fd);
    CHECK_OK(bell);
    CHECK_EQ(pread(queue->segment.fd, bytes, FIPC_OFF_SPACE, 0), FIPC_OFF_SPACE);
    CHECK_EQ(pwrite(fd, bytes, FIPC_OFF_SPACE, 0), FIPC_OFF_SPACE);
    free(bytes);
    CHECK_EQ(fipc_queue_open(fd, bell, &opened), -EINVAL);
    CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
    CHECK_EQ(fipc_queue_open(fd, bell, &opened), -EINVAL);
    CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
    CHECK_EQ(fipc_queue_open(fd, bell, &opened), 0);
    fipc_queue_close(opened);
    fipc_queue_close(queue);
}

int main(void) {
    CHECK_BEGIN();
    CHECK_RUN(pads_all_around_a_ring_are_reported);
    CHECK_RUN(fragments_all_around_a_ring_are_reported);
    CHECK_RUN(a_pipe_whose_doorbell_cannot_be_silenced_is_reported);
    CHECK_RUN(records_all_around_a_ring_do_not_keep_a_shutdown);
    CHECK_RUN(more_groups_than_there_can_be_are_reported);
    CHECK_RUN(a_space_that_ends_before_it_begins_is_reported);
    CHECK_RUN(a_position_before_the_last_wraps_into_no_ring);
    CHECK_RUN(a_free_block_of_another_size_is_not_given_out);
    CHECK_RUN(bytes_that_are_held_are_not_counted_by_what_others_write);
    CHECK_RUN(a_peer_cannot_truncate_a_segment);
    CHECK_RUN(a_segment_that_can_shrink_is_refused);
    return CHECK_END();
}
