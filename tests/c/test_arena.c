/* test_arena.c - arena.h: taking blocks and giving them back, from several threads and
 * after failures; what of the dead, of forks and of bursts is swept, kept or given
 * back to the system. What travels through a queue is test_queue.c's. */
#define _GNU_SOURCE
#include "arena.h"
#include "copy.h"

#include <sys/resource.h>

#include "fixture.h"

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define RING_KIND FIPC_BLOCK_KIND_RING /* of channel 0 */

static struct fipc_segment *new_entered_segment(void) {
    struct fipc_segment *segment = new_segment();

    CHECK_EQ(fipc_segment_enter(segment), 1);
    return segment;
}

static struct fipc_segment *attach_and_enter(const struct fipc_segment *segment) {
    struct fipc_segment *again = attach_again(segment);

    CHECK_EQ(fipc_segment_enter(again), 1);
    return again;
}

static int try_alloc(struct fipc_segment *segment, uint64_t size_bytes, struct fipc_block *block) {
    return fipc_block_alloc(segment, size_bytes, FIPC_BLOCK_KIND_DATA, in_ms(PATIENCE_MS), block);
}

static struct fipc_block alloc_kind(struct fipc_segment *segment, uint64_t size_bytes,
                                    uint32_t kind) {
    struct fipc_block block;

    CHECK_EQ(fipc_block_alloc(segment, size_bytes, kind, in_ms(PATIENCE_MS), &block), 0);
    return block;
}

static struct fipc_block alloc(struct fipc_segment *segment, uint64_t size_bytes) {
    return alloc_kind(segment, size_bytes, FIPC_BLOCK_KIND_DATA);
}

static struct fipc_arena_census census_of(struct fipc_segment *segment) {
    struct fipc_arena_census census;

    CHECK_EQ(fipc_arena_check(segment, &census), 0);
    CHECK_EQ(census.blocks,
             census.free + census.owned + census.queued + census.rings + census.dead);
    return census;
}

/* ---- taking and giving back ---- */

static void a_block_has_memory_for_what_was_asked(void) {
    static const uint64_t sizes[] = {0, 1, 4096, 8191, 8192, 8193, 65536, MIB - 4096, 3 * MIB + 1};
    struct fipc_segment *segment = new_entered_segment();

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct fipc_block block = alloc(segment, sizes[i]);

        CHECK(block.capacity >= sizes[i] && (block.capacity & (block.capacity - 1)) == 0);
        CHECK_EQ((uintptr_t)block.data % FIPC_PAGE, 0);
        memset(block.data, 0x5a, sizes[i]);
        CHECK_EQ(census_of(segment).owned, i + 1);
    }
    drop_segment(segment);
}

static void a_block_given_back_is_taken_again_warm(void) {
    struct fipc_segment *segment = new_entered_segment();
    struct fipc_block one = alloc(segment, 100000), two;
    int64_t bytes = fipc_os_allocated_bytes(segment->fd);

    fipc_block_release(segment, &one);
    two = alloc(segment, 90000);
    CHECK_EQ(two.id, one.id);
    CHECK(two.data == one.data);
    CHECK_EQ(fipc_os_allocated_bytes(segment->fd), bytes);
    fipc_block_release(segment, &two);
    CHECK_EQ(census_of(segment).owned, 0);
    drop_segment(segment);
}

static void free_blocks_are_taken_in_turn_those_with_memory_first(void) {
    struct fipc_segment *segment = new_entered_segment();
    struct fipc_block block[60];
    uint32_t seen = 0;
    uint64_t populated;

    /* 60 of 16 KiB are more than what is kept when traffic rests. */
    for (int i = 0; i < 60; i++)
        block[i] = alloc(segment, 16384);
    for (int i = 0; i < 60; i++)
        fipc_block_release(segment, &block[i]);
    fipc_arena_trim_now(segment);
    populated = census_of(segment).free_populated;
    CHECK(populated < 60 * 16384 && populated >= 20 * 16384);
    for (int i = 0; i < 200; i++) {
        struct fipc_block one = alloc(segment, 16384);

        CHECK(seen == 0 || one.id != block[0].id);
        block[0] = one;
        seen++;
        fipc_block_release(segment, &one);
    }
    /* No memory was fetched for others. */
    CHECK_EQ(census_of(segment).free_populated, populated);
    CHECK_EQ(fipc_load_relaxed(&segment->arena->warm_bytes), 0);
    CHECK_EQ(census_of(segment).owned, 0);
    drop_segment(segment);
}

