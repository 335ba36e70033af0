/* test_hold.c - hold.h: blocks under views, given back once, kept through detaching and
 * forks for as long as parent or child looks at them, and not a moment longer. */
#define _GNU_SOURCE
#include "hold.h"

#include <string.h>

#include "fixture.h"

#define SIZE ((uint64_t)100000)

/* What a view of a child or parent lies over, and when it may go on. */
struct viewing {
    struct fipc_queue *queue;
    struct fipc_hold hold;
    struct gate released; /* told once the other side has given its share back */
};

static void fill_block(const struct fipc_block *block, int byte) {
    memset(block->data, byte, SIZE);
}

static bool is_filled(const uint8_t *data, int byte) {
    for (uint64_t i = 0; i < SIZE; i++)
        if (data[i] != byte)
            return false;
    return true;
}

/* Puts a message in a block and gets it back under a view. */
static void hold_message(struct fipc_queue *queue, struct fipc_hold *hold, int byte) {
    struct fipc_queue_putting putting = {0};
    uint64_t size_bytes = SIZE;
    struct inbox inbox;

    CHECK_EQ(fipc_queue_prepare(queue, &size_bytes, 1, in_ms(PATIENCE_MS), &putting), 0);
    fill_block(&putting.block[0], byte);
    CHECK_EQ(fipc_queue_put_prepared(queue, &size_bytes, NULL, 0, 0, 0, &putting), 0);
    CHECK_EQ(get_message(queue, &inbox, in_ms(PATIENCE_MS)), 0);
    fipc_hold_take(hold, &queue->segment, &inbox.got.block);
}

/* Fills and gives back as many blocks as there are, so that one that was given back too
 * early would be written over. */
static void use_other_blocks(struct fipc_queue *queue) {
    struct fipc_block block[8];

    for (uint32_t i = 0; i < 8; i++) {
        CHECK_EQ(fipc_block_alloc(&queue->segment, SIZE, FIPC_BLOCK_KIND_DATA, in_ms(PATIENCE_MS),
                                  &block[i]),
                 0);
        fill_block(&block[i], 0xee);
    }
    for (uint32_t i = 0; i < 8; i++)
        fipc_block_release(&queue->segment, &block[i]);
}

static uint32_t owned_blocks(struct fipc_queue *queue) {
    struct fipc_arena_census census;

    (void)fipc_slots_reap(&queue->segment);
    CHECK_EQ(fipc_arena_check(&queue->segment, &census), 0);
    CHECK_EQ(census.dead, 0);
    return census.owned;
}

static void a_held_block_is_given_back_once_and_counted_until_then(void) {
    struct fipc_queue *queue = new_queue(0, 0);
    uint64_t before = fipc_hold_bytes();
    struct fipc_hold hold;

    hold_message(queue, &hold, 1);
    CHECK(fipc_hold_bytes() - before >= SIZE);
    use_other_blocks(queue);
    CHECK(is_filled(hold.block.data, 1));
    CHECK_EQ(owned_blocks(queue), 1);
    fipc_hold_release(&hold);
    CHECK_EQ(fipc_hold_bytes(), before);
    CHECK_EQ(owned_blocks(queue), 0);
    fipc_queue_close(queue);
}

static void a_held_block_outlives_the_detaching_of_its_queue(void) {
    struct fipc_queue *queue = new_queue(0, 0), *other = open_again(queue);
    struct fipc_hold hold;

    hold_message(queue, &hold, 1);
    fipc_queue_detach(queue);
    CHECK_EQ(fipc_segment_enter(&other->segment), 1);
    use_other_blocks(other);
    CHECK_EQ(owned_blocks(other), 1);
    CHECK(is_filled(hold.block.data, 1));
    fipc_hold_release(&hold);
    CHECK_EQ(queue->segment.fd, -1);
    CHECK_EQ(owned_blocks(other), 0);
    fipc_queue_close(queue);
    fipc_queue_close(other);
}

