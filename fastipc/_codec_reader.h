/* _codec_reader.h - the decoder's place in a message, what it has met there so far, and single
 * values. Part of _codec_decode.c, which alone includes it: all of it is to be inlined there. */
#ifndef FASTIPC_CODEC_READER_H
#define FASTIPC_CODEC_READER_H

#define PY_SSIZE_T_CLEAN
#include "_codec.h"

#include <errno.h>
#include <string.h>

#include "_codec_shapes.h"
#include "_codec_values.h"
#include "_scalars.h"

/* What a container's members are read with stays in registers: a tuple of three took 30 ns, of
 * 75 that a get() takes, with calls in their place. */
#define ALWAYS_INLINE static inline __attribute__((always_inline))

struct reader {
    const uint8_t *at;
    const uint8_t *end;
};

static __attribute__((cold, noinline)) PyObject *damaged(void) {
    errno = EBADMSG;
    return PyErr_SetFromErrno(PyExc_OSError);
}

ALWAYS_INLINE int is_ascii(const uint8_t *data, Py_ssize_t size) {
    uint64_t word, bits = 0;
    Py_ssize_t i = 0;

    for (; i + 8 <= size; i += 8) {
        memcpy(&word, data + i, 8);
        bits |= word;
    }
    for (; i < size; i++)
        bits |= data[i];
    return (bits & UINT64_C(0x8080808080808080)) == 0;
}

static PyObject *get_utf8(const uint8_t *data, Py_ssize_t size) {
    PyObject *str = PyUnicode_DecodeUTF8((const char *)data, size, NULL);

    if (str == NULL && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
        PyErr_Clear();
        return damaged();
    }
    return str;
}

static PyObject *get_str(const uint8_t *data, Py_ssize_t size) {
    PyObject *str;

    if (!is_ascii(data, size))
        return get_utf8(data, size);
    if (size <= 1)
        return PyUnicode_FromStringAndSize((const char *)data, size);
    str = fastipc_ascii_new(size);
    if (str != NULL)
        memcpy(PyUnicode_1BYTE_DATA(str), data, (size_t)size);
    return str;
}

/* The content of a str or bytes at reader->at, behind the tag, which is passed: its length, or
 * -1. */
ALWAYS_INLINE Py_ssize_t pass_sized(struct reader *reader, int wide, const uint8_t **content) {
    Py_ssize_t left = reader->end - reader->at, head = wide ? 5 : 2, size;
    uint32_t size32;

    if (left < head)
        return -1;
    if (wide) {
        memcpy(&size32, reader->at + 1, 4);
        size = (Py_ssize_t)size32;
    } else {
        size = reader->at[1];
    }
    if (left - head < size && !FASTIPC_BREAK_CODED_LENGTH)
        return -1;
    *content = reader->at + head;
    reader->at += head + size;
    return size;
}

/* The str and bytes of the message so far, in their order. The containers hold them, and nobody
 * else sees these; with instances code may run that does, and then the memo holds them itself. */
struct memo {
    PyObject *result; /* of get_container() */
    int count;
    int depth;
    int dicts;       /* begun so far */
    uint64_t filter; /* of the objects so far, a bit chosen by the address of each */
    int has_objects;
    int header_count;
    PyObject *object[SEEN_MAX];
    struct fastipc_shape *shape[HEADERS_MAX]; /* of each header; references, as the next */
    PyObject *type[HEADERS_MAX];
};

ALWAYS_INLINE uint64_t filter_bit(const PyObject *object) {
    return UINT64_C(1) << ((uint64_t)(uintptr_t)object * UINT64_C(0x9E3779B97F4A7C15) >> 58);
}

/* Adds what was found to have room. */
ALWAYS_INLINE void remember(struct memo *memo, PyObject *object) {
    if (memo->has_objects)
        Py_INCREF(object);
    memo->filter |= filter_bit(object);
    memo->object[memo->count++] = object;
}

