/* seeds.c - writes the seeds of the fuzzers of csrc/ into a folder: for each scene the pieces of
 * its file, as patches that change nothing yet, with operations that read what is there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "channel.h"
#include "world.h"

#define SEED_MOST 4096

static const char *folder;
static unsigned seed_count;

static void write_seed(const uint8_t *seed, size_t size) {
    char path[4096];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/seed-%03u", folder, seed_count++);
    file = fopen(path, "wb");
    if (file == NULL || fwrite(seed, 1, size, file) != size || fclose(file) != 0) {
        perror(path);
        exit(1);
    }
}

/* All operations of the scene's kind, from one on, with this argument. */
static size_t add_operations(uint8_t *at, unsigned scene, uint8_t first, uint8_t argument) {
    uint8_t count = world_scene_is_pipe(scene) ? PIPE_OPERATIONS : QUEUE_OPERATIONS;

    for (uint8_t i = 0; i < count; i++) {
        at[2 * i] = FIRST_OPERATION | (uint8_t)((first + i) % count);
        at[2 * i + 1] = argument;
    }
    return 2 * (size_t)count;
}

/* An area's first bytes, where they are not all zeros. */
static size_t add_area(uint8_t *at, unsigned scene, uint8_t area) {
    uint8_t bytes[PATCH_BYTES_MOST], size = PATCH_BYTES_MOST;

    if (world_areas[area].bytes < size)
        size = (uint8_t)world_areas[area].bytes;
    world_scene_read(scene, world_areas[area].off, bytes, size);
    while (size > 0 && bytes[size - 1] == 0)
        size--;
    if (size == 0)
        return 0;
    at[0] = area;
    at[1] = at[2] = 0;
    at[3] = size;
    memcpy(at + 4, bytes, size);
    return 4 + (size_t)size;
}

/* Writes `size` bytes at an offset of the file that lies in an area. */
static size_t add_patch(uint8_t *at, uint64_t off, const void *bytes, uint8_t size) {
    for (uint8_t area = 0; area < AREA_COUNT; area++) {
        uint64_t place = off - world_areas[area].off;

        if (off < world_areas[area].off || place >= world_areas[area].bytes)
            continue;
        at[0] = area;
        at[1] = (uint8_t)place;
        at[2] = (uint8_t)(place >> 8);
        at[3] = size;
        memcpy(at + 4, bytes, size);
        return 4 + (size_t)size;
    }
    return 0;
}

/* What takes things out, in each way. */
static size_t add_reads(uint8_t *at, unsigned scene, uint8_t how) {
    static const uint8_t of_queues[] = {0, 0, 2, 3, 10, 9, 9, 13, 9, 6, 8};
    static const uint8_t of_pipes[] = {0, 6, 1, 0, 8, 2, 7, 3, 5, 0};
    const uint8_t *operations = world_scene_is_pipe(scene) ? of_pipes : of_queues;
    size_t count = world_scene_is_pipe(scene) ? sizeof(of_pipes) : sizeof(of_queues);

    for (size_t i = 0; i < count; i++) {
        at[2 * i] = FIRST_OPERATION | operations[i];
        at[2 * i + 1] = (uint8_t)(2 * (how + i) + world_scene_is_pipe(scene) + (i % 5 == 4));
    }
    return 2 * count;
}

/* Where the oldest record of channel 0 stands, as far as the first ring. */
static uint64_t first_record(unsigned scene) {
    struct fipc_channel_shm channel;

    world_scene_read(scene, FIPC_OFF_CHANNEL0, &channel, sizeof(channel));
    return FIPC_OFF_RINGS + (fipc_side_current(&channel.get).pos - FIPC_POS_FIRST) % 8192;
}

/* The oldest record as another one than it is. */
static void write_records(unsigned scene) {
    static const uint32_t lengths[] = {0, 7, 8, 16, 64, 4104, 8176, UINT32_MAX};
    uint8_t seed[SEED_MOST];

    for (uint16_t kind = 0; kind <= FIPC_RECORD_ABANDON + 1; kind++) {
        for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
            struct fipc_record_shm header = {lengths[i], kind, 3};
            size_t size = 1;

            seed[0] = (uint8_t)scene;
            size += add_patch(seed + size, first_record(scene), &header, sizeof(header));
            size += add_reads(seed + size, scene, (uint8_t)(kind + i));
            write_seed(seed, size);
        }
    }
}

