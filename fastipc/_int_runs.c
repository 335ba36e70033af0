/* _int_runs.c - see _int_runs.h. A put_many() and get_many() of 100 ints took 12.7 and 18 ns an
 * int with calls for each, and takes 1.9 and 7 with these loops: nearly all of that is malloc() and
 * free(). */
#define PY_SSIZE_T_CLEAN
#include "_int_runs.h"

#include <string.h>

#include "_codec.h"
#include "_codec_values.h"
#include "_scalars.h"

/* With an int of up to 32 bits as its payload, a record takes two words. */
#define INT_RECORD_BYTES 16
#define INT8_LENGTH 2
#define INT32_LENGTH 5

_Static_assert(FIPC_RECORD_BYTES + INT32_LENGTH <= INT_RECORD_BYTES, "int records");

/* The header of a coded record as fipc_record_write() writes it. */
#define HEADER(length) \
    ((uint64_t)(length) | (uint64_t)FIPC_RECORD_INLINE << 32 | (uint64_t)FASTIPC_TAG_CODED << 48)

/* One record behind the other at `at`, `count` at most: how many. *largest: the longest payload. */
static Py_ssize_t write_ints(uint8_t *at, PyObject *const *members, Py_ssize_t count,
                             uint32_t *largest) {
    uint32_t longest = 0;
    int32_t value;
    Py_ssize_t i;

    for (i = 0; i < count && PyLong_CheckExact(members[i]) && fastipc_int_read(members[i], &value);
         i++, at += INT_RECORD_BYTES) {
        uint32_t length = INT32_LENGTH;

        if (value >= INT8_MIN && value <= INT8_MAX) {
            length = INT8_LENGTH;
            at[FIPC_RECORD_BYTES] = VALUE_INT8;
            at[FIPC_RECORD_BYTES + 1] = (uint8_t)(int8_t)value;
        } else {
            at[FIPC_RECORD_BYTES] = VALUE_INT32;
            memcpy(at + FIPC_RECORD_BYTES + 1, &value, 4);
        }
        fipc_record_write(at, length, FIPC_RECORD_INLINE, FASTIPC_TAG_CODED);
        longest = length > longest ? length : longest;
    }
    *largest = longest;
    return i;
}

Py_ssize_t fastipc_batch_add_ints(struct fipc_batch *batch, PyObject *members, Py_ssize_t first) {
    PyObject *const *at = PySequence_Fast_ITEMS(members);
    Py_ssize_t count = PySequence_Fast_GET_SIZE(members), index = first;

    while (index < count) {
        uint8_t *payload = fipc_batch_room(batch);
        Py_ssize_t most, added;
        uint32_t largest;

        if (payload == NULL)
            break;
        most = (Py_ssize_t)((batch->capacity - batch->bytes) / INT_RECORD_BYTES);
        most = most < count - index ? most : count - index;
        added = write_ints(payload - FIPC_RECORD_BYTES, at + index, most, &largest);
        fipc_batch_add_records(batch, (uint64_t)added, (uint64_t)added * INT_RECORD_BYTES, largest);
        index += added;
        if (added < most)
            break;
    }
    return index - first;
}

int fastipc_many_make_ints(struct fipc_many *many, PyObject *list) {
    Py_ssize_t first = PyList_GET_SIZE(list), most = ((PyListObject *)list)->allocated - first, i;
    const uint8_t *at = many->buffer + many->at;
    PyObject **members = ((PyListObject *)list)->ob_item + first;
    int rc = 0;

    if (most > (Py_ssize_t)(many->items - many->items_read))
        most = (Py_ssize_t)(many->items - many->items_read);
    if (most > (Py_ssize_t)((many->bytes - many->at) / INT_RECORD_BYTES))
        most = (Py_ssize_t)((many->bytes - many->at) / INT_RECORD_BYTES);
    for (i = 0; i < most; i++, at += INT_RECORD_BYTES) {
        const uint8_t *payload = at + FIPC_RECORD_BYTES;
        uint64_t header;
        int32_t value;

        memcpy(&header, at, sizeof(header));
        if (header == HEADER(INT32_LENGTH) && payload[0] == VALUE_INT32)
            memcpy(&value, payload + 1, 4);
        else if (header == HEADER(INT8_LENGTH) && payload[0] == VALUE_INT8)
            value = (int8_t)payload[1];
        else
            break;
        members[i] = fastipc_int_make(value);
        if (members[i] == NULL) {
            rc = -1;
            break;
        }
    }
    many->at += (uint32_t)i * INT_RECORD_BYTES;
    many->items_read += (uint32_t)i;
    Py_SET_SIZE(list, first + i);
    return rc;
}