static void of_large_blocks_the_same_few_are_taken_again(void) {
    struct fipc_segment *segment = new_entered_segment();
    struct fipc_block block[3], one;

    /* Until their memory is kept, being wanted back soon. */
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 3; i++)
            block[i] = alloc(segment, 1 << 20);
        for (int i = 3; i-- > 0;)
            fipc_block_release(segment, &block[i]);
    }
    CHECK_EQ(census_of(segment).free_populated, 3 << 20);
    for (int i = 0; i < 10; i++) {
        one = alloc(segment, 1 << 20);
        CHECK_EQ(one.id, block[0].id);
        fipc_block_release(segment, &one);
    }
    drop_segment(segment);
}

static void all_that_was_given_away_is_kept_once_some_of_it_is_wanted_back(void) {
    struct fipc_segment *segment = new_entered_segment();
    uint64_t *warm_bytes = &segment->arena->warm_bytes, most;
    struct fipc_block block[5], one;

    for (int i = 0; i < 5; i++)
        block[i] = alloc(segment, 1 << 20);
    CHECK_EQ(fipc_load_relaxed(warm_bytes), 0);
    for (int i = 0; i < 4; i++)
        fipc_block_release(segment, &block[i]);
    CHECK_EQ(census_of(segment).free_populated, 0);
    one = alloc(segment, 1 << 20);
    CHECK_EQ(fipc_load_relaxed(warm_bytes), 4 << 20);
    /* What was given away before counts once. */
    block[0] = alloc(segment, 1 << 20);
    CHECK_EQ(fipc_load_relaxed(warm_bytes), 5 << 20);
    fipc_block_release(segment, &one);
    fipc_block_release(segment, &block[0]);
    fipc_block_release(segment, &block[4]);
    CHECK_EQ(census_of(segment).free_populated, 3 << 20);
    /* Nor what was given away before a rest, whether somebody noticed that or not. */
    CHECK_EQ(fipc_load_relaxed(&segment->arena->given_back), 0);
    fipc_store_relaxed(&segment->arena->given_back, UINT64_MAX);
    fipc_arena_trim_now(segment);
    one = alloc(segment, 1 << 20);
    CHECK_EQ(fipc_load_relaxed(warm_bytes), 1 << 20);
    fipc_block_release(segment, &one);
    fipc_arena_trim_now(segment);
    fipc_store_relaxed(&segment->arena->given_back, UINT64_MAX);
    fipc_store_relaxed(&segment->arena->given_ns, fipc_os_coarse_now_ns() - 1000 * FIPC_NS_PER_MS);
    one = alloc(segment, 1 << 20);
    CHECK_EQ(fipc_load_relaxed(warm_bytes), 1 << 20);
    CHECK_EQ(fipc_load_relaxed(&segment->arena->given_back), 0);
    fipc_block_release(segment, &one);
    fipc_arena_trim_now(segment);
    /* And never more than the most. */
    fipc_store_relaxed(&segment->arena->given_back, UINT64_MAX);
    fipc_store_relaxed(&segment->arena->given_ns, fipc_os_coarse_now_ns());
    one = alloc(segment, 1 << 20);
    most = fipc_load_relaxed(warm_bytes);
    CHECK(most > 5 << 20 && most <= FIPC_WARM_MAX_BYTES);
    block[0] = alloc(segment, 1 << 20);
    CHECK_EQ(fipc_load_relaxed(warm_bytes), most);
    fipc_block_release(segment, &one);
    fipc_block_release(segment, &block[0]);
    drop_segment(segment);
}

