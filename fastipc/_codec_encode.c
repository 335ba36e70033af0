/* _codec_encode.c - objects to bytes; see _codec.h and _codec_values.h. */
#define PY_SSIZE_T_CLEAN
#include "_codec.h"

#include <string.h>

#include "_codec_headers.h"
#include "_codec_values.h"
#include "_dict_copies.h"
#include "_instances.h"
#include "_scalars.h"

struct writer {
    uint8_t *at;
    uint8_t *end;
};

/* What any scalar but a str or bytes takes at most; less room than this counts as none. */
#define SCALAR_MAX 9

/* memcpy() of what is mostly as short as a name, without a call. */
static inline void copy_text(uint8_t *to, const char *from, size_t size) {
    if (size > 16) {
        memcpy(to, from, size);
    } else if (size >= 8) {
        memcpy(to, from, 8);
        memcpy(to + size - 8, from + size - 8, 8);
    } else if (size >= 4) {
        memcpy(to, from, 4);
        memcpy(to + size - 4, from + size - 4, 4);
    } else if (size >= 2) {
        memcpy(to, from, 2);
        to[size - 1] = (uint8_t)from[size - 1];
    } else if (size == 1) {
        *to = (uint8_t)*from;
    }
}

static inline int put_sized(struct writer *writer, uint8_t tag8, uint8_t tag32, const char *data,
                            Py_ssize_t size) {
    if (writer->end - writer->at < size + 5)
        return -1;
    if (size < 256) {
        *writer->at++ = tag8;
        *writer->at++ = (uint8_t)size;
    } else {
        uint32_t size32 = (uint32_t)size;

        *writer->at++ = tag32;
        memcpy(writer->at, &size32, 4);
        writer->at += 4;
    }
    copy_text(writer->at, data, (size_t)size);
    writer->at += size;
    return 0;
}

static inline int put_int(struct writer *writer, PyObject *obj) {
    int32_t digit;
    long long value;

    if (fastipc_int_read(obj, &digit)) {
        value = digit;
    } else {
        int overflow;

        value = PyLong_AsLongLongAndOverflow(obj, &overflow);
        if (overflow != 0)
            return -1;
    }
    if (value >= INT8_MIN && value <= INT8_MAX) {
        *writer->at++ = VALUE_INT8;
        *writer->at++ = (uint8_t)(int8_t)value;
    } else if (value >= INT32_MIN && value <= INT32_MAX) {
        int32_t value32 = (int32_t)value;

        *writer->at++ = VALUE_INT32;
        memcpy(writer->at, &value32, 4);
        writer->at += 4;
    } else {
        int64_t value64 = value;

        *writer->at++ = VALUE_INT64;
        memcpy(writer->at, &value64, 8);
        writer->at += 8;
    }
    return 0;
}

static inline int put_str(struct writer *writer, PyObject *obj) {
    Py_ssize_t size;
    const char *data;

    if (PyUnicode_IS_COMPACT_ASCII(obj)) {
        data = (const char *)PyUnicode_DATA(obj);
        size = PyUnicode_GET_LENGTH(obj);
    } else {
        if (PyUnicode_GET_LENGTH(obj) > writer->end - writer->at)
            return -1;
        data = PyUnicode_AsUTF8AndSize(obj, &size);
        if (data == NULL) {
            PyErr_Clear(); /* a lone surrogate: pickle knows what to do */
            return -1;
        }
    }
    return put_sized(writer, VALUE_STR8, VALUE_STR32, data, size);
}

static inline int put_bytes(struct writer *writer, PyObject *obj) {
    return put_sized(writer, VALUE_BYTES8, VALUE_BYTES32, PyBytes_AS_STRING(obj),
                     PyBytes_GET_SIZE(obj));
}

/* All scalars but str and bytes. */
static inline int put_number(struct writer *writer, PyObject *obj, PyTypeObject *type) {
    if (writer->end - writer->at < SCALAR_MAX)
        return -1;
    if (type == &PyLong_Type)
        return put_int(writer, obj);
    if (type == &PyFloat_Type) {
        double value = PyFloat_AS_DOUBLE(obj);

        *writer->at++ = VALUE_FLOAT;
        memcpy(writer->at, &value, 8);
        writer->at += 8;
        return 0;
    }
    if (obj == Py_None)
        *writer->at++ = VALUE_NONE;
    else if (obj == Py_True)
        *writer->at++ = VALUE_TRUE;
    else if (obj == Py_False)
        *writer->at++ = VALUE_FALSE;
    else
        return -1;
    return 0;
}

#define SEEN_FILTER_WORDS 8

/* Remembers the str, bytes and containers of a message; pickle would send the second occurrence
 * as a reference to the first. */