/* Whether a key that is kept for all messages is in this one already: then this is another
 * object, which is equal, and stays another one. In the first dict no two are equal. */
ALWAYS_INLINE int is_taken(const struct memo *memo, const PyObject *key) {
    if (memo != NULL && memo->dicts > 1 && memo->filter & filter_bit(key))
        for (int i = 0; i < memo->count; i++)
            if (memo->object[i] == key)
                return 1;
    return 0;
}

/* Notes a new reference, or gives it up; as it stands in an expression. */
ALWAYS_INLINE PyObject *note(struct memo *memo, PyObject *object) {
    if (memo == NULL || object == NULL)
        return object;
    if (memo->count == SEEN_MAX) {
        Py_DECREF(object);
        return damaged();
    }
    remember(memo, object);
    return object;
}

/* The object that was noted as the one whose number is at reader->at, borrowed; or NULL. */
ALWAYS_INLINE PyObject *get_seen(struct reader *reader, const struct memo *memo) {
    uint16_t number;

    if (memo == NULL || reader->end - reader->at < 3)
        return NULL;
    memcpy(&number, reader->at + 1, 2);
    reader->at += 3;
    return number < memo->count ? memo->object[number] : NULL;
}

static const uint8_t *get_container(const uint8_t *at, const uint8_t *end, struct memo *memo);

/* The value at reader->at. Without a memo: of a message that is not deep. */
ALWAYS_INLINE PyObject *get_value(struct reader *reader, struct memo *memo) {
    const uint8_t *at = reader->at, *content;
    Py_ssize_t left = reader->end - at, size;
    PyObject *object;
    union {
        int32_t int32;
        int64_t int64;
        double real;
    } value;

    if (left < 1)
        return damaged();
    switch (*at) {
    case VALUE_INT32:
        if (left < 5)
            return damaged();
        memcpy(&value.int32, at + 1, 4);
        reader->at = at + 5;
        return fastipc_int_make(value.int32);
    case VALUE_STR8:
        size = pass_sized(reader, 0, &content);
        return size < 0 ? damaged() : note(memo, get_str(content, size));
    case VALUE_FLOAT:
        if (left < 9)
            return damaged();
        memcpy(&value.real, at + 1, 8);
        reader->at = at + 9;
        return PyFloat_FromDouble(value.real);
    case VALUE_INT8:
        if (left < 2)
            return damaged();
        reader->at = at + 2;
        return PyLong_FromLong((int8_t)at[1]);
    case VALUE_NONE:
        reader->at = at + 1;
        return Py_NewRef(Py_None);
    case VALUE_TRUE:
        reader->at = at + 1;
        return Py_NewRef(Py_True);
    case VALUE_FALSE:
        reader->at = at + 1;
        return Py_NewRef(Py_False);
    case VALUE_INT64:
        if (left < 9)
            return damaged();
        memcpy(&value.int64, at + 1, 8);
        reader->at = at + 9;
        return PyLong_FromLongLong(value.int64);
    case VALUE_STR32:
        size = pass_sized(reader, 1, &content);
        return size < 0 ? damaged() : note(memo, get_str(content, size));
    case VALUE_BYTES8:
    case VALUE_BYTES32:
        size = pass_sized(reader, *at == VALUE_BYTES32, &content);
        return size < 0 ? damaged()
                        : note(memo, PyBytes_FromStringAndSize((const char *)content, size));
    case VALUE_SEEN:
        object = get_seen(reader, memo);
        return object == NULL ? damaged() : Py_NewRef(object);
    case VALUE_TUPLE:
    case VALUE_LIST:
    case VALUE_DICT:
    case VALUE_OBJECT:
    case VALUE_OBJECT_LIKE:
        if (memo == NULL)
            return damaged();
        reader->at = get_container(at, reader->end, memo);
        return memo->result;
    default:
        return damaged();
    }
}

#endif