static void more_blocks_go_round_where_copies_are_slow_and_no_put_fails_for_that(void) {
    struct fipc_segment *segment = new_entered_segment();
    struct fipc_copy_pace *pace = fipc_copy_pace_of(FIPC_COPY_PAST_OR_THROUGH, 16384);
    struct rlimit before, none_more;
    uint64_t blocks;

    CHECK(pace != NULL && getrlimit(RLIMIT_FSIZE, &before) == 0);
    for (int i = 0; i < 1000; i++) {
        struct fipc_block block = alloc(segment, 16384);

        CHECK(i != 500 || census_of(segment).blocks <= 3 + 1);
        pace->chosen = i >= 500;
        fipc_block_release(segment, &block);
    }
    blocks = census_of(segment).blocks;
    CHECK(blocks > 40 && blocks <= 2 * MIB / 16384 + 3);
    /* Where there is no room for another one, one of those that are free. */
    none_more = before;
    none_more.rlim_cur = segment->length;
    CHECK(setrlimit(RLIMIT_FSIZE, &none_more) == 0);
    for (int i = 0; i < 100; i++) {
        struct fipc_block block;

        CHECK_EQ(fipc_block_alloc(segment, 16384, FIPC_BLOCK_KIND_DATA, in_ms(PATIENCE_MS), &block),
                 0);
        fipc_block_release(segment, &block);
    }
    CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0);
    pace->chosen = 0;
    drop_segment(segment);
}

/* A block may be taken before who gave it back has counted it, and a sweep's count may miss one. */
static void memory_is_kept_although_less_than_none_is_counted_as_free(void) {
    struct fipc_segment *segment = new_entered_segment();
    struct fipc_block block = alloc(segment, 100000);
    int64_t bytes = fipc_os_allocated_bytes(segment->fd);

    segment->arena->classes[20 - FIPC_CLASS_MIN].free_bytes -= MIB;
    fipc_block_release(segment, &block);
    CHECK_EQ(fipc_os_allocated_bytes(segment->fd), bytes);
    drop_segment(segment);
}

static void a_block_is_found_by_its_number_from_another_process(void) {
    struct fipc_segment *one = new_entered_segment(), *two = attach_and_enter(one);
    struct fipc_block block = alloc(one, 3 * MIB), found;

    memset(block.data, 7, 3 * MIB);
    CHECK_EQ(fipc_block_find(two, block.id, &found), -ESTALE);
    CHECK_EQ(fipc_block_map(two, block.id, &found), 0);
    CHECK_EQ(fipc_block_find(two, block.id, &found), 0);
    CHECK_EQ(found.capacity, 4 * MIB);
    CHECK_EQ(found.data[3 * MIB - 1], 7);
    fipc_block_release(one, &block);
    drop_segment(two);
    drop_segment(one);
}

static void only_the_owner_gives_a_block_back(void) {
    struct fipc_segment *one = new_entered_segment(), *two = attach_and_enter(one);
    struct fipc_block block = alloc(one, 100000), found;

    memset(block.data, 7, 100000);
    CHECK_EQ(fipc_block_map(two, block.id, &found), 0);
    fipc_block_release(two, &found);
    CHECK_EQ(census_of(one).owned, 1);
    CHECK_EQ(block.data[99999], 7);
    fipc_block_release(one, &block);
    fipc_block_release(one, &block); /* once is enough */
    CHECK_EQ(census_of(one).owned, 0);
    CHECK_EQ(one->arena->classes[17 - FIPC_CLASS_MIN].free_blocks, 1);
    drop_segment(two);
    drop_segment(one);
}

