/* world.h - what the fuzzers of csrc/ share: real segments to begin with, the fuzzer's bytes laid
 * over them, operations of queues and pipes, and an operating system in which nothing waits and
 * each mapping stands between pages that nobody may touch. What a fuzzer does with these is its
 * own file's.
 *
 * An input is a scene's number and then commands; world_next() says how they are written. */
#ifndef FUZZ_WORLD_H
#define FUZZ_WORLD_H

#include <stddef.h>
#include <stdint.h>

#define OPERATIONS_MOST 48
#define PATCHES_MOST 256
#define PATCH_BYTES_MOST 255

/* A piece of the file, which patches name. */
struct area {
    const char *name;
    uint64_t off;
    uint64_t bytes;
};
#define AREA_COUNT 16
extern const struct area world_areas[AREA_COUNT];

/* ---- commands ---- */

enum command_kind { COMMAND_PATCH, COMMAND_WORD, COMMAND_OPERATION };

/* First bytes from here on say which command it is. */
#define FIRST_WORD 0x60
#define FIRST_OPERATION 0x80

struct command {
    enum command_kind kind;
    uint64_t off; /* in the file: where bytes are laid, or a word's */
    uint64_t size;
    const uint8_t *bytes;
    uint8_t shift;  /* a word becomes 1 << shift, 0, or stays, */
    int8_t delta;   /* plus this */
    uint8_t number; /* of an operation */
    uint8_t argument;
};

struct input {
    const uint8_t *at;
    const uint8_t *end;
};

/* The next command; 0 at the end. */
int world_next(struct input *input, struct command *command);

/* ---- a segment that may be damaged ---- */

struct world;

/* Once: makes the scenes, through the functions that users' processes call. */
void world_start(void);
unsigned world_scene_count(void);
/* A copy of a scene's file, which nobody has opened. */
struct world *world_new(unsigned scene);
void world_end(struct world *world);

/* Lays a patch, or a word, over the file as it is now. */
void world_patch(struct world *world, const struct command *command);
/* Opens the queue or the pipe, unless that was done or is refused; then does one operation. */
void world_operate(struct world *world, const struct command *command);

/* The file, mapped for another thread to scribble over; at most `most` bytes of it. */
uint8_t *world_map(struct world *world, uint64_t most, uint64_t *bytes);
void world_unmap(uint8_t *mapping, uint64_t bytes);

/* For seeds: the file of a scene, `bytes` from `off` on; what is behind its end is 0. */
void world_scene_read(unsigned scene, uint64_t off, void *buffer, uint64_t bytes);
int world_scene_is_pipe(unsigned scene);
#define QUEUE_OPERATIONS 20
#define PIPE_OPERATIONS 12

#endif
