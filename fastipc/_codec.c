/* _codec.c - see _codec.h. One tag byte before each value; lengths and integers are
 * little-endian as the machine has them: both sides run on the same machine. */
#define PY_SSIZE_T_CLEAN
#include "_codec.h"

#include <errno.h>
#include <string.h>

#if PY_VERSION_HEX < 0x030B0000
#include <longintrepr.h>
#endif

enum {
    VALUE_NONE = 'N',
    VALUE_TRUE = 'T',
    VALUE_FALSE = 'F',
    VALUE_INT8 = 'b',
    VALUE_INT32 = 'i',
    VALUE_INT64 = 'q',
    VALUE_FLOAT = 'd',
    VALUE_STR8 = 's',
    VALUE_STR32 = 'S',
    VALUE_BYTES8 = 'y',
    VALUE_BYTES32 = 'Y',
    VALUE_TUPLE = '(',
    VALUE_LIST = '[',
    VALUE_DICT = '{',
};

/* Containers up to here: their length is one byte. Against pickle, a put and get of 250 takes
 * 0.5 times as long with int members, 0.7 with str, 0.4 with the items of a dict. */
#define CONTAINER_MAX 255

struct writer {
    uint8_t *at;
    uint8_t *end;
};

struct reader {
    const uint8_t *at;
    const uint8_t *end;
};

/* ---- encoding ---- */

/* What any scalar but a str or bytes takes at most; less room than this counts as none. */
#define SCALAR_MAX 9

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
    memcpy(writer->at, data, (size_t)size);
    writer->at += size;
    return 0;
}

/* The value of an int of one digit, without a call; 0 if it has more. */
static inline int short_int_value(PyObject *obj, long long *value) {
#if PY_VERSION_HEX >= 0x030C0000
    if (!PyUnstable_Long_IsCompact((PyLongObject *)obj))
        return 0;
    *value = PyUnstable_Long_CompactValue((PyLongObject *)obj);
#else
    Py_ssize_t digits = Py_SIZE(obj);

    if (digits < -1 || digits > 1)
        return 0;
    /* Zero has no digit. */
    *value = digits == 0 ? 0 : digits * (long long)((PyLongObject *)obj)->ob_digit[0];
#endif
    return 1;
}