static void a_number_that_is_no_block_is_reported(void) {
    struct fipc_segment *segment = new_entered_segment();
    struct fipc_block block;

    CHECK_EQ(fipc_block_find(segment, FIPC_BLOCK_ID(1, 0), &block), -EBADMSG);
    CHECK_EQ(fipc_block_find(segment, FIPC_BLOCK_ID(0, 5), &block), -EBADMSG);
    CHECK_EQ(fipc_block_find(segment, FIPC_BLOCK_ID(0, 127), &block), -EBADMSG);
    CHECK_EQ(fipc_block_find(segment, UINT32_MAX, &block), -EBADMSG);
    CHECK_EQ(fipc_block_map(segment, UINT32_MAX, &block), -EBADMSG);
    drop_segment(segment);
}

/* ---- failures ---- */

static void fail_to_grow(void *argument) {
    struct fipc_segment *segment = argument;
    struct rlimit limit, before;
    struct fipc_block block;

    CHECK_EQ(fipc_segment_enter(segment), 1);
    CHECK_OK(getrlimit(RLIMIT_FSIZE, &before));
    limit = before;
    limit.rlim_cur = 2 * MIB;
    CHECK_OK(setrlimit(RLIMIT_FSIZE, &limit));
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(try_alloc(segment, 5 * MIB, &block), -EFBIG);
        CHECK_STR(fipc_limit_name(), "RLIMIT_FSIZE");
        CHECK_EQ(census_of(segment).owned, 0);
    }
    CHECK_OK(setrlimit(RLIMIT_FSIZE, &before));
    block = alloc(segment, 5 * MIB);
    memset(block.data, 1, 5 * MIB);
    fipc_block_release(segment, &block);
    CHECK_EQ(census_of(segment).owned, 0);
}

static void a_segment_that_may_not_grow_says_so_and_loses_nothing(void) {
    struct fipc_segment *segment = new_segment();

    check_in_child(fail_to_grow, segment);
    drop_segment(segment);
}

#ifndef CHECK_SANITIZER /* whose run time needs the address space that this takes away */
static void fail_to_map(void *argument) {
    struct fipc_segment *segment = argument;
    struct fipc_segment *other = attach_and_enter(segment);
    struct fipc_block big = alloc(other, 40 * MIB), block = alloc(other, 400 * KIB);
    struct rlimit limit, before;

    CHECK_EQ(fipc_segment_enter(segment), 1);
    fipc_block_release(other, &block); /* free, in a chunk that is mapped only there */
    CHECK_OK(getrlimit(RLIMIT_AS, &before));
    limit = before;
    limit.rlim_cur = 1; /* nothing may be mapped any more */
    CHECK_OK(setrlimit(RLIMIT_AS, &limit));
    for (int i = 0; i < 5; i++)
        CHECK_EQ(try_alloc(segment, 400 * KIB, &block), -ENOMEM);
    CHECK_OK(setrlimit(RLIMIT_AS, &before));
    CHECK_EQ(census_of(other).owned, 1);
    block = alloc(segment, 400 * KIB);
    fipc_block_release(segment, &block);
    fipc_block_release(other, &big);
    CHECK_EQ(census_of(segment).owned, 0);
    drop_segment(other);
}

static void a_block_that_cannot_be_mapped_stays_free(void) {
    struct fipc_segment *segment = new_segment();

    check_in_child(fail_to_map, segment);
    drop_segment(segment);
}
#endif

static void a_descriptor_that_became_another_files_is_not_punched(void) {
    struct fipc_segment *segment = new_entered_segment();
    struct fipc_block held = alloc(segment, 2 * MIB), block;
    int fd = segment->fd, theirs = memfd_create("theirs", MFD_CLOEXEC);
    uint8_t *bytes = malloc(16 * MIB), *now = malloc(16 * MIB);

    CHECK(bytes != NULL && now != NULL);
    memset(bytes, 0x55, 16 * MIB);
    CHECK_EQ(write(theirs, bytes, 16 * MIB), 16 * MIB);
    CHECK_EQ(dup2(theirs, fd), fd);
    CHECK_EQ(try_alloc(segment, 2 * MIB, &block), -EBADF);
    fipc_block_release(segment, &held);
    fipc_arena_trim_slow(segment);
    CHECK_EQ(pread(theirs, now, 16 * MIB, 0), 16 * MIB);
    CHECK(memcmp(bytes, now, 16 * MIB) == 0);
    free(bytes);
    free(now);
    drop_segment(segment);
    close(fd);
    close(theirs);
}

