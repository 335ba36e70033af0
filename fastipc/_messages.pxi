# _messages.pxi - objects to messages and back: the codec for small ones, pickle for the
# rest. A message is bytes and a tag; how it travels is csrc/'s.
import copyreg as _copyreg
import io as _io
import pickle as _pickle
from multiprocessing.reduction import ForkingPickler as _ForkingPickler

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
    # A bytes object above this is not worth another copy into the scratch.
    CODED_BYTES_MAX = 256
    # Copies above this release the GIL: 64 KiB take about 5 us.
    COPY_WITHOUT_GIL = 65536

cdef object _Pickler = _pickle.Pickler
cdef object _loads = _pickle.loads
cdef object _BytesIO = _io.BytesIO
cdef dict _dispatch_table = {}
cdef list _dispatch_known = []


cdef int refresh_dispatch_table() except -1:
    """Follows what was registered with copyreg and multiprocessing.reduction since."""
    global _dispatch_table, _dispatch_known
    known = [*_copyreg.dispatch_table.items(), *_ForkingPickler._extra_reducers.items()]
    if known != _dispatch_known:
        _dispatch_table = dict(known)
        _dispatch_known = known
    return 0


def dumps(obj):
    """Return the pickle of obj, with the reducers of multiprocessing.reduction."""
    refresh_dispatch_table()
    file = _BytesIO()
    pickler = _Pickler(file, 5)
    pickler.dispatch_table = _dispatch_table
    pickler.dump(obj)
    return file.getvalue()


def loads(data):
    """Return the object that a pickle stands for."""
    return _loads(data)


cdef struct message:
    # What is to be sent. `data` points into scratch or into the object that `keep` holds.
    const void *data
    uint64_t size
    uint16_t tag


cdef object encode(object obj, uint8_t *scratch, message *out):
    """Fills out; returns the object that keeps out.data alive."""
    cdef Py_ssize_t size = -1
    cdef bytes pickled
    if PyBytes_CheckExact(obj) and PyBytes_GET_SIZE(obj) > CODED_BYTES_MAX:
        out.data = PyBytes_AS_STRING(obj)
        out.size = PyBytes_GET_SIZE(obj)
        out.tag = FASTIPC_TAG_BYTES
        return obj
    size = fastipc_encode(obj, scratch, SCRATCH_BYTES)
    if size >= 0:
        out.data = scratch
        out.size = size
        out.tag = FASTIPC_TAG_CODED
        return None
    if fastipc_is_exact_ascii(obj):
        out.data = fastipc_ascii_data(obj)
        out.size = PyUnicode_GET_LENGTH(obj)
        out.tag = FASTIPC_TAG_ASCII
        return obj
    pickled = dumps(obj)
    out.data = PyBytes_AS_STRING(pickled)
    out.size = PyBytes_GET_SIZE(pickled)
    out.tag = FASTIPC_TAG_PICKLE
    return pickled


cdef bytes copy_out(const void *data, uint64_t size):
    """A bytes object with the `size` bytes at `data`."""
    cdef bytes result
    cdef char *at
    if size <= COPY_WITHOUT_GIL:
        return PyBytes_FromStringAndSize(<const char *>data, size)
    result = PyBytes_FromStringAndSize(NULL, size)
    at = PyBytes_AS_STRING(result)
    with nogil:
        memcpy(at, data, size)
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
        return copy_out(data, size).decode("ascii")
    if tag == FASTIPC_TAG_PICKLE or tag == FASTIPC_TAG_RAW:
        return _loads(copy_out(data, size))
    raise OSError(EBADMSG, f"a message of the unknown kind {tag}")
