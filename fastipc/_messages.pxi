# _messages.pxi - objects to messages and back: the codec for small ones, pickle for the
# rest. A message is bytes and a tag; how it travels is csrc/'s.
from fastipc._transcode import pickle_of as _pickle_of, with_buffers as _with_buffers

cdef extern from *:
    """
    #define fastipc_is_exact_ascii(o) (PyUnicode_CheckExact(o) && PyUnicode_IS_COMPACT_ASCII(o))
    #define fastipc_ascii_data(o) ((const char *)PyUnicode_DATA(o))
    """
    bint fastipc_is_exact_ascii(object obj)
    const char *fastipc_ascii_data(object obj)
    Py_ssize_t PyUnicode_GET_LENGTH(object obj)
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)

# Coded messages may be as long as an inline record.
cdef enum:
    SCRATCH_BYTES = 4096
    # Copies above this release the GIL: 64 KiB take about 5 us.
    COPY_WITHOUT_GIL = 65536


cdef struct message:
    # What is to be sent. `data` points into scratch or into the object that `keep` holds.
    const void *data
    uint64_t size
    uint16_t tag


cdef bint encode_plain(object obj, uint8_t *scratch, message *out):
    """Fills out without pickle, pointing into scratch or obj; False: that takes pickle."""
    cdef Py_ssize_t size = -1
    if PyBytes_CheckExact(obj):
        out.data = PyBytes_AS_STRING(obj)
        out.size = PyBytes_GET_SIZE(obj)
        out.tag = FASTIPC_TAG_BYTES
        return True
    size = fastipc_encode(obj, scratch, SCRATCH_BYTES)
    if size >= 0:
        out.data = scratch
        out.size = size
        out.tag = FASTIPC_TAG_CODED
        return True
    if fastipc_is_exact_ascii(obj):
        out.data = fastipc_ascii_data(obj)
        out.size = PyUnicode_GET_LENGTH(obj)
        out.tag = FASTIPC_TAG_ASCII
        return True
    return False


cdef object encode(object obj, uint8_t *scratch, message *out):
    """Fills out; returns the object that keeps out.data alive."""
    cdef bytes pickled
    if encode_plain(obj, scratch, out):
        return obj
    pickled = pickle_with_buffers(obj, None)
    out.data = PyBytes_AS_STRING(pickled)
    out.size = PyBytes_GET_SIZE(pickled)
    out.tag = FASTIPC_TAG_PICKLE
    return pickled


cdef bytes copy_out(const void *data, uint64_t size):
    """A bytes object with the `size` bytes at `data`."""
    cdef bytes result
    cdef char *at
    if size < FIPC_COPY_LEARN_BYTES:
        return PyBytes_FromStringAndSize(<const char *>data, size)
    result = PyBytes_FromStringAndSize(NULL, size)
    at = PyBytes_AS_STRING(result)
    fipc_os_huge(at, size)
    if size <= COPY_WITHOUT_GIL:
        fipc_copy_out(at, data, size, size)
    else:
        with nogil:
            fipc_copy_out(at, data, size, size)
    return result


cdef object copy_out_ascii(const void *data, uint64_t size):
    """A str with the `size` characters at `data`."""
    cdef object result = PyUnicode_New(size, 127)
    cdef void *at = <void *>fastipc_ascii_data(result)
    fipc_os_huge(at, size)
    if size <= COPY_WITHOUT_GIL:
        fipc_copy_out(at, data, size, size)
    else:
        with nogil:
            fipc_copy_out(at, data, size, size)
    # The copy, and not what others may write to.
    fastipc_check_ascii(result)
    return result


cdef object decode(const void *data, uint64_t size, uint16_t tag):
    """The object that a message stands for; runs the object's own code when unpickling.

    `data` is private memory, or shared memory that is copied before it is read.
    """
    if tag == FASTIPC_TAG_CODED:
        return fastipc_decode(<const uint8_t *>data, size)
    if tag == FASTIPC_TAG_BYTES:
        return copy_out(data, size)
    if tag == FASTIPC_TAG_ASCII:
        return copy_out_ascii(data, size)
    if tag == FASTIPC_TAG_PICKLE or tag == FASTIPC_TAG_RAW:
        return unpickle(copy_out(data, size), None)
    raise OSError(EBADMSG, f"a message of the unknown kind {tag}")


def debug_encode(obj):
    """Return (tag, bytes) of the message that put() or send() would make of obj; for tests."""
    cdef uint8_t scratch[SCRATCH_BYTES]
    cdef message out
    keep = encode(obj, scratch, &out)
    return out.tag, PyBytes_FromStringAndSize(<const char *>out.data, out.size)


def debug_decode(uint16_t tag, bytes data):
    """Return the object that a message stands for, or raise as get() would; for tests."""
    return decode(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), tag)