/* ---- fork ---- */

struct inherited {
    struct fipc_segment *segment;
    struct fipc_block block;
    bool enters;
};

static void give_back_in_child(void *argument) {
    struct inherited *inherited = argument;

    if (inherited->enters)
        CHECK_EQ(fipc_segment_enter(inherited->segment), 1);
    fipc_block_release(inherited->segment, &inherited->block);
    fipc_arena_trim_slow(inherited->segment);
}

static void a_forked_child_cannot_give_its_parents_block_back(void) {
    struct inherited inherited = {new_entered_segment(), {0}, false};

    for (int enters = 0; enters < 2; enters++) {
        inherited.enters = enters;
        inherited.block = alloc(inherited.segment, 3 * MIB);
        memset(inherited.block.data, 9, 3 * MIB);
        check_in_child(give_back_in_child, &inherited);
        CHECK_EQ(census_of(inherited.segment).owned, 1);
        CHECK_EQ(inherited.block.data[0], 9);
        CHECK_EQ(inherited.block.data[3 * MIB - 1], 9);
        fipc_block_release(inherited.segment, &inherited.block);
        CHECK_EQ(census_of(inherited.segment).owned, 0);
    }
    drop_segment(inherited.segment);
}

/* ---- the dead ---- */

struct holder {
    struct fipc_segment *segment;
    struct gate holding;
    uint64_t size_bytes;
    uint32_t kind;
};

static void take_and_wait(void *argument) {
    struct holder *holder = argument;

    CHECK_EQ(fipc_segment_enter(holder->segment), 1);
    for (int i = 0; i < 3; i++)
        (void)alloc_kind(holder->segment, holder->size_bytes, holder->kind);
    tell(&holder->holding);
    wait_to_be_killed();
}

static void kill_holder(struct holder *holder) {
    pid_t pid = check_fork(take_and_wait, holder);

    await(&holder->holding);
    kill_child(pid);
}

static void what_the_dead_had_in_hand_is_freed(void) {
    struct holder holder = {new_entered_segment(), new_gate(), 50000, FIPC_BLOCK_KIND_DATA};

    kill_holder(&holder);
    CHECK_EQ(census_of(holder.segment).dead, 3);
    CHECK_EQ(fipc_slots_reap(holder.segment), 1);
    CHECK_EQ(census_of(holder.segment).dead, 0);
    CHECK_EQ(census_of(holder.segment).free, 3);
    close_gate(&holder.holding);
    drop_segment(holder.segment);
}

static void growing_looks_for_the_dead_first(void) {
    struct holder holder = {new_entered_segment(), new_gate(), 50000, FIPC_BLOCK_KIND_DATA};
    struct fipc_block block;

    kill_holder(&holder);
    sleep_ms(60); /* it looks at most every 50 ms */
    block = alloc(holder.segment, 50000);
    CHECK_EQ(census_of(holder.segment).blocks, 4); /* the first ring and the dead's three */
    fipc_block_release(holder.segment, &block);
    close_gate(&holder.holding);
    drop_segment(holder.segment);
}

