/* world.c - see world.h: commands, patches, and what queues and pipes have in common. The scenes
 * are scenes.c's, the operations queue_operations.c's and pipe_operations.c's. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "world_internal.h"

const struct area world_areas[AREA_COUNT] = {
    {"channel 0", FIPC_OFF_CHANNEL0, sizeof(struct fipc_channel_shm)},
    {"channel 1", FIPC_OFF_CHANNEL1, sizeof(struct fipc_channel_shm)},
    {"ring 0", FIPC_OFF_RINGS, 8192},
    {"end of ring 0", FIPC_OFF_RINGS + 8192 - 256, 256},
    {"ring 1", FIPC_OFF_RINGS + 8192, 8192},
    {"first blocks", FIPC_OFF_GROUP0, 320},
    {"a new group", FIPC_OFF_SPACE, 320},
    {"another group", FIPC_OFF_SPACE + 4096, 320},
    {"arena", FIPC_OFF_ARENA, sizeof(struct fipc_arena_shm)},
    {"header", FIPC_OFF_HEADER, sizeof(struct fipc_header_shm)},
    {"directory", FIPC_OFF_GROUP_DIR0, 4 * FIPC_GROUP_INLINE},
    {"slots", FIPC_OFF_SLOTS, 4 * sizeof(struct fipc_slot_shm)},
    {"steady ring", 393216, 1024},
    {"pipe's ring", 524288, 1024},
    {"the rest of the directory", FIPC_OFF_GROUP_DIR, 1024},
    {"blocks", FIPC_OFF_SPACE, 65536},
};

uint8_t world_bytes[MESSAGE_MOST];

/* ---- commands ----
 *
 * A patch is: area, 2 bytes of offset, length, bytes. A word: FIRST_WORD + area, 2 bytes of
 * index, shift, delta. An operation: FIRST_OPERATION + its number, argument. */

int world_next(struct input *input, struct command *command) {
    const uint8_t *at = input->at;
    uint64_t left = (uint64_t)(input->end - at);
    const struct area *area;
    uint32_t place;

    if (left < 2)
        return 0;
    if (*at >= FIRST_OPERATION) {
        command->kind = COMMAND_OPERATION;
        command->number = *at & 0x7f;
        command->argument = at[1];
        input->at = at + 2;
        return 1;
    }
    if (left < 5)
        return 0;
    area = &world_areas[*at % AREA_COUNT];
    place = (uint32_t)at[1] | (uint32_t)at[2] << 8;
    if (*at >= FIRST_WORD) {
        command->kind = COMMAND_WORD;
        command->off = area->off + 8 * (place % (area->bytes / 8));
        command->shift = at[3];
        command->delta = (int8_t)at[4];
        input->at = at + 5;
        return 1;
    }
    command->kind = COMMAND_PATCH;
    command->off = area->off + place % area->bytes;
    command->bytes = at + 4;
    command->size = at[3] < left - 4 ? at[3] : left - 4;
    input->at = at + 4 + command->size;
    return 1;
}

/* ---- life ---- */

struct world *world_new(unsigned number) {
    const struct scene *scene = world_scene(number % world_scene_count());
    struct world *world = calloc(1, sizeof(*world));
    int fd;

    MUST(world != NULL);
    world->scene = scene;
    world->fd = fipc_os_memfd_create("fastipc:fuzz", scene->bytes);
    MUST(world->fd >= 0);
    /* Nothing of the inputs before is left over. Some more numbers are the fuzzer's own. */
    fd = fcntl(world->fd, F_DUPFD_CLOEXEC, FD_FIRST);
    MUST(fd == FD_FIRST && world->fd < 64);
    (void)close(fd);
    for (uint32_t i = 0; i < scene->run_count; i++) {
        const struct run *run = &scene->run[i];

        MUST(pwrite(world->fd, scene->image + run->off, run->bytes, (off_t)run->off) ==
             (ssize_t)run->bytes);
    }
    return world;
}

void world_end(struct world *world) {
    if (world->scene->is_pipe)
        pipe_end(world);
    else
        queue_end(world);
    (void)close(world->fd);
    free(world);
}

static uint64_t file_bytes(const struct world *world) {
    struct stat st;

    MUST(fstat(world->fd, &st) == 0);
    return (uint64_t)st.st_size;
}

void world_patch(struct world *world, const struct command *command) {
    uint64_t bytes = file_bytes(world), word = 0;

    if (command->kind == COMMAND_PATCH && command->off + command->size <= bytes) {
        MUST(pwrite(world->fd, command->bytes, command->size, (off_t)command->off) ==
             (ssize_t)command->size);
    } else if (command->kind == COMMAND_WORD && command->off + 8 <= bytes) {
        MUST(pread(world->fd, &word, 8, (off_t)command->off) == 8);
        if (command->shift < 128)
            word = command->shift < 64 ? UINT64_C(1) << command->shift : 0;
        word += (uint64_t)(int64_t)command->delta;
        MUST(pwrite(world->fd, &word, 8, (off_t)command->off) == 8);
    }
}

void world_operate(struct world *world, const struct command *command) {
    if (world->scene->is_pipe)
        pipe_operate(world, command->number, command->argument);
    else
        queue_operate(world, command->number, command->argument);
}

uint8_t *world_map(struct world *world, uint64_t most, uint64_t *bytes) {
    void *mapping;

    *bytes = file_bytes(world);
    if (*bytes > most)
        *bytes = most;
    mapping = mmap(NULL, *bytes, PROT_READ | PROT_WRITE, MAP_SHARED, world->fd, 0);
    MUST(mapping != MAP_FAILED);
    return mapping;
}

void world_unmap(uint8_t *mapping, uint64_t bytes) { MUST(munmap(mapping, bytes) == 0); }

/* ---- what queues and pipes have in common ---- */

void world_read(const uint8_t *data, uint64_t size_bytes) {
    static volatile uint8_t sink __attribute__((unused));

    /* A byte of each page: of what is mapped in one piece that shows any that is not there. Of
     * a message of holes, whose reading takes memory, less. */
    for (uint64_t at = 0; at<size_bytes; at += size_bytes> MESSAGE_MOST ? size_bytes / 64 : 4096)
        sink = data[at];
    if (size_bytes != 0)
        sink = data[size_bytes - 1];
}

void world_check(struct fipc_segment *segment, struct fipc_channel *channel) {
    struct fipc_arena_census arena;
    struct fipc_channel_census census;
    int rc = fipc_segment_enter(segment);

    if (rc < 0)
        return;
    (void)fipc_slots_reap(segment);
    rc = fipc_arena_check(segment, &arena);
    rc = fipc_channel_check(channel, &census);
    (void)rc;
}

void world_grow(struct world *world, uint8_t argument) {
    uint64_t wanted = UINT64_C(1) << (20 + argument % 12);

    if (wanted > file_bytes(world))
        (void)!ftruncate(world->fd, (off_t)wanted);
}

void world_allocate(struct fipc_segment *segment, uint8_t argument) {
    struct fipc_block block;
    uint64_t size = (UINT64_C(4096) << argument % 7) - argument / 8;

    if (fipc_segment_enter(segment) < 0 ||
        fipc_block_alloc(segment, size, FIPC_BLOCK_KIND_DATA, soon(), &block) < 0)
        return;
    memset(block.data, argument, size);
    fipc_block_release(segment, &block);
}
