/* _codec_decode.c - bytes to objects; see _codec.h and _codec_values.h. Trusts nothing that it
 * reads: what stands for no object is an error. */
#define PY_SSIZE_T_CLEAN
#include "_codec.h"

#include <errno.h>
#include <string.h>

#include "_codec_shapes.h"
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
        return PyLong_FromLong(value.int32);
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
} templates[64];

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
        Py_DECREF(Py_None);
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
