/* _codec_keyed.h - the decoder's side of dicts with known keys (VALUE_DICT_KEYS). Part of
 * _codec_decode.c, which alone includes it: all of it is to be inlined there. */
#ifndef FASTIPC_CODEC_KEYED_H
#define FASTIPC_CODEC_KEYED_H

#include "_codec_dicts.h"

/* The keys of dicts that were decoded lately, by the bytes that they take in a message. */
struct keys {
    unsigned int refs;
    uint64_t hash;
    uint64_t filter;    /* all of their bits, as in a memo */
    PyObject *template; /* of such a dict, or NULL: there are none with this interpreter */
    Py_ssize_t count;
    Py_ssize_t bytes;
    uint8_t *data;
    PyObject *key[KEYS_MAX];
};

#define KEYS 128
static struct keys *known_keys[KEYS];

static void free_keys(struct keys *keys) {
    for (Py_ssize_t i = 0; i < keys->count; i++)
        Py_XDECREF(keys->key[i]);
    Py_XDECREF(keys->template);
    PyMem_Free(keys->data);
    PyMem_Free(keys);
}

ALWAYS_INLINE void release_keys(struct keys *keys) {
    if (--keys->refs == 0)
        free_keys(keys);
}

/* Fills in what the bytes say; `is_fresh`: with new objects all. -1 with an exception. */
static int read_keys(struct keys *keys, int is_fresh) {
    const uint8_t *at = keys->data, *end = at + keys->bytes;
    PyObject *dict = PyDict_New();

    for (Py_ssize_t i = 0; dict != NULL && i < keys->count; i++) {
        const uint8_t *text = at + 1;
        PyObject *key;

        if (at == end || end - text < *at || !is_ascii(text, *at)) {
            Py_DECREF(dict);
            damaged();
            return -1;
        }
        at = text + text[-1];
        key = is_fresh ? get_str(text, at - text) : get_key_str(NULL, text, at - text);
        keys->key[i] = key;
        if (key == NULL || PyDict_SetItem(dict, key, Py_None) < 0)
            Py_CLEAR(dict);
        else
            keys->filter |= filter_bit(key);
    }
    if (dict == NULL)
        return -1;
    if (at != end || PyDict_GET_SIZE(dict) != keys->count) {
        Py_DECREF(dict);
        damaged();
        return -1;
    }
    keys->template = fastipc_dict_template(dict);
    Py_DECREF(dict);
    return 0;
}

static struct keys *make_keys(uint64_t hash, const uint8_t *data, Py_ssize_t bytes,
                              Py_ssize_t count, int is_fresh) {
    struct keys *keys;

    if (count == 0 || count > KEYS_MAX || bytes > KEYS_BYTES_MAX)
        return (void *)damaged();
    keys = PyMem_Calloc(1, sizeof(*keys));
    if (keys == NULL || (keys->data = PyMem_Malloc((size_t)bytes + 1)) == NULL) {
        PyMem_Free(keys);
        return (void *)PyErr_NoMemory();
    }
    memcpy(keys->data, data, (size_t)bytes);
    keys->bytes = bytes;
    keys->hash = hash;
    keys->count = count;
    keys->refs = 1;
    if (read_keys(keys, is_fresh) < 0) {
        free_keys(keys);
        return NULL;
    }
    return keys;
}

/* Of the two places that each has, the one that was used last goes to the other. */
static void keep_keys(struct keys *keys) {
    unsigned int place = (unsigned int)(keys->hash >> 57);
    struct keys *dropped = known_keys[place ^ 1];

    known_keys[place ^ 1] = known_keys[place];
    known_keys[place] = keys;
    keys->refs++;
    if (dropped != NULL)
        release_keys(dropped);
}

/* memcmp() of what is mostly as short as a few names, without a call. */
ALWAYS_INLINE int are_same_bytes(const uint8_t *a, const uint8_t *b, size_t size) {
    uint64_t a64, b64, different = 0;
    size_t i = 0;

    for (; size - i > 16; i += 8) {
        memcpy(&a64, a + i, 8);
        memcpy(&b64, b + i, 8);
        different |= a64 ^ b64;
    }
    return different == 0 && is_same_text(a + i, b + i, size - i);
}

