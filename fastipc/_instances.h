/* _instances.h - the attributes of instances of ordinary classes: read and filled where the
 * interpreter keeps them. Knows how CPython 3.11 to 3.13 lay them out; on all others they go
 * through the instance's __dict__. */
#ifndef FASTIPC_INSTANCES_H
#define FASTIPC_INSTANCES_H

#include <Python.h>

/* An instance that has more is for pickle. */
#define FASTIPC_ATTRIBUTES_MAX 64

/* Where the instances of a class keep the attributes that have some keys, in the order of
 * these. */
struct fastipc_places {
    const void *shared_keys; /* the interpreter's; NULL: there are no such places */
    uint8_t place[32];
};

/* The attributes of an instance of a plain class (_classes.h), in their order, all borrowed, and
 * in *dict its __dict__ if it has been made, or NULL. Returns how many they are, or -1: they are
 * not for the codec. Makes no object and runs no code. */
Py_ssize_t fastipc_instance_read(PyObject *obj, PyObject **keys, PyObject **values,
                                 PyObject **dict);

/* Looks where `obj`, which has these attributes, keeps them. */
void fastipc_instance_find_places(PyObject *obj, PyObject *const *keys, Py_ssize_t count,
                                  struct fastipc_places *places);

/* Gives a new instance of a plain class its attributes, whose values become its own: 1; or 0, it
 * keeps them elsewhere, and nothing was done. */
int fastipc_instance_fill(PyObject *obj, const struct fastipc_places *places, PyObject *const *keys,
                          PyObject *const *values, Py_ssize_t count);

#endif
