/* _classes.c - see _classes.h. */
#define PY_SSIZE_T_CLEAN
#include "_classes.h"

#include <string.h>

enum {
    NAME_REDUCE_EX,
    NAME_REDUCE,
    NAME_GETSTATE,
    NAME_CLASS,
    NAME_SETSTATE,
    NAME_GETNEWARGS,
    NAME_GETNEWARGS_EX,
    NAME_DICT,
    NAME_MODULE,
    NAME_SLOTS,
    NAME_SLOTNAMES,
    NAME_EXTRA_REDUCERS,
    NAMES,
};

static const char *const spelled[NAMES] = {
    [NAME_REDUCE_EX] = "__reduce_ex__",
    [NAME_REDUCE] = "__reduce__",
    [NAME_GETSTATE] = "__getstate__",
    [NAME_CLASS] = "__class__",
    [NAME_SETSTATE] = "__setstate__",
    [NAME_GETNEWARGS] = "__getnewargs__",
    [NAME_GETNEWARGS_EX] = "__getnewargs_ex__",
    [NAME_DICT] = "__dict__",
    [NAME_MODULE] = "__module__",
    [NAME_SLOTS] = "__slots__",
    [NAME_SLOTNAMES] = "__slotnames__",
    [NAME_EXTRA_REDUCERS] = "_extra_reducers",
};

static PyObject *names[NAMES];
static PyTypeObject *forking_pickler;
static PyObject *dispatch_table;
static PyObject *extension_registry;
static PyTypeObject *abc_meta;
static getter true_dict; /* what reads an instance's __dict__ */

static int learn_true_dict(void) {
    PyObject *probe = PyObject_CallFunction((PyObject *)&PyType_Type, "s(){}", "probe");
    PyObject *descriptor;

    if (probe == NULL)
        return -1;
    descriptor = _PyType_Lookup((PyTypeObject *)probe, names[NAME_DICT]);
    if (descriptor != NULL && Py_IS_TYPE(descriptor, &PyGetSetDescr_Type))
        true_dict = ((PyGetSetDescrObject *)descriptor)->d_getset->get;
    Py_DECREF(probe);
    return 0;
}

int fastipc_classes_init(PyObject *pickler, PyObject *table, PyObject *registry) {
    PyObject *abc, *meta;

    for (int i = 0; i < NAMES; i++)
        if (names[i] == NULL && (names[i] = PyUnicode_InternFromString(spelled[i])) == NULL)
            return -1;
    if (learn_true_dict() < 0)
        return -1;
    abc = PyImport_ImportModule("abc");
    meta = abc != NULL ? PyObject_GetAttrString(abc, "ABCMeta") : NULL;
    Py_XDECREF(abc);
    if (meta == NULL)
        return -1;
    if (!PyType_Check(meta) || !PyType_Check(pickler) || !PyDict_CheckExact(table) ||
        !PyDict_CheckExact(registry)) {
        Py_DECREF(meta);
        return 0;
    }
    Py_XSETREF(dispatch_table, Py_NewRef(table));
    Py_XSETREF(extension_registry, Py_NewRef(registry));
    Py_XSETREF(abc_meta, (PyTypeObject *)meta);
    Py_XSETREF(forking_pickler, (PyTypeObject *)Py_NewRef(pickler));
    return 0;
}

/* Whether what is looked up on a class is found as `type` does, and pickle takes it for a class
 * without asking anybody. */
static int has_known_metaclass(PyTypeObject *type) {
    return Py_IS_TYPE(type, &PyType_Type) || (abc_meta != NULL && Py_IS_TYPE(type, abc_meta));
}

static int is_absent(PyTypeObject *type, int name) {
    return _PyType_Lookup(type, names[name]) == NULL;
}

static int is_inherited_from_object(PyTypeObject *type, int name) {
    return _PyType_Lookup(type, names[name]) == _PyType_Lookup(&PyBaseObject_Type, names[name]);
}

/* Whether no class has slots, as copyreg looks for them. */
static int is_without_slots(PyTypeObject *type) {
    PyObject *mro = type->tp_mro, *found;

    if (mro == NULL || !PyTuple_CheckExact(mro))
        return 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(mro); i++) {
        PyTypeObject *base = (PyTypeObject *)PyTuple_GET_ITEM(mro, i);

        if (base == &PyBaseObject_Type)
            continue;
        if (!(base->tp_flags & Py_TPFLAGS_HEAPTYPE) || base->tp_dict == NULL)
            return 0;
        found = PyDict_GetItemWithError(base->tp_dict, names[NAME_SLOTS]);
        if (found != NULL && !(PyTuple_CheckExact(found) && PyTuple_GET_SIZE(found) == 0))
            return 0;
    }
    /* What copyreg has noted, or the program in its place. */
    found = PyDict_GetItemWithError(type->tp_dict, names[NAME_SLOTNAMES]);
    return found == NULL || (PyList_CheckExact(found) && PyList_GET_SIZE(found) == 0);
}

/* The same reckoning as object.__reduce_ex__ makes: there is nothing but a __dict__ and weak
 * references. */
static int has_plain_size(const PyTypeObject *type) {
    Py_ssize_t size = PyBaseObject_Type.tp_basicsize;

    if (type->tp_dictoffset > 0)
        size += (Py_ssize_t)sizeof(PyObject *);
    if (type->tp_weaklistoffset > 0)
        size += (Py_ssize_t)sizeof(PyObject *);
    return type->tp_itemsize == 0 && type->tp_dictoffset != 0 && type->tp_basicsize <= size;
}

