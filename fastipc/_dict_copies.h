/* _dict_copies.h - dicts that are made by copying one with the same keys, and then given
 * their values in place: no key is looked up; and dicts read in place. Knows how CPython 3.11 to
 * 3.13 lay out a dict; for all others there is none, and callers do without. */
#ifndef FASTIPC_DICT_COPIES_H
#define FASTIPC_DICT_COPIES_H

#include <Python.h>

/* As the interpreter has them for a dict whose keys are all str. */
struct fastipc_dict_entry {
    PyObject *key;
    PyObject *value;
};

/* The entries of a dict all of whose keys are of exact type str, borrowed as long as nothing
 * changes the dict, and in *count how many; where a value is NULL there is none. NULL: read this
 * dict with PyDict_Next(). */
const struct fastipc_dict_entry *fastipc_dict_entries(PyObject *dict, Py_ssize_t *count);

/* A new dict with the keys of `dict`, each with the value None, for fastipc_dict_copy(); NULL,
 * without an exception: there is none for this dict, or for this interpreter. */
PyObject *fastipc_dict_template(PyObject *dict);

/* A copy of a template, and in *entries its entries, in the order of the keys: to be given their
 * values before anybody else sees the dict, or to be dropped with it. What stands there as a value
 * is NULL, or an immortal None; neither is to be given up. The collector does not track the dict:
 * whoever puts something in that it tracks calls PyObject_GC_Track(). NULL with an exception:
 * MemoryError. */
PyObject *fastipc_dict_copy(PyObject *template, struct fastipc_dict_entry **entries);

#endif
