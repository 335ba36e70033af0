/* sides.c - the pairs of a side: its lock and its two copies; a turn, which is taken and
 * given back beside them; flags, and what says that one closes. */
#define _GNU_SOURCE
#include "channel_fast.h"
#include "conn_internal.h"
#include "order.h"

static struct fipc_segment segment;
static struct fipc_side_shm side;
static struct fipc_queue *queue;
static struct fipc_conn *end, *other_end;
static uint32_t sleepers;

static void nothing(void) {}

/* ---- L ---- */

static void take_the_lock(void) {
    segment.lock_word = 5;
    CHECK_EQ(fipc_lock_try(&segment, &side.lock), 0);
}

static void unlock(void) { fipc_lock_release(&side.lock); }

static bool lock(void) { return fipc_lock_try(&segment, &side.lock) == 0; }

/* ---- R, P ---- */

static void publish(void) {
    struct fipc_side_copy_shm next = {.pos = 64, .count = 1, .ring = 1};

    fipc_side_publish(&side, &next);
}

static bool sees_the_publish(void) { return fipc_side_read(&side).count == 1; }

/* ---- T ---- */

#define SOMEBODY FIPC_OWNER(7, 7)

static void make_queue(void) {
    queue = new_queue(0, 0);
    CHECK_EQ(put_bytes(queue, "first", 5, in_ms(PATIENCE_MS)), 0);
}

/* A queue's channel has the same turns as a connection's. */
static void give_somebody_the_turn(void) {
    make_queue();
    fipc_store_relaxed(&queue->channel.shm->send_turn, SOMEBODY);
}

static void end_the_turn(void) {
    struct fipc_channel_shm *shm = queue->channel.shm;

    fipc_turn_release(&shm->send_turn, SOMEBODY, &shm->send_turn_sleepers);
}

static bool puts_under_the_lock(void) {
    return fipc_channel_put_fast(&queue->channel, "second", 6, FIPC_RECORD_INLINE, 0) == 0;
}

/* ---- D, C, J ---- */

static void shut_the_queue(void) {
    CHECK_EQ(fipc_channel_shut_put(&queue->channel, in_ms(PATIENCE_MS)), 0);
}

static bool sees_it_shut(void) { return fipc_side_is_shut(&queue->channel.shm->put); }

static void cancel(void) { fipc_queue_cancel(queue); }

/* As wait_for_item() does behind its mark. */
static bool sees_it_closing(void) { return fipc_load_seqcst(C2, &queue->closing) != 0; }

static void finish_the_task(void) { CHECK_EQ(fipc_queue_task_done(queue), 0); }

static bool sees_it_finished(void) { return fipc_queue_unfinished(queue) == 0; }

/* ---- S ---- */

static void make_pipe(void) { CHECK_EQ(fipc_pipe_create(true, "test", &end, &other_end), 0); }

static void shut_the_end(void) { fipc_conn_shut(end); }

static bool does_not_sleep(void) {
    struct fipc_waiting waiting = {0};
    uint64_t turn = SOMEBODY;

    return fipc_turn_wait(end, &turn, SOMEBODY, &sleepers, &waiting, 1) == -EBADF;
}

static const struct order orders[] = {
    {"L", take_the_lock, unlock, lock},
    {"R", nothing, publish, sees_the_publish},
    {"P", nothing, publish, sees_the_publish},
    {"T", give_somebody_the_turn, end_the_turn, puts_under_the_lock},
    {"D", make_queue, shut_the_queue, sees_it_shut},
    {"C", make_queue, cancel, sees_it_closing},
    {"J", make_queue, finish_the_task, sees_it_finished},
    {"S", make_pipe, shut_the_end, does_not_sleep},
};

ORDER_MAIN(orders)
