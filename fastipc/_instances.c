/* _instances.c - see _instances.h. */
#define PY_SSIZE_T_CLEAN
#if !defined(Py_BUILD_CORE_MODULE)
#define Py_BUILD_CORE_MODULE 1 /* for the layout of instances */
#endif
#include "_instances.h"

#include <string.h>

/* An attribute that pickle would find on the instance, in the place of its class's, has such a
 * name. */
static int is_special(PyObject *key) {
    return PyUnicode_GET_LENGTH(key) >= 2 && PyUnicode_READ_CHAR(key, 0) == '_' &&
           PyUnicode_READ_CHAR(key, 1) == '_';
}

static int is_attribute(PyObject *key) {
    return PyUnicode_CheckExact(key) && PyUnicode_IS_COMPACT_ASCII(key) &&
           PyUnicode_GET_LENGTH(key) <= 255 && !is_special(key);
}

static Py_ssize_t read_dict(PyObject *dict, PyObject **keys, PyObject **values) {
    Py_ssize_t pos = 0, count = 0;
    PyObject *key, *value;

    if (!PyDict_CheckExact(dict) || PyDict_GET_SIZE(dict) > FASTIPC_ATTRIBUTES_MAX)
        return -1;
    while (PyDict_Next(dict, &pos, &key, &value)) {
        if (!is_attribute(key))
            return -1;
        keys[count] = key;
        values[count++] = value;
    }
    return count;
}

#if PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030E0000 && !defined(Py_GIL_DISABLED)

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wsign-compare"
#include <internal/pycore_dict.h>
#include <internal/pycore_object.h>
#pragma GCC diagnostic pop

/* The values that lie with the instance, or NULL: it has a dict, which is in *dict, or neither. */
static PyDictValues *values_of(PyObject *obj, PyObject **dict) {
#if PY_VERSION_HEX >= 0x030D0000
    PyDictValues *values;

    if (!(Py_TYPE(obj)->tp_flags & Py_TPFLAGS_INLINE_VALUES)) {
        *dict = (PyObject *)_PyObject_GetManagedDict(obj);
        return NULL;
    }
    *dict = (PyObject *)_PyObject_GetManagedDict(obj);
    values = _PyObject_InlineValues(obj);
    return *dict == NULL && values->valid ? values : NULL;
#elif PY_VERSION_HEX >= 0x030C0000
    PyDictOrValues either = *_PyObject_DictOrValuesPointer(obj);

    if (_PyDictOrValues_IsValues(either)) {
        *dict = NULL;
        return _PyDictOrValues_GetValues(either);
    }
    *dict = _PyDictOrValues_GetDict(either);
    return NULL;
#else
    *dict = *_PyObject_ManagedDictPointer(obj);
    return *dict == NULL ? *_PyObject_ValuesPointer(obj) : NULL;
#endif
}

/* How many values there are, and in *order their places. */
static Py_ssize_t order_of(PyDictValues *values, const uint8_t **order, int *step) {
#if PY_VERSION_HEX >= 0x030D0000
    *order = get_insertion_order_array(values);
    *step = 1;
    return values->size;
#else
    *order = (const uint8_t *)values - 3;
    *step = -1;
    return ((const uint8_t *)values)[-2];
#endif
}

static PyDictKeysObject *shared_keys_of(PyTypeObject *type) {
    PyDictKeysObject *keys = ((PyHeapTypeObject *)type)->ht_cached_keys;

    return keys != NULL && keys->dk_kind == DICT_KEYS_SPLIT ? keys : NULL;
}

static int has_managed_dict(PyTypeObject *type) {
    return (type->tp_flags & Py_TPFLAGS_MANAGED_DICT) != 0;
}