/* The beginning of a large message that says that more of it is there than a ring, or the file, has
 * room for. */
static void write_beginnings(unsigned scene) {
    static const uint32_t lengths[] = {8, 4104, 8176, 60000, 500000};
    const uint64_t total = UINT64_C(1) << 20;
    uint8_t seed[SEED_MOST];

    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct fipc_record_shm header = {lengths[i], FIPC_RECORD_FIRST, 3};
        uint64_t at = first_record(scene), far = UINT64_C(1) << 30;
        size_t size = 1;

        seed[0] = (uint8_t)scene;
        size += add_patch(seed + size, at, &header, sizeof(header));
        size += add_patch(seed + size, at + sizeof(header), &total, sizeof(total));
        for (uint32_t copy = 0; copy < 2; copy++)
            size += add_patch(seed + size,
                              FIPC_OFF_CHANNEL0 + offsetof(struct fipc_channel_shm, put.copy[0]) +
                                  copy * sizeof(struct fipc_side_copy_shm),
                              &far, sizeof(far));
        size += add_reads(seed + size, scene, (uint8_t)i);
        write_seed(seed, size);
        seed[0] |= 0x80; /* for fuzz_scribble.c: all of it at once */
        write_seed(seed, size);
    }
}

/* A word of the file as something that names slots, blocks, rings or positions. */
static void write_words(unsigned scene) {
    static const uint64_t offs[] = {
        FIPC_OFF_CHANNEL0 + offsetof(struct fipc_channel_shm, put.lock),
        FIPC_OFF_CHANNEL0 + offsetof(struct fipc_channel_shm, get.lock),
        FIPC_OFF_CHANNEL0 + offsetof(struct fipc_channel_shm, get.copy[0].ring),
        FIPC_OFF_CHANNEL0 + offsetof(struct fipc_channel_shm, get.copy[1].ring),
        FIPC_OFF_CHANNEL0 + offsetof(struct fipc_channel_shm, put.copy[0].ring),
        FIPC_OFF_CHANNEL0 + offsetof(struct fipc_channel_shm, put.copy[1].ring),
        FIPC_OFF_CHANNEL0 + offsetof(struct fipc_channel_shm, put.sleepers),
        FIPC_OFF_CHANNEL0 + offsetof(struct fipc_channel_shm, get.sleepers),
        FIPC_OFF_CHANNEL0 + offsetof(struct fipc_channel_shm, send_turn),
        FIPC_OFF_CHANNEL0 + offsetof(struct fipc_channel_shm, recv_turn),
        FIPC_OFF_ARENA + offsetof(struct fipc_arena_shm, state.lock),
        FIPC_OFF_HEADER + offsetof(struct fipc_header_shm, slot_high),
        FIPC_OFF_GROUP0 + offsetof(struct fipc_group_shm, block[0].owner),
        FIPC_OFF_GROUP0 + offsetof(struct fipc_group_shm, block[0].populated),
        FIPC_OFF_GROUP0 + offsetof(struct fipc_group_shm, block[0].place),
        FIPC_OFF_GROUP0 + offsetof(struct fipc_group_shm, used),
        FIPC_OFF_GROUP_DIR0,
        FIPC_OFF_GROUP_DIR0 + 4,
        FIPC_OFF_SPACE + offsetof(struct fipc_group_shm, block[0].populated),
        FIPC_OFF_SPACE + offsetof(struct fipc_group_shm, block[0].place),
    };
    static const uint64_t values[] = {
        1,
        1 | 1 << FIPC_LOCK_SLOT_BITS,
        2 | 1 << FIPC_LOCK_SLOT_BITS,
        FIPC_OWNER(0, 1),
        FIPC_OWNER(1, 1),
        FIPC_OWNER(0, 2),
        FIPC_RING_REF(2, 1),
        FIPC_RING_REF(1, 127),
        UINT64_C(0xffffffff),
        UINT64_C(1) << 42,
        UINT64_MAX,
    };
    uint8_t seed[SEED_MOST];

    for (size_t i = 0; i < sizeof(offs) / sizeof(offs[0]); i++) {
        for (size_t k = 0; k < sizeof(values) / sizeof(values[0]); k++) {
            size_t size = 1;

            seed[0] = (uint8_t)scene;
            /* A lock is half as long as a position; behind it stands the generation. */
            size += add_patch(seed + size, offs[i], &values[k], offs[i] % 8 == 0 && k > 2 ? 8 : 4);
            size += add_reads(seed + size, scene, (uint8_t)(i + k));
            write_seed(seed, size);
        }
    }
}

