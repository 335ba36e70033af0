/* record.h - the header of a record in a ring: written and read as one word, so that
 * it is never half there. What the payload is, is channel.h's. */
#ifndef FIPC_RECORD_H
#define FIPC_RECORD_H

#include "atomics.h"
#include "layout.h"

/* Bytes of the ring that a record with such a payload takes. */
FIPC_ALWAYS_INLINE uint64_t fipc_record_bytes(uint64_t payload_bytes) {
    return fipc_align_up(FIPC_RECORD_BYTES + payload_bytes, 8);
}

FIPC_ALWAYS_INLINE void fipc_record_write(uint8_t *at, uint32_t length, uint16_t kind,
                                          uint16_t tag) {
    uint64_t word = (uint64_t)length | (uint64_t)kind << 32 | (uint64_t)tag << 48;

    /* Relaxed: the publish of the position behind it orders it. */
    fipc_store_relaxed((uint64_t *)(void *)at, word);
}

FIPC_ALWAYS_INLINE struct fipc_record_shm fipc_record_read(const uint8_t *at) {
    uint64_t word = fipc_load_relaxed((const uint64_t *)(const void *)at);
    struct fipc_record_shm header = {(uint32_t)word, (uint16_t)(word >> 32),
                                     (uint16_t)(word >> 48)};
    return header;
}

#endif