Py_ssize_t fastipc_instance_read(PyObject *obj, PyObject **keys, PyObject **values,
                                 PyObject **dict) {
    PyTypeObject *type = Py_TYPE(obj);
    PyDictKeysObject *shared = shared_keys_of(type);
    const PyDictUnicodeEntry *entries;
    const uint8_t *order;
    PyDictValues *own;
    Py_ssize_t count;
    int step;

    *dict = NULL;
    if (!has_managed_dict(type))
        return -1;
    own = values_of(obj, dict);
    if (own == NULL)
        return *dict == NULL ? 0 : read_dict(*dict, keys, values);
    if (shared == NULL)
        return -1;
    count = order_of(own, &order, &step);
    if (count > FASTIPC_ATTRIBUTES_MAX)
        return -1;
    entries = DK_UNICODE_ENTRIES(shared);
    for (Py_ssize_t i = 0; i < count; i++, order += step) {
        keys[i] = *order < shared->dk_nentries ? entries[*order].me_key : NULL;
        values[i] = own->values[*order];
        if (keys[i] == NULL || values[i] == NULL || !is_attribute(keys[i]))
            return -1;
    }
    return count;
}

void fastipc_instance_find_places(PyObject *obj, PyObject *const *keys, Py_ssize_t count,
                                  struct fastipc_places *places) {
    PyObject *found[FASTIPC_ATTRIBUTES_MAX], *values[FASTIPC_ATTRIBUTES_MAX], *dict;
    PyDictKeysObject *shared = shared_keys_of(Py_TYPE(obj));
    const uint8_t *order;
    PyDictValues *own;
    int step;

    places->shared_keys = NULL;
    if (shared == NULL || !has_managed_dict(Py_TYPE(obj)) ||
        count > (Py_ssize_t)sizeof(places->place))
        return;
    own = values_of(obj, &dict);
    if (own == NULL || fastipc_instance_read(obj, found, values, &dict) != count)
        return;
    order_of(own, &order, &step);
    for (Py_ssize_t i = 0; i < count; i++, order += step) {
        if (found[i] != keys[i])
            return;
        places->place[i] = *order;
    }
    places->shared_keys = shared;
}

int fastipc_instance_fill(PyObject *obj, const struct fastipc_places *places, PyObject *const *keys,
                          PyObject *const *values, Py_ssize_t count) {
    PyDictKeysObject *shared = shared_keys_of(Py_TYPE(obj));
    const PyDictUnicodeEntry *entries;
    const uint8_t *order;
    PyDictValues *own;
    PyObject *dict;
    int step;

    if (shared == NULL || shared != places->shared_keys)
        return 0;
    own = values_of(obj, &dict);
    if (own == NULL || order_of(own, &order, &step) != 0)
        return 0;
    entries = DK_UNICODE_ENTRIES(shared);
    for (Py_ssize_t i = 0; i < count; i++)
        if (places->place[i] >= shared->dk_nentries ||
            entries[places->place[i]].me_key != keys[i] || own->values[places->place[i]] != NULL)
            return 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        own->values[places->place[i]] = values[i];
        _PyDictValues_AddToInsertionOrder(own, places->place[i]);
    }
    return 1;
}

#else

Py_ssize_t fastipc_instance_read(PyObject *obj, PyObject **keys, PyObject **values,
                                 PyObject **dict) {
#if PY_VERSION_HEX < 0x030B0000
    PyObject **at = _PyObject_GetDictPtr(obj);

    *dict = at != NULL ? *at : NULL;
    if (at == NULL)
        return -1;
    if (*dict == NULL)
        return 0;
    /* Pickle notes an empty dict that is there, but not one that is not. */
    return PyDict_GET_SIZE(*dict) == 0 ? -1 : read_dict(*dict, keys, values);
#else
    (void)obj, (void)keys, (void)values, (void)read_dict;
    *dict = NULL;
    return -1;
#endif
}

void fastipc_instance_find_places(PyObject *obj, PyObject *const *keys, Py_ssize_t count,
                                  struct fastipc_places *places) {
    (void)obj, (void)keys, (void)count;
    places->shared_keys = NULL;
}

int fastipc_instance_fill(PyObject *obj, const struct fastipc_places *places, PyObject *const *keys,
                          PyObject *const *values, Py_ssize_t count) {
    (void)obj, (void)places, (void)keys, (void)values, (void)count;
    return 0;
}

#endif