int fastipc_class_has_true_dict(PyTypeObject *type) {
    PyObject *descriptor = _PyType_Lookup(type, names[NAME_DICT]);

    return descriptor != NULL && true_dict != NULL && Py_IS_TYPE(descriptor, &PyGetSetDescr_Type) &&
           ((PyGetSetDescrObject *)descriptor)->d_getset->get == true_dict;
}

int fastipc_class_is_plain(PyTypeObject *type) {
    int plain;

    if (forking_pickler == NULL || !(type->tp_flags & Py_TPFLAGS_HEAPTYPE) ||
        !has_known_metaclass(type) || type->tp_new != PyBaseObject_Type.tp_new ||
        type->tp_alloc != PyType_GenericAlloc || type->tp_getattro != PyObject_GenericGetAttr ||
        !has_plain_size(type))
        return 0;
    plain = is_inherited_from_object(type, NAME_REDUCE_EX) &&
            is_inherited_from_object(type, NAME_REDUCE) &&
            is_inherited_from_object(type, NAME_GETSTATE) &&
            is_inherited_from_object(type, NAME_CLASS) && is_absent(type, NAME_SETSTATE) &&
            is_absent(type, NAME_GETNEWARGS) && is_absent(type, NAME_GETNEWARGS_EX) &&
            fastipc_class_has_true_dict(type) && is_without_slots(type);
    PyErr_Clear();
    return plain;
}

static int is_in(PyObject *table, PyTypeObject *type) {
    return PyDict_GET_SIZE(table) != 0 && PyDict_GetItemWithError(table, (PyObject *)type) != NULL;
}

int fastipc_class_is_registered(PyTypeObject *type) {
    /* Read from the class each time: a program may have put another dict there. */
    PyObject *extra = _PyType_Lookup(forking_pickler, names[NAME_EXTRA_REDUCERS]);

    if (extra == NULL || !PyDict_CheckExact(extra) || PyDict_GET_SIZE(extension_registry) != 0)
        return 1;
    if (is_in(extra, type) || is_in(dispatch_table, type))
        return 1;
    /* Pickle looks up the metaclass before it pickles the class by its name. */
    return !Py_IS_TYPE(type, &PyType_Type) &&
           (is_in(extra, Py_TYPE(type)) || is_in(dispatch_table, Py_TYPE(type)));
}

static int is_name(PyObject *name) {
    return name != NULL && PyUnicode_CheckExact(name) && PyUnicode_IS_COMPACT_ASCII(name) &&
           PyUnicode_GET_LENGTH(name) != 0 && PyUnicode_GET_LENGTH(name) <= 255;
}

int fastipc_class_split(struct fastipc_class_name *name) {
    PyObject *dot, *parts;

    name->parts = NULL;
    if (memchr(PyUnicode_1BYTE_DATA(name->qualname), '.',
               (size_t)PyUnicode_GET_LENGTH(name->qualname)) == NULL)
        return 0;
    dot = PyUnicode_FromString(".");
    parts = dot != NULL ? PyUnicode_Split(name->qualname, dot, -1) : NULL;
    Py_XDECREF(dot);
    if (parts == NULL)
        return -1;
    name->parts = PyList_AsTuple(parts);
    Py_DECREF(parts);
    return name->parts == NULL ? -1 : 0;
}

int fastipc_class_name(PyTypeObject *type, struct fastipc_class_name *name) {
    PyObject *module = PyDict_GetItemWithError(type->tp_dict, names[NAME_MODULE]);
    PyObject *qualname = ((PyHeapTypeObject *)type)->ht_qualname;

    memset(name, 0, sizeof(*name));
    if (!is_name(module) || !is_name(qualname)) {
        PyErr_Clear();
        return -1;
    }
    name->module = Py_NewRef(module);
    name->qualname = Py_NewRef(qualname);
    if (fastipc_class_split(name) < 0) {
        PyErr_Clear();
        fastipc_class_name_clear(name);
        return -1;
    }
    return 0;
}

void fastipc_class_name_clear(struct fastipc_class_name *name) {
    Py_CLEAR(name->module);
    Py_CLEAR(name->qualname);
    Py_CLEAR(name->parts);
}

PyTypeObject *fastipc_class_find(const struct fastipc_class_name *name) {
    PyObject *modules = PyImport_GetModuleDict(), *module, *found;

    if (!PyDict_CheckExact(modules))
        return NULL;
    module = PyDict_GetItemWithError(modules, name->module);
    if (module == NULL || !PyModule_CheckExact(module))
        goto none;
    if (name->parts == NULL) {
        found = PyDict_GetItemWithError(PyModule_GetDict(module), name->qualname);
    } else {
        found = PyDict_GetItemWithError(PyModule_GetDict(module), PyTuple_GET_ITEM(name->parts, 0));
        for (Py_ssize_t i = 1; found != NULL && i < PyTuple_GET_SIZE(name->parts); i++) {
            if (!PyType_Check(found) || !has_known_metaclass((PyTypeObject *)found))
                return NULL;
            found = _PyType_Lookup((PyTypeObject *)found, PyTuple_GET_ITEM(name->parts, i));
        }
    }
    if (found != NULL && PyType_Check(found) && has_known_metaclass((PyTypeObject *)found))
        return (PyTypeObject *)found;
none:
    PyErr_Clear();
    return NULL;
}
