# cython: language_level=3, boundscheck=False, wraparound=False
# cython: embedsignature=True, embedsignature.format=clinic
# cython: freethreading_compatible=False
"""The extension: objects to bytes and back, the GIL, signals, errors.

Its face is this file; each concern stands in a .pxi of its own.  Everything that is shared between
processes is decided in csrc/, everything about names, defaults and contexts in the Python modules.
"""

cimport cython
from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cpython.buffer cimport (
    PyBUF_SIMPLE,
    PyBUF_STRIDES,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport (
    E2BIG, EAGAIN, EBADF, EBADMSG, EFBIG, EINTR, EINVAL,
    ENOMEM, ENOSPC, EPIPE, ERANGE, ETIMEDOUT, EUSERS,
)
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastipc._capi cimport *

import os as _os
from queue import Empty, Full

from fastipc._shutdown import ShutDown

# Where a segment's id lies in its memory file, for _handles.py.
ID_POS = FIPC_OFF_HEADER + <size_t>&(<fipc_header_shm *>NULL).id

include "_errors.pxi"
include "_signals.pxi"
include "_pickler.pxi"
include "_messages.pxi"
include "_buffers.pxi"
include "_serializers.pxi"
include "_views.pxi"
include "_check.pxi"
include "_stats.pxi"
include "_queue.pxi"
include "_queue_many.pxi"
include "_queue_bytes.pxi"
include "_connection.pxi"
