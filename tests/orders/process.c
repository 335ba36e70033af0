/* process.c - the pairs of words in a process's own memory, and the one whose function is a
 * static of conn.c. */
#define _GNU_SOURCE
#include "conn.c"

#include "order.h"
#include "os_room.h"

#define MIB (UINT64_C(1) << 20)
#define LARGE (4 * MIB)

static struct fipc_segment *segment;
static struct fipc_queue *queue;
static struct fipc_conn *left, *right;

static void nothing(void) {}

/* ---- V, X ---- */

static void make_queue(void) { queue = new_queue(0, 0); }

static void enter(void) { CHECK_EQ(fipc_channel_enter(&queue->channel), 0); }

static bool has_entered(void) { return fipc_channel_enter(&queue->channel) == 0; }

static void make_segment(void) {
    segment = new_segment();
    CHECK_EQ(fipc_segment_reserve(segment, MIB, FIPC_PAGE), 0);
}

static void map_a_chunk(void) {
    void *address;

    CHECK_EQ(fipc_segment_at(segment, MIB, FIPC_PAGE, &address), 0);
}

static bool finds_the_chunk(void) {
    void *address;

    return fipc_segment_peek(segment, MIB, FIPC_PAGE, &address) == 0;
}

/* ---- I, Q, F ---- */

static void make_the_page(void) { CHECK(fipc_os_fork_token() != NULL); }

static bool finds_the_page(void) { return fipc_os_fork_token() != NULL; }

/* More than is ever granted without a look. */
static void look_for_room(void) {
    const char *limit;

    CHECK_EQ(fipc_os_room(64 * MIB, &limit), 0);
}

static bool looks_for_room(void) {
    look_for_room();
    return true;
}

/* As in a child whose fork ran no handler. */
static void wipe_the_token(void) {
    fipc_process_lock();
    fipc_process_unlock();
    fipc_store_relaxed(fipc_fork_token_page, 0);
}

static void lock_process(void) {
    fipc_process_lock();
    fipc_process_unlock();
}

static bool locks_process(void) {
    lock_process();
    return true;
}

/* ---- Z ---- */

static void keep_twice(void) {
    make_queue();
    fipc_queue_keep(queue);
}

static void drop(void) { fipc_queue_drop(queue); }

static bool drops_the_last(void) {
    drop();
    return true;
}

/* ---- K, N ---- */

static void make_pipe(void) {
    CHECK_EQ(fipc_pipe_create(true, "test", &left, &right), 0);
    CHECK_EQ(fipc_segment_enter(&right->segment), 1);
}

static void send_a_part(void) {
    static struct fipc_conn_send sending;
    uint8_t *data = calloc(1, LARGE);
    int rc;

    make_pipe();
    do
        rc = fipc_conn_send(left, data, LARGE, 0, in_ms(5), &sending);
    while (rc == -EINTR);
    CHECK_EQ(rc, -ETIMEDOUT);
    free(data);
}

static void keep_a_part(void) {
    struct fipc_conn_recv receiving = {0};
    static uint8_t small[FIPC_INLINE_MAX];
    uint8_t *got = malloc(LARGE);
    int rc;

    CHECK_EQ(fipc_conn_recv_begin(right, small, in_ms(PATIENCE_MS), &receiving), 0);
    do
        rc = fipc_conn_recv_into(right, got, in_ms(5), &receiving);
    while (rc == -EINTR);
    CHECK_EQ(rc, -ETIMEDOUT);
    payload = 42; /* again: what was before the unlocks above is ordered by them */
    CHECK_EQ(fipc_conn_recv_keep(right, got, &receiving), 0);
    free(got);
}

static bool goes_on_with_it(void) {
    struct fipc_conn_recv receiving = {0};
    static uint8_t small[FIPC_INLINE_MAX];

    return fipc_conn_recv_begin(right, small, in_ms(PATIENCE_MS), &receiving) == 0 &&
           receiving.kept != NULL;
}

static void say_that_it_closed(void) { tell_senders(right); }

/* As look_for_reader() does, but at the address of the other end: ThreadSanitizer knows
 * addresses, not memory. */
static bool sees_it_closed(void) {
    return fipc_load_acquire(N2, &channel_at(right, right->in.index)->close_epoch) != 0;
}

static const struct order orders[] = {
    {"V", make_queue, enter, has_entered},
    {"X", make_segment, map_a_chunk, finds_the_chunk},
    {"I", nothing, make_the_page, finds_the_page},
    {"Q", make_the_page, look_for_room, looks_for_room},
    {"F", wipe_the_token, lock_process, locks_process},
    {"Z", keep_twice, drop, drops_the_last},
    {"K", send_a_part, keep_a_part, goes_on_with_it},
    {"N", make_pipe, say_that_it_closed, sees_it_closed},
};

ORDER_MAIN(orders)
