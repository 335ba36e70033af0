# _buffers.pxi - the buffers of what is bytes-like. What they are for, and what is said to whoever
# gives another, is the callers'.

cdef int get_buffer(object buf, Py_buffer *view, int flags) except -1:
    """Fills view, to be released.  BufferError: the object has a buffer, but no such one.

    NumPy says ValueError for that, and others for what has no buffer any more.
    """
    try:
        return PyObject_GetBuffer(buf, view, flags)
    except ValueError as error:
        if not has_any_buffer(buf):
            raise
        raise BufferError(str(error)) from None


cdef bint has_any_buffer(object buf):
    cdef Py_buffer view
    try:
        PyObject_GetBuffer(buf, &view, PyBUF_STRIDES)
    except Exception:
        return False
    PyBuffer_Release(&view)
    return True
