/* test_copy.c - copy.h: what is copied is all that was asked for and nothing beside it, however
 * source and destination lie, and whichever way the copy takes. */
#include "copy.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"

#define LINE 64
#define GUARD 0xA5

typedef void copier(void *to, const void *from, uint64_t bytes);

static void part_of_little(void *to, const void *from, uint64_t bytes) {
    fipc_copy_part(to, from, bytes, bytes);
}

static void part_of_much(void *to, const void *from, uint64_t bytes) {
    fipc_copy_part(to, from, bytes, FIPC_COPY_PAST_BYTES);
}

/* Copies `bytes` between places that are so far from a line's beginning. */
static void check_one(copier *copy, uint64_t bytes, unsigned to_off, unsigned from_off) {
    uint64_t room = bytes + (uint64_t)3 * LINE;
    uint8_t *from = aligned_alloc(LINE, fipc_align_up(room, LINE));
    uint8_t *to = aligned_alloc(LINE, fipc_align_up(room, LINE));

    CHECK(from != NULL && to != NULL);
    for (uint64_t i = 0; i < room; i++)
        from[i] = (uint8_t)(i * 31 + i / 251);
    memset(to, GUARD, room);
    copy(to + to_off, from + from_off, bytes);
    for (uint64_t i = 0; i < room; i++)
        CHECK_EQ(to[i], i >= to_off && i < to_off + bytes ? from[from_off + i - to_off] : GUARD);
    free(from);
    free(to);
}

static void a_copy_past_the_caches_is_exact_at_every_size_and_place(void) {
    for (uint64_t bytes = 0; bytes < 5 * LINE; bytes += bytes < 140 ? 1 : 13)
        for (unsigned off = 0; off < LINE; off += 7) {
            check_one(fipc_copy_past, bytes, off, 0);
            check_one(fipc_copy_past, bytes, off, (unsigned)(bytes % LINE));
        }
}

static void a_payload_is_copied_whole_on_both_sides_of_the_limits(void) {
    static const uint64_t limits[] = {FIPC_COPY_LEARN_BYTES, FIPC_COPY_PAST_BYTES};

    for (unsigned i = 0; i < 2; i++)
        for (unsigned less = 0; less < 3; less++)
            check_one(fipc_copy, limits[i] + 1 - less, 8, 3);
}

static void a_part_is_copied_exactly_whatever_its_whole(void) {
    check_one(part_of_little, 1000, 5, 9);
    check_one(part_of_much, 1000, 5, 9);
}

/* How many of the next 1000 copies go past the caches. */
static unsigned past_of_1000(struct fipc_copy_pace *pace) {
    unsigned past = 0;

    for (unsigned i = 0; i < 1000; i++)
        past += fipc_copy_choose(pace);
    return past;
}

static void the_way_that_was_faster_is_taken_and_the_other_looked_at(void) {
    struct fipc_copy_pace pace = {0};

    CHECK(!fipc_copy_choose(&pace));
    fipc_copy_note(&pace, false, 1 << 20, 200000);
    CHECK(fipc_copy_choose(&pace));
    fipc_copy_note(&pace, true, 1 << 20, 100000);
    CHECK(past_of_1000(&pace) > 950 && past_of_1000(&pace) < 1000);
    /* Nearly as fast with memcpy(): rather that. */
    fipc_copy_note(&pace, false, 1 << 20, 110000);
    CHECK(past_of_1000(&pace) > 0 && past_of_1000(&pace) < 50);
}

static void one_slow_copy_changes_no_choice_and_many_do(void) {
    struct fipc_copy_pace pace = {0};

    fipc_copy_note(&pace, false, 1 << 20, 200000);
    fipc_copy_note(&pace, true, 1 << 20, 100000);
    fipc_copy_note(&pace, true, 1 << 20, 400000);
    CHECK(past_of_1000(&pace) > 950);
    for (unsigned i = 0; i < 32; i++)
        fipc_copy_note(&pace, true, 1 << 20, 400000);
    CHECK(past_of_1000(&pace) < 50);
    /* Neither a clock that stands still nor a copy of hours breaks it. */
    fipc_copy_note(&pace, true, 1 << 20, 0);
    fipc_copy_note(&pace, false, 1 << 20, INT64_MAX / 1000);
    CHECK(past_of_1000(&pace) > 950);
}

int main(void) {
    CHECK_RUN(a_copy_past_the_caches_is_exact_at_every_size_and_place);
    CHECK_RUN(a_payload_is_copied_whole_on_both_sides_of_the_limits);
    CHECK_RUN(a_part_is_copied_exactly_whatever_its_whole);
    CHECK_RUN(the_way_that_was_faster_is_taken_and_the_other_looked_at);
    CHECK_RUN(one_slow_copy_changes_no_choice_and_many_do);
    return CHECK_END();
}