/* A sweeper that never saw the ring in use must not take the dead's spares for rings. */
static void spare_rings_of_the_dead_are_freed_by_who_mapped_nothing_yet(void) {
    struct fipc_queue *queue = new_queue(0, 0);
    struct holder holder = {&queue->segment, new_gate(), 64 * KIB, RING_KIND};
    struct fipc_segment *fresh;
    uint8_t bytes[4000] = {0};
    struct inbox inbox;

    CHECK_EQ(fipc_segment_enter(&queue->segment), 1);
    kill_holder(&holder);                            /* its spares' group comes first */
    queue->segment.sweep_checked_ns = INT64_MAX / 2; /* and is not swept meanwhile */
    for (int i = 0; i < 3000; i++)
        CHECK_EQ(put_bytes(queue, bytes, sizeof(bytes), 0), 0);
    for (int i = 0; i < 2900; i++)
        CHECK_EQ(get_message(queue, &inbox, 0), 0);
    fresh = attach_and_enter(&queue->segment);
    (void)fipc_slots_reap(fresh);
    CHECK_EQ(census_of(&queue->segment).dead, 0);
    CHECK_EQ(fipc_slots_reap(&queue->segment), 0);
    for (int i = 0; i < 100; i++)
        CHECK_EQ(get_message(queue, &inbox, 0), 0);
    check_census(queue, 0);
    close_gate(&holder.holding);
    drop_segment(fresh);
    fipc_queue_close(queue);
}

/* As if killed between reserving memory and saying so. */
static void memory_that_the_dead_reserved_and_did_not_count_is_given_back(void) {
    struct fipc_segment *segment = new_entered_segment();
    struct holder holder = {segment, new_gate(), 5 * MIB, FIPC_BLOCK_KIND_DATA};
    struct fipc_group_shm *group;

    kill_holder(&holder);
    CHECK(fipc_os_allocated_bytes(segment->fd) > (int64_t)(15 * MIB));
    group = (struct fipc_group_shm *)(segment->chunk[0] + FIPC_OFF_GROUP_DIR0);
    group =
        (struct fipc_group_shm *)(segment->chunk[0] + (uint64_t)((uint32_t *)group)[1] * FIPC_PAGE);
    CHECK_EQ(group->size_class, 23);
    for (int i = 0; i < 3; i++)
        group->block[i].populated = 0;
    CHECK_EQ(fipc_slots_reap(segment), 1);
    CHECK(fipc_os_allocated_bytes(segment->fd) < (int64_t)(2 * MIB));
    close_gate(&holder.holding);
    drop_segment(segment);
}

/* As if killed in add_group(), between reserving the page and putting the group in force. */
static void reserve_a_page_and_wait(void *argument) {
    struct holder *holder = argument;
    struct fipc_segment *segment = holder->segment;
    struct fipc_side_shm *state = &segment->arena->state;
    uint64_t page = fipc_align_up(fipc_side_read(state).pos, FIPC_PAGE);

    CHECK_EQ(fipc_segment_enter(segment), 1);
    CHECK_EQ(fipc_lock_try(segment, &state->lock), 0);
    CHECK_EQ(fipc_segment_reserve(segment, page, FIPC_PAGE), 0);
    tell(&holder->holding);
    wait_to_be_killed();
}

static void a_page_that_the_dead_reserved_for_a_group_is_given_back(void) {
    int64_t allocated[2];

    for (int died = 0; died < 2; died++) {
        struct fipc_segment *segment = new_entered_segment();
        struct holder holder = {segment, new_gate(), 0, 0};

        (void)alloc(segment, 5 * MIB);
        (void)alloc(segment, 100);
        if (died) {
            pid_t pid = check_fork(reserve_a_page_and_wait, &holder);

            await(&holder.holding);
            kill_child(pid);
        }
        /* In the group that there is, at a place some MiB behind that page. */
        (void)alloc(segment, 5 * MIB);
        (void)alloc(segment, 5 * MIB);
        CHECK_EQ(fipc_slots_reap(segment), died);
        allocated[died] = fipc_os_allocated_bytes(segment->fd);
        close_gate(&holder.holding);
        drop_segment(segment);
    }
    CHECK_EQ(allocated[1], allocated[0]);
}

/* ---- bursts ---- */

#define BURST_BLOCKS (FIPC_GROUP_BLOCKS * (FIPC_GROUP_INLINE + 3))