static void look_after_the_parent_let_go(void *argument) {
    struct viewing *viewing = argument;

    await(&viewing->released);
    CHECK(is_filled(viewing->hold.block.data, 1));
    CHECK_EQ(owned_blocks(viewing->queue), 1);
    fipc_hold_release(&viewing->hold);
    CHECK_EQ(owned_blocks(viewing->queue), 0);
}

static void a_forked_child_keeps_what_its_parent_lets_go(void) {
    struct viewing viewing = {.queue = new_queue(0, 0), .released = new_gate()};
    pid_t child;

    hold_message(viewing.queue, &viewing.hold, 1);
    child = check_fork(look_after_the_parent_let_go, &viewing);
    fipc_hold_release(&viewing.hold);
    use_other_blocks(viewing.queue);
    tell(&viewing.released);
    check_join(child);
    CHECK_EQ(owned_blocks(viewing.queue), 0);
    close_gate(&viewing.released);
    fipc_queue_close(viewing.queue);
}

static void let_go(void *argument) {
    struct viewing *viewing = argument;

    CHECK(is_filled(viewing->hold.block.data, 1));
    fipc_hold_release(&viewing->hold);
    CHECK_EQ(fipc_segment_enter(&viewing->queue->segment), 1);
    use_other_blocks(viewing->queue);
}

static void let_go_by_dying(void *argument) {
    (void)argument;
    wait_to_be_killed();
}

static void a_parent_keeps_what_its_forked_children_let_go(void) {
    struct viewing viewing = {.queue = new_queue(0, 0)};
    struct fipc_hold later;

    hold_message(viewing.queue, &viewing.hold, 1);
    check_in_child(let_go, &viewing);
    use_other_blocks(viewing.queue);
    CHECK(is_filled(viewing.hold.block.data, 1));
    kill_child(check_fork(let_go_by_dying, NULL));
    use_other_blocks(viewing.queue);
    CHECK(is_filled(viewing.hold.block.data, 1));
    /* What is got after the fork is the process's own. */
    hold_message(viewing.queue, &later, 2);
    CHECK_EQ(owned_blocks(viewing.queue), 2);
    fipc_hold_release(&later);
    CHECK_EQ(owned_blocks(viewing.queue), 1);
    fipc_hold_release(&viewing.hold);
    CHECK_EQ(owned_blocks(viewing.queue), 0);
    fipc_queue_close(viewing.queue);
}

struct taking {
    struct fipc_queue *queue;
    _Atomic int forks_done; /* a thread that ended before a fork is one that the child leaks */
};

static void *take_and_release(void *argument) {
    struct taking *taking = argument;

    do {
        struct fipc_hold hold;

        hold_message(taking->queue, &hold, 1);
        fipc_hold_release(&hold);
    } while (!taking->forks_done);
    return NULL;
}

static void do_nothing(void *argument) { (void)argument; }

static void threads_hold_and_release_while_others_fork(void) {
    struct taking taking = {.queue = new_queue(0, 0)};
    pthread_t threads[3];

    for (int i = 0; i < 3; i++)
        threads[i] = check_thread(take_and_release, &taking);
    for (int i = 0; i < 20; i++)
        check_in_child(do_nothing, NULL);
    taking.forks_done = 1;
    for (int i = 0; i < 3; i++)
        check_thread_join(threads[i]);
    CHECK_EQ(owned_blocks(taking.queue), 0);
    fipc_queue_close(taking.queue);
}

int main(void) {
    CHECK_RUN(a_held_block_is_given_back_once_and_counted_until_then);
    CHECK_RUN(a_held_block_outlives_the_detaching_of_its_queue);
    CHECK_RUN(a_forked_child_keeps_what_its_parent_lets_go);
    CHECK_RUN(a_parent_keeps_what_its_forked_children_let_go);
    CHECK_RUN(threads_hold_and_release_while_others_fork);
    return CHECK_END();
}
