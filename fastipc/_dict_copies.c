/* _dict_copies.c - see _dict_copies.h. */
#define PY_SSIZE_T_CLEAN
#if !defined(Py_BUILD_CORE_MODULE)
#define Py_BUILD_CORE_MODULE 1 /* for the layout of a dict */
#endif
#include "_dict_copies.h"

#include <stddef.h>
#include <string.h>

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

const struct fastipc_dict_entry *fastipc_dict_entries(PyObject *dict, Py_ssize_t *count) {
    const PyDictObject *self = (PyDictObject *)dict;

    if (self->ma_values != NULL || self->ma_keys->dk_kind != DICT_KEYS_UNICODE)
        return NULL;
    *count = self->ma_keys->dk_nentries;
    return entries_of(dict);
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

#if PY_VERSION_HEX < 0x030D0000

/* PyDict_Copy() without what it looks at to find out that it may do just this, and without values:
 * it takes 250 instructions, and this half of that. Entry by entry, not with memcpy(), and without a
 * None in each that is counted and given up again: a get() of five keys took 84 ns in the place of
 * 108, of which 7 were the wait for what memcpy() had just written in wide stores. */
static PyObject *copy_template(PyObject *template) {
    PyDictKeysObject *source = ((PyDictObject *)template)->ma_keys;
    const PyDictUnicodeEntry *from = DK_UNICODE_ENTRIES(source), *end;
    Py_ssize_t count = source->dk_nentries;
    size_t front = (size_t)((const char *)from - (const char *)source);
    size_t room = (size_t)(count + source->dk_usable) * sizeof(*from);
    PyDictKeysObject *keys = PyObject_Malloc(front + room);
    PyObject *copy = keys != NULL ? PyDict_New() : NULL;
    PyDictUnicodeEntry *to;

    if (copy == NULL) {
        PyObject_Free(keys);
        return keys == NULL ? PyErr_NoMemory() : NULL;
    }
    /* With its indices, 8 bytes at least. */
    for (size_t at = 0; at < front; at += 8)
        memcpy((char *)keys + at, (const char *)source + at, 8);
    keys->dk_refcnt = 1;
    keys->dk_version = 0;
    to = DK_UNICODE_ENTRIES(keys);
    for (end = from + count; from < end; from++, to++) {
        to->me_key = Py_NewRef(from->me_key);
        to->me_value = NULL;
    }
    for (end += source->dk_usable; from < end; from++, to++)
        to->me_key = to->me_value = NULL;
    /* The empty keys that all new dicts have: they are counted, but never freed. */
    ((PyDictObject *)copy)->ma_keys = keys;
    ((PyDictObject *)copy)->ma_used = count;
    return copy;
}

#else
#define copy_template PyDict_Copy
#endif

PyObject *fastipc_dict_copy(PyObject *template, struct fastipc_dict_entry **entries) {
    PyObject *copy = copy_template(template);

    if (copy != NULL)
        *entries = entries_of(copy);
    return copy;
}

#else

const struct fastipc_dict_entry *fastipc_dict_entries(PyObject *dict, Py_ssize_t *count) {
    (void)dict;
    (void)count;
    return NULL;
}

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
