/* fuzz_scribble.c - the fuzzer of a segment that somebody scribbles over while it is used: all of
 * the input's patches are written over and over again by a second thread, and undone again, while
 * the first one does the input's operations. So whatever is read twice is another thing the second
 * time, sooner or later. With the scene's highest bit, the patches before the first operation are
 * laid for good, as fuzz_records.c lays them. */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "atomics.h"
#include "world.h"

#define MAPPED_MOST (UINT64_C(1) << 20)
/* What the second thread does is bounded, should the first hang. */
#define ROUNDS_MOST 1000000

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct scribbler {
    uint8_t *file;
    uint64_t bytes;
    struct command patch[PATCHES_MOST];
    uint32_t patch_count;
    uint32_t stop;
    uint32_t started;
};

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    world_start();
    return 0;
}

/* Writes one patch over what is there, and hands back in *was what that was. */
static void write_patch(const struct scribbler *scribbler, const struct command *patch,
                        uint8_t was[PATCH_BYTES_MOST]) {
    uint64_t *word = (uint64_t *)(void *)(scribbler->file + (patch->off & ~UINT64_C(7))), value;

    if (patch->kind == COMMAND_WORD) {
        value = fipc_load_relaxed(word);
        memcpy(was, &value, 8);
        if (patch->shift < 128)
            value = patch->shift < 64 ? UINT64_C(1) << patch->shift : 0;
        fipc_store_relaxed(word, value + (uint64_t)(int64_t)patch->delta);
        return;
    }
    for (uint64_t i = 0; i < patch->size; i++) {
        was[i] = fipc_load_relaxed(scribbler->file + patch->off + i);
        fipc_store_relaxed(scribbler->file + patch->off + i, patch->bytes[i]);
    }
}

static void undo(const struct scribbler *scribbler, const struct command *patch,
                 const uint8_t *was) {
    uint64_t value;

    if (patch->kind == COMMAND_WORD) {
        memcpy(&value, was, 8);
        fipc_store_relaxed((uint64_t *)(void *)(scribbler->file + (patch->off & ~UINT64_C(7))),
                           value);
        return;
    }
    for (uint64_t i = 0; i < patch->size; i++)
        fipc_store_relaxed(scribbler->file + patch->off + i, was[i]);
}

static void *scribble(void *argument) {
    struct scribbler *scribbler = argument;
    uint8_t was[PATCH_BYTES_MOST];

    fipc_store_release(TEST, &scribbler->started, 1);
    for (uint32_t round = 0; round < ROUNDS_MOST && !fipc_load_relaxed(&scribbler->stop); round++) {
        const struct command *patch = &scribbler->patch[round % scribbler->patch_count];

        write_patch(scribbler, patch, was);
        for (uint32_t i = 0; i < round % 32; i++)
            fipc_pause();
        undo(scribbler, patch, was);
    }
    return NULL;
}

static void run(struct world *world, const struct command *operation, uint32_t count,
                struct scribbler *scribbler) {
    pthread_t thread;

    scribbler->file = world_map(world, MAPPED_MOST, &scribbler->bytes);
    for (uint32_t i = 0; i < scribbler->patch_count; i++)
        if (scribbler->patch[i].off + PATCH_BYTES_MOST > scribbler->bytes)
            scribbler->patch[i--] = scribbler->patch[--scribbler->patch_count];
    if (scribbler->patch_count != 0) {
        if (pthread_create(&thread, NULL, scribble, scribbler) != 0)
            abort();
        while (!fipc_load_acquire(TEST, &scribbler->started))
            (void)sched_yield();
    }
    for (uint32_t i = 0; i < count; i++)
        world_operate(world, &operation[i]);
    fipc_store_relaxed(&scribbler->stop, 1);
    if (scribbler->patch_count != 0 && pthread_join(thread, NULL) != 0)
        abort();
    world_unmap(scribbler->file, scribbler->bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct command operation[OPERATIONS_MOST], command;
    struct input input = {data + 1, data + size};
    static struct scribbler scribbler;
    struct world *world;
    uint32_t count = 0;

    if (size < 3)
        return 0;
    memset(&scribbler, 0, sizeof(scribbler));
    world = world_new(*data & 0x7f);
    while (count < OPERATIONS_MOST && scribbler.patch_count < PATCHES_MOST &&
           world_next(&input, &command)) {
        if (command.kind == COMMAND_OPERATION)
            operation[count++] = command;
        else if (count == 0 && (*data & 0x80))
            world_patch(world, &command);
        else
            scribbler.patch[scribbler.patch_count++] = command;
    }
    run(world, operation, count, &scribbler);
    world_end(world);
    return 0;
}
