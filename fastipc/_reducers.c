/* _reducers.c - see _reducers.h. A pickler asks once for each object that has no code
 * of its own in pickle, and mostly there is no reducer: a merged dict would have to be
 * compared with its sources in each dump(), a ChainMap runs Python code in each look-up.
 * In C and not in Cython, which would make a traceback of each KeyError. */
#include "_reducers.h"

struct reducers {
    PyObject_HEAD PyObject *forking_pickler;
    PyObject *extra_reducers_name;
    PyObject *copyreg_table;
};

static void reducers_dealloc(PyObject *self) {
    struct reducers *reducers = (struct reducers *)self;

    Py_XDECREF(reducers->forking_pickler);
    Py_XDECREF(reducers->extra_reducers_name);
    Py_XDECREF(reducers->copyreg_table);
    PyObject_Free(self);
}

/* A new reference, or NULL; then there is an exception only if something went wrong. */
static PyObject *look_up(PyObject *table, PyObject *type) {
    PyObject *reducer;

    if (PyDict_CheckExact(table)) {
        reducer = PyDict_GetItemWithError(table, type);
        return Py_XNewRef(reducer);
    }
    reducer = PyObject_GetItem(table, type);
    if (reducer == NULL && PyErr_ExceptionMatches(PyExc_KeyError))
        PyErr_Clear();
    return reducer;
}

static PyObject *reducers_subscript(PyObject *self, PyObject *type) {
    struct reducers *reducers = (struct reducers *)self;
    PyObject *extra, *reducer;

    /* Read from the class each time: a program may have put another dict there. */
    extra = PyObject_GetAttr(reducers->forking_pickler, reducers->extra_reducers_name);
    if (extra == NULL)
        return NULL;
    reducer = look_up(extra, type);
    Py_DECREF(extra);
    if (reducer == NULL && !PyErr_Occurred())
        reducer = look_up(reducers->copyreg_table, type);
    if (reducer == NULL && !PyErr_Occurred())
        PyErr_SetNone(PyExc_KeyError);
    return reducer;
}

static PyMappingMethods reducers_mapping = {.mp_subscript = reducers_subscript};

static PyTypeObject reducers_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "fastipc._core.Reducers",
    .tp_basicsize = sizeof(struct reducers),
    .tp_dealloc = reducers_dealloc,
    .tp_as_mapping = &reducers_mapping,
    .tp_flags = Py_TPFLAGS_DEFAULT,
};

PyObject *fastipc_reducers_new(PyObject *forking_pickler, PyObject *copyreg_table) {
    struct reducers *reducers;

    if (PyType_Ready(&reducers_type) < 0)
        return NULL;
    reducers = PyObject_New(struct reducers, &reducers_type);
    if (reducers == NULL)
        return NULL;
    reducers->forking_pickler = Py_NewRef(forking_pickler);
    reducers->copyreg_table = Py_NewRef(copyreg_table);
    reducers->extra_reducers_name = PyUnicode_InternFromString("_extra_reducers");
    if (reducers->extra_reducers_name == NULL)
        Py_CLEAR(reducers);
    return (PyObject *)reducers;
}
