/* blocks.c - the pairs that blocks, groups and slots stand on. */
#define _GNU_SOURCE
#include "arena_internal.h"
#include "order.h"

#define BLOCK_BYTES 10000

static struct fipc_segment *segment;
static struct fipc_queue *queue;
static struct fipc_block block;
static struct fipc_group_shm *group;

static struct fipc_block take(struct fipc_segment *from, uint64_t size_bytes) {
    struct fipc_block taken;

    CHECK_EQ(fipc_block_alloc(from, size_bytes, FIPC_BLOCK_KIND_DATA, in_ms(PATIENCE_MS), &taken),
             0);
    return taken;
}

static void make_segment(void) {
    segment = new_segment();
    CHECK_EQ(fipc_segment_enter(segment), 1);
}

/* ---- B ---- */

static void take_a_block(void) {
    make_segment();
    block = take(segment, BLOCK_BYTES);
}

static void give_it_back(void) { fipc_block_release(segment, &block); }

static bool takes_it_again(void) {
    CHECK_EQ(take(segment, BLOCK_BYTES).id, block.id);
    return true;
}

/* ---- U, G ---- */

static void find_its_group(void) {
    take_a_block();
    CHECK_EQ(fipc_group_find(segment, FIPC_BLOCK_GROUP(block.id), &group), 0);
    CHECK_EQ(fipc_group_used(group), 1);
}

static void make_another(void) { (void)take(segment, BLOCK_BYTES); }

static bool sees_it_counted(void) { return fipc_group_used(group) == 2; }

static bool finds_its_group(void) { return fipc_group_find(segment, 1, &group) == 0; }

/* ---- O, H ---- */

static void make_a_queue_and_a_block(void) {
    queue = new_queue(0, 0);
    CHECK_EQ(fipc_channel_enter(&queue->channel), 0);
    block = take(&queue->segment, BLOCK_BYTES);
}

static void put_the_block(void) {
    struct fipc_block_ref_shm ref = {.block = block.id, .refs = 1, .size_bytes = BLOCK_BYTES};
    struct fipc_put put = {
        .data = &ref,
        .data_bytes = sizeof(ref),
        .kind = FIPC_RECORD_BLOCK,
        .items = 1,
        .bytes = BLOCK_BYTES,
        .blocks = &block,
        .block_count = 1,
    };

    CHECK_EQ(fipc_channel_put(&queue->channel, &put, in_ms(PATIENCE_MS)), 0);
}

static bool sees_it_queued(void) {
    struct fipc_arena_census census;

    CHECK_EQ(fipc_arena_check(&queue->segment, &census), 0);
    return census.queued == 1;
}

static void queue_the_block(void) {
    make_a_queue_and_a_block();
    put_the_block();
    CHECK(sees_it_queued());
}

static void get_the_block(void) {
    static struct inbox inbox;

    inbox.got.buffer = inbox.bytes;
    inbox.got.buffer_bytes = sizeof(inbox.bytes);
    CHECK_EQ(fipc_channel_get(&queue->channel, &inbox.got, in_ms(PATIENCE_MS)), 0);
}

static bool sees_it_owned(void) {
    struct fipc_arena_census census;

    CHECK_EQ(fipc_arena_check(&queue->segment, &census), 0);
    return census.owned == 1;
}

/* ---- E, Y ---- */

/* A second slot of the same mapping: ThreadSanitizer knows addresses, not memory. */
static void claim(void) {
    uint64_t owner;
    void *pin;

    CHECK_EQ(fipc_slots_claim_shared(segment, &owner, &pin), 0);
    CHECK_EQ(owner, FIPC_OWNER(1, 1));
}

static bool sees_it_alive(void) { return fipc_slots_is_alive(segment, 1, 1) == 1; }

static void lend(void) {
    make_segment();
    fipc_segment_lend(segment);
}

static void claim_what_was_lent(void) { fipc_segment_claim(segment); }

static bool sees_it_claimed(void) { return !fipc_segment_is_lent(segment); }

static const struct order orders[] = {
    {"B", take_a_block, give_it_back, takes_it_again},
    {"U", find_its_group, make_another, sees_it_counted},
    {"G", make_segment, make_another, finds_its_group},
    {"O", make_a_queue_and_a_block, put_the_block, sees_it_queued},
    {"H", queue_the_block, get_the_block, sees_it_owned},
    {"E", make_segment, claim, sees_it_alive},
    {"Y", lend, claim_what_was_lent, sees_it_claimed},
};

ORDER_MAIN(orders)