/* The first reference of the oldest record, which is to be one in blocks. */
static void write_references(unsigned scene) {
    static const struct fipc_block_ref_shm refs[] = {
        {128, 0, 10},
        {128, 33, 10},
        {128, UINT32_MAX, 10},
        {128, 1, UINT64_MAX},
        {128, 1, UINT64_C(1) << 30},
        {0, 1, 10},
        {1, 1, 10},
        {254, 1, 10},
        {255, 1, 10},
        {256, 1, 10},
        {UINT32_MAX, 1, 10},
        {128, 2, 10},
        {129, 1, 4096},
        {130, 3, 4096},
    };
    uint8_t seed[SEED_MOST];

    for (size_t i = 0; i < sizeof(refs) / sizeof(refs[0]); i++) {
        struct fipc_record_shm header = {sizeof(refs[0]), FIPC_RECORD_BLOCK, 1};
        uint64_t at = first_record(scene);
        size_t size = 1;

        seed[0] = (uint8_t)scene;
        size += add_patch(seed + size, at, &header, sizeof(header));
        size += add_patch(seed + size, at + sizeof(header), &refs[i], sizeof(refs[i]));
        size += add_reads(seed + size, scene, (uint8_t)i);
        write_seed(seed, size);
    }
}

/* Both ends of a pipe in the middle of a message, in turns. */
static void write_streams(unsigned scene) {
    uint8_t seed[SEED_MOST];

    for (uint8_t how = 0; how < 64; how++) {
        size_t size = 1;

        seed[0] = (uint8_t)scene;
        for (uint8_t i = 0; i < 10; i++) {
            /* Of end 0, left in the middle or not; then three times of end 1. */
            seed[size++] = FIRST_OPERATION | (i % 4 == 0 ? 5 : 0);
            seed[size++] =
                i % 4 == 0 ? (uint8_t)(2 * (64 + how)) : (uint8_t)(2 * (how / 2 + i) + 1);
        }
        write_seed(seed, size);
    }
}

int main(int argc, char **argv) {
    uint8_t seed[SEED_MOST];

    if (argc != 2) {
        fprintf(stderr, "give the folder for the seeds\n");
        return 2;
    }
    folder = argv[1];
    world_start();
    for (unsigned scene = 0; scene < world_scene_count(); scene++) {
        uint8_t operations = world_scene_is_pipe(scene) ? PIPE_OPERATIONS : QUEUE_OPERATIONS;
        size_t size;

        seed[0] = (uint8_t)scene;
        for (uint8_t first = 0; first < operations; first++)
            write_seed(seed, 1 + add_operations(seed + 1, scene, first, (uint8_t)(first * 37)));
        for (uint8_t area = 0; area < AREA_COUNT; area++) {
            size = 1 + add_area(seed + 1, scene, area);
            if (size == 1)
                continue;
            for (uint8_t i = 0; i < 8; i++) { /* reads, again and again */
                seed[size++] = FIRST_OPERATION | (i % 4);
                seed[size++] = (uint8_t)(i * 21);
            }
            write_seed(seed, size);
        }
        write_records(scene);
        write_words(scene);
        if (world_scene_is_pipe(scene)) {
            write_streams(scene);
            write_beginnings(scene);
        } else {
            write_references(scene);
        }
    }
    printf("%u\n", seed_count);
    return 0;
}