static void groups_given_back_are_used_again(void) {
    struct fipc_segment *segment = new_entered_segment();
    struct fipc_block *blocks = calloc(BURST_BLOCKS, sizeof(*blocks));

    CHECK(blocks != NULL);
    for (int round = 0; round < 3; round++) {
        uint32_t groups = (uint32_t)fipc_side_read(&segment->arena->state).count;

        for (int i = 0; i < BURST_BLOCKS; i++) {
            blocks[i] = alloc(segment, 100);
            blocks[i].data[0] = (uint8_t)i;
        }
        if (round > 0)
            CHECK(fipc_side_read(&segment->arena->state).count <= groups + 1);
        for (int i = 0; i < BURST_BLOCKS; i++) {
            CHECK_EQ(blocks[i].data[0], (uint8_t)i);
            fipc_block_release(segment, &blocks[i]);
        }
        CHECK_EQ(census_of(segment).owned, 0);
        fipc_arena_trim_slow(segment);
        sleep_ms(600);
        fipc_arena_trim_slow(segment);
        CHECK_EQ(census_of(segment).owned, 0);
        CHECK(census_of(segment).free_populated <= FIPC_FREE_KEEP_BYTES);
        CHECK(fipc_os_allocated_bytes(segment->fd) <= (int64_t)MIB);
    }
    free(blocks);
    drop_segment(segment);
}

/* ---- threads ---- */

#define THREADS 4
#define HELD 6

struct worker {
    struct fipc_segment *segment;
    uint64_t seed;
    uint32_t rounds;
    pthread_t thread;
};

static void *take_and_give_back(void *argument) {
    struct worker *worker = argument;
    struct fipc_block held[HELD] = {{0}};
    uint8_t mark[HELD];
    uint64_t sizes[HELD];

    for (uint32_t i = 0; i < worker->rounds; i++) {
        uint32_t n = (uint32_t)(next_random(&worker->seed) % HELD);

        if (held[n].shm == NULL) {
            sizes[n] =
                next_random(&worker->seed) % (next_random(&worker->seed) % 8 ? 20000 : 300000);
            mark[n] = (uint8_t)next_random(&worker->seed);
            held[n] = alloc(worker->segment, sizes[n]);
            memset(held[n].data, mark[n], sizes[n]);
        } else {
            for (uint64_t at = 0; at < sizes[n]; at += 997)
                CHECK_EQ(held[n].data[at], mark[n]);
            fipc_block_release(worker->segment, &held[n]);
            held[n].shm = NULL;
        }
        if (i % 64 == 0)
            fipc_arena_trim_slow(worker->segment);
    }
    for (uint32_t n = 0; n < HELD; n++)
        if (held[n].shm != NULL)
            fipc_block_release(worker->segment, &held[n]);
    return NULL;
}

static void no_two_threads_ever_have_the_same_block(void) {
    struct fipc_segment *one = new_entered_segment(), *two = attach_and_enter(one);
    struct worker workers[THREADS];

    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){i & 1 ? one : two, (uint64_t)i, FIXTURE_LESS(40000, 4000), 0};
        workers[i].thread = check_thread(take_and_give_back, &workers[i]);
    }
    for (int i = 0; i < THREADS; i++)
        check_thread_join(workers[i].thread);
    CHECK_EQ(census_of(one).owned, 0);
    /* No more than everybody could hold at once, and a few that raced. */
    CHECK(census_of(one).blocks < 6 * THREADS * HELD);
    drop_segment(two);
    drop_segment(one);
}

/* ---- damage ---- */

struct damage {
    struct fipc_segment *segment;
    struct fipc_group_shm *group;
};

/* Everything that reads descriptors, on ones that somebody scribbled over. */
static void use_damaged(struct fipc_segment *segment, uint32_t id) {
    struct fipc_arena_census census;
    struct fipc_block block;
    int rc;

    (void)!fipc_block_find(segment, id, &block);
    (void)!fipc_block_map(segment, id, &block);
    rc = try_alloc(segment, 9000, &block);
    if (rc == 0) {
        memset(block.data, 1, 9000);
        fipc_block_release(segment, &block);
    }
    (void)!fipc_arena_check(segment, &census);
    (void)!fipc_arena_sweep(segment, 5, 5);
    fipc_arena_repair_put(segment, 0);
    fipc_arena_trim_slow(segment);
}