struct seen {
    /* A bit for each, chosen by the address; mostly it is not yet set. One word made 200
     * members slower than pickle, eight make them twice as fast. */
    uint64_t filter[SEEN_FILTER_WORDS];
    int count;
    int container_count;
    int depth;
    int header_count;
    uint8_t flags; /* VALUE_IS_DEEP, VALUE_HAS_OBJECTS */
    PyObject *container[NESTED_MAX];
    PyObject *object[SEEN_MAX];
    struct {
        PyTypeObject *type;
        Py_ssize_t bytes;
        const uint8_t *data; /* in the message */
    } header[HEADERS_MAX];
};

/* The number of an object that was seen before; -1, now it is; -2, there are too many. */
static inline int see(struct seen *seen, PyObject *obj) {
    uint64_t hash = (uint64_t)(uintptr_t)obj * UINT64_C(0x9E3779B97F4A7C15);
    uint64_t bit = UINT64_C(1) << (hash >> 58);
    uint64_t *filter = &seen->filter[hash >> 32 & (SEEN_FILTER_WORDS - 1)];

    if (*filter & bit)
        for (int i = 0; i < seen->count; i++)
            if (seen->object[i] == obj)
                return i;
    if (seen->count == SEEN_MAX)
        return -2;
    *filter |= bit;
    seen->object[seen->count++] = obj;
    return -1;
}

static int put_reference(struct writer *writer, int number, struct seen *seen) {
    uint16_t number16 = (uint16_t)number;

    if (number < 0 || writer->end - writer->at < 3)
        return -1;
    seen->flags |= VALUE_IS_DEEP;
    *writer->at++ = VALUE_SEEN;
    memcpy(writer->at, &number16, 2);
    writer->at += 2;
    return 0;
}

static int put_container(struct writer *writer, PyObject *obj, PyTypeObject *type,
                         struct seen *seen);

static inline int put_seen_str(struct writer *writer, PyObject *obj, struct seen *seen) {
    int number = see(seen, obj);

    return number == -1 ? put_str(writer, obj) : put_reference(writer, number, seen);
}

/* All but containers. */
static int put_plain(struct writer *writer, PyObject *obj, PyTypeObject *type, struct seen *seen) {
    int number;

    if (type == &PyUnicode_Type)
        return put_seen_str(writer, obj, seen);
    if (type == &PyBytes_Type) {
        number = see(seen, obj);
        return number == -1 ? put_bytes(writer, obj) : put_reference(writer, number, seen);
    }
    return put_number(writer, obj, type);
}

static inline int is_container(PyTypeObject *type) {
    return type == &PyDict_Type || type == &PyList_Type || type == &PyTuple_Type;
}

static inline int put_member(struct writer *writer, PyObject *obj, struct seen *seen) {
    PyTypeObject *type = Py_TYPE(obj);

    if (type == &PyUnicode_Type)
        return put_seen_str(writer, obj, seen);
    if (type == &PyLong_Type || type == &PyFloat_Type)
        return put_number(writer, obj, type);
    /* Of a class that Python code has made: perhaps an instance that the codec takes. */
    if (is_container(type) || type->tp_flags & Py_TPFLAGS_HEAPTYPE)
        return put_container(writer, obj, type, seen);
    return put_plain(writer, obj, type, seen);
}

static int put_sequence(struct writer *writer, uint8_t tag, PyObject **items, Py_ssize_t count,
                        struct seen *seen) {
    if (count > CONTAINER_MAX || writer->end - writer->at < 2)
        return -1;
    *writer->at++ = tag;
    *writer->at++ = (uint8_t)count;
    for (Py_ssize_t i = 0; i < count; i++)
        if (put_member(writer, items[i], seen) < 0)
            return -1;
    return 0;
}

static int put_dict(struct writer *writer, PyObject *obj, struct seen *seen) {
    Py_ssize_t pos = 0, count = PyDict_GET_SIZE(obj), entries;
    const struct fastipc_dict_entry *entry;
    PyObject *key, *value;

    if (count > CONTAINER_MAX || writer->end - writer->at < 2)
        return -1;
    *writer->at++ = VALUE_DICT;
    *writer->at++ = (uint8_t)count;
    entry = fastipc_dict_entries(obj, &entries);
    if (entry != NULL) {
        for (; entries > 0; entries--, entry++)
            if (entry->value != NULL && (put_seen_str(writer, entry->key, seen) < 0 ||
                                         put_member(writer, entry->value, seen) < 0))
                return -1;
        return 0;
    }
    /* What is no scalar, as a tuple may be, is not for the codec in the place of a key. */
    while (PyDict_Next(obj, &pos, &key, &value))
        if (put_plain(writer, key, Py_TYPE(key), seen) < 0 || put_member(writer, value, seen) < 0)
            return -1;
    return 0;
}

