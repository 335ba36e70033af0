/* _codec_dicts.h - the decoder's dicts: keys and templates that are kept from message to message.
 * Part of _codec_decode.c, which alone includes it: all of it is to be inlined there. */
#ifndef FASTIPC_CODEC_DICTS_H
#define FASTIPC_CODEC_DICTS_H

#include "_codec_reader.h"
#include "_dict_copies.h"

/* Keys of dicts that were decoded lately, ASCII, by a hash of their content. A key that is
 * found here costs neither an object nor its hash: a dict of five keys takes 2,200
 * instructions instead of 3,600. Never a value: pickle makes a new object of each str in a
 * message, and two equal keys cannot be in one dict. */
#define KEY_MIN 2 /* the interpreter keeps shorter ones itself */
#define KEY_MAX 32
static PyObject *recent_keys[256];

ALWAYS_INLINE uint64_t hash_key(const uint8_t *data, Py_ssize_t size) {
    uint64_t first = 0, last = 0;

    if (size >= 8) {
        memcpy(&first, data, 8);
        memcpy(&last, data + size - 8, 8);
    } else if (size >= 4) {
        memcpy(&first, data, 4);
        memcpy(&last, data + size - 4, 4);
    } else if (size >= 2) {
        memcpy(&first, data, 2);
        last = data[size - 1];
    }
    return (first ^ (last << 29 | last >> 35) ^ (uint64_t)size) * UINT64_C(0x9E3779B97F4A7C15);
}

/* memcmp() of what is mostly as short as a name, without a call. */
ALWAYS_INLINE int is_same_text(const uint8_t *a, const uint8_t *b, size_t size) {
    uint64_t a64[2], b64[2];
    uint32_t a32[2], b32[2];

    if (size > 16)
        return memcmp(a, b, size) == 0;
    if (size >= 8) {
        memcpy(&a64[0], a, 8);
        memcpy(&b64[0], b, 8);
        memcpy(&a64[1], a + size - 8, 8);
        memcpy(&b64[1], b + size - 8, 8);
        return ((a64[0] ^ b64[0]) | (a64[1] ^ b64[1])) == 0;
    }
    if (size >= 4) {
        memcpy(&a32[0], a, 4);
        memcpy(&b32[0], b, 4);
        memcpy(&a32[1], a + size - 4, 4);
        memcpy(&b32[1], b + size - 4, 4);
        return ((a32[0] ^ b32[0]) | (a32[1] ^ b32[1])) == 0;
    }
    for (size_t i = 0; i < size; i++)
        if (a[i] != b[i])
            return 0;
    return 1;
}

ALWAYS_INLINE int is_key(PyObject *key, const uint8_t *data, Py_ssize_t size) {
    /* Kept keys are ASCII. */
    return PyUnicode_GET_LENGTH(key) == size &&
           is_same_text((const uint8_t *)((PyASCIIObject *)key + 1), data, (size_t)size);
}

ALWAYS_INLINE PyObject *get_key_str(const struct memo *memo, const uint8_t *data, Py_ssize_t size) {
    PyObject **recent, *key;

    if (size < KEY_MIN || size > KEY_MAX)
        return get_str(data, size);
    recent = &recent_keys[hash_key(data, size) >> 56];
    key = *recent;
    if (key != NULL && is_key(key, data, size))
        return is_taken(memo, key) ? get_str(data, size) : Py_NewRef(key);
    key = get_str(data, size);
    if (key != NULL && PyUnicode_IS_COMPACT_ASCII(key))
        Py_XSETREF(*recent, Py_NewRef(key));
    return key;
}

ALWAYS_INLINE PyObject *get_key(struct reader *reader, struct memo *memo) {
    const uint8_t *content;
    Py_ssize_t size;

    if (reader->at == reader->end)
        return damaged();
    switch (*reader->at) {
    case VALUE_STR8:
        size = pass_sized(reader, 0, &content);
        return size < 0 ? damaged() : note(memo, get_key_str(memo, content, size));
    case VALUE_TUPLE:
    case VALUE_LIST:
    case VALUE_DICT:
    case VALUE_OBJECT:
    case VALUE_OBJECT_LIKE:
        return damaged();
    default:
        return get_value(reader, memo);
    }
}

/* Dicts come in kinds, each with the same keys in the same order. A copy of the last one of
 * its kind, with other values, takes half the time of a dict that is filled key by key. Where
 * a kind belongs is decided by its first key and its size; one that is not there is tried for
 * after so many dicts that it does not fit. */
#define TEMPLATE_MEMBERS_MAX 64
#define TEMPLATE_MISSES_MAX 8
static struct template {
    PyObject *dict; /* all keys are ASCII */
    uint32_t misses;
}
templates[64];

