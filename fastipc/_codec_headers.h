/* _codec_headers.h - what an instance's code begins with: the names of its class and of its
 * attributes; and whether it is for the codec. The decoder's side is _codec_shapes.h. */
#ifndef FASTIPC_CODEC_HEADERS_H
#define FASTIPC_CODEC_HEADERS_H

#include <Python.h>
#include <stdint.h>

struct fastipc_header {
    Py_ssize_t bytes;
    const uint8_t *data;
};

/* Whether instances of a class may be for the codec, as far as the class tells. Runs no Python
 * code. */
int fastipc_header_is_for(PyTypeObject *type);

/* The header of an instance of such a class with attributes that have these keys: borrowed, until the
 * next call; or NULL, without an exception: it is for pickle. `is_checked`: this message has an
 * instance of the class already. Runs no Python code. */
const struct fastipc_header *fastipc_header_of(PyTypeObject *type, PyObject *const *keys,
                                               Py_ssize_t count, int is_checked);

#endif
