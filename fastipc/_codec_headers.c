/* _codec_headers.c - see _codec_headers.h. */
#define PY_SSIZE_T_CLEAN
#include "_codec_headers.h"

#include <string.h>

#include "_classes.h"
#include "_codec_values.h"
#include "_instances.h"

/* What was found out of a class, and the header of the last instance. Of the class itself there is
 * no reference: its version tells whether it is still the one. */
struct entry {
    PyTypeObject *type;
    unsigned int version;
    int is_plain;
    struct fastipc_class_name name;
    Py_ssize_t count;
    PyObject **keys; /* owned */
    struct fastipc_header header;
};

#define ENTRIES 64
static struct entry entries[ENTRIES];

static void forget_header(struct entry *entry) {
    for (Py_ssize_t i = 0; i < entry->count; i++)
        Py_DECREF(entry->keys[i]);
    PyMem_Free(entry->keys);
    PyMem_Free((void *)entry->header.data);
    entry->keys = NULL;
    entry->header.data = NULL;
    entry->count = entry->header.bytes = 0;
}

static uint8_t *put_name(uint8_t *at, PyObject *name) {
    size_t size = (size_t)PyUnicode_GET_LENGTH(name);

    *at++ = (uint8_t)size;
    memcpy(at, PyUnicode_1BYTE_DATA(name), size);
    return at + size;
}

/* All names are ASCII and of at most 255 characters. */
static int make_header(struct entry *entry, PyObject *const *keys, Py_ssize_t count) {
    Py_ssize_t bytes = OBJECT_FIXED + 2 + PyUnicode_GET_LENGTH(entry->name.module) +
                       PyUnicode_GET_LENGTH(entry->name.qualname);
    uint8_t *data, *at;
    uint16_t names_bytes;

    for (Py_ssize_t i = 0; i < count; i++)
        bytes += 1 + PyUnicode_GET_LENGTH(keys[i]);
    if (bytes > OBJECT_HEADER_MAX)
        return -1;
    data = PyMem_Malloc((size_t)bytes);
    entry->keys = data != NULL ? PyMem_New(PyObject *, (size_t)count + 1) : NULL;
    if (entry->keys == NULL) {
        PyMem_Free(data);
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        entry->keys[i] = Py_NewRef(keys[i]);
    entry->count = count;
    names_bytes = (uint16_t)(bytes - OBJECT_FIXED);
    data[0] = VALUE_OBJECT;
    data[1] = (uint8_t)count;
    memcpy(data + 2, &names_bytes, 2);
    at = put_name(data + OBJECT_FIXED, entry->name.module);
    at = put_name(at, entry->name.qualname);
    for (Py_ssize_t i = 0; i < count; i++)
        at = put_name(at, keys[i]);
    entry->header.data = data;
    entry->header.bytes = bytes;
    return 0;
}

/* Finds out about a class. */
static void learn(struct entry *entry, PyTypeObject *type) {
    forget_header(entry);
    fastipc_class_name_clear(&entry->name);
    entry->is_plain = fastipc_class_is_plain(type) && fastipc_class_name(type, &entry->name) == 0;
    entry->type = type;
    entry->version = fastipc_class_version(type);
}

static int is_header_for(const struct entry *entry, PyObject *const *keys, Py_ssize_t count) {
    if (entry->header.data == NULL || entry->count != count)
        return 0;
    for (Py_ssize_t i = 0; i < count; i++)
        if (entry->keys[i] != keys[i])
            return 0;
    return 1;
}

/* What is known of a class, or may be overwritten with it. Each has two places, and the one that
 * was used last stays. */
static inline struct entry *entry_of(PyTypeObject *type) {
    uint64_t hash = (uint64_t)(uintptr_t)type * UINT64_C(0x9E3779B97F4A7C15);
    struct entry *first = &entries[hash >> 58], *second = &entries[hash >> 58 ^ 1], other;

    if (first->type == type || first->type == NULL)
        return first;
    if (second->type != type) {
        other = *second;
        *second = *first;
        *first = other;
        return first;
    }
    return second;
}

int fastipc_header_is_for(PyTypeObject *type) {
    struct entry *entry = entry_of(type);
    unsigned int version = fastipc_class_version(type);

    if (entry->type != type || entry->version != version || version == 0)
        learn(entry, type);
    return entry->is_plain && entry->version != 0;
}

const struct fastipc_header *fastipc_header_of(PyTypeObject *type, PyObject *const *keys,
                                               Py_ssize_t count, int is_checked) {
    struct entry *entry = entry_of(type);

    /* In CPython 3.13 another qualname does not make another version. */
    if (!is_checked && ((PyHeapTypeObject *)type)->ht_qualname != entry->name.qualname) {
        entry->version = 0;
        return NULL;
    }
    /* What pickle would refuse, it shall refuse. */
    if (!is_checked &&
        (fastipc_class_is_registered(type) || fastipc_class_find(&entry->name) != type))
        return NULL;
    if (!is_header_for(entry, keys, count)) {
        forget_header(entry);
        if (make_header(entry, keys, count) < 0)
            return NULL;
    }
    return &entry->header;
}