ALWAYS_INLINE struct template *template_of(const struct reader *reader, const struct memo *memo,
                                           Py_ssize_t count) {
    struct reader first = *reader;
    const uint8_t *content;
    PyObject *key;
    Py_ssize_t size;

    if (count == 0 || count > TEMPLATE_MEMBERS_MAX || first.at == first.end)
        return NULL;
    if (*first.at == VALUE_STR8) {
        size = pass_sized(&first, 0, &content);
        if (size < 0)
            return NULL;
    } else {
        key = *first.at == VALUE_SEEN ? get_seen(&first, memo) : NULL;
        if (key == NULL || !PyUnicode_CheckExact(key) || !PyUnicode_IS_COMPACT_ASCII(key))
            return NULL;
        size = PyUnicode_GET_LENGTH(key);
        content = PyUnicode_1BYTE_DATA(key);
    }
    return &templates[(hash_key(content, size) >> 32 ^ (uint64_t)count) % 64];
}

static void keep_template(struct template *template, PyObject *dict) {
    PyObject *key, *value;
    Py_ssize_t pos = 0;

    if (template->dict != NULL && ++template->misses < TEMPLATE_MISSES_MAX)
        return;
    template->misses = 0;
    while (PyDict_Next(dict, &pos, &key, &value))
        if (!PyUnicode_CheckExact(key) || !PyUnicode_IS_COMPACT_ASCII(key))
            return;
    dict = fastipc_dict_template(dict);
    if (dict != NULL)
        Py_XSETREF(template->dict, dict);
}

/* Whether `key` is the next one; passes it, and notes it, if so. */
ALWAYS_INLINE int pass_key(struct reader *reader, struct memo *memo, PyObject *key) {
    struct reader behind = *reader;
    const uint8_t *content;
    Py_ssize_t size;

    if (behind.at == behind.end)
        return 0;
    if (*behind.at == VALUE_SEEN) {
        if (get_seen(&behind, memo) != key)
            return 0;
    } else {
        if (*behind.at != VALUE_STR8 || (memo != NULL && memo->count == SEEN_MAX))
            return 0;
        size = pass_sized(&behind, 0, &content);
        if (size < 0 || !is_key(key, content, size) || is_taken(memo, key))
            return 0;
        if (memo != NULL)
            remember(memo, key);
    }
    *reader = behind;
    return 1;
}

/* A dict with the members that have the keys of a template, and in *done how many these are. */
ALWAYS_INLINE PyObject *get_dict_like(struct reader *start, struct memo *memo, PyObject *template,
                                      Py_ssize_t count, Py_ssize_t *done) {
    struct reader reader = *start;
    struct fastipc_dict_entry *first, *entry;
    PyObject *dict, *partial, *value;
    int tracked = 0;

    /* The making of an object may run the collector, and with it whatever drops templates. */
    Py_INCREF(template);
    dict = fastipc_dict_copy(template, &first);
    Py_DECREF(template);
    if (dict == NULL)
        return NULL;
    for (entry = first; entry < first + count; entry++) {
        if (!pass_key(&reader, memo, entry->key))
            break;
        value = get_value(&reader, memo);
        if (value == NULL) {
            Py_DECREF(dict);
            return NULL;
        }
        if (memo != NULL)
            tracked |= PyType_IS_GC(Py_TYPE(value));
        entry->value = value;
    }
    *start = reader;
    *done = entry - first;
    if (*done == count) {
        if (tracked)
            PyObject_GC_Track(dict);
        return dict;
    }
    partial = PyDict_New();
    for (; partial != NULL && first < entry; first++)
        if (PyDict_SetItem(partial, first->key, first->value) < 0)
            Py_CLEAR(partial);
    Py_DECREF(dict);
    return partial;
}

ALWAYS_INLINE PyObject *get_dict(struct reader *reader, struct memo *memo, Py_ssize_t count) {
    struct template *template = template_of(reader, memo, count);
    Py_ssize_t done = 0;
    PyObject *dict;

    if (memo != NULL)
        memo->dicts++;
    if (template != NULL && template->dict != NULL && PyDict_GET_SIZE(template->dict) == count)
        dict = get_dict_like(reader, memo, template->dict, count, &done);
    else
        dict = PyDict_New();
    if (done == count) {
        if (template != NULL)
            template->misses = 0;
        return dict;
    }
    while (dict != NULL && done < count) {
        PyObject *key = get_key(reader, memo);
        PyObject *value = key != NULL ? get_value(reader, memo) : NULL;

        if (value == NULL || PyDict_SetItem(dict, key, value) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(key);
        Py_XDECREF(value);
        /* A key that is there already: its first value is gone, and the memo may name it. */
        if (dict != NULL && PyDict_GET_SIZE(dict) != ++done) {
            Py_DECREF(dict);
            return damaged();
        }
    }
    if (dict != NULL && template != NULL)
        keep_template(template, dict);
    return dict;
}

#endif
