/* layout_dump.c - prints where everything in shared memory lies, for comparison
 * with csrc/PROTOCOL.md: "struct.field offset size", "struct size SIZE" and
 * "CONSTANT value". What there is comes from layout_dump.awk. Fails when a struct
 * has bytes that no printed field covers: padding, or a field overlooked. */
#include <inttypes.h>
#include <stdio.h>

#include "layout.h"

static size_t covered;
static int missing;

#define BEGIN(type) covered = 0;

#define FIELD(type, field) \
    dump_field(#type, #field, offsetof(struct type, field), sizeof(((struct type *)0)->field));

#define END(type) dump_size(#type, sizeof(struct type));

#define CONSTANT(name) printf("%s %" PRIu64 "\n", #name, (uint64_t)(name));

static void dump_field(const char *type, const char *field, size_t offset, size_t size) {
    if (offset != covered) {
        fprintf(stderr, "%s: %zu bytes before %s have no field\n", type, offset - covered, field);
        missing = 1;
    }
    covered = offset + size;
    printf("%s.%s %zu %zu\n", type, field, offset, size);
}

static void dump_size(const char *type, size_t size) {
    if (size != covered) {
        fprintf(stderr, "%s: the last %zu bytes have no field\n", type, size - covered);
        missing = 1;
    }
    printf("%s size %zu\n", type, size);
}

int main(void) {
#include "layout_dump.inc"
    return missing;
}