ALWAYS_INLINE int are_keys(const struct keys *keys, uint64_t hash, const uint8_t *data,
                           Py_ssize_t bytes, Py_ssize_t count) {
    return keys != NULL && keys->hash == hash && keys->bytes == bytes && keys->count == count &&
           are_same_bytes(keys->data, data, (size_t)bytes);
}

static __attribute__((noinline)) struct keys *learn_keys(uint64_t hash, const uint8_t *data,
                                                         Py_ssize_t bytes, Py_ssize_t count) {
    struct keys *keys = make_keys(hash, data, bytes, count, 0);

    if (keys != NULL)
        keep_keys(keys);
    return keys;
}

/* A new reference. */
ALWAYS_INLINE struct keys *keys_of(const uint8_t *data, Py_ssize_t bytes, Py_ssize_t count) {
    uint64_t hash = hash_key(data, bytes);
    struct keys *keys = known_keys[hash >> 57];

    if (!are_keys(keys, hash, data, bytes, count)) {
        keys = known_keys[hash >> 57 ^ 1];
        if (!are_keys(keys, hash, data, bytes, count))
            return learn_keys(hash, data, bytes, count);
    }
    keys->refs++;
    return keys;
}

/* Whether one of the keys is in the message already, as another object. */
static __attribute__((noinline)) int are_taken(const struct memo *memo, const struct keys *keys) {
    for (Py_ssize_t i = 0; i < keys->count; i++)
        if (is_taken(memo, keys->key[i]))
            return 1;
    return 0;
}

/* The keys at reader->at, behind their number: a new reference, or NULL with an exception. */
ALWAYS_INLINE struct keys *get_keys(struct reader *reader, struct memo *memo, Py_ssize_t count) {
    const uint8_t *data;
    struct keys *keys;
    uint16_t bytes;

    if (reader->end - reader->at < 2)
        return (void *)damaged();
    memcpy(&bytes, reader->at, 2);
    data = reader->at + 2;
    if (reader->end - data < bytes)
        return (void *)damaged();
    reader->at = data + bytes;
    if (memo == NULL)
        return keys_of(data, bytes, count);
    if (memo->keys_count == HEADERS_MAX || count > SEEN_MAX - memo->count)
        return (void *)damaged();
    keys = keys_of(data, bytes, count);
    if (keys != NULL && memo->filter & keys->filter && are_taken(memo, keys)) {
        release_keys(keys);
        keys = make_keys(0, data, bytes, count, 1);
    }
    if (keys == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < count; i++)
        remember(memo, keys->key[i]);
    memo->filter |= keys->filter;
    memo->keys[memo->keys_count++] = keys;
    return keys;
}

/* A new dict; gives up the values in any case. */
static __attribute__((noinline)) PyObject *fill_dict(const struct keys *keys, PyObject **values) {
    PyObject *dict = PyDict_New();

    for (Py_ssize_t i = 0; i < keys->count; i++) {
        if (dict != NULL && PyDict_SetItem(dict, keys->key[i], values[i]) < 0)
            Py_CLEAR(dict);
        Py_DECREF(values[i]);
    }
    return dict;
}

/* The dict whose code stands at reader->at, behind the tag and one byte. */
ALWAYS_INLINE PyObject *get_keyed_dict(struct reader *start, struct memo *memo, uint8_t tag,
                                       Py_ssize_t byte) {
    PyObject *values[KEYS_MAX], *dict = NULL;
    struct reader reader = *start;
    Py_ssize_t done = 0, count;
    struct keys *keys;
    int tracked = 0;

    if (memo != NULL)
        memo->dicts++;
    if (tag == VALUE_DICT_KEYS)
        keys = get_keys(&reader, memo, byte);
    else
        keys = byte < memo->keys_count ? memo->keys[byte] : (void *)damaged();
    if (keys == NULL)
        return NULL;
    count = keys->count;
    for (; done < count; done++) {
        PyObject *value = get_value(&reader, memo);

        if (value == NULL)
            break;
        if (memo != NULL)
            tracked |= PyType_IS_GC(Py_TYPE(value));
        values[done] = value;
    }
    *start = reader;
    if (done == count) {
        dict = keys->template != NULL ? fastipc_dict_make(keys->template, values, tracked)
                                      : fill_dict(keys, values);
    } else {
        while (done-- > 0)
            Py_DECREF(values[done]);
    }
    if (memo == NULL)
        release_keys(keys);
    return dict;
}

#endif
