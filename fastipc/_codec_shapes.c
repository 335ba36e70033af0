/* _codec_shapes.c - see _codec_shapes.h. */
#define PY_SSIZE_T_CLEAN
#include "_codec_shapes.h"

#include <errno.h>
#include <string.h>

#include "_codec_values.h"

static PyObject *pickle_loads;
static PyObject *unpickling_error;
static PyObject *setstate_name;
static PyObject *dict_name;
static PyObject *no_arguments;

int fastipc_shapes_init(PyObject *loads, PyObject *error) {
    if (no_arguments == NULL) {
        setstate_name = PyUnicode_InternFromString("__setstate__");
        dict_name = PyUnicode_InternFromString("__dict__");
        no_arguments = PyTuple_New(0);
        if (setstate_name == NULL || dict_name == NULL || no_arguments == NULL)
            return -1;
    }
    Py_XSETREF(pickle_loads, Py_NewRef(loads));
    Py_XSETREF(unpickling_error, Py_NewRef(error));
    return 0;
}

static __attribute__((cold)) void *damaged(void) {
    errno = EBADMSG;
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* ---- finding shapes ---- */

#define SHAPES 128
static struct fastipc_shape *shapes[SHAPES];

static uint64_t hash_names(const uint8_t *names, Py_ssize_t bytes) {
    uint64_t hash = (uint64_t)bytes, word;
    Py_ssize_t i = 0;

    for (; i + 8 <= bytes; i += 8) {
        memcpy(&word, names + i, 8);
        hash = (hash ^ word) * UINT64_C(0x9E3779B97F4A7C15);
        hash ^= hash >> 32;
    }
    for (word = 0; i < bytes; i++)
        word = word << 8 | names[i];
    hash = (hash ^ word) * UINT64_C(0x9E3779B97F4A7C15);
    return hash ^ hash >> 32;
}

static int is_shape(const struct fastipc_shape *shape, uint64_t hash, const uint8_t *names,
                    Py_ssize_t names_bytes, Py_ssize_t count) {
    return shape != NULL && shape->hash == hash && shape->names_bytes == names_bytes &&
           shape->count == count && memcmp(shape->names, names, (size_t)names_bytes) == 0;
}

/* Borrowed, or NULL: none is kept. Each has two places. */
static struct fastipc_shape *kept_shape(uint64_t hash, const uint8_t *names, Py_ssize_t names_bytes,
                                        Py_ssize_t count) {
    struct fastipc_shape *shape = shapes[hash % SHAPES];

    if (is_shape(shape, hash, names, names_bytes, count))
        return shape;
    shape = shapes[hash % SHAPES ^ 1];
    return is_shape(shape, hash, names, names_bytes, count) ? shape : NULL;
}

/* The one that was used last goes to the other place. */
static void keep_shape(struct fastipc_shape *shape) {
    struct fastipc_shape **first = &shapes[shape->hash % SHAPES];
    struct fastipc_shape **second = &shapes[shape->hash % SHAPES ^ 1];
    struct fastipc_shape *dropped = *second;

    *second = *first;
    *first = shape;
    shape->refs++;
    if (dropped != NULL)
        fastipc_shape_release(dropped);
}

void fastipc_shape_release(struct fastipc_shape *shape) {
    if (--shape->refs != 0)
        return;
    fastipc_class_name_clear(&shape->name);
    for (Py_ssize_t i = 0; i < shape->count; i++)
        Py_XDECREF(shape->keys[i]);
    PyMem_Free(shape->names);
    PyMem_Free(shape);
}

/* The name at *at, which is passed; NULL with an exception. */
static PyObject *pass_name(const uint8_t **at, const uint8_t *end) {
    const uint8_t *name = *at + 1;

    if (*at >= end || end - name < **at)
        return damaged();
    *at = name + name[-1];
    for (const uint8_t *each = name; each < *at; each++)
        if (*each >= 128)
            return damaged();
    return PyUnicode_FromStringAndSize((const char *)name, name[-1]);
}

/* Fills in what the names are; -1 with an exception. */
static int read_names(struct fastipc_shape *shape) {
    const uint8_t *at = shape->names, *end = at + shape->names_bytes;

    if ((shape->name.module = pass_name(&at, end)) == NULL ||
        (shape->name.qualname = pass_name(&at, end)) == NULL ||
        fastipc_class_split(&shape->name) < 0)
        return -1;
    for (Py_ssize_t i = 0; i < shape->count; i++) {
        if ((shape->keys[i] = pass_name(&at, end)) == NULL)
            return -1;
        for (Py_ssize_t other = 0; other < i; other++)
            if (PyUnicode_Compare(shape->keys[i], shape->keys[other]) == 0) {
                damaged();
                return -1;
            }
    }
    if (at != end || PyUnicode_GET_LENGTH(shape->name.module) == 0 ||
        PyUnicode_GET_LENGTH(shape->name.qualname) == 0) {
        damaged();
        return -1;
    }
    return 0;
}

static struct fastipc_shape *make_shape(uint64_t hash, const uint8_t *names, Py_ssize_t names_bytes,
                                        Py_ssize_t count) {
    struct fastipc_shape *shape = PyMem_Calloc(1, sizeof(*shape));

    if (shape == NULL || (shape->names = PyMem_Malloc((size_t)names_bytes + 1)) == NULL) {
        PyMem_Free(shape);
        PyErr_NoMemory();
        return NULL;
    }
    memcpy(shape->names, names, (size_t)names_bytes);
    shape->names_bytes = names_bytes;
    shape->hash = hash;
    shape->count = count;
    shape->refs = 1;
    if (read_names(shape) < 0) {
        fastipc_shape_release(shape);
        return NULL;
    }
    return shape;
}

/* ---- finding classes ---- */

/* What pickle's STACK_GLOBAL gives for these names. */
static PyObject *load_class(const struct fastipc_class_name *name) {
    Py_ssize_t module_size = PyUnicode_GET_LENGTH(name->module);
    Py_ssize_t qualname_size = PyUnicode_GET_LENGTH(name->qualname);
    PyObject *pickled =
        PyBytes_FromStringAndSize(NULL, 2 + 2 + module_size + 2 + qualname_size + 2);
    PyObject *found;
    char *at;

    if (pickled == NULL)
        return NULL;
    at = PyBytes_AS_STRING(pickled);
    *at++ = '\x80';
    *at++ = 5;
    *at++ = '\x8c';
    *at++ = (char)module_size;
    memcpy(at, PyUnicode_1BYTE_DATA(name->module), (size_t)module_size);
    at += module_size;
    *at++ = '\x8c';
    *at++ = (char)qualname_size;
    memcpy(at, PyUnicode_1BYTE_DATA(name->qualname), (size_t)qualname_size);
    at += qualname_size;
    *at++ = '\x93';
    *at++ = '.';
    found = PyObject_CallOneArg(pickle_loads, pickled);
    Py_DECREF(pickled);
    return found;
}

/* Whether the instances of a class, which was found for the shape, are made without its code. */
static int is_plain_now(const struct fastipc_shape *shape, const PyObject *type) {
    return shape->version != 0 && PyType_Check(type) &&
           fastipc_class_version((const PyTypeObject *)type) == shape->version;
}

static PyObject *find_class(struct fastipc_shape *shape) {
    PyObject *type = (PyObject *)fastipc_class_find(&shape->name);

    if (type != NULL && is_plain_now(shape, type)) {
        Py_INCREF(type);
        /* As pickle does. */
        if (PySys_Audit("pickle.find_class", "OO", shape->name.module, shape->name.qualname) < 0)
            Py_CLEAR(type);
        return type;
    }
    type = load_class(&shape->name);
    if (type == NULL)
        return NULL;
    shape->version = 0;
    if (PyType_Check(type) && fastipc_class_is_plain((PyTypeObject *)type)) {
        shape->version = fastipc_class_version((PyTypeObject *)type);
        shape->places.shared_keys = NULL;
    }
    return type;
}

struct fastipc_shape *fastipc_shape_of(const uint8_t *names, Py_ssize_t names_bytes,
                                       Py_ssize_t count, PyObject **type) {
    uint64_t hash = hash_names(names, names_bytes);
    struct fastipc_shape *shape = kept_shape(hash, names, names_bytes, count);
    int is_kept = shape != NULL;

    if (is_kept) {
        shape->refs++;
    } else {
        if (count > FASTIPC_ATTRIBUTES_MAX || names_bytes > OBJECT_HEADER_MAX)
            return damaged();
        shape = make_shape(hash, names, names_bytes, count);
        if (shape == NULL)
            return NULL;
    }
    *type = find_class(shape);
    if (*type == NULL) {
        fastipc_shape_release(shape);
        return NULL;
    }
    if (!is_kept) {
        /* Not before the class was there: interned strings may stay for ever. */
        for (Py_ssize_t i = 0; i < count; i++)
            PyUnicode_InternInPlace(&shape->keys[i]);
        keep_shape(shape);
    }
    return shape;
}

/* ---- making instances ---- */

static void drop(PyObject **values, Py_ssize_t count) {
    for (Py_ssize_t i = 0; i < count; i++)
        Py_DECREF(values[i]);
}

/* Sets what pickle would set in the __dict__; the class has no say. */
static int set_attribute(PyObject *obj, PyObject *key, PyObject *value) {
    PyObject *descriptor = _PyType_Lookup(Py_TYPE(obj), key), *dict;
    int rc;

    /* Where nothing is in the way, so that the names are shared with the class's others. */
    if (descriptor == NULL || Py_TYPE(descriptor)->tp_descr_set == NULL)
        return PyObject_GenericSetAttr(obj, key, value);
    dict = PyObject_GenericGetDict(obj, NULL);
    if (dict == NULL)
        return -1;
    rc = PyDict_SetItem(dict, key, value);
    Py_DECREF(dict);
    return rc;
}

static PyObject *make_plain(struct fastipc_shape *shape, PyTypeObject *type, PyObject **values) {
    PyObject *obj = type->tp_new(type, no_arguments, NULL);

    if (obj != NULL &&
        fastipc_instance_fill(obj, &shape->places, shape->keys, values, shape->count))
        return obj;
    for (Py_ssize_t i = 0; obj != NULL && i < shape->count; i++)
        if (set_attribute(obj, shape->keys[i], values[i]) < 0)
            Py_CLEAR(obj);
    if (obj != NULL)
        fastipc_instance_find_places(obj, shape->keys, shape->count, &shape->places);
    drop(values, shape->count);
    return obj;
}

/* A new dict with the attributes. */
static PyObject *state_of(const struct fastipc_shape *shape, PyObject **values) {
    PyObject *state = PyDict_New();

    for (Py_ssize_t i = 0; state != NULL && i < shape->count; i++)
        if (PyDict_SetItem(state, shape->keys[i], values[i]) < 0)
            Py_CLEAR(state);
    return state;
}

/* What pickle's BUILD does with a dict. */
static int build(PyObject *obj, const struct fastipc_shape *shape, PyObject **values) {
    PyObject *setstate = PyObject_GetAttr(obj, setstate_name), *state, *result, *dict;
    int rc = 0;

    if (setstate == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError))
            return -1;
        PyErr_Clear();
        dict = PyObject_GetAttr(obj, dict_name);
        if (dict == NULL)
            return -1;
        for (Py_ssize_t i = 0; rc == 0 && i < shape->count; i++)
            rc = PyObject_SetItem(dict, shape->keys[i], values[i]);
        Py_DECREF(dict);
        return rc;
    }
    state = state_of(shape, values);
    result = state != NULL ? PyObject_CallOneArg(setstate, state) : NULL;
    Py_XDECREF(state);
    Py_DECREF(setstate);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static PyObject *make_by_class(const struct fastipc_shape *shape, PyObject *type,
                               PyObject **values) {
    PyObject *obj = NULL;

    if (!PyType_Check(type))
        PyErr_Format(unpickling_error, "NEWOBJ class argument must be a type, not %.200s",
                     Py_TYPE(type)->tp_name);
    else if (((PyTypeObject *)type)->tp_new == NULL)
        PyErr_Format(unpickling_error, "NEWOBJ class argument '%.200s' has NULL tp_new",
                     ((PyTypeObject *)type)->tp_name);
    else
        obj = ((PyTypeObject *)type)->tp_new((PyTypeObject *)type, no_arguments, NULL);
    /* Without attributes pickle has no state to build with. */
    if (obj != NULL && shape->count != 0 && build(obj, shape, values) < 0)
        Py_CLEAR(obj);
    drop(values, shape->count);
    return obj;
}

PyObject *fastipc_shape_make(struct fastipc_shape *shape, PyObject *type, PyObject **values) {
    if (is_plain_now(shape, type))
        return make_plain(shape, (PyTypeObject *)type, values);
    return make_by_class(shape, type, values);
}
