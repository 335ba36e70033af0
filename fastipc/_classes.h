/* _classes.h - which classes the codec takes the instances of, and how a class is found by its
 * name. Knows what pickle and copyreg would do with them; how an instance keeps its attributes
 * is _instances.h's. */
#ifndef FASTIPC_CLASSES_H
#define FASTIPC_CLASSES_H

#include <Python.h>

/* As pickle names a class. Owned references; all three are exact str, or a tuple of them. */
struct fastipc_class_name {
    PyObject *module;
    PyObject *qualname;
    PyObject *parts; /* of a qualname with dots; else NULL */
};

/* The tables that decide what pickle does: of multiprocessing.reduction, its class
 * ForkingPickler; of copyreg, dispatch_table and _extension_registry. Called once, at import:
 * 0, or -1 with an exception. Without it no class is plain. */
int fastipc_classes_init(PyObject *forking_pickler, PyObject *dispatch_table,
                         PyObject *extension_registry);

/* A number that no other class has, nor this one after a change of its attributes or bases; 0: the
 * interpreter has none for it. Runs no Python code. */
static inline unsigned int fastipc_class_version(const PyTypeObject *type) {
#if PY_VERSION_HEX < 0x030D0000
    if (!(type->tp_flags & Py_TPFLAGS_VALID_VERSION_TAG))
        return 0;
#endif
    return type->tp_version_tag;
}

/* Whether pickle makes of an instance: copyreg.__newobj__(type), then its __dict__ as the state;
 * and of that: object.__new__(type), then its __dict__ filled. It stays so as long as the
 * version of the class does. Runs no Python code. */
int fastipc_class_is_plain(PyTypeObject *type);

/* Whether something else is registered for the class at this moment. Runs no Python code. */
int fastipc_class_is_registered(PyTypeObject *type);

/* The names of a class: 0, or -1 without an exception: it has none that the codec takes. */
int fastipc_class_name(PyTypeObject *type, struct fastipc_class_name *name);

/* Splits a qualname that has dots: 0, or -1 with an exception. */
int fastipc_class_split(struct fastipc_class_name *name);

void fastipc_class_name_clear(struct fastipc_class_name *name);

/* The class that pickle would find under a name, if it is found without Python code: a borrowed
 * reference; or NULL, without an exception. */
PyTypeObject *fastipc_class_find(const struct fastipc_class_name *name);

/* object.__dict__'s like: where a class without one of its own has it from. Tells whether
 * getattr(instance, "__dict__") gives the dict of the instance itself. */
int fastipc_class_has_true_dict(PyTypeObject *type);

#endif
