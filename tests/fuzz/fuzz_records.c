/* fuzz_records.c - the fuzzer of records, and of all else that lies in a segment: lays the input's
 * bytes over a real one, before and between the operations of those who use it. */
#include "world.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    world_start();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input input = {data + 1, data + size};
    struct command command;
    struct world *world;
    int operations = 0;

    if (size < 3)
        return 0;
    world = world_new(*data & 0x7f);
    while (operations < OPERATIONS_MOST && world_next(&input, &command)) {
        if (command.kind == COMMAND_OPERATION) {
            operations++;
            world_operate(world, &command);
        } else {
            world_patch(world, &command);
        }
    }
    world_end(world);
    return 0;
}
