/* world_internal.h - what world.c, scenes.c and the operations share; nobody else. */
#ifndef FUZZ_WORLD_INTERNAL_H
#define FUZZ_WORLD_INTERNAL_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "conn.h"
#include "hold.h"
#include "queue.h"
#include "record.h"
#include "slots.h"
#include "stats.h"
#include "world.h"

/* For what the fuzzer has no part in: it is a mistake of this program, or of the machine. */
#define MUST(x)                                                         \
    do {                                                                \
        if (!(x)) {                                                     \
            fprintf(stderr, "%s:%d: not %s\n", __FILE__, __LINE__, #x); \
            abort();                                                    \
        }                                                               \
    } while (0)

/* Where the descriptors of queues and pipes are. */
#define FD_FIRST 512
#define HOLDS_MOST 8
/* A receiver makes its buffer as large as the message says; beyond this it has no memory. */
#define MESSAGE_MOST (UINT64_C(1) << 20)

/* Pages that are not all zeros. */
struct run {
    uint64_t off, bytes;
};

struct scene {
    const char *name;
    bool is_pipe;
    uint64_t bytes; /* of the file */
    uint8_t *image;
    struct run run[256];
    uint32_t run_count;
};

struct world {
    const struct scene *scene;
    int fd; /* the memory file, ours */
    bool refused;
    struct fipc_queue *queue[2]; /* handles of the same queue; NULL: not opened */
    uint32_t current;
    struct fipc_hold hold[HOLDS_MOST];
    uint32_t held;
    struct fipc_conn *conn[2];
};

const struct scene *world_scene(unsigned number);

void queue_operate(struct world *world, uint8_t number, uint8_t argument);
void queue_end(struct world *world);
void pipe_operate(struct world *world, uint8_t number, uint8_t argument);
void pipe_end(struct world *world);

/* A little from now. */
static inline int64_t soon(void) { return fipc_os_now_ns() + 2 * FIPC_NS_PER_MS; }

/* Bytes that are sent; as long as any message. */
extern uint8_t world_bytes[MESSAGE_MOST];
/* Reads what a caller would read, so that what is not there is noticed. */
void world_read(const uint8_t *data, uint64_t size_bytes);
/* Walks all blocks and records, as the tests' checker does. */
void world_check(struct fipc_segment *segment, struct fipc_channel *channel);
/* Makes the file longer, as any peer may. */
void world_grow(struct world *world, uint8_t argument);
/* Takes blocks of some sizes and gives them back. */
void world_allocate(struct fipc_segment *segment, uint8_t argument);

#endif
