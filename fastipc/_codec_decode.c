/* _codec_decode.c - bytes to objects; see _codec.h and _codec_values.h. Trusts nothing that it
 * reads: what stands for no object is an error. */
#define PY_SSIZE_T_CLEAN
#include "_codec_dicts.h"

/* Code that runs in the middle of a message shall not meet what is half made. */
ALWAYS_INLINE int hide(const struct memo *memo, PyObject *made) {
    if (memo == NULL || !memo->has_objects || made == NULL || !PyObject_GC_IsTracked(made))
        return 0;
    PyObject_GC_UnTrack(made);
    return 1;
}

ALWAYS_INLINE PyObject *get_tuple(struct reader *start, struct memo *memo, Py_ssize_t count) {
    struct reader reader = *start;
    PyObject *result = PyTuple_New(count);
    int hidden = count != 0 && hide(memo, result);

    for (Py_ssize_t i = 0; result != NULL && i < count; i++) {
        PyObject *member = get_value(&reader, memo);

        if (member == NULL)
            Py_CLEAR(result);
        else
            PyTuple_SET_ITEM(result, i, member);
    }
    if (hidden && result != NULL)
        PyObject_GC_Track(result);
    *start = reader;
    return result;
}

ALWAYS_INLINE PyObject *get_list(struct reader *start, struct memo *memo, Py_ssize_t count) {
    struct reader reader = *start;
    PyObject *result = PyList_New(count);
    int hidden = hide(memo, result);

    for (Py_ssize_t i = 0; result != NULL && i < count; i++) {
        PyObject *member = get_value(&reader, memo);

        if (member == NULL)
            Py_CLEAR(result);
        else
            PyList_SET_ITEM(result, i, member);
    }
    if (hidden && result != NULL)
        PyObject_GC_Track(result);
    *start = reader;
    return result;
}

/* The header at reader->at, behind the number of attributes: its number, or -1 with an exception. */
static int get_header(struct reader *reader, struct memo *memo, Py_ssize_t count) {
    struct fastipc_shape *shape;
    uint16_t names_bytes;

    if (reader->end - reader->at < 2 || memo->header_count == HEADERS_MAX) {
        damaged();
        return -1;
    }
    memcpy(&names_bytes, reader->at, 2);
    reader->at += 2;
    if (reader->end - reader->at < names_bytes) {
        damaged();
        return -1;
    }
    shape = fastipc_shape_of(reader->at, names_bytes, count, &memo->type[memo->header_count]);
    if (shape == NULL)
        return -1;
    reader->at += names_bytes;
    memo->shape[memo->header_count] = shape;
    return memo->header_count++;
}

/* The instance whose code stands at reader->at, behind the tag and one byte. */
static PyObject *get_object(struct reader *reader, struct memo *memo, uint8_t tag, uint8_t byte) {
    PyObject *values[FASTIPC_ATTRIBUTES_MAX];
    struct fastipc_shape *shape;
    Py_ssize_t done;
    int number;

    if (!memo->has_objects)
        return damaged();
    if (tag == VALUE_OBJECT) {
        number = get_header(reader, memo, byte);
        if (number < 0)
            return NULL;
    } else {
        number = byte;
        if (number >= memo->header_count)
            return damaged();
    }
    shape = memo->shape[number];
    for (done = 0; done < shape->count; done++) {
        values[done] = get_value(reader, memo);
        if (values[done] == NULL)
            break;
    }
    if (done == shape->count)
        return fastipc_shape_make(shape, memo->type[number], values);
    while (done-- > 0)
        Py_DECREF(values[done]);
    return NULL;
}

ALWAYS_INLINE PyObject *get_container_of(struct reader *reader, struct memo *memo, uint8_t tag,
                                         Py_ssize_t count) {
    if (tag == VALUE_DICT)
        return get_dict(reader, memo, count);
    if (tag == VALUE_TUPLE)
        return get_tuple(reader, memo, count);
    return get_list(reader, memo, count);
}

/* The container at `at`, in memo->result; returns what is behind it. */
static const uint8_t *get_container(const uint8_t *at, const uint8_t *end, struct memo *memo) {
    struct reader reader = {at + 2, end};
    uint8_t tag;

    if (end - at < 2 || memo->depth == DEPTH_MAX) {
        memo->result = damaged();
        return end;
    }
    tag = *at & VALUE_IS_DEEP ? *at & ~(VALUE_IS_DEEP | VALUE_HAS_OBJECTS) : *at;
    memo->depth++;
    if (tag == VALUE_OBJECT || tag == VALUE_OBJECT_LIKE)
        memo->result = get_object(&reader, memo, tag, at[1]);
    else
        memo->result = get_container_of(&reader, memo, tag, at[1]);
    memo->depth--;
    return reader.at;
}

static const uint8_t *get_deep(const uint8_t *at, const uint8_t *end, PyObject **result) {
    struct memo memo;

    memo.count = memo.depth = memo.dicts = memo.header_count = 0;
    memo.filter = 0;
    memo.has_objects = fastipc_has_objects(at, end - at);
    at = get_container(at, end, &memo);
    if (memo.has_objects) {
        while (memo.count > 0)
            Py_DECREF(memo.object[--memo.count]);
        while (memo.header_count-- > 0) {
            fastipc_shape_release(memo.shape[memo.header_count]);
            Py_DECREF(memo.type[memo.header_count]);
        }
    }
    *result = memo.result;
    return at;
}

/* Whether a message begins with the tag of a container that says that it is deep. */
ALWAYS_INLINE int is_deep(uint8_t tag) {
    uint8_t plain = tag & ~(VALUE_IS_DEEP | VALUE_HAS_OBJECTS);

    return tag & VALUE_IS_DEEP && (plain == VALUE_TUPLE || plain == VALUE_DICT ||
                                   plain == VALUE_LIST || plain == VALUE_OBJECT);
}

PyObject *fastipc_decode(const uint8_t *data, Py_ssize_t size) {
    struct reader reader = {data, data + size};
    uint8_t tag = size < 2 ? 0 : *data;
    PyObject *result;

    if (tag == VALUE_TUPLE || tag == VALUE_DICT || tag == VALUE_LIST) {
        reader.at += 2;
        result = get_container_of(&reader, NULL, tag, data[1]);
    } else if (is_deep(tag)) {
        reader.at = get_deep(data, reader.end, &result);
    } else {
        result = get_value(&reader, NULL);
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
