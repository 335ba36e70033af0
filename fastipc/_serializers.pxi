# _serializers.pxi - encodings of the user's own: what goes in is bytes-like, what comes out
# is a memoryview of the message. Which object a queue or pipe has is queues.py's and
# connection.py's.
from cpython.memoryview cimport PyMemoryView_FromObject

from fastipc._serializers import PICKLE as _PICKLE

cdef object DEFAULT = _PICKLE


cdef int serialize(object serializer, object obj, object owner, Py_buffer *view) except -1:
    """Fills view with what the serializer makes of obj; to be released."""
    data = obj if serializer is None else serializer.dumps(obj)
    try:
        return get_buffer(data, view, PyBUF_SIMPLE)
    except (TypeError, BufferError) as error:
        if serializer is None:
            raise TypeError(
                f"{owner!r} was made with serializer=None: it takes contiguous bytes-like objects, "
                f"not {type(obj).__name__} ({error})"
            ) from None
        raise TypeError(
            f"dumps() of {serializer!r} must return a contiguous bytes-like object, "
            f"not {type(data).__name__} ({error})"
        ) from None


cdef int check_tag(uint16_t tag, object owner) except -1:
    """Refuses to look into what some other handle has encoded: nothing is unpickled."""
    if tag != FASTIPC_TAG_RAW:
        raise OSError(
            EBADMSG,
            f"a message was sent to {owner!r} by a handle without its serializer; it is dropped",
        )
    return 0


cdef object deserialize(object serializer, object data, uint16_t tag, object owner):
    """The object of a message; data: bytes, or a view that keeps its memory."""
    check_tag(tag, owner)
    if serializer is None:
        return data if PyBytes_CheckExact(data) else bytes(data)
    # As that of a small message, which is bytes, is anyway.
    return serializer.loads(PyMemoryView_FromObject(data).toreadonly())
