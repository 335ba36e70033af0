/* _codec_keys.h - the encoder's side of dicts with known keys: what stands before the values of
 * such a dict, kept from message to message. Part of _codec_encode.c, which alone includes it. */
#ifndef FASTIPC_CODEC_KEYS_H
#define FASTIPC_CODEC_KEYS_H

#include <Python.h>
#include <stdint.h>
#include <string.h>

#include "_codec_values.h"
#include "_dict_copies.h"

/* Which objects were seen in a message: a bit for each, chosen by the address; mostly it is not
 * yet set. One word made 200 members slower than pickle, eight make them twice as fast. */
#define SEEN_FILTER_WORDS 8

static inline uint64_t seen_hash(const PyObject *obj) {
    return (uint64_t)(uintptr_t)obj * UINT64_C(0x9E3779B97F4A7C15);
}

static inline uint64_t seen_bit(uint64_t hash) { return UINT64_C(1) << (hash >> 58); }

static inline unsigned int seen_word(uint64_t hash) {
    return (unsigned int)(hash >> 32) & (SEEN_FILTER_WORDS - 1);
}

/* The keys of dicts that were encoded lately, in their order, known by being the same objects:
 * writing them is one copy, and looking whether one was in the message already takes a look at
 * the filter for all of them. */
struct keys {
    uint64_t hash;   /* of the first and the last of them; 0: here are none */
    uint64_t serial; /* of no other keys, ever */
    Py_ssize_t count;
    PyObject **key; /* owned */
    uint8_t *header;
    Py_ssize_t header_bytes;
    uint32_t misses;
    uint64_t filter[SEEN_FILTER_WORDS]; /* all of their bits */
};

/* Each has two places. Where both are taken, a dict has to come so often before it is learned:
 * otherwise dicts that all have keys of their own would be learned for nothing. */
#define KEYS 128
#define KEYS_MISSES_MAX 64
static struct keys known_keys[KEYS];

/* Where a program's dicts all have keys of their own, such as those of parsed documents, looking
 * for them is in vain: after so many in a row that were not known, one in so many is looked for. */
#define KEYS_UNKNOWN_MAX 64
#define KEYS_LOOK_EVERY 16
static unsigned int keys_unknown;

static inline int are_keys_worth_a_look(void) {
    return keys_unknown < KEYS_UNKNOWN_MAX || ++keys_unknown % KEYS_LOOK_EVERY == 0;
}

static int is_codable_key(PyObject *key) {
    return PyUnicode_CheckExact(key) && PyUnicode_IS_COMPACT_ASCII(key) &&
           PyUnicode_GET_LENGTH(key) <= 255;
}

static void forget_keys(struct keys *keys) {
    for (Py_ssize_t i = 0; i < keys->count; i++)
        Py_DECREF(keys->key[i]);
    PyMem_Free(keys->key);
    PyMem_Free(keys->header);
    memset(keys, 0, sizeof(*keys));
}

/* Whether they could be learned, in the place of those that are there. */
static __attribute__((noinline)) int learn_keys(struct keys *keys,
                                                const struct fastipc_dict_entry *entry,
                                                Py_ssize_t count, uint64_t hash) {
    static uint64_t last_serial;
    Py_ssize_t bytes = KEYS_FIXED;
    uint16_t names_bytes;
    uint8_t *at;

    for (Py_ssize_t i = 0; i < count; i++) {
        if (!is_codable_key(entry[i].key))
            return 0;
        bytes += 1 + PyUnicode_GET_LENGTH(entry[i].key);
    }
    if (bytes > KEYS_FIXED + KEYS_BYTES_MAX)
        return 0;
    forget_keys(keys);
    keys->header = PyMem_Malloc((size_t)bytes);
    keys->key = PyMem_New(PyObject *, (size_t)count);
    if (keys->header == NULL || keys->key == NULL) {
        forget_keys(keys);
        return 0;
    }
    names_bytes = (uint16_t)(bytes - KEYS_FIXED);
    keys->header[0] = VALUE_DICT_KEYS;
    keys->header[1] = (uint8_t)count;
    memcpy(keys->header + 2, &names_bytes, 2);
    at = keys->header + KEYS_FIXED;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *key = Py_NewRef(entry[i].key);
        uint64_t hash = seen_hash(key);
        size_t size = (size_t)PyUnicode_GET_LENGTH(key);

        keys->key[i] = key;
        keys->filter[seen_word(hash)] |= seen_bit(hash);
        *at++ = (uint8_t)size;
        memcpy(at, PyUnicode_1BYTE_DATA(key), size);
        at += size;
    }
    keys->count = count;
    keys->header_bytes = bytes;
    keys->hash = hash;
    keys->serial = ++last_serial;
    return 1;
}

static inline int are_keys(const struct keys *keys, const struct fastipc_dict_entry *entry,
                           Py_ssize_t count, uint64_t hash) {
    if (keys->hash != hash || keys->count != count)
        return 0;
    for (Py_ssize_t i = 0; i < count; i++)
        if (keys->key[i] != entry[i].key)
            return 0;
    return 1;
}

/* The keys of a dict with these entries, of which there is one at least; or NULL, they are not
 * known, or not to be known. */
static inline struct keys *keys_of(const struct fastipc_dict_entry *entry, Py_ssize_t count) {
    uint64_t hash = (seen_hash(entry[0].key) ^ (uint64_t)(uintptr_t)entry[count - 1].key) *
                    UINT64_C(0x9E3779B97F4A7C15);
    unsigned int place = (unsigned int)(hash >> 57);
    struct keys *keys = &known_keys[place];

    if (are_keys(keys, entry, count, hash)) {
        keys_unknown = 0;
        return keys;
    }
    if (are_keys(&known_keys[place ^ 1], entry, count, hash)) {
        keys_unknown = 0;
        return &known_keys[place ^ 1];
    }
    if (keys_unknown < KEYS_UNKNOWN_MAX)
        keys_unknown++;
    if (keys->serial != 0 && known_keys[place ^ 1].serial == 0)
        keys = &known_keys[place ^ 1];
    if (keys->serial != 0 && ++keys->misses < KEYS_MISSES_MAX)
        return NULL;
    return learn_keys(keys, entry, count, hash) ? keys : NULL;
}

#endif
