/* _dict_copies.c - see _dict_copies.h. */
#define PY_SSIZE_T_CLEAN
#if !defined(Py_BUILD_CORE_MODULE)
#define Py_BUILD_CORE_MODULE 1 /* for the layout of a dict */
#endif
#include "_dict_copies.h"

#include <stddef.h>

#if PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030E0000 && !defined(Py_GIL_DISABLED)

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wsign-compare"
#include <internal/pycore_dict.h>
#pragma GCC diagnostic pop

_Static_assert(sizeof(struct fastipc_dict_entry) == sizeof(PyDictUnicodeEntry) &&
                   offsetof(struct fastipc_dict_entry, key) ==
                       offsetof(PyDictUnicodeEntry, me_key) &&
                   offsetof(struct fastipc_dict_entry, value) ==
                       offsetof(PyDictUnicodeEntry, me_value),
               "an entry is the interpreter's");

static struct fastipc_dict_entry *entries_of(PyObject *dict) {
    return (struct fastipc_dict_entry *)DK_UNICODE_ENTRIES(((PyDictObject *)dict)->ma_keys);
}

/* Whether the dict has `count` entries that can be given values in their places. */
static int is_plain(PyObject *dict, Py_ssize_t count) {
    const PyDictObject *self = (PyDictObject *)dict;

    return self->ma_values == NULL && self->ma_keys->dk_kind == DICT_KEYS_UNICODE &&
           self->ma_used == count && self->ma_keys->dk_nentries == count &&
           !PyObject_GC_IsTracked(dict);
}

PyObject *fastipc_dict_template(PyObject *dict) {
    PyObject *template = PyDict_New(), *copy = NULL, *key, *value;
    struct fastipc_dict_entry *entry;
    Py_ssize_t pos = 0, count = 0;

    while (template != NULL && PyDict_Next(dict, &pos, &key, &value)) {
        count++;
        if (PyDict_SetItem(template, key, Py_None) < 0)
            Py_CLEAR(template);
    }
    /* A copy that is not as expected shows that this interpreter is not the one known. */
    if (template != NULL && is_plain(template, count))
        copy = PyDict_Copy(template);
    if (copy == NULL || !is_plain(copy, count))
        goto none;
    entry = entries_of(copy);
    pos = 0;
    while (PyDict_Next(dict, &pos, &key, &value)) {
        if (entry->key != key || entry->value != Py_None)
            goto none;
        entry++;
    }
    Py_DECREF(copy);
    return template;
none:
    PyErr_Clear();
    Py_XDECREF(copy);
    Py_XDECREF(template);
    return NULL;
}

PyObject *fastipc_dict_copy(PyObject *template, struct fastipc_dict_entry **entries) {
    PyObject *copy = PyDict_Copy(template);

    if (copy != NULL)
        *entries = entries_of(copy);
    return copy;
}

#else

PyObject *fastipc_dict_template(PyObject *dict) {
    (void)dict;
    return NULL;
}

PyObject *fastipc_dict_copy(PyObject *template, struct fastipc_dict_entry **entries) {
    (void)template;
    (void)entries;
    return NULL;
}

#endif
