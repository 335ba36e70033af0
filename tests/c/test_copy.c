/* test_copy.c - copy.h: what is copied is all that was asked for and nothing beside it, however
 * source and destination lie, and whichever way the copy takes. */
#include "copy.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"

#define LINE 64
#define GUARD 0xA5

/* Copies `bytes` between places that are so far from a line's beginning. */
static void check_one(bool past, uint64_t bytes, uint64_t whole_bytes, unsigned to_off,
                      unsigned from_off) {
    uint64_t room = bytes + (uint64_t)3 * LINE;
    uint8_t *from = aligned_alloc(LINE, fipc_align_up(room, LINE));
    uint8_t *to = aligned_alloc(LINE, fipc_align_up(room, LINE));

    CHECK(from != NULL && to != NULL);
    for (uint64_t i = 0; i < room; i++)
        from[i] = (uint8_t)(i * 31 + i / 251);
    memset(to, GUARD, room);
    if (past)
        fipc_copy_past(to + to_off, from + from_off, bytes);
    else
        fipc_copy(to + to_off, from + from_off, bytes, whole_bytes);
    CHECK_EQ(memcmp(to + to_off, from + from_off, bytes), 0);
    for (uint64_t i = 0; i < room; i++)
        if (i < to_off || i >= to_off + bytes)
            CHECK_EQ(to[i], GUARD);
    free(from);
    free(to);
}

static void a_copy_past_the_caches_is_exact_at_every_size_and_place(void) {
    for (uint64_t bytes = 0; bytes < 5 * LINE; bytes += bytes < 140 ? 1 : 13)
        for (unsigned off = 0; off < LINE; off += 7) {
            check_one(true, bytes, bytes, off, 0);
            check_one(true, bytes, bytes, off, (unsigned)(bytes % LINE));
        }
}

static void a_payload_is_copied_whole_on_both_sides_of_the_limit(void) {
    for (int more = -1; more <= 1; more++) {
        uint64_t bytes = FIPC_COPY_PAST_BYTES + (uint64_t)(int64_t)more;

        check_one(false, bytes, bytes, 8, 3);
    }
}

static void a_part_is_copied_as_its_whole_would_be(void) {
    check_one(false, 1000, FIPC_COPY_PAST_BYTES, 5, 9);
    check_one(false, 1000, 1000, 5, 9);
}

int main(void) {
    CHECK_RUN(a_copy_past_the_caches_is_exact_at_every_size_and_place);
    CHECK_RUN(a_payload_is_copied_whole_on_both_sides_of_the_limit);
    CHECK_RUN(a_part_is_copied_as_its_whole_would_be);
    return CHECK_END();
}