/* Notes what can be in a message but once: one that is there twice, or in itself, is for pickle. */
static inline int see_once(struct seen *seen, PyObject *obj) {
    for (int i = 0; i < seen->container_count; i++)
        if (seen->container[i] == obj)
            return -1;
    if (seen->container_count == NESTED_MAX)
        return -1;
    seen->container[seen->container_count++] = obj;
    return 0;
}

static inline int put_raw(struct writer *writer, const uint8_t *data, Py_ssize_t size) {
    if (writer->end - writer->at < size)
        return -1;
    memcpy(writer->at, data, (size_t)size);
    writer->at += size;
    return 0;
}

/* What comes before the values of an instance. */
static int put_header(struct writer *writer, PyTypeObject *type, PyObject **keys, Py_ssize_t count,
                      struct seen *seen) {
    const struct fastipc_header *header;
    int is_checked = 0;

    for (int i = 0; i < seen->header_count; i++)
        is_checked |= seen->header[i].type == type;
    header = fastipc_header_of(type, keys, count, is_checked);
    if (header == NULL)
        return -1;
    for (int i = 0; is_checked && i < seen->header_count; i++)
        if (seen->header[i].type == type && seen->header[i].bytes == header->bytes &&
            memcmp(seen->header[i].data, header->data, (size_t)header->bytes) == 0) {
            uint8_t like[2] = {VALUE_OBJECT_LIKE, (uint8_t)i};

            return put_raw(writer, like, 2);
        }
    if (seen->header_count == HEADERS_MAX)
        return -1;
    seen->header[seen->header_count].type = type;
    seen->header[seen->header_count].bytes = header->bytes;
    seen->header[seen->header_count++].data = writer->at;
    return put_raw(writer, header->data, header->bytes);
}

static int put_object(struct writer *writer, PyObject *obj, PyTypeObject *type, struct seen *seen) {
    PyObject *keys[FASTIPC_ATTRIBUTES_MAX], *values[FASTIPC_ATTRIBUTES_MAX], *dict;
    Py_ssize_t count;

    /* First of all, whether it is one of those: only their attributes can be read. */
    if (!fastipc_header_is_for(type))
        return -1;
    count = fastipc_instance_read(obj, keys, values, &dict);
    if (count < 0 || put_header(writer, type, keys, count, seen) < 0)
        return -1;
    /* The __dict__ may itself be in the message; pickle would tell. */
    if (dict != NULL && see_once(seen, dict) < 0)
        return -1;
    seen->flags |= VALUE_IS_DEEP | VALUE_HAS_OBJECTS;
    for (Py_ssize_t i = 0; i < count; i++)
        if (put_member(writer, values[i], seen) < 0)
            return -1;
    return 0;
}

static int put_container(struct writer *writer, PyObject *obj, PyTypeObject *type,
                         struct seen *seen) {
    int rc;

    /* There is but one empty tuple. */
    if ((type != &PyTuple_Type || PyTuple_GET_SIZE(obj) != 0) && see_once(seen, obj) < 0)
        return -1;
    if (seen->depth == DEPTH_MAX)
        return -1;
    if (seen->depth++ != 0)
        seen->flags |= VALUE_IS_DEEP;
    if (type == &PyTuple_Type)
        rc = put_sequence(writer, VALUE_TUPLE, ((PyTupleObject *)obj)->ob_item,
                          PyTuple_GET_SIZE(obj), seen);
    else if (type == &PyDict_Type)
        rc = put_dict(writer, obj, seen);
    else if (type != &PyList_Type)
        rc = put_object(writer, obj, type, seen);
    else
        rc = put_sequence(writer, VALUE_LIST, ((PyListObject *)obj)->ob_item, PyList_GET_SIZE(obj),
                          seen);
    seen->depth--;
    return rc;
}

static int put_outermost(struct writer *writer, PyObject *obj, PyTypeObject *type) {
    uint8_t *first = writer->at;
    struct seen seen;

    memset(seen.filter, 0, sizeof(seen.filter));
    seen.count = seen.container_count = seen.depth = seen.header_count = 0;
    seen.flags = 0;
    if (put_container(writer, obj, type, &seen) < 0)
        return -1;
    *first |= seen.flags;
    return 0;
}

Py_ssize_t fastipc_encode(PyObject *obj, uint8_t *buffer, Py_ssize_t size) {
    struct writer writer = {buffer, buffer + size};
    PyTypeObject *type = Py_TYPE(obj);
    int rc;

    if (is_container(type) || type->tp_flags & Py_TPFLAGS_HEAPTYPE)
        rc = put_outermost(&writer, obj, type);
    else if (type == &PyUnicode_Type)
        rc = put_str(&writer, obj);
    else if (type == &PyBytes_Type)
        rc = put_bytes(&writer, obj);
    else
        rc = put_number(&writer, obj, type);
    return rc < 0 ? -1 : writer.at - buffer;
}
