/* _codec.h - small objects to bytes and back, without pickle: None, bool, int (64 bits), float,
 * str and bytes of exact type, tuples, lists and dicts of them, and instances of classes of which
 * pickle would send no more than the name and the __dict__ (_classes.h). What decodes equals, in
 * type, value and sharing, what pickle would give. Encoding runs no Python code; decoding does as
 * pickle does, where a class has to be imported or has methods of its own for it. */
#ifndef FASTIPC_CODEC_H
#define FASTIPC_CODEC_H

#include <Python.h>
#include <stdint.h>

/* What a message's payload is (struct fipc_record_shm.tag). */
#define FASTIPC_TAG_PICKLE 1  /* a pickle, made by send() or put() */
#define FASTIPC_TAG_RAW 2     /* bytes of send_bytes(): recv() takes them for a pickle */
#define FASTIPC_TAG_CODED 3   /* this codec's */
#define FASTIPC_TAG_BYTES 4   /* one bytes object: its content */
#define FASTIPC_TAG_ASCII 5   /* one str object, ASCII: its content */
#define FASTIPC_TAG_BUFFERS 6 /* a pickle whose buffers lie in blocks (_views.pxi) */

/* Encodes obj into buffer: the number of bytes, or -1 when it is not for this codec
 * or does not fit (no exception is set). */
Py_ssize_t fastipc_encode(PyObject *obj, uint8_t *buffer, Py_ssize_t size);

/* A new reference to the object that `size` bytes at `data` stand for, or NULL with
 * an exception: OSError (EBADMSG) when they stand for none, MemoryError; with instances in it,
 * also what pickle would raise. */
PyObject *fastipc_decode(const uint8_t *data, Py_ssize_t size);

/* Whether there are instances in a message: then decoding it may run Python code. */
static inline int fastipc_has_objects(const uint8_t *data, Py_ssize_t size) {
    return size > 0 && (*data & 0x84) == 0x84; /* as in _codec_values.h */
}

/* Whether a str that was made for ASCII, and filled with bytes from elsewhere, is ASCII: 0,
 * or -1 with an OSError (EBADMSG); then the str must be dropped unread. */
int fastipc_check_ascii(PyObject *str);

#endif
