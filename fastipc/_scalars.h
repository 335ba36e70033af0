/* _scalars.h - ints of one digit and ASCII str, without the calls that find out that they are such.
 * Knows how CPython 3.10 to 3.13 lay them out; on others the interpreter makes them. */
#ifndef FASTIPC_SCALARS_H
#define FASTIPC_SCALARS_H

#include <Python.h>
#include <stdint.h>
#include <string.h>

#if PY_VERSION_HEX < 0x030B0000
#include <longintrepr.h>
#endif

/* The value of an int, of exact type or not, of one digit, which is 30 bits at most; 0: it is none. */
static inline int fastipc_int_read(PyObject *obj, int32_t *value) {
#if PY_VERSION_HEX >= 0x030C0000
    if (!PyUnstable_Long_IsCompact((PyLongObject *)obj))
        return 0;
    *value = (int32_t)PyUnstable_Long_CompactValue((PyLongObject *)obj);
#else
    Py_ssize_t digits = Py_SIZE(obj);

    if (digits < -1 || digits > 1)
        return 0;
    /* Zero has no digit. */
    *value = digits == 0 ? 0 : (int32_t)digits * (int32_t)((PyLongObject *)obj)->ob_digit[0];
#endif
    return 1;
}

#if PY_VERSION_HEX < 0x030E0000 && PYLONG_BITS_IN_DIGIT == 30 && !defined(Py_GIL_DISABLED) && \
    !defined(Py_REF_DEBUG) && !defined(Py_TRACE_REFS)
#define FASTIPC_SCALARS_ARE_KNOWN 1
#else
#define FASTIPC_SCALARS_ARE_KNOWN 0
#endif

/* The interpreter has those from -5 to 256 only once; larger ones than this have two digits. */
#define FASTIPC_INT_SHARED_MOST 256
#define FASTIPC_INT_DIGIT_MOST ((UINT32_C(1) << 30) - 1)

/* A new reference to an int, or NULL with MemoryError: 2.5 ns less than PyLong_FromLong(), of 9.8
 * that a get_many() takes for each. */
static inline PyObject *fastipc_int_make(int32_t value) {
#if FASTIPC_SCALARS_ARE_KNOWN
    uint32_t digit = value < 0 ? -(uint32_t)value : (uint32_t)value;
    PyLongObject *made;

    if (digit > FASTIPC_INT_SHARED_MOST && digit <= FASTIPC_INT_DIGIT_MOST) {
        made = PyObject_Malloc(sizeof(*made));
        if (made == NULL)
            return PyErr_NoMemory();
        /* Not Py_SET_REFCNT(), which from 3.12 on looks first whether the object is immortal. */
        ((PyObject *)made)->ob_refcnt = 1;
        Py_SET_TYPE((PyObject *)made, &PyLong_Type);
#if PY_VERSION_HEX >= 0x030C0000
        made->long_value.lv_tag = 1 << 3 | (value < 0 ? 2 : 0);
        made->long_value.ob_digit[0] = digit;
#else
        Py_SET_SIZE((PyVarObject *)made, value < 0 ? -1 : 1);
        made->ob_digit[0] = digit;
#endif
        return (PyObject *)made;
    }
#endif
    return PyLong_FromLong(value);
}

/* A new str for `size` ASCII characters, at least 2, which are still to be written; or NULL with
 * MemoryError. PyUnicode_New() takes 4 ns more. */
static inline PyObject *fastipc_ascii_new(Py_ssize_t size) {
#if FASTIPC_SCALARS_ARE_KNOWN
    PyASCIIObject *made = PyObject_Malloc(sizeof(*made) + (size_t)size + 1);

    if (made == NULL)
        return PyErr_NoMemory();
    ((PyObject *)made)->ob_refcnt = 1;
    Py_SET_TYPE((PyObject *)made, &PyUnicode_Type);
    made->length = size;
    made->hash = -1;
    memset(&made->state, 0, sizeof(made->state));
    made->state.kind = PyUnicode_1BYTE_KIND;
    made->state.compact = 1;
    made->state.ascii = 1;
#if PY_VERSION_HEX < 0x030C0000
    made->state.ready = 1;
    made->wstr = NULL;
#endif
    ((char *)(made + 1))[size] = '\0';
    return (PyObject *)made;
#else
    return PyUnicode_New(size, 127);
#endif
}

#endif