static void damaged_descriptors_are_reported_and_crash_nobody(void) {
    uint64_t seed = 42;

    for (int i = 0; i < FIXTURE_LESS(3000, 600); i++) {
        struct fipc_segment *segment = new_entered_segment();
        struct fipc_block block = alloc(segment, 9000);
        struct fipc_group_shm *group =
            (struct fipc_group_shm *)((uint8_t *)block.shm -
                                      offsetof(struct fipc_group_shm, block));
        uint64_t value = next_random(&seed) >> (next_random(&seed) % 64);

        fipc_block_release(segment, &block);
        switch (i % 8) {
        case 0:
            group->block[0].place = value;
            break;
        case 1:
            group->block[0].populated = value;
            break;
        case 2:
            group->block[0].owner = value;
            group->block[0].ordinal = next_random(&seed) % 4;
            break;
        case 3:
            group->used = (uint32_t)value;
            break;
        case 4:
            group->size_class = (uint32_t)value;
            break;
        case 5:
            ((uint32_t *)(segment->chunk[0] + FIPC_OFF_GROUP_DIR0))[1] = (uint32_t)value;
            break;
        case 6:
            segment->arena->state.copy[segment->arena->state.gen & 1].pos = value;
            break;
        default:
            segment->arena->tail[14 - FIPC_CLASS_MIN] = (uint32_t)value;
            segment->arena->classes[14 - FIPC_CLASS_MIN].group = (uint32_t)value;
            segment->arena->groups_retired = (uint32_t)next_random(&seed);
        }
        use_damaged(segment, block.id);
        drop_segment(segment);
    }
}

int main(void) {
    CHECK_BEGIN();
    CHECK_RUN(a_block_has_memory_for_what_was_asked);
    CHECK_RUN(a_block_given_back_is_taken_again_warm);
    CHECK_RUN(free_blocks_are_taken_in_turn_those_with_memory_first);
    CHECK_RUN(of_large_blocks_the_same_few_are_taken_again);
    CHECK_RUN(all_that_was_given_away_is_kept_once_some_of_it_is_wanted_back);
    CHECK_RUN(more_blocks_go_round_where_copies_are_slow_and_no_put_fails_for_that);
    CHECK_RUN(memory_is_kept_although_less_than_none_is_counted_as_free);
    CHECK_RUN(a_block_is_found_by_its_number_from_another_process);
    CHECK_RUN(only_the_owner_gives_a_block_back);
    CHECK_RUN(a_number_that_is_no_block_is_reported);
    CHECK_RUN(a_segment_that_may_not_grow_says_so_and_loses_nothing);
#ifndef CHECK_SANITIZER
    CHECK_RUN(a_block_that_cannot_be_mapped_stays_free);
#endif
    CHECK_RUN(a_descriptor_that_became_another_files_is_not_punched);
    CHECK_RUN(a_forked_child_cannot_give_its_parents_block_back);
    CHECK_RUN(what_the_dead_had_in_hand_is_freed);
    CHECK_RUN(growing_looks_for_the_dead_first);
    CHECK_RUN(spare_rings_of_the_dead_are_freed_by_who_mapped_nothing_yet);
    CHECK_RUN(memory_that_the_dead_reserved_and_did_not_count_is_given_back);
    CHECK_RUN(a_page_that_the_dead_reserved_for_a_group_is_given_back);
    CHECK_RUN(groups_given_back_are_used_again);
    CHECK_RUN(no_two_threads_ever_have_the_same_block);
    CHECK_RUN(damaged_descriptors_are_reported_and_crash_nobody);
    return CHECK_END();
}
