/* test_copy.c - copy.h: what is copied is all that was asked for and nothing beside it, however
 * source and destination lie, and whichever way the copy takes. */
#include "copy.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"

#define LINE 64
#define GUARD 0xA5

typedef void copier(void *to, const void *from, uint64_t bytes);

static void out_of_little(void *to, const void *from, uint64_t bytes) {
    fipc_copy_out(to, from, bytes, bytes);
}

static void out_of_much(void *to, const void *from, uint64_t bytes) {
    fipc_copy_out(to, from, bytes, FIPC_COPY_PAST_BYTES);
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

static void both_ways_are_exact_at_every_size_and_place(void) {
    for (uint64_t bytes = 0; bytes < 5 * LINE; bytes += bytes < 140 ? 1 : 13)
        for (unsigned off = 0; off < LINE; off += 7) {
            check_one(fipc_copy_past, bytes, off, 0);
            check_one(fipc_copy_past, bytes, off, (unsigned)(bytes % LINE));
            check_one(fipc_copy_lines, bytes, off, 0);
            check_one(fipc_copy_lines, bytes, off, (unsigned)(bytes % LINE));
        }
}

static void a_payload_is_copied_whole_on_both_sides_of_the_limits(void) {
    static const uint64_t limits[] = {FIPC_COPY_LEARN_BYTES, FIPC_COPY_PAST_BYTES};

    for (unsigned i = 0; i < 2; i++)
        for (unsigned less = 0; less < 3; less++)
            check_one(fipc_copy, limits[i] + 1 - less, 8, 3);
}

static void a_part_is_copied_exactly_whatever_its_whole(void) {
    check_one(out_of_little, 1000, 5, 9);
    check_one(out_of_much, 1000, 5, 9);
    for (unsigned i = 0; i < 1000; i++)
        check_one(out_of_much, 20000, i % LINE, 3);
}

static void a_payload_is_exact_in_trials_and_between_them(void) {
    for (unsigned i = 0; i < 1000; i++)
        check_one(fipc_copy, FIPC_COPY_LEARN_BYTES, i % LINE, 3);
    /* The way past the caches has no trial before some thousand copies. */
    for (unsigned past = 0; past < 2; past++) {
        fipc_copy_keep(past == 0);
        for (unsigned i = 0; i < LINE; i++)
            check_one(fipc_copy, FIPC_COPY_LEARN_BYTES, i, 3);
    }
}

#define COPIES 20000

/* How many of the next COPIES copies go past the caches, when these take 1000 `past` ticks and the
 * others 1000 `cached` ticks. */
static unsigned past_of(struct fipc_copy_pace *pace, unsigned past, unsigned cached) {
    unsigned count = 0;

    for (unsigned i = 0; i < COPIES; i++) {
        bool way = fipc_copy_choose(pace, 1 << 16);

        count += way;
        fipc_copy_note(pace, way, 1 << 16, (uint64_t)1000 * (way ? past : cached));
    }
    return count;
}

static void the_faster_way_is_taken_and_the_other_one_tried(void) {
    struct fipc_copy_pace pace = {0};
    unsigned past;

    CHECK(!fipc_copy_choose(&pace, 1 << 16));
    past = past_of(&pace, 10, 30);
    CHECK(past > COPIES * 9 / 10 && past < COPIES);
    /* Not so much slower any more: the reader is to find it in the caches. */
    (void)past_of(&pace, 10, 15);
    past = past_of(&pace, 10, 15);
    CHECK(past > 0 && past < COPIES / 10);
    /* And when they become three times as slow, it is noticed. */
    past = past_of(&pace, 10, 100);
    CHECK(past > COPIES * 9 / 10);
}

static void a_way_that_is_kept_is_taken_and_not_tried_against_the_other(void) {
    for (unsigned other = 0; other < 2; other++) {
        fipc_copy_keep(other != 0);
        for (uint64_t bytes = FIPC_COPY_LEARN_BYTES; bytes < FIPC_COPY_PAST_BYTES; bytes *= 2) {
            CHECK(fipc_copy_is_past(bytes) == (other != 0));
            for (unsigned kind = 0; kind < FIPC_COPY_KINDS; kind++) {
                uint64_t whole =
                    kind == FIPC_COPY_OUT_PAST_OR_THROUGH ? FIPC_COPY_PAST_BYTES : bytes;
                struct fipc_copy_pace *pace = fipc_copy_pace_of(kind, whole);

                for (unsigned i = 0; i < 1000; i++) {
                    CHECK(fipc_copy_choose(pace, bytes) == (other != 0));
                    fipc_copy_note(pace, other != 0, bytes, 1000);
                }
            }
        }
    }
}

static void a_hopeless_trial_is_short(void) {
    struct fipc_copy_pace pace = {0};
    unsigned cached;

    (void)past_of(&pace, 10, 1000);
    cached = COPIES - past_of(&pace, 10, 1000);
    CHECK(cached > 0 && cached < COPIES / 500);
}

/* Of large payloads: the way that is faster by half, and no long trial of the other. */
static void large_payloads_take_the_faster_way(void) {
    struct fipc_copy_pace pace = {0};
    const uint64_t bytes = UINT64_C(4) << 20;
    unsigned past = 0, cached = 0, long_cached = 0, in_row = 0;

    for (unsigned i = 0; i < COPIES; i++) {
        bool way = fipc_copy_choose(&pace, bytes);

        past += way;
        fipc_copy_note(&pace, way, bytes, way ? 1000000 : 1600000);
    }
    CHECK(past > COPIES * 9 / 10 && past < COPIES);
    for (unsigned i = 0; i < COPIES; i++) {
        bool way = fipc_copy_choose(&pace, bytes);

        in_row = way ? 0 : in_row + 1;
        cached += !way;
        long_cached += in_row > 4;
        fipc_copy_note(&pace, way, bytes, way ? 1000000 : 3600000);
    }
    CHECK(cached > 0 && long_cached == 0);
    /* By a third is not enough: the reader is to find it in the caches. */
    pace = (struct fipc_copy_pace){0};
    past = 0;
    for (unsigned i = 0; i < COPIES; i++) {
        bool way = fipc_copy_choose(&pace, bytes);

        past += way;
        fipc_copy_note(&pace, way, bytes, way ? 1000000 : 1333333);
    }
    CHECK(past > 0 && past < COPIES / 10);
}

/* Past the caches twice as fast as by lines, and not as by memcpy(): that is known in time. */
static void the_way_past_the_caches_is_compared_with_the_faster_one_through_them(void) {
    struct fipc_copy_pace pace = {0}, through = {.kind = FIPC_COPY_LIBRARY_OR_LINES};
    unsigned count = 0;

    for (unsigned i = 0; i < 1000; i++) {
        bool past = fipc_copy_choose(&pace, 1 << 16);
        bool library = !past && fipc_copy_choose(&through, 1 << 16);
        uint64_t ticks = past ? 40000 : library ? 42000 : 100000;

        count += past;
        fipc_copy_note_both(&pace, &through, past, library, 1 << 16, ticks);
    }
    CHECK(count > 0 && count < 250);
}

static void a_trial_of_the_slower_way_through_the_caches_says_nothing_of_the_way_past_them(void) {
    struct fipc_copy_pace pace = {0}, through = {.kind = FIPC_COPY_LIBRARY_OR_LINES};
    unsigned tried = 0;
    uint32_t before;

    for (unsigned i = 0; i < COPIES; i++) {
        bool past = fipc_copy_choose(&pace, 1 << 16);
        bool library = !past && fipc_copy_choose(&through, 1 << 16);
        uint64_t ticks = past ? 60000 : library ? 40000 : 160000;

        before = pace.ticks[0];
        fipc_copy_note_both(&pace, &through, past, library, 1 << 16, ticks);
        if (i < COPIES / 2 || past || library)
            continue;
        tried++;
        CHECK_EQ(pace.ticks[0], before);
    }
    CHECK(tried > 0);
    CHECK(!pace.chosen);
}

/* Past the caches, the first few tell. */
static void a_trial_of_large_payloads_past_the_caches_is_short_if_it_does_not_pay(void) {
    struct fipc_copy_pace pace = {0};
    const uint64_t bytes = UINT64_C(4) << 20;
    unsigned past = 0, in_row = 0, longest = 0;

    for (unsigned i = 0; i < COPIES; i++) {
        bool way = fipc_copy_choose(&pace, bytes);

        past += way;
        in_row = way ? in_row + 1 : 0;
        longest = in_row > longest ? in_row : longest;
        fipc_copy_note(&pace, way, bytes, way ? 1100000 : 1000000);
    }
    CHECK(past > 0 && longest <= 5);
}

/* By lines or by memcpy(): what is faster by a tenth is taken. */
static void the_faster_way_through_the_caches_is_taken(void) {
    for (unsigned library = 900; library <= 1100; library += 200) {
        struct fipc_copy_pace pace = {.kind = FIPC_COPY_LIBRARY_OR_LINES};
        unsigned taken = 0;

        for (unsigned i = 0; i < COPIES; i++) {
            bool way = fipc_copy_choose(&pace, 1 << 18);

            taken += way;
            fipc_copy_note(&pace, way, 1 << 18, (uint64_t)100 * (way ? library : 1000));
        }
        CHECK(taken > 0);
        CHECK((library < 1000) == (taken > COPIES / 2));
    }
}

/* How many of the copies that receive some messages of 16 MiB go past the caches, when a part takes
 * 1000 `past` ticks, and 1000 `cached` ticks once the buffer has been filled through the caches. */
static unsigned past_of_parts(struct fipc_copy_pace *pace, unsigned messages, unsigned past,
                              unsigned cached) {
    unsigned count = 0, filled = 0;

    for (unsigned i = 0; i < messages * 64; i++) {
        bool way = fipc_copy_choose(pace, 1 << 18);

        filled = way ? 0 : filled + 1;
        count += way;
        fipc_copy_note(pace, way, 1 << 18, (uint64_t)1000 * (way || filled <= 64 ? past : cached));
    }
    return count;
}

static void a_receiver_takes_the_faster_way_into_a_large_buffer(void) {
    /* As one begins; other tests have used those of copy.c. */
    const struct fipc_copy_pace begun = {
        .kind = FIPC_COPY_OUT_PAST_OR_THROUGH, .chosen = 1, .trial_mib = 48};
    struct fipc_copy_pace pace = begun;

    CHECK(fipc_copy_pace_of(FIPC_COPY_OUT_PAST_OR_THROUGH, FIPC_COPY_PAST_BYTES - 1) == NULL);
    CHECK(fipc_copy_pace_of(FIPC_COPY_OUT_PAST_OR_THROUGH, FIPC_COPY_OUT_PAST_BYTES) == NULL);
    CHECK_EQ(fipc_copy_pace_of(FIPC_COPY_OUT_PAST_OR_THROUGH, UINT64_C(16) << 20)->trial_mib, 48);
    CHECK_EQ(
        fipc_copy_pace_of(FIPC_COPY_OUT_PAST_OR_THROUGH, FIPC_COPY_OUT_PAST_BYTES - 1)->trial_mib,
        192);
    /* What is slow only until the buffer has been filled once is not given up for that. */
    CHECK(past_of_parts(&pace, 1000, 10, 7) < 1000 * 64 / 8);
    CHECK(past_of_parts(&pace, 1000, 10, 7) < 1000 * 64 / 16);
    CHECK(past_of_parts(&pace, 2000, 10, 30) > 2000 * 64 * 7 / 8);
    pace = begun;
    CHECK(past_of_parts(&pace, 1000, 10, 12) > 1000 * 64 * 7 / 8);
}

static void one_slow_copy_changes_no_choice(void) {
    struct fipc_copy_pace pace = {0};
    uint32_t before;

    (void)past_of(&pace, 10, 30);
    while (!fipc_copy_choose(&pace, 1 << 16))
        fipc_copy_note(&pace, false, 1 << 16, 30000);
    before = pace.ticks[1];
    fipc_copy_note(&pace, true, 1 << 16, UINT64_C(10000000));
    CHECK(pace.ticks[1] > before && pace.ticks[1] < before / 2 * 3);
    CHECK(past_of(&pace, 10, 30) > COPIES * 9 / 10);
    /* Neither a clock that stands still nor a copy of hours breaks it. */
    before = pace.ticks[0];
    fipc_copy_note(&pace, false, 1 << 16, UINT64_C(1) << 44);
    CHECK(pace.ticks[0] > before);
    fipc_copy_note(&pace, true, 1 << 16, 0);
    fipc_copy_note(&pace, false, 1 << 16, UINT64_MAX);
    (void)past_of(&pace, 10, 30);
    CHECK(past_of(&pace, 10, 30) > COPIES * 9 / 10);
}

/* How many of the last COPIES of many go past the caches, for 10000 ticks each; through them the first
 * 30 in a row take `first` ticks each and the rest `then`. */
static unsigned past_where_the_first_are_slow(struct fipc_copy_pace *pace, uint64_t first,
                                              uint64_t then) {
    unsigned in_row = 0, past = 0;

    for (unsigned i = 0; i < 10 * COPIES; i++) {
        bool way = fipc_copy_choose(pace, 1 << 16);

        in_row = way ? 0 : in_row + 1;
        past += i >= 9 * COPIES && way;
        fipc_copy_note(pace, way, 1 << 16, way ? 10000 : in_row <= 30 ? first : then);
    }
    return past;
}

static void the_first_copies_behind_a_change_do_not_count(void) {
    struct fipc_copy_pace pace = {0};

    /* Of a trial. */
    CHECK(past_of(&pace, 10, 30) > COPIES * 9 / 10);
    CHECK(past_where_the_first_are_slow(&pace, 55000, 18000) < COPIES / 10);
    /* And of what goes on behind one. */
    CHECK(past_where_the_first_are_slow(&pace, 55000, 11000) < COPIES / 10);
}

int main(void) {
    CHECK_RUN(both_ways_are_exact_at_every_size_and_place);
    CHECK_RUN(a_payload_is_copied_whole_on_both_sides_of_the_limits);
    CHECK_RUN(a_part_is_copied_exactly_whatever_its_whole);
    CHECK_RUN(a_payload_is_exact_in_trials_and_between_them);
    CHECK_RUN(the_faster_way_is_taken_and_the_other_one_tried);
    CHECK_RUN(a_way_that_is_kept_is_taken_and_not_tried_against_the_other);
    CHECK_RUN(a_hopeless_trial_is_short);
    CHECK_RUN(large_payloads_take_the_faster_way);
    CHECK_RUN(the_way_past_the_caches_is_compared_with_the_faster_one_through_them);
    CHECK_RUN(a_trial_of_the_slower_way_through_the_caches_says_nothing_of_the_way_past_them);
    CHECK_RUN(a_trial_of_large_payloads_past_the_caches_is_short_if_it_does_not_pay);
    CHECK_RUN(the_faster_way_through_the_caches_is_taken);
    CHECK_RUN(a_receiver_takes_the_faster_way_into_a_large_buffer);
    CHECK_RUN(one_slow_copy_changes_no_choice);
    CHECK_RUN(the_first_copies_behind_a_change_do_not_count);
    return CHECK_END();
}
