/* _codec.c - see _codec.h. One tag byte before each value; lengths and integers are
 * little-endian as the machine has them: both sides run on the same machine. */
#define PY_SSIZE_T_CLEAN
#include "_codec.h"

#include <errno.h>
#include <string.h>

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

/* Containers up to here: finding out whether a str or bytes occurs twice compares
 * each with each, and pickle is as fast for long ones. */
#define CONTAINER_MAX 32

struct writer {
    uint8_t *at;
    uint8_t *end;
};

struct reader {
    const uint8_t *at;
    const uint8_t *end;
};

/* ---- encoding ---- */

static int put_sized(struct writer *writer, uint8_t tag8, uint8_t tag32, const char *data,
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

static int put_int(struct writer *writer, PyObject *obj) {
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(obj, &overflow);

    if (overflow != 0 || writer->end - writer->at < 9)
        return -1;
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

static int put_str(struct writer *writer, PyObject *obj) {
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

static int put_scalar(struct writer *writer, PyObject *obj) {
    if (PyLong_CheckExact(obj))
        return put_int(writer, obj);
    if (PyUnicode_CheckExact(obj))
        return put_str(writer, obj);
    if (PyFloat_CheckExact(obj)) {
        double value = PyFloat_AS_DOUBLE(obj);

        if (writer->end - writer->at < 9)
            return -1;
        *writer->at++ = VALUE_FLOAT;
        memcpy(writer->at, &value, 8);
        writer->at += 8;
        return 0;
    }
    if (PyBytes_CheckExact(obj))
        return put_sized(writer, VALUE_BYTES8, VALUE_BYTES32, PyBytes_AS_STRING(obj),
                         PyBytes_GET_SIZE(obj));
    if (writer->at == writer->end)
        return -1;
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

/* Remembers the str and bytes objects of a container; pickle would send the second
 * occurrence as a reference to the first. */
struct seen {
    PyObject *object[2 * CONTAINER_MAX];
    int count;
};

static int put_member(struct writer *writer, PyObject *obj, struct seen *seen) {
    if (PyUnicode_CheckExact(obj) || PyBytes_CheckExact(obj)) {
        for (int i = 0; i < seen->count; i++)
            if (seen->object[i] == obj)
                return -1;
        seen->object[seen->count++] = obj;
    }
    return put_scalar(writer, obj);
}

static int put_sequence(struct writer *writer, uint8_t tag, PyObject **items, Py_ssize_t count) {
    struct seen seen;

    if (count > CONTAINER_MAX || writer->end - writer->at < 2)
        return -1;
    *writer->at++ = tag;
    *writer->at++ = (uint8_t)count;
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
    seen.count = 0;
    while (PyDict_Next(obj, &pos, &key, &value))
        if (put_member(writer, key, &seen) < 0 || put_member(writer, value, &seen) < 0)
            return -1;
    return 0;
}

Py_ssize_t fastipc_encode(PyObject *obj, uint8_t *buffer, Py_ssize_t size) {
    struct writer writer = {buffer, buffer + size};
    int rc;

    if (PyTuple_CheckExact(obj))
        rc = put_sequence(&writer, VALUE_TUPLE, ((PyTupleObject *)obj)->ob_item,
                          PyTuple_GET_SIZE(obj));
    else if (PyDict_CheckExact(obj))
        rc = put_dict(&writer, obj);
    else if (PyList_CheckExact(obj))
        rc =
            put_sequence(&writer, VALUE_LIST, ((PyListObject *)obj)->ob_item, PyList_GET_SIZE(obj));
    else
        rc = put_scalar(&writer, obj);
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

static PyObject *get_str(const uint8_t *data, Py_ssize_t size) {
    PyObject *str;
    Py_ssize_t i = 0;

    for (; i + 8 <= size; i += 8) {
        uint64_t word;

        memcpy(&word, data + i, 8);
        if (word & UINT64_C(0x8080808080808080))
            return PyUnicode_DecodeUTF8((const char *)data, size, NULL);
    }
    for (; i < size; i++)
        if (data[i] & 0x80)
            return PyUnicode_DecodeUTF8((const char *)data, size, NULL);
    if (size <= 1)
        return PyUnicode_FromStringAndSize((const char *)data, size);
    str = PyUnicode_New(size, 127);
    if (str != NULL)
        memcpy(PyUnicode_DATA(str), data, (size_t)size);
    return str;
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

static PyObject *get_dict(struct reader *reader, Py_ssize_t count) {
    PyObject *dict = PyDict_New();

    for (Py_ssize_t i = 0; dict != NULL && i < count; i++) {
        PyObject *key = get_member(reader);
        PyObject *value = key != NULL ? get_member(reader) : NULL;

        if (value == NULL || PyDict_SetItem(dict, key, value) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    return dict;
}

PyObject *fastipc_decode(const uint8_t *data, Py_ssize_t size) {
    struct reader reader = {data, data + size};
    PyObject *result = NULL;
    uint8_t tag, count = 0;

    if (take(&reader, &tag, 1) < 0)
        return damaged();
    if (tag != VALUE_TUPLE && tag != VALUE_LIST && tag != VALUE_DICT)
        return get_scalar(&reader, tag);
    if (take(&reader, &count, 1) < 0)
        return damaged();
    if (tag == VALUE_DICT)
        return get_dict(&reader, count);
    result = tag == VALUE_TUPLE ? PyTuple_New(count) : PyList_New(count);
    for (Py_ssize_t i = 0; result != NULL && i < count; i++) {
        PyObject *member = get_member(&reader);

        if (member == NULL)
            Py_CLEAR(result);
        else if (tag == VALUE_TUPLE)
            PyTuple_SET_ITEM(result, i, member);
        else
            PyList_SET_ITEM(result, i, member);
    }
    return result;
}
