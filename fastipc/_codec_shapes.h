/* _codec_shapes.h - the decoder's side of instances: the class that a header names is found as
 * pickle would find it, and the instance made as pickle would make it. A shape is what is kept
 * of a header for the next message: the names, and where such an instance keeps its attributes. */
#ifndef FASTIPC_CODEC_SHAPES_H
#define FASTIPC_CODEC_SHAPES_H

#include <Python.h>
#include <stdint.h>

#include "_classes.h"
#include "_instances.h"

struct fastipc_shape {
    unsigned int refs;
    unsigned int version; /* of the class for which it is plain; 0: of none */
    uint64_t hash;
    struct fastipc_class_name name;
    struct fastipc_places places;
    Py_ssize_t names_bytes;
    uint8_t *names;
    Py_ssize_t count;
    PyObject *keys[FASTIPC_ATTRIBUTES_MAX];
};

/* What raises the errors that pickle would. Called once, at import: 0, or -1 with an exception. */
int fastipc_shapes_init(PyObject *loads, PyObject *unpickling_error);

/* The shape for these names (_codec_values.h), and in *type a new reference to the class, which
 * may be none. May run Python code. NULL with an exception: OSError (EBADMSG), they are no
 * names; whatever an import raises. The names are copied before that. */
struct fastipc_shape *fastipc_shape_of(const uint8_t *names, Py_ssize_t names_bytes,
                                       Py_ssize_t count, PyObject **type);

/* A new instance of the class with these values, which are given up in any case; or NULL with an
 * exception. May run Python code if the class is not plain. */
PyObject *fastipc_shape_make(struct fastipc_shape *shape, PyObject *type, PyObject **values);

void fastipc_shape_release(struct fastipc_shape *shape);

#endif
