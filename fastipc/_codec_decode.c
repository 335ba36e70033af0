/* _codec_decode.c - bytes to objects; see _codec.h and _codec_values.h. Trusts nothing that it
 * reads: what stands for no object is an error. */
#define PY_SSIZE_T_CLEAN
#include "_codec.h"

#include <errno.h>
#include <string.h>

#include "_codec_values.h"
#include "_dict_copies.h"

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
    str = PyUnicode_New(size, 127);
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
    if (left - head < size)
        return -1;
    *content = reader->at + head;
    reader->at += head + size;
    return size;
}

/* The value at reader->at: no container. */
ALWAYS_INLINE PyObject *get_scalar(struct reader *reader) {
    const uint8_t *at = reader->at, *content;
    Py_ssize_t left = reader->end - at, size;
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
        return PyLong_FromLong(value.int32);
    case VALUE_STR8:
        size = pass_sized(reader, 0, &content);
        return size < 0 ? damaged() : get_str(content, size);
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
        return size < 0 ? damaged() : get_str(content, size);
    case VALUE_BYTES8:
    case VALUE_BYTES32:
        size = pass_sized(reader, *at == VALUE_BYTES32, &content);
        return size < 0 ? damaged() : PyBytes_FromStringAndSize((const char *)content, size);
    default:
        return damaged();
    }
}

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

ALWAYS_INLINE int is_key(PyObject *key, const uint8_t *data, Py_ssize_t size) {
    return PyUnicode_GET_LENGTH(key) == size &&
           memcmp(PyUnicode_1BYTE_DATA(key), data, (size_t)size) == 0;
}

static PyObject *get_key_str(const uint8_t *data, Py_ssize_t size) {
    PyObject **recent, *key;

    if (size < KEY_MIN || size > KEY_MAX)
        return get_str(data, size);
    recent = &recent_keys[hash_key(data, size) >> 56];
    key = *recent;
    if (key != NULL && is_key(key, data, size))
        return Py_NewRef(key);
    key = get_str(data, size);
    if (key != NULL && PyUnicode_IS_COMPACT_ASCII(key))
        Py_XSETREF(*recent, Py_NewRef(key));
    return key;
}

static PyObject *get_key(struct reader *reader) {
    const uint8_t *content;
    Py_ssize_t size;

    if (reader->end - reader->at < 1 || *reader->at != VALUE_STR8)
        return get_scalar(reader);
    size = pass_sized(reader, 0, &content);
    return size < 0 ? damaged() : get_key_str(content, size);
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
} templates[64];

static struct template *template_of(const struct reader *reader, Py_ssize_t count) {
    struct reader first = *reader;
    const uint8_t *content;
    Py_ssize_t size;

    if (count == 0 || count > TEMPLATE_MEMBERS_MAX || first.at == first.end ||
        *first.at != VALUE_STR8)
        return NULL;
    size = pass_sized(&first, 0, &content);
    if (size < 0)
        return NULL;
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

/* A dict with these keys. NULL without an exception: they are others, and reader is where it
 * was. */
static PyObject *get_dict_like(struct reader *start, PyObject *template, Py_ssize_t count) {
    struct reader reader = *start;
    struct fastipc_dict_entry *entry;
    PyObject *dict, *value;

    if (PyDict_GET_SIZE(template) != count)
        return NULL;
    /* The making of an object may run the collector, and with it whatever drops templates. */
    Py_INCREF(template);
    dict = fastipc_dict_copy(template, &entry);
    Py_DECREF(template);
    if (dict == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < count; i++, entry++) {
        const uint8_t *content;
        Py_ssize_t size;

        if (reader.at == reader.end || *reader.at != VALUE_STR8)
            goto others;
        size = pass_sized(&reader, 0, &content);
        if (size < 0 || !is_key(entry->key, content, size))
            goto others;
        value = get_scalar(&reader);
        if (value == NULL)
            goto others;
        entry->value = value;
        Py_DECREF(Py_None);
    }
    *start = reader;
    return dict;
others:
    Py_DECREF(dict);
    return NULL;
}

static PyObject *get_dict(struct reader *reader, Py_ssize_t count) {
    struct template *template = template_of(reader, count);
    PyObject *dict;

    if (template != NULL && template->dict != NULL) {
        dict = get_dict_like(reader, template->dict, count);
        if (dict != NULL) {
            template->misses = 0;
            return dict;
        }
        if (PyErr_Occurred())
            return NULL;
    }
    dict = PyDict_New();
    for (Py_ssize_t i = 0; dict != NULL && i < count; i++) {
        PyObject *key = get_key(reader);
        PyObject *value = key != NULL ? get_scalar(reader) : NULL;

        if (value == NULL || PyDict_SetItem(dict, key, value) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    if (dict != NULL && PyDict_GET_SIZE(dict) != count) {
        Py_DECREF(dict);
        return damaged(); /* a key twice */
    }
    if (dict != NULL && template != NULL)
        keep_template(template, dict);
    return dict;
}

static PyObject *get_tuple(struct reader *start, Py_ssize_t count) {
    struct reader reader = *start;
    PyObject *result = PyTuple_New(count);

    for (Py_ssize_t i = 0; result != NULL && i < count; i++) {
        PyObject *member = get_scalar(&reader);

        if (member == NULL)
            Py_CLEAR(result);
        else
            PyTuple_SET_ITEM(result, i, member);
    }
    *start = reader;
    return result;
}

static PyObject *get_list(struct reader *start, Py_ssize_t count) {
    struct reader reader = *start;
    PyObject *result = PyList_New(count);

    for (Py_ssize_t i = 0; result != NULL && i < count; i++) {
        PyObject *member = get_scalar(&reader);

        if (member == NULL)
            Py_CLEAR(result);
        else
            PyList_SET_ITEM(result, i, member);
    }
    *start = reader;
    return result;
}

PyObject *fastipc_decode(const uint8_t *data, Py_ssize_t size) {
    struct reader reader = {data + 2, data + size};
    PyObject *result;

    if (size >= 2 && data[0] == VALUE_TUPLE) {
        result = get_tuple(&reader, data[1]);
    } else if (size >= 2 && data[0] == VALUE_DICT) {
        result = get_dict(&reader, data[1]);
    } else if (size >= 2 && data[0] == VALUE_LIST) {
        result = get_list(&reader, data[1]);
    } else {
        reader.at = data;
        result = get_scalar(&reader);
    }
    if (result != NULL && reader.at != reader.end) {
        Py_DECREF(result);
        return damaged();
    }
    return result;
}

int fastipc_check_ascii(PyObject *str) {
    if (is_ascii(PyUnicode_1BYTE_DATA(str), PyUnicode_GET_LENGTH(str)))
        return 0;
    damaged();
    return -1;
}