static inline int put_int(struct writer *writer, PyObject *obj) {
    long long value;

    if (!short_int_value(obj, &value)) {
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

/* Remembers the str and bytes objects of a container; pickle would send the second
 * occurrence as a reference to the first. */
struct seen {
    /* A bit for each, chosen by the address; mostly it is not yet set. One word made 200
     * members slower than pickle, eight make them twice as fast. */
    uint64_t filter[SEEN_FILTER_WORDS];
    int count;
    PyObject *object[2 * CONTAINER_MAX];
};

static inline int see(struct seen *seen, PyObject *obj) {
    uint64_t hash = (uint64_t)(uintptr_t)obj * UINT64_C(0x9E3779B97F4A7C15);
    uint64_t bit = UINT64_C(1) << (hash >> 58);
    uint64_t *filter = &seen->filter[hash >> 32 & (SEEN_FILTER_WORDS - 1)];

    if (*filter & bit)
        for (int i = 0; i < seen->count; i++)
            if (seen->object[i] == obj)
                return -1;
    *filter |= bit;
    seen->object[seen->count++] = obj;
    return 0;
}

static inline int put_member(struct writer *writer, PyObject *obj, struct seen *seen) {
    PyTypeObject *type = Py_TYPE(obj);

    if (type == &PyUnicode_Type)
        return see(seen, obj) < 0 ? -1 : put_str(writer, obj);
    if (type == &PyBytes_Type)
        return see(seen, obj) < 0 ? -1 : put_bytes(writer, obj);
    return put_number(writer, obj, type);
}

static int put_sequence(struct writer *writer, uint8_t tag, PyObject **items, Py_ssize_t count) {
    struct seen seen;

    if (count > CONTAINER_MAX || writer->end - writer->at < 2)
        return -1;
    *writer->at++ = tag;
    *writer->at++ = (uint8_t)count;
    memset(seen.filter, 0, sizeof(seen.filter));
    seen.count = 0;
    for (Py_ssize_t i = 0; i < count; i++)
        if (put_member(writer, items[i], &seen) < 0)
            return -1;
    return 0;
}

static int put_dict(struct writer *writer, PyObject *obj) {
    Py_ssize_t pos = 0, count = PyDict_GET_SIZE(obj);
    PyObject *key, *value;
    struct seen seen;

    if (count > CONTAINER_MAX || writer->end - writer->at < 2)
        return -1;
    *writer->at++ = VALUE_DICT;
    *writer->at++ = (uint8_t)count;
    memset(seen.filter, 0, sizeof(seen.filter));
    seen.count = 0;
    while (PyDict_Next(obj, &pos, &key, &value))
        if (put_member(writer, key, &seen) < 0 || put_member(writer, value, &seen) < 0)
            return -1;
    return 0;
}

Py_ssize_t fastipc_encode(PyObject *obj, uint8_t *buffer, Py_ssize_t size) {
    struct writer writer = {buffer, buffer + size};
    PyTypeObject *type = Py_TYPE(obj);
    int rc;

    if (type == &PyTuple_Type)
        rc = put_sequence(&writer, VALUE_TUPLE, ((PyTupleObject *)obj)->ob_item,
                          PyTuple_GET_SIZE(obj));
    else if (type == &PyDict_Type)
        rc = put_dict(&writer, obj);
    else if (type == &PyUnicode_Type)
        rc = put_str(&writer, obj);
    else if (type == &PyBytes_Type)
        rc = put_bytes(&writer, obj);
    else if (type == &PyList_Type)
        rc =
            put_sequence(&writer, VALUE_LIST, ((PyListObject *)obj)->ob_item, PyList_GET_SIZE(obj));
    else
        rc = put_number(&writer, obj, type);
    return rc < 0 ? -1 : writer.at - buffer;
}

/* ---- decoding ---- */

static PyObject *damaged(void) {
    errno = EBADMSG;
    return PyErr_SetFromErrno(PyExc_OSError);
}

static int take(struct reader *reader, void *out, Py_ssize_t size) {
    if (reader->end - reader->at < size)
        return -1;
    memcpy(out, reader->at, (size_t)size);
    reader->at += size;
    return 0;
}

static int take_size(struct reader *reader, int wide, Py_ssize_t *size) {
    uint32_t size32 = 0;

    /* Little-endian: one byte fills the low end. */
    if (take(reader, &size32, wide ? 4 : 1) < 0 || reader->end - reader->at < (Py_ssize_t)size32)
        return -1;
    *size = (Py_ssize_t)size32;
    return 0;
}

static inline int is_ascii(const uint8_t *data, Py_ssize_t size) {
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

/* Keys of dicts that were decoded lately, ASCII, by a hash of their content. A key that is
 * found here costs neither an object nor its hash: a dict of five keys takes 2,200
 * instructions instead of 3,600. Never a value: pickle makes a new object of each str in a
 * message, and two equal keys cannot be in one dict. */
#define KEY_MIN 2 /* the interpreter keeps shorter ones itself */
#define KEY_MAX 32
static PyObject *recent_keys[256];

static PyObject **recent_key(const uint8_t *data, Py_ssize_t size) {
    uint64_t first = 0, last = 0;

    if (size >= 8) {
        memcpy(&first, data, 8);
        memcpy(&last, data + size - 8, 8);
    } else if (size >= 4) {
        memcpy(&first, data, 4);
        memcpy(&last, data + size - 4, 4);
    } else {
        memcpy(&first, data, 2);
        last = data[size - 1];
    }
    first = (first ^ (last << 29 | last >> 35) ^ (uint64_t)size) * UINT64_C(0x9E3779B97F4A7C15);
    return &recent_keys[first >> 56];
}

static PyObject *get_key_str(const uint8_t *data, Py_ssize_t size) {
    PyObject **recent, *key;

    if (size < KEY_MIN || size > KEY_MAX)
        return get_str(data, size);
    recent = recent_key(data, size);
    key = *recent;
    if (key != NULL && PyUnicode_GET_LENGTH(key) == size &&
        memcmp(PyUnicode_1BYTE_DATA(key), data, (size_t)size) == 0)
        return Py_NewRef(key);
    key = get_str(data, size);
    if (key != NULL && PyUnicode_IS_COMPACT_ASCII(key))
        Py_XSETREF(*recent, Py_NewRef(key));
    return key;
}

static PyObject *get_scalar(struct reader *reader, uint8_t tag) {
    union {
        int8_t int8;
        int32_t int32;
        int64_t int64;
        double real;
    } value;
    PyObject *object;
    Py_ssize_t size;

    switch (tag) {
    case VALUE_NONE:
        return Py_NewRef(Py_None);
    case VALUE_TRUE:
        return Py_NewRef(Py_True);
    case VALUE_FALSE:
        return Py_NewRef(Py_False);
    case VALUE_INT8:
        return take(reader, &value.int8, 1) < 0 ? damaged() : PyLong_FromLong(value.int8);
    case VALUE_INT32:
        return take(reader, &value.int32, 4) < 0 ? damaged() : PyLong_FromLong(value.int32);
    case VALUE_INT64:
        return take(reader, &value.int64, 8) < 0 ? damaged() : PyLong_FromLongLong(value.int64);
    case VALUE_FLOAT:
        return take(reader, &value.real, 8) < 0 ? damaged() : PyFloat_FromDouble(value.real);
    case VALUE_STR8:
    case VALUE_STR32:
        if (take_size(reader, tag == VALUE_STR32, &size) < 0)
            return damaged();
        object = get_str(reader->at, size);
        reader->at += size;
        return object;
    case VALUE_BYTES8:
    case VALUE_BYTES32:
        if (take_size(reader, tag == VALUE_BYTES32, &size) < 0)
            return damaged();
        object = PyBytes_FromStringAndSize((const char *)reader->at, size);
        reader->at += size;
        return object;
    default:
        return damaged();
    }
}

static PyObject *get_member(struct reader *reader) {
    uint8_t tag;

    return take(reader, &tag, 1) < 0 ? damaged() : get_scalar(reader, tag);
}

static PyObject *get_key(struct reader *reader) {
    PyObject *key;
    uint8_t size;

    if (reader->end - reader->at < 2 || reader->at[0] != VALUE_STR8)
        return get_member(reader);
    size = reader->at[1];
    if (reader->end - reader->at - 2 < size)
        return damaged();
    key = get_key_str(reader->at + 2, size);
    reader->at += 2 + size;
    return key;
}

static PyObject *get_dict(struct reader *reader, Py_ssize_t count) {
    PyObject *dict = PyDict_New();

    for (Py_ssize_t i = 0; dict != NULL && i < count; i++) {
        PyObject *key = get_key(reader);
        PyObject *value = key != NULL ? get_member(reader) : NULL;

        if (value == NULL || PyDict_SetItem(dict, key, value) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    if (dict != NULL && PyDict_GET_SIZE(dict) != count) {
        Py_DECREF(dict);
        return damaged(); /* a key twice */
    }
    return dict;
}

static PyObject *get_sequence(struct reader *reader, uint8_t tag, Py_ssize_t count) {
    PyObject *result = tag == VALUE_TUPLE ? PyTuple_New(count) : PyList_New(count);

    for (Py_ssize_t i = 0; result != NULL && i < count; i++) {
        PyObject *member = get_member(reader);

        if (member == NULL)
            Py_CLEAR(result);
        else if (tag == VALUE_TUPLE)
            PyTuple_SET_ITEM(result, i, member);
        else
            PyList_SET_ITEM(result, i, member);
    }
    return result;
}

PyObject *fastipc_decode(const uint8_t *data, Py_ssize_t size) {
    struct reader reader = {data, data + size};
    PyObject *result;
    uint8_t tag, count = 0;

    if (take(&reader, &tag, 1) < 0)
        return damaged();
    if (tag != VALUE_TUPLE && tag != VALUE_LIST && tag != VALUE_DICT)
        result = get_scalar(&reader, tag);
    else if (take(&reader, &count, 1) < 0)
        return damaged();
    else if (tag == VALUE_DICT)
        result = get_dict(&reader, count);
    else
        result = get_sequence(&reader, tag, count);
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
